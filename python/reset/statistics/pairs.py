"""Two arms on the same problems: the difference with its interval, test, smallest detectable difference and verdict.

>>> from reset.statistics import paired
>>> p = paired(correct_a=[1] * 60 + [0] * 40, samples_a=1, correct_b=[1] * 75 + [0] * 25, samples_b=1)
>>> round(p.difference, 9), p.test, p.verdict
(0.15, 'exact McNemar', 'better')
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reset.statistics._counts import normal_quantile, sampled_in_all
from reset.statistics.differences import Discordance, discordance, tango_bounds
from reset.statistics.intervals import Interval
from reset.statistics.planning import smallest_detectable
from reset.statistics.significance import mcnemar, sign_flip

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
#: One sample per problem and arm; as many samples in both arms; different numbers.
TESTS = ("exact McNemar", "sign-flip permutation", "sign-flip permutation and score")


@dataclass(frozen=True)
class Paired:
    """Arm b against arm a.

    Attributes:
        difference: accuracy of b minus accuracy of a, over the problems that both arms sampled.
        ci95: 95 % interval of the difference: Tango's for one sample per problem and arm, else its clustered form.
        p_value: two-sided, of no difference.
        test: "exact McNemar" for one sample per problem and arm; "sign-flip permutation" for several; "sign-flip permutation and
            score" (the larger p of both) where arms have different numbers of samples for a problem.
        mde: the smallest true difference that a repetition with the same noise would detect with probability 0.8, at level 0.05;
            infinity if the problems are too few to show any.
        verdict: "better" or "worse" if ``p_value`` is at most 0.05 and the interval excludes 0, else "undecided".
        only_a: share of pairs of samples of which only a's is correct; with one sample, of problems that only a solves.
        only_b: share that only b solves.
        problems: problems compared.
        effective_problems: problems with one sample per arm that would tell as much.
    """

    difference: float
    ci95: Interval
    p_value: float
    test: str
    mde: float
    verdict: str
    only_a: float
    only_b: float
    problems: int
    effective_problems: float

    def to_dict(self) -> dict[str, Any]:
        """The attributes; the interval as a list of two."""
        return {**asdict(self), "ci95": list(self.ci95)}


def paired(
    correct_a: ArrayLike,
    samples_a: ArrayLike,
    correct_b: ArrayLike,
    samples_b: ArrayLike,
    *,
    draws: int = 100_000,
    seed: int = 0,
) -> Paired:
    """Compares arm b with arm a, problem by problem.

    Args:
        correct_a: correct samples of arm a for each problem, ``[P]``.
        samples_a: samples of arm a for each problem, ``[P]`` or one number; they may differ between problems and arms. Problems without
            samples in an arm are left out.
        correct_b: as ``correct_a``; the same problems in the same order.
        samples_b: as ``samples_a``.
        draws: random patterns of the sign-flip test.
        seed: of these draws.

    Raises:
        ValueError: impossible counts, different numbers of problems, or no problem sampled in both arms.
    """
    (a, b), (n_a, n_b), _ = sampled_in_all(("a", "b"), (correct_a, correct_b), (samples_a, samples_b))
    observed = discordance(a, n_a, b, n_b)
    ends = tango_bounds(observed, normal_quantile(LEVEL))
    interval = Interval(float(ends[0]), float(ends[1]))
    test, p_value = paired_test(a, n_a, b, n_b, observed, draws, seed)
    share = float(observed.only_a + observed.only_b)
    return Paired(
        difference=float((b - a).mean()),
        ci95=interval,
        p_value=p_value,
        test=test,
        mde=smallest_detectable(float(observed.problems), share, level=1 - LEVEL),
        verdict=verdict(interval, p_value),
        only_a=float(observed.only_a),
        only_b=float(observed.only_b),
        problems=int(np.size(a)),
        effective_problems=float(observed.problems),
    )


def paired_test(
    a: NDArray[Any], samples_a: NDArray[Any], b: NDArray[Any], samples_b: NDArray[Any], observed: Discordance, draws: int, seed: int
) -> tuple[str, float]:
    """Name and p-value of the test that fits the numbers of samples.

    Where arms have different numbers of samples for a problem, its difference is not symmetric about 0 even if the arms are equal, and
    flipped signs reject too often. The score test that the clustered interval inverts does not; then the larger p of both is taken.
    """
    if (samples_a == 1).all() and (samples_b == 1).all():
        return TESTS[0], mcnemar(int((a > b).sum()), int((b > a).sum()))
    p_value = sign_flip(b - a, draws, seed)
    if np.array_equal(samples_a, samples_b):
        return TESTS[1], p_value
    either = float(observed.only_b + observed.only_a)
    score = abs(float(observed.only_b - observed.only_a)) / math.sqrt(either / float(observed.problems)) if either > 0 else 0.0
    return TESTS[2], max(p_value, math.erfc(score / math.sqrt(2)))


def verdict(interval: Interval, p_value: float, level: float = LEVEL) -> str:
    """ "better", "worse" or "undecided": both the interval and the test have to exclude 0, for each alone errs now and then.

    Exact McNemar is stricter than the score test that Tango's interval inverts, so with few discordant problems the interval may exclude 0
    and the test not reject (4 against 0 of 30: p = 0.125). Adjusted p-values may be given.
    """
    if p_value > 1 - level + 1e-12 or interval.low <= 0 <= interval.high:
        return "undecided"
    return "better" if interval.low > 0 else "worse"
