"""``bench load``: a checkpoint to a model that is ready to run."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from reset.cli._common import Json, emit_json, table
from reset.cli.bench._quiet import Quiet


def load(
    checkpoint: Annotated[str | None, typer.Argument(help="A folder with a checkpoint, or anything else that reset.load takes.")] = None,
    shape: Annotated[
        str | None, typer.Option(help="Instead: a temporary bf16 checkpoint with random weights of this model's size.")
    ] = None,
    weights: Annotated[str, typer.Option(help="auto, nvfp4 or bf16.")] = "nvfp4",
    lm_head: Annotated[str, typer.Option("--lm-head", help="auto, nvfp4 or bf16.")] = "auto",
    runs: Annotated[int, typer.Option(help="Runs of which the median is taken; the first is listed by itself, files may be cold.")] = 5,
    threads: Annotated[int | None, typer.Option(help="Of the model; default: all that this process may use.")] = None,
    as_json: Json = False,
) -> None:
    """Time loading a checkpoint, quantizing what the options ask for, to a model that is ready, and the memory that takes at most."""
    from reset import _core

    if (checkpoint is None) == (shape is None):
        raise ValueError("give either a checkpoint or --shape, as in: reset-nvfp4 bench load --shape qwen3-0.6b")
    if runs < 2:
        raise ValueError(f"runs = {runs} is not possible: the first run is cold, so at least 2 are needed")
    options: dict[str, Any] = {"weights": weights, "lm_head": lm_head, "threads": threads}
    with tempfile.TemporaryDirectory(prefix="reset-bench-") as folder:
        if shape is not None:
            checkpoint = str(Path(folder) / shape)
            _core.write_random_checkpoint(checkpoint, shape)
        result, quiet = _measure(str(checkpoint), options, runs)
    result = {"checkpoint": shape or checkpoint, "weights": weights, "lm_head": lm_head} | result | quiet.report()
    if as_json:
        emit_json(result)
        return
    table(
        f"loading {result['checkpoint']}, weights {weights}, head {lm_head}",
        ("first, s", "then, s", "min", "max", "model, MB"),
        [(*(result[key] for key in ("first_seconds", "seconds", "seconds_min", "seconds_max")), result["model_bytes"] / 1e6)],
    )
    if result["peak_bytes"] is not None:
        beyond = (result["peak_bytes"] - result["model_bytes"]) / 1e6
        typer.echo(f"memory at most: {result['peak_bytes'] / 1e6:.0f} MB, {beyond:.0f} MB more than the model; mapped files count")
    quiet.echo()


def _measure(checkpoint: str, options: dict[str, Any], runs: int) -> tuple[dict[str, Any], Quiet]:
    import numpy as np

    import reset

    seconds, model_bytes = [], 0
    _forget_peak()
    held = _status("VmRSS")
    with Quiet() as quiet:
        for _ in range(runs):
            start = time.perf_counter()
            model = reset.load(checkpoint, **options)
            seconds.append(time.perf_counter() - start)
            model_bytes = sum(model.footprint().values())
            del model
    peak = _status("VmHWM")
    warm = np.sort(seconds[1:])
    result = {
        "first_seconds": seconds[0],
        "seconds": float(np.median(warm)),
        "seconds_min": float(warm[0]),
        "seconds_max": float(warm[-1]),
        "model_bytes": model_bytes,
        "peak_bytes": None if held is None or peak is None else max(0, peak - held),
    }
    return result, quiet


def _forget_peak() -> None:
    """Makes the most memory this process ever held the memory it holds now, where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # the peak of everything so far is then an upper bound


def _status(field: str) -> int | None:
    """A line of this process's status, in bytes; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":")), None)
