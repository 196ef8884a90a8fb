"""The ReSET policy once more, from its description, over whole sequences: every mean is taken anew from the list of values.

Entropies are rounded to float32 and summed from left to right in double precision. The window's sum keeps the rounding of
"add the new value, subtract the one that falls out", since that is how the policy is defined.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def boundaries(tokens: list[int], newline: set[int], double: set[int]) -> list[bool]:
    """Whether each token begins a step; ``tokens`` are the produced ones, and token ``t`` is decided by those before it."""
    begins = []
    for t in range(len(tokens)):
        before = tokens[max(0, t - 2) : t]
        pair = len(before) == 2 and before[0] in newline and before[1] in newline
        begins.append(bool(before) and (before[-1] in double or pair))
    return begins


def _sum(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def _window_sum(values: list[float], size: int) -> tuple[float, int]:
    total = 0.0
    for i, value in enumerate(values):
        total += value
        if i >= size:
            total -= values[i - size]
    return total, min(size, len(values))


def reset_trace(
    entropies: list[float],
    begins: list[bool],
    *,
    t_low: float,
    tau_0: float,
    t_high: float = 1.0,
    window: int = 32,
    include_current: bool = False,
) -> list[dict[str, Any]]:
    """One row per token: temperature, step_entropy, global_mean, threshold, uncertain, boundary, step_index."""
    values = [float(np.float32(h)) for h in entropies]
    rows: list[dict[str, Any]] = []
    for t, h in enumerate(values):
        starts = [i for i in range(t + 1) if begins[i]]
        start = starts[-1] if starts else 0
        in_step = values[start:t]
        if t == 0:
            step = h
        elif len(in_step) < window:
            total, count = _window_sum(values[: t + 1] if include_current else values[:t], window)
            step = total / count
        elif include_current:
            step = _sum([*in_step, h]) / (len(in_step) + 1)
        else:
            step = _sum(in_step) / len(in_step)
        mean = step if t == 0 else _sum(values[:t]) / t
        uncertain = step > mean
        threshold = step if uncertain else tau_0
        rows.append(
            {
                "temperature": t_high if h >= threshold else t_low,
                "entropy": h,
                "step_entropy": step,
                "global_mean": mean,
                "threshold": threshold,
                "uncertain": uncertain,
                "boundary": begins[t],
                "step_index": len(starts),
            }
        )
    return rows


def entropy(logits: Any) -> float:
    """``−Σ p ln p`` of the softmax in double precision, by the definition."""
    x = np.asarray(logits, np.float64)
    x = x[x > -math.inf]
    p = np.exp(x - x.max())
    p /= p.sum()
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
