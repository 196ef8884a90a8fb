"""Linear layers of any torch model in NVFP4, on this package's kernels.

For architectures that the engine here does not know: transformers runs the model, and each ``nn.Linear`` of it becomes an
:class:`NVFP4Linear`. On the CPU its inputs and outputs are the tensors' own memory, seen by numpy; weights are packed for the kernels
at the first product, on the device where that takes place. Mixture-of-experts blocks of transformers 5 keep their experts in one
three-dimensional parameter and GPT-2 its layers in ``Conv1D``: those are no ``nn.Linear`` and stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from reset import _core, nvfp4

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Elements that share a block scale: the inputs of a layer have to be a multiple.
BLOCK = 16


class Replacement(NamedTuple):
    """What :func:`quantize_linears` did.

    Attributes:
        replaced: names of the layers that are NVFP4 now.
        kept: name of every ``nn.Linear`` left alone, and why.
        nbytes: what the replaced weights take, codes and scales; biases not counted.
        nbytes_before: what they took.
    """

    replaced: list[str]
    kept: dict[str, str]
    nbytes: int
    nbytes_before: int


class NVFP4Linear(nn.Module):  # type: ignore[misc]
    """``y = x @ W.T + bias`` with NVFP4 weights. For inference: gradients reach ``x``, weights have none.

    Args:
        weight: ``[out_features, in_features]``.
        bias: ``[out_features]``, or None.
        activations: "float", or "nvfp4" (W4A4): each row of the input is quantized too.
        input_scale: tensor scale of quantized inputs; None gives each row its own.
        threads: shared by all layers of a model.

    ``codes`` and ``block_scales`` are buffers and travel with ``state_dict``, ``to`` and pickles. A dtype in ``to`` changes the bias
    alone: outputs have the dtype of ``x``.
    """

    def __init__(
        self,
        weight: nvfp4.NVFP4Tensor,
        bias: torch.Tensor | None = None,
        *,
        activations: str = "float",
        input_scale: float | None = None,
        threads: _core.Threads | None = None,
    ) -> None:
        super().__init__()
        if activations not in ("float", "nvfp4"):
            raise ValueError(f'activations = {activations!r} is not possible: choose "float" or "nvfp4"')
        if input_scale is not None and activations == "float":
            raise ValueError('input_scale is the scale of quantized activations: give activations="nvfp4" with it, or leave it out')
        self.out_features, self.in_features = weight.shape
        self.activations, self.input_scale = activations, input_scale
        self.register_buffer("codes", torch.from_numpy(np.array(weight.codes)))
        self.register_buffer("block_scales", torch.from_numpy(np.array(weight.block_scales)))
        self._scale = (weight._scale, weight._divides)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self._threads = threads
        self._forget()

    def _forget(self) -> None:
        """Drops what was made of the buffers: they have changed, or moved."""
        self._packed: _core.PackedLinear | None = None
        self._placed: dict[str, nvfp4.CudaLinear] = {}
        self._weight: nvfp4.NVFP4Tensor | None = None

    @property
    def weight(self) -> nvfp4.NVFP4Tensor:
        """The weights, sharing the buffers' memory (a copy of it where they are on another device)."""
        if self._weight is None:
            make = nvfp4.NVFP4Tensor.from_divisor if self._scale[1] else nvfp4.NVFP4Tensor
            self._weight = make(self.codes.cpu().numpy(), self.block_scales.cpu().numpy(), self._scale[0])
        return self._weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in_features]`` to ``[..., out_features]``, in the dtype of ``x``."""
        y: torch.Tensor = _Product.apply(x, self)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """``x @ W.T`` without bias and gradients."""
        rows = x.detach().reshape(-1, self.in_features)
        if x.device.type == "cpu":
            if self._threads is None:
                self._threads = _core.Threads()
            if self._packed is None:
                flat = self.codes.reshape(-1).numpy(), self.block_scales.reshape(-1).numpy()
                self._packed = _core.PackedLinear(*flat, self._scale, self.in_features)
            inputs = (self.input_scale,) if self.activations == "nvfp4" else None
            wide = rows.to(torch.float32).contiguous().numpy()  # the tensor's own memory where it is float32
            y = torch.from_numpy(self._packed.multiply(wide, inputs, self._threads))
        else:
            options: dict[str, Any] = {"activations": self.activations, "input_scale": self.input_scale, "device": str(x.device)}
            y = nvfp4.linear(rows, self._on(str(x.device)), **options)
        return y.to(x.device, x.dtype).reshape(*x.shape[:-1], self.out_features)

    def _on(self, device: str) -> nvfp4.CudaLinear:
        """The weights packed on a device, once."""
        if device not in self._placed:
            self._placed[device] = nvfp4.CudaLinear(self.weight, device)
        return self._placed[device]

    def dequantized(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The weights' values, ``[out_features, in_features]``, on the buffers' device."""
        return torch.from_numpy(self.weight.dequantize()).to(self.codes.device, dtype)

    # What packs, copies and moves modules

    def _apply(self, *args: Any, **kwargs: Any) -> NVFP4Linear:
        self._forget()
        super()._apply(*args, **kwargs)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None, "_placed": {}, "_weight": None, "_threads": None}  # they belong to this process

    def get_extra_state(self) -> torch.Tensor:
        """The tensor scale, and whether it divides, beside the buffers in ``state_dict``; no buffer, because ``to(dtype)`` rounds those."""
        return torch.tensor(self._scale, dtype=torch.float64)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Takes the tensor scale from a ``state_dict``."""
        scale, divides = state.tolist()
        self._scale = (scale, bool(divides))

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}, activations={self.activations}"


class _Product(torch.autograd.Function):  # type: ignore[misc]
    """The kernels' product; its gradient is that of the dequantized weights (straight through the rounding of inputs)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: NVFP4Linear) -> torch.Tensor:
        ctx.layer = layer
        return layer.multiply(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0] @ ctx.layer.dequantized(gradients[0].dtype), None


