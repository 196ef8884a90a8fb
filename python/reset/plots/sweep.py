"""The figure of a search for a temperature: accuracy on the tuning split over T_low, with fixed temperatures beside.

::

    accuracy   ├●┤        ★ the best
        │          ├★┤
        │               ├●┤      ● ReSET, its T_low on the axis
        │               ├●┤      ■ fixed temperature
        │     ├■┤   ├■┤
        └──────────────────── temperature
           0.1   0.3   0.6

The star is the best point, or each of several that are equally good. It is the best of many and therefore flattered: the test split,
which the search never saw, says how good it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from reset.plots import _style

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes

# Name of a policy in records: the words for it, and the parameter on the axis.
_SWEPT: Final = {
    "reset": ("ReSET (T_low)", "t_low"),
    "entropy-threshold": ("entropy threshold (T_low)", "t_low"),
    "fixed": ("fixed (T)", "t"),
    "greedy": ("greedy (T = 0)", None),
}

_SIGNS: Final = {"tau_0": "τ₀", "t_high": "T_high"}


@dataclass(frozen=True)
class _Point:
    series: str
    x: float | None  # None: a policy without a temperature of its own, drawn across the axes
    accuracy: float
    low: float
    high: float


def plot_sweep(table: Iterable[Any], ax: Axes | None = None) -> Axes:
    """Draws accuracy with its 95 % interval over the temperature that was searched: T_low, or T of fixed temperatures.

    Args:
        table: one row per policy, dicts or objects, with ``policy`` (a :class:`reset.Policy`, or the dict that records it), ``accuracy``,
            ``ci95``, and perhaps ``name``. Rows of one kind of policy that differ in other parameters too (τ_0, say) make a series
            each. Policies without such a temperature (written in Python) are lines across.
        ax: where; None makes a figure.

    Returns:
        The axes; x is a temperature, y a share from 0 to 1. Series are moved sideways a little where they would cover each other.

    Raises:
        ImportError: without matplotlib (``pip install 'reset-nvfp4[plot]'``).
        ValueError: no row.
    """
    points = _points(list(table))
    if not points:
        raise ValueError("plot_sweep needs at least one row, got none")
    if ax is None:
        ax = _style.new_axes("plot_sweep", 7.0, 4.4)
    names = list(dict.fromkeys(point.series for point in points))
    at = {(point.series, point.x): _beside(point, points, names) for point in points if point.x is not None}
    handles: list[Any] = []
    for number, name in enumerate(names):
        handles.append(_series(ax, [point for point in points if point.series == name], at, number))
    labels = [_style.legend_name(name) for name in names]
    best = max(point.accuracy for point in points)
    stars = [at[point.series, point.x] for point in points if point.x is not None and point.accuracy == best]
    if stars:
        ax.plot(stars, [best] * len(stars), marker="*", linestyle="none", color=_style.BLACK, markersize=17, zorder=2.5)
        handles += ax.plot([], [], marker="*", linestyle="none", color=_style.BLACK, markersize=9)
        labels.append(f"best: {best:.1%}")
    _axes(ax, list(at.values()))
    _style.legend_above(ax, handles, labels)
    return ax


def _axes(ax: Axes, places: list[float]) -> None:
    _style.percent_axis(ax.yaxis)
    if places:
        edge = max(0.06 * (max(places) - min(places)), 0.05)
        ax.set_xlim(min(places) - edge, max(places) + edge)
    else:
        ax.set_xticks([])
    _style.name_axes(ax, x="temperature", y="accuracy, 95 % interval")
    _style.shrink_ticks(ax)
    ax.grid(color=_style.LIGHT, linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _beside(point: _Point, points: list[_Point], names: list[str]) -> float:
    """Where a point is drawn: series with a point at one temperature stand side by side there."""
    here = [name for name in names if any(other.series == name and other.x == point.x for other in points)]
    reach = max(max(other.x for other in points if other.x is not None), 0.1)
    return (point.x or 0.0) + (here.index(point.series) - (len(here) - 1) / 2) * 0.015 * reach


def _series(ax: Axes, points: list[_Point], at: Mapping[tuple[str, float], float], number: int) -> Any:
    colour = _style.ARM_COLOURS[number % len(_style.ARM_COLOURS)]
    line = _style.ARM_LINES[number % len(_style.ARM_LINES)]
    if points[0].x is None:
        return ax.axhline(points[0].accuracy, color=colour, linestyle=line, linewidth=1.4)
    ordered = sorted(points, key=lambda point: point.x or 0.0)
    drawn = ax.errorbar(
        [at[point.series, point.x or 0.0] for point in ordered], [point.accuracy for point in ordered],
        yerr=[[max(point.accuracy - point.low, 0) for point in ordered], [max(point.high - point.accuracy, 0) for point in ordered]],
        color=colour, marker=_style.ARM_MARKERS[number % len(_style.ARM_MARKERS)], linestyle=line, linewidth=1.1, elinewidth=1.4, capsize=3,
        markersize=6, zorder=3,
    )  # fmt: skip
    for bar in drawn[2]:
        bar.set_linestyle("-")
    return drawn[0]


def _points(rows: list[Any]) -> list[_Point]:
    records = [_record(_get(row, "policy")) for row in rows]
    points = []
    for row, record in zip(rows, records, strict=True):
        kind = record.get("policy")
        words, parameter = _SWEPT.get(str(kind), ("", None))
        others = {
            key for other in records if other.get("policy") == kind for key in record if key != parameter and other.get(key) != record[key]
        }
        if kind not in _SWEPT:
            words = str(_get(row, "name", None) or record.get("repr") or record.get("class") or kind)
        else:
            words += "".join(f", {_SIGNS.get(key, key)} {record[key]:.4g}" for key in sorted(others))
        x = 0.0 if kind == "greedy" else None if parameter is None else float(record[parameter])
        low, high = _get(row, "ci95")
        points.append(_Point(words, x, float(_get(row, "accuracy")), float(low), float(high)))
    return points


def _record(policy: Any) -> dict[str, Any]:
    from reset.policies import to_dict

    return dict(policy) if isinstance(policy, Mapping) else to_dict(policy)


def _get(row: Any, name: str, *default: Any) -> Any:
    if isinstance(row, Mapping):
        return row.get(name, *default) if default else row[name]
    return getattr(row, name, *default)
