"""``reset-nvfp4 bench``: what this machine does with this package, one command per question.

Every command prints medians with their spread and says whether the machine was quiet meanwhile; a run in which other processes took a
noticeable share of a processor is not called clean, whatever it shows. Models have random weights, so nothing is downloaded.
"""

from __future__ import annotations

import typer

from reset.cli._common import examples
from reset.cli.bench import codec, decode, device, linear, load, sampler

HELP = "Measure this machine: medians, spread, bytes moved, share of the measured bandwidth."


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, help=HELP, epilog=examples("bench decode", "bench decode --help"))
    for name, command, example in (
        ("decode", decode.decode, "--shape qwen3-0.6b --batch 1 --batch 8 --json"),
        ("batch", decode.batch, "--shape tiny --size 1 --size 8"),
        ("context", decode.context, "--shape tiny --length 0 --length 512"),
        ("prefill", decode.prefill, "--shape tiny --length 256"),
        ("load", load.load, "--shape tiny --runs 3"),
        ("sampler", sampler.sampler, "--vocab 151936"),
        ("codec", codec.codec, "--size 1024 --runs 5"),
        ("device", device.device, "--device cuda:0"),
        ("linear", linear.linear, "--shape qwen3-8b --tokens 1"),
    ):
        group.command(name, epilog=examples(f"bench {name} {example}"))(command)
    app.add_typer(group, name="bench")
