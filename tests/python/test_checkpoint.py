"""Checkpoints from Python: summaries, quantizing on disk, what interruption leaves behind, memory."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import struct
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import reset
from reference import nvfp4 as oracle
from reset import _core

OPTIONS: dict[str, Any] = {
    "format": "modelopt",
    "method": "nearest",
    "activations": "float",
    "kv": None,
    "ignore": ["lm_head"],
    "input_amax": None,
    "kv_amax": None,
    "max_shard_bytes": 5_000_000_000,
    "progress": None,
}


def quantize(src: Path, dst: Path, **options: Any) -> dict[str, Any]:
    return _core.quantize_checkpoint(src, dst, **{**OPTIONS, **options})


@pytest.fixture(scope="session")
def checkpoints(golden: Path) -> Path:
    return golden / "checkpoints"


def write_layers(dst: Path, layers: int, rows: int, cols: int) -> None:
    """A checkpoint of `layers` bfloat16 matrices [rows, cols], drawn from a seed."""
    row = np.random.default_rng(0).normal(0, 0.05, (rows, cols)).astype(ml_dtypes.bfloat16)
    _core.write_checkpoint(dst, json.dumps({"model_type": "none"}), {f"model.layers.{i}.mlp.up_proj.weight": row for i in range(layers)})


def test_inspect_is_json_ready_and_knows_both_dialects(checkpoints: Path) -> None:
    for name, dialect in [("modelopt_nvfp4", "modelopt"), ("ct_nvfp4", "compressed-tensors")]:
        report = _core.inspect(checkpoints / name)
        assert json.loads(json.dumps(report)) == report
        assert report["quantization"]["dialect"] == dialect
        assert report["layers"]["nvfp4"] == 14
        assert report["quantization"]["activations"] == "nvfp4"
    assert [name for name, _ in _core.CHECKPOINT_FORMATS] == ["modelopt", "compressed-tensors"]


@pytest.mark.timeout(60)
def test_a_file_of_very_many_layers_is_summarized_in_linear_time(tmp_path: Path) -> None:
    header = {f"model.layers.0.a{i:x}.weight": {"dtype": "U8", "shape": [0, 16], "data_offsets": [0, 0]} for i in range(100_000)}
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    (tmp_path / "config.json").write_text("{}")
    assert len(_core.inspect(tmp_path)["layers"]["groups"]) == len(header)


def test_errors_arrive_as_the_classes_of_the_package(checkpoints: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        _core.inspect(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        _core.inspect(tmp_path)
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    with pytest.raises(reset.FormatError, match=r"`gptq` is not supported; what loads: .*modelopt"):
        _core.inspect(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60))
    with pytest.raises(reset.CheckpointError, match="not a safetensors file"):
        _core.inspect(tmp_path)
    with pytest.raises(ValueError, match="choose one of modelopt, compressed-tensors"):
        quantize(checkpoints / "bf16_source", tmp_path / "out", format="gguf")
    with pytest.raises(FileExistsError, match="not empty"):
        quantize(checkpoints / "bf16_source", tmp_path)


def test_written_arrays_are_what_safetensors_reads(tmp_path: Path) -> None:
    arrays = {
        "f32": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
        "bf16": np.ones((2, 2), ml_dtypes.bfloat16),
        "scalar": np.array(3.0, np.float16),
        "bytes": np.arange(5, dtype=np.uint8),
        "empty": np.zeros((0, 4), np.float32),
    }
    _core.write_checkpoint(tmp_path / "out", '{"a": 1}', arrays)
    back = load_file(tmp_path / "out" / "model.safetensors")
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert back[name].shape == array.shape, name
        assert back[name].dtype == array.dtype, name
        np.testing.assert_array_equal(back[name], array)
    with pytest.raises(TypeError, match="complex64"):
        _core.write_checkpoint(tmp_path / "bad", "{}", {"a": np.zeros(2, np.complex64)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_progress_counts_bytes_and_an_exception_stops_the_run(checkpoints: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    summary = quantize(checkpoints / "bf16_source", tmp_path / "out", progress=lambda *call: calls.append(call))
    assert summary["quantized"] == 14
    assert calls[-1][0] == calls[-1][1] == summary["source_bytes"]
    assert "model.layers.0.mlp.up_proj" in [tensor for _, _, tensor in calls]

    def stop(done: int, total: int, tensor: str) -> None:
        raise LookupError(tensor)

    with pytest.raises(LookupError, match="mlp"):
        quantize(checkpoints / "bf16_source", tmp_path / "stopped", progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_ctrl_c_stops_a_run_and_leaves_nothing(tmp_path: Path) -> None:
    write_layers(tmp_path / "model", 6, 512, 1024)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt(done: int, total: int, tensor: str) -> None:
        signal.pthread_kill(main, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        quantize(tmp_path / "model", tmp_path / "out", progress=interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


CHILD = """
    import sys, time
    from reset import _core
    def progress(done, total, tensor):
        print(done, flush=True)
        time.sleep(0.02)
    _core.quantize_checkpoint(sys.argv[1], sys.argv[2], format="modelopt", method="nearest", activations="float", kv=None,
                              ignore=["lm_head"], input_amax=None, kv_amax=None, max_shard_bytes=400_000, progress=progress)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a signal")
