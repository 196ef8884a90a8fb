"""Reasoning language models in NVFP4: codec, checkpoints, a decode engine, and the ReSET temperature policy."""

from reset import nvfp4
from reset._core import __version__
from reset.errors import CheckpointError, ConfigError, DeviceError, Error, FormatError, ScoringError

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DeviceError",
    "Error",
    "FormatError",
    "ScoringError",
    "__version__",
    "nvfp4",
]
