"""Entropy of the distribution that a token was drawn from: after the temperature and the filters.

    logits ──mask──► / T ──► top-k ──► top-p ──► min-p ──► softmax ──► entropy

Policies see *raw* entropies, those of ``softmax(logits)``. Some published tables were made from scores stored after temperature and
filters instead; a temperature below 1 sharpens the distribution, so those values are smaller. Here they can be reproduced.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from reset.sampling import entropy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def processed_entropy(
    logits: NDArray[np.float32],
    temperature: float,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    banned: Iterable[int] = (),
) -> NDArray[np.float64]:
    """Entropies in nats, float64 ``[T]``, of the filtered distributions of raw logits ``[T, vocab]``.

    Filters mean what they mean in :func:`reset.sampling.draw`: ties with the last kept id stay, banned ids take part in nothing.

    Raises:
        ValueError: a temperature that is greedy (at most 1e-6): its distribution is a single token.
    """
    if not temperature > 1e-6:
        raise ValueError(f"temperature = {temperature} takes the most probable token: the processed distribution has no entropy; use 'raw'")
    removed = list(banned)
    result = np.empty(len(logits))
    for position, row in enumerate(logits):
        scaled = row / np.float32(temperature)
        scaled[removed] = -np.inf
        scaled[scaled < _lowest_kept(scaled, top_k, top_p, min_p)] = -np.inf
        result[position] = entropy(scaled)
    return result


def _lowest_kept(scaled: NDArray[np.float32], top_k: int | None, top_p: float | None, min_p: float | None) -> float:
    """The smallest scaled logit that every filter keeps. Each filter cuts at a value, so the strictest cut decides."""
    lowest = -math.inf
    if top_k is not None and top_k < len(scaled):
        lowest = float(np.partition(scaled, -top_k)[-top_k])
    if top_p is not None and top_p < 1:
        kept = np.sort(scaled[(scaled >= lowest) & (scaled > -np.inf)])[::-1].astype(np.float64)
        mass = np.cumsum(np.exp(kept - kept[0]))
        lowest = float(kept[np.searchsorted(mass, top_p * mass[-1])])
    if min_p is not None and min_p > 0:
        lowest = max(lowest, float(scaled.max()) + math.log(min_p))
    return lowest
