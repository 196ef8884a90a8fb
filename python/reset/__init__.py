"""Reasoning language models in NVFP4: codec, checkpoints, a decode engine, and the ReSET temperature policy."""

from reset import nvfp4, policies, sampling
from reset._core import __version__
from reset.errors import CheckpointError, ConfigError, DeviceError, Error, FormatError, ScoringError
from reset.policies import BatchController, Controller, EntropyThreshold, FixedTemperature, Greedy, Policy, ReSET

__all__ = [
    "BatchController",
    "CheckpointError",
    "ConfigError",
    "Controller",
    "DeviceError",
    "EntropyThreshold",
    "Error",
    "FixedTemperature",
    "FormatError",
    "Greedy",
    "Policy",
    "ReSET",
    "ScoringError",
    "__version__",
    "nvfp4",
    "policies",
    "sampling",
]
