"""Live parity with transformers, on models made here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from reset import _core

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch", reason="needs the extra test-torch")
transformers = pytest.importorskip("transformers", reason="needs the extra test-torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about themselves

SIZES: dict[str, Any] = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}


@pytest.mark.parametrize("seed", range(6))
def test_random_models_agree(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    heads, kv_heads = [(4, 2), (8, 1), (2, 2)][seed % 3]
    sizes = {**SIZES, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "tie_word_embeddings": seed % 2 == 0}
    config = [
        lambda: transformers.Qwen3Config(**sizes, head_dim=[16, 24, 6][seed % 3], attention_bias=seed == 3),
        lambda: transformers.Qwen2Config(**sizes),
        lambda: transformers.LlamaConfig(**sizes, attention_bias=seed == 2, mlp_bias=seed == 5),
    ][seed % 3]()
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    for parameter in model.parameters():
        parameter.data += (0.1 * torch.randn(parameter.shape)).to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(96, (1, 90))
    with torch.no_grad():
        expected = model(ids).logits[0].numpy().astype(np.float64)
    for kv, bound in (("f32", 1e-3), ("bf16", 1e-2)):
        found = _core.Model.load(tmp_path, kv=kv).logits(ids[0].tolist())
        assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < bound
