"""``reset-nvfp4 study PLAN.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reset.cli._common import Json, check_file, emit_json, examples, table

if TYPE_CHECKING:
    from reset.studies import Study


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("study", epilog=examples("study study.toml --check", "study study.toml", "study runs/study --json"))(study)


def study(
    plan: Annotated[Path, typer.Argument(help="Study written in TOML, or the folder of one, to show its report.")],
    output_dir: Annotated[Path | None, typer.Option(help="The study's folder, instead of the file's output_dir.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Save a figure of accuracies and primary contrasts (needs the extra `plot`).")] = None,
    check: Annotated[bool, typer.Option("--check", help="Show the plan and its hash; sample nothing, write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run arms on a task as planned, compare them, and write the report. The same command goes on after an interruption."""
    import reset
    from reset.studies import Study, load_plan, prepare
    from reset.studies import study as run

    check_file("--plot", plot, (".png", ".pdf", ".svg"))
    if plan.is_dir():
        done = Study.load(plan)
        if not done.published:
            done.report()
        _show(done, as_json, plot)
        return
    arguments = load_plan(plan)
    if output_dir is not None:
        arguments["output_dir"] = str(output_dir)
    if check:
        decided = prepare(**arguments).plan
        if as_json:
            emit_json({"sha256": decided.sha256, "plan": decided.record})
            return
        record = decided.record
        rows = [
            (name, arm["model"], ", ".join(f"{k} {v}" for k, v in arm["policy"].items()), arm["n_samples"], arm["max_new_tokens"])
            for name, arm in record["arms"].items()
        ]
        table(f"{record['task']} {record['split']}: {record['problems']:,} problems", ("arm", "model", "policy", "samples", "limit"), rows)
        typer.echo(f"primary: {'; '.join(f'{b} − {a}' for a, b in record['primary']) or 'none'}\nplan SHA-256 {decided.sha256}")
        return
    if "output_dir" not in arguments:
        raise ValueError(f"{plan} names no output_dir: add one, or give --output-dir; without it nothing could be resumed")
    try:
        done = run(**arguments)
    except reset.Interrupted as stopped:
        typer.echo(str(stopped), err=True)
        raise
    _show(done, as_json, plot)


def _save_figure(done: Study, file: Path) -> None:
    """Accuracies of all arms beside the primary contrasts and the interactions."""
    from reset.plots._style import ROW_INCHES, new_figure

    figure = new_figure("--plot", 14, 1.5 + ROW_INCHES * len(done.results))
    accuracy, differences = figure.subplots(1, 2)
    done.plot(accuracy)
    low = min(result.ci95[0] for result in done.results.values())
    high = max(result.ci95[1] for result in done.results.values())
    margin = 0.6 * (high - low) + 0.01  # room for the numbers beside the points
    accuracy.set_xlim(max(low - margin, 0), min(high + margin, 1))
    done.plot_contrasts(differences, kinds=("primary", "interaction"))
    figure.savefig(file)


def _show(done: Study, as_json: bool, plot: Path | None) -> None:
    if plot is not None:
        _save_figure(done, plot)
    if as_json:
        emit_json(done.to_dict())
        return
    from reset.studies.report import fixed, p_value, percent, points

    rows = [
        (
            row["arm"], percent(row["accuracy"]), f"{percent(row['low'])} to {percent(row['high'])}", percent(row["truncated_share"]),
            percent(row["unparsed_share"]), percent(row["repetition_share"]), fixed(row["tokens_mean"], 1),
            fixed(row["temperature_mean"], 3),
        )
        for row in done.arms
    ]  # fmt: skip
    columns = ("arm", "accuracy", "95 % interval", "truncated", "unparsed", "loops", "tokens", "mean T")
    table(f"{done.plan.record['task']} {done.plan.record['split']}{' (PARTIAL)' if done.partial else ''}", columns, rows)
    if not done.partial:
        found = [
            (
                row["contrast"], row["kind"], points(row["difference"]), f"{points(row['low'])} to {points(row['high'])}",
                p_value(row["p_value"]), p_value(row["p_adjusted"]), row["verdict"],
            )
            for row in done.contrast_rows
        ]  # fmt: skip
        if found:
            table("contrasts (percentage points)", ("contrast", "kind", "difference", "95 % interval", "p", "p (Holm)", "verdict"), found)
    typer.echo(f"plan SHA-256 {done.plan.sha256}")
    if done.published:
        typer.echo(f"computed from the counts in {done.directory}/outcomes.csv; the study came without its samples")
    else:
        typer.echo(f"report: {done.directory}/report.md, viewer.html, arms.csv, contrasts.csv, outcomes.csv, arms.tex, …")
