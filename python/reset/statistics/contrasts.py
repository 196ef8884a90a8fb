r"""A contrast of contrasts: does b gain more over a than d gains over c, on the same problems?

The usual question is of four arms: a policy against none under one precision, and the same under another. "Significant here, not
significant there" does not answer it (Gelman & Stern 2006); the interval of (b − a) − (d − c) does.

The interval joins the intervals of both differences by square-and-add (Newcombe 1998; Zou & Donner 2008). With differences δ, their
intervals [l, h] and the correlation r of their per-problem values,

.. math:: \mathrm{low} = \delta_1 - \delta_2 - \sqrt{(\delta_1 - l_1)^2 + (h_2 - \delta_2)^2 - 2r(\delta_1 - l_1)(h_2 - \delta_2)}

and the upper end likewise. So it has width wherever those have, also if nothing differs. r carries a quarter in each sum of squares, as in
:mod:`reset.statistics.intervals`. The test flips signs of the problems' contrasts of contrasts.

>>> from reset.statistics import interaction
>>> a, b, c, d = ([1] * wins + [0] * (100 - wins) for wins in (60, 90, 60, 62))
>>> i = interaction((a, 1), (b, 1), (c, 1), (d, 1))
>>> round(i.difference, 9), i.verdict
(0.28, 'better')
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reset.statistics._counts import normal_quantile, sampled_in_all
from reset.statistics.differences import discordance, tango_bounds
from reset.statistics.intervals import PSEUDO, Interval
from reset.statistics.pairs import LEVEL, verdict
from reset.statistics.significance import sign_flip

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Interaction:
    """The difference of two differences.

    Attributes:
        difference: (b − a) − (d − c), in accuracy, over the problems that all four arms sampled.
        ci95: its 95 % interval, within [−2, 2].
        p_value: two-sided, sign-flip permutation.
        test: "sign-flip permutation".
        verdict: "better" (b gains more over a than d over c) or "worse" if ``p_value`` is at most 0.05 and the interval excludes 0, else
            "undecided".
        first: b − a.
        second: d − c.
        problems: problems compared.
    """

    difference: float
    ci95: Interval
    p_value: float
    test: str
    verdict: str
    first: float
    second: float
    problems: int

    def to_dict(self) -> dict[str, Any]:
        """The attributes; the interval as a list of two."""
        return {**asdict(self), "ci95": list(self.ci95)}


def interaction(
    a: tuple[ArrayLike, ArrayLike],
    b: tuple[ArrayLike, ArrayLike],
    c: tuple[ArrayLike, ArrayLike],
    d: tuple[ArrayLike, ArrayLike],
    *,
    draws: int = 100_000,
    seed: int = 0,
) -> Interaction:
    """(b − a) − (d − c) with interval and test.

    Args:
        a: correct samples ``[P]`` and samples (``[P]`` or one number) of an arm; all arms have the same problems in the same order.
            Problems that an arm did not sample are left out.
        b: as ``a``.
        c: as ``a``; may be the same arm as ``a``.
        d: as ``a``.
        draws: random patterns of the sign-flip test.
        seed: of these draws.

    Raises:
        ValueError: impossible counts, different numbers of problems, or no problem sampled in all arms.
    """
    arms = (a, b, c, d)
    shares, samples, _ = sampled_in_all("abcd", [arm[0] for arm in arms], [arm[1] for arm in arms])
    low, high = interaction_bounds(shares, samples, normal_quantile(LEVEL))
    interval = Interval(float(low), float(high))
    first, second = shares[1] - shares[0], shares[3] - shares[2]
    p_value = sign_flip(first - second, draws, seed)
    return Interaction(
        difference=float((first - second).mean()),
        ci95=interval,
        p_value=p_value,
        test="sign-flip permutation",
        verdict=verdict(interval, p_value),
        first=float(first.mean()),
        second=float(second.mean()),
        problems=int(first.size),
    )


def interaction_bounds(shares: list[NDArray[Any]], samples: list[NDArray[Any]], z: float) -> tuple[Any, Any]:
    """Ends of the interval for arms a, b, c, d: shares ``[..., P]``, samples ``[P]``."""
    a, b, c, d = shares
    first, second = b - a, d - c
    low_1, high_1 = tango_bounds(discordance(a, samples[0], b, samples[1]), z)
    low_2, high_2 = tango_bounds(discordance(c, samples[2], d, samples[3]), z)
    mean_1, mean_2 = first.mean(axis=-1), second.mean(axis=-1)
    away_1, away_2 = first - mean_1[..., None], second - mean_2[..., None]
    scale = np.sqrt(((away_1**2).sum(axis=-1) + PSEUDO) * ((away_2**2).sum(axis=-1) + PSEUDO))
    correlation = (away_1 * away_2).sum(axis=-1) / scale

    def joined(one: Any, other: Any) -> Any:
        return np.sqrt(np.maximum(one**2 + other**2 - 2 * correlation * one * other, 0.0))

    difference = mean_1 - mean_2
    return difference - joined(mean_1 - low_1, high_2 - mean_2), difference + joined(high_1 - mean_1, mean_2 - low_2)
