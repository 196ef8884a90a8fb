r"""Intervals for the difference between two arms on the same problems.

**One sample per problem and arm.** The difference is (only b right − only a right) / problems. Tango's score interval (Tango 1998,
Statistics in Medicine 17:891) holds every difference δ that the score test does not reject,

.. math:: \frac{|q_b - q_a - \delta|}{\sqrt{(2\tilde q_a(\delta) + \delta(1 - \delta)) / n}} \le z

(``q_b``, ``q_a``: shares of problems that only b, only a solves; the tilde marks the estimate of greatest likelihood among those
with difference δ). At δ = 0 it is McNemar's test without correction. It has width where no problem is discordant: ± z² / (n + z²).

**Several samples.** With ``x`` the share of correct samples, ``q_b = mean x_b (1 − x_a)`` is the share of pairs of samples that only b
solves, and ``q_b − q_a`` is again the difference of the accuracies. :func:`clustered_difference` gives Tango's interval at the number
of single-sample problems that would tell as much,

.. math:: n_\mathrm{eff} = P / D, \qquad D = \frac{\max(S, W) + \tfrac14}{P\,(q_b + q_a - (q_b - q_a)^2) + \tfrac14}

S is ``P / (P − 1) · Σ (d_i − mean d)²`` for the problems' differences d: what they really vary. The denominator is what single samples
would vary. W is the part that sampling alone must cause, ``w · Σ (1/s_a + 1/s_b)`` with w the pooled variance of samples within a
problem and arm; it holds the interval open where S came out too small, as it does when one arm has one sample and failures are rare. The
quarters act as in :mod:`reset.statistics.intervals`: if nothing differs, each problem counts once and not once per sample.

>>> from reset.statistics import paired_proportions, clustered_difference
>>> paired_proportions(both=1, only_a=7, only_b=1, neither=12)
Interval(low=-0.517..., high=-0.026...)
>>> clustered_difference([16] * 30, 16, [16] * 30, 16)
Interval(low=-0.113..., high=0.113...)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reset.statistics._counts import normal_quantile, sampled_in_all
from reset.statistics.intervals import PSEUDO, Interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Discordance(NamedTuple):
    """What the interval of a difference needs; arrays broadcast.

    Attributes:
        only_b: share of pairs of samples of one problem that only b solves.
        only_a: share that only a solves; the difference of the accuracies is ``only_b − only_a``.
        problems: effective number of problems with one sample in each arm.
    """

    only_b: Any
    only_a: Any
    problems: Any


def paired_proportions(both: int, only_a: int, only_b: int, neither: int, level: float = 0.95) -> Interval:
    """Tango's score interval of (solved by b − solved by a) / n.

    Args:
        both: problems that both arms solve.
        only_a: problems that only a solves.
        only_b: problems that only b solves.
        neither: problems that no arm solves.
        level: confidence level.

    Raises:
        ValueError: negative counts, no problem, or a level outside (0, 1).
    """
    cells = {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither}
    for name, count in cells.items():
        if count < 0:
            raise ValueError(f"{name} = {count} is not possible: it counts problems")
    n = sum(cells.values())
    if n == 0:
        raise ValueError("both, only_a, only_b and neither are all 0; at least one problem is needed")
    return _interval(Discordance(only_b / n, only_a / n, n), level)


def clustered_difference(
    correct_a: ArrayLike, samples_a: ArrayLike, correct_b: ArrayLike, samples_b: ArrayLike, level: float = 0.95
) -> Interval:
    """Interval of the difference of accuracies, b − a, from any number of samples per problem and arm.

    Args:
        correct_a: correct samples of arm a for each problem, ``[P]``.
        samples_a: samples of arm a for each problem, ``[P]`` or one number. Problems without samples in an arm are left out.
        correct_b: as ``correct_a``; the same problems in the same order.
        samples_b: as ``samples_a``.
        level: confidence level.

    Raises:
        ValueError: impossible counts, different numbers of problems, no problem sampled in both arms, or a level outside (0, 1).
    """
    (a, b), (n_a, n_b), _ = sampled_in_all(("a", "b"), (correct_a, correct_b), (samples_a, samples_b))
    return _interval(discordance(a, n_a, b, n_b), level)


def discordance(a: NDArray[Any], samples_a: NDArray[Any], b: NDArray[Any], samples_b: NDArray[Any]) -> Discordance:
    """Discordant shares and the effective number of problems.

    Args:
        a: share of correct samples of arm a for each problem, ``[..., P]``.
        samples_a: how many samples that were, ``[P]``, at least 1.
        b: as ``a``.
        samples_b: as ``samples_a``.
    """
    problems = a.shape[-1]
    only_b, only_a = (b * (1 - a)).mean(axis=-1), (a * (1 - b)).mean(axis=-1)
    spare = (samples_a - 1).sum() + (samples_b - 1).sum()  # samples that tell of the variance within a problem
    if problems == 1 or spare == 0:
        return Discordance(only_b, only_a, np.full(a.shape[:-1], float(problems)))
    difference = only_b - only_a
    spread = ((b - a - difference[..., None]) ** 2).sum(axis=-1) * (problems / (problems - 1))
    within = ((samples_a * a * (1 - a)).sum(axis=-1) + (samples_b * b * (1 - b)).sum(axis=-1)) / spare
    sampling = within * ((1 / samples_a).sum() + (1 / samples_b).sum())
    single = problems * (only_b + only_a - difference**2)
    design = (np.maximum(spread, sampling) + PSEUDO) / (single + PSEUDO)
    return Discordance(only_b, only_a, problems / np.minimum(design, 1.0))


def tango_bounds(observed: Discordance, z: float) -> tuple[Any, Any]:
    """Ends of Tango's interval, by bisection of the score, which falls with δ; arrays broadcast."""
    only_b, only_a, n = (np.asarray(value, np.float64) for value in observed)
    difference = only_b - only_a

    def score(delta: Any) -> Any:
        # 2q² + bq + c = 0: the likeliest share of only a, given that only b exceeds it by delta
        linear = -only_b - only_a + (2 - only_b + only_a) * delta
        constant = -only_a * delta * (1 - delta)
        share = (np.sqrt(np.maximum(linear**2 - 8 * constant, 0.0)) - linear) / 4
        variance = np.maximum(2 * share + delta * (1 - delta), 1e-300) / n
        return (difference - delta) / np.sqrt(variance)

    def end(low: Any, high: Any, target: float) -> Any:
        for _ in range(60):
            middle = (low + high) / 2
            above = score(middle) > target
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return (low + high) / 2

    ones = np.ones_like(difference)
    return end(-ones, difference, z), end(difference, ones, -z)


def _interval(observed: Discordance, level: float) -> Interval:
    low, high = tango_bounds(observed, normal_quantile(level))
    return Interval(float(low), float(high))
