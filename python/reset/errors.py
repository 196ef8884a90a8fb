"""Errors of this package. Wrong values raise ``ValueError`` or ``TypeError``, missing files ``FileNotFoundError``."""

from reset._core import CheckpointError, ConfigError, DeviceError, Error, FormatError, ScoringError

__all__ = ["CheckpointError", "ConfigError", "DeviceError", "Error", "FormatError", "ScoringError"]
