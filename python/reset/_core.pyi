from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHECKPOINT_FORMATS: list[tuple[str, str]]
__version__: str

def inspect(path: str | PathLike[str]) -> dict[str, Any]: ...
def memory_bandwidth(threads: int) -> dict[str, float]: ...
def nvfp4_dequantize(
    codes: NDArray[np.uint8],
    block_scales: NDArray[np.uint8],
    tensor_scale: tuple[float, bool],
    dtype: str,
    out: NDArray[np.float32] | NDArray[np.uint16],
) -> None: ...
def nvfp4_quantize(
    x: NDArray[np.float32] | NDArray[np.uint16],
    dtype: str,
    shape: tuple[int, ...],
    method: str,
    dialect: str,
    tensor_scale: tuple[float, bool] | None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float, bool]: ...
def quantize_checkpoint(
    src: str | PathLike[str],
    dst: str | PathLike[str],
    *,
    format: str,
    method: str,
    activations: str,
    kv: str | None,
    ignore: Sequence[str],
    input_amax: Mapping[str, float] | None,
    kv_amax: Mapping[str, tuple[float, float]] | None,
    max_shard_bytes: int,
    progress: Callable[[int, int, str], object] | None,
) -> dict[str, Any]: ...
def write_checkpoint(dst: str | PathLike[str], config_json: str, tensors: dict[str, NDArray[Any]]) -> None: ...

class Error(Exception): ...
class CheckpointError(Error): ...
class FormatError(Error): ...
class DeviceError(Error): ...
class ConfigError(Error): ...
class ScoringError(Error): ...
