"""``reset.nvfp4.linear``: one linear layer with NVFP4 weights, on the CPU or on a CUDA device."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from reset import _core, nvfp4

_ALIGNMENT = 16  # bytes: kernels read rows in pieces of four float32

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Activations = Literal["float", "nvfp4"]


def linear(
    x: Any,
    t: nvfp4.NVFP4Tensor | CudaLinear,
    activations: Activations = "float",
    input_scale: float | None = None,
    device: str = "cpu",
) -> Any:
    """A linear layer, ``y = x @ W.T``, on the kernels that models run on.

    >>> import numpy as np
    >>> import reset
    >>> w = reset.nvfp4.quantize(np.eye(16, dtype=np.float32))
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 16)
    >>> reset.nvfp4.linear(x, w)[0, 12:].round(4).tolist()
    [12.0, 13.0, 14.0, 15.0]
    >>> reset.nvfp4.linear(x, w, activations="nvfp4")[0, 12:].round(4).tolist()
    [10.0, 15.0, 15.0, 15.0]

    Args:
        x: activations ``[M, K]``; float32, float16 or bfloat16 (the last two are widened, exactly); a numpy array or anything
            that speaks DLPack. NaN or infinity in a row gives NaN in that row of ``y`` with ``activations="nvfp4"``.
        t: weights ``[N, K]``; or a :class:`CudaLinear`, which holds them on its device and spares packing them at each call.
        activations: "float": products and sums in float32. "nvfp4" (W4A4): each row of ``x`` is quantized first, with the
            order of operations of vLLM's emulation of the hardware; products are exact, sums are float32.
        input_scale: tensor scale of the quantized activations: magnitudes above ``2688 · input_scale`` saturate. None: each row
            gets its own, ``max|x| / 2688``.
        device: "cpu", "cuda" or "cuda:N".

    Returns:
        ``y``, float32 ``[M, N]``. A row's result does not depend on the other rows or on the number of threads; on the CPU not on M either,
        on a device only on whether M exceeds 16. For a tensor of torch or cupy on the device, ``y`` is one too, computed in the order of
        that library's current stream; else a numpy array.

    Raises:
        ValueError: shapes that do not belong together, an unknown value of ``activations``, an ``input_scale`` that is not finite
            and positive, or one beside float activations.
        TypeError: another dtype, or an object that is no array.
        DeviceError: a device that this build cannot use.
    """
    if not isinstance(t, (nvfp4.NVFP4Tensor, CudaLinear)):
        raise TypeError(f"t is a {type(t).__name__}; give an NVFP4Tensor, for example reset.nvfp4.quantize(weights)")
    if activations not in ("float", "nvfp4"):
        raise ValueError(f'activations = {activations!r} is not possible: choose "float" or "nvfp4"')
    if activations == "float" and input_scale is not None:
        raise ValueError('input_scale is the scale of quantized activations: give activations="nvfp4" with it, or leave it out')
    place = _place(device)
    scale = None if input_scale is None else nvfp4._positive("input_scale", input_scale)
    inputs = (scale,) if activations == "nvfp4" else None
    if isinstance(t, CudaLinear):
        return t._apply(x, inputs)
    if len(t.shape) != 2:
        raise ValueError(f"t has shape {t.shape}, expected [N, K]; reshape codes and block_scales to two dimensions")
    if place is not None:
        return CudaLinear(t, device)._apply(x, inputs)
    wide = _rows(x, (t.shape[0], t.shape[1]))
    return _core.linear(wide, t.codes.reshape(-1), t.block_scales.reshape(-1), (t._scale, t._divides), inputs)


class CudaLinear:
    """NVFP4 weights on a CUDA device, packed once: the ``t`` of :func:`linear` for many calls.

    Args:
        t: weights ``[N, K]``.
        device: "cuda" or "cuda:N".

    Raises:
        ValueError: weights that are no matrix, or a device that is none of these.
        DeviceError: what is missing to use the device.
    """

    def __init__(self, t: nvfp4.NVFP4Tensor, device: str = "cuda") -> None:
        place = _place(device)
        if place is None:
            raise ValueError(f"device = {device!r} is not possible: the weights of a CudaLinear lie on 'cuda' or 'cuda:N'")
        if len(t.shape) != 2:
            raise ValueError(f"t has shape {t.shape}, expected [N, K]; reshape codes and block_scales to two dimensions")
        self._core = _core.CudaLinear(place, t.codes.reshape(-1), t.block_scales.reshape(-1), (t._scale, t._divides), t.shape[1])
        self._ordinal = place[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self._core.shape

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self._core.nbytes

    def __repr__(self) -> str:
        return f"CudaLinear({self.shape[0]}×{self.shape[1]} on cuda:{self._ordinal}, {self.nbytes / 1e6:.1f} MB)"

    def _apply(self, x: Any, inputs: tuple[float | None] | None) -> Any:
        library = sys.modules.get(type(x).__module__.partition(".")[0])
        name = getattr(library, "__name__", "")
        if name == "torch" and getattr(x, "is_cuda", False):
            return self._torch(x, library, inputs)
        if name == "cupy":
            return self._cupy(x, library, inputs)
        return self._core.host(_rows(x, self.shape), inputs)

    def _torch(self, x: Any, torch: Any, inputs: tuple[float | None] | None) -> Any:
        _check(tuple(x.shape), self.shape)
        self._check_device(x.device.index)
        x = x.detach().to(torch.float32).contiguous()
        if x.data_ptr() % _ALIGNMENT:  # a slice of a larger tensor
            x = x.clone()
        y = torch.empty(x.shape[0], self.shape[0], device=x.device, dtype=torch.float32)
        self._core.device(x.data_ptr(), y.data_ptr(), x.shape[0], torch.cuda.current_stream(x.device).cuda_stream, inputs)
        return y

    def _cupy(self, x: Any, cupy: Any, inputs: tuple[float | None] | None) -> Any:
        _check(tuple(x.shape), self.shape)
        self._check_device(x.device.id)
        x = cupy.ascontiguousarray(x, dtype=cupy.float32)
        if x.data.ptr % _ALIGNMENT:
            x = x.copy()
        y = cupy.empty((x.shape[0], self.shape[0]), dtype=cupy.float32)
        self._core.device(x.data.ptr, y.data.ptr, x.shape[0], cupy.cuda.get_current_stream().ptr, inputs)
        return y

    def _check_device(self, ordinal: int) -> None:
        if ordinal != self._ordinal:
            raise ValueError(f"x lies on cuda:{ordinal}, and the weights on cuda:{self._ordinal}; move one of them")


def _rows(x: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """``x`` as contiguous float32 rows that fit weights of ``shape``."""
    array = nvfp4._dense(x)
    _check(array.shape, shape)
    return np.require(array, np.float32, ("C", "A"))


def _check(found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if len(found) != 2 or found[1] != shape[1]:
        hint = "; a single row is x[None]" if len(found) == 1 else ""
        raise ValueError(f"x has shape {found}, expected [M, {shape[1]}] for weights of shape {tuple(shape)}{hint}")


def _place(device: str) -> tuple[int, list[Path], Path] | None:
    """As ``reset._cuda.device_place``, which every `import reset` would pay for above: it brings pathlib, and numpy does without."""
    from reset._cuda import device_place

    return device_place(device)
