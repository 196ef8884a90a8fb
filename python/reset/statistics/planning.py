r"""How many problems and samples a difference needs, and the smallest difference that a design detects.

The model. Arm a solves a problem with one sample with probability ``p`` on average, arm b with ``p + δ``; σ² = p (1 − p) is the variance
of one sample. Two samples of one problem have correlation ρ, be they of one arm or of both (some problems are hard for either). The
true difference may itself vary between problems, with standard deviation h. Then the mean difference of a problem with s samples in each
arm has variance

.. math:: V = h^2 + \rho(\sigma_a - \sigma_b)^2 + \frac{(1 - \rho)(\sigma_a^2 + \sigma_b^2)}{s}

(the decomposition of Miller 2024, arXiv 2411.00640, for paired arms). More samples shrink the last term alone; more problems shrink
all of V. With one sample V + δ² is the discordance ψ, the share of problems that exactly one arm solves, and the number of problems

.. math:: n = \left(z_{1-\alpha/2} \sqrt{V + \delta^2} + z_{\mathrm{power}} \sqrt{V}\right)^2 / \delta^2

is that of Miettinen 1968 and Connor 1987 for McNemar's test. Since the exact test is stricter, the power for one sample is
summed over all outcomes instead; the formula is the start of that search.

>>> from reset.statistics import power
>>> power(0.70, 0.05).problems, power(0.70, 0.05, samples=8).problems
(662, 86)
>>> power(0.70, problems=30, samples=16).difference         # the smallest difference that 30 problems show
0.069...
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from reset._checks import integer, number
from reset.statistics.intervals import PSEUDO

#: Correlation of two samples of one problem where nothing is said.
CORRELATION = 0.5
#: Most problems for which the power of the exact test is summed; beyond, a normal approximation with McNemar's correction equals it
#: to a few thousandths.
MOST_EXACT = 2000
#: Most problems and samples that are looked for.
MOST_PROBLEMS, MOST_SAMPLES = 10_000_000, 4096
#: Rises that are tried for whether samples can depend on each other as stated.
RISES = 1000
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Power:
    """A design and what it detects.

    Attributes:
        baseline: accuracy of arm a.
        difference: accuracy of arm b minus ``baseline``.
        problems: problems that both arms answer.
        samples: samples per problem and arm.
        power: probability that the comparison says "better" or "worse" if the difference is true.
        level: two-sided error rate of the test.
        correlation: of two samples of one problem.
        discordance: share of pairs of samples, one of each arm, of which exactly one is correct.
        heterogeneity: standard deviation over problems of the true difference.
    """

    baseline: float
    difference: float
    problems: int
    samples: int
    power: float
    level: float
    correlation: float
    discordance: float
    heterogeneity: float

    def to_dict(self) -> dict[str, Any]:
        """The attributes."""
        return asdict(self)

    def __str__(self) -> str:
        test = "exact McNemar test" if self.samples == 1 else "sign-flip test and clustered interval"
        return (
            f"{self.problems:,} problems with {self.samples} sample{'s' if self.samples > 1 else ''} in each arm tell accuracy "
            f"{self.baseline + self.difference:.3g} from {self.baseline:.3g} with probability {self.power:.2f}\n"
            f"assumed: {test} at level {self.level:g}; two samples of a problem correlate with {self.correlation:.2f} "
            f"(exactly one of two arms' samples is correct in {self.discordance:.1%} of pairs); the true difference varies between "
            f"problems with standard deviation {self.heterogeneity:g} beyond that; problems are drawn at random"
        )


def power(
    baseline: float,
    difference: float | None = None,
    *,
    problems: int | None = None,
    samples: int | None = 1,
    power: float = 0.8,
    level: float = 0.05,
    correlation: float | None = None,
    discordance: float | None = None,
    heterogeneity: float = 0.0,
) -> Power:
    """Solves for what is left open: problems, samples, the difference, or the power of a design.

    ======================================  ==============================================================
    given                                   found
    ======================================  ==============================================================
    difference                              problems that reach ``power`` with ``samples`` per problem
    difference, problems, ``samples=None``  samples per problem that reach ``power``
    problems, no difference                 the smallest difference upwards that reaches ``power``
    difference, problems, samples           the power of that design; the argument ``power`` has no effect
    ======================================  ==============================================================

    Args:
        baseline: accuracy of arm a, in (0, 1).
        difference: of arm b from it, either sign.
        problems: problems that both arms answer.
        samples: samples per problem and arm.
        power: probability of detection asked for.
        level: two-sided error rate.
        correlation: of two samples of one problem, in [0, 1]; 0.5, or the most that the accuracies permit, if neither it nor
            ``discordance`` is given. A pilot shows it: the discordance between two sampled arms.
        discordance: instead of ``correlation``: expected share of pairs of samples with exactly one correct.
        heterogeneity: standard deviation over problems of the true difference, beyond what the correlation implies.

    Raises:
        ValueError: values outside their range, that contradict each other, or that no design satisfies.
    """
    baseline, power, level = number("baseline", baseline), number("power", power), number("level", level)
    heterogeneity = number("heterogeneity", heterogeneity)
    difference = None if difference is None else number("difference", difference)
    correlation = None if correlation is None else number("correlation", correlation)
    discordance = None if discordance is None else number("discordance", discordance)
    problems = None if problems is None else integer("problems", problems)
    samples = None if samples is None else integer("samples", samples)
    for name, value in (("baseline", baseline), ("power", power), ("level", level)):
        if not 0 < value < 1:
            raise ValueError(f"{name} = {value} is not possible: it has to lie between 0 and 1")
    if not 0 <= heterogeneity < 1:
        raise ValueError(f"heterogeneity = {heterogeneity} is not possible: it is a standard deviation of differences, from 0 to below 1")
    if correlation is not None and discordance is not None:
        raise ValueError("correlation and discordance describe the same thing: give one of them")
    if correlation is not None and not 0 <= correlation <= 1:
        raise ValueError(f"correlation = {correlation} is not possible: it has to lie from 0 to 1")

    def design(delta: float, n: int, s: int) -> Power:
        rho, share = _dependence(baseline, delta, correlation, discordance, heterogeneity)
        reached = _reached(baseline, delta, n, s, level, rho, share, heterogeneity)
        return Power(baseline, delta, n, s, reached, level, rho, share, heterogeneity)

    if difference is None:
        if problems is None or samples is None:
            raise ValueError("without a difference, give problems and samples: then the smallest detectable difference is found")
        least, highest = _possible(baseline, correlation, discordance, heterogeneity)
        delta = _smallest(lambda delta: design(delta, problems, samples).power, least, highest, power)
        if delta is None:
            given = "" if discordance is None else f", the most that a discordance of {discordance} permits,"
            raise ValueError(
                f"{problems} problems with {samples} samples do not show even the rise from {baseline} to {baseline + highest:g}{given} "
                f"with power {power}"
            )
        return design(delta, problems, samples)
    if difference == 0 or not 0 <= baseline + difference <= 1:
        raise ValueError(f"difference = {difference} is not possible: it must not be 0, and {baseline} + difference must lie from 0 to 1")
    delta = difference
    if problems is None:
        s = samples or 1
        n = _first(lambda n: design(delta, n, s).power >= power, MOST_PROBLEMS)
        if n is None:
            raise ValueError(f"difference = {difference}: more than {MOST_PROBLEMS:,} problems would be needed")
        return design(delta, n, s)
    if samples is not None:
        return design(delta, problems, samples)
    s_found = _first(lambda s: design(delta, problems, s).power >= power, MOST_SAMPLES)
    if s_found is None:
        most = design(delta, problems, MOST_SAMPLES)
        raise ValueError(
            f"{problems} problems cannot show a difference of {difference} with power {power}, however many samples are drawn "
            f"({MOST_SAMPLES} reach {most.power:.2f}): take more problems"
        )
    return design(delta, problems, s_found)


def smallest_detectable(problems: float, discordance: float, power: float = 0.8, level: float = 0.05) -> float:
    """The difference that a paired comparison detects with the given power, from the noise that was observed.

    Solves ``problems · δ² = (z √ψ + z_power √(ψ − δ²))²``; the discordance ψ is at least δ, since arms that differ are discordant.

    Args:
        problems: effective number of problems with one sample in each arm.
        discordance: share of discordant pairs.
        power: probability of detection.
        level: two-sided error rate.

    Returns:
        The difference, in (0, 1]; infinity if the problems are too few to show any.
    """
    z, z_power = _NORMAL.inv_cdf(1 - level / 2), _NORMAL.inv_cdf(power)

    def excess(delta: float) -> float:
        share = max(discordance, delta)
        return problems * delta**2 - (z * math.sqrt(share) + z_power * math.sqrt(max(share - delta**2, 0.0))) ** 2

    if excess(1.0) < 0:
        return math.inf
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) >= 0 else (middle, high)
    return high


def _dependence(baseline: float, delta: float, correlation: float | None, share: float | None, spread: float) -> tuple[float, float]:
    """Correlation of samples and discordance, either from the other."""
    other = baseline + delta
    a, b = math.sqrt(baseline * (1 - baseline)), math.sqrt(max(other * (1 - other), 0.0))
    apart = baseline * (1 - other) + other * (1 - baseline) + spread**2  # discordance of samples without correlation
    least = abs(delta)
    if share is not None:
        rho = (apart - share) / (2 * a * b) if b > 0 else 0.0
        if not least - 1e-12 <= share <= apart + 1e-12 or rho > 1 + 1e-12:
            bound = max(least, apart - 2 * a * b)
            raise ValueError(
                f"discordance = {share} is not possible for accuracies {baseline:g} and {other:g}: from {bound:.4g} to {apart:.4g}"
            )
        return min(max(rho, 0.0), 1.0), share
    most = 1.0 if b == 0 else min(1.0, (apart - least) / (2 * a * b))  # more, and the arms would differ less than delta
    if correlation is not None and correlation > most + 1e-12:
        raise ValueError(f"correlation = {correlation} is not possible for accuracies {baseline:g} and {other:g}: at most {most:.4g}")
    rho = min(CORRELATION if correlation is None else correlation, most)
    return rho, apart - 2 * rho * a * b


def _possible(baseline: float, correlation: float | None, share: float | None, spread: float) -> tuple[float, float]:
    """The range of rises from ``baseline`` at which samples can depend on each other as stated.

    A small discordance excludes large rises (arms that differ by δ are discordant at least that often), a large one small rises.

    Raises:
        ValueError: no rise is possible.
    """
    grid = np.linspace(0, 1 - baseline, RISES + 1)[1:]

    def contradiction(delta: float) -> str | None:
        try:
            _dependence(baseline, delta, correlation, share, spread)
        except ValueError as error:
            return str(error)
        return None

    possible = [contradiction(float(delta)) is None for delta in grid]
    if True not in possible:
        raise ValueError(contradiction(float(grid[0])))
    first = possible.index(True)
    last = (possible.index(False, first) if False in possible[first:] else RISES) - 1
    return (0.0 if first == 0 else float(grid[first])), float(grid[last])


def _reached(baseline: float, delta: float, n: int, s: int, level: float, rho: float, share: float, spread: float) -> float:
    """Power of a design."""
    if s == 1 and n <= MOST_EXACT:
        return _exact(n, share, delta, level)
    other = baseline + delta
    a, b = math.sqrt(baseline * (1 - baseline)), math.sqrt(max(other * (1 - other), 0.0))
    variance = spread**2 + rho * (a - b) ** 2 + (1 - rho) * (a * a + b * b) / s
    correction = 1 / math.sqrt(n) if s == 1 else 0.0
    # The test takes differences around 0, the interval carries its pseudo-observation: the wider of both decides.
    null = variance + max(delta**2, PSEUDO / n if s > 1 else 0.0)
    if variance <= 0:
        return 1.0
    z = _NORMAL.inv_cdf(1 - level / 2)
    return _NORMAL.cdf((abs(delta) * math.sqrt(n) - correction - z * math.sqrt(null)) / math.sqrt(variance))


def _exact(n: int, share: float, delta: float, level: float) -> float:
    """Power of McNemar's exact test: summed over the number of discordant problems, then over who solves them."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # logs of factorials
    favoured = min((share + abs(delta)) / (2 * share), 1.0)

    def binomial(trials: int, p: float) -> Any:
        k = np.arange(trials + 1)
        if p in (0.0, 1.0):
            return (k == trials * p).astype(float)
        return np.exp(logs[trials] - logs[k] - logs[trials - k] + k * math.log(p) + (trials - k) * math.log1p(-p))

    total = 0.0
    mass = binomial(n, share)
    for discordant in map(int, np.flatnonzero(mass > 1e-9)):
        # As many of the smaller count as keep the doubled tail within the level are rejected, on both sides.
        rejected = min(int((2 * np.cumsum(binomial(discordant, 0.5)) <= level * (1 + 1e-9)).sum()), (discordant + 1) // 2)
        if rejected:
            outcomes = binomial(discordant, favoured)
            total += mass[discordant] * float(outcomes[:rejected].sum() + outcomes[discordant + 1 - rejected :].sum())
    return float(min(total, 1.0))


def _first(enough: Any, most: int) -> int | None:
    """The smallest count that is enough, by doubling and bisection; power rises with the count but for the last digits."""
    high = 1
    while not enough(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _smallest(reached: Any, least: float, most: float, power: float) -> float | None:
    """The smallest difference from ``least`` to ``most`` that reaches the power."""
    if reached(most) < power:
        return None
    low, high = least, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return high
