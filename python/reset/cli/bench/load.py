"""``bench load``: a checkpoint to a model that is ready to run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from reset.cli._common import Json, emit_json, table
from reset.cli.bench._quiet import Quiet


def load(
    checkpoint: Annotated[str, typer.Argument(help="A folder with a checkpoint, or anything else that reset.load takes.")],
    weights: Annotated[str, typer.Option(help="auto, nvfp4 or bf16.")] = "nvfp4",
    lm_head: Annotated[str, typer.Option("--lm-head", help="auto, nvfp4 or bf16.")] = "auto",
    runs: Annotated[int, typer.Option(help="Runs of which the median is taken; the first is listed by itself, files may be cold.")] = 5,
    as_json: Json = False,
) -> None:
    """Time loading a checkpoint, quantizing what the options ask for, to a model that is ready, and the memory that takes at most."""
    import numpy as np

    import reset

    if runs < 2:
        raise ValueError(f"runs = {runs} is not possible: the first run is cold, so at least 2 are needed")
    held = _resident()
    seconds = []
    with Quiet() as quiet:
        for _ in range(runs):
            start = time.perf_counter()
            model = reset.load(checkpoint, weights=weights, lm_head=lm_head)
            seconds.append(time.perf_counter() - start)
            nbytes = sum(model.footprint().values())
            del model
    peak = _peak()
    warm = np.sort(seconds[1:])
    result: dict[str, Any] = {
        "checkpoint": checkpoint,
        "first_seconds": seconds[0],
        "seconds": float(np.median(warm)),
        "seconds_min": float(warm[0]),
        "seconds_max": float(warm[-1]),
        "model_bytes": nbytes,
        "peak_bytes_beyond_start": None if held is None or peak is None else max(0, peak - held),
    } | quiet.report()
    if as_json:
        emit_json(result)
        return
    table(
        f"loading {checkpoint}, weights {weights}, head {lm_head}",
        ("first, s", "then, s", "min", "max", "model, MB"),
        [(seconds[0], result["seconds"], result["seconds_min"], result["seconds_max"], nbytes / 1e6)],
    )
    if result["peak_bytes_beyond_start"] is not None:
        typer.echo(
            f"peak memory beyond what was held before: {result['peak_bytes_beyond_start'] / 1e6:.0f} MB, pages of the files included"
        )
    quiet.echo()


def _resident() -> int | None:
    """Bytes of memory this process holds now; None where the system does not tell."""
    return _status("VmRSS")


def _peak() -> int | None:
    """The most it ever held."""
    return _status("VmHWM")


def _status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":")), None)
