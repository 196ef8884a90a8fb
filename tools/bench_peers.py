"""Decoding and prefill beside llama.cpp and transformers, in turns on one machine.

    python tools/bench_peers.py --llama-python A/bin/python --transformers-python B/bin/python [--rounds 3] [--output peers.json]

``A`` and ``B`` are environments of the peers (one may be both, or this one):

    A: CMAKE_ARGS="-DGGML_NATIVE=ON" pip install --no-binary llama-cpp-python llama-cpp-python gguf
    B: pip install torch transformers

Every model has random weights at the shapes of a published one and its head in the format of its other matrices, unless a name says
otherwise, and sampling is left out on all sides. A round runs every engine once, one after the other, so that an hour in which the
machine is slower is slow for all. A round's figure is the median of its steps, a cell the median of its rounds with their range.
``--busy`` adds a row in which another process holds one core in an endless loop. Runs that other processes disturbed are counted
under the table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from reset import _core
from reset.cli.bench._quiet import Quiet

WORKERS = Path(__file__).parent / "peers"
# Sizes in the configurations of these models on the Hugging Face hub.
SHAPES = {
    "qwen3-0.6b": {"hidden": 1024, "layers": 28, "intermediate": 3072, "heads": 16, "kv_heads": 8, "head_dim": 128, "vocab": 151_936},
    "qwen3-1.7b": {"hidden": 2048, "layers": 28, "intermediate": 6144, "heads": 16, "kv_heads": 8, "head_dim": 128, "vocab": 151_936},
}
OURS = {
    "reset, NVFP4 (W4A4)": [],
    "reset, NVFP4 (W4A16)": ["--activations", "float"],
    "reset, NVFP4 (W4A4), bf16 head": ["--lm-head", "bf16"],
    "reset, BF16": ["--weights", "bf16", "--activations", "float", "--lm-head", "bf16"],
}
LLAMA = ("NVFP4", "MXFP4", "Q4_0", "Q8_0", "BF16")
TRANSFORMERS = "transformers, BF16"


Engine = Callable[[dict[str, Any]], dict[str, Any]]


def ours(options: list[str], task: dict[str, Any]) -> dict[str, Any]:
    """Tokens per second of every row, from ``reset-nvfp4 bench``."""

    def bench(*words: str) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "reset", "bench", *words, "--shape", task["shape_name"], *options]
        done = subprocess.run([*command, "--threads", str(task["threads"]), "--json"], check=True, stdout=subprocess.PIPE)
        rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
        return rows

    decode = ("--tokens", str(task["steps"]), "--policy", "none")
    sizes = [word for batch in task["batches"] for word in ("--batch", str(batch))]
    rates = {f"batch {row['batch']}": row["tokens_per_second"] for row in bench("decode", *sizes, *decode)}
    if task["context"]:
        rates[f"context {task['context']:,}"] = bench("context", "--length", str(task["context"]), *decode)[0]["tokens_per_second"]
    if task["prefill"]:
        rates[f"prefill {task['prefill']}"] = bench("prefill", "--length", str(task["prefill"]))[0]["tokens_per_second"]
    return rates


def peer(python: str, worker: str, kind: str, task: dict[str, Any]) -> dict[str, Any]:
    """The same from a worker in its own environment, and its ``version``."""
    text = json.dumps(task | {"format": kind})
    command = [python, "-E", str(WORKERS / worker)]  # -E: this interpreter's search path is not theirs
    done = subprocess.run(command, input=text, check=True, stdout=subprocess.PIPE, text=True)
    answer = json.loads(done.stdout)
    rates = {f"batch {batch}": int(batch) / statistics.median(seconds) for batch, seconds in answer["decode"].items()}
    if task["context"]:
        rates[f"context {task['context']:,}"] = max(1 / statistics.median(seconds) for seconds in answer["context"].values())
    if task["prefill"]:
        rates[f"prefill {task['prefill']}"] = task["prefill"] / statistics.median(answer["prefill"])
    return rates | {"version": answer["version"]}


def engines(options: argparse.Namespace) -> dict[str, Engine]:
    """All that are asked for, by name."""
    found: dict[str, Engine] = {name: partial(ours, words) for name, words in OURS.items()}
    if options.llama_python:
        found |= {f"llama.cpp, {kind}": partial(peer, options.llama_python, "llama_cpp_worker.py", kind) for kind in LLAMA}
    if options.transformers_python:
        found[TRANSFORMERS] = partial(peer, options.transformers_python, "transformers_worker.py", "BF16")
    return {name: engine for name, engine in found.items() if not options.only or any(part in name for part in options.only)}


def tasks(options: argparse.Namespace) -> list[tuple[str, dict[str, Any], bool]]:
    """What a round asks of every engine: how its rows are called, the task, and whether a process is busy beside it."""
    shared = {"shape_name": options.shape, "shape": SHAPES[options.shape], "folder": str(options.folder), "steps": options.tokens}
    rows = {"batches": options.batch, "context": options.context, "prefill": options.prefill}
    one = {"batches": [1], "context": 0, "prefill": 0}
    listed = [("", shared | rows | {"threads": options.threads}, False)]
    if options.threads > 1:
        listed.append(("one thread, ", shared | one | {"threads": 1}, False))
    if options.busy:
        listed += [(f"busy core, {threads} threads, ", shared | one | {"threads": threads}, True) for threads in {1, options.threads}]
    return listed


def run(engine: Engine, task: dict[str, Any], busy: bool) -> tuple[dict[str, Any], bool]:
    """An engine's answer, and whether nothing disturbed it."""
    if not busy:
        with Quiet() as quiet:
            answer = engine(task)
        return answer, quiet.clean is not False
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            return engine(task), True
        finally:
            other.kill()


