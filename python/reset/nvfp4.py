"""The NVFP4 codec: 4-bit elements, one 8-bit scale per 16 of them, one scale per tensor.

    value = E2M1(code) · E4M3(block scale) · tensor scale

>>> import numpy as np
>>> import reset
>>> x = np.linspace(-2, 2, 64, dtype=np.float32).reshape(2, 32)
>>> t = reset.nvfp4.quantize(x)
>>> t
NVFP4Tensor(shape=(2, 32), tensor_scale=0.0007440476329065859, 40 bytes, 5.00 bits per element)
>>> bool(np.abs(t.dequantize() - x).max() < 0.34)
True
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

import ml_dtypes
import numpy as np

from reset import _core
from reset._linear import CudaLinear, linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["CudaLinear", "NVFP4Tensor", "linear", "quantize"]

#: Elements that share a block scale.
BLOCK = 16

Method = Literal["nearest", "four_over_six", "sweep"]
Dialect = Literal["modelopt", "compressed-tensors"]

_FLOATS: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


class NVFP4Tensor:
    """A quantized tensor. Immutable, picklable; the arrays are views, nothing is copied.

    Args:
        codes: uint8 ``[..., K/2]``; element ``2j`` in the low nibble of byte ``j``, element ``2j + 1`` in the high one.
            A nibble is ``sign << 3 | index`` into ``0, 0.5, 1, 1.5, 2, 3, 4, 6``.
        block_scales: uint8 (or float8_e4m3fn) ``[..., K/16]``: the bits of E4M3 numbers, finite and not negative.
        tensor_scale: multiplies every value; finite and positive, kept in float32.

    Raises:
        ValueError: shapes that do not belong together, scales that are NaN, negative or not positive.
        TypeError: other dtypes.
    """

    __slots__ = ("_block_scales", "_codes", "_divides", "_scale")

    _codes: NDArray[np.uint8]
    _block_scales: NDArray[np.uint8]
    _scale: float
    _divides: bool

    def __init__(self, codes: Any, block_scales: Any, tensor_scale: float) -> None:
        self._fill(codes, block_scales, tensor_scale, divides=False)

    @classmethod
    def from_divisor(cls, codes: Any, block_scales: Any, divisor: float) -> NVFP4Tensor:
        """As the constructor, for files that store the reciprocal (compressed-tensors' ``weight_global_scale``).

        The divisor stays a divisor, since ``1 / (1 / D)`` is not always ``D`` in float32: values are ``e2m1 · (e4m3 / D)``.
        """
        self = cls.__new__(cls)
        self._fill(codes, block_scales, divisor, divides=True)
        return self

    def _fill(self, codes: Any, block_scales: Any, scale: float, *, divides: bool) -> None:
        name = "divisor" if divides else "tensor_scale"
        codes = _bytes("codes", codes)
        block_scales = _bytes("block_scales", block_scales)
        if codes.ndim == 0 or block_scales.ndim == 0:
            raise ValueError("codes and block_scales need at least one dimension: [..., K/2] and [..., K/16]")
        if codes.shape[-1] % 8:
            raise ValueError(f"codes: the last dimension is {codes.shape[-1]} bytes, expected a multiple of 8 (one block of 16 elements)")
        expected = (*codes.shape[:-1], codes.shape[-1] // 8)
        if block_scales.shape != expected:
            raise ValueError(f"block_scales: shape {block_scales.shape}, expected {expected}: one per 8 bytes of codes {codes.shape}")
        bad = ((block_scales & 0x7F) == 0x7F) | (block_scales > 0x80)
        if bad.any():
            where = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
            raise ValueError(
                f"block_scales{list(where)} is 0x{int(block_scales[where]):02X}, a NaN or negative E4M3 number; "
                "block scales are finite and not negative"
            )
        self._set(codes, block_scales, _positive(name, scale), divides)

    def _set(self, codes: NDArray[np.uint8], block_scales: NDArray[np.uint8], scale: float, divides: bool) -> None:
        """Takes checked parts."""
        for name, value in (("_codes", _frozen(codes)), ("_block_scales", _frozen(block_scales)), ("_scale", scale), ("_divides", divides)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"NVFP4Tensor is immutable; make a new one instead of setting {name}")

    @property
    def codes(self) -> NDArray[np.uint8]:
        """Packed codes, uint8 ``[..., K/2]``, read-only."""
        return self._codes

    @property
    def block_scales(self) -> NDArray[np.uint8]:
        """E4M3 bits, uint8 ``[..., K/16]``, read-only; ``.view(ml_dtypes.float8_e4m3fn)`` gives the numbers."""
        return self._block_scales

    @property
    def tensor_scale(self) -> float:
        """The factor of all values. Where a divisor is stored, its reciprocal in double precision."""
        return 1.0 / self._scale if self._divides else self._scale

    @property
    def divisor(self) -> float | None:
        """The stored divisor, or None where the scale is stored as a multiplier."""
        return self._scale if self._divides else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor, ``[..., K]``."""
        return (*self._codes.shape[:-1], self._codes.shape[-1] * 2)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, block scales and the tensor scale."""
        return self._codes.nbytes + self._block_scales.nbytes + 4

    def dequantize(self, dtype: Any = "float32", out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The values, ``e2m1 · (e4m3 · tensor_scale)`` in float32, then rounded to ``dtype``, ties to even.

        Args:
            dtype: "float32", "bfloat16" (an ``ml_dtypes`` array) or "float16"; magnitudes that float16 cannot hold become infinite.
            out: filled and returned if given; C-contiguous, of this shape and dtype.
        """
        name = _dtype_name(dtype)
        if out is None:
            out = np.empty(self.shape, _FLOATS[name])
        elif not isinstance(out, np.ndarray):
            raise TypeError(f"out is a {type(out).__name__}; give a numpy array, {name} of shape {self.shape}, or leave it out")
        elif out.dtype != _FLOATS[name] or out.shape != self.shape or not (out.flags.carray and out.dtype.isnative):
            raise ValueError(
                f"out: {out.dtype} {out.shape}, expected a writeable, aligned, C-contiguous {name} array of shape {self.shape}"
            )
        flat = out.reshape(-1) if name == "float32" else out.reshape(-1).view(np.uint16)
        _core.nvfp4_dequantize(self._codes.reshape(-1), self._block_scales.reshape(-1), (self._scale, self._divides), name, flat)
        return out

    def __eq__(self, other: object) -> bool:
        """Equal parts, byte for byte."""
        if not isinstance(other, NVFP4Tensor):
            return NotImplemented
        return (
            (self._scale, self._divides) == (other._scale, other._divides)
            and np.array_equal(self._codes, other._codes)
            and np.array_equal(self._block_scales, other._block_scales)
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Callable[..., NVFP4Tensor], tuple[Any, ...]]:
        make = NVFP4Tensor.from_divisor if self._divides else NVFP4Tensor
        return make, (self._codes, self._block_scales, self._scale)

    def __repr__(self) -> str:
        scale = f"divisor={np.float32(self._scale)}" if self._divides else f"tensor_scale={np.float32(self._scale)}"
        elements = math.prod(self.shape)
        bits = f", {self.nbytes * 8 / elements:.2f} bits per element" if elements else ""
        return f"NVFP4Tensor(shape={self.shape}, {scale}, {self.nbytes} bytes{bits})"


def quantize(x: Any, method: Method = "nearest", tensor_scale: float | None = None, dialect: Dialect = "modelopt") -> NVFP4Tensor:
    """Quantizes ``x`` to NVFP4 along its last dimension.

    Args:
        x: ``[..., K]`` with K a multiple of 16; float32, float16 or bfloat16 (``ml_dtypes``); a numpy array, or anything that
            speaks DLPack (a torch tensor on the CPU). Any strides, any alignment.
        method: "nearest": the block's largest magnitude becomes 6. "four_over_six": 6 or 4, whichever errs less (arXiv 2512.02010).
            "sweep": all 126 positive E4M3 scales, least squared error.
        tensor_scale: the factor of all values, where it is not to follow from ``x``: magnitudes above ``2688 · tensor_scale`` saturate.
        dialect: whose arithmetic "nearest" reproduces bit for bit: "modelopt" (float32 throughout) or "compressed-tensors"
            (scales computed in the dtype of ``x``; the tensor scale is kept as a divisor). The other methods have one arithmetic,
            in float32.

    Returns:
        The quantized tensor. A tensor of zeros gives codes 0 and tensor scale 1.

    Raises:
        ValueError: NaN or infinity in ``x`` (the first is named), K not a multiple of 16, an unknown method or dialect, a
            ``tensor_scale`` that is not finite and positive.
        TypeError: another dtype or byte order, or an object that is no array.
    """
    _check_name("method", method, get_args(Method))
    _check_name("dialect", dialect, get_args(Dialect))
    array = _dense(x)
    if array.ndim == 0:
        raise ValueError("x is a scalar; give at least one dimension, a multiple of 16 long")
    if array.shape[-1] % BLOCK:
        padding = -array.shape[-1] % BLOCK
        raise ValueError(
            f"x has shape {array.shape}: the last dimension is not a multiple of {BLOCK}; pad it with {padding} zeros "
            f"(np.pad), or leave this tensor unquantized"
        )
    scale = None
    if tensor_scale is not None:
        divides = dialect == "compressed-tensors" and method == "nearest"
        value = _positive("tensor_scale", tensor_scale)
        # In double precision: a divisor that came out of NVFP4Tensor.tensor_scale finds its way back exactly.
        scale = (_positive("1 / tensor_scale", 1.0 / float(tensor_scale)), True) if divides else (value, False)
    flat = np.require(array, requirements=("C", "A")).reshape(-1)
    if array.dtype != np.float32:
        flat = flat.view(np.uint16)
    codes, block_scales, found, divides = _core.nvfp4_quantize(flat, array.dtype.name, array.shape, method, dialect, scale)
    leading, k = array.shape[:-1], array.shape[-1]
    tensor = NVFP4Tensor.__new__(NVFP4Tensor)
    tensor._set(codes.reshape(*leading, k // 2), block_scales.reshape(*leading, k // BLOCK), found, divides)
    return tensor


def _check_name(option: str, value: object, names: tuple[str, ...]) -> None:
    """Refuses a value that is none of ``names``."""
    if not isinstance(value, str) or value not in names:
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{option} = {value!r} is not possible: choose {', '.join(map(repr, names[:-1]))} or {names[-1]!r}")


def _dense(x: Any) -> NDArray[Any]:
    """``x`` as an array of one of the three dtypes, without copying."""
    array = np.asarray(x) if isinstance(x, (np.ndarray, np.generic)) else _from_foreign(x)
    if not array.dtype.isnative:
        raise TypeError(f"x has byte order {array.dtype.str}; convert it with x.astype(x.dtype.newbyteorder('='))")
    if array.dtype not in _FLOATS.values():
        raise TypeError(f"x has dtype {array.dtype}; convert it to float32, float16 or bfloat16 (ml_dtypes) first")
    return array


def _from_foreign(x: Any) -> NDArray[Any]:
    """An array over the memory of another library's tensor."""
    if not hasattr(x, "__dlpack__"):
        raise TypeError(
            f"x is a {type(x).__name__}; give a numpy array or a tensor that speaks DLPack, for example np.asarray(x, np.float32)"
        )
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return _from_torch(x, torch)
    try:
        return np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError) as refusal:
        # numpy's DLPack knows no bfloat16. Who makes such tensors either converts to ml_dtypes itself, or torch reads them.
        if hasattr(x, "__array__"):
            return np.asarray(x)
        if torch is not None:
            return _from_torch(torch.from_dlpack(x), torch)
        raise TypeError(f"x is a {type(x).__name__} that numpy cannot read through DLPack ({refusal}); give a numpy array") from refusal


def _from_torch(x: Any, torch: Any) -> NDArray[Any]:
    if x.device.type != "cpu":
        raise TypeError(f"x is on device {x.device}; move it with x.cpu() first")
    if x.layout != torch.strided:
        raise TypeError(f"x has layout {x.layout}; convert it with x.to_dense() first")
    x = x.detach()
    if x.dtype == torch.bfloat16:
        bits: NDArray[Any] = x.view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    if x.dtype not in (torch.float32, torch.float16):
        raise TypeError(f"x has dtype {x.dtype}; convert it with x.to(torch.float32) (or float16, bfloat16) first")
    array: NDArray[Any] = x.resolve_neg().numpy()
    return array


def _bytes(name: str, x: Any) -> NDArray[np.uint8]:
    """``x`` as a contiguous array of bytes."""
    if isinstance(x, np.generic):
        x = np.asarray(x)
    if not isinstance(x, np.ndarray):
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(x, torch.Tensor):
            x = x.detach().view(torch.uint8)
        if not hasattr(x, "__dlpack__"):
            raise TypeError(f"{name} is a {type(x).__name__}; give a uint8 numpy array or a tensor that speaks DLPack")
        x = np.from_dlpack(x)
    if x.dtype == ml_dtypes.float8_e4m3fn:
        x = x.view(np.uint8)
    if x.dtype != np.uint8:
        raise TypeError(f"{name} has dtype {x.dtype}, expected uint8" + (" (or float8_e4m3fn)" if name == "block_scales" else ""))
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def _frozen(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    view = x.view()
    view.flags.writeable = False
    return view


def _positive(name: str, value: Any) -> float:
    """A scale as the nearest float32."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is a {type(value).__name__}; give a number") from None
    except OverflowError:  # an integer beyond float64
        number = math.inf
    with np.errstate(over="ignore", under="ignore"):
        rounded = float(np.float32(number))
    if not (math.isfinite(rounded) and rounded > 0):
        raise ValueError(f"{name} = {value} is not a finite positive float32")
    return rounded


def _dtype_name(dtype: Any) -> str:
    name = dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch.")
    if name not in _FLOATS:
        try:
            name = np.dtype(dtype).name
        except TypeError:
            name = str(dtype)
    if name not in _FLOATS:
        raise ValueError(f'dtype = {dtype!r} is not possible: choose "float32", "bfloat16" or "float16"')
    return name
