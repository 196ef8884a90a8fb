r"""Two models on the same positions: differences by class, with intervals clustered by problem.

Tokens of one problem resemble each other, so a class's mean over N positions of C problems has the uncertainty of C problems. With ``y_c``
the sum and ``n_c`` the number of a class's values in problem c, the mean is the ratio of two sums, and its variance (Taylor's, as for any
ratio of cluster totals; Cochran 1977, Sampling Techniques, §6.3 and §9A) that of the residuals:

.. math:: m = \frac{\sum y_c}{\sum n_c}, \qquad
          \mathrm{var}(m) = \frac{C}{C-1} \frac{\sum (y_c - m\,n_c)^2}{(\sum n_c)^2}, \qquad m \pm t_{C-1} \sqrt{\mathrm{var}}

A difference of two models is the mean of the differences at the same positions: what both find hard cancels. Its p-value is the
sign-flip test (:func:`reset.statistics.sign_flip`) of the problems' sums. Rows of many classes and measures are looks at many places:
read p-values as raw, and intervals as sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reset.statistics import sign_flip
from reset.statistics._counts import normal_quantile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from reset.analysis.scoring import Scores

#: Random sign patterns of one test.
DRAWS = 20_000


class ClusteredMean(NamedTuple):
    """A mean with its interval.

    Attributes:
        mean: of all values, each with the same weight.
        low, high: ends of the interval; NaN for a single cluster.
        values: how many.
        clusters: in how many clusters.
    """

    mean: float
    low: float
    high: float
    values: int
    clusters: int


def clustered_mean_of(values: ArrayLike, clusters: ArrayLike, level: float = 0.95) -> ClusteredMean:
    """Mean of values that come in clusters, with the interval of the module.

    Args:
        values: finite numbers, ``[N]``.
        clusters: which cluster each belongs to: any integers, ``[N]``.
        level: of the interval.

    Raises:
        ValueError: no values, other lengths, or values that are not finite.

    >>> clustered_mean_of([1.0, 1.0, 4.0, 2.0], [0, 0, 1, 1])
    ClusteredMean(mean=2.0, low=-10.7..., high=14.7..., values=4, clusters=2)
    """
    sums, counts = _cluster_sums(values, clusters)
    total, mean = counts.sum(), sums.sum() / counts.sum()
    size = len(sums)
    if size == 1:
        return ClusteredMean(float(mean), float("nan"), float("nan"), int(total), 1)
    error = np.sqrt(size / (size - 1) * ((sums - mean * counts) ** 2).sum()) / total
    half = student_quantile(level, size - 1) * error
    return ClusteredMean(float(mean), float(mean - half), float(mean + half), int(total), size)


def _cluster_sums(values: ArrayLike, clusters: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    array, of = np.asarray(values, np.float64), np.asarray(clusters)
    if array.ndim != 1 or array.shape != of.shape or not array.size:
        raise ValueError(f"values of shape {array.shape} and clusters of shape {of.shape}: both have to be [N], with N at least 1")
    if not np.isfinite(array).all():
        raise ValueError("values: some are not finite, so they have no mean")
    _, index = np.unique(of, return_inverse=True)
    return np.bincount(index, array).astype(np.float64), np.bincount(index).astype(np.float64)


def student_quantile(level: float, degrees: int) -> float:
    """Two-sided quantile of Student's t: solved on the exact distribution function, without scipy.

    >>> round(student_quantile(0.95, 1), 3), round(student_quantile(0.95, 10), 3), round(student_quantile(0.95, 10**6), 3)
    (12.706, 2.228, 1.96)
    """
    if degrees > 10_000:
        return normal_quantile(level)
    low, high = 0.0, 1e7  # of 1 degree and level 0.9999999 it is 6e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_within(middle, degrees) < level else (low, middle)
    return (low + high) / 2


def _student_within(t: float, degrees: int) -> float:
    """P(|T| ≤ t): the finite sums for whole degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    theta = np.arctan(t / np.sqrt(degrees))
    cosine, sine = np.cos(theta), np.sin(theta)
    if degrees == 1:
        return float(2 * theta / np.pi)
    odd = degrees % 2
    steps = np.arange(3 if odd else 2, degrees - 1, 2)
    factors = (steps - 1) / steps * cosine**2 if len(steps) else np.empty(0)
    terms = np.cumprod(np.concatenate([[cosine if odd else 1.0], factors]))
    return float(2 / np.pi * (theta + sine * terms.sum()) if odd else sine * terms.sum())


def class_shifts(
    a: Scores, b: Scores, groups: Mapping[str, NDArray[np.bool_]], *, test: bool = True, seed: int = 0
) -> list[dict[str, Any]]:
    """What changes from model a to model b, by class of position.

    Args:
        a, b: scores of the same texts.
        groups: name → bool ``[positions]``: of :meth:`reset.analysis.Positions.groups`, or one's own. They must not be chosen by the output
            of one of the two models alone (:mod:`reset.analysis.selection`).
        test: compute p-values.
        seed: of the tests.

    Returns:
        One dict per group that has positions: ``group``, ``positions``, ``problems``; ``entropy_a``, ``entropy_b``, ``entropy_shift`` with
        ``entropy_low``, ``entropy_high``, ``entropy_p``; the same for ``surprisal`` (of the token that stands there) and
        ``overconfidence`` (surprisal minus entropy); ``wrong_a``, ``wrong_b``: shares of positions where another token is more probable,
        ``wrong_shift`` …; ``flips``: share whose most probable token changes; ``divergence``: mean D(a ‖ b) if b was scored against
        reference a, else None.

    Raises:
        ValueError: scores of other texts, groups of another length.
    """
    check_same_texts(a, b)
    clusters = a.texts.problem_of[a.texts.text_of]
    measures = {
        "entropy": (a.entropy, b.entropy), "surprisal": (a.surprisal, b.surprisal), "overconfidence": (a.overconfidence, b.overconfidence),
        "wrong": (a.rank > 0, b.rank > 0),
    }  # fmt: skip
    flips = a.top != b.top
    against_a = b.divergence_from_reference is not None
    rows = []
    for name, mask in groups.items():
        if np.shape(mask) != (len(a),):
            raise ValueError(f"group {name!r} has shape {np.shape(mask)}, and the scores have {len(a)} positions")
        if not mask.any():
            continue
        here = clusters[mask]
        row: dict[str, Any] = {"group": name, "positions": int(mask.sum()), "problems": len(np.unique(here))}
        for measure, (of_a, of_b) in measures.items():
            first, second = of_a[mask].astype(np.float64), of_b[mask].astype(np.float64)
            found = clustered_mean_of(second - first, here)
            row |= {
                f"{measure}_a": float(first.mean()), f"{measure}_b": float(second.mean()), f"{measure}_shift": found.mean,
                f"{measure}_low": found.low, f"{measure}_high": found.high,
            }  # fmt: skip
            row[f"{measure}_p"] = sign_flip(_cluster_sums(second - first, here)[0], DRAWS, seed) if test else None
        row["flips"] = float(flips[mask].mean())
        row["divergence"] = float(np.mean(b.divergence_from_reference[mask])) if against_a else None  # type: ignore[index]
        rows.append(row)
    return rows


def check_same_texts(a: Scores, b: Scores) -> None:
    """ValueError unless both models read the same texts."""
    if a.texts is not b.texts and a.texts.digest != b.texts.digest:
        raise ValueError(f"{a.name!r} and {b.name!r} were scored on different texts: score both on the same ones")
