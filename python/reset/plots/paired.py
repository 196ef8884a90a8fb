"""The figure of paired differences: a forest plot, one row per comparison.

::

    ReSET − fixed 0.6             ┆  ├───▶───┤    +2.6 points, p = 0.004
    NVFP4 − BF16       ├───◀───┤  ┆               −5.2 points, p = 0.001
    ReSET − threshold         ├───○───┤           +0.4 points, p = 0.71
                                  0
                         ← worse     better →

The marker says the verdict: a filled arrow to the right is *better*, to the left *worse*, a hollow circle *undecided*. The grey
bar around zero reaches as far as the smallest difference that the comparison could have detected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from reset.plots import _style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes


class HasDifference(Protocol):
    """What is drawn of a ``reset.compare`` result; ``p_value``, ``p_adjusted`` and ``mde`` may be absent."""

    @property
    def difference(self) -> float: ...
    @property
    def ci95(self) -> tuple[float, float]: ...
    @property
    def verdict(self) -> str: ...


# verdict: marker, colour, filled
_VERDICTS: Final[dict[str, tuple[str, str, bool]]] = {
    "better": (">", _style.BLUE, True),
    "worse": ("<", _style.VERMILION, True),
    "undecided": ("o", _style.BLACK, False),
}


def plot_differences(comparisons: Mapping[str, HasDifference] | Sequence[HasDifference] | HasDifference, ax: Axes | None = None) -> Axes:
    """Draws paired differences in accuracy with their 95 % intervals and a line at zero.

    Args:
        comparisons: label → what :func:`reset.compare` returned (anything with ``difference``, ``ci95`` and ``verdict``), in the order
            of the rows; or a sequence of them, labelled by their ``label`` if they have one, else numbered; or a single one.
        ax: where; None makes a figure.

    Returns:
        The axes; x is a difference as a share (0.01 is one percentage point), y the number of the comparison from the top.

    Raises:
        ImportError: without matplotlib (``pip install 'reset-nvfp4[plot]'``).
        ValueError: no comparison, or a verdict other than better, worse and undecided.
    """
    rows = _labelled(comparisons)
    if ax is None:
        ax = _style.new_axes("plot_differences", 7.5, 1.3 + _style.ROW_INCHES * len(rows))
    _style.arms_axis(ax, [name for name, _ in rows])
    height = _style.row_points(ax, len(rows))
    ax.grid(axis="x", color=_style.LIGHT, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.axvline(0, color=_style.BLACK, linewidth=1, linestyle="--", zorder=1.5)
    seen: dict[str, Any] = {}
    reach = _limits(ax, [row for _, row in rows])
    for y, (name, row) in enumerate(rows):
        if row.verdict not in _VERDICTS:
            raise ValueError(f"comparison {name!r} has the verdict {row.verdict!r}; known are {', '.join(_VERDICTS)}")
        _detectable(ax, y, row, seen)
        _interval(ax, y, row, height, seen)
        if height >= (22 if _style.narrow(ax) else 18):
            _numbers(ax, y, row, reach, "small" if height >= 30 and not _style.narrow(ax) else "x-small")
    from matplotlib.ticker import FuncFormatter

    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:+.3g}".replace("-", "−") if abs(x) > 1e-12 else "0"))
    _style.shrink_ticks(ax, axis="x")
    _style.name_axes(ax, x="difference in accuracy\n(percentage points, 95 % interval)")
    ax.set_xlabel(f"← worse          better →\n{ax.get_xlabel()}")
    order = [*(name for name in _VERDICTS if name in seen), *(name for name in seen if name not in _VERDICTS)]
    _style.legend_above(ax, [seen[name] for name in order], order)
    return ax


def _labelled(comparisons: Any) -> list[tuple[str, Any]]:
    if isinstance(comparisons, Mapping):
        rows = [(str(name), row) for name, row in comparisons.items()]
    elif hasattr(comparisons, "difference"):
        rows = [(str(getattr(comparisons, "label", "")), comparisons)]
    else:
        rows = [(str(getattr(row, "label", None) or f"comparison {i}"), row) for i, row in enumerate(comparisons, 1)]
    if not rows:
        raise ValueError("plot_differences needs at least one comparison, got none")
    return rows


def _detectable(ax: Axes, y: int, row: Any, seen: dict[str, Any]) -> None:
    mde = getattr(row, "mde", None)
    if mde is not None and math.isfinite(mde):
        bar = ax.barh(y + 0.1, 2 * mde, left=-mde, height=0.3, color=_style.LIGHT, zorder=1, linewidth=0)
        seen.setdefault("smallest detectable", bar)


def _interval(ax: Axes, y: int, row: Any, height: float, seen: dict[str, Any]) -> None:
    marker, colour, filled = _VERDICTS[row.verdict]
    low, high = (float(bound) for bound in row.ci95)
    difference = float(row.difference)
    drawn = ax.errorbar(
        difference, y + 0.1, xerr=[[max(difference - low, 0)], [max(high - difference, 0)]], fmt=marker, color=colour,
        markerfacecolor=colour if filled else "white", markersize=min(8.0, height / 4),
        capsize=min(4.0, height / 10), linewidth=1.5, zorder=3,
    )  # fmt: skip
    seen.setdefault(row.verdict, drawn[0])


def _numbers(ax: Axes, y: int, row: Any, reach: float, size: str) -> None:
    low, high = (float(bound) for bound in row.ci95)
    difference = float(row.difference)
    text = f"{_points(difference)} [{_points(low)}, {_points(high)}]"
    p_value, adjusted = getattr(row, "p_value", None), getattr(row, "p_adjusted", None)
    if adjusted is not None:
        text += f", adjusted {_p(adjusted)}"
    elif p_value is not None:
        text += f", {_p(p_value)}"
    # Near an edge the text begins or ends with the interval, so that it does not leave the axes.
    side, x = ("right", high) if difference > 0.4 * reach else ("left", low) if difference < -0.4 * reach else ("center", difference)
    ax.text(x, y - 0.1, text, ha=side, va="bottom", fontsize=size, zorder=2.5, bbox=_style.ON_WHITE)


def _points(share: float) -> str:
    """Percentage points with their sign; what rounds to nothing has none."""
    text = f"{100 * share:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _limits(ax: Axes, rows: list[Any]) -> float:
    """Zero in the middle: an interval is as far from it as it looks."""
    values = [float(value) for row in rows for value in (*row.ci95, row.difference, getattr(row, "mde", None) or 0.0)]
    reach = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 0.01
    ax.set_xlim(-1.12 * reach, 1.12 * reach)
    return reach
