"""`_core.Model`: loading, logits, and what it says about itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load

import reset
from reset import _core

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "models" / "qwen3_tied"


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found.astype(np.float64) - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(("kv", "bound"), [("f32", 1e-3), ("bf16", 1e-2)])
@pytest.mark.parametrize(
    "name", ["llama_linear", "llama_llama3", "llama_yarn", "qwen2_r1", "qwen2_window", "qwen2_yarn", "qwen3_odd", "qwen3_tied"]
)
def test_logits_are_those_of_transformers(golden: Path, name: str, kv: str, bound: float) -> None:
    reference = load((golden / "models" / name / "reference.golden").read_bytes())
    model = _core.Model.load(golden / "models" / name, kv=kv)
    logits = model.logits(reference["input_ids"])
    assert logits.dtype == np.float32
    assert logits.shape == reference["logits"].shape
    assert relative_error(logits, reference["logits"]) < bound


def test_a_model_says_what_it_is(folder: Path) -> None:
    model = _core.Model.load(folder, weights="nvfp4", activations="nvfp4", lm_head="nvfp4", kv="fp8", threads=2)
    assert (model.weights, model.activations, model.lm_head, model.kv) == ("nvfp4", "nvfp4", "nvfp4", "fp8")
    assert (model.calibration, model.kv_scales, model.unquantized) == ("measured", "measured", [])
    assert (model.architecture, model.vocab_size, model.max_positions, model.threads) == ("Qwen3ForCausalLM", 80, 256, 2)
    assert model.config["hidden_size"] == 48
    assert model.table in repr(model)
    assert "measured" in repr(model)
    parts = model.footprint()
    assert parts["weights"] == sum(parts[p] for p in ("embedding", "attention", "mlp", "norms", "lm_head"))
    assert parts["kv_per_token"] == 2 * 2 * 2 * 16  # layers, keys and values, heads, head_dim
    dynamic = _core.Model.load(folder, weights="nvfp4", activations="nvfp4", calibration="dynamic")
    assert dynamic.calibration == "dynamic"
    plain = _core.Model.load(folder)
    assert (plain.weights, plain.activations, plain.calibration, plain.kv, plain.kv_scales) == ("bf16", "float", None, "bf16", None)
    assert plain.footprint()["embedding"] == 0  # the head's rows serve


def test_calibration_texts_decide_the_scales(folder: Path) -> None:
    options = {"weights": "nvfp4", "activations": "nvfp4", "kv": "f32"}
    first = _core.Model.load(folder, calibration=[[1, 2, 3]], **options)
    again = _core.Model.load(folder, calibration=[(1, 2, 3)], **options)
    other = _core.Model.load(folder, calibration=[[70, 71, 72, 5, 6]], **options)
    ids = [1, 2, 3, 4]
    np.testing.assert_array_equal(first.logits(ids), again.logits(ids))
    assert (first.logits(ids) != other.logits(ids)).any()


def test_measured_magnitudes_have_checkpoint_names(folder: Path) -> None:
    model = _core.Model.load(folder, kv="f32")
    inputs, kv = model.measure([[1, 2, 3], [4, 5]])
    assert set(kv) == {"model.layers.0.self_attn", "model.layers.1.self_attn"}
    assert len(inputs) == 15
    assert inputs["model.layers.0.self_attn.q_proj"] == inputs["model.layers.0.self_attn.v_proj"] > 0
    assert inputs["lm_head"] > 0


@pytest.mark.parametrize("ids", [(1, 2), np.array([1, 2], np.int32), np.array([1, 2], np.uint8)])
def test_ids_may_be_any_flat_sequence_of_integers(folder: Path, ids: object) -> None:
    model = _core.Model.load(folder)
    np.testing.assert_array_equal(model.logits(ids), model.logits([1, 2]))


@pytest.mark.parametrize(
    ("ids", "error", "says"),
    [
        ([], ValueError, "at least one token"),
        ([1, 80], ValueError, "80 at index 1"),
        ([-1], ValueError, "-1 at index 0"),
        ([2**40], ValueError, "no token id"),
        (["a"], TypeError, "list of int"),
        ([[1, 2]], TypeError, "flat list"),
        ([1.5], TypeError, "list of int"),
        ([0] * 257, reset.ConfigError, "at most 256"),
    ],
)
def test_wrong_ids_are_refused(folder: Path, ids: list[int], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        _core.Model.load(folder).logits(ids)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weights": "int8"}, 'weights = "int8".*"nvfp4"'),
        ({"activations": "fp8"}, "activations"),
        ({"kv": "int8"}, "kv.*fp8"),
        ({"method": "best"}, "method.*sweep"),
        ({"lm_head": "f32"}, "lm_head"),
        ({"threads": 0}, "threads = 0"),
        ({"calibration": "static"}, "dynamic"),
        ({"calibration": []}, "calibration"),
        ({"calibration": [[1, 99]]}, None),
        ({"activations": "nvfp4"}, 'weights="nvfp4"'),
    ],
)
def test_wrong_options_are_refused(folder: Path, options: dict[str, object], says: str | None) -> None:
    if says is None:  # texts are read only where something is measured
        options = {**options, "weights": "nvfp4", "activations": "nvfp4"}
        says = "99 at index 1"
    with pytest.raises(ValueError, match=says):
        _core.Model.load(folder, **options)


def test_missing_folders_and_unknown_architectures_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        _core.Model.load(tmp_path / "nowhere")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace("Qwen3ForCausalLM", "GPT2LMHeadModel"))
    names = [name for name, _ in _core.architectures()]
    with pytest.raises(reset.ConfigError, match=f"GPT2LMHeadModel.*{names[0]}.*{names[-1]}"):
        _core.Model.load(tmp_path)
    (tmp_path / "config.json").write_text(config.replace('"hidden_size": 48', '"hidden_size": 64'))
    with pytest.raises(reset.CheckpointError, match=r"layernorm\.weight"):
        _core.Model.load(tmp_path)


def test_sequences_are_bounded_by_threads_nowhere(folder: Path) -> None:
    ids = list(range(70))
    expected = _core.Model.load(folder, threads=1).logits(ids)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(_core.Model.load(folder, threads=threads).logits(ids), expected)


@pytest.mark.parametrize("policy", ["reset", "fixed", "none"])
def test_the_decode_benchmark_counts_steps_and_bytes(policy: str) -> None:
    assert "qwen3-0.6b" in _core.bench_shapes()
    result = _core.bench_decode("tiny", batches=[1, 3], context=40, steps=5, prompt=10, threads=1, policy=policy)
    assert (result["weights"], result["activations"], result["lm_head"], result["kv"]) == ("nvfp4", "nvfp4", "nvfp4", "bf16")
    assert result["prefill"].shape == (3,)
    for batch in (1, 3):
        entry = result["batches"][batch]
        assert entry["seconds"].shape == (5,)
        assert (entry["seconds"] > 0).all()
        assert entry["kv_bytes"] == batch * 45 * 2 * 2 * 2 * 32 * 2
    with pytest.raises(ValueError, match=r"qwen3-0\.6b"):
        _core.bench_decode("gpt-5")
    with pytest.raises(ValueError, match=r"policy.*none"):
        _core.bench_decode("tiny", policy="warm")
    with pytest.raises(reset.ConfigError, match="at most 131072"):
        _core.bench_decode("tiny", context=10**6, policy=policy)


def weights(folder: Path) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    tensors: dict[str, np.ndarray] = {}
    for shard in folder.glob("*.safetensors"):
        tensors |= load(shard.read_bytes())
    return json.loads((folder / "config.json").read_text()), tensors


def logits_of(tmp_path: Path, config: dict[str, object], tensors: dict[str, np.ndarray], **options: object) -> np.ndarray:
    _core.write_checkpoint(tmp_path / "written", json.dumps(config), tensors)
    return _core.Model.load(tmp_path / "written", kv="f32", **options).logits(list(range(40)))


def test_fused_projections_are_cut_by_rows(golden: Path, tmp_path: Path) -> None:
    config, tensors = weights(golden / "models" / "llama_llama3")
    expected = _core.Model.load(golden / "models" / "llama_llama3", kv="f32").logits(list(range(40)))
    for layer in ("model.layers.0", "model.layers.1"):
        for fused, parts in (("self_attn.qkv_proj", "qkv"), ("mlp.gate_up_proj", ("gate", "up"))):
            block = fused.split(".")[0]
            rows = [tensors.pop(f"{layer}.{block}.{part}_proj.weight") for part in parts]
            tensors[f"{layer}.{fused}.weight"] = np.concatenate(rows)
    np.testing.assert_array_equal(logits_of(tmp_path, config, tensors), expected)


def test_awq_factors_multiply_the_input(golden: Path, tmp_path: Path) -> None:
    """Powers of two move between weight and input without a rounding, so the logits are the same bits."""
    config, tensors = weights(golden / "models" / "llama_llama3")
    expected = _core.Model.load(golden / "models" / "llama_llama3", kv="f32").logits(list(range(40)))
    for number, name in enumerate(["model.layers.0.self_attn.k_proj", "model.layers.1.mlp.down_proj", "lm_head"]):
        weight = tensors[f"{name}.weight"]
        factors = (2.0 ** np.random.default_rng(number).integers(-3, 4, weight.shape[1])).astype(np.float32)
        tensors[f"{name}.weight"] = weight / factors
        tensors[f"{name}.pre_quant_scale"] = factors
    np.testing.assert_array_equal(logits_of(tmp_path, config, tensors), expected)


@pytest.mark.parametrize("tied", [False, True])
def test_a_quantized_head_in_the_file_equals_one_quantized_while_loading(golden: Path, tmp_path: Path, tied: bool) -> None:
    config, tensors = weights(golden / "models" / "llama_llama3")
    config["tie_word_embeddings"] = tied
    if tied:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    head = reset.nvfp4.quantize(tensors["lm_head.weight"])
    (tmp_path / "plain").mkdir()
    expected = logits_of(tmp_path / "plain", config, tensors, lm_head="nvfp4")
    tensors["lm_head.weight"] = head.codes
    tensors["lm_head.weight_scale"] = head.block_scales.view(ml_dtypes.float8_e4m3fn)
    tensors["lm_head.weight_scale_2"] = np.array([head.tensor_scale], np.float32)
    np.testing.assert_array_equal(logits_of(tmp_path, config, tensors), expected)


def test_dequantizing_to_bf16_is_what_weights_bf16_means(shared: Path) -> None:
    ids = [1, 5, 17, 200, 33, 255, 0, 42]
    folder = shared / "vectors" / "checkpoints" / "modelopt_nvfp4"
    model = _core.Model.load(folder, weights="bf16", kv="f32")
    assert (model.weights, model.activations) == ("bf16", "float")
    exact = _core.Model.load(folder, activations="float", kv="f32").logits(ids)
    assert 0 < relative_error(model.logits(ids), exact) < 0.01  # each weight is rounded at 2^-9


DTYPES = {"BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F32": np.float32, "U8": np.uint8}


def tensors_of(file: Path) -> dict[str, np.ndarray]:
    """A safetensors file, read by the definition of the format."""
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    out = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        out[name] = np.frombuffer(data[start + begin : start + end], DTYPES[info["dtype"]]).reshape(info["shape"])
    return out


def dequantized(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """NVFP4 layers (ModelOpt's names) as float32, by the definition: E2M1 · E4M3 · tensor scale."""
    e2m1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
    out = {name: t for name, t in tensors.items() if "_scale" not in name}
    for name, codes in tensors.items():
        if codes.dtype == np.uint8:
            values = e2m1[np.stack([codes & 15, codes >> 4], -1).reshape(len(codes), -1)]
            scales = tensors[f"{name}_scale"].astype(np.float32) * tensors[f"{name}_scale_2"]
            out[name] = values * np.repeat(scales, 16, axis=1)
    return out


@pytest.mark.parametrize("name", ["modelopt_nvfp4", "modelopt_nvfp4_mlp_only", "modelopt_w4a16_nvfp4"])
def test_nvfp4_layers_equal_their_definition(shared: Path, tmp_path: Path, name: str) -> None:
    """Both sides compute in f32, in another order: 1e-5 is far above that and far below one wrong code."""
    folder = shared / "vectors" / "checkpoints" / name
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    expected = logits_of(tmp_path, config, dequantized(tensors_of(folder / "model.safetensors")))
    model = _core.Model.load(folder, activations="float", kv="f32")
    assert model.weights == "nvfp4"
    assert relative_error(model.logits(list(range(40))), expected) < 1e-5
    static = _core.Model.load(folder, kv="f32")
    assert static.calibration == (None if "w4a16" in name else "checkpoint")
    # W4A4 itself moves the flat logits of a random model by some 10 %; a wrong scale would move them by far more.
    assert relative_error(static.logits(list(range(40))), expected) < 0.3
