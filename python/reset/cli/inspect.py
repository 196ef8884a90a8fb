"""``reset-nvfp4 inspect MODEL``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reset.cli._common import Json, emit_json, examples, number, size, table
from reset.cli._complete import a_model
from reset.cli._options import MODEL


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("inspect", epilog=examples("inspect tiny", "inspect tiny --card"))(inspect)


def inspect(
    path: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL, autocompletion=a_model)],
    card: Annotated[bool, typer.Option("--card", help="Print the model card instead: data, recipe, accuracy, limits.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a checkpoint holds: architecture, formats, NVFP4 layers, sizes."""
    from reset.checkpoint import MODEL_CARDS
    from reset.checkpoint import inspect as look

    info = look(path)
    if card:
        if info["model_card"] is None:
            raise FileNotFoundError(f"{info['folder']} has no model card: no file {' or '.join(MODEL_CARDS)}")
        text = Path(info["model_card"]).read_text(encoding="utf-8")
        emit_json({"model_card": info["model_card"], "text": text}) if as_json else typer.echo(text)
        return
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
        ("folder", info["folder"]),
        ("model card", "none" if info["model_card"] is None else f"{info['model_card']} (--card prints it)"),
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
