"""``reset-nvfp4 bench``: what this machine does with this package, one command per question.

Every command prints medians with their spread and says whether the machine was quiet meanwhile; a run in which other processes took a
noticeable share of a processor is not called clean, whatever it shows. Models have random weights, so nothing is downloaded.
"""

from __future__ import annotations

import typer

from reset.cli.bench import codec, decode, device, linear, load, sampler


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, help="Measure this machine: medians, spread, bytes moved, share of the measured bandwidth.")
    for name, command in (
        ("decode", decode.decode),
        ("batch", decode.batch),
        ("context", decode.context),
        ("prefill", decode.prefill),
        ("load", load.load),
        ("sampler", sampler.sampler),
        ("codec", codec.codec),
        ("device", device.device),
        ("linear", linear.linear),
    ):
        group.command(name)(command)
    app.add_typer(group, name="bench")
