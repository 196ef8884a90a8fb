"""``reset.nvfp4.linear``: one linear layer with NVFP4 weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from reset import _core, nvfp4
from reset.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Activations = Literal["float", "nvfp4"]


def linear(
    x: Any,
    t: nvfp4.NVFP4Tensor,
    activations: Activations = "float",
    input_scale: float | None = None,
    device: str = "cpu",
) -> NDArray[np.float32]:
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
        t: weights ``[N, K]``.
        activations: "float": products and sums in float32. "nvfp4" (W4A4): each row of ``x`` is quantized first, with the
            order of operations of vLLM's emulation of the hardware; products are exact, sums are float32.
        input_scale: tensor scale of the quantized activations: magnitudes above ``2688 · input_scale`` saturate. None: each row
            gets its own, ``max|x| / 2688``.
        device: "cpu".

    Returns:
        ``y``, float32 ``[M, N]``. A row's result does not depend on the other rows, on M, or on the number of threads.

    Raises:
        ValueError: shapes that do not belong together, an unknown value of ``activations``, an ``input_scale`` that is not finite
            and positive, or one beside float activations.
        TypeError: another dtype, or an object that is no array.
        DeviceError: a device that this build cannot use.
    """
    if not isinstance(t, nvfp4.NVFP4Tensor):
        raise TypeError(f"t is a {type(t).__name__}; give an NVFP4Tensor, for example reset.nvfp4.quantize(weights)")
    if activations not in ("float", "nvfp4"):
        raise ValueError(f'activations = {activations!r} is not possible: choose "float" or "nvfp4"')
    if activations == "float" and input_scale is not None:
        raise ValueError('input_scale is the scale of quantized activations: give activations="nvfp4" with it, or leave it out')
    if device != "cpu":
        if device == "cuda" or device.startswith("cuda:"):
            raise DeviceError(f'device {device}: this build has no CUDA kernels; use device="cpu"')
        raise ValueError(f'device = {device!r} is not possible: choose "cpu" or "cuda"')
    array = nvfp4._dense(x)
    if len(t.shape) != 2:
        raise ValueError(f"t has shape {t.shape}, expected [N, K]; reshape codes and block_scales to two dimensions")
    if array.ndim != 2 or array.shape[1] != t.shape[1]:
        hint = "; a single row is x[None]" if array.ndim == 1 else ""
        raise ValueError(f"x has shape {array.shape}, expected [M, {t.shape[1]}] for weights of shape {t.shape}{hint}")
    scale = None if input_scale is None else nvfp4._positive("input_scale", input_scale)
    wide = np.ascontiguousarray(array, np.float32)
    parts = (t.codes.reshape(-1), t.block_scales.reshape(-1), (t._scale, t._divides))
    return _core.linear(wide, *parts, (scale,) if activations == "nvfp4" else None)
