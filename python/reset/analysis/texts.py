"""Texts that models read: prompts and responses as token ids, whoever wrote them.

Two kinds come with the package. *Gold* traces are correct and written by no model, so no arm is at home in them. *Samples* of an arm are
what it really writes, mistakes included; an arm is at home in its own, which is why every model scores every arm's
(:func:`reset.analysis.mechanisms` does). Texts of one's own are :class:`Text` objects with token ids.

>>> texts = Texts([Text("p1", [1, 2], [3, 4, 5]), Text("p2", [1], [6])])
>>> texts.tokens, texts.offsets.tolist(), texts.text_of.tolist()
(4, [0, 3, 4], [0, 0, 0, 1])
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from reset.errors import ConfigError
from reset.evaluation.identity import sha256
from reset.tasks import TASKS, Task, get_task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from reset.evaluation.result import EvalResult
    from reset.model import Model
    from reset.tasks import Problem
    from reset.tasks.arithmetic import Style

#: Kinds of a fork, by their code in :attr:`Text.forks`; 0 is no fork.
FORKS = ("", "wording", "entity", "computing")


@dataclass(frozen=True, eq=False)
class Text:
    """One prompt with one response.

    Attributes:
        problem_id: what it is about: texts of one problem are one cluster in every interval.
        prompt_ids: ids read first, at least one.
        response_ids: ids that are scored, at least one; with the id that ended the text, where one did.
        source: who wrote it: ``"gold"``, or an arm.
        sample_index: which of its writer's texts on this problem.
        forks: int8 ``[response]``, codes of :data:`FORKS`: tokens at which the text's grammar allows another one. None: not known.
        seed: of a gold trace: ``reset.tasks.arithmetic.trace(problem, seed)`` writes it again.
    """

    problem_id: str
    prompt_ids: Sequence[int]
    response_ids: Sequence[int]
    source: str = "text"
    sample_index: int = 0
    forks: NDArray[np.int8] | None = None
    seed: str | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_ids", "response_ids"):
            if not len(getattr(self, name)):
                raise ValueError(f"text of problem {self.problem_id!r}: {name} is empty; at least one token is needed")
        if self.forks is not None and len(self.forks) != len(self.response_ids):
            raise ValueError(f"text of problem {self.problem_id!r}: {len(self.forks)} forks for {len(self.response_ids)} response tokens")

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the ids: what a model's scores of this text depend on."""
        ids = " ".join(map(str, self.prompt_ids)) + "|" + " ".join(map(str, self.response_ids))
        return hashlib.sha256(ids.encode()).hexdigest()


