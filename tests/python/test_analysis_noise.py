"""The control checkpoint: the tensors that quantization touches, its squared error, noise and nothing else."""

from __future__ import annotations

import json
import shutil
import struct
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import deserialize
from safetensors.numpy import save_file
from scipy import stats

import reset
from reset.analysis import noisy_checkpoint
from reset.analysis.tensors import tensors

if TYPE_CHECKING:
    from pathlib import Path


def weights(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors, read by the safetensors library."""
    kinds = {"BF16": ml_dtypes.bfloat16, "F32": np.float32, "U8": np.uint8, "F8_E4M3": ml_dtypes.float8_e4m3fn}
    found: dict[str, np.ndarray[Any, Any]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, entry in deserialize(file.read_bytes()):
            found[name] = np.frombuffer(bytes(entry["data"]), kinds[entry["dtype"]]).reshape(entry["shape"])
    return found


def quantized_names(folder: Path) -> set[str]:
    return {name.removesuffix("_scale") for name in weights(folder) if name.endswith(".weight_scale")}


@pytest.fixture(scope="module")
def noisy(demo_bf16: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("noise") / "n"
    noisy_checkpoint(demo_bf16, path, seed=3)
    return path


def test_only_the_tensors_that_quantize_touches_have_noise(demo_bf16: Path, demo_nvfp4: Path, noisy: Path) -> None:
    before, after = weights(demo_bf16), weights(noisy)
    assert set(before) == set(after)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == quantized_names(demo_nvfp4)
    assert len(changed) == 28
    assert all(after[name].dtype == before[name].dtype == ml_dtypes.bfloat16 for name in before)


@pytest.mark.parametrize("method", ["nearest", "four_over_six"])
def test_the_squared_error_is_that_of_loading_in_nvfp4(demo_bf16: Path, tmp_path: Path, method: Any) -> None:
    record = noisy_checkpoint(demo_bf16, tmp_path / "n", method=method)
    before, after = weights(demo_bf16), weights(tmp_path / "n")
    for name, entry in record["tensors"].items():
        w = before[name].astype(np.float64)
        wanted = np.square(reset.nvfp4.quantize(before[name], method=method).dequantize().astype(np.float64) - w).sum()
        found = np.square(after[name].astype(np.float64) - w).sum()
        assert entry["target"] == pytest.approx(wanted, rel=1e-12)
        assert entry["achieved"] == pytest.approx(found, rel=1e-12)
        assert found == pytest.approx(wanted, rel=1e-4)
        assert entry["relative"] == pytest.approx(np.sqrt(wanted / np.square(w).sum()))
        assert 0.05 < entry["relative"] < 0.15
    assert record["target"] == pytest.approx(sum(e["target"] for e in record["tensors"].values()))
    assert json.loads((tmp_path / "n" / "noise.json").read_text()) == record


@pytest.mark.parametrize("dialect", ["modelopt", "compressed-tensors"])
def test_the_squared_error_of_a_given_checkpoint_is_matched(demo_bf16: Path, tmp_path: Path, dialect: str) -> None:
    reset.quantize(demo_bf16, tmp_path / "q", format=dialect, activations="float", ignore=["lm_head", "*.o_proj"])
    record = noisy_checkpoint(demo_bf16, tmp_path / "n", like=tmp_path / "q")
    assert set(record["tensors"]) == quantized_names(tmp_path / "q")
    assert len(record["tensors"]) == 24
    before, q, after = weights(demo_bf16), weights(tmp_path / "q"), weights(tmp_path / "n")
    grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    for name in record["tensors"]:
        # Decoded by hand: low nibble first, sign in its highest bit.
        codes = q[name if dialect == "modelopt" else f"{name}_packed"]
        nibbles = np.stack([codes & 15, codes >> 4], -1).reshape(len(codes), -1)
        values = np.where(nibbles & 8, -1, 1) * grid[nibbles & 7]
        scales = q[f"{name}_scale"].astype(np.float64)
        factor = float(q[f"{name}_scale_2"]) if dialect == "modelopt" else 1 / float(q[f"{name}_global_scale"][0])
        w = before[name].astype(np.float64)
        wanted = np.square(values * np.repeat(scales, 16, axis=1) * factor - w).sum()
        assert np.square(after[name].astype(np.float64) - w).sum() == pytest.approx(wanted, rel=2e-4)


def test_the_noise_is_normal_and_knows_nothing_of_weights_or_quantization(demo_bf16: Path, noisy: Path) -> None:
    before, after = weights(demo_bf16), weights(noisy)
    name = "model.layers.1.mlp.gate_proj.weight"
    noise = (after[name].astype(np.float64) - before[name].astype(np.float64)).ravel()
    error = (reset.nvfp4.quantize(before[name]).dequantize().astype(np.float64) - before[name].astype(np.float64)).ravel()
    scaled = noise / noise.std()
    assert abs(scaled.mean()) < 5 / np.sqrt(noise.size)
    # Rounding to BF16 leaves steps in it, far smaller than its spread.
    assert abs(stats.kurtosis(scaled)) < 0.1
    assert stats.kstest(scaled, "norm").statistic < 0.02
    bound = 5 / np.sqrt(noise.size)
    assert abs(np.corrcoef(noise, before[name].astype(np.float64).ravel())[0, 1]) < bound
    assert abs(np.corrcoef(noise, error)[0, 1]) < bound
    other = after["model.layers.2.mlp.gate_proj.weight"].astype(np.float64) - before["model.layers.2.mlp.gate_proj.weight"].astype(
        np.float64
    )
    assert abs(np.corrcoef(noise, other.ravel())[0, 1]) < bound


def test_the_seed_decides(demo_bf16: Path, noisy: Path, tmp_path: Path) -> None:
    noisy_checkpoint(demo_bf16, tmp_path / "same", seed=3)
    noisy_checkpoint(demo_bf16, tmp_path / "other", seed=4)
    first = (noisy / "model.safetensors").read_bytes()
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == first
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != first


def test_it_is_a_checkpoint_that_loads(demo_bf16: Path, noisy: Path) -> None:
    model, source = reset.load(noisy), reset.load(demo_bf16)
    assert (model.weights, model.activations) == ("bf16", "float")
    assert model.fingerprint != source.fingerprint
    assert model.tokenizer is not None
    ids = model.tokenizer.encode("First, the number of apples:")
    a, b = model.logits(ids), source.logits(ids)
    assert np.isfinite(a).all()
    assert 0.01 < np.abs(a - b).mean() < np.abs(b).mean()


def test_shards_and_other_dtypes_keep_their_form(demo_bf16: Path, tmp_path: Path) -> None:
    source = tmp_path / "sharded"
    shutil.copytree(demo_bf16, source)
    (source / "model.safetensors").unlink()
    whole = {name: tensor.astype(np.float32) for name, tensor in weights(demo_bf16).items()}
    names = sorted(whole)
    parts = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, some in parts.items():
        save_file({name: whole[name] for name in some}, source / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, some in parts.items() for name in some}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    record = noisy_checkpoint(source, tmp_path / "n")
    assert {p.name for p in (tmp_path / "n").iterdir()} == {p.name for p in source.iterdir()} | {"noise.json"}
    after = weights(tmp_path / "n")
    assert {str(tensor.dtype) for tensor in after.values()} == {"float32"}
    assert len(record["tensors"]) == 28
    assert record["achieved"] == pytest.approx(record["target"], rel=1e-4)
    assert reset.load(tmp_path / "n").weights == "f32"


def test_nothing_is_left_behind_when_it_fails(demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def stop(*arguments: Any) -> Any:
        calls.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("reset.analysis.noise._add_noise", stop)
    with pytest.raises(KeyboardInterrupt):
        noisy_checkpoint(demo_bf16, tmp_path / "n")
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_done_is_refused(demo_bf16: Path, demo_nvfp4: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        noisy_checkpoint(demo_bf16, tmp_path / "full")
    with pytest.raises(FileExistsError, match="is a file"):
        noisy_checkpoint(demo_bf16, tmp_path / "full" / "x")
    with pytest.raises(reset.CheckpointError, match="quantized already"):
        noisy_checkpoint(demo_nvfp4, tmp_path / "n")
    with pytest.raises(ValueError, match="no linear layer"):
        noisy_checkpoint(demo_bf16, tmp_path / "n", ignore=["*"])
    with pytest.raises(reset.CheckpointError, match="no NVFP4 weights"):
        noisy_checkpoint(demo_bf16, tmp_path / "n", like=demo_bf16)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        noisy_checkpoint(tmp_path / "missing", tmp_path / "n")
    assert not (tmp_path / "n").exists()


def test_tensors_are_those_that_the_safetensors_library_reads(demo_nvfp4: Path) -> None:
    found, wanted = tensors(demo_nvfp4), weights(demo_nvfp4)
    assert set(found) == set(wanted)
    for name, tensor in found.items():
        assert tensor.shape == wanted[name].shape
        assert tensor.map().tobytes() == wanted[name].tobytes()


def header(value: Any, length: int | None = None) -> bytes:
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x01", header({}, length=1 << 40), header([]), header({"a": 1}), header({"a": {"dtype": "F32", "shape": [2]}}),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}) + b"1234567",
        header({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}) + b"12345678",
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}) + b"12345678",
    ],
)  # fmt: skip
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(reset.CheckpointError, match=r"model\.safetensors"):
        tensors(tmp_path)


def test_folders_without_or_with_double_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="safetensors"):
        tensors(tmp_path)
    for name in ("a", "b"):
        save_file({"w": np.zeros(2, np.float32)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(reset.CheckpointError, match=r"'w' is in a\.safetensors and in b\.safetensors"):
        tensors(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    save_file({"w": np.zeros(2, np.int64)}, tmp_path / "a.safetensors")
    with pytest.raises(reset.CheckpointError, match="I64"):
        tensors(tmp_path)["w"].map()
