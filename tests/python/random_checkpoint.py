"""A small Qwen3 checkpoint with random weights, made from a seed: no weights need to be shipped to test what handles them.

Its entropies spread over 0 to 4 nats and it never ends by itself, so every policy has something to decide and every limit is reached.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from reset import _core
from reset.calibration_texts import TEXTS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PROMPT = "First, the number of apples:"

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 384,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def write_random_checkpoint(directory: Path, *, seed: int = 0, **overrides: Any) -> None:
    """Writes config, tokenizer and BF16 weights. The same seed and ``overrides`` of :data:`CONFIG` write the same bytes."""
    rng = np.random.default_rng(seed)
    config = CONFIG | overrides
    hidden, inter, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads, head = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]

    def normal(rows: int, cols: int, gain: float = 1.0) -> NDArray[np.float32]:
        return np.asarray(rng.standard_normal((rows, cols)) * (gain / cols**0.5), np.float32)

    tensors = {"model.embed_tokens.weight": normal(vocab, hidden, gain=8.0)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        tensors |= {
            prefix + "input_layernorm.weight": np.ones(hidden, np.float32),
            prefix + "self_attn.q_proj.weight": normal(heads * head, hidden),
            prefix + "self_attn.k_proj.weight": normal(kv_heads * head, hidden),
            prefix + "self_attn.v_proj.weight": normal(kv_heads * head, hidden),
            prefix + "self_attn.o_proj.weight": normal(hidden, heads * head),
            prefix + "self_attn.q_norm.weight": np.ones(head, np.float32),
            prefix + "self_attn.k_norm.weight": np.ones(head, np.float32),
            prefix + "post_attention_layernorm.weight": np.ones(hidden, np.float32),
            prefix + "mlp.gate_proj.weight": normal(inter, hidden),
            prefix + "mlp.up_proj.weight": normal(inter, hidden),
            prefix + "mlp.down_proj.weight": normal(hidden, inter),
        }
    tensors["model.norm.weight"] = np.ones(hidden, np.float32)
    # Gain 3.5 spreads the token entropies over 0 to 4 nats, so that a threshold has something to decide.
    tensors["lm_head.weight"] = normal(vocab, hidden, gain=3.5)
    from ml_dtypes import bfloat16

    _core.write_checkpoint(str(directory), json.dumps(config), {name: tensor.astype(bfloat16) for name, tensor in tensors.items()})
    _write_tokenizer(directory, vocab)


def _write_tokenizer(directory: Path, vocab_size: int) -> None:
    """A byte-level BPE trained on the calibration texts, with the newline tokens that reasoning steps are made of."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 3, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (".\n\n", "\n\n", "<|end|>")])
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "clean_up_tokenization_spaces": False}, indent=2)
    )
