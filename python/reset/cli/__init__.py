"""The command ``reset-nvfp4`` (also ``python -m reset``): results on stdout, everything else on stderr."""

from __future__ import annotations

from reset import _clash

_clash.check()

import typer  # noqa: E402  (after the check: a foreign package under our name must be named before anything else fails)

from reset.cli import analyze, bench, calibrate, compare, demo, doctor, eval, generate, inspect, quantize, study, tune  # noqa: E402
from reset.cli._common import run  # noqa: E402

COMMANDS = (demo, generate, quantize, inspect, calibrate, tune, eval, compare, study, analyze, bench, doctor)

app = typer.Typer(
    name="reset-nvfp4",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Reasoning language models in NVFP4: quantize checkpoints, generate with the ReSET temperature policy, measure.",
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
) -> None:
    if version:
        from reset import __version__

        typer.echo(f"reset-nvfp4 {__version__}")
        raise typer.Exit


for _command in COMMANDS:
    _command.register(app)


def main() -> None:
    """Entry point of the console script."""
    run(app)
