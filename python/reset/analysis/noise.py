r"""The control for quantization: random noise of the same size.

Does NVFP4 change a model in a way of its own, or as any error of its size would? The control is the same checkpoint with Gaussian noise on
the same tensors, each with the squared error that quantization makes there:

.. math:: W' = \mathrm{bf16}(W + s\,G), \qquad \|W' - W\|_F^2 = \|Q(W) - W\|_F^2, \qquad G_{ij} \sim N(0, 1)

``s`` is found per tensor with the rounding to the checkpoint's own dtype (BF16, as a rule) taken into account: rounding adds an error that
noise alone does not have, a fraction of a percent for BF16. What is achieved is written beside the weights, in ``noise.json``.

Noise of this kind is spread evenly over a tensor. NVFP4's error is not: it is larger in blocks of large weights, and zero for weights that
a code hits. So what both share is the squared error per tensor, nothing finer. It is a control for weights; quantized activations have
none here.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reset import _core, nvfp4
from reset.analysis.tensors import Tensor, tensors
from reset.errors import CheckpointError
from reset.files import written_atomically
from reset.fingerprint import checkpoint_fingerprint
from reset.hub import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

RECORD = "noise.json"
FORMAT = "reset-noise-1"
#: Relative distance to the wanted squared error that is good enough, and steps towards it.
TOLERANCE = 1e-4
STEPS = 12
_ROWS = 1 << 22
"""Elements handled at once."""
_COPIED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")


def noisy_checkpoint(
    src: str | Path,
    dst: str | Path,
    *,
    method: nvfp4.Method = "nearest",
    like: str | Path | None = None,
    ignore: Sequence[str] = ("lm_head",),
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Writes a copy of a checkpoint with Gaussian noise of NVFP4's squared error on every linear tensor that NVFP4 would quantize.

    Args:
        src: The checkpoint, in BF16, F16 or F32: a folder or a hub id.
        dst: The folder to make; it must not exist or be empty. It appears whole or not at all.
        method: The recipe whose error is matched: that of ``reset.load(src, weights="nvfp4", method=method)``.
        like: A quantized checkpoint of the same model (:func:`reset.quantize` wrote it, in either format), whose tensors and errors are
            matched instead: layers that share a tensor scale there err a little more.
        ignore: Layers that stay as they are, names or globs, as in :func:`reset.quantize`. Of no effect with ``like``.
        seed: Of the noise. Every tensor has a stream of its own, so that its noise depends on seed, name and shape alone.
        progress: Show a progress bar on stderr.

    Returns:
        The record in ``noise.json``: ``tensors`` (name → ``target`` and ``achieved`` squared errors, ``relative``: the target's root over
        the tensor's norm), ``seed``, ``method`` or ``like``, the fingerprint of the source (and of ``like``), and the totals.

    Raises:
        FileNotFoundError, FileExistsError, reset.CheckpointError: no such folder, a folder with something in it, damaged files, or a
            source that is quantized already.
        ValueError: nothing to put noise on.
    """
    source, target = resolve(src), Path(dst)
    if target.is_dir() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty: give a folder that does not exist yet")
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file: give a folder that does not exist yet")
    available = tensors(source)
    quantized = None if like is None else _Quantized(resolve(like))
    names = linear_tensors(source, available, ignore) if quantized is None else quantized.weights()
    missing = [name for name in names if name not in available]
    if missing:
        raise CheckpointError(f"{source}: no tensor {missing[0]!r}, which {like} has: give the checkpoint that it was made from")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        work.mkdir()
        for pattern in _COPIED:
            for file in sorted(source.glob(pattern)):
                if file.is_file() and file.name != RECORD:
                    shutil.copyfile(file, work / file.name)
        record: dict[str, Any] = {
            "format": FORMAT, "source": checkpoint_fingerprint(source), "seed": seed, "method": method if like is None else None,
            "like": None if like is None else checkpoint_fingerprint(resolve(like)), "tensors": {},
        }  # fmt: skip
        copies = tensors(work)
        for name in _shown(names, progress):
            weight = np.asarray(available[name].map()).reshape(available[name].shape)
            wanted = error_of(weight, method) if quantized is None else quantized.error(name, weight)
            record["tensors"][name] = _add_noise(copies[name], weight, wanted, _stream(seed, name))
        errors = record["tensors"].values()
        record["target"] = math.fsum(entry["target"] for entry in errors)
        record["achieved"] = math.fsum(entry["achieved"] for entry in errors)
        with written_atomically(work / RECORD) as out:
            out.write(json.dumps(record, indent=1).encode() + b"\n")
        if target.is_dir():
            target.rmdir()
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return record


