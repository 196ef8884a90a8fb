"""How a command ends: with one of these exit codes, and with at most one paragraph on stderr.

A result that is not what one hoped for (an undecided comparison, a bench beside a busy process) is a result: code 0, and the output
says so.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from typing import Any

import typer

from reset.cli._streams import make_robust

NAME = "reset-nvfp4"

#: Exit code → what it means.
EXIT_CODES = {
    0: "done",
    1: "the work was refused or failed: a wrong value, a missing file, a checkpoint that cannot be read, a package that is not installed; "
    "without a word, a reader of stdout that has left (`| head`)",
    2: "the command line is wrong: an unknown option, a value of the wrong kind, a missing argument",
    70: f"a mistake in this program; `{NAME} --debug …` shows where, for a report",
    130: "Ctrl-C; what was finished is kept where the command keeps anything, and partial results are printed",
}

#: Wrong command lines. Newer typer brings its own click, so the class is found through one that both export.
USAGE: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


#: Where pyo3 keeps the exception that a panic in Rust becomes. It is no ``Exception``, so that nobody catches it by accident.
PANICS = "pyo3_runtime"


@dataclass
class Settings:
    """What was given before the command's name."""

    debug: bool = False


def run(app: typer.Typer) -> None:
    """Runs the app and leaves with its exit code. Errors of this package and of the file system become one paragraph."""
    from typer.main import get_command

    from reset.errors import Error

    make_robust(sys.stdout)
    make_robust(sys.stderr)
    settings = Settings()
    command = get_command(app)
    try:
        # Not standalone: then Ctrl-C reaches us, and can be told from other ends.
        code = command(prog_name=NAME, standalone_mode=False, obj=settings)
    except (KeyboardInterrupt, typer.Abort):
        code = 130  # newer typer returns it, older raises
    except USAGE as error:
        error.show()
        raise SystemExit(2) from error
    except (Error, ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        _show_where(error, settings)
        typer.echo(f"error: {error or type(error).__name__}", err=True)
        raise SystemExit(1) from error
    except BaseException as error:  # a mistake of ours: nothing above the process could do anything about it
        if not isinstance(error, Exception) and type(error).__module__ != PANICS:
            raise
        _show_where(error, settings)
        hint = "" if settings.debug else f"; `{NAME} --debug …` shows where"
        typer.echo(f"error: unexpected {type(error).__name__}: {error}. This is a mistake in {NAME}, please report it{hint}", err=True)
        raise SystemExit(70) from error
    if code == 130:
        typer.echo("interrupted", err=True)
    raise SystemExit(code if isinstance(code, int) else 0)


def _show_where(error: BaseException, settings: Settings) -> None:
    if settings.debug:
        traceback.print_exception(error)
