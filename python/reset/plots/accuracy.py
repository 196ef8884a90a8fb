"""The figure of accuracies: one row per arm, its interval, and what became of its samples.

::

    NVFP4            ├──●──┤ 59.9 % [55, 65]
                 ████████████████▨▨▨░░░░░░░░       correct, truncated, unparsed, wrong: exclusive
    NVFP4 + ReSET      ├──●──┤ 62.5 % [57, 68]
                 █████████████████▨░░░░░░░░░

Intervals of two arms may overlap although a paired test tells them apart: the same problems are hard for both.
:func:`~reset.plots.plot_differences` shows that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from reset.plots import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class HasAccuracy(Protocol):
    """What is drawn of a :class:`reset.EvalResult`; ``counts`` and ``partial`` may be absent."""

    @property
    def accuracy(self) -> float: ...
    @property
    def ci95(self) -> tuple[float, float]: ...


# Colour and hatch. Lightness rises from correct to wrong, so the strip reads in grey too.
_OUTCOMES: Final = {
    "correct": (_style.BLUE, ""),
    "truncated": (_style.ORANGE, "////"),
    "unparsed": (_style.PURPLE, "...."),
    "wrong": (_style.LIGHT, ""),
}


def plot_accuracy(results: Mapping[str, HasAccuracy] | HasAccuracy, ax: Axes | None = None, *, counts: bool = True) -> Axes:
    """Draws the accuracy of every arm with its 95 % interval, and below it the shares of its samples by outcome.

    Args:
        results: name of the arm → :class:`reset.EvalResult` (anything with ``accuracy``, ``ci95``, and perhaps ``counts``: outcome →
            number of samples), in the order of the rows; or one such result.
        ax: where; None makes a figure (``ax.figure.savefig(…)`` writes it). ``ax.set_xlim`` zooms in.
        counts: draw the strip of outcomes of arms that have ``counts``.

    Returns:
        The axes; x is a share from 0 to 1, y the number of the arm from the top.

    Raises:
        ImportError: without matplotlib (``pip install 'reset-nvfp4[plot]'``).
        ValueError: no result.
    """
    arms: dict[str, Any] = {str(k): v for k, v in results.items()} if isinstance(results, Mapping) else {"": results}
    if not arms:
        raise ValueError("plot_accuracy needs at least one result, got an empty mapping")
    if ax is None:
        ax = _style.new_axes("plot_accuracy", 7.5, 1.3 + _style.ROW_INCHES * len(arms))
    strips = {row: arm.counts for row, arm in enumerate(arms.values()) if counts and sum((getattr(arm, "counts", None) or {}).values())}
    _style.arms_axis(ax, list(arms))
    ax.set_xlim(0, 1)
    ax.grid(axis="x", color=_style.LIGHT, linewidth=0.6)
    ax.set_axisbelow(True)
    height = _style.row_points(ax, len(arms))
    _strips(ax, strips, height)
    for row, arm in enumerate(arms.values()):
        # With a strip below it, the point stands a little higher, its number above it.
        _point(ax, row + (0.02 if row in strips else 0.1), arm, height)
    _style.percent_axis(ax.xaxis)
    _style.shrink_ticks(ax, axis="x")
    _style.name_axes(ax, x="accuracy, 95 % interval" + (";\nbelow it, shares of samples" if strips else ""))
    return ax


def _point(ax: Axes, y: float, arm: Any, height: float) -> None:
    low, high = (float(bound) for bound in arm.ci95)
    accuracy = float(arm.accuracy)
    if math.isnan(accuracy):
        ax.text(0.01, y, "no samples yet", va="center", fontsize="small", color=_style.GREY)
        return
    partial = bool(getattr(arm, "partial", False))
    ax.errorbar(
        accuracy, y, xerr=[[max(accuracy - low, 0)], [max(high - accuracy, 0)]], fmt="o", color=_style.BLACK, capsize=min(4.0, height / 10),
        linewidth=min(1.3, height / 12), markersize=min(6.0, max(height / 5, 2.2)), markerfacecolor="white" if partial else _style.BLACK,
        zorder=3, clip_on=False,
    )  # fmt: skip
    if height >= 18:
        text = f"{accuracy:.1%} [{100 * low:.1f}, {100 * high:.1f}]" + (", partial" if partial else "")
        side = "left" if accuracy < 0.2 else "right" if accuracy > 0.8 else "center"
        anchor = {"left": max(low, 0.0), "center": accuracy, "right": min(high, 1.0)}[side]
        size = "small" if height >= 30 and not _style.narrow(ax) else "x-small"
        ax.text(anchor, y - 0.16, text, ha=side, va="bottom", fontsize=size, zorder=2.5, bbox=_style.ON_WHITE)


def _strips(ax: Axes, strips: Mapping[int, Mapping[str, int]], height: float) -> None:
    """Stacked shares. Outcomes of other names than the four go behind them, in grey tones, so that none is lost."""
    if not strips:
        return
    names = [*_OUTCOMES, *dict.fromkeys(name for counts in strips.values() for name in counts if name not in _OUTCOMES)]
    handles: dict[str, Any] = {}
    for row, counts in strips.items():
        total, left = sum(counts.values()), 0.0
        for name in names:
            share = counts.get(name, 0) / total
            colour, hatch = _OUTCOMES.get(name, (_style.GREY, "xxxx"))
            # In thin strips a hatch would be all that is seen.
            bars = ax.barh(
                row + 0.3, share, left=left, height=0.24, color=colour, hatch=hatch if height >= 18 else "", edgecolor="white",
                linewidth=min(0.6, height / 60), zorder=2,
            )  # fmt: skip
            handles.setdefault(name, bars)
            left += share
    _style.legend_above(ax, list(handles.values()), [_style.legend_name(name) for name in handles], columns=4)