def quantize_linears(
    model: nn.Module,
    *,
    method: nvfp4.Method = "nearest",
    activations: str = "float",
    ignore: Iterable[str] = ("lm_head",),
    threads: int | None = None,
) -> Replacement:
    """Replaces every ``nn.Linear`` below ``model`` by an :class:`NVFP4Linear`, in place.

    Args:
        model: any module; a transformers model for instance.
        method: the recipe of :func:`reset.nvfp4.quantize`: "nearest", "four_over_six" or "sweep".
        activations: "float", or "nvfp4" (W4A4) with one tensor scale per row of the inputs.
        ignore: layers to leave alone: full names, or their last part (``"lm_head"``, ``"model.layers.0.mlp.gate"``, ``"gate"``).
        threads: of the kernels; None takes what the machine allows.

    Returns:
        Which layers were replaced and which were kept, with the reason.

    Raises:
        ValueError: a name in ``ignore`` that no linear has, weights with NaN or infinity, an unknown method; nothing has changed then.
    """
    linears = {name: module for name, module in model.named_modules(remove_duplicate=False) if type(module) is nn.Linear and name}
    skipped = set(ignore)
    # lm_head is the default, not a demand: many models have none.
    missing = skipped - {"lm_head"} - set(linears) - {name.rpartition(".")[2] for name in linears}
    if missing:
        raise ValueError(f"ignore: no linear layer is called {', '.join(sorted(missing))}")
    shared = _core.Threads(threads)
    kept: dict[str, str] = {}
    made: dict[int, NVFP4Linear] = {}
    before = 0
    tied = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, module in linears.items():
        if name in skipped or name.rpartition(".")[2] in skipped:
            kept[name] = "ignored"
        elif module.in_features % BLOCK:
            kept[name] = f"{module.in_features} inputs are no multiple of {BLOCK}"
        elif id(module.weight) in tied:
            kept[name] = "tied to an embedding"
        elif id(module) not in made:
            weight = module.weight.detach().cpu()
            source = weight if weight.dtype in (torch.float32, torch.bfloat16, torch.float16) else weight.float()
            layer = NVFP4Linear(nvfp4.quantize(source, method=method), module.bias, activations=activations, threads=shared)
            made[id(module)] = layer.to(module.weight.device)
            before += weight.nbytes
    for name in linears:
        if name not in kept:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, made[id(linears[name])])
    nbytes = sum(layer.weight.nbytes for layer in made.values())
    return Replacement([name for name in linears if name not in kept], kept, nbytes, before)
