"""Figures. Every function takes ``ax=None`` and returns the axes; matplotlib is imported when one is called, pyplot never."""

from reset.plots.trace import plot_trace

__all__ = ["plot_trace"]
