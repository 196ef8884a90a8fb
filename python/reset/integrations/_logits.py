"""What every torch engine needs of logits: the entropy of each row, and rows divided by their temperatures.

    m = max x    Z = Σ exp(x − m)    W = Σ (x − m)·exp(x − m)    H = ln Z − W / Z

On the CPU the entropies are the core's, bit for bit those of :class:`reset.Controller`. On other devices they are a few operations
over the whole batch in float32; nothing travels to the host.
"""

from __future__ import annotations

import torch

from reset.sampling import entropy

#: From here down a draw is greedy.
GREEDY = 1e-6

#: ``exp`` of it is 0 in float32, and unlike −∞ it can be multiplied by that 0.
_NEGLIGIBLE = -1e4


def entropies(logits: torch.Tensor) -> torch.Tensor:
    """Entropies in nats of ``softmax(logits)``, float64 ``[rows]`` holding float32 values, for raw logits ``[rows, vocab]``.

    ``-inf`` entries count as impossible.

    Raises:
        ValueError: on the CPU, NaN, ``+inf`` or a row without any finite entry. Elsewhere such a row's entropy is NaN: to look would
            mean to wait for the device.
    """
    if logits.device.type == "cpu":
        return torch.from_numpy(entropy(logits))
    return device_entropies(logits)


def device_entropies(logits: torch.Tensor) -> torch.Tensor:
    """:func:`entropies` in torch operations, on any device."""
    shifted = logits.float()
    shifted = (shifted - shifted.amax(-1, keepdim=True)).clamp_min_(_NEGLIGIBLE)
    weights = shifted.exp()
    total = weights.sum(-1)
    found: torch.Tensor = total.log() - (weights.mul_(shifted)).sum(-1) / total
    return found.clamp_min_(0.0).double()  # rounding can leave −1e-8 where one id has all the mass


def tempered(logits: torch.Tensor, temperature: torch.Tensor, *, greedy: bool, in_place: bool = False) -> torch.Tensor:
    """``logits / temperature``, ``[rows, vocab]``; with ``greedy``, rows at most 1e-6 warm keep their best id alone.

    Args:
        logits: raw logits.
        temperature: float64 ``[rows]``.
        in_place: change ``logits`` itself.
        greedy: whether any row may be that cold: known on the host from the policies' parameters, so that nobody has to look.
    """
    cold = temperature <= GREEDY
    divisor = (torch.where(cold, 1.0, temperature) if greedy else temperature).to(logits.dtype).unsqueeze(-1)
    scaled: torch.Tensor = logits.div_(divisor) if in_place else logits / divisor
    if not greedy:
        return scaled
    ids = torch.arange(logits.shape[-1], device=logits.device)
    best = torch.where(scaled == scaled.amax(-1, keepdim=True), ids, logits.shape[-1]).amin(-1)  # the lowest of equals
    return scaled.masked_fill_(cold.unsqueeze(-1) & (ids != best.unsqueeze(-1)), float("-inf"))
