"""``reset-nvfp4 quantize SRC DST``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from reset.cli._common import Json, emit_json, examples, size
from reset.cli._complete import a_model, one_of
from reset.cli._options import METHODS


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "quantize",
        epilog=examples(
            "quantize tiny OUT",
            "quantize tiny OUT-w4a16 --format compressed-tensors --method four_over_six --activations float",
            "quantize Qwen/Qwen3-8B OUT --kv fp8 --calibration texts.txt",
        ),
    )(quantize)


def quantize(
    src: Annotated[str, typer.Argument(help="Checkpoint directory or hub id in BF16, F16 or F32, or tiny.", autocompletion=a_model)],
    dst: Annotated[str, typer.Argument(help="Directory to make.")],
    format: Annotated[
        str, typer.Option(help="modelopt or compressed-tensors.", autocompletion=one_of("modelopt", "compressed-tensors"))
    ] = "modelopt",
    method: Annotated[str, typer.Option(help="nearest, four_over_six or sweep.", autocompletion=one_of(*METHODS))] = "nearest",
    activations: Annotated[
        str, typer.Option(help="nvfp4 (W4A4, input scales measured) or float (W4A16).", autocompletion=one_of("nvfp4", "float"))
    ] = "nvfp4",
    kv: Annotated[
        str | None,
        typer.Option(help="fp8 or nvfp4: write scales for a quantized key-value cache.", autocompletion=one_of("fp8", "nvfp4")),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Text file to measure input scales on; texts are separated by lines of three dashes.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Layer to leave as it is (name or glob; repeatable). Default: lm_head.")] = None,
    as_json: Json = False,
) -> None:
    """Write an NVFP4 checkpoint that other engines load."""
    from reset.checkpoint import quantize as write

    texts = None
    if calibration is not None:
        texts = [text for text in calibration.read_text(encoding="utf-8").split("\n---\n") if text.strip()]
    started = time.perf_counter()
    summary = write(
        src, dst, format=format, method=method, activations=activations, kv=kv, calibration=texts,
        ignore=("lm_head",) if ignore is None else tuple(ignore), progress=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if as_json:
        emit_json({"src": src, "dst": dst, "format": format, "method": method, "seconds": seconds, **summary})
        return
    before, after = size(summary["source_bytes"]), size(summary["bytes"])
    typer.echo(
        f"{dst}: {summary['quantized']} layers in NVFP4, {len(summary['plain'])} left as they were, {before} → {after} in {seconds:.1f} s"
    )
