"""reset.load and reset.quantize as a user meets them: options, what the model says of itself, and what goes wrong."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from random_checkpoint import PROMPT

import reset

if TYPE_CHECKING:
    from pathlib import Path


def test_a_model_says_what_it_holds(demo_nvfp4: Path) -> None:
    model = reset.load(demo_nvfp4)
    assert (model.weights, model.activations, model.lm_head, model.kv, model.device) == ("nvfp4", "nvfp4", "bf16", "bf16", "cpu")
    for word in ("Qwen3ForCausalLM", "nvfp4", "input scales checkpoint", "threads"):
        assert word in repr(model)
    parts = model.footprint()
    assert sorted(parts) == ["attention", "embedding", "lm_head", "mlp", "norms"]
    # Codes and block scales of the layers, rows padded to 16 and columns to 64 (none here), embedding and head in bf16.
    linear = 4 * (128 * 128 + 2 * 64 * 128 + 128 * 128 + 3 * 384 * 128)
    assert parts["attention"] + parts["mlp"] == pytest.approx(linear * 9 / 16, rel=0.02)
    assert parts["embedding"] == parts["lm_head"] == 2 * 384 * 128
    assert model.kv_bytes_per_token == 4 * 2 * 2 * 32 * 2
    assert model.config["hidden_size"] == 128
    assert model.vocab_size == 384


def test_logits_are_float32_for_every_position(demo_nvfp4: Path) -> None:
    logits = reset.load(demo_nvfp4).logits([1, 2, 3])
    assert logits.shape == (3, 384)
    assert logits.dtype == np.float32


@pytest.mark.parametrize("ids", [[], [[1, 2]], [1.5], ["a"], [384], [-1]], ids=str)
def test_ids_that_make_no_sense_are_refused(demo_nvfp4: Path, ids: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        reset.load(demo_nvfp4).logits(ids)


def test_quantizing_while_loading_equals_quantizing_first(demo_bf16: Path, demo_nvfp4: Path) -> None:
    ids = list(range(40))
    first = reset.load(demo_nvfp4, activations="float").logits(ids)
    np.testing.assert_array_equal(reset.load(demo_bf16, weights="nvfp4", activations="float").logits(ids), first)


@pytest.mark.parametrize("kv", ["f32", "bf16", "fp8", "nvfp4"])
@pytest.mark.parametrize("lm_head", ["bf16", "nvfp4"])
def test_every_cache_and_head_runs(demo_bf16: Path, kv: str, lm_head: str) -> None:
    model = reset.load(demo_bf16, weights="nvfp4", activations="nvfp4", lm_head=lm_head, kv=kv)
    assert (model.kv, model.lm_head) == (kv, lm_head)
    g = reset.generate(model, PROMPT, policy=reset.FixedTemperature(0.8), max_new_tokens=20, seed=1)
    assert isinstance(g, reset.Generation)
    assert np.isfinite(g.trace.entropy).all()


@pytest.mark.parametrize("calibration", [None, ["Some text to measure on."], "dynamic"])
def test_input_scales_are_measured_or_dynamic(demo_bf16: Path, calibration: Any) -> None:
    model = reset.load(demo_bf16, weights="nvfp4", activations="nvfp4", calibration=calibration)
    assert model.describe()["calibration"] == ("dynamic" if calibration == "dynamic" else "measured")


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "int4"},
        {"activations": "fp8"},
        {"lm_head": "int8"},
        {"kv": "int8"},
        {"method": "best", "weights": "nvfp4"},
        {"threads": 0},
        {"device": "tpu"},
        {"calibration": "text"},
        {"calibration": []},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(demo_bf16: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        reset.load(demo_bf16, **options)


def test_missing_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        reset.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        reset.load(tmp_path)


def test_an_unknown_architecture_lists_the_known_ones(demo_bf16: Path, tmp_path: Path) -> None:
    path = tmp_path / "m"
    shutil.copytree(demo_bf16, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "architectures": ["MambaForCausalLM"]}))
    with pytest.raises(reset.ConfigError, match=r"MambaForCausalLM[\s\S]*Qwen3ForCausalLM"):
        reset.load(path)


def test_a_truncated_file_is_named(demo_bf16: Path, tmp_path: Path) -> None:
    path = tmp_path / "m"
    shutil.copytree(demo_bf16, path)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(reset.CheckpointError, match=r"model\.safetensors"):
        reset.load(path)


def test_weights_with_nan_are_refused_by_name(demo_bf16: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "m"
    shutil.copytree(demo_bf16, path)
    tensors = load_file(path / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj"):
        reset.quantize(path, tmp_path / "out", activations="float")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing(demo_bf16: Path, tmp_path: Path) -> None:
    """A limit on file size stands in for a full disk: the write fails in the middle either way."""
    import signal

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(OSError, match=r"\.safetensors"):
            reset.quantize(demo_bf16, tmp_path / "out", activations="float")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["modelopt", "compressed-tensors"])
@pytest.mark.parametrize("kv", [None, "fp8"])
def test_what_quantize_writes_loads_and_generates(demo_bf16: Path, tmp_path: Path, format: str, kv: str | None) -> None:
    summary = reset.quantize(demo_bf16, tmp_path / "out", format=format, kv=kv, method="sweep")
    assert summary["quantized"] == 28
    model = reset.load(tmp_path / "out")
    assert model.kv == (kv or "bf16")
    assert model.activations == "nvfp4"
    g = reset.generate(model, PROMPT, max_new_tokens=4)
    assert isinstance(g, reset.Generation)


def test_a_real_model_repeats_its_reference(shared: Path) -> None:
    """stories260K: 200 greedy ids and entropies of an independent numpy forward pass."""
    folder = shared / "models" / "stories260K"
    reference = json.loads((folder / "greedy_reference.json").read_text())
    prompt, expected = reference["prompt_ids"], reference["greedy_ids"]
    g = reset.generate(reset.load(folder, kv="f32"), prompt, policy=reset.Greedy(), max_new_tokens=len(expected) - len(prompt))
    assert isinstance(g, reset.Generation)
    assert prompt + g.token_ids == expected
    np.testing.assert_allclose(g.trace.entropy, reference["entropy_nats"][: len(g.token_ids)], atol=1e-4)


def test_nan_while_quantizing_names_its_own_layer(demo_bf16: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "m"
    shutil.copytree(demo_bf16, path)
    tensors = load_file(path / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj"):
        reset.load(path, weights="nvfp4")


def test_layers_that_do_not_fill_blocks_stay_and_are_named(tmp_path: Path) -> None:
    from reset import _core

    config = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 1, "num_attention_heads": 5,
        "num_key_value_heads": 5, "vocab_size": 32, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
    }  # fmt: skip
    shapes = {f"self_attn.{name}_proj": (40, 40) for name in "qkvo"}
    shapes |= {"mlp.gate_proj": (72, 40), "mlp.up_proj": (72, 40), "mlp.down_proj": (40, 72)}
    tensors = {f"model.layers.0.{name}.weight": np.ones(shape, np.float32) for name, shape in shapes.items()}
    tensors |= {f"model.layers.0.{name}_layernorm.weight": np.ones(40, np.float32) for name in ("input", "post_attention")}
    tensors |= {"model.norm.weight": np.ones(40, np.float32), "model.embed_tokens.weight": np.ones((32, 40), np.float32)}
    _core.write_checkpoint(str(tmp_path / "m"), json.dumps(config), tensors)
    model = reset.load(tmp_path / "m", weights="nvfp4")
    assert model.weights == "f32"
    assert len(model.core.unquantized) == 7
    with pytest.raises(ValueError, match=r"activations[\s\S]*multiple of 16"):
        reset.load(tmp_path / "m", weights="nvfp4", activations="nvfp4")


@pytest.mark.parametrize("options", [{"format": "gguf"}, {"kv": "int8"}, {"activations": "int8"}, {"max_shard_bytes": 0}], ids=str)
def test_options_of_quantize_are_checked_before_the_work(demo_bf16: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        reset.quantize(demo_bf16, tmp_path / "out", **options)


def test_one_name_to_ignore_may_be_a_string(demo_bf16: Path, tmp_path: Path) -> None:
    summary = reset.quantize(demo_bf16, tmp_path / "out", activations="float", ignore="model.layers.0.*")
    assert summary["quantized"] == 21 + 1  # the head is no longer ignored


def destination(kind: str, folder: Path) -> Any:
    """A place that cannot become a new directory."""
    if kind == "file":
        (folder / "out").write_text("")
    elif kind == "below a file":
        (folder / "file").write_text("")
        return folder / "file" / "out"
    elif kind == "not empty":
        (folder / "out").mkdir()
        (folder / "out" / "notes").write_text("")
    elif kind == "link":
        (folder / "out").symlink_to(folder / "nowhere")
    elif kind == "dots":
        (folder / "empty").mkdir()
        return folder / "empty" / ".."
    return folder / "out"


def measuring(*_: Any) -> Any:
    raise AssertionError("measures before it asks")


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("file", "is there already and not a directory"),
        ("below a file", "lies below a file"),
        ("not empty", "is there already and not empty"),
        ("link", "is a symbolic link"),
        ("dots", "not empty"),
    ],
)
def test_a_destination_that_is_taken_is_refused_before_anything_is_measured(
    demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, complaint: str
) -> None:
    monkeypatch.setattr("reset.checkpoint._measure", measuring)
    out = destination(kind, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match=f"{complaint}; give a new directory"):
        reset.quantize(demo_bf16, out)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_takes_no_entry_is_refused_before_anything_is_measured(
    demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reset.checkpoint._measure", measuring)
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError, match="incomplete"):
        reset.quantize(demo_bf16, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "kind", "complaint"),
    [
        ({"dst": None}, TypeError, "dst is a NoneType; give the path"),
        ({"dst": 3}, TypeError, "dst is a int"),
        ({"dst": b"out"}, TypeError, "dst is a bytes"),
        ({"ignore": None}, TypeError, "ignore = None is not possible: give names or globs"),
        ({"ignore": [3]}, TypeError, r"ignore = \[3\]"),
        ({"ignore": ["model.layers.9.*"]}, ValueError, "names no linear layer"),
        ({"method": None}, ValueError, "method = None is not possible: use one of 'nearest'"),
        ({"format": "compressed-tensors", "kv": "nvfp4"}, ValueError, 'kv = "nvfp4" is not possible'),
    ],
    ids=str,
)
def test_what_can_be_refused_is_refused_before_anything_is_measured(
    demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], kind: type[Exception], complaint: str
) -> None:
    monkeypatch.setattr("reset.checkpoint._measure", measuring)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=complaint):
        reset.quantize(demo_bf16, **{"dst": tmp_path / "out", **options})
    assert list(tmp_path.iterdir()) == []


def test_heads_that_do_not_fill_blocks_are_refused_for_nvfp4_caches(
    demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reset.checkpoint._measure", measuring)
    path = tmp_path / "m"
    shutil.copytree(demo_bf16, path)
    config = json.loads((path / "config.json").read_text())
    del config["head_dim"]  # then it is hidden_size / num_attention_heads
    config.update(architectures=["LlamaForCausalLM"], num_attention_heads=16, num_key_value_heads=16)
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match='kv = "nvfp4" is not possible: heads of 8 do not fill blocks of 16; use kv="fp8"'):
        reset.quantize(path, tmp_path / "out", kv="nvfp4")


def test_the_home_directory_may_be_abbreviated(demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    reset.quantize(demo_bf16, "~/out", activations="float")
    assert (tmp_path / "out" / "config.json").is_file()


def test_an_empty_destination_outlives_a_run_that_fails(demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reset.checkpoint._Bar.__call__", stop)
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        reset.quantize(demo_bf16, tmp_path / "out", activations="float", progress=True)
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_texts_longer_than_the_context_are_measured_in_pieces(demo_bf16: Path, tmp_path: Path) -> None:
    from reset import _core

    path = tmp_path / "m"
    shutil.copytree(demo_bf16, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 40}))
    model = _core.Model.load(path)
    ids = list(range(3, 103))
    assert model.measure([ids]) == model.measure([ids[:40], ids[40:80], ids[80:]])
    with pytest.raises(ValueError, match="at least one token"):
        model.measure([ids, []])
    assert reset.load(path, weights="nvfp4", activations="nvfp4").core.calibration == "measured"  # on the built-in texts


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends a signal")
@pytest.mark.parametrize("work", ["load", "measure"])
def test_ctrl_c_is_answered_while_measuring(demo_bf16: Path, work: str) -> None:
    from reset import _core

    texts = [list(range(384)) for _ in range(3000)]  # minutes of work
    model = _core.Model.load(demo_bf16)

    def run() -> None:
        if work == "load":
            _core.Model.load(demo_bf16, weights="nvfp4", activations="nvfp4", calibration=texts)
        else:
            model.measure(texts)

    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    started = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert time.monotonic() - started < 10
