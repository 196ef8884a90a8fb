"""Checking of the counts that every statistic starts from: correct samples and samples of each problem."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def counts(correct: ArrayLike, samples: ArrayLike, *, names: tuple[str, str] = ("correct", "samples")) -> tuple[Any, Any]:
    """Both as int64 ``[P]``; ``samples`` may be one number for all problems.

    Raises:
        ValueError: no problem, different lengths, negative or fractional counts, more correct than samples.
    """
    right, total = _whole(correct, names[0]), _whole(samples, names[1])
    if right.ndim != 1:
        raise ValueError(f"{names[0]}: shape {right.shape}, expected [problems], one count per problem")
    if total.ndim == 0:
        total = np.broadcast_to(total, right.shape)
    if total.shape != right.shape:
        raise ValueError(f"{names[0]} has {right.shape[0]} problems and {names[1]} has shape {total.shape}: one count each per problem")
    if right.size == 0:
        raise ValueError(f"{names[0]}: no problems; at least one is needed")
    for index in np.flatnonzero((right < 0) | (right > total)):
        raise ValueError(f"problem at index {index}: {right[index]} correct of {total[index]} samples is not possible")
    return right, total


def sampled(correct: ArrayLike, samples: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per problem that has samples, in order: share of correct samples, and number of samples. Problems without samples are left out.

    Raises:
        ValueError: as :func:`counts`, or no problem has a sample.
    """
    right, total = counts(correct, samples)
    has = total > 0
    if not has.any():
        raise ValueError("no problem has a sample: there is nothing to estimate")
    return right[has] / total[has], total[has].astype(np.float64)


def sampled_in_all(
    names: Sequence[str], correct: Sequence[ArrayLike], samples: Sequence[ArrayLike]
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], NDArray[np.bool_]]:
    """Per arm the shares of correct samples and the samples, ``[kept]`` each, over problems that every arm sampled; and which were kept.

    Raises:
        ValueError: as :func:`counts`, arms with different numbers of problems, or no problem that every arm sampled.
    """
    arms = [counts(c, s, names=(f"correct_{name}", f"samples_{name}")) for name, c, s in zip(names, correct, samples, strict=True)]
    sizes = {name: right.size for name, (right, _) in zip(names, arms, strict=True)}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"arm {name} has {size}" for name, size in sizes.items())
        raise ValueError(
            f"arms with different problems: {found}; give the same problems in the same order, with 0 samples where one is missing"
        )
    kept = np.logical_and.reduce([total > 0 for _, total in arms])
    if not kept.any():
        raise ValueError("no problem has samples in every arm: there is nothing to compare")
    totals = [total[kept].astype(np.float64) for _, total in arms]
    return [right[kept] / total for (right, _), total in zip(arms, totals, strict=True)], totals, kept


def normal_quantile(level: float) -> float:
    """z of a two-sided statement at ``level``: 1.96 for 0.95.

    Raises:
        ValueError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level = {level} is not possible: it has to lie between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf(0.5 + level / 2)


def _whole(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(array.shape, np.int64)
    if array.dtype.kind not in "iub":
        whole = array.astype(np.float64) if array.dtype.kind == "f" else None
        if whole is None or not np.array_equal(whole, np.floor(whole)):
            raise ValueError(f"{name}: {array.dtype} values that are not whole numbers; counts are expected")
    return array.astype(np.int64)
