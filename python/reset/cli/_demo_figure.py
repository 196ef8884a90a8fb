"""The figure of the demo: accuracies, paired differences, and the trace of one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from reset.evaluation.comparison import Comparison
    from reset.evaluation.result import EvalResult
    from reset.types import Trace

TOKENS = 120
"""So much of the trace is drawn: more and its bars cannot be told apart."""


def draw(arms: Mapping[str, EvalResult], differences: Mapping[str, Comparison], trace: Trace, path: Path) -> None:
    """Writes the figure to ``path``.

    Raises:
        ImportError: without matplotlib.
        OSError: the file cannot be written.
    """
    from reset import plots
    from reset.plots._style import new_figure

    figure = new_figure("a figure", 12, 7.5)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 4))
    plots.plot_accuracy(arms, ax=figure.add_subplot(grid[0, 0]))
    plots.plot_differences(differences, ax=figure.add_subplot(grid[0, 1]))
    plots.plot_trace(trace[:TOKENS], ax=figure.add_subplot(grid[1, :]))
    figure.savefig(path)
