"""transformers' part of ``tools/bench_peers.py``: needs torch and transformers; bf16, its default attention, a ``DynamicCache``.

Reads one JSON object from standard input (what to time) and writes one to standard output (seconds of every step).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
import transformers
from transformers import DynamicCache, Qwen3Config, Qwen3ForCausalLM

WARM_UP = 3


def random_model(shape: dict[str, int]) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        intermediate_size=shape["intermediate"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        head_dim=shape["head_dim"],
        vocab_size=shape["vocab"],
        tie_word_embeddings=True,
    )
    torch.set_default_dtype(torch.bfloat16)
    return Qwen3ForCausalLM(config).eval()


def forward(model: Qwen3ForCausalLM, cache: DynamicCache, ids: torch.Tensor) -> float:
    """Seconds of one pass, logits of the last position alone."""
    start = time.perf_counter()
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return time.perf_counter() - start


def steps(model: Qwen3ForCausalLM, count: int, batch: int, context: int, vocab: int) -> list[float]:
    cache = DynamicCache(config=model.config)
    if context:
        forward(model, cache, (torch.arange(context) * 31 % vocab).expand(batch, -1))
    seconds = [forward(model, cache, torch.arange(step, step + batch)[:, None] * 7919 % vocab) for step in range(WARM_UP + count)]
    return seconds[WARM_UP:]


@torch.inference_mode()
def main() -> None:
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    vocab = task["shape"]["vocab"]
    model = random_model(task["shape"])
    result: dict[str, Any] = {"decode": {batch: steps(model, task["steps"], batch, 0, vocab) for batch in task["batches"]}}
    if task["context"]:
        result["context"] = {"sdpa": steps(model, task["steps"], 1, task["context"], vocab)}
    if task["prefill"]:
        ids = (torch.arange(task["prefill"]) * 31 % vocab)[None]
        result["prefill"] = [forward(model, DynamicCache(config=model.config), ids) for _ in range(3)]
    result["version"] = f"transformers {transformers.__version__}, torch {torch.__version__}"
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