@pytest.mark.parametrize("lines", [1, 5, 11])
def test_kill_in_the_middle_leaves_nothing_that_looks_whole(tmp_path: Path, lines: int) -> None:
    write_layers(tmp_path / "model", 12, 256, 512)
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path / "model"), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(lines):
            assert child.stdout.readline()
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (left,) = (p for p in tmp_path.iterdir() if p.name != "model")
    assert left.name.startswith(".out.incomplete-")
    assert not list(left.glob("*.safetensors"))
    assert not (left / "config.json").exists()
    with pytest.raises(FileNotFoundError):
        _core.inspect(left)
    assert quantize(tmp_path / "model", tmp_path / "out")["quantized"] == 12  # what was left is in nobody's way


MEMORY_CHILD = """
    import re, sys, threading, time
    from pathlib import Path
    from reset import _core
    def anonymous():
        return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024
    start = peak = anonymous()
    running = True
    def watch():
        global peak
        while running:
            peak = max(peak, anonymous())
            time.sleep(0.001)
    thread = threading.Thread(target=watch)
    thread.start()
    _core.quantize_checkpoint(sys.argv[1], sys.argv[2], format="compressed-tensors", method="nearest", activations="float", kv=None,
                              ignore=["lm_head"], input_amax=None, kv_amax=None, max_shard_bytes=10**9, progress=None)
    running = False
    thread.join()
    print(start, peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_checkpoint(tmp_path: Path) -> None:
    largest = 2048 * 4096 * 2
    write_layers(tmp_path / "model", 24, 2048, 4096)  # 400 MB
    command = [sys.executable, "-c", textwrap.dedent(MEMORY_CHILD), str(tmp_path / "model"), str(tmp_path / "out")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    start, peak = map(int, output.split())
    print(f"anonymous memory: {start / 1e6:.0f} MB at the start, {peak / 1e6:.0f} MB at the peak; largest tensor {largest / 1e6:.0f} MB")
    assert peak < 4 * largest + 200e6
    assert peak - start < 4 * largest, "above what the interpreter takes: a few copies of one tensor"
    assert _core.inspect(tmp_path / "out")["bits_per_weight"] == pytest.approx(4.5, abs=0.01)


FULL_DISK_CHILD = """
    import resource, sys
    from reset import _core
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        _core.quantize_checkpoint(sys.argv[1], sys.argv[2], format="modelopt", method="nearest", activations="float", kv=None,
                                  ignore=["lm_head"], input_amax=None, kv_amax=None, max_shard_bytes=10**9, progress=None)
    except OSError as error:
        print(error.errno, error)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on file sizes")
def test_a_disk_that_takes_no_more_is_an_oserror_and_leaves_nothing(tmp_path: Path) -> None:
    write_layers(tmp_path / "model", 4, 256, 512)
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK_CHILD), str(tmp_path / "model"), str(tmp_path / "out")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.startswith(f"{errno.EFBIG} ")
    assert "model.safetensors" in output
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_trained_model_with_a_width_of_172_is_quantized_where_it_can_be(shared: Path, tmp_path: Path) -> None:
    source = shared / "models" / "stories260K"
    summary = quantize(source, tmp_path / "out")
    assert summary["quantized"] == 5 * 6
    assert sorted(summary["plain"]) == ["lm_head", *(f"model.layers.{i}.mlp.down_proj" for i in range(5))]
    report = _core.inspect(tmp_path / "out")
    assert report["tied_embeddings"]
    groups = {group["pattern"]: group for group in report["layers"]["groups"]}
    assert groups["model.layers.*.mlp.down_proj"]["reason"] == "its 172 columns are not a multiple of 16"
    assert report["quantization"]["ignore"] == ["lm_head", "model.embed_tokens", *(f"model.layers.{i}.mlp.down_proj" for i in range(5))]
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(("format", "kv"), [("modelopt", "nvfp4"), ("modelopt", "fp8"), ("compressed-tensors", "fp8")])
def test_measured_magnitudes_make_a_checkpoint_that_runs_as_it_says(checkpoints: Path, tmp_path: Path, format: str, kv: str) -> None:
    source = checkpoints / "bf16_source"
    exact = _core.Model.load(source, kv="f32")
    inputs, cache = exact.measure([list(range(64)), list(range(128, 256))])
    quantize(source, tmp_path / "out", format=format, activations="nvfp4", kv=kv, input_amax=inputs, kv_amax=cache)
    model = _core.Model.load(tmp_path / "out")
    assert (model.weights, model.activations, model.calibration, model.kv) == ("nvfp4", "nvfp4", "checkpoint", kv)
    ids = np.arange(40, 72)
    expected, found = exact.logits(ids), model.logits(ids)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 0.01 < error < 0.3, error


