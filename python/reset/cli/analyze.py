"""``reset-nvfp4 analyze STUDY --model DIR --output OUT`` and ``reset-nvfp4 analyze CHECKPOINT --output OUT``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reset.cli._common import Json, emit_json, examples, table
from reset.cli._options import Threads

if TYPE_CHECKING:
    from reset.analysis import Mechanisms


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "analyze",
        epilog=examples("analyze tiny --gold 4 -o runs/mechanisms", "analyze runs/study --model DIR --samples 20 -o runs/why"),
    )(analyze)


def analyze(
    source: Annotated[str, typer.Argument(help="Folder of a study, or a checkpoint directory or hub id, or tiny.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report.md, tables, figures and the cache of scores.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Of a study: folder of the checkpoint, or ARM=FOLDER; may be given several times.")
    ] = None,
    arms: Annotated[
        str | None, typer.Option(help="Comma-separated, the reference first: arms of the study, or of bf16, w4a16, w4a4 for a checkpoint.")
    ] = None,
    gold: Annotated[int, typer.Option(help="Problems of the arithmetic task whose gold traces are read; 0: none.")] = 300,
    samples: Annotated[int, typer.Option(help="Problems whose samples of each arm are read by every model; 0: none.")] = 100,
    n_samples: Annotated[int, typer.Option("--n-samples", "-n", help="Samples of each of these problems and arms.")] = 1,
    temperatures: Annotated[
        str, typer.Option(help="Temperatures, comma-separated, at which the digits' probabilities are computed; 0 is greedy.")
    ] = "0,0.2,0.4,0.6,0.8,1",
    noise: Annotated[
        int | None, typer.Option(help="Seed: add the control, the reference's weights with noise of NVFP4's squared error.")
    ] = None,
    bins: Annotated[int, typer.Option(help="Classes by the mean of two models' entropies.")] = 10,
    task: Annotated[str, typer.Option(help="Of a checkpoint: arithmetic or arithmetic-hard.")] = "arithmetic",
    split: Annotated[str, typer.Option(help="Of a checkpoint: split of the task.")] = "tune",
    prompt: Annotated[str, typer.Option(help="Of a checkpoint: boxed (with an instruction) or plain (the bare problem).")] = "boxed",
    seed: Annotated[int, typer.Option(help="Seed of the gold traces.")] = 0,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures (needs matplotlib).")] = True,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Compare models token by token on texts they all read: entropy, surprisal, right digits, by class of position."""
    from reset import analysis
    from reset.analysis.sources import WAYS, add_noise, from_checkpoint, from_study

    wanted = [name.strip() for name in arms.split(",") if name.strip()] if arms else None
    grid = analysis.temperatures(*_numbers(temperatures))
    study = None
    if (Path(source) / "plan.json").is_file():
        from reset.studies import Study

        study = Study.load(source)
        task, split = study.plan.record["task"], study.plan.record["split"]
    elif model:
        raise ValueError(f"--model belongs to a study's folder, and {source} is none: it is taken as the checkpoint itself")
    if gold and not task.startswith("arithmetic"):
        raise ValueError(f"task {task!r} has no gold traces: give --gold 0, and the samples of a study's arms are compared")
    if not gold and (study is None or not samples):
        raise ValueError("there is nothing to read: give --gold or, for a study, --samples above 0")
    if study is None:
        found = from_checkpoint(source, ways=wanted or list(WAYS), threads=threads)
    else:
        found = from_study(study, _folders(model), arms=wanted, threads=threads)
    if noise is not None:
        output.mkdir(parents=True, exist_ok=True)
        add_noise(found, output / f"noise-{noise}", seed=noise)
    reference = next(iter(found.models))
    reader = found.models[reference]
    texts = {}
    if gold:
        if study is not None:
            gold, prompt = min(gold, len(study.problems)), study.plan.record["arms"][reference]["prompt"]
        texts["gold"] = analysis.gold_texts(reader, task, split=split, limit=gold, prompt=prompt, seed=seed, progress=True)
    if samples and study is not None:
        for name, result in found.samples.items():
            texts[name] = analysis.sample_texts(result, reader, study.problems, name=name, limit=samples, n_samples=n_samples)
    rules = {**grid, **found.rules}
    made = analysis.mechanisms(
        found.models,
        texts,
        reference=reference,
        rules=rules,
        bins=bins,
        accuracies=found.accuracies,
        cache=output / "scores",
        progress=True,
    )
    written = made.report(output, figures=figures)
    if as_json:
        emit_json({**made.to_dict(), "files": [str(path) for path in written]})
        return
    _show(made)
    typer.echo(f"report: {output}/report.md, with {len(written) - 1} tables and figures beside it")


def _folders(given: list[str] | None) -> dict[str, str]:
    """``["DIR", "arm=DIR"]`` → arm → folder, ``""`` for all others."""
    found: dict[str, str] = {}
    for entry in given or ():
        arm, sign, folder = entry.partition("=")
        # A folder may hold an equals sign in its own name.
        name, path = (arm, folder) if sign and not Path(entry).exists() else ("", entry)
        if name in found:
            raise ValueError(f"--model names {name or 'the folder of all arms'} twice")
        found[name] = path
    return found


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"--temperatures {text!r}: give numbers with commas between them, such as 0,0.3,0.6,1") from None


def _show(made: Mechanisms) -> None:
    from reset.analysis.result import nats
    from reset.studies.report import percent, points

    for source in made.texts:
        for name in made.models:
            rows = [
                (row["group"], row["positions"], nats(row["entropy_shift"]), f"{nats(row['entropy_low'])} to {nats(row['entropy_high'])}",
                 nats(row["surprisal_shift"]), nats(row["overconfidence_b"]), points(row["wrong_shift"]), percent(row["flips"]))
                for row in made.classes if (row["texts"], row["model"]) == (source, name)
            ]  # fmt: skip
            if rows:
                names = ("class", "positions", "entropy", "95 % interval", "surprisal", "overconfidence", "not first", "flips")
                table(f"{name} − {made.reference}, on {source}", names, rows)
        digits = [
            (row["model"], row["rule"], percent(row["digit"]), percent(row["trace"]), points(row["shift"]),
             "–" if row["shift"] is None else f"{points(row['shift_low'])} to {points(row['shift_high'])}")
            for row in made.digits if row["texts"] == source
        ]  # fmt: skip
        if digits:
            columns = ("model", "rule", "a digit right", "all of a trace", f"− {made.reference}, points", "95 % interval")
            table(f"right digits, on {source}", columns, digits)
