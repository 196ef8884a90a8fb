"""The recipe: everything that decides the weights, in one frozen value.

Two runs with equal recipes and seeds see the same documents in the same order. Nothing here depends on the machine; how a step is cut into
pieces that fit a cache or a GPU is an option of the command.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

LEVELS = (1, 2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network. Those that matrices have are multiples of 32, so that NVFP4's blocks of 16 fit.

    Raises:
        ValueError: sizes that do not fit together.
    """

    vocab: int = 768
    hidden: int = 160
    intermediate: int = 448
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head: int = 32
    positions: int = 1024
    rope_theta: float = 10_000.0
    eps: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("vocab", "hidden", "intermediate", "head"):
            if getattr(self, name) % 32:
                raise ValueError(f"{name} = {getattr(self, name)}: give a multiple of 32")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads = {self.heads} is no multiple of kv_heads = {self.kv_heads}")

    def parameters(self) -> int:
        """Weights of the network, the tied embedding once."""
        attention = 2 * self.hidden * self.head * (self.heads + self.kv_heads) + 2 * self.head
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.vocab * self.hidden + self.layers * layer + self.hidden

    def config(self, *, end_ids: tuple[int, int]) -> dict[str, Any]:
        """``config.json`` of the checkpoint. ``end_ids``: the ids of <|im_end|> and <|endoftext|>."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "max_position_embeddings": self.positions,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.eps,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "use_cache": True,
            "use_sliding_window": False,
            "eos_token_id": end_ids[0],
            "pad_token_id": end_ids[1],
            "torch_dtype": "bfloat16",
        }


@dataclass(frozen=True)
class Curriculum:
    """Which problems, and how they are computed, as training goes on: a line from the first to the last values, then constant.

    Attributes:
        until: share of the training after which the last values hold.
        first_levels, last_levels: how often each level comes, relative to the others.
        first_whole, last_whole: chance that a hard operation is written in one go instead of in easy parts.
        first_distractors, last_distractors: most facts that do not matter; the last from half of the way on.
        first_recall: share of the documents, at the start, whose response says the facts of the problem again in another order; none
            from ``recall_until`` on. Every token of such a response but the first of each sentence is a look-up in the prompt, so that
            looking up is learned early, whatever the seed.
    """

    until: float = 0.4
    first_levels: tuple[float, ...] = (8, 4, 1, 0, 0, 0)
    last_levels: tuple[float, ...] = (1, 1, 1, 1, 1, 1)
    first_whole: float = 0.1
    last_whole: float = 0.5
    first_distractors: int = 1
    last_distractors: int = 2
    first_recall: float = 0.0
    recall_until: float = 0.25

    def recall(self, progress: float) -> float:
        """Share of the documents that repeat the facts of a problem instead of solving it, at ``progress`` from 0 to 1."""
        return round(self.first_recall * max(0.0, 1 - progress / self.recall_until), 4) if self.recall_until > 0 else 0.0

    def at(self, progress: float) -> dict[str, Any]:
        """Options of ``reset.tasks.arithmetic.stream`` at ``progress`` from 0 to 1: levels repeated by their weight, of 48 in all."""
        way = min(1.0, progress / self.until) if self.until > 0 else 1.0

        def mixed(first: float, last: float) -> float:
            return first + (last - first) * way

        firsts, lasts = sum(self.first_levels), sum(self.last_levels)
        weights = [mixed(a / firsts, b / lasts) for a, b in zip(self.first_levels, self.last_levels, strict=True)]
        return {
            "levels": tuple(level for level, count in zip(LEVELS, apportioned(weights, 48), strict=True) for _ in range(count)),
            "share_whole": round(mixed(self.first_whole, self.last_whole), 4),
            "distractors": (0, self.first_distractors if way < 0.5 else self.last_distractors),
        }


def apportioned(weights: list[float], seats: int) -> list[int]:
    """Whole numbers that sum to ``seats``, as near to the weights as can be (largest remainders).

    >>> apportioned([0.5, 0.3, 0.2], 8)
    [4, 2, 2]
    """
    exact = [weight / sum(weights) * seats for weight in weights]
    counts = [math.floor(value) for value in exact]
    for index in sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))[: seats - sum(counts)]:
        counts[index] += 1
    return counts


@dataclass(frozen=True)
class Recipe:
    """Sizes, data and optimization.

    Attributes:
        steps: optimizer steps; batch: documents in each.
        shard: steps whose documents are made together.
        optimizer: "adamw", or "muon" for the inner matrices (embedding and norms stay with AdamW).
        peak: highest learning rate, after a linear warm-up over ``warmup`` of the steps; then a cosine to ``floor`` times it.
        average: decay of the moving average of the weights, which is what is evaluated and exported.
        prompt_weight: how much the prediction of prompt tokens counts beside that of the response.
        plain: share of the prompts without the instruction to box the answer.
        tokenizer_documents: documents that the tokenizer is trained on.
    """

    name: str = "tiny"
    sizes: Sizes = field(default_factory=Sizes)
    curriculum: Curriculum = field(default_factory=Curriculum)
    steps: int = 6_000
    batch: int = 16
    shard: int = 32
    optimizer: str = "muon"
    peak: float = 5e-3
    floor: float = 0.01
    warmup: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.1
    clip: float = 1.0
    average: float = 0.998
    prompt_weight: float = 0.0
    plain: float = 0.1
    tokenizer_documents: int = 4_000

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer = {self.optimizer!r}: use 'adamw' or 'muon'")

    def learning_rate(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.peak * (step + 1) / warm
        way = (step - warm) / max(1, self.steps - warm)
        return self.peak * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * way)))

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON values. Without recall nothing of it is said, as in recipes that are older than it: they keep their digest."""
        value: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        if not self.curriculum.first_recall:
            del value["curriculum"]["first_recall"], value["curriculum"]["recall_until"]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Recipe:
        """The recipe that :meth:`to_json` wrote. TypeError for unknown names."""
        curriculum = {key: tuple(item) if isinstance(item, list) else item for key, item in value["curriculum"].items()}
        return cls(**{**value, "sizes": Sizes(**value["sizes"]), "curriculum": Curriculum(**curriculum)})

    def digest(self) -> str:
        """SHA-256 of the recipe, short: it names what the recipe was when weights were made."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def changed(self, **values: Any) -> Recipe:
        """A recipe with other values; names of :class:`Sizes` and :class:`Curriculum` count too.

        >>> Recipe().changed(hidden=128, heads=4, kv_heads=4, steps=10).sizes.hidden
        128
        """
        parts: dict[str, dict[str, Any]] = {"sizes": {}, "curriculum": {}}
        own = {}
        for name, value in values.items():
            place = next((part for part in parts if name in {f.name for f in dataclasses.fields(getattr(self, part))}), None)
            if place is not None:
                parts[place][name] = value
            else:
                own[name] = value
        for part, inner in parts.items():
            if inner:
                own[part] = dataclasses.replace(getattr(self, part), **inner)
        return dataclasses.replace(self, **own)


PRESETS: dict[str, Recipe] = {
    # 1.2 million weights, 30 million tokens: two hours on one core, minutes on a GPU.
    "tiny": Recipe(),
    # 3.0 million weights and five times the documents, for a GPU.
    "wide": Recipe(name="wide", steps=60_000).changed(hidden=192, intermediate=640, heads=6, layers=6),
    # Learns problems of one operation in half an hour on one core; for trying the pipeline, and for comparing options.
    "pilot": Recipe(name="pilot", steps=3_000, batch=8, shard=64, peak=3e-3).changed(
        hidden=96,
        intermediate=256,
        heads=3,
        kv_heads=3,
        layers=3,
        first_levels=(1, 0, 0, 0, 0, 0),
        last_levels=(2, 2, 1, 0, 0, 0),
        until=0.8,
    ),
}
