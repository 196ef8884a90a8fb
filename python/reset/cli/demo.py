"""``reset-nvfp4 demo``: what 4 bits cost a reasoning model, and what ReSET gives back, in half a minute and without network or files.

The model inside the package solves the same problems three times, with the same random numbers::

    bf16      its weights as they are          temperature 0.6
    nvfp4     weights and activations in FP4   temperature 0.6
    reset     weights and activations in FP4   ReSET, calibrated for this model

and the two differences are tested in pairs. So few problems rarely decide anything, which is what the demo shows as well: the smallest
difference it could have seen stands beside each. The study that can decide is ``docs/study.md``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from reset.cli._common import Json, check_file, emit_json, examples, table
from reset.cli._options import Threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reset.evaluation.comparison import Comparison
    from reset.evaluation.result import EvalResult
    from reset.model import Model
    from reset.policies import ReSET
    from reset.tasks import Problem, Task
    from reset.types import Generation

MODEL = "tiny"
TASK, SPLIT = "arithmetic-l1-3", "tune"
"""What is solved. Nothing is chosen by it."""
TEMPERATURE = 0.6
NVFP4: dict[str, Any] = {"weights": "nvfp4", "activations": "nvfp4"}
SHOWN = {"bf16": "BF16", "nvfp4": "NVFP4", "reset": "NVFP4 + ReSET"}
"""Arms: key in JSON → name in tables."""
CONTRASTS = (("bf16", "nvfp4"), ("nvfp4", "reset"))
FIGURE = Path("reset-demo.png")
TRACED = 2
"""The problem whose trace is shown, counted from 0: with all levels mixed, one of three operations."""


class Demo(NamedTuple):
    """What was run."""

    task: Task
    policy: ReSET
    arms: Mapping[str, EvalResult]
    seconds: Mapping[str, float]
    contrasts: Mapping[tuple[str, str], Comparison]
    problem: Problem
    generation: Generation
    fingerprint: str


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("demo", epilog=examples("demo", "demo --problems 60 --no-plot --json"))(demo)


def demo(
    problems: Annotated[int, typer.Option(help="Problems that every arm solves.")] = 240,
    level: Annotated[str | None, typer.Option(help=f"Operations of a problem: 3, or 1-3; the task {TASK} where left out.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws, shared by the arms.")] = 0,
    plot: Annotated[Path | None, typer.Option(help=f"Where the figure goes ({FIGURE}); needs the extra `plot`.")] = None,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw no figure.")] = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Solve word problems with the model inside the package: in BF16, in NVFP4, and in NVFP4 with ReSET."""

    if plot is not None and no_plot:
        raise ValueError("--plot and --no-plot exclude each other: give one of them")
    check_file("--plot", plot, (".png", ".pdf", ".svg"))
    started = time.perf_counter()
    done = run(problems, level, seed, threads)
    figure = None if no_plot else _save(done, plot)
    seconds = time.perf_counter() - started
    if as_json:
        emit_json({**_record(done), "figure": None if figure is None else str(figure), "seconds": seconds})
        return
    _show(done)
    if figure is not None:
        typer.echo(f"figure: {figure}")
    typer.echo(f"{seconds:.0f} seconds in all")


def run(problems: int, level: str | None, seed: int, threads: int | None) -> Demo:
    """Evaluates the arms and makes one trace. Says on stderr what it does."""
    import reset
    from reset.tasks import get_task

    task = get_task(TASK if level is None else f"arithmetic-l{level}")
    policy = reset.ReSET.preset(MODEL)
    fixed = reset.FixedTemperature(TEMPERATURE)
    arms: dict[str, EvalResult] = {}
    seconds: dict[str, float] = {}

    def evaluate(name: str, model: Model, policy: reset.Policy) -> None:
        typer.echo(f"{SHOWN[name]}: {problems} problems …", err=True)
        began = time.perf_counter()
        found = reset.evaluate(model, task, policy=policy, split=SPLIT, limit=problems, seed=seed, batch_size=32)
        seconds[name] = time.perf_counter() - began
        tokens = sum(sample.tokens for sample in found.samples)
        typer.echo(f"  {found.accuracy:.1%} in {seconds[name]:.1f} s, {tokens / seconds[name]:,.0f} tokens/s", err=True)
        arms[name] = found

    evaluate("bf16", reset.load(MODEL, threads=threads), fixed)
    quantized = reset.load(MODEL, **NVFP4, threads=threads)
    evaluate("nvfp4", quantized, fixed)
    evaluate("reset", quantized, policy)
    contrasts = {(a, b): reset.compare(arms[a], arms[b], names=(SHOWN[a], SHOWN[b]), seed=seed) for a, b in CONTRASTS}
    listed = task.problems(SPLIT, limit=max(problems, TRACED + 1))
    problem = listed[min(TRACED, len(listed) - 1)]
    generation = reset.generate(quantized, task.prompt(problem, "boxed"), policy=policy, seed=seed)
    assert isinstance(generation, reset.Generation)  # one prompt, one sample
    return Demo(task, policy, arms, seconds, contrasts, problem, generation, quantized.fingerprint)


