"""Qwen3, small, in torch: what is trained, and its checkpoint in the format of the Hugging Face hub.

    x ─┬─ RMSNorm ─ q, k, v ─ RMSNorm on q and k per head ─ RoPE ─ causal attention (grouped) ─ o ─ + ─┬─ RMSNorm ─ SwiGLU ─ + ─ …
       └──────────────────────────────────────────────────────────────────────────────────────────────┘

Attributes carry the names that the tensors have in a checkpoint, so that saving is a copy. Every row of a batch is one document
from position 0 on, padded on the right: causal attention then needs no mask, and no document sees another.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

    from .recipe import Sizes


class Attention(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.q_proj = nn.Linear(sizes.hidden, sizes.heads * sizes.head, bias=False)
        self.k_proj = nn.Linear(sizes.hidden, sizes.kv_heads * sizes.head, bias=False)
        self.v_proj = nn.Linear(sizes.hidden, sizes.kv_heads * sizes.head, bias=False)
        self.o_proj = nn.Linear(sizes.heads * sizes.head, sizes.hidden, bias=False)
        self.q_norm = nn.RMSNorm(sizes.head, eps=sizes.eps)
        self.k_norm = nn.RMSNorm(sizes.head, eps=sizes.eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(rows, length, -1, self.sizes.head)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(rows, length, -1, self.sizes.head)).transpose(1, 2)
        v = self.v_proj(x).view(rows, length, -1, self.sizes.head).transpose(1, 2)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        groups = self.sizes.heads // self.sizes.kv_heads
        if groups > 1:
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(rows, length, -1))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE in Qwen's layout: dimension ``i`` turns with ``i + head / 2``."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class MLP(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(sizes.hidden, sizes.intermediate, bias=False)
        self.up_proj = nn.Linear(sizes.hidden, sizes.intermediate, bias=False)
        self.down_proj = nn.Linear(sizes.intermediate, sizes.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(sizes.hidden, eps=sizes.eps)
        self.self_attn = Attention(sizes)
        self.post_attention_layernorm = nn.RMSNorm(sizes.hidden, eps=sizes.eps)
        self.mlp = MLP(sizes)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Qwen3(nn.Module):
    """The network with its head tied to the embedding."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embed_tokens = nn.Embedding(sizes.vocab, sizes.hidden)
        self.layers = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.RMSNorm(sizes.hidden, eps=sizes.eps)
        angles = torch.outer(
            torch.arange(sizes.positions).float(), sizes.rope_theta ** (-torch.arange(0, sizes.head, 2).float() / sizes.head)
        )
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self._initialize()

    def _initialize(self) -> None:
        """Normal weights of width 0.02 (embedding) and 1/√inputs; what adds to the residual stream starts smaller by √(2 · layers)."""
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                std = 0.5 * module.in_features**-0.5
                nn.init.normal_(module.weight, std=std / (2 * self.sizes.layers) ** 0.5 if name.endswith(("o_proj", "down_proj")) else std)

    def hidden(self, ids: Tensor) -> Tensor:
        """Normalized activations before the head: ``[rows, length, hidden]`` for ids ``[rows, length]``."""
        x = self.embed_tokens(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits ``[rows, length, vocab]``."""
        return functional.linear(self.hidden(ids), self.embed_tokens.weight)

    def loss_sum(self, ids: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of the cross-entropy in nats; ``weights`` ``[rows, length]`` says how much the prediction *of* each id counts.

        The head runs only where a prediction counts.
        """
        counts = weights[:, 1:].reshape(-1)
        chosen = counts.nonzero().squeeze(1)
        x = self.hidden(ids)[:, :-1].reshape(-1, self.sizes.hidden)[chosen]
        logits = functional.linear(x, self.embed_tokens.weight)
        each = functional.cross_entropy(logits.float(), ids[:, 1:].reshape(-1)[chosen], reduction="none")
        return (each * counts[chosen]).sum()


def write_weights(state: dict[str, Tensor], directory: Path, config: dict[str, Any]) -> None:
    """``config.json`` and ``model.safetensors`` in BF16, loadable by ``reset.load`` and by transformers."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {f"model.{name}": tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in state.items()}
    save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})
