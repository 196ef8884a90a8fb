"""Checkpoints on disk: look into one, quantize one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from reset import _core
from reset._checks import integer
from reset.nvfp4 import Method

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["inspect", "quantize"]

#: Files that describe a model to its readers; on the hub the card is the README.
MODEL_CARDS = ("MODEL_CARD.md", "README.md")


def inspect(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds: architecture, formats with counts and bytes, NVFP4 layers, plain layers and why they are plain.

    Args:
        path: A folder, a hub id, or ``"tiny"``.

    Returns:
        JSON values; ``folder`` is where the files are, ``model_card`` the path of the model card among them, or None.
    """
    from reset.hub import resolve

    folder = resolve(path)
    card = next((str(folder / name) for name in MODEL_CARDS if (folder / name).is_file()), None)
    return {**_core.inspect(str(folder)), "folder": str(folder), "model_card": card}


def quantize(
    src: str | Path,
    dst: str | Path,
    *,
    format: str = "modelopt",
    method: str = "nearest",
    activations: str = "nvfp4",
    kv: str | None = None,
    calibration: Sequence[str] | None = None,
    ignore: Sequence[str] = ("lm_head",),
    max_shard_bytes: int = 5_000_000_000,
    progress: bool = False,
) -> dict[str, Any]:
    """Writes an NVFP4 checkpoint that other engines load, from a Hugging Face checkpoint in BF16, F16 or F32.

    Args:
        src: Directory of the checkpoint, a hub id, or ``"tiny"``.
        dst: Directory to make; it must not exist or be empty. It appears whole or not at all.
        format: "modelopt" or "compressed-tensors": names, scales and configuration as that tool writes them.
        method: "nearest", "four_over_six" or "sweep".
        activations: "nvfp4" (W4A4: input scales are measured on ``calibration``) or "float" (W4A16).
        kv: None, "fp8" or "nvfp4": scales of a quantized key-value cache, measured on ``calibration``.
        calibration: Texts; None takes the built-in ones (seeded random ids where there is no tokenizer).
        ignore: Layers that stay as they are: names or globs. Layers whose input width is not a multiple of 16 stay as well.
        max_shard_bytes: Largest weight file.
        progress: Show a progress bar on stderr.

    Memory: weights stream through, one tensor at a time. Measuring activations runs the model and holds it once, quantized; scales
    measured are those of the quantized weights with float activations.

    Returns:
        ``quantized`` (layers in NVFP4), ``plain`` (names of linear layers left as they were), ``source_bytes``, ``bytes``.

    Raises:
        FileNotFoundError: no such source.
        FileExistsError: ``dst`` is there and not empty, or a link. This, like names to ignore, is looked at before anything is measured.
        reset.CheckpointError, reset.FormatError: a source that cannot be read.
        ValueError: an option that is not possible, a source that is quantized already, a weight with NaN or infinity.
        TypeError: a ``dst`` that is no path, an ``ignore`` that holds no names.
        KeyboardInterrupt: nothing is left behind at ``dst``.
    """
    from reset.hub import resolve

    if not isinstance(dst, (str, os.PathLike)):
        raise TypeError(f"dst is a {type(dst).__name__}; give the path of a new directory")
    destination = str(Path(dst).expanduser())
    patterns = [ignore] if isinstance(ignore, str) else ignore
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"ignore = {ignore!r} is not possible: give names or globs of layers, for example ['lm_head']")
    _one_of("format", format, [name for name, _ in _core.CHECKPOINT_FORMATS])
    _one_of("method", method, get_args(Method))
    _one_of("activations", activations, ["nvfp4", "float"])
    _one_of("kv", kv, [None, "fp8", "nvfp4"])
    max_shard_bytes = integer("max_shard_bytes", max_shard_bytes)
    source = resolve(src)
    _core.check_quantize(str(source), destination, format=format, kv=kv, ignore=patterns)
    input_amax = kv_amax = None
    if activations == "nvfp4" or kv is not None:
        inputs, keys_values = _measure(source, calibration, method)
        input_amax = inputs if activations == "nvfp4" else None
        kv_amax = keys_values if kv is not None else None
    elif calibration is not None:
        raise ValueError("calibration measures activations; with activations='float' and kv=None there is nothing to measure")
    bar = _Bar() if progress else None
    try:
        return _core.quantize_checkpoint(
            str(source), destination, format=format, method=method, activations=activations, kv=kv, ignore=patterns,
            input_amax=input_amax, kv_amax=kv_amax, max_shard_bytes=max_shard_bytes, progress=bar,
        )  # fmt: skip
    finally:
        if bar is not None:
            bar.close()


def _one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} = {value!r} is not possible: use one of {', '.join(map(repr, allowed))}")


def _measure(source: Path, calibration: Sequence[str] | None, method: str) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Largest magnitudes of linear inputs, keys and values on the calibration texts."""
    from reset.calibration_texts import calibration_ids
    from reset.text import Tokenizer

    ids = calibration_ids(Tokenizer.from_dir(source), calibration)
    model = _core.Model.load(str(source), weights="nvfp4", activations="float", method=method)
    return model.measure(ids)


class _Bar:
    """tqdm as the core's progress callback."""

    def __init__(self) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(unit="B", unit_scale=True, desc="quantize", disable=None)

    def __call__(self, done_bytes: int, total_bytes: int, tensor: str) -> None:
        self._bar.total = total_bytes
        self._bar.set_postfix_str(tensor, refresh=False)
        self._bar.update(done_bytes - self._bar.n)

    def close(self) -> None:
        self._bar.close()
