"""Options of one generation, checked and resolved: what the caller left open is filled from the checkpoint."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reset.policies import FixedTemperature, Greedy, Policy
from reset.stop import validated_stops

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reset._sequences import Prompt
    from reset.model import Model

BOUNDARIES = ("ids", "text")


@dataclass(frozen=True)
class Options:
    """Resolved options. ``policy`` is what runs, also where the caller gave none."""

    model: Model
    policy: Policy
    max_new_tokens: int
    n: int
    seed: int
    top_k: int | None
    top_p: float | None
    min_p: float | None
    stop: tuple[str, ...]
    chat: bool | str
    thinking: bool | None
    ignore_eos: bool
    boundary: str
    batch_size: int
    eos_ids: list[int]
    newline_ids: list[int]
    double_newline_ids: list[int]
    banned: list[int]

    @classmethod
    def make(
        cls, model: Model, *, policy: Policy | None, max_new_tokens: int, n: int, seed: int | None, top_p: float | None,
        top_k: int | None, min_p: float | None, stop: str | Sequence[str], chat: bool | str, thinking: bool | None, ignore_eos: bool,
        boundary: str, batch_size: int,
    ) -> Options:  # fmt: skip
        """Checks every option and fills the open ones."""
        _at_least_one("max_new_tokens", max_new_tokens)
        _at_least_one("n", n)
        _at_least_one("batch_size", batch_size)
        if top_k is not None:
            _at_least_one("top_k", top_k)
        stops = validated_stops(stop)
        if stops and model.tokenizer is None:
            raise ValueError("stop strings need a tokenizer, and this model has none (no tokenizer.json in its folder)")
        if boundary not in BOUNDARIES:
            raise ValueError(f"boundary = {boundary!r} is not possible: use one of {', '.join(map(repr, BOUNDARIES))}")
        if chat not in ("auto", True, False):
            raise ValueError(f"chat = {chat!r} is not possible: use 'auto', True or False")
        if policy is None:
            policy, filters = _from_generation_config(model.generation_config)
            top_k = filters.get("top_k") if top_k is None else top_k
            top_p = filters.get("top_p") if top_p is None else top_p
            min_p = filters.get("min_p") if min_p is None else min_p
        newline_ids, double_newline_ids = model.step_boundaries() if boundary == "ids" else ([], [])
        return cls(
            model=model, policy=policy, max_new_tokens=max_new_tokens, n=n, seed=_seed(seed), top_k=top_k, top_p=top_p, min_p=min_p,
            stop=stops, chat=chat, thinking=thinking, ignore_eos=ignore_eos, boundary=boundary, batch_size=batch_size,
            eos_ids=model.eos_ids, newline_ids=newline_ids, double_newline_ids=double_newline_ids, banned=model.banned_ids,
        )  # fmt: skip

    def encode(self, prompt: Prompt) -> list[int]:
        """Prompt → token ids, checked against the vocabulary and the context."""
        return self.model.encode_prompt(prompt, chat=self.chat, thinking=self.thinking)

    def describe(self) -> dict[str, Any]:
        """Every option that shapes the result, as JSON values."""
        names = ("max_new_tokens", "seed", "top_k", "top_p", "min_p", "chat", "thinking", "ignore_eos", "boundary")
        return {"policy": repr(self.policy), "stop": list(self.stop), **{name: getattr(self, name) for name in names}}


def _at_least_one(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} = {value!r} is not possible: give an integer of at least 1")


def _seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbits(32)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 64:
        raise ValueError(f"seed = {seed!r} is not possible: give an integer from 0 to 2**64 − 1, or None to draw one")
    return seed


def _from_generation_config(config: Mapping[str, Any]) -> tuple[Policy, dict[str, Any]]:
    """What the checkpoint recommends: sampling where ``do_sample`` is true, else greedy (the field's default)."""
    if not config.get("do_sample", False):
        return Greedy(), {}
    filters = {name: config[name] for name in ("top_k", "top_p", "min_p") if config.get(name) is not None}
    if filters.get("top_k") == 0:
        del filters["top_k"]  # transformers writes 0 for "off"
    temperature = config.get("temperature")
    return FixedTemperature(1.0 if temperature is None else float(temperature)), filters
