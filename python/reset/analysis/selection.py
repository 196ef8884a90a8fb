r"""Positions chosen by entropy, without the circle.

"Where model a is certain, quantization raises the entropy; where it is uncertain, it lowers it." Found everywhere, and true of pure noise.
Let each arm's entropy be the truth plus noise of its own, ``a = h + e``, ``b = h + f``. Choose the positions where a is low: among them are
those where ``e`` happened to be low, ``f`` knows nothing of that, and ``b`` comes out higher than ``a``. Nothing was changed by
anything (regression to the mean). Chosen by b, the same positions show the opposite.

Chosen by the *mean* ``(a + b) / 2`` the two noises enter alike, and

.. math:: \mathrm{cov}(b - a, \tfrac{a + b}{2}) = \tfrac12 (\mathrm{var}\,b - \mathrm{var}\,a)

is 0 where both arms scatter alike. Only that: an arm whose entropies really scatter more is above the mean at the top and below it at the
bottom (Bland & Altman 1986 on the same plot for two thermometers). Such a fan is a difference of the spreads, not of a mechanism; classes
by grammar, which no output decides, are free of both.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> h = rng.exponential(0.5, 100_000)
>>> a, b = h + rng.normal(0, 0.2, h.size), h + rng.normal(0, 0.2, h.size)      # the arms do not differ
>>> low = a < np.quantile(a, 0.1)
>>> bool((b - a)[low].mean() > 0.1)                                          # chosen by one arm: a shift out of nothing
True
>>> low = (a + b) / 2 < np.quantile((a + b) / 2, 0.1)
>>> bool(abs((b - a)[low].mean()) < 0.01)                                    # chosen by the mean: none
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reset.analysis.comparison import check_same_texts, class_shifts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from reset.analysis.scoring import Scores


def entropy_bins(a: Scores, b: Scores, *, bins: int = 10, edges: Sequence[float] | None = None) -> dict[str, NDArray[np.bool_]]:
    """Positions by the mean of both models' entropies.

    Args:
        a, b: scores of the same texts. There is no way to choose by one of them.
        bins: how many, each with as many positions (ties stay together, so that bins may be fewer).
        edges: nats between bins, instead of ``bins``: ``[0.01, 0.1, 1]`` gives four.

    Returns:
        The bin's range in nats → bool ``[positions]``; every position is in exactly one.

    Raises:
        ValueError: other texts, fewer than one bin, edges that do not rise.
    """
    check_same_texts(a, b)
    mean = (a.entropy + b.entropy) / 2
    if edges is None:
        if bins < 1:
            raise ValueError(f"bins = {bins} is not possible: give an integer from 1 on")
        inner = np.unique(np.quantile(mean, np.arange(1, bins) / bins)) if bins > 1 else np.empty(0)
    else:
        inner = np.asarray(edges, np.float64)
        if (np.diff(inner) <= 0).any() or not np.isfinite(inner).all():
            raise ValueError(f"edges = {list(edges)} is not possible: give finite nats in rising order")
    place = np.searchsorted(inner, mean, side="right")
    ends = [0.0, *inner.tolist(), float(mean.max())]
    found = {}
    for index in range(len(inner) + 1):
        mask = place == index
        if mask.any():
            found[f"{ends[index]:.3g} to {ends[index + 1]:.3g}"] = mask
    return found


def entropy_shifts(
    a: Scores, b: Scores, *, bins: int = 10, edges: Sequence[float] | None = None, test: bool = True
) -> list[dict[str, Any]]:
    """:func:`class_shifts` over :func:`entropy_bins`, with ``entropy_mean``: the mean of both models' entropies in the bin."""
    rows = class_shifts(a, b, entropy_bins(a, b, bins=bins, edges=edges), test=test)
    for row in rows:
        row["entropy_mean"] = (row["entropy_a"] + row["entropy_b"]) / 2
    return rows
