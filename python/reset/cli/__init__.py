"""The command ``reset-nvfp4`` (also ``python -m reset``): results on stdout, everything else on stderr.

Every command is a module with one function and a line in :data:`COMMANDS`; heavy imports go inside the function. ``_run`` says how a
command ends, ``_options`` holds what several share, ``_config`` reads options from TOML.
"""

from __future__ import annotations

from reset import _clash

_clash.check()

import typer  # noqa: E402  (after the check: a foreign package under our name must be named before anything else fails)

from reset.cli import analyze, bench, calibrate, compare, demo, doctor, eval, generate, inspect, quantize, study, tune  # noqa: E402
from reset.cli._run import EXIT_CODES, NAME, Settings, run  # noqa: E402

COMMANDS = (demo, generate, quantize, inspect, calibrate, tune, eval, compare, study, analyze, bench, doctor)

app = typer.Typer(
    name=NAME,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Reasoning language models in NVFP4: quantize checkpoints, generate with the ReSET temperature policy, measure.",
    epilog=f"{NAME} COMMAND --help shows options and examples. Results go to stdout, everything else to stderr.\n\n"
    + "\n\n".join(["Exit codes:", *(f"{code}: {meaning}" for code, meaning in EXIT_CODES.items())]),
)


def _print_version(asked: bool) -> None:
    if asked:
        from reset import __version__

        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_print_version, help="Print the version and leave."),
    debug: bool = typer.Option(False, "--debug", help="Show where an error came from (a traceback) before its message."),
) -> None:
    if isinstance(context.obj, Settings):
        context.obj.debug = debug


for _command in COMMANDS:
    _command.register(app)


def main() -> None:
    """Entry point of the console script."""
    run(app)