def cell(rates: list[float]) -> str:
    """Median and range."""
    if not rates:
        return "–"
    digits = 0 if statistics.median(rates) >= 99.5 else 1
    middle = f"{statistics.median(rates):.{digits}f}"
    return middle if len(rates) == 1 else f"{middle} ({min(rates):.{digits}f}–{max(rates):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-python", help="interpreter with llama-cpp-python and gguf")
    parser.add_argument("--transformers-python", help="interpreter with torch and transformers")
    parser.add_argument("--shape", default="qwen3-0.6b", choices=SHAPES)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--context", type=int, default=2048, help="tokens in the cache of a further row; 0: none")
    parser.add_argument("--prefill", type=int, default=512, help="tokens of a prompt; 0: none")
    parser.add_argument("--tokens", type=int, default=32, help="steps of each row and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="also beside a process that holds a core")
    parser.add_argument("--only", nargs="+", help="engines whose names contain one of these")
    parser.add_argument("--folder", type=Path, default=Path("peers"), help="where llama.cpp's models are written")
    parser.add_argument("--output", type=Path, help="also write every round's figures as JSON")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    options.folder = options.folder.resolve()
    chosen = engines(options)
    rates: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in chosen}
    versions, bandwidth, disturbed = set(), [], 0
    for number in range(options.rounds):
        for name, engine in chosen.items():
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr, flush=True)
            bandwidth.append(_core.memory_bandwidth(options.threads)["read"])
            for prefix, task, busy in tasks(options):
                answer, clean = run(engine, task, busy)
                versions.add(answer.pop("version", ""))
                disturbed += not clean
                for row, rate in answer.items():
                    rates[name][prefix + row].append(rate)
    rows = list(dict.fromkeys(row for found in rates.values() for row in found))
    print(f"| tokens/s, {options.shape}, {options.threads} threads | " + " | ".join(rows) + " |")
    print("|---" * (len(rows) + 1) + "|")
    for name, found in rates.items():
        print(f"| {name} | " + " | ".join(cell(found[row]) for row in rows) + " |")
    print(f"\nread bandwidth before each engine's turn: {cell(bandwidth)} GB/s; {options.rounds} rounds, median (range)")
    print(
        f"disturbed by other processes: {disturbed} runs of {options.rounds * len(chosen) * sum(not busy for *_, busy in tasks(options))}"
    )
    print("\n".join(sorted(versions - {""})))
    if options.output:
        report = {"shape": options.shape, "threads": options.threads, "versions": sorted(versions - {""}), "read_gb_per_s": bandwidth}
        options.output.write_text(json.dumps(report | {"tokens_per_s": rates}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
