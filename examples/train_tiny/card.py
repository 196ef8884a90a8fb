"""What is kept beside the weights: the loss curve, the measured numbers, and the model card that is filled with them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import torch

from reset.tasks.arithmetic import VERSION, Arithmetic
from reset.tasks.arithmetic.task import HARD

from .measure import measure, summary
from .recipe import Recipe
from .train import replace_text

if TYPE_CHECKING:
    from .recipe import Curriculum
    from .train import Trainer

TEMPLATE = Path(__file__).with_name("MODEL_CARD.template.md")
HARD_SHARE = 3
"""One problem of the hard task is measured for so many of the usual one."""


def evaluate_now(trainer: Trainer, problems: int) -> str:
    """Accuracy of the moving average on tune while training goes on: a row of ``evaluations.csv`` and a line for the terminal."""
    folder = trainer.directory / "evaluations" / f"step-{trainer.step}"
    values = measure(trainer.export(folder / "model"), folder / "tune", problems, threads=torch.get_num_threads())
    file = trainer.directory / "evaluations.csv"
    if not file.exists():
        replace_text(
            file, "step,problems,accuracy,truncated,entropy_p80," + ",".join(f"level_{level}" for level in values["levels"]) + "\n"
        )
    with file.open("a", encoding="utf-8") as rows:
        levels = ",".join(f"{entry['accuracy']:.4f}" for entry in values["levels"].values())
        truncated = values["counts"]["truncated"] / problems
        rows.write(f"{trainer.step},{problems},{values['accuracy']:.4f},{truncated:.4f},{values['entropy']['p80']:.4f},{levels}\n")
    return f"step {trainer.step:,}: {summary(values)}"


def finish(directory: Path, problems: int, threads: int | None = None) -> None:
    """Measures the exported model of a run on tune, and writes ``measured.json`` and ``MODEL_CARD.md`` beside it.

    Needs the folder alone, so a model trained elsewhere is measured where time allows.
    """
    plot(directory)
    if not problems:
        return
    folder = directory / "model"
    hard = max(1, problems // HARD_SHARE)
    measured = {
        "arithmetic": measure(folder, directory / "tune", problems, threads=threads),
        "arithmetic-hard": measure(folder, directory / "tune-hard", hard, task=Arithmetic(**HARD), threads=threads),
    }
    replace_text(folder / "measured.json", json.dumps(measured, indent=2) + "\n")
    replace_text(folder / "MODEL_CARD.md", card(directory, measured))
    for values in measured.values():
        print(summary(values), flush=True)


def _recall_words(curriculum: Curriculum) -> str:
    """What the card says of documents that repeat facts."""
    if not curriculum.first_recall:
        return ""
    return (
        f" At the start {100 * curriculum.first_recall:.0f} % of the documents repeat the facts of a problem instead of solving it, from "
        f"{100 * curriculum.recall_until:.0f} % of the steps on none."
    )


def card(directory: Path, measured: dict[str, Any]) -> str:
    """The model card of a run. ``measured``: task → what :func:`~train_tiny.measure.measure` returned."""
    run = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    recipe = Recipe.from_json(run["recipe"])
    sizes, curriculum = recipe.sizes, recipe.curriculum
    with (directory / "log.csv").open(encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    usual, hard = measured["arithmetic"], measured["arithmetic-hard"]
    parameters = sizes.parameters()

    def percent(value: float) -> str:
        return f"{100 * value:.1f} %"

    def accuracy(values: dict[str, Any]) -> str:
        low, high = values["ci95"]
        return f"{percent(values['accuracy'])} (95 % interval {100 * low:.1f} to {100 * high:.1f}, n = {values['problems']:,})"

    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=recipe.name,
        seed=run["seed"],
        digest=recipe.digest(),
        parameters=f"{parameters:,}",
        mebibytes=f"{2 * parameters / 2**20:.1f}",
        layers=sizes.layers,
        hidden=sizes.hidden,
        intermediate=sizes.intermediate,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head=sizes.head,
        vocab=sizes.vocab,
        positions=sizes.positions,
        task_version=VERSION,
        documents=f"{recipe.steps * recipe.batch:,}",
        tokens=f"{int(last['tokens']) / 1e6:.1f}",
        steps=f"{recipe.steps:,}",
        batch=recipe.batch,
        optimizer="Muon for the inner matrices, AdamW for embedding and norms" if recipe.optimizer == "muon" else "AdamW",
        peak=recipe.peak,
        weight_decay=recipe.weight_decay,
        clip=recipe.clip,
        average=recipe.average,
        prompt_weight=recipe.prompt_weight,
        until=percent(curriculum.until),
        recall=_recall_words(curriculum),
        first_whole=percent(curriculum.first_whole),
        last_whole=percent(curriculum.last_whole),
        minutes=f"{float(last['seconds']) / 60:.0f}",
        device=run["device"],
        precision=run["precision"],
        torch=run["torch"],
        accuracy=accuracy(usual),
        hard_accuracy=accuracy(hard),
        levels="\n".join(f"| {level} | {entry['problems']} | {percent(entry['accuracy'])} |" for level, entry in usual["levels"].items()),
        equations="\n".join(
            f"| {kind.replace('*', '×')} | {entry['written']:,} | {percent(entry['true'])} |" for kind, entry in usual["equations"].items()
        ),
        truncated=percent(usual["counts"]["truncated"] / usual["problems"]),
        unparsed=percent(usual["counts"]["unparsed"] / usual["problems"]),
        p50=f"{usual['entropy']['p50']:.3f}",
        p80=f"{usual['entropy']['p80']:.3f}",
        p95=f"{usual['entropy']['p95']:.3f}",
        choices=percent(usual["share_above_0.1"]),
        trace_steps=f"{usual['steps_median']:.0f}",
        step_tokens=f"{usual['step_tokens']['p50']:.0f}",
        trace_tokens=f"{usual['tokens_mean']:.0f}",
    )


def plot(directory: Path) -> None:
    """Draws ``loss.png`` from ``log.csv`` and ``evaluations.csv``; without matplotlib nothing is drawn."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return
    with (directory / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([int(row["step"]) for row in rows], [float(row["loss"]) for row in rows], linewidth=0.8, label="loss")
    axes.set(xlabel="step", ylabel="loss of response tokens (nats)", yscale="log")
    evaluations = directory / "evaluations.csv"
    if evaluations.exists():
        with evaluations.open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        right = axes.twinx()
        right.plot([int(row["step"]) for row in found], [100 * float(row["accuracy"]) for row in found], "o-", color="C1", label="accuracy")
        right.set(ylabel="accuracy on tune, T = 0.6 (%)", ylim=(0, 100))
    figure.savefig(directory / "loss.png", dpi=150)
