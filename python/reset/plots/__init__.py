"""Figures. Every function takes ``ax=None`` and returns the axes; matplotlib is imported when one is called, pyplot never."""

from reset.plots.accuracy import plot_accuracy
from reset.plots.entropy import plot_entropy
from reset.plots.mechanisms import plot_digits, plot_paired_entropy, plot_shifts
from reset.plots.paired import plot_differences
from reset.plots.sweep import plot_sweep
from reset.plots.trace import plot_trace

__all__ = [
    "plot_accuracy", "plot_differences", "plot_digits", "plot_entropy", "plot_paired_entropy", "plot_shifts", "plot_sweep", "plot_trace",
]  # fmt: skip
