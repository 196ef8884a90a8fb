"""NVFP4 restated in numpy, slowly and plainly: the oracle of the codec's tests. Shares no code with the package.

Decoding goes through the definition of the small floats (sign, exponent, mantissa); rounding through a search for the
nearest value of the whole grid, ties to the even code; nothing here knows a trick.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

f32 = np.float32

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], f32)
#: Every non-negative E4M3 number by its bits: exponent 0 is subnormal, 0x7F is NaN and left out.
E4M3 = np.array([m / 8 * 2.0**-6 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7) for e in range(16) for m in range(8)][:127], f32)


def nearest_index(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Index of the grid value nearest to each ``x >= 0``, ties to the even index. Exact: distances are taken in float64."""
    x = np.asarray(x, np.float64)
    distance = np.abs(x[..., None] - grid.astype(np.float64))
    first = distance.argmin(-1)
    second = np.minimum(first + 1, len(grid) - 1)
    tie = np.take_along_axis(distance, first[..., None], -1) == np.take_along_axis(distance, second[..., None], -1)
    return np.where(tie[..., 0] & (first % 2 == 1), second, first)


def pack(codes: np.ndarray) -> np.ndarray:
    return (codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8)


def unpack(packed: np.ndarray) -> np.ndarray:
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)


def _codes(q: np.ndarray) -> np.ndarray:
    index = np.where(np.isnan(q), 7, nearest_index(np.nan_to_num(np.minimum(np.abs(q), 6)), E2M1))
    return index + 8 * (q < 0)


def _blocks(x: np.ndarray) -> np.ndarray:
    return np.asarray(x).astype(f32).reshape(*x.shape[:-1], -1, 16)


def modelopt(x: np.ndarray, scale: np.float32 | None = None) -> tuple[np.ndarray, np.ndarray, np.float32]:
    """ModelOpt: float32 throughout. Returns packed codes, E4M3 bits, multiplier."""
    blocks = _blocks(x)
    with np.errstate(all="ignore"):
        if scale is None:
            scale = f32(np.abs(blocks).max()) / f32(2688)
        b = np.abs(blocks).max(-1) / (f32(6) * f32(scale))
        b = np.where(b == 0, f32(1), b)
        s = nearest_index(np.clip(b, f32(2.0**-9), f32(448)), E4M3)
        q = blocks / (E4M3[s] * f32(scale))[..., None]
    return pack(_codes(q).reshape(x.shape)), s.astype(np.uint8), f32(scale)


def compressed_tensors(x: np.ndarray, divisor: np.float32 | None = None) -> tuple[np.ndarray, np.ndarray, np.float32]:
    """compressed-tensors: the divisor and amax/6 in the dtype of ``x``. Returns packed codes, E4M3 bits, divisor."""
    t = x.dtype.type
    blocks = _blocks(x)
    with np.errstate(all="ignore"):
        if divisor is None:
            amax = max(f32(np.abs(blocks).max()), f32(ml_dtypes.finfo(t).smallest_normal))
            inverse = f32(t(f32(1) / amax))
            divisor = f32(t(inverse * f32(2688)))
            divisor = divisor if np.isfinite(divisor) else f32(1)
        b = f32(divisor) * (np.abs(blocks).max(-1) / f32(6)).astype(t).astype(f32)
        s = nearest_index(np.minimum(b, f32(448)), E4M3)
        s = np.where(s == 0, 0x20, s)
        q = blocks / (E4M3[s] / f32(divisor))[..., None]
    return pack(_codes(q).reshape(x.shape)), s.astype(np.uint8), f32(divisor)


def dequantize(packed: np.ndarray, scales: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """``e2m1 · factor``, with the factor of each block already in real units."""
    codes = unpack(packed)
    values = E2M1[codes & 7] * np.where(codes & 8, f32(-1), f32(1))
    blocks = values.reshape(*packed.shape[:-1], -1, 16) * factor[..., None]
    return blocks.reshape(codes.shape).astype(f32)


def sweep_errors(x: np.ndarray, scale: np.float32) -> np.ndarray:
    """Squared error of every block under every positive E4M3 scale, ``[..., 126]``, in units of ``scale²`` and float64."""
    u = _blocks(x).astype(np.float64) / np.float64(scale)
    out = []
    for s in E4M3[1:].astype(np.float64):
        v = E2M1[nearest_index(np.minimum(np.abs(u) / s, 6), E2M1)] * s
        out.append(((np.abs(u) - v) ** 2).sum(-1))
    return np.stack(out, -1)


def load(path: Path) -> dict[str, np.ndarray]:
    """A safetensors file, bfloat16 and E4M3 included."""
    types = {"F32": f32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "U8": np.uint8, "F8_E4M3": ml_dtypes.float8_e4m3fn}
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    header.pop("__metadata__", None)
    out = {}
    for name, t in header.items():
        start, end = t["data_offsets"]
        out[name] = np.frombuffer(data[8 + n + start : 8 + n + end], types[t["dtype"]]).reshape(t["shape"])
    return out
