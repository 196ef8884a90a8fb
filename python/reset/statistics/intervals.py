r"""Intervals for the accuracy of one arm.

**One sample per problem** is a binomial proportion: :func:`wilson` (Wilson 1927) inverts the score test, so it stays in [0, 1] and has
width where everything is right, which the textbook interval p ± z·se has not.

**Several samples per problem** are clustered: sixteen samples of one problem say less than sixteen problems (Miller 2024, arXiv
2411.00640). :func:`clustered_mean` asks how many independent problems would carry the same information,

.. math:: n_\mathrm{eff} = P / D, \qquad D = \frac{\frac{P}{P-1}\sum_i (x_i - \bar x)^2 + \tfrac14}{P\,\bar x (1 - \bar x) + \tfrac14}

(``x_i``: share of correct samples of problem i), and gives Wilson's interval for the mean at that number. ``D`` is the observed
variance between problems over the variance that single samples would have: 1 if the samples of a problem always agree, 1/s if the s
samples are as good as s problems. The quarters are one pseudo-observation at distance ½: where nearly everything is right (or wrong)
they are all there is, D goes to 1, and the samples of a problem count once. So thirty problems, all right, give the
interval of 30 of 30 and not a point, however many samples were drawn. With one sample per problem D is 1: the interval is Wilson's.

Both intervals are statements about the population of problems that the benchmark stands for, not about these problems alone.
``docs/statistics.md`` has their simulated coverage.

>>> from reset.statistics import wilson, clustered_mean
>>> wilson(27, 30)
Interval(low=0.743..., high=0.965...)
>>> clustered_mean([16] * 30, 16)
Interval(low=0.886..., high=1.0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reset.statistics._counts import normal_quantile, sampled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Weight of the pseudo-observation in the design effect: one problem at distance ½ from the mean, squared.
PSEUDO = 0.25


class Interval(NamedTuple):
    """A confidence interval, both ends included.

    Attributes:
        low: lower end.
        high: upper end.
    """

    low: float
    high: float


def wilson(correct: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22:209, without continuity correction).

    Args:
        correct: successes.
        n: independent trials.
        level: confidence level.

    Raises:
        ValueError: no trial, more successes than trials, or a level outside (0, 1).
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} is not possible: at least one trial, and from 0 to all of them correct")
    low, high = score_bounds(correct / n, n, normal_quantile(level))
    return Interval(float(low), float(high))


def clustered_mean(correct: ArrayLike, samples: ArrayLike, level: float = 0.95) -> Interval:
    """Interval of the mean over problems of the share of correct samples: Wilson's, at the effective number of problems.

    Args:
        correct: correct samples of each problem, ``[P]``.
        samples: samples of each problem, ``[P]`` or one number; they may differ. Problems without samples are left out.
        level: confidence level.

    Raises:
        ValueError: impossible counts, nothing sampled, or a level outside (0, 1).
    """
    shares, total = sampled(correct, samples)
    low, high = score_bounds(shares.mean(), effective_problems(shares, total), normal_quantile(level))
    return Interval(float(low), float(high))


def accuracy_interval(correct: ArrayLike, samples: ArrayLike, level: float = 0.95) -> Interval:
    """The interval of an arm's accuracy: Wilson's where each problem has one sample, else :func:`clustered_mean`.

    Args:
        correct, samples: of each problem, at least one sample each.

    >>> accuracy_interval([1, 0, 1], [1, 1, 1]) == wilson(2, 3)
    True
    """
    right, n = np.asarray(correct), np.asarray(samples)
    return wilson(int(right.sum()), len(n), level) if int(n.max()) == 1 else clustered_mean(right, n, level)


def effective_problems(shares: NDArray[np.float64], samples: NDArray[np.float64]) -> Any:
    """How many problems with one sample each would tell as much about the mean; between P and P times the harmonic mean of ``samples``.

    Args:
        shares: share of correct samples of each problem, ``[..., P]``.
        samples: samples of each problem, ``[P]``, at least 1.

    Returns:
        float64 ``[...]``.
    """
    problems = shares.shape[-1]
    if problems == 1:
        return np.ones(shares.shape[:-1])
    mean = shares.mean(axis=-1)
    spread = ((shares - mean[..., None]) ** 2).sum(axis=-1) * (problems / (problems - 1))
    design = (spread + PSEUDO) / (problems * mean * (1 - mean) + PSEUDO)
    return problems / np.clip(design, (1.0 / samples).mean(), 1.0)


def score_bounds(mean: Any, n: Any, z: float) -> tuple[Any, Any]:
    """Ends of the score interval of a proportion; arrays broadcast, ``n`` may be fractional."""
    shrink = 1.0 + z * z / n
    centre = (mean + z * z / (2 * n)) / shrink
    half = z * np.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)) / shrink
    # At 0 and 1 the ends are exact in arithmetic without rounding; rounding must not push the mean outside.
    return np.maximum(np.where(mean <= 0, 0.0, centre - half), 0.0), np.minimum(np.where(mean >= 1, 1.0, centre + half), 1.0)
