"""llama.cpp's part of ``tools/bench_peers.py``: needs ``llama-cpp-python`` (built with ``GGML_NATIVE``), ``gguf`` and numpy.

Reads one JSON object from standard input (what to time) and writes one to standard output (seconds of every step). The model is a GGUF file
with random weights, written once: a format's speed does not depend on the values, as long as they are ordinary numbers.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

WARM_UP = 3


def random_blocks(kind: GGMLQuantizationType, rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Weights of about ±0.05 in the bytes of ``kind``."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if kind == GGMLQuantizationType.BF16:
        floats = (rng.standard_normal((rows, columns), dtype=np.float32) * 0.02).view(np.uint32)
        return (floats >> 16).astype(np.uint16).view(np.uint8).reshape(rows, -1)
    blocks = rng.integers(0, 256, (rows * columns // block, size), dtype=np.uint8)
    half = np.frombuffer(np.float16(0.005).tobytes(), np.uint8)
    if kind == GGMLQuantizationType.Q4_0:  # f16 scale, 16 bytes of codes
        blocks[:, :2] = half
    elif kind == GGMLQuantizationType.Q8_0:  # f16 scale, 32 codes
        blocks[:, :2] = np.frombuffer(np.float16(0.0004).tobytes(), np.uint8)
    elif kind == GGMLQuantizationType.MXFP4:  # E8M0 scale, 16 bytes of codes
        blocks[:, 0] = 119
    elif kind == GGMLQuantizationType.NVFP4:  # four E4M3 scales, 32 bytes of codes
        blocks[:, :4] = rng.integers(0x08, 0x10, (len(blocks), 4), dtype=np.uint8)
    else:
        raise ValueError(f"no random weights for {kind.name}")
    return blocks.reshape(rows, -1)


def write_model(path: Path, kind: GGMLQuantizationType, shape: dict[str, int]) -> None:
    """A Qwen3 with random weights, every matrix in the format ``kind``, the embedding tied to the head."""
    rng = np.random.default_rng(0)
    temporary = path.with_suffix(".part")
    writer = GGUFWriter(temporary, "qwen3")
    writer.add_context_length(40_960)
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["intermediate"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head_dim"])
    writer.add_value_length(shape["head_dim"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(shape["vocab"])
    writer.add_tokenizer_model("no_vocab")

    def matrix(name: str, rows: int, columns: int) -> None:
        data = random_blocks(kind, rows, columns, rng)
        writer.add_tensor(name, data, raw_dtype=kind)

    def ones(name: str, length: int) -> None:
        writer.add_tensor(name, np.ones(length, np.float32))

    query, kv = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]
    matrix("token_embd.weight", shape["vocab"], shape["hidden"])
    ones("output_norm.weight", shape["hidden"])
    for layer in range(shape["layers"]):
        at = f"blk.{layer}."
        ones(at + "attn_norm.weight", shape["hidden"])
        ones(at + "attn_q_norm.weight", shape["head_dim"])
        ones(at + "attn_k_norm.weight", shape["head_dim"])
        ones(at + "ffn_norm.weight", shape["hidden"])
        matrix(at + "attn_q.weight", query, shape["hidden"])
        matrix(at + "attn_k.weight", kv, shape["hidden"])
        matrix(at + "attn_v.weight", kv, shape["hidden"])
        matrix(at + "attn_output.weight", shape["hidden"], query)
        matrix(at + "ffn_gate.weight", shape["intermediate"], shape["hidden"])
        matrix(at + "ffn_up.weight", shape["intermediate"], shape["hidden"])
        matrix(at + "ffn_down.weight", shape["hidden"], shape["intermediate"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.replace(path)


class Context:
    """A llama.cpp context for ``sequences`` sequences of ``positions`` positions each."""

    def __init__(self, model: Any, threads: int, sequences: int, positions: int, flash: int) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = sequences * positions
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = flash
        params.no_perf = True
        self.raw = llama_cpp.llama_init_from_model(model, params)
        if not self.raw:
            raise RuntimeError("llama.cpp made no context")
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)

    def decode(self, tokens: list[tuple[int, int, int]], last_only: bool) -> float:
        """Seconds to run ``(token, position, sequence)``; logits of all, or of the last."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = not last_only or i == len(tokens) - 1
        start = time.perf_counter()
        if llama_cpp.llama_decode(self.raw, batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama_cpp.llama_synchronize(self.raw)
        return time.perf_counter() - start

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.raw), True)

    def close(self) -> None:
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.raw)


def prompt(length: int, vocab: int) -> list[tuple[int, int, int]]:
    return [(31 * i % vocab, i, 0) for i in range(length)]


def steps(context: Context, count: int, sequences: int, first: int, vocab: int) -> list[float]:
    """Seconds of ``count`` decode steps after the warm-up."""
    seconds = []
    for step in range(WARM_UP + count):
        tokens = [(7919 * (step + row + 1) % vocab, first + step, row) for row in range(sequences)]
        seconds.append(context.decode(tokens, last_only=False))
    return seconds[WARM_UP:]


def main() -> None:
    task = json.load(sys.stdin)
    shape, threads, vocab = task["shape"], task["threads"], task["shape"]["vocab"]
    kind = GGMLQuantizationType[task["format"]]
    path = Path(task["folder"]) / f"{task['shape_name']}-{task['format']}.gguf"
    if not path.exists():
        write_model(path, kind, shape)
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise RuntimeError(f"llama.cpp does not read {path}")
    result: dict[str, Any] = {"decode": {}}
    for batch in task["batches"]:
        context = Context(model, threads, batch, 256, -1)
        result["decode"][batch] = steps(context, task["steps"], batch, 0, vocab)
        context.close()
    if task["context"]:
        # Both of its attentions: which is faster depends on the machine, and the better one counts.
        for name, flash in (("flash attention", 1), ("without", 0)):
            context = Context(model, threads, 1, task["context"] + 256, flash)
            tokens = prompt(task["context"], vocab)
            for start in range(0, len(tokens), 512):
                context.decode(tokens[start : start + 512], last_only=True)
            result.setdefault("context", {})[name] = steps(context, task["steps"], 1, task["context"], vocab)
            context.close()
    if task["prefill"]:
        context = Context(model, threads, 1, task["prefill"] + 8, -1)
        runs = []
        for _ in range(3):
            context.clear()
            runs.append(context.decode(prompt(task["prefill"], vocab), last_only=True))
        result["prefill"] = runs
        context.close()
    information = llama_cpp.llama_print_system_info().decode()
    result["version"] = f"llama-cpp-python {llama_cpp.__version__} ({information.strip(' |')})"
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
