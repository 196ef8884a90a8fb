"""``bench linear``: the linear layers of published models on a CUDA device."""

from __future__ import annotations

from typing import Annotated

import typer

from reset.cli._common import Json, emit_json, table

#: Linear layers of a model's block: outputs × inputs, stacked as a decode step computes them.
LAYERS = {
    "qwen3-8b": {"qkv": (6144, 4096), "o": (4096, 4096), "gate+up": (24576, 4096), "down": (4096, 12288)},
    "qwen3-14b": {"qkv": (7168, 5120), "o": (5120, 5120), "gate+up": (34816, 5120), "down": (5120, 17408)},
    "qwen3-32b": {"qkv": (10240, 5120), "o": (5120, 8192), "gate+up": (51200, 5120), "down": (5120, 25600)},
    "r1-qwen-7b": {"qkv": (4608, 3584), "o": (3584, 3584), "gate+up": (37888, 3584), "down": (3584, 18944)},
    "r1-qwen-14b": {"qkv": (7168, 5120), "o": (5120, 5120), "gate+up": (27648, 5120), "down": (5120, 13824)},
}


def linear(
    shape: Annotated[list[str] | None, typer.Option(help="Model whose layers are timed (repeatable). Default: all known.")] = None,
    tokens: Annotated[list[int] | None, typer.Option(help="Tokens of a product (repeatable). Default: 1, 2, 4, 8.")] = None,
    weights: Annotated[str, typer.Option(help="nvfp4 or bf16.")] = "nvfp4",
    cold: Annotated[bool, typer.Option(help="Weights from memory: copies that exceed the cache several times, in turn.")] = True,
    repetitions: Annotated[int, typer.Option(help="Replays of a graph of 64 launches, of which the median is taken.")] = 30,
    device: Annotated[str, typer.Option(help="cuda or cuda:N.")] = "cuda",
    as_json: Json = False,
) -> None:
    """Time the linear layers of published models on a CUDA device, one launch after another, on random weights."""
    from reset import _core
    from reset._cuda import device_place

    place = device_place(device)
    if place is None or weights not in ("nvfp4", "bf16"):
        raise ValueError(
            f"device = {device!r}, weights = {weights!r} is not possible: this times nvfp4 or bf16 layers on 'cuda' or 'cuda:N'"
        )
    unknown = [name for name in shape or () if name not in LAYERS]
    if unknown:
        raise ValueError(f"shape = {unknown[0]!r} is not possible: use one of {', '.join(LAYERS)}")
    bandwidth = _core.cuda_check(place[0], place[1], place[2], 512 << 20, 2, 30)["copy_bytes_per_second"]
    counts = tokens or [1, 2, 4, 8]
    cases, shapes = [], []
    for model in shape or LAYERS:
        for name, (rows, cols) in LAYERS[model].items():
            nbytes = rows * cols * 9 // 16 if weights == "nvfp4" else rows * cols * 2
            copies = max(2, -(-320_000_000 // nbytes)) if cold else 1
            cases.append((model, name, rows, cols))
            shapes.append((rows, cols, weights == "nvfp4", counts, copies))
    timings = _core.cuda_linear_timings(place, shapes, repetitions)
    rows_out = [
        {
            "model": model, "layer": name, "shape": f"{rows}×{cols}", "tokens": count, "us": 1e6 * seconds, "mb": nbytes / 1e6,
            "gb_per_s": nbytes / seconds / 1e9, "share_of_copy": nbytes / seconds / bandwidth,
        }
        for (model, name, rows, cols), (times, nbytes) in zip(cases, timings, strict=True)
        for count, seconds in zip(counts, times, strict=True)
    ]  # fmt: skip
    if as_json:
        emit_json({"weights": weights, "cold": cold, "copy_gb_per_s": bandwidth / 1e9, "repetitions": repetitions, "rows": rows_out})
        return
    where = "memory" if cold else "the second-level cache, where they fit"
    table(
        f"linear layers, {weights} weights from {where}",
        ("model", "layer", "outputs × inputs", "tokens", "µs", "MB", "GB/s", "of copying"),
        [tuple(row.values()) for row in rows_out],
    )
    typer.echo(f"copy bandwidth measured in this run, bytes read and written: {bandwidth / 1e9:.0f} GB/s")
