"""``reset-nvfp4 compare DIR_A DIR_B`` and ``reset-nvfp4 power BASELINE DIFFERENCE``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reset.cli._common import Json, emit_json, examples


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("compare", epilog=examples("compare runs/fixed runs/reset", "compare runs/fixed runs/reset --flips"))(compare)
    app.command("power", epilog=examples("power 0.7 0.05", "power 0.7 --problems 500 --samples 4 --json"))(power)


def compare(
    a: Annotated[Path, typer.Argument(metavar="DIR_A", help="Result of the arm that is compared with: an output_dir, or a saved .jsonl.")],
    b: Annotated[Path, typer.Argument(metavar="DIR_B", help="Result of the arm that may be better or worse.")],
    differ: Annotated[
        list[str] | None, typer.Option(help="What is meant to differ (prompt, thinking, max_new_tokens …); may be given several times.")
    ] = None,
    allow_partial: Annotated[bool, typer.Option("--allow-partial", help="Compare what is there of unfinished runs.")] = False,
    flips: Annotated[bool, typer.Option("--flips", help="List the problems that one arm alone solves.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the sign-flip test's draws.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare two results on the same problems: difference, interval, test, smallest detectable difference, verdict."""
    import reset

    first, second = (reset.EvalResult.load(path) for path in (a, b))
    found = reset.compare(first, second, differ=tuple(differ or ()), allow_partial=allow_partial, names=(str(a), str(b)), seed=seed)
    if as_json:
        emit_json(found.to_dict())
        return
    typer.echo(repr(found))
    if flips:
        for name, ids in found.flips._asdict().items():
            typer.echo(f"{name}: {', '.join(ids) or 'none'}")


def power(
    baseline: Annotated[float, typer.Argument(help="Accuracy of the arm that is compared with, 0 to 1, such as 0.7.")],
    difference: Annotated[
        float | None, typer.Argument(help="Difference of accuracies to detect, such as 0.05; left out: the smallest one is found.")
    ] = None,
    problems: Annotated[int | None, typer.Option(help="Problems there are; left out: how many are needed.")] = None,
    samples: Annotated[int | None, typer.Option("--samples", "-n", help="Samples per problem and arm; 0: how many are needed.")] = 1,
    probability: Annotated[float, typer.Option("--power", help="Probability of detection asked for, 0 to 1.")] = 0.8,
    level: Annotated[float, typer.Option(help="Two-sided error rate of the test.")] = 0.05,
    correlation: Annotated[float | None, typer.Option(help="Correlation of two samples of one problem (0.5).")] = None,
    discordance: Annotated[
        float | None, typer.Option(help="Instead of correlation: share of pairs of samples with exactly one correct.")
    ] = None,
    heterogeneity: Annotated[float, typer.Option(help="Standard deviation over problems of the true difference.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Find how many problems or samples a difference needs, or the smallest difference that a design detects."""
    import reset

    found = reset.power(
        baseline, difference, problems=problems, samples=samples or None, power=probability, level=level, correlation=correlation,
        discordance=discordance, heterogeneity=heterogeneity,
    )  # fmt: skip
    if as_json:
        emit_json(found.to_dict())
    else:
        typer.echo(str(found))
