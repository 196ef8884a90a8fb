"""What the figures share: colours, texts that any font and matplotlib can write, axes of their own.

Colours are Okabe and Ito's, which colour-blind readers tell apart. None of them says anything alone: a hatch, a marker, a line
style or a word always says it too, so that a figure survives a printer without colours.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
GREEN: Final = "#009E73"
VERMILION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
SKY: Final = "#56B4E9"
BLACK: Final = "#000000"
GREY: Final = "#777777"
LIGHT: Final = "#D5D5D5"

ARM_COLOURS: Final = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
ARM_LINES: Final = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 3)))
ARM_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
"""Looks of the first arm, the second, and so on."""

ON_WHITE: Final = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
"""Behind numbers that lines would cross."""

ROW_INCHES: Final = 0.55
"""Height of one row in a figure with one row per arm."""


def new_figure(caller: str, width: float, height: float) -> Figure:
    """A figure in inches, without pyplot, whose list of open figures would keep every one alive. ImportError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ImportError(f"{caller} needs matplotlib: pip install 'reset-nvfp4[plot]'") from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def new_axes(caller: str, width: float, height: float) -> Axes:
    """Axes in a figure of their own."""
    return new_figure(caller, width, height).add_subplot()


def row_points(ax: Axes, rows: int) -> float:
    """Height of one of ``rows`` rows in points (1/72 inch), by which texts and marks are scaled."""
    return _inches(ax)[1] * 72 / rows


def _inches(ax: Axes) -> tuple[float, float]:
    """Width and height, before a layout engine has moved anything: an estimate."""
    figure = ax.get_figure(root=True)
    if figure is None:
        return 6.0, 4.0
    place = ax.get_position()
    return float(place.width * figure.get_figwidth()), float(place.height * figure.get_figheight())


def plain(text: str) -> str:
    """``text`` as matplotlib writes it: no mathematics (``$``), a box for letters that the font lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    shown = "".join(c if c == "\n" or font.get_char_index(ord(c)) else "□" for c in text.replace("\t", " "))
    return shown.replace("$", r"\$")


def wrapped(text: str, width: int = 28, lines: int = 2) -> str:
    """A label of at most ``lines`` lines, shortened in the middle: names of arms often differ at both ends."""
    whole = " ".join(text.split())
    broken = textwrap.wrap(whole, width)
    if len(broken) > lines:
        tail = (width * lines - 1) // 2
        shortened = whole if len(whole) <= width * lines else f"{whole[: width * lines - 1 - tail]}…{whole[-tail:]}"
        broken = [shortened[k : k + width] for k in range(0, len(shortened), width)]
    return plain("\n".join(broken))


def legend_name(text: str) -> str:
    """A label that a legend shows; matplotlib hides those that begin with an underscore."""
    shown = wrapped(text, width=36)
    return f" {shown}" if shown.startswith("_") else shown


def legend_above(ax: Axes, handles: list[Any], labels: list[str], columns: int | None = None) -> None:
    """A legend over the axes, where no curve can lie under it, in as many columns (at most ``columns``) as fit the width."""
    small = narrow(ax)
    letter, symbol = (0.053, 0.4) if small else (0.068, 0.6)
    widths = [symbol + letter * max(len(line) for line in label.split("\n")) for label in labels]
    room = 1.2 * _inches(ax)[0]
    fitting = len(labels) if sum(widths) <= room else max(int(room / max(widths)), 1)
    ax.legend(
        handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.01), ncols=min(fitting, columns or fitting), frameon=False,
        fontsize="x-small" if small else "small", borderaxespad=0.2, columnspacing=1.2, handlelength=1.5 if small else 2.2,
    )  # fmt: skip


def percent_axis(axis: Any) -> None:
    """Shares as percentages without superfluous zeros."""
    axis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%".replace("-", "−"))


def shrink_ticks(*axes: Axes, axis: Literal["x", "y", "both"] = "both") -> None:
    """Smaller numbers along narrow axes."""
    for ax in axes:
        if narrow(ax):
            ax.tick_params(axis=axis, labelsize="x-small")


def narrow(ax: Axes) -> bool:
    """Whether the axes are as small as one column of a paper: texts shrink and break."""
    return _inches(ax)[0] < 3.9


def name_axes(ax: Axes, x: str | None = None, y: str | None = None, *, loc: Any = None) -> None:
    """Writes the names of the axes; a line break where the axes are narrow is a space where they are wide."""
    size = "x-small" if narrow(ax) else "medium"
    for text, write in ((x, ax.set_xlabel), (y, ax.set_ylabel)):
        if text is not None:
            write(text if narrow(ax) else text.replace("\n", " "), fontsize=size, loc=loc)


def arms_axis(ax: Axes, names: list[str]) -> None:
    """One row per arm, the first on top, names on the left."""
    height = row_points(ax, len(names))
    size = "x-small" if height < 22 or narrow(ax) else "medium"
    lines = 2 if height >= 20 else 1
    labels = [wrapped(name, 20 if narrow(ax) else 28, lines) for name in names]
    # Layout takes height away from the rows later, for the legend and the axis' name: hence 0.6.
    ax.set_yticks(range(len(names)), labels, fontsize=size if height >= 12 else max(0.6 * height, 2))
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
