"""The figure of a trace: what the model was sure of, where, and what the policy made of it.

Bars are token entropies, dark inside steps that the policy took for uncertain. The lines over them are what the policy
compares: the step's entropy with the mean of all tokens, the token's entropy with the threshold. The temperature that
followed runs along the top, on an axis of its own. Vertical lines are step boundaries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from reset.plots import _style

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.patheffects import AbstractPathEffect

    from reset.types import Trace

# In grey they differ in lightness or in line style.
_CERTAIN: Final = "#A9CDE6"
_UNCERTAIN: Final = _style.BLUE
_STEP: Final = _style.BLACK
_MEAN: Final = _style.VERMILION
_THRESHOLD: Final = "#7FD6B4"
_TEMPERATURE: Final = "#8F4E79"
_BOUNDARY: Final = _style.GREY

_LABELLED_TOKENS = 80
"""Up to so many tokens are written under their bars."""
_TEMPERATURE_BAND = 0.24
"""Upper part of the axes that belongs to the temperature."""


def plot_trace(trace: Trace, ax: Axes | None = None, tokens: Sequence[str] | None = None) -> Axes:
    """Draws entropies, what the policy compares them with, and the temperature of every token.

    Args:
        trace: what to draw; ``trace[a:b]`` draws a part (numbered from 0).
        ax: where; None makes a figure (``ax.figure.savefig(…)`` writes it).
        tokens: texts to write under the bars, one per token, for short traces. None: those of the trace, if it has any.

    Returns:
        The axes of the entropies. The temperature is on a twin axis.

    Raises:
        ImportError: without matplotlib (``pip install 'reset-nvfp4[plot]'``).
        ValueError: ``tokens`` is not as long as the trace.
    """
    if ax is None:
        ax = _style.new_axes("plot_trace", float(np.clip(len(trace) * 0.15, 7.5, 13)), 4.2)
    tokens = trace.tokens if tokens is None else tokens
    if tokens is not None and len(tokens) != len(trace):
        raise ValueError(f"tokens has {len(tokens)} texts for {len(trace)} tokens of the trace")
    position = np.arange(len(trace))
    uncertain = trace.uncertain
    _bars(ax, np.where(uncertain, 0.0, trace.entropy), _CERTAIN, "token entropy")
    if uncertain.any():
        _bars(ax, np.where(uncertain, trace.entropy, 0.0), _UNCERTAIN, "token entropy, uncertain step")
    # The threshold equals the step entropy in uncertain steps, so it is a wide band behind that line.
    looks: list[tuple[npt.NDArray[np.float64], str, dict[str, Any]]] = [
        (trace.threshold, "threshold", {"color": _THRESHOLD, "linewidth": 5.0}),
        (trace.global_mean, "mean of all tokens", {"color": _MEAN, "linewidth": 1.6, "linestyle": "--", "path_effects": [_halo()]}),
        (trace.step_entropy, "step entropy", {"color": _STEP, "linewidth": 1.6}),
    ]
    for values, label, look in looks:
        if np.isfinite(values).any():
            ax.plot(position, values, label=label, drawstyle="steps-mid", **look)
    starts = np.flatnonzero(trace.boundary) - 0.5
    if len(starts):
        ax.vlines(starts, 0, 1, transform=ax.get_xaxis_transform(), color=_BOUNDARY, linewidth=0.9, zorder=0.5, label="step begins")

    drawn = np.concatenate([trace.entropy, trace.step_entropy, trace.global_mean, trace.threshold])
    top = float(np.max(drawn[np.isfinite(drawn)], initial=0.1))
    ax.set_ylim(0, top * 1.06 / (1 - _TEMPERATURE_BAND))
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= top * 1.06])
    ax.set_xlim(-0.75, max(len(trace), 1) - 0.25)
    ax.set_ylabel("entropy (nats)", loc="bottom")
    ax.spines["top"].set_visible(False)
    _temperature(ax, position, trace.temperature)
    _token_axis(ax, len(trace), tokens)
    return ax


def _halo() -> AbstractPathEffect:
    """A white edge, without which the dashes vanish on dark bars."""
    from matplotlib.patheffects import withStroke

    return withStroke(linewidth=3, foreground="white")


def _bars(ax: Axes, heights: npt.NDArray[np.float64], colour: str, label: str) -> None:
    """All bars as one shape: traces have tens of thousands of tokens. Gaps between bars where they can be seen."""
    gap = 0.12 if len(heights) <= 400 else 0.0
    place = np.arange(len(heights))
    edges = np.stack([place - 0.5 + gap, place + 0.5 - gap], axis=1).ravel()
    values = np.stack([heights, np.zeros_like(heights)], axis=1).ravel()[:-1]
    if len(heights):
        ax.stairs(values, edges, fill=True, color=colour, linewidth=0, label=label)


def _temperature(ax: Axes, position: npt.NDArray[np.int64], temperature: npt.NDArray[np.float64]) -> None:
    twin = ax.twinx()
    twin.step(position, temperature, where="mid", color=_TEMPERATURE, linewidth=1.6, label="temperature")
    finite = temperature[np.isfinite(temperature)]
    top = float(np.max(finite, initial=0.0)) or 1.0
    twin.set_ylim(-top * 1.12 * (1 - _TEMPERATURE_BAND) / _TEMPERATURE_BAND, top * 1.12)
    low = float(np.min(finite, initial=top))
    twin.set_yticks(sorted({0.0, round(top, 2), *([round(low, 2)] if 0.25 * top <= low <= 0.75 * top else [])}))
    twin.set_ylabel("temperature", color=_TEMPERATURE, loc="top")
    twin.tick_params(axis="y", colors=_TEMPERATURE)
    twin.spines["top"].set_visible(False)
    twin.axhline(0, color=_TEMPERATURE, linewidth=0.5, alpha=0.5)
    handles, labels = (a + b for a, b in zip(ax.get_legend_handles_labels(), twin.get_legend_handles_labels(), strict=True))
    ax.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.01), ncols=4, frameon=False, fontsize="small")


def _token_axis(ax: Axes, count: int, tokens: Sequence[str] | None) -> None:
    if tokens is None or not 0 < count <= _LABELLED_TOKENS:
        ax.set_xlabel("token")
        return
    ax.set_xticks(range(count), [_visible(token) for token in tokens], rotation=90, fontsize="x-small")
    ax.tick_params(axis="x", length=0)


def _visible(token: str) -> str:
    """White space that can be seen, and at most 14 letters."""
    text = token.replace("\n", "⏎").replace("\t", "→").replace(" ", "·")
    return _style.plain(text if len(text) <= 14 else text[:13] + "…")
