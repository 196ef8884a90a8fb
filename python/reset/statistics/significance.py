"""Tests of "the arms do not differ" on the same problems, as p-values of two sides.

McNemar's exact test (McNemar 1947) is for one sample per problem and arm: given the problems that one arm alone solves, each arm is
as likely to be that one. The sign-flip permutation test is for means of several samples: where the arms do not differ, a problem's
difference would have come out with the other sign as likely (Fisher 1935, The Design of Experiments, §21).

>>> from reset.statistics import mcnemar, sign_flip
>>> mcnemar(only_a=1, only_b=7)                             # 2 · (1 + 8) / 2⁸
0.0703125
>>> sign_flip([0.25, 0.5, 0.125, 0.0, 0.25])                # 2 of 2⁴ ways to choose signs are this extreme
0.125
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: Sign patterns held at a time, times problems: 32 MiB of float64.
_CHUNK = 1 << 22


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact test: the two-sided binomial p-value of the discordant problems, 1 if there are none.

    Args:
        only_a: problems that only a solves.
        only_b: problems that only b solves.

    Raises:
        ValueError: a negative count.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"only_a = {only_a}, only_b = {only_b} are not possible: they count problems")
    discordant, fewer = only_a + only_b, min(only_a, only_b)
    ways = term = 1  # whole numbers: exact for any count
    for i in range(fewer):
        term = term * (discordant - i) // (i + 1)
        ways += term
    return min(1.0, 2 * ways / (1 << discordant)) if 2 * ways < 1 << discordant else 1.0


def sign_flip(differences: ArrayLike, draws: int = 100_000, seed: int = 0) -> float:
    """Permutation test of a zero mean: how often are differences with random signs as far from zero, in sum, as those observed?

    Every pattern of signs is enumerated where that takes no more work than the draws (16 or fewer differences that are not 0 by
    default); then p is the exact share. Otherwise p = (b + 1) / (B + 1), where b of B random patterns reach the observed sum
    (Phipson & Smyth 2010): never 0, and valid whatever B.

    It assumes that a difference is distributed symmetrically where the arms do not differ. That holds for equal numbers of samples in
    both arms; ``reset.statistics.paired`` adds a second test where they are not equal.

    Args:
        differences: one per problem, ``[P]``; differences of 0 (to 1e-12) count for nothing.
        draws: random patterns B.
        seed: of the draws (numpy's ``default_rng``); the same value gives the same p.

    Raises:
        ValueError: no differences, one that is not finite, or no draws.
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"differences: shape {values.shape}, expected [problems] of finite numbers, at least one")
    if draws < 1:
        raise ValueError(f"draws = {draws} is not possible: it has to be at least 1")
    moving = values[np.abs(values) > 1e-12]
    if moving.size == 0:
        return 1.0
    reached = abs(moving.sum()) - 1e-9 * np.abs(moving).sum()  # sums that are equal may be rounded apart
    rows = max(1, _CHUNK // moving.size)
    hits = 0
    if moving.size < 60 and 1 << moving.size <= draws:
        patterns, places = 1 << moving.size, np.arange(moving.size)
        for start in range(0, patterns, rows):
            bits = np.arange(start, min(start + rows, patterns))[:, None] >> places & 1
            hits += int((np.abs((2.0 * bits - 1.0) @ moving) >= reached).sum())
        return hits / patterns
    rng = np.random.default_rng(seed)
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        drawn = np.unpackbits(rng.integers(0, 256, (count, -(-moving.size // 8)), np.uint8), axis=1, count=moving.size)
        hits += int((np.abs(2.0 * (drawn.astype(np.float64) @ moving) - moving.sum()) >= reached).sum())
    return (hits + 1) / (draws + 1)
