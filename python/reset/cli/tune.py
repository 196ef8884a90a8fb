"""``reset-nvfp4 tune MODEL TASK``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reset.cli._common import Json, emit_json, examples, table
from reset.cli._complete import a_model, a_task
from reset.cli._options import (
    MODEL,
    Activations,
    BatchSize,
    Data,
    Device,
    Kv,
    LmHead,
    Method,
    MinP,
    Prompt,
    Thinking,
    Threads,
    TopK,
    TopP,
    Weights,
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "tune",
        epilog=examples(
            "tune tiny arithmetic --tau-0 0.7 --t-low 0.2 --t-low 0.4 --limit 10 --output-dir runs/tune",
            "tune tiny arithmetic --calibration tiny --weights nvfp4 --t-low 0.3 --limit 10 --json",
        ),
    )(tune)


def tune(
    model: Annotated[str, typer.Argument(help=MODEL, autocompletion=a_model)],
    task: Annotated[str, typer.Argument(help="Task, e.g. gsm8k, math500 or arithmetic.", autocompletion=a_task)],
    tau_0: Annotated[float | None, typer.Option(help="Base entropy threshold in nats.")] = None,
    calibration: Annotated[
        str | None, typer.Option(help="File (or model folder) that `calibrate` wrote, or tiny, instead of --tau-0.")
    ] = None,
    t_low: Annotated[list[float] | None, typer.Option(help="T_low to try (repeatable; 0.1 to 0.6 by tenths).")] = None,
    fixed: Annotated[list[float] | None, typer.Option(help="Fixed temperature to try (repeatable; as many as T_low).")] = None,
    split: Annotated[str, typer.Option(help="Split to search on; test is refused.")] = "tune",
    data: Data = None,
    n_samples: Annotated[int, typer.Option(help="Samples of each problem.")] = 1,
    limit: Annotated[int | None, typer.Option(help="The first so many problems.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws, shared by all arms.")] = 0,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most tokens of a sample; the task's where left out.")] = None,
    top_p: TopP = None,
    top_k: TopK = None,
    min_p: MinP = None,
    prompt: Prompt = "boxed",
    thinking: Thinking = None,
    batch_size: BatchSize = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder for the samples of every arm; the same command goes on from there.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the table as JSON.")] = None,
    store: Annotated[bool, typer.Option("--store", help="Write the best T_low into the file of --calibration, for --preset.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Save a plot of the search (needs the extra `plot`).")] = None,
    weights: Weights = "auto",
    activations: Activations = "auto",
    method: Method = "nearest",
    lm_head: LmHead = "auto",
    kv: Kv = "auto",
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Search T_low, and a fixed temperature with the same effort, on the tuning split."""
    import reset
    from reset.calibration import Calibration, file_to_write
    from reset.policies import ReSET
    from reset.tuning import T_LOW, grid
    from reset.tuning import tune as search

    if (tau_0 is None) == (calibration is None):
        raise ValueError("give --tau-0 or --calibration: one of them, so that there is a threshold")
    if store and calibration is None:
        raise ValueError("--store writes into the file of --calibration: give one")
    if store and calibration is not None:
        file_to_write(calibration)  # refused now rather than after the search
    read = None if calibration is None else Calibration.load(calibration)
    threshold = read.tau_0 if read is not None else float(tau_0 or 0.0)
    policies = grid(threshold, t_low=tuple(t_low or T_LOW), fixed=None if fixed is None else tuple(fixed))
    loaded = reset.load(
        model, weights=weights, activations=activations, method=method, lm_head=lm_head, kv=kv, device=device, threads=threads
    )
    try:
        found = search(
            loaded, task, policies, split=split, n_samples=n_samples, limit=limit, seed=seed, max_new_tokens=max_new_tokens, top_p=top_p,
            top_k=top_k, min_p=min_p, prompt=prompt, thinking=thinking, batch_size=batch_size, output_dir=output_dir, data=data,
        )  # fmt: skip
    except reset.Interrupted as stopped:
        typer.echo(str(stopped), err=True)
        raise
    if save is not None:
        found.save(save)
    if plot is not None:
        _save_plot(found, plot)
    if store and read is not None and calibration is not None:
        best = found.best_of(ReSET.name).policy
        assert isinstance(best, ReSET)  # of that kind
        read.save(calibration, t_low=best.t_low)
    if as_json:
        emit_json(found.to_dict())
        return
    rows = [
        (
            "★" if row["name"] == found.best.name else "=" if row["name"] in found.contenders else "", row["name"],
            f"{row['accuracy']:.1%}", f"{row['low']:.1%} to {row['high']:.1%}", row["samples"], f"{row['truncated_share'] or 0:.1%}",
            row["tokens_mean"], row["temperature_mean"],
        )
        for row in found.table
    ]  # fmt: skip
    columns = ("", "arm", "accuracy", "95 % interval", "samples", "truncated", "tokens", "mean T")
    table(f"{task}, split {split} (★ best, = cannot be told from it)", columns, rows)
    typer.echo(f"best: {found.best.policy!r}")
    if store:
        typer.echo(f"T_low written to {calibration}")


def _save_plot(found: object, path: Path) -> None:
    from reset.plots._style import new_figure

    figure = new_figure("a figure", 7, 4.4)
    found.plot(ax=figure.add_subplot())  # type: ignore[attr-defined]
    figure.savefig(path)