def _save(done: Demo, wanted: Path | None) -> Path | None:
    """Writes the figure. The one nobody asked for is left out, with a word on stderr, where it cannot be made."""
    from reset.cli._demo_figure import draw

    path = FIGURE if wanted is None else wanted
    try:
        names = {SHOWN[name]: result for name, result in done.arms.items()}
        differences = {f"{SHOWN[b]} − {SHOWN[a]}": found for (a, b), found in done.contrasts.items()}
        draw(names, differences, done.generation.trace, path)
    except (ImportError, OSError) as error:
        if wanted is not None:
            raise
        typer.echo(f"no figure: {error}", err=True)
        return None
    return path


def _record(done: Demo) -> dict[str, Any]:
    """Everything as JSON values."""
    from reset._arms import summarize
    from reset.cli.generate import columns
    from reset.policies import to_dict

    arms = {
        name: {"name": SHOWN[name], **summarize(result), "ci95": list(result.ci95), "seconds": done.seconds[name], "policy": policy}
        for name, result in done.arms.items()
        for policy in (result.metadata["policy"],)
    }
    contrasts = [{"a": a, "b": b, **found.paired.to_dict()} for (a, b), found in done.contrasts.items()]
    trace = {
        "problem": done.problem.id, "question": done.problem.question, "answer": done.problem.answer, "text": done.generation.text,
        "columns": columns(done.generation.trace),
    }  # fmt: skip
    return {
        "model": MODEL, "fingerprint": done.fingerprint, "task": done.task.name, "split": SPLIT,
        "problems": len(done.arms["bf16"].problem_ids), "reset": to_dict(done.policy), "arms": arms, "contrasts": contrasts, "trace": trace,
    }  # fmt: skip


def _show(done: Demo) -> None:
    from reset._arms import summarize
    from reset.cli._trace_text import show_trace
    from reset.studies.report import fixed, p_value, percent, points

    rows = []
    for name, result in done.arms.items():
        arm = summarize(result)
        rows.append(
            (
                SHOWN[name], percent(arm["accuracy"]), f"{percent(arm['low'])} to {percent(arm['high'])}", percent(arm["truncated_share"]),
                fixed(arm["tokens_mean"], 0), fixed(arm["temperature_mean"], 2),
            )
        )  # fmt: skip
    count = len(done.arms["bf16"].problem_ids)
    table(
        f"{MODEL}: {count:,} problems of {done.task.name} ({SPLIT} split), one sample each",
        ("arm", "accuracy", "95 % interval", "truncated", "tokens", "mean T"),
        rows,
    )
    table(
        "paired differences (percentage points)",
        ("contrast", "difference", "95 % interval", "p", "detectable", "verdict"),
        [
            (
                f"{SHOWN[b]} − {SHOWN[a]}", points(found.difference), f"{points(found.ci95[0])} to {points(found.ci95[1])}",
                p_value(found.p_value), points(found.mde, sign=False), found.verdict,
            )
            for (a, b), found in done.contrasts.items()
        ],
    )  # fmt: skip
    most = max(found.mde for found in done.contrasts.values())
    reach = f"show a true difference of {100 * most:.0f} points four times out of five, and smaller ones by luck"
    typer.echo(
        f"Undecided is no proof of equality: {count:,} problems {reach if most < 1 else 'are too few to show any difference'}.\n"
        "One seed, few problems, p-values as they are: an example. NVFP4 is W4A4. The study with a plan is docs/study.md.\n"
    )
    title = f"{SHOWN['reset']} on {done.problem.id} (answer {done.problem.answer}): {done.problem.question}"
    show_trace(title, done.generation.trace, done.policy)