def test_the_record_says_who_wrote_the_file(checkpoints: Path, tmp_path: Path) -> None:
    quantize(checkpoints / "bf16_source", tmp_path / "out", method="sweep", format="compressed-tensors")
    record = json.loads((tmp_path / "out" / "reset_nvfp4.json").read_text())
    assert re.fullmatch(r"reset-nvfp4 \d+\.\d+\.\d+", record.pop("producer"))
    assert record == {"format": "compressed-tensors", "method": "sweep", "activations": "float", "kv": None, "ignore": ["lm_head"]}


def mixed_recipes(dialect: str, announced: dict[str, Any], weight_only: list[str]) -> dict[str, Any]:
    """The announcement of a file whose layers `weight_only` have float inputs, as its dialect words it."""
    if dialect == "modelopt":
        layers = [f"model.layers.{i}.{name}" for i in range(2) for name in ("self_attn.q_proj", "mlp.up_proj")]
        recipes = dict.fromkeys(layers, "NVFP4") | dict.fromkeys(weight_only, "W4A16_NVFP4")
        layered = {name: {"quant_algo": recipe, "group_size": 16} for name, recipe in recipes.items()}
        return {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layered}
    group = announced["config_groups"]["group_0"]
    other = {**group, "input_activations": None, "targets": weight_only}
    return {**announced, "config_groups": {"group_0": group, "group_1": other}}


@pytest.mark.parametrize("dialect", ["modelopt", "compressed-tensors"])
def test_layers_announced_as_weight_only_beside_others_keep_float_inputs(checkpoints: Path, tmp_path: Path, dialect: str) -> None:
    source = checkpoints / {"modelopt": "modelopt_nvfp4", "compressed-tensors": "ct_nvfp4"}[dialect]
    codes, scale, inputs = {
        "modelopt": ("weight", "weight_scale_2", "input_scale"),
        "compressed-tensors": ("weight_packed", "weight_global_scale", "input_global_scale"),
    }[dialect]
    weight_only = [f"model.layers.{i}.mlp.down_proj" for i in range(2)]
    tensors = oracle.load(source / "model.safetensors")
    for layer in weight_only:
        del tensors[f"{layer}.{inputs}"]
    config = json.loads((source / "config.json").read_text())
    mixed = {**config, "quantization_config": mixed_recipes(dialect, config["quantization_config"], weight_only)}
    _core.write_checkpoint(tmp_path / "mixed", json.dumps(mixed), tensors)
    _core.write_checkpoint(tmp_path / "one", json.dumps(config), tensors)  # no word of them: they were not calibrated
    for layer in weight_only:  # the same layers as floats, which have float inputs beyond doubt
        make = reset.nvfp4.NVFP4Tensor if dialect == "modelopt" else reset.nvfp4.NVFP4Tensor.from_divisor
        parts = [tensors.pop(f"{layer}.{name}") for name in (codes, "weight_scale", scale)]
        tensors[f"{layer}.weight"] = make(parts[0], parts[1], parts[2].item()).dequantize()
    _core.write_checkpoint(tmp_path / "floats", json.dumps(config), tensors)
    models = {name: _core.Model.load(tmp_path / name, kv="f32") for name in ("mixed", "one", "floats")}
    assert {name: m.calibration for name, m in models.items()} == {
        "mixed": "checkpoint",
        "one": "checkpoint, else measured",
        "floats": "checkpoint",
    }
    logits = {name: m.logits(np.arange(24)) for name, m in models.items()}
    np.testing.assert_allclose(logits["mixed"], logits["floats"], atol=1e-5 * np.abs(logits["floats"]).max())
    assert np.abs(logits["one"] - logits["floats"]).max() > 1e-3 * np.abs(logits["floats"]).max()
    forced = _core.Model.load(tmp_path / "mixed", kv="f32", activations="nvfp4")
    assert forced.calibration == "checkpoint, else measured"
