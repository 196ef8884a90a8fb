"""Tensors of a checkpoint folder, read and rewritten where they lie: safetensors files without the safetensors library.

    8 bytes: length of the header │ header: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, …} │ bytes of all tensors

A tensor that keeps its dtype and shape keeps its place, so it can be rewritten in a copy of the file without touching anything else.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from reset.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

DTYPES: dict[str, Any] = {
    "F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16), "U8": np.dtype(np.uint8),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
}  # fmt: skip
"""Dtypes that are read; others are left alone."""
LONGEST_HEADER = 100_000_000
"""Bytes; the safetensors library's own limit."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def map(self, mode: Any = "r") -> np.memmap[Any, Any]:
        """The tensor as an array over its file; mode "r+" writes through.

        Raises:
            reset.CheckpointError: a dtype that is not read here.
        """
        if self.dtype not in DTYPES:
            raise CheckpointError(f"{self.file}: tensor {self.name!r} is {self.dtype}; readable here are {', '.join(DTYPES)}")
        return np.memmap(self.file, DTYPES[self.dtype], mode, self.offset, self.shape or (1,))


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint folder by name.

    Raises:
        FileNotFoundError: no safetensors file.
        reset.CheckpointError: a damaged header, or a name in two files.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: no *.safetensors file; give the folder of a checkpoint")
    found: dict[str, Tensor] = {}
    for file in files:
        for tensor in _read(file):
            if tensor.name in found:
                raise CheckpointError(f"{folder}: tensor {tensor.name!r} is in {found[tensor.name].file.name} and in {file.name}")
            found[tensor.name] = tensor
    return found


def _read(file: Path) -> list[Tensor]:
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(LONGEST_HEADER, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(stream.read(length))
        listed = []
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = (int(at) for at in entry["data_offsets"])
            shape = tuple(int(side) for side in entry["shape"])
            dtype = str(entry["dtype"])
            items = int(np.prod(shape, dtype=np.int64))
            if not 0 <= begin <= end <= size - 8 - length or (dtype in DTYPES and items * DTYPES[dtype].itemsize != end - begin):
                raise ValueError(f"tensor {name!r} of shape {shape}, {dtype}, at bytes {begin} to {end}")
            listed.append(Tensor(name, file, dtype, shape, 8 + length + begin))
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: not a safetensors file that can be read ({error})") from error
    return listed
