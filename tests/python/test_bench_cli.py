"""``reset-nvfp4 bench``: every command's figures on a tiny model, and what is said of a machine that is not quiet."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from reset import _core
from reset.cli.bench import _quiet
from reset.cli.bench._quiet import Quiet

if TYPE_CHECKING:
    from pathlib import Path


def bench(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, "-m", "reset", "bench", *arguments, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_batch_has_a_row_for_each_size() -> None:
    result = bench("batch", "--shape", "tiny", "--size", "1", "--size", "3", "--tokens", "3")
    assert [row["batch"] for row in result["rows"]] == [1, 3]
    for row in result["rows"]:
        assert row["tokens_per_second"] == pytest.approx(1e3 * row["batch"] / row["ms"])
        assert row["ms_p10"] <= row["ms"] <= row["ms_p90"]
    assert result["read_gb_per_s"] > 0
    assert "clean" in result


def test_context_tells_what_a_step_takes_beyond_its_bytes() -> None:
    result = bench("context", "--shape", "tiny", "--length", "0", "--length", "300", "--tokens", "3")
    short, long = result["rows"]
    assert (short["context"], long["context"]) == (0, 300)
    assert 1e6 * (long["mb"] - short["mb"]) == pytest.approx(
        300 * 2 * 2 * 2 * 32 * 2
    )  # positions · layers · (k, v) · heads · head_dim · bf16
    for row in result["rows"]:
        assert row["ms_beyond_bandwidth"] == pytest.approx(row["ms"] - row["mb"] / result["read_gb_per_s"])


def test_prefill_counts_the_tokens_of_the_prompt() -> None:
    (row,) = bench("prefill", "--shape", "tiny", "--length", "70")["rows"]
    assert row["tokens"] == 70
    assert row["tokens_per_second"] == pytest.approx(70 / row["ms"] * 1e3)
    assert row["ms_min"] <= row["ms"] <= row["ms_max"]


def test_load_times_a_checkpoint(demo_bf16: Path) -> None:
    result = bench("load", str(demo_bf16), "--runs", "2")
    assert 0 < result["seconds_min"] <= result["seconds"] <= result["seconds_max"]
    assert result["model_bytes"] > 100_000


def test_load_makes_a_checkpoint_of_a_size() -> None:
    result = bench("load", "--shape", "tiny", "--runs", "2")
    assert result["checkpoint"] == "tiny"
    hidden, intermediate, vocab = 64, 128, 512
    rows_of_layer = 4 * 32 + 2 * 2 * 32  # query, key, value
    weights = vocab * hidden + 2 * (rows_of_layer * hidden + hidden * 4 * 32 + 3 * hidden * intermediate)
    assert weights * 9 / 16 < result["model_bytes"] < weights * 2


@pytest.mark.parametrize("arguments", [(), ("folder", "--shape", "tiny")])
def test_load_wants_a_checkpoint_or_a_size(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "reset", "bench", "load", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "either a checkpoint or --shape" in done.stderr


def test_loading_takes_little_more_memory_than_the_model(tmp_path: Path) -> None:
    """Weights are read where they lie in the mapped file, and its pages are given back."""
    hidden, intermediate, layers, vocab = 512, 4096, 6, 24_576
    config = {"architectures": ["Qwen3ForCausalLM"], "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers}
    config |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": vocab, "tie_word_embeddings": True}
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(0x3C00, 0x3D00, shape, dtype=np.uint16).view(ml_dtypes.bfloat16)

    tensors = {"model.embed_tokens.weight": weight(vocab, hidden), "model.norm.weight": weight(hidden)}
    for layer in range(layers):
        sizes = {"q_proj": (256, hidden), "k_proj": (128, hidden), "v_proj": (128, hidden), "o_proj": (hidden, 256)}
        named = {f"self_attn.{name}": weight(*shape) for name, shape in sizes.items()}
        named |= {f"mlp.{name}": weight(intermediate, hidden) for name in ("gate_proj", "up_proj")}
        named |= {"mlp.down_proj": weight(hidden, intermediate), "input_layernorm": weight(hidden)}
        named |= {"post_attention_layernorm": weight(hidden), "self_attn.q_norm": weight(64), "self_attn.k_norm": weight(64)}
        tensors |= {f"model.layers.{layer}.{name}.weight": values for name, values in named.items()}
    _core.write_checkpoint(tmp_path / "model", json.dumps(config), tensors)
    file_bytes = sum(values.nbytes for values in tensors.values())
    result = bench("load", str(tmp_path / "model"), "--runs", "2")
    if result["peak_bytes"] is None:
        pytest.skip("this system does not tell how much memory was used")
    embedding = vocab * hidden * 2  # the largest group
    beyond = result["peak_bytes"] - result["model_bytes"]
    assert beyond < 1.5 * embedding < 0.6 * file_bytes


def test_codec_times_every_method() -> None:
    result = bench("codec", "--size", "64", "--runs", "3")
    cases = {row["case"]: row for row in result["rows"]}
    assert {f"quantize, {method}" for method in ("nearest", "four_over_six", "sweep")} < set(cases)
    assert all(row["p10"] <= row["median"] <= row["p90"] for row in result["rows"])


def test_a_run_beside_a_busy_process_is_not_called_clean(capsys: pytest.CaptureFixture[str]) -> None:
    if not _quiet._busy_seconds():
        pytest.skip("what others do is known on Linux only")
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with Quiet() as quiet:
            time.sleep(1.0)
    finally:
        busy.kill()
        busy.wait()
    assert quiet.others is not None
    assert quiet.others > 0.1
    assert quiet.report()["clean"] is False
    quiet.echo()
    assert "NOT CLEAN" in capsys.readouterr().out


def test_own_work_does_not_count_as_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"wall": 0.0, "own": 5.0, "busy": 100.0}
    monkeypatch.setattr(_quiet.time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(_quiet, "_own_seconds", lambda: clock["own"])
    monkeypatch.setattr(_quiet, "_busy_seconds", lambda: clock["busy"])
    with Quiet() as quiet:
        clock.update(wall=10.0, own=24.0, busy=119.5)  # 19 of 19.5 seconds were ours
    assert quiet.others == pytest.approx(0.05)
    assert quiet.clean is True


def test_elsewhere_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(_quiet, "_busy_seconds", lambda: None)
    with Quiet() as quiet:
        pass
    assert quiet.report() == {"clean": None, "other_processors_used": None}
    quiet.echo()
    assert "not known" in capsys.readouterr().out
