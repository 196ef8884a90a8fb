"""What the commands share: output, numbers, examples. How a command ends is in ``_run``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reset.cli._run import NAME
from reset.cli._streams import is_unicode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")]


def examples(*lines: str) -> str:
    """The end of a command's help: command lines that a reader can copy. The tests parse every one.

    >>> print(examples("doctor --json"))
    Example:
    <BLANKLINE>
    $ reset-nvfp4 doctor --json
    """
    return "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *(f"$ {NAME} {line}" for line in lines)])


def emit_json(value: Any) -> None:
    """Prints ``value`` as JSON on stdout; NaN becomes null, as strict readers want."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=not is_unicode(sys.stdout), allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # false for NaN too
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table on stdout; numbers stand right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = [tuple(row) for row in rows]
    grid = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(listed) and all(isinstance(row[index], (int, float)) for row in listed)
        grid.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    for row in listed:
        grid.add_row(*(Text(number(cell)) for cell in row))
    console = Console()
    Console(width=None if console.is_terminal else 160).print(grid)


def number(value: object) -> str:
    """A cell: four significant digits for floats, thousands separated in integers."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return str(value)


def size(nbytes: int) -> str:
    """Bytes in binary units."""
    value = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def check_file(option: str, path: Path | None, endings: tuple[str, ...]) -> None:
    """Refuses a name that could not be written, before anything is generated."""
    if path is None:
        return
    if path.suffix not in endings:
        raise ValueError(f"{option} {path}: the name has to end in {', '.join(endings)}")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: the folder {path.absolute().parent} does not exist")
