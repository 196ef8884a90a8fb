"""What the commands share: output, errors, exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


#: Wrong command lines. Newer typer brings its own click, so the class is found through one that both export.
_USAGE: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def run(app: typer.Typer) -> None:
    """Runs the app. Errors of this package and of the file system become one line and exit code 1; Ctrl-C exits with 130."""
    from typer.main import get_command

    from reset.errors import Error

    command = get_command(app)
    try:
        # Not standalone: then Ctrl-C reaches us, and can be told from other ends.
        code = command(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130  # newer typer returns it, older raises
    except _USAGE as error:
        error.show()
        raise SystemExit(2) from error
    except (Error, ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        typer.echo(f"error: {error or type(error).__name__}", err=True)
        raise SystemExit(1) from error
    if code == 130:
        typer.echo("interrupted", err=True)
    raise SystemExit(code if isinstance(code, int) else 0)


def emit_json(value: Any) -> None:
    """Prints ``value`` as JSON on stdout; NaN becomes null, as strict readers want."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


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
