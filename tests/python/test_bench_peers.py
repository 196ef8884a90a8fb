"""``tools/bench_peers.py``: what it makes of a worker's seconds, and the formats in which llama.cpp's random weights are written."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from maintainer_tools import TOOLS, load_tool

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

TASK: dict[str, Any] = {"batches": [1, 4], "context": 2048, "prefill": 512, "threads": 2, "steps": 3, "shape_name": "tiny"}
ANSWER = {
    "decode": {"1": [0.01, 0.02, 0.03], "4": [0.05, 0.05, 0.4]},
    "context": {"flash attention": [0.1, 0.1, 0.1], "without": [0.05, 0.04, 0.06]},
    "prefill": [4.0, 2.0, 1.0],
    "version": "a peer",
}


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    return load_tool("bench_peers")


def test_a_workers_seconds_become_tokens_per_second(peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        f"import json, sys\ntask = json.load(sys.stdin)\nassert task['format'] == 'Q4_0', task\nprint({json.dumps(ANSWER)!r})\n"
    )
    monkeypatch.setattr(peers, "WORKERS", tmp_path)
    rates = peers.peer(sys.executable, "worker.py", "Q4_0", TASK)
    # Medians of steps; of two attentions the faster one.
    assert rates == {"batch 1": 50.0, "batch 4": 80.0, "context 2,048": 20.0, "prefill 512": 256.0, "version": "a peer"}
    with pytest.raises(subprocess.CalledProcessError):
        peers.peer(sys.executable, "worker.py", "MXFP4", TASK)


def test_a_cell_is_a_median_with_its_range(peers: ModuleType) -> None:
    assert peers.cell([33.04, 32.71, 33.7]) == "33.0 (32.7–33.7)"
    assert peers.cell([207.4, 159.2, 212.0]) == "207 (159–212)"
    assert peers.cell([5.0]) == "5.0"
    assert peers.cell([]) == "–"


def test_rows_of_a_round(peers: ModuleType, tmp_path: Path) -> None:
    options = argparse.Namespace(shape="qwen3-0.6b", folder=tmp_path, tokens=8, batch=[1], context=0, prefill=0, threads=2, busy=True)
    listed = peers.tasks(options)
    assert [(prefix, task["threads"], busy) for prefix, task, busy in listed][:2] == [("", 2, False), ("one thread, ", 1, False)]
    assert sorted((task["threads"], busy) for _, task, busy in listed[2:]) == [(1, True), (2, True)]
    options.threads, options.busy = 1, False
    assert [prefix for prefix, *_ in peers.tasks(options)] == [""]


def test_engines_by_name(peers: ModuleType) -> None:
    options = argparse.Namespace(llama_python="a", transformers_python=None, only=["Q4_0", "BF16"])
    assert list(peers.engines(options)) == ["reset, BF16", "llama.cpp, Q4_0", "llama.cpp, BF16"]


def test_our_own_row_is_what_the_command_prints(peers: ModuleType) -> None:
    rates = peers.ours([], TASK | {"context": 64, "prefill": 32})
    assert list(rates) == ["batch 1", "batch 4", "context 64", "prefill 32"]
    assert all(rate > 0 for rate in rates.values())


def test_llama_worker_writes_a_model_that_gguf_reads(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="needs gguf and llama-cpp-python")
    pytest.importorskip("llama_cpp", reason="needs gguf and llama-cpp-python")
    sys.path.insert(0, str(TOOLS / "peers"))
    try:
        import llama_cpp_worker as worker
    finally:
        sys.path.pop(0)
    shape = {"hidden": 256, "layers": 2, "intermediate": 512, "heads": 4, "kv_heads": 2, "head_dim": 64, "vocab": 512}
    for name in ("NVFP4", "MXFP4", "Q4_0", "Q8_0", "BF16"):
        task = TASK | {"shape": shape, "format": name, "folder": str(tmp_path), "context": 64, "prefill": 32}
        done = subprocess.run(
            [sys.executable, worker.__file__], input=json.dumps(task), capture_output=True, text=True, check=True, timeout=300
        )
        assert len(json.loads(done.stdout)["decode"]["4"]) == 3
        kinds = {tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / f"tiny-{name}.gguf").tensors}
        assert kinds == {name, "F32"}
