"""What torch and transformers take on the same card: the figures beside which this package's are read.

    python tools/gpu_compare.py matmul OUT.json            torch's bf16 products at the shapes of `reset-nvfp4 bench linear`, graph replays
    python tools/gpu_compare.py decode OUT.json            transformers, random Qwen3-8B, static cache, torch.compile with graphs

Needs torch with CUDA; `decode` also transformers. Nothing is downloaded: weights are random, configurations are written here. Times are
medians; products take their weights from memory (copies that exceed the second-level cache several times, in turn).
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

LAUNCHES = 64
WARM_UP_S = 0.3  # an idle chip takes some tens of milliseconds to reach its clocks
STAY_WARM_S = 0.02  # between two measurements


def matmul(repetitions: int = 30) -> dict[str, Any]:
    """Microseconds of ``x @ W.T`` for 1 to 8 rows, cold."""
    import torch

    from reset.cli.bench.linear import LAYERS

    rows_out, warm_up = [], WARM_UP_S
    for model, layers in LAYERS.items():
        for name, (rows, cols) in layers.items():
            nbytes = 2 * rows * cols
            copies = max(2, -(-320_000_000 // nbytes))
            weights = [torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16) for _ in range(copies)]
            for tokens in (1, 2, 4, 8):
                x = torch.randn(tokens, cols, device="cuda", dtype=torch.bfloat16)
                out = torch.empty(tokens, rows, device="cuda", dtype=torch.bfloat16)
                torch.mm(x, weights[0].T, out=out)
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    for n in range(LAUNCHES):
                        torch.mm(x, weights[n % copies].T, out=out)
                begun = time.perf_counter()
                while time.perf_counter() - begun < warm_up:
                    graph.replay()
                    torch.cuda.synchronize()
                warm_up = STAY_WARM_S
                times = []
                for _ in range(repetitions):
                    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                    start.record()
                    graph.replay()
                    end.record()
                    end.synchronize()
                    times.append(start.elapsed_time(end) * 1e3 / LAUNCHES)
                median = statistics.median(times)
                rows_out.append({"model": model, "layer": name, "shape": f"{rows}×{cols}", "tokens": tokens, "us": median})
            del weights
    return {"torch": torch.__version__, "rows": rows_out}


def decode(context: int = 1024, steps: int = 64) -> dict[str, Any]:
    """Milliseconds of a decode step of one sequence, greedy, in bf16."""
    import torch
    import transformers
    from transformers import Qwen3Config, Qwen3ForCausalLM, StaticCache

    config = Qwen3Config(
        hidden_size=4096, intermediate_size=12_288, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, head_dim=128,
        vocab_size=151_936, max_position_embeddings=40_960, tie_word_embeddings=False, dtype="bfloat16",
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"), torch.no_grad():
        model = Qwen3ForCausalLM(config).eval()
    cache = StaticCache(config=config, max_cache_len=context + steps + 32)
    step = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True)
    token = torch.ones(1, 1, dtype=torch.long, device="cuda")
    times = []
    # Some versions are told where in the cache a token goes, others find out by themselves.
    told = "cache_position" in inspect.signature(model.forward).parameters

    def places(first: int, count: int) -> dict[str, Any]:
        positions = torch.arange(first, first + count, device="cuda")
        return {"position_ids": positions[None]} | ({"cache_position": positions} if told else {})

    with torch.no_grad():
        prompt = torch.randint(0, 1000, (1, context), device="cuda")
        model(prompt, past_key_values=cache, logits_to_keep=1, **places(0, context))
        for n in range(16 + steps):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            logits = step(token, past_key_values=cache, **places(context + n, 1)).logits
            token = logits[:, -1:].argmax(-1).clone()
            torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - begun))
    return {
        "torch": torch.__version__, "transformers": transformers.__version__, "model": "qwen3-8b", "context": context,
        "ms": statistics.median(times[16:]), "ms_p90": sorted(times[16:])[int(0.9 * steps)],
    }  # fmt: skip


def main() -> int:
    """Measures one of the two and writes its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["matmul", "decode"])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    result = matmul() if arguments.what == "matmul" else decode()
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: value for name, value in result.items() if name != "rows"}))
    for row in result.get("rows", []):
        print(f"{row['model']:12} {row['layer']:8} {row['shape']:12} {row['tokens']} {row['us']:8.1f} µs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
