r"""Point estimates from several samples per problem: avg@k, pass@k, maj@k.

A problem was sampled ``n`` times, ``c`` samples are correct. All three answer "how good is the model when it may try ``k`` times",
averaged over every choice of ``k`` of the ``n`` samples (without putting back) and then over problems, each with the same weight:

======  =============================================  ==============================================
avg@k   one of the ``k`` is handed in, at random       ``c / n``, whatever ``k``
pass@k  somebody tells which of the ``k`` is right     :math:`1 - \binom{n-c}{k} / \binom{n}{k}`
maj@k   the answer that most of the ``k`` agree on     :math:`\sum` over ways to draw, see :func:`majority_at`
======  =============================================  ==============================================

pass@k is the unbiased estimate of Chen et al. 2021 (arXiv 2107.03374, equation 1). ``1 − (1 − c/n)**k`` would be biased: it draws with
putting back. avg@k is called avg@n by some; it estimates the same quantity as pass@1.

>>> from reset.statistics import average, pass_at, majority_at
>>> correct, samples = [4, 1, 0], [4, 4, 4]
>>> average(correct, samples)                               # (1 + 1/4 + 0) / 3
0.4166...
>>> pass_at(correct, samples, 2)                            # (1 + 1/2 + 0) / 3
0.5
>>> majority_at([[("7", True), ("7", True), ("8", False), (None, False)]], 3)  # two of the four draws are ties
0.75
"""

from __future__ import annotations

from collections import Counter
from math import comb, exp, lgamma, log
from typing import TYPE_CHECKING

import numpy as np

from reset._checks import integer
from reset.statistics._counts import counts, sampled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray


def average(correct: ArrayLike, samples: ArrayLike) -> float:
    """Accuracy: the mean over problems of the share of correct samples. Problems without samples are left out.

    Args:
        correct: correct samples of each problem, ``[P]``.
        samples: samples of each problem, ``[P]`` or one number.

    Raises:
        ValueError: impossible counts, or nothing sampled.
    """
    return float(sampled(correct, samples)[0].mean())


def pass_at(correct: ArrayLike, samples: ArrayLike, k: int) -> float:
    """The unbiased estimate of pass@k (Chen et al. 2021), the mean over problems.

    Computed as ``1 − Π (1 − k / i)`` over ``i`` from ``n − c + 1`` to ``n``: every factor lies in [0, 1], nothing overflows.

    Args:
        correct: correct samples of each problem, ``[P]``.
        samples: samples of each problem, ``[P]`` or one number.
        k: attempts; at most the samples of every problem.

    Raises:
        ValueError: impossible counts, ``k`` below 1 or above the samples of a problem (the message names it).
    """
    right, total = counts(correct, samples)
    _enough(k, total)
    failed = 1.0 - right / total  # the share of draws of `tried` samples without a correct one; tried = 1 here
    for tried in range(1, k):
        failed = failed * np.maximum(total - right - tried, 0) / (total - tried)
    return float(np.mean(1.0 - failed))


def majority_at(votes: Iterable[Sequence[tuple[str | None, bool]]], k: int) -> float:
    """maj@k (self-consistency, Wang et al. 2022, arXiv 2203.11171), the mean over problems, exact over all choices of ``k`` samples.

    The answer with most votes among the ``k`` wins. Rules where that is not enough:

    - A sample without a readable answer (``None``) abstains. If all ``k`` abstain the problem is wrong.
    - In a tie the score is the mean over the tied answers: two tied, one of them correct, score ½.
    - Answers are the same if their text is; give canonical text. If samples with the same text were judged differently (as when only
      some are complete), the answer scores the share judged correct.

    No draw of random numbers is involved: the expectation over all ``k``-subsets is a sum of hypergeometric probabilities. Answers' vote
    counts in a random ``k``-subset are independent binomials conditioned on their sum, so the sum is built by convolution in
    time about ``k² · answers`` and within [0, 1].

    Args:
        votes: per problem, one ``(answer or None, correct)`` per sample.
        k: votes drawn; at most the samples of every problem.

    Raises:
        ValueError: no problem, ``k`` below 1 or above the samples of a problem, or a correct sample without an answer.
    """
    problems = [list(one) for one in votes]
    if not problems:
        raise ValueError("votes: no problems; at least one is needed")
    _enough(k, np.array([len(one) for one in problems]))
    known: dict[tuple[tuple[tuple[int, float], ...], int], float] = {}  # many problems have the same counts
    scores = []
    for index, one in enumerate(problems):
        sizes = Counter(answer for answer, _ in one if answer is not None)
        judged = Counter(answer for answer, correct in one if correct)
        if None in judged:
            raise ValueError(f"problem at index {index}: a sample without an answer is marked correct")
        answers = tuple(sorted((size, judged[answer] / size) for answer, size in sizes.items()))
        key = answers, len(one) - sizes.total()
        if key not in known:
            known[key] = _majority(answers, key[1], k)
        scores.append(known[key])
    return float(np.mean(scores))


def _majority(answers: tuple[tuple[int, float], ...], abstained: int, k: int) -> float:
    """The expected score of one problem: ``answers`` holds (votes, share judged correct), ``k`` are drawn."""
    if not any(share for _, share in answers):
        return 0.0
    n = sum(size for size, _ in answers) + abstained
    if k == n:  # one way to draw
        most = max(size for size, _ in answers)
        tied = [share for size, share in answers if size == most]
        return sum(tied) / len(tied)
    theta = k / n
    drawn = [_binomial(size, theta) for size, _ in answers]  # [votes] of each answer, before conditioning on k in all
    idle = _binomial(abstained, theta)
    total = 0.0
    for winner, (size, share) in enumerate(answers):
        if share == 0.0:
            continue
        for most in range(1, min(size, k) + 1):
            # ways[v, t]: the others take v votes, t of them exactly `most`, none more.
            left = k - most
            ways = np.zeros((left + 1, left // most + 1))
            ways[: min(idle.size, left + 1), 0] = idle[: left + 1]
            for other, mass in enumerate(drawn):
                if other != winner:
                    ways = _with_answer(ways, mass, most)
            total += share * drawn[winner][most] * float(ways[left] @ (1.0 / np.arange(1, ways.shape[1] + 1)))
    return min(1.0, float(total / _binomial(n, theta)[k]))


def _with_answer(ways: NDArray[np.float64], mass: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """``ways`` after one more answer was dealt its votes: fewer than ``most``, or exactly ``most`` as one more tie."""
    dealt = np.zeros_like(ways)
    rows = ways.shape[0]
    for votes in range(min(most, mass.size, rows)):
        dealt[votes:] += mass[votes] * ways[: rows - votes]
    if most < min(mass.size, rows) and ways.shape[1] > 1:
        dealt[most:, 1:] += mass[most] * ways[: rows - most, :-1]
    return dealt


def _binomial(n: int, theta: float) -> NDArray[np.float64]:
    """Probabilities of 0 … n successes in n trials, ``[n + 1]``."""
    if n < 500:  # the coefficients are exact integers, and the largest still fits a float
        return np.array([comb(n, i) * theta**i * (1 - theta) ** (n - i) for i in range(n + 1)])
    ways = [lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in range(n + 1)]
    return np.array([exp(w + i * log(theta) + (n - i) * log(1 - theta)) for i, w in enumerate(ways)])


def _enough(k: int, samples: NDArray[np.int64]) -> None:
    integer("k", k)
    for index in np.flatnonzero(samples < k):
        raise ValueError(f"k = {k} is more than the {samples[index]} samples of the problem at index {index}; take k up to {samples.min()}")