class Texts(Sequence[Text]):
    """Texts in order, and where their response tokens lie when all are written one after the other: the *positions* of an analysis."""

    def __init__(self, texts: Iterable[Text]) -> None:
        self._texts = tuple(texts)
        if not self._texts:
            raise ValueError("no texts: at least one is needed")

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> Text: ...
    @overload
    def __getitem__(self, index: slice) -> Texts: ...
    def __getitem__(self, index: int | slice) -> Text | Texts:
        return Texts(self._texts[index]) if isinstance(index, slice) else self._texts[index]

    @property
    def tokens(self) -> int:
        """Number of positions."""
        return int(self.offsets[-1])

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each text begins, and the end: int64 ``[texts + 1]``."""
        return np.concatenate([[0], np.cumsum([len(text.response_ids) for text in self])]).astype(np.int64)

    @cached_property
    def text_of(self) -> NDArray[np.int64]:
        """Index of the text of every position, int64 ``[positions]``."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @cached_property
    def token_ids(self) -> NDArray[np.int64]:
        """Id at every position, int64 ``[positions]``."""
        return np.concatenate([np.asarray(text.response_ids, np.int64) for text in self])

    @cached_property
    def problem_of(self) -> NDArray[np.int64]:
        """Number of the problem of every text, int64 ``[texts]``: the clusters."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(text.problem_id, len(numbers)) for text in self], np.int64)

    @cached_property
    def forks(self) -> NDArray[np.int8] | None:
        """Codes of :data:`FORKS` of every position, int8 ``[positions]``; None unless every text knows its own."""
        known = [text.forks for text in self if text.forks is not None]
        return np.concatenate(known) if len(known) == len(self) else None

    @property
    def digest(self) -> str:
        """Hexadecimal digest of all ids in order."""
        return hashlib.sha256("\n".join(text.digest for text in self).encode()).hexdigest()

    def __repr__(self) -> str:
        sources = ", ".join(dict.fromkeys(text.source for text in self))
        return f"Texts({len(self)} of {int(self.problem_of.max()) + 1} problems from {sources}, {self.tokens:,} tokens)"


def gold_texts(
    model: Model, task: str | Task = "arithmetic", *, split: str = "test", limit: int | None = 300, per_problem: int = 1, seed: int = 0,
    prompt: str = "boxed", style: Style | None = None, forks: bool = True, progress: bool = False,
) -> Texts:  # fmt: skip
    """Correct traces of the arithmetic task, as ``model`` would have written them: its prompt, its tokens, its end.

    Args:
        model: whose tokenizer and chat template are used. Models that share both can score the same texts.
        task: an arithmetic task, by name or as an object; other tasks have no generator of traces.
        split, limit: which problems.
        per_problem: traces of each.
        seed: of the traces.
        prompt: "boxed" or "plain", as in :func:`reset.evaluate`.
        style: how traces compute; None is the generator's default.
        forks: find out where each trace could have gone on otherwise (:mod:`reset.analysis.forks`), 0.1 to 0.3 seconds each.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: a model without a tokenizer, or with one that cannot write the traces; a task without generated problems; a count
            below 1.
    """
    from reset.analysis.forks import find_forks, recorded
    from reset.tasks.arithmetic import Style as DefaultStyle

    tokenizer = _tokenizer(model)
    chosen = get_task(task)
    if per_problem < 1:
        raise ValueError(f"per_problem = {per_problem} is not possible: give an integer from 1 on")
    found = []
    for problem in _shown(chosen.problems(split, limit=limit), progress):
        prompt_ids = model.encode_prompt(chosen.prompt(problem, prompt))
        opened = _thought_is_open(tokenizer, prompt_ids)

        def encode(text: str, opened: bool = opened) -> list[int]:
            body = text.removeprefix("<think>\n") if opened else text
            return [*tokenizer.encode(body, add_special_tokens=False), *model.eos_ids[:1]]

        for index in range(per_problem):
            draft = recorded(problem, f"{seed}/{index}", DefaultStyle() if style is None else style)
            response = encode(draft.text)
            written = tokenizer.decode(response[: len(response) - len(model.eos_ids[:1])])
            if not draft.text.endswith(written):
                raise ValueError(f"the tokenizer of {model.name} has no tokens for some characters of the traces: it writes {written!r}")
            kinds = find_forks(draft, encode, response) if forks else None
            found.append(Text(problem.id, prompt_ids, response, "gold", index, kinds, draft.seed))
    return Texts(found)


def sample_texts(
    result: EvalResult, model: Model, problems: Iterable[Problem] | str | Task | None = None, *, name: str | None = None,
    limit: int | None = None, n_samples: int | None = None,
) -> Texts:  # fmt: skip
    """The samples of an evaluation as texts.

    Args:
        result: whose samples. Their ids are kept in it; the prompts are made again, and checked against the hash that each sample keeps.
        model: whose tokenizer and chat template make the prompts.
        problems: the problems (a study keeps them), or a task; None is the result's built-in task.
        name: of the writer; None is the result's label.
        limit: the first so many problems.
        n_samples: so many samples of each.

    Raises:
        reset.ConfigError: a prompt that differs from the one that was sampled from: another tokenizer or template, or other problems.
        ValueError: no sample with a token.
    """
    identity = result.metadata
    if problems is None or isinstance(problems, (str, Task)):
        chosen = get_task(identity["task"] if problems is None else problems)
        listed = chosen.problems(identity["split"], limit=len(result.problem_ids))
    else:
        listed = list(problems)
        chosen = get_task(identity["task"]) if identity["task"] in TASKS else Task(identity["task"], listed)
    by_id = {problem.id: problem for problem in listed}
    wanted = set(result.problem_ids[:limit])
    found, prompts = [], dict[str, list[int]]()
    for sample in result.samples:
        if sample.problem_id not in wanted or not sample.tokens or (n_samples is not None and sample.sample_index >= n_samples):
            continue
        if sample.problem_id not in by_id:
            raise ConfigError(f"problem {sample.problem_id!r} of the result is not among the problems given; give those it was made from")
        if sample.problem_id not in prompts:
            text = chosen.prompt(by_id[sample.problem_id], identity["prompt"])
            ids = model.encode_prompt(text, thinking=identity["thinking"])
            if sha256(" ".join(map(str, ids))) != sample.prompt_sha256:
                raise ConfigError(
                    f"the prompt of problem {sample.problem_id!r} is not the one that was sampled from: {model.name} has another tokenizer "
                    "or chat template, or the task has changed"
                )
            prompts[sample.problem_id] = ids
        source = result.label if name is None else name
        found.append(Text(sample.problem_id, prompts[sample.problem_id], sample.token_ids, source, sample.sample_index))
    if not found:
        raise ValueError("the result has no sample with a token to analyze")
    return Texts(found)


def _shown(problems: Sequence[Problem], progress: bool) -> Iterable[Problem]:
    if not progress:
        return problems
    from tqdm.auto import tqdm

    return tqdm(problems, unit="problem", desc="gold traces", disable=None)


def _tokenizer(model: Model) -> Any:
    if model.tokenizer is None:
        raise ValueError(f"{model.name} has no tokenizer.json: texts cannot be made for it")
    return model.tokenizer


def _thought_is_open(tokenizer: Any, prompt_ids: Sequence[int]) -> bool:
    text = tokenizer.decode(prompt_ids, skip_special_tokens=False)
    return bool(text.rfind("<think>") > text.rfind("</think>"))
