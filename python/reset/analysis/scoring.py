"""Teacher-forced scoring: every model reads the same texts, and says at each position what it would have expected.

    model ──logits──► statistics per position ──► Scores (a few numbers per token; logits are let go text by text)
                          ▲
    rules: temperatures and policies, each asked what it would have drawn with

A *rule* is how tokens are drawn: a temperature or a policy, and filters. A policy runs along the given text on the model's own entropies,
as :func:`reset.score_trace` does, so ``Scores.temperature["reset"]`` is what ReSET would have chosen had it been here.

With a ``reference`` the same pass gives the divergence between both models' whole distributions: both read each text, one after the other.
With a ``cache`` folder, finished chunks of texts are kept, under names that hash everything they depend on: an interrupted run goes on, a
longer list of texts begins where the shorter ended, another checkpoint shares nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reset.analysis.distributions import divergence, log_softmax, logprob_at, statistics
from reset.evaluation.identity import MACHINE, describe_policy
from reset.files import written_atomically
from reset.model import Model, resolve_model
from reset.policies import Controller, FixedTemperature, Greedy, Policy

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from reset.analysis.texts import Text, Texts

    Column = NDArray[Any]

#: Texts of one file of a cache: a few seconds of work are lost by an interruption.
CHUNK = 32
FORMAT = "reset-scores-1"
_BASE = ("entropy", "logprob", "rank", "margin", "top")


@dataclass(frozen=True)
class Rule:
    """How tokens are drawn.

    Attributes:
        policy: who sets the temperature.
        top_k, top_p, min_p: filters after it, as in :func:`reset.generate`.
    """

    policy: Policy
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    @property
    def filtered(self) -> bool:
        """Whether there is a filter."""
        return (self.top_k, self.top_p, self.min_p) != (None, None, None)

    def describe(self) -> dict[str, Any]:
        """What identifies it, as JSON values."""
        return {"policy": describe_policy(self.policy), "top_k": self.top_k, "top_p": self.top_p, "min_p": self.min_p}


Rules = Mapping[str, "Rule | Policy | float"]


def temperatures(*values: float, top_p: float | None = None) -> dict[str, Rule]:
    """Rules of fixed temperatures by their names; 0 is greedy.

    >>> list(temperatures(0, 0.3, 0.6))
    ['T=0', 'T=0.3', 'T=0.6']
    """
    return {f"T={value:g}": Rule(_policy(value), top_p=top_p) for value in values}


@dataclass(frozen=True, eq=False)
class Scores:
    """What one model says about every position of some texts. Arrays are ``[positions]``, in the order of ``texts``.

    Attributes:
        name: of the model.
        texts: what was read.
        model: what identifies the model, as JSON values.
        entropy: of the raw distribution, nats.
        logprob: of the token that stands there, raw distribution.
        rank: how many tokens were more probable.
        margin: its logit above the best other one, nats.
        top: the most probable token.
        rule_logprob: rule → log-probability with which it would have drawn the token (−inf: never).
        temperature: rule → temperature that it would have drawn with.
        divergence_from_reference: D(reference ‖ model), nats; None without a reference.
        divergence_to_reference: D(model ‖ reference).
    """

    name: str
    texts: Texts
    model: Mapping[str, Any]
    entropy: Column
    logprob: Column
    rank: Column
    margin: Column
    top: Column
    rule_logprob: Mapping[str, Column] = field(default_factory=dict)
    temperature: Mapping[str, Column] = field(default_factory=dict)
    divergence_from_reference: Column | None = None
    divergence_to_reference: Column | None = None

    def __len__(self) -> int:
        return len(self.entropy)

    @property
    def surprisal(self) -> Column:
        """−logprob, nats: large where the model did not expect what stands there."""
        return -self.logprob

    @property
    def overconfidence(self) -> Column:
        """Surprisal minus entropy, nats. Where a model's probabilities are right, its mean is 0; above 0 the model is more certain than it
        may be, below 0 less. Single values say little: certain of the right token, a model has both near 0.
        """
        return np.asarray(self.surprisal - self.entropy)

    def __repr__(self) -> str:
        rules = f", rules {', '.join(self.rule_logprob)}" if self.rule_logprob else ""
        return f"Scores({self.name!r}, {len(self.texts)} texts, {len(self):,} positions{rules})"


def score(
    model: Model | str | Path,
    texts: Texts,
    *,
    rules: Rules | None = None,
    reference: Model | None = None,
    cache: str | os.PathLike[str] | None = None,
    name: str | None = None,
    progress: bool = False,
) -> Scores:
    """Scores every response token of ``texts``.

    Args:
        model: A :class:`~reset.Model`, or a path or hub id.
        texts: Token ids of the model's own tokenizer; see :func:`gold_texts` and :func:`sample_texts`.
        rules: Name → a :class:`Rule`, a policy, or a temperature: what would draw. None: no rules.
        reference: Another model of the same vocabulary, for divergences.
        cache: Folder of finished chunks; it is made if need be. None keeps nothing.
        name: Of the model in tables; None is the model's own.
        progress: Show a progress bar on stderr.

    Raises:
        ValueError: An id outside the vocabulary, a text longer than the model's positions, models of different vocabularies.
    """
    loaded = resolve_model(model)
    chosen = {key: _rule(key, value) for key, value in (rules or {}).items()}
    _check(loaded, texts)
    if reference is not None and reference.vocab_size != loaded.vocab_size:
        raise ValueError(
            f"the reference has {reference.vocab_size} vocabulary entries and {loaded.name} has {loaded.vocab_size}: "
            "distributions over different vocabularies have no divergence"
        )
    identity = {
        "format": FORMAT, "model": identify(loaded), "reference": None if reference is None else identify(reference),
        "rules": {key: rule.describe() for key, rule in chosen.items()},
    }  # fmt: skip
    folder = None if cache is None else Path(cache)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    chunks = _shown(_chunks(texts), len(texts), name or loaded.name, progress)
    parts = [_chunk(loaded, chunk, chosen, reference, folder, identity) for chunk in chunks]
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Scores(
        name=loaded.name if name is None else name, texts=texts, model=identity["model"],  # type: ignore[arg-type]
        **{key: columns[key] for key in _BASE},
        rule_logprob={key: columns[f"logprob {key}"] for key in chosen}, temperature={key: columns[f"temperature {key}"] for key in chosen},
        divergence_from_reference=columns.get("divergence_from_reference"), divergence_to_reference=columns.get("divergence_to_reference"),
    )  # fmt: skip


def identify(model: Model) -> dict[str, Any]:
    """What a model's logits depend on, as JSON values: fingerprint of the files, and how they were loaded."""
    return {"fingerprint": model.fingerprint, **{key: value for key, value in model.describe().items() if key not in MACHINE}}


