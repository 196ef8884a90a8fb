"""``reset-nvfp4 inspect DIR``."""

from __future__ import annotations

from typing import Any

import typer

from reset.cli._common import Json, emit_json, number, size, table


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("inspect")(inspect)


def inspect(path: str, as_json: Json = False) -> None:
    """Show what a checkpoint holds: architecture, formats, NVFP4 layers, sizes."""
    from reset.checkpoint import inspect as look

    info = look(path)
    if as_json:
        emit_json(info)
        return
    show(path, info)


def show(path: str, info: dict[str, Any]) -> None:
    """Prints the tables."""
    quantization, layers = info["quantization"], info["layers"]
    facts: list[tuple[str, str]] = [
        ("architecture", str(info["architecture"])),
        *((name, number(value)) for name, value in info["sizes"].items()),
        ("tied embeddings", number(info["tied_embeddings"])),
        ("parameters", number(info["parameters"])),
        ("bits per weight", "–" if info["bits_per_weight"] is None else f"{info['bits_per_weight']:.2f}"),
        ("files", f"{len(info['shards'])}, {size(info['file_bytes'])}"),
        ("linear layers", f"{layers['nvfp4']} in NVFP4, {layers['plain']} plain"),
    ]
    if quantization is not None:
        facts += [(name.replace("_", " "), str(quantization[name])) for name in ("dialect", "algorithm", "activations", "kv_cache")]
    table(path, ("", ""), facts)
    table("stored numbers", ("dtype", "tensors", "size"), [(k, v["tensors"], size(v["bytes"])) for k, v in info["dtypes"].items()])
    table(
        "linear layers",
        ("layers", "count", "rows", "cols", "format", "why plain"),
        [(g["pattern"], g["count"], g["rows"], g["cols"], g["format"], g["reason"] or "") for g in layers["groups"]],
    )
