"""The figure of token entropies: where their mass lies, for one arm or several.

Most tokens of a reasoning model are nearly certain: half of them have entropies far below 0.01 nats, while the forks that a
temperature policy is about lie around 1. A linear axis shows a spike at 0 and nothing else, a logarithmic one cannot show 0. So
the axis is linear up to a *floor* and logarithmic from there ("symlog"); the first bin holds everything below the floor::

     100 % ┤                      ____────────    share of tokens at or below (the CDF),
      80 % ┤· · · · · · · · ·●─○──                with each arm's percentiles
      50 % ┤· · ·●─○─────────
           ├──────────────────────────────────
           │█ 58 %                                share of tokens in each bin;
           │█▄▁▁▂▂▃▃▃▄▄▅▅▅▅▄▄▃▂▁                  the first one may be cut, its share is written
           0   0.001  0.01  0.1   τ₀  1
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from reset.plots import _style

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

    Values = npt.NDArray[np.float64]

_HISTOGRAM_BAND: Final = 0.42
"""Lower part of the axes that belongs to the histogram; the CDF has the rest."""
_CDF_BOTTOM: Final = 0.5
_BINS_PER_DECADE: Final = 10
_CDF_POINTS: Final = 2000
"""A curve of more points than pixels only makes files large."""


def plot_entropy(
    arms: Any,
    ax: Axes | None = None,
    *,
    tau_0: float | None = None,
    percentiles: Sequence[float] = (50, 80, 95),
    floor: float = 1e-3,
    scale: str = "auto",
) -> Axes:
    """Draws histogram and cumulative distribution of the token entropies of one arm or several, with percentiles.

    Args:
        arms: name of the arm → its entropies: a :class:`reset.Trace`, what :func:`reset.calibrate` returned, an array of nats, or
            a list of those (pooled: every token counts once). Without a mapping: one arm.
        ax: where; None makes a figure.
        tau_0: threshold of a policy in nats, drawn as a vertical line. None: no line.
        percentiles: marked on the curves and named in the legend. τ_0 is by definition the 80th.
        floor: nats below which the logarithmic axis becomes linear and the histogram has one bin.
        scale: ``"log"`` (linear below ``floor``), ``"linear"``, or ``"auto"``: linear if hardly any token is nearly certain.

    Returns:
        The axes of the histogram; the cumulative distribution is on a twin axis, above it.

    Raises:
        ImportError: without matplotlib (``pip install 'reset-nvfp4[plot]'``).
        ValueError: an arm without tokens, entropies that are negative or not finite, an unknown scale, percentiles outside 0 to 100.
    """
    pooled = _pooled(arms)
    if scale not in ("auto", "log", "linear"):
        raise ValueError(f"scale = {scale!r} is not possible: choose auto, log or linear")
    if not floor > 0:
        raise ValueError(f"floor = {floor!r} is not possible: it has to be above 0 nats")
    if any(not 0 <= percentile <= 100 for percentile in percentiles):
        raise ValueError(f"percentiles = {tuple(percentiles)!r} is not possible: each lies between 0 and 100")
    if ax is None:
        ax = _style.new_axes("plot_entropy", 7.5, 4.6)
    everything = np.concatenate(list(pooled.values()))
    top = max(float(everything.max()), tau_0 or 0.0, 10 * floor)
    # A tenth of the maximum separates "nearly certain" from the rest: with fewer than a twentieth of the tokens below, logarithms
    # would give the empty decades most of the width.
    logarithmic = scale == "log" or (scale == "auto" and top > 2 * floor and float(np.quantile(everything, 0.05)) < 0.1 * top)
    edges = _edges(top, floor, logarithmic)
    if logarithmic:
        ax.set_xscale("symlog", linthresh=floor, linscale=0.35)
    twin = ax.twinx()
    shares = [_arm(ax, twin, number, name, values, edges, percentiles) for number, (name, values) in enumerate(pooled.items())]
    _vertical_axes(ax, twin, np.array(shares), float(edges[1]))
    _horizontal_axis(ax, top, floor, logarithmic)
    if tau_0 is not None:
        _threshold(ax, twin, tau_0)
    _legend(ax, twin, pooled, percentiles)
    return ax


def _pooled(arms: Any) -> dict[str, Values]:
    named = {str(name): value for name, value in arms.items()} if isinstance(arms, Mapping) else {"": arms}
    if not named:
        raise ValueError("plot_entropy needs at least one arm, got an empty mapping")
    return {name: _entropies(name, value) for name, value in named.items()}


def _entropies(name: str, given: Any) -> Values:
    single = isinstance(given, np.ndarray) or hasattr(given, "entropy") or hasattr(given, "entropies")
    parts = [_one(given)] if single else _several(given)
    values = np.concatenate([part.ravel() for part in parts]) if parts else np.empty(0)
    where = f"arm {name!r}" if name else "arms"
    if not len(values):
        raise ValueError(f"{where}: no token, hence no entropy to draw")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"{where}: entropies are finite and 0 or more, got {values[~(np.isfinite(values) & (values >= 0))][0]}")
    return values


def _several(given: Any) -> list[Values]:
    if not isinstance(given, Iterable):
        raise TypeError(f"expected a Trace, an array of entropies or a list of them, got {type(given).__name__}")
    return [_one(item) for item in given]


def _one(given: Any) -> Values:
    """A trace's column, a calibration's tokens, or numbers as they are."""
    return np.asarray(getattr(given, "entropy", getattr(given, "entropies", given)), dtype=np.float64)


def _edges(top: float, floor: float, logarithmic: bool) -> Values:
    if not logarithmic:
        return np.linspace(0, top, 41)
    bins = max(int(np.ceil(np.log10(top / floor) * _BINS_PER_DECADE)), 1)
    edges = np.concatenate([[0.0], floor * (top / floor) ** (np.arange(bins + 1) / bins)])
    edges[-1] = top  # exactly: rounding must not leave the largest entropy outside
    return edges


def _arm(ax: Axes, twin: Axes, number: int, name: str, values: Values, edges: Values, percentiles: Sequence[float]) -> Values:
    colour = _style.ARM_COLOURS[number % len(_style.ARM_COLOURS)]
    line = _style.ARM_LINES[number % len(_style.ARM_LINES)]
    marker = _style.ARM_MARKERS[number % len(_style.ARM_MARKERS)]
    shares = np.histogram(values, edges)[0] / len(values)
    ax.stairs(shares, edges, fill=True, color=colour, alpha=0.25, linewidth=0)
    ax.stairs(shares, edges, color=colour, linewidth=1.2, linestyle=line, label=name)
    ordered = np.sort(values)
    ranks = np.unique(np.linspace(1, len(ordered), min(len(ordered), _CDF_POINTS)).round().astype(np.int64))
    twin.plot(
        np.concatenate([[0.0], ordered[ranks - 1], [edges[-1]]]), np.concatenate([[0.0], ranks / len(ordered), [1.0]]),
        color=colour, linestyle=line, linewidth=1.6, drawstyle="steps-post", label=name,
    )  # fmt: skip
    at = np.percentile(values, list(percentiles)) if percentiles else np.empty(0)
    twin.plot(
        at, np.asarray(percentiles) / 100, linestyle="none", marker=marker, color=colour, markersize=max(7.5 - number, 4),
        markeredgecolor="white", zorder=4,
    )  # fmt: skip
    return np.asarray(shares, np.float64)


def _vertical_axes(ax: Axes, twin: Axes, shares: Values, first_edge: float) -> None:
    """``shares`` [arms, bins]: the histogram gets the lower band, the distribution the upper one."""
    highest = float(shares.max())
    others = float(shares[:, 1:].max(initial=0.0))
    if 0 < 2 * others < highest == shares[:, 0].max():
        # Nearly certain tokens would press everything else flat: cut their bar and say how tall it is.
        highest = 1.3 * others
        low, high = (f"{100 * bound:.0f}" for bound in (shares[:, 0].min(), shares[:, 0].max()))
        size = "x-small" if _style.narrow(ax) else "small"
        # On the twin axes, which are drawn last, so that the threshold's line does not cross it.
        twin.annotate(
            f"↑ {low if low == high else f'{low}–{high}'}%", (first_edge, highest), xycoords=ax.transData, xytext=(4, 0),
            textcoords="offset points", va="top", ha="left", fontsize=size, bbox=_style.ON_WHITE,
        )  # fmt: skip
    ax.set_ylim(0, highest / _HISTOGRAM_BAND)
    for patch in ax.patches:
        patch.set_clip_path(_band(ax))
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= highest * 1.02])
    twin.set_ylim(-_CDF_BOTTOM / (1 - _CDF_BOTTOM) * 1.04, 1.04)
    twin.set_yticks([0, 0.25, 0.5, 0.75, 1])
    twin.axhline(0, color=_style.GREY, linewidth=0.6)
    _style.name_axes(ax, y="share per bin", loc="bottom")
    _style.name_axes(twin, y="share at or below", loc="top")
    for axes in (ax, twin):
        axes.spines["top"].set_visible(False)
        _style.percent_axis(axes.yaxis)
    _style.shrink_ticks(ax, twin)


def _band(ax: Axes) -> Any:
    """The part of the axes that belongs to the histogram, to cut its bars off at."""
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, _HISTOGRAM_BAND + 0.005, transform=ax.transAxes)


def _horizontal_axis(ax: Axes, top: float, floor: float, logarithmic: bool) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, SymmetricalLogLocator

    _style.name_axes(ax, x="token entropy (nats)" + (f"; linear below {floor:g}" if logarithmic else ""))
    ax.set_xlim(0, top * (1.25 if logarithmic else 1.02))
    if logarithmic:
        decades = [floor * 10.0**k for k in range(int(np.floor(np.log10(top * 1.25 / floor))) + 1)]
        if _style.narrow(ax) or len(decades) > 8:
            decades = decades[1:] if len(decades) <= 4 else decades[:0:-2]
        ax.xaxis.set_major_locator(FixedLocator([0.0, *decades]))
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        ax.xaxis.set_minor_locator(SymmetricalLogLocator(base=10, linthresh=floor, subs=range(2, 10)))
        ax.xaxis.set_minor_formatter(NullFormatter())


def _threshold(ax: Axes, twin: Axes, tau_0: float) -> None:
    line = twin.axvline(tau_0, color=_style.BLACK, linewidth=1.1, linestyle=(0, (4, 2)), zorder=1.5)
    line.set_label(f"τ₀ = {tau_0:.4g}")
    ax.axvline(tau_0, color=_style.BLACK, linewidth=0)  # so that autoscaling of the histogram's axes knows it


def _legend(ax: Axes, twin: Axes, pooled: Mapping[str, Values], percentiles: Sequence[float]) -> None:
    lines = {line.get_label(): line for line in twin.lines}
    handles: list[object] = []
    labels: list[str] = []
    for name, values in pooled.items():
        marks = ", ".join(f"P{p:g} {value:.3g}" for p, value in zip(percentiles, np.percentile(values, list(percentiles)), strict=True))
        handles.append(lines.get(name) or twin.lines[0])
        labels.append(": ".join(part for part in (_style.legend_name(name) if name else "", f"{len(values):,} tokens, {marks}") if part))
    for label, line in lines.items():
        if str(label).startswith("τ₀"):
            handles.append(line)
            labels.append(str(label))
    _style.legend_above(ax, handles, labels, columns=1)