def _policy(value: Policy | float) -> Policy:
    if isinstance(value, Policy):
        return value
    return FixedTemperature(value) if value > 0 else Greedy()


def _rule(name: str, value: Rule | Policy | float) -> Rule:
    if isinstance(value, Rule):
        return value
    if not isinstance(value, (Policy, int, float)) or isinstance(value, bool):
        raise TypeError(f"rule {name!r} is {value!r}: give a temperature, a reset.Policy or a reset.analysis.Rule")
    return Rule(_policy(value))


def _check(model: Model, texts: Texts) -> None:
    for text in texts:
        ids = [*text.prompt_ids, *text.response_ids]
        wrong = next((i for i in ids if not 0 <= i < model.vocab_size), None)
        if wrong is not None:
            raise ValueError(
                f"the text of problem {text.problem_id!r} holds token id {wrong}, and {model.name} knows {model.vocab_size} ids: "
                "make texts with the tokenizer of the model that reads them"
            )
        if len(ids) - 1 > model.max_positions:
            raise ValueError(
                f"the text of problem {text.problem_id!r} has {len(ids)} tokens, and {model.name} {model.max_positions} positions"
            )


def _chunks(texts: Texts) -> Iterator[Texts]:
    for start in range(0, len(texts), CHUNK):
        yield texts[start : start + CHUNK]


def _shown(chunks: Iterable[Texts], total: int, name: str, progress: bool) -> Iterator[Texts]:
    if not progress:
        yield from chunks
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="text", desc=f"score {name}", disable=None) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))


def _chunk(
    model: Model, texts: Texts, rules: Mapping[str, Rule], reference: Model | None, folder: Path | None, identity: Mapping[str, Any]
) -> dict[str, Column]:
    """Columns of some texts, from the cache where it has them."""
    path = None
    if folder is not None:
        key = json.dumps({**identity, "texts": texts.digest}, sort_keys=True)
        path = folder / f"scores-{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
    parts = [_one(model, text, rules, reference) for text in texts]
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if path is not None:
        with written_atomically(path) as file:
            np.savez(file, **columns)  # type: ignore[arg-type]
    return columns


def _one(model: Model, text: Text, rules: Mapping[str, Rule], reference: Model | None) -> dict[str, Column]:
    ids = [*text.prompt_ids, *text.response_ids]
    begin = len(text.prompt_ids) - 1
    actual = np.asarray(text.response_ids, np.int64)
    logits = model.logits(ids[:-1])[begin:]  # row t predicts token t + 1
    columns = statistics(logits, actual)
    for name, rule in rules.items():
        chosen = policy_temperatures(model, rule.policy, columns["entropy"], text.response_ids)
        columns[f"temperature {name}"] = chosen
        columns[f"logprob {name}"] = logprob_at(
            logits, actual, chosen, top_k=rule.top_k, top_p=rule.top_p, min_p=rule.min_p, banned=model.banned_ids
        )
    if reference is not None:
        own, other = log_softmax(logits), log_softmax(reference.logits(ids[:-1])[begin:])
        columns["divergence_from_reference"] = divergence(other, own)
        columns["divergence_to_reference"] = divergence(own, other)
    return columns


def policy_temperatures(model: Model, policy: Policy, entropies: Column, response_ids: Iterable[int]) -> NDArray[np.float64]:
    """The temperature that a policy chooses at each token of a given response, float64 ``[T]``."""
    if isinstance(policy, FixedTemperature):
        return np.full(len(entropies), policy.t)
    if isinstance(policy, Greedy):
        return np.zeros(len(entropies))
    controller = Controller(policy, *model.step_boundaries())
    last: int | None = None
    chosen = np.empty(len(entropies))
    for t, (value, token) in enumerate(zip(entropies.tolist(), response_ids, strict=True)):
        chosen[t] = controller.step(entropy=value, last_token=last).temperature
        last = int(token)
    return chosen