def linear_tensors(source: Path, available: dict[str, Tensor], ignore: Sequence[str]) -> list[str]:
    """Names of the weights that :func:`reset.quantize` would quantize, in order."""
    described = _core.inspect(str(source))
    if described["quantization"] is not None:
        raise CheckpointError(f"{source} is quantized already: give the checkpoint with BF16, F16 or F32 weights that it was made from")
    groups = [group for group in described["layers"]["groups"] if group["cols"] % nvfp4.BLOCK == 0]
    tied = ["lm_head"] if described["tied_embeddings"] else []
    found = []
    for name in sorted(available):
        layer = name.removesuffix(".weight")
        linear = layer != name and any(fnmatch.fnmatchcase(layer, group["pattern"]) for group in groups)
        if linear and not any(fnmatch.fnmatchcase(layer, pattern) for pattern in (*ignore, *tied)):
            found.append(name)
    if not found:
        raise ValueError(f"{source}: no linear layer with a multiple of {nvfp4.BLOCK} columns is left by ignore = {list(ignore)}")
    return found


def error_of(weight: NDArray[Any], method: nvfp4.Method = "nearest") -> float:
    """Squared error of quantizing one tensor to NVFP4: ‖Q(W) − W‖² in float64."""
    return squared_distance(nvfp4.quantize(weight, method=method).dequantize(), weight)


def squared_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """‖a − b‖² in float64, a few rows at a time."""
    total = 0.0
    for rows in _pieces(a.shape):
        total += float(np.square(a[rows].astype(np.float64) - b[rows].astype(np.float64)).sum())
    return total


def _pieces(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, _ROWS // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield slice(start, start + step)


def _stream(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def _add_noise(copy: Tensor, weight: NDArray[Any], wanted: float, rng: np.random.Generator) -> dict[str, float]:
    """Writes weight + s · noise into the copy, with ``s`` such that the squared error is the wanted one."""
    noise = rng.standard_normal(weight.shape, np.float32)

    def noisy(scale: float, rows: slice) -> NDArray[Any]:
        return np.asarray((weight[rows].astype(np.float32) + np.float32(scale) * noise[rows]).astype(weight.dtype))

    def achieved(scale: float) -> float:
        return math.fsum(squared_distance(noisy(scale, rows), weight[rows]) for rows in _pieces(weight.shape))

    scale = math.sqrt(wanted / max(weight.size, 1))
    best, found = scale, achieved(scale)
    reached = found
    for step in range(STEPS):
        if reached == 0 or abs(found / wanted - 1) <= TOLERANCE:
            break
        # In a small tensor rounding makes the error jump; shorter steps then find the other side of a jump.
        scale *= (wanted / reached) ** (0.5 if step < STEPS // 3 else 0.3)
        reached = achieved(scale)
        if abs(reached - wanted) < abs(found - wanted):
            best, found = scale, reached
    out = copy.map("r+")
    for rows in _pieces(weight.shape):
        out[rows] = noisy(best, rows)
    out.flush()
    norm = squared_distance(weight, np.zeros_like(weight))
    return {"target": wanted, "achieved": found, "relative": math.sqrt(wanted / norm) if norm else 0.0}


class _Quantized:
    """A quantized checkpoint's tensors as floats: names of both dialects."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tensors = tensors(folder)

    def weights(self) -> list[str]:
        """Names that the unquantized checkpoint gives the quantized weights."""
        scales = [name.removesuffix("_scale") for name in sorted(self._tensors) if name.endswith(".weight_scale")]
        found = [name for name in scales if f"{name}_scale_2" in self._tensors or f"{name}_global_scale" in self._tensors]
        if not found:
            raise CheckpointError(f"{self._folder}: no NVFP4 weights; give a checkpoint that reset.quantize wrote")
        return found

    def error(self, name: str, weight: NDArray[Any]) -> float:
        def array(key: str) -> NDArray[Any]:
            tensor = self._tensors[key]
            return np.asarray(tensor.map()).reshape(tensor.shape)

        scales = array(f"{name}_scale").view(np.uint8)
        if f"{name}_packed" in self._tensors:
            made = nvfp4.NVFP4Tensor.from_divisor(array(f"{name}_packed"), scales, float(array(f"{name}_global_scale").reshape(-1)[0]))
        else:
            made = nvfp4.NVFP4Tensor(array(name), scales, float(array(f"{name}_scale_2").reshape(-1)[0]))
        if made.shape != weight.shape:
            raise CheckpointError(f"{self._folder}: {name!r} has shape {made.shape} and the source {weight.shape}: not the same model")
        return squared_distance(made.dequantize(), weight)


def _shown(names: list[str], progress: bool) -> Iterator[str]:
    if not progress:
        yield from names
        return
    from tqdm.auto import tqdm

    yield from tqdm(names, unit="tensor", desc="noise", disable=None)
