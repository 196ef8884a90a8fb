"""``reset-nvfp4 demo``: the whole way on a checkpoint made on the spot, without network or files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from reset.cli._common import Json, emit_json, size, table


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("demo")(demo)


def demo(
    seed: Annotated[int, typer.Option(help="Seed of weights and draws.")] = 0,
    max_new_tokens: Annotated[int, typer.Option()] = 96,
    keep: Annotated[Path | None, typer.Option(help="Keep the checkpoints in this directory.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Save a plot of the trace (needs the extra `plot`).")] = None,
    as_json: Json = False,
) -> None:
    """Make a small random Qwen3 checkpoint, quantize it to NVFP4, generate with ReSET, show the trace."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        _demo(keep, seed, max_new_tokens, plot, as_json)
        return
    with tempfile.TemporaryDirectory(prefix="reset-demo-") as directory:
        _demo(Path(directory), seed, max_new_tokens, plot, as_json)


def _demo(directory: Path, seed: int, max_new_tokens: int, plot: Path | None, as_json: bool) -> None:
    import reset
    from reset.cli.generate import columns, save_plot, summary
    from reset.demo_model import PROMPT, write_demo_checkpoint

    bf16, nvfp4 = directory / "bf16", directory / "nvfp4"
    write_demo_checkpoint(bf16, seed=seed)
    reset.quantize(bf16, nvfp4, format="modelopt", progress=not as_json)
    before, after = reset.inspect(bf16), reset.inspect(nvfp4)
    model = reset.load(nvfp4)
    policy = reset.ReSET(t_low=0.3, tau_0=2.0)
    generation = reset.generate(model, PROMPT, policy=policy, max_new_tokens=max_new_tokens, seed=seed, ignore_eos=True)
    assert isinstance(generation, reset.Generation)  # one prompt, one sample
    if plot is not None:
        save_plot(generation, plot)
    trace = generation.trace
    if as_json:
        emit_json(
            {"model": repr(model), "text": generation.text, "trace": columns(trace), "bytes": [before["file_bytes"], after["file_bytes"]]}
        )
        return
    typer.echo(
        f"random Qwen3 checkpoint: {size(before['file_bytes'])} in BF16, {size(after['file_bytes'])} in NVFP4 (embeddings, head: BF16)"
    )
    typer.echo(f"{model!r}\npolicy {policy!r}\n")
    assert model.tokenizer is not None  # written by write_demo_checkpoint
    rows = [
        (
            i, repr(model.tokenizer.decode([int(trace.token_id[i])])), float(trace.entropy[i]), float(trace.step_entropy[i]),
            float(trace.global_mean[i]), float(trace.threshold[i]), float(trace.temperature[i]), int(trace.step_index[i]),
        )
        for i in range(min(len(trace), 24))
    ]  # fmt: skip
    table(
        "trace, first tokens (entropies in nats)",
        ("", "token", "entropy", "step entropy", "global mean", "threshold", "temperature", "step"),
        rows,
    )
    typer.echo(summary(generation))
    typer.echo("The weights are random, so the text means nothing; every number above is computed as for a real model.")
