"""The figures of an analysis of mechanisms.

:func:`plot_shifts`          one row per class of positions: by how much each model's entropy differs from the reference's
:func:`plot_digits`          the probability that all result digits are right, over the temperature, beside measured accuracies
:func:`plot_paired_entropy`  the difference of two models' entropies over their mean: one point cloud as quantiles

All take rows or scores of :mod:`reset.analysis` and compute nothing that is not in its tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from reset.plots import _style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_MEASURES: Final = {
    "entropy": "entropy, nats",
    "surprisal": "surprisal of the token that stands there, nats",
    "overconfidence": "overconfidence (surprisal − entropy), nats",
    "wrong": "share where another token is more probable",
}
_QUANTILES: Final = (5, 25, 50, 75, 95)


def plot_shifts(
    rows: Mapping[str, Sequence[Mapping[str, Any]]] | Sequence[Mapping[str, Any]], ax: Axes | None = None, *, measure: str = "entropy",
    reference: str = "reference",
) -> Axes:  # fmt: skip
    """Draws the shift of one measure by class of position, with 95 % intervals.

    Args:
        rows: name of the model → rows of :func:`reset.analysis.class_shifts`; or the rows of one model.
        ax: where; None makes a figure.
        measure: "entropy", "surprisal", "overconfidence" or "wrong".
        reference: name of the model that the shifts are against, for the axis.

    Raises:
        ImportError: without matplotlib (``pip install 'reset-nvfp4[plot]'``).
        ValueError: no rows, an unknown measure.
    """
    if measure not in _MEASURES:
        raise ValueError(f"measure = {measure!r} is not possible: choose {', '.join(_MEASURES)}")
    models = {str(k): list(v) for k, v in rows.items()} if isinstance(rows, Mapping) else {"": list(rows)}
    names = list(dict.fromkeys(row["group"] for some in models.values() for row in some))
    if not names:
        raise ValueError("plot_shifts needs at least one row, got none")
    counts = {row["group"]: row["positions"] for some in models.values() for row in some}
    if ax is None:
        ax = _style.new_axes("plot_shifts", 7.5, 1.2 + 0.36 * len(names))
    _style.arms_axis(ax, [f"{name} ({counts[name]:,})" for name in names])
    ax.axvline(0, color=_style.BLACK, linewidth=0.8)
    handles = []
    for number, some in enumerate(models.values()):
        offset = 0.24 * (number - (len(models) - 1) / 2) / max(1, (len(models) - 1) / 2)
        places = [names.index(row["group"]) + (offset if len(models) > 1 else 0.0) for row in some]
        shifts = np.array([row[f"{measure}_shift"] for row in some])
        # A class with one problem has no interval: its point stands alone.
        low, high = (np.array([row[f"{measure}_{end}"] for row in some], np.float64) for end in ("low", "high"))
        reach = np.nan_to_num([shifts - low, high - shifts])
        marker, colour = _style.ARM_MARKERS[number % len(_style.ARM_MARKERS)], _style.ARM_COLOURS[number % len(_style.ARM_COLOURS)]
        handles.append(ax.errorbar(shifts, places, xerr=reach, fmt=marker, markersize=4.5, linewidth=1.2, color=colour, capsize=2.5))
    ax.grid(axis="x", color=_style.LIGHT, linewidth=0.6)
    ax.set_axisbelow(True)
    _style.name_axes(ax, x=f"{_MEASURES[measure]}:\nmodel − {_style.plain(reference)}, 95 % interval")
    _style.shrink_ticks(ax, axis="x")
    if any(models):
        _style.legend_above(ax, handles, [_style.legend_name(name) for name in models])
    return ax


def plot_digits(
    rows: Iterable[Mapping[str, Any]], ax: Axes | None = None, *, accuracies: Iterable[Mapping[str, Any]] = (), per: str = "trace"
) -> Axes:
    """Draws the probability that all result digits of a trace are right over the temperature, beside measured accuracies.

    Args:
        rows: of :func:`reset.analysis.result_digits`, of one model or several. Fixed temperatures (rules whose name begins with "T=") are
            joined by a line; other rules (policies) are filled points at their mean temperature. A band, the 95 % interval, is drawn
            for a single model: those of several overlap although the same problems are hard for all (see the rows' paired ``shift``).
        ax: where; None makes a figure.
        accuracies: dicts with ``model``, ``temperature``, ``accuracy``, ``low``, ``high``: open points.
        per: "trace", "equation" or "digit".

    Raises:
        ImportError: without matplotlib (``pip install 'reset-nvfp4[plot]'``).
        ValueError: no rows, an unknown ``per``.
    """
    if per not in ("trace", "equation", "digit"):
        raise ValueError(f"per = {per!r} is not possible: choose trace, equation or digit")
    models: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        models.setdefault(row["model"], []).append(row)
    if not models:
        raise ValueError("plot_digits needs at least one row, got none")
    if ax is None:
        ax = _style.new_axes("plot_digits", 7.0, 4.4)
    measured = list(accuracies)
    handles: list[Any] = []
    labels: list[str] = []
    for number, (model, some) in enumerate(models.items()):
        colour = _style.ARM_COLOURS[number % len(_style.ARM_COLOURS)]
        marker = _style.ARM_MARKERS[number % len(_style.ARM_MARKERS)]
        fixed = sorted((row for row in some if row["rule"].startswith("T=")), key=lambda row: row["temperature"])
        x, y = [row["temperature"] for row in fixed], [row[per] for row in fixed]
        (line,) = ax.plot(x, y, color=colour, linestyle=_style.ARM_LINES[number % len(_style.ARM_LINES)], linewidth=1.6)
        if per == "trace" and len(models) == 1:
            ax.fill_between(
                x, [row["trace_low"] for row in fixed], [row["trace_high"] for row in fixed], color=colour, alpha=0.12, linewidth=0
            )
        handles.append(line)
        labels.append(_style.legend_name(model))
        policies = [row for row in some if not row["rule"].startswith("T=")]
        for row in policies:
            ax.plot(row["temperature"], row[per], marker=marker, color=colour, markersize=7, linestyle="none", zorder=4)
            if number:
                continue  # the same rules of other models have other markers
            ax.annotate(
                _style.plain(row["rule"]), (row["temperature"], row[per]), xytext=(5, 4), textcoords="offset points", fontsize="x-small",
                zorder=5, bbox=_style.ON_WHITE,
            )  # fmt: skip
        own = [row for row in measured if row["model"] == model]
        beside = 0.008 * (number - (len(models) - 1) / 2)  # arms of several models often share a temperature
        for row in own:
            bar = ax.errorbar(
                row["temperature"] + beside, row["accuracy"],
                yerr=[[max(row["accuracy"] - row["low"], 0)], [max(row["high"] - row["accuracy"], 0)]],
                fmt=marker, color=colour, markerfacecolor="white", markersize=6, capsize=2.5, linewidth=1.0, zorder=3,
            )  # fmt: skip
        if own:
            handles.append(bar)
            labels.append(_style.legend_name(f"{model}, accuracy"))
    _style.percent_axis(ax.yaxis)
    what = {"trace": "all result digits of a trace", "equation": "all result digits of an equation", "digit": "a result digit"}[per]
    _style.name_axes(ax, x="temperature (of a policy: its mean at result digits;\nof an accuracy: over all tokens)", y=f"P({what} right)")
    _style.shrink_ticks(ax)
    ax.grid(color=_style.LIGHT, linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    _style.legend_above(ax, handles, labels)
    return ax


def plot_paired_entropy(a: Any, b: Any, ax: Axes | None = None, *, bins: int = 24, floor: float = 1e-3) -> Axes:
    """Draws the difference of two models' entropies over the mean of both: median and quantiles in bins of equal counts.

    The mean of both is the axis, because over the entropies of one model the other regresses to the mean
    (:mod:`reset.analysis.selection`).

    Args:
        a, b: :class:`reset.analysis.Scores` of the same texts; the difference is b − a.
        ax: where; None makes a figure.
        bins: how many, of equally many positions.
        floor: nats below which the horizontal axis is linear.

    Raises:
        ImportError: without matplotlib (``pip install 'reset-nvfp4[plot]'``).
        ValueError: scores of other texts.
    """
    if len(a) != len(b):
        raise ValueError(f"{a.name!r} has {len(a)} positions and {b.name!r} {len(b)}: score both on the same texts")
    if ax is None:
        ax = _style.new_axes("plot_paired_entropy", 7.0, 4.2)
    mean, difference = (a.entropy + b.entropy) / 2, b.entropy - a.entropy
    edges = np.quantile(mean, np.linspace(0, 1, bins + 1))
    place = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, bins - 1)
    used = [index for index in range(bins) if (place == index).any()]
    x = np.array([np.median(mean[place == index]) for index in used])
    q = np.array([np.percentile(difference[place == index], _QUANTILES) for index in used]).T
    averages = [difference[place == index].mean() for index in used]
    ax.set_xscale("symlog", linthresh=floor, linscale=0.35)
    outer = ax.fill_between(x, q[0], q[4], color=_style.SKY, alpha=0.25, linewidth=0)
    inner = ax.fill_between(x, q[1], q[3], color=_style.BLUE, alpha=0.35, linewidth=0)
    (median,) = ax.plot(x, q[2], color=_style.BLUE, linewidth=1.6)
    (average,) = ax.plot(x, averages, color=_style.VERMILION, linewidth=1.2, linestyle="--", marker="o", markersize=3)
    ax.axhline(0, color=_style.BLACK, linewidth=0.8)
    ax.set_xlim(0, float(x.max()) * 1.1 if x.max() > floor else floor)
    ax.set_xticks([tick for tick in (0, 1e-3, 1e-2, 1e-1, 1, 10) if tick == 0 or floor <= tick <= x.max() * 1.1])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_locator(_no_ticks())
    _style.name_axes(ax, x="mean of both entropies, nats", y=f"entropy of {_style.plain(b.name)}\n− {_style.plain(a.name)}, nats")
    _style.shrink_ticks(ax)
    ax.grid(color=_style.LIGHT, linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    _style.legend_above(ax, [median, inner, outer, average], ["median", "half of the positions", "90 %", "mean"])
    return ax


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()
