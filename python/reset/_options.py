"""Options of one generation, checked and resolved: what the caller left open is filled from the checkpoint."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from reset._checks import flag, integer, number
from reset.errors import CheckpointError
from reset.policies import FixedTemperature, Greedy, Policy
from reset.stop import validated_stops

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reset import _core
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
        max_new_tokens = integer("max_new_tokens", max_new_tokens)
        n = integer("n", n)
        batch_size = integer("batch_size", batch_size)
        if top_k is not None:
            top_k = integer("top_k", top_k)
        if top_p is not None:
            top_p = number("top_p", top_p, wanted="a number, or None")
        if min_p is not None:
            min_p = number("min_p", min_p, wanted="a number, or None")
        if thinking is not None:
            thinking = flag("thinking", thinking, wanted="True or False, or None for what the template does by itself")
        ignore_eos = flag("ignore_eos", ignore_eos)
        if not isinstance(stop, (str, list, tuple, set, frozenset)):
            raise TypeError(f"stop = {stop!r} is not possible: give a string, or a list of strings")
        stops = validated_stops(stop)
        if stops and model.tokenizer is None:
            raise ValueError("stop strings need a tokenizer, and this model has none (no tokenizer.json in its folder)")
        if boundary not in BOUNDARIES:
            raise ValueError(f"boundary = {boundary!r} is not possible: use one of {', '.join(map(repr, BOUNDARIES))}")
        if not (isinstance(chat, bool) or (isinstance(chat, str) and chat == "auto")):
            raise ValueError(f"chat = {chat!r} is not possible: use 'auto', True or False")
        if policy is None:
            recommended = from_generation_config(model.generation_config, model.name)
            policy = recommended.policy
            top_k = recommended.top_k if top_k is None else top_k
            top_p = recommended.top_p if top_p is None else top_p
            min_p = recommended.min_p if min_p is None else min_p
        newline_ids, double_newline_ids = model.step_boundaries() if boundary == "ids" else ([], [])
        return cls(
            model=model, policy=policy, max_new_tokens=max_new_tokens, n=n, seed=_seed(seed), top_k=top_k, top_p=top_p, min_p=min_p,
            stop=stops, chat=chat, thinking=thinking, ignore_eos=ignore_eos, boundary=boundary, batch_size=batch_size,
            eos_ids=model.eos_ids, newline_ids=newline_ids, double_newline_ids=double_newline_ids, banned=model.banned_ids,
        )  # fmt: skip

    def encode(self, prompt: Prompt) -> list[int]:
        """Prompt → token ids, checked against the vocabulary and the context."""
        return self.model.encode_prompt(prompt, chat=self.chat, thinking=self.thinking)

    def submit(self, session: _core.Session, prompt_ids: list[int], streams: list[int], policy: Policy | None = None) -> list[int]:
        """Queues one sample of the prompt per stream and returns their numbers; ``policy`` stands in for the options' own."""
        return session.add(
            prompt_ids,
            streams,
            policy=self.policy if policy is None else policy,
            newline_ids=self.newline_ids,
            double_newline_ids=self.double_newline_ids,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
            stop_ids=[] if self.ignore_eos else self.eos_ids,
            banned=self.banned,
            boundaries_by_caller=self.boundary == "text",
        )

    def describe(self) -> dict[str, Any]:
        """Every option that shapes the result, as JSON values."""
        names = ("max_new_tokens", "seed", "top_k", "top_p", "min_p", "chat", "thinking", "ignore_eos", "boundary")
        return {"policy": repr(self.policy), "stop": list(self.stop), **{name: getattr(self, name) for name in names}}


def _seed(seed: int | None) -> int:
    return secrets.randbits(32) if seed is None else integer("seed", seed, low=0, high=1 << 64)


class Recommended(NamedTuple):
    """What a checkpoint's generation_config.json asks for."""

    policy: Policy
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None


def from_generation_config(config: Mapping[str, Any], model: str) -> Recommended:
    """Sampling where ``do_sample`` is true, else greedy (the field's default). Values are checked: the file is not ours.

    Raises:
        reset.CheckpointError: a value that is no number in its range; the message names file and field.
    """

    def value(name: str, kinds: Any, low: float, high: float, what: str) -> Any:
        found: Any = config.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not (isinstance(found, kinds) and low <= found <= high):
            raise CheckpointError(f"generation_config.json of {model}: {name} is {found!r}; expected {what}")
        return found

    sample = config.get("do_sample", False)
    if not isinstance(sample, bool):
        raise CheckpointError(f"generation_config.json of {model}: do_sample is {sample!r}; expected true or false")
    if not sample:
        return Recommended(Greedy())
    temperature = value("temperature", (int, float), 0.0, 1e6, "a number, 0 or more")
    top_k = value("top_k", int, 0, 1 << 62, "an integer, 0 or more")
    return Recommended(
        FixedTemperature(1.0 if temperature is None else float(temperature)),
        top_k=top_k or None,  # transformers writes 0 for "off"
        top_p=value("top_p", (int, float), 0.0, 1.0, "a probability from 0 to 1"),
        min_p=value("min_p", (int, float), 0.0, 1.0, "a probability from 0 to 1"),
    )
