"""``reset-nvfp4 calibrate MODEL``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reset.cli._common import Json, emit_json, examples, table
from reset.cli._complete import a_model, a_task, one_of
from reset.cli._options import (
    MODEL,
    Activations,
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
        "calibrate",
        epilog=examples(
            "calibrate tiny --weights nvfp4 --activations nvfp4 --max-new-tokens 128 --output calibration.json",
            "calibrate tiny --task arithmetic --problems 20 --max-new-tokens 128 --json",
        ),
    )(calibrate)


def calibrate(
    model: Annotated[str, typer.Argument(help=MODEL, autocompletion=a_model)],
    task: Annotated[str, typer.Option(help="Task whose problems are sampled.", autocompletion=a_task)] = "arithmetic",
    data: Data = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Text file of prompts instead of a task, separated by lines of three dashes.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the task; test is refused.")] = "calibration",
    problems: Annotated[int, typer.Option(help="Problems of the task. The paper takes 5; 20 give a better interval.")] = 5,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens of an output.")] = 4096,
    temperature: Annotated[float, typer.Option(help="Temperature of the draws.")] = 0.6,
    percentile: Annotated[float, typer.Option(help="Which percentile of the entropies tau_0 is (0 to 100).")] = 80.0,
    distribution: Annotated[
        str,
        typer.Option(
            help="raw (what policies see) or processed (after temperature and filters).", autocompletion=one_of("raw", "processed")
        ),
    ] = "raw",
    seed: Annotated[int, typer.Option(help="Seed of draws and interval.")] = 42,
    top_p: TopP = None,
    top_k: TopK = None,
    min_p: MinP = None,
    prompt: Prompt = "boxed",
    thinking: Thinking = None,
    batch_size: Annotated[int, typer.Option(help="Sequences decoded together.")] = 8,
    output: Annotated[Path | None, typer.Option(help="JSON file to write, or a folder; `--preset` of other commands reads it.")] = None,
    save: Annotated[bool, typer.Option("--save", help="Write it beside the model (a folder of your own).")] = False,
    weights: Weights = "auto",
    activations: Activations = "auto",
    method: Method = "nearest",
    lm_head: LmHead = "auto",
    kv: Kv = "auto",
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Measure tau_0, the base threshold of the ReSET policy, on a few problems."""
    import reset
    from reset.calibration import beside_model
    from reset.calibration import calibrate as measure

    if save and output is not None:
        raise ValueError("--save and --output exclude each other: give one place")
    target = beside_model(model) if save else output
    texts = None
    if prompts is not None:
        texts = [text for text in prompts.read_text(encoding="utf-8").split("\n---\n") if text.strip()]
    loaded = reset.load(
        model, weights=weights, activations=activations, method=method, lm_head=lm_head, kv=kv, device=device, threads=threads
    )
    try:
        found = measure(
            loaded, task=None if texts else task, prompts=texts, split=split, problems=problems, max_new_tokens=max_new_tokens,
            temperature=temperature, percentile=percentile, distribution=distribution, seed=seed, top_p=top_p, top_k=top_k, min_p=min_p,
            prompt=prompt, thinking=thinking, data=data, batch_size=batch_size, output=target,
        )  # fmt: skip
    except reset.Interrupted as stopped:
        typer.echo(str(stopped), err=True)
        raise
    if as_json:
        record = found.to_dict()
        del record["entropies"]
        emit_json({**record, "output": None if target is None else str(target)})
        return
    table(
        "entropies (nats)",
        ("percentile", "entropy"),
        [(f"{name:g}", value) for name, value in found.percentiles.items()],
    )
    low, high = found.interval
    typer.echo(
        f"tau_0 = {found.tau_0:.4f} nats, 95 % interval [{low:.4f}, {high:.4f}]: percentile {found.percentile:g} of "
        f"{len(found.entropies):,} {found.distribution} token entropies of {len(found.per_problem)} outputs"
    )
    for note in found.notes:
        typer.echo(f"note: {note}")
    if target is not None:
        typer.echo(f"written to {target}; use it as ReSET.preset({str(target)!r}, t_low=…)")
