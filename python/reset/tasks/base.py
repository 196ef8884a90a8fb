"""Problems and tasks: what is asked, what is expected, and which problems belong together.

A task is a name, a list of problems for each split, and how a problem is put to a model::

    rows or files ──► Task.problems("test") ──► Problem(id, question, answer, …)
                                                   └──► Task.prompt(problem) ──► the user's message

Nothing here knows a model. A list of your own problems is a task already:

>>> from reset.tasks import Task
>>> task = Task("sums", [{"question": "What is 2 + 3?", "answer": 5}, {"question": "What is 7 - 4?", "answer": 3}])
>>> task.problems()[1]
Problem(id='test-1', question='What is 7 - 4?', answer='3', solution=None, key='what is 7 - 4?', metadata={})
>>> print(task.prompt(task.problems()[0]))
What is 2 + 3?
<BLANKLINE>
Please reason step by step, and put your final answer within \\boxed{}.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from reset.tasks import files

if TYPE_CHECKING:
    import os

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
"""What the authors of Qwen3 and of DeepSeek-R1 recommend to add to mathematical questions."""

PROMPTS = {
    "boxed": "the question, a blank line, and the instruction that the models' authors recommend",
    "plain": "the bare question",
}
"""Prompt styles by name."""

SCORERS = ("number", "math")
SPLITS = ("train", "calibration", "tune", "test")


@dataclass(frozen=True)
class Problem:
    """One problem with its reference answer.

    Attributes:
        id: stable within the task; it enters the random stream of every sample, so it must not
            depend on where the file was read from.
        question: the bare problem, without any instruction.
        answer: the reference as the scorer reads it: ``"72"``, ``"\\\\frac{1}{2}"``.
        solution: a worked solution, where one is known.
        key: the canonical expression. Splits are disjoint by it. Left empty, it is the normalised question.
        metadata: level, subject and the like; JSON values.

    Raises:
        ValueError: an empty id, question or answer.
        TypeError: a text that is not a str.
    """

    id: str
    question: str
    answer: str
    solution: str | None = None
    key: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("id", "question", "answer"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise TypeError(f"problem {self.id!r}: {name} is {type(value).__name__}, expected str")
            if not value.strip():
                raise ValueError(f"problem {self.id!r}: {name} is empty")
            if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
                raise ValueError(f"problem {self.id!r}: {name} holds half a surrogate pair (bytes that were no UTF-8?)")
        if not self.key:
            object.__setattr__(self, "key", normalised(self.question))


def normalised(text: str) -> str:
    """``text`` in lower case with single spaces: the key of problems that have no expression."""
    return " ".join(text.casefold().split())


def fingerprint(problems: Iterable[Problem]) -> str:
    """SHA-256 (hex) of ids, questions and answers in order: equal exactly when the same problems are asked.

    >>> fingerprint([Problem("a", "1 + 1?", "2")])[:16]
    '8f7f7384801ac53c'
    """
    digest = hashlib.sha256()
    for problem in problems:
        line = json.dumps([problem.id, problem.question, problem.answer], ensure_ascii=True, separators=(",", ":"))
        digest.update(line.encode("ascii") + b"\n")
    return digest.hexdigest()


def split_of(key: str, shares: Mapping[str, float]) -> str:
    """The split that a key belongs to: a function of the key alone, so equal keys never part.

    The first 64 bits of ``sha256(key)``, as a fraction in [0, 1), fall into one of the intervals that ``shares`` cut in their order.

    >>> split_of("12+7", {"tune": 0.25, "test": 0.75})
    'test'
    """
    point = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    edge, name = 0.0, ""
    for name, share in shares.items():
        edge += share
        if point < edge * 2.0**64:
            return name
    return name  # the last split takes what rounding leaves over


class Task:
    """Problems with their splits, the prompt, and how answers are scored.

    Make one from rows, from a file (:meth:`from_file`), or subclass it and return problems from :meth:`load`.

    Args:
        name: names the task in results; part of the random stream of every sample.
        rows: mappings (or :class:`Problem` objects). A row without an id gets ``"test-<row>"``; fields other than those named here
            become metadata.
        question, answer, id, solution: names of the fields.
        splits: ``"test"`` puts every row there. A mapping from split to share (``{"tune": 0.2, "test": 0.8}``) divides the rows by
            a hash of the key, so that equal problems stay together; shares sum to 1.
        scorer: ``"number"`` compares exact numbers, ``"math"`` asks math-verify where numbers do not decide.
        version: change it when problems, prompts or references change: results of different versions are never mixed.
        max_new_tokens: limit of one sample unless the caller gives another.

    Raises:
        ValueError: no rows, two rows with one id, an empty question, shares that do not sum to 1; the message names the row.
        TypeError: rows or fields of a wrong type.
    """

    name: str = ""
    version: str = "1"
    scorer: str = "math"
    splits: tuple[str, ...] = ("test",)
    max_new_tokens: int = 4096

    #: Why a split that other tasks have is missing here, and what to do: ends the error message.
    missing_split: ClassVar[str] = ""

    def __init__(
        self,
        name: str | None = None,
        rows: Iterable[Mapping[str, Any] | Problem] | None = None,
        *,
        question: str = "question",
        answer: str = "answer",
        id: str = "id",
        solution: str = "solution",
        splits: str | Mapping[str, float] = "test",
        scorer: str | None = None,
        version: str | None = None,
        max_new_tokens: int | None = None,
    ) -> None:
        self.name = _name(type(self).name if name is None else name)
        self.scorer = type(self).scorer if scorer is None else scorer
        if self.scorer not in SCORERS:
            raise ValueError(f"scorer = {self.scorer!r} is not possible: use one of {', '.join(map(repr, SCORERS))}")
        self.version = type(self).version if version is None else version
        self.max_new_tokens = type(self).max_new_tokens if max_new_tokens is None else max_new_tokens
        self._problems: dict[str, Sequence[Problem]] = {}
        if rows is None:
            if type(self).load is Task.load and type(self).problems is Task.problems:
                raise ValueError(f"task {self.name!r} has no problems: pass rows, or subclass Task and return problems from load(split)")
            return
        fields = {"question": question, "answer": answer, "id": id, "solution": solution}
        problems = problems_from_rows(_with_places(rows), fields, prefix="test" if isinstance(splits, Mapping) else splits)
        if not problems:
            raise ValueError(f"task {self.name!r} has no problems: the list of rows is empty")
        _unique_ids(problems, self.name)
        self._problems = _divided(problems, splits)
        self.splits = tuple(self._problems)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        question: str = "question",
        answer: str = "answer",
        id: str | None = None,
        solution: str | None = None,
        splits: str | Mapping[str, float] = "test",
        **options: Any,
    ) -> Task:
        """A task from a file of rows: JSON lines, a JSON list, CSV with a header, or Parquet (needs pyarrow).

        Args:
            path: the file; its stem is the task's name unless ``name`` says otherwise.
            question, answer: names of the fields (columns).
            id, solution: names of the fields; None takes ``"id"`` and ``"solution"`` where rows have them.
            splits, options: as :class:`Task` takes them.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a damaged row or a missing field; the message names file and line.
        """
        rows = files.read_rows(path)
        for wanted in (f for f in (question, answer, id, solution) if f is not None):
            for row, where in rows:
                if wanted not in row:
                    raise ValueError(f"{where}: no field {wanted!r}; the row has {files.names(row)}")
        fields = {"question": question, "answer": answer, "id": id or "id", "solution": solution or "solution"}
        problems = problems_from_rows(rows, fields, prefix="test" if isinstance(splits, Mapping) else splits)
        return cls(Path(path).stem if name is None else name, problems, splits=splits, **options)

    def load(self, split: str) -> Iterable[Problem | Mapping[str, Any]]:
        """The problems of one split, in their order: what a subclass defines. Called once for each split."""
        return self._problems[split]

    def problems(self, split: str = "test", limit: int | None = None) -> Sequence[Problem]:
        """The problems of a split, always in the same order; ``limit`` takes the first so many.

        Raises:
            ValueError: no such split (the message names those there are), a limit below 1, two problems with one id.
            FileNotFoundError: a file that the split needs is missing.
        """
        self.check_split(split)
        check_limit(limit)
        if split not in self._problems:
            fields = {name: name for name in ("question", "answer", "id", "solution")}
            problems = problems_from_rows(_with_places(self.load(split)), fields, prefix=split)
            if not problems:
                raise ValueError(f"task {self.name!r} has no problems in split {split!r}")
            _unique_ids(problems, self.name)
            self._problems[split] = problems
        return self._problems[split][:limit]

    def check_split(self, split: str) -> None:
        """ValueError unless the task has this split."""
        if split not in self.splits:
            reason = f"; {self.missing_split}" if self.missing_split and split in SPLITS else ""
            raise ValueError(f"task {self.name!r} has no split {split!r}: use {' or '.join(map(repr, self.splits))}{reason}")

    def prompt(self, problem: Problem, style: str = "boxed") -> str:
        """The user's message: the question with the authors' instruction ("boxed") or alone ("plain").

        A chat template, where the model has one, is applied later.
        """
        if not isinstance(style, str) or style not in PROMPTS:
            raise ValueError(f"prompt = {style!r} is not possible: use one of {', '.join(map(repr, PROMPTS))}")
        return f"{problem.question}\n\n{INSTRUCTION}" if style == "boxed" else problem.question

    def __repr__(self) -> str:
        return f"<Task {self.name!r}, version {self.version!r}, splits {', '.join(self.splits)}>"


def problems_from_rows(
    rows: Iterable[tuple[Mapping[str, Any] | Problem, str]], fields: Mapping[str, str], *, prefix: str
) -> tuple[Problem, ...]:
    """Rows, each with the place it comes from, as problems. ``fields``: our names → the rows' names of the fields."""
    found = []
    for index, (row, where) in enumerate(rows):
        if isinstance(row, Problem):
            found.append(row)
            continue
        if not isinstance(row, Mapping):
            raise TypeError(f"{where} is {type(row).__name__}: give mappings with {fields['question']!r} and {fields['answer']!r}")
        rest = {name: value for name, value in row.items() if name not in fields.values()}
        solution = row.get(fields["solution"])
        try:
            found.append(
                Problem(
                    id=_text(row, fields["id"], default=f"{prefix}-{index}"),
                    question=_text(row, fields["question"]),
                    answer=_text(row, fields["answer"]),
                    solution=None if solution is None else str(solution),
                    metadata=rest,
                )
            )
        except (ValueError, TypeError) as error:
            raise type(error)(f"{where}: {error}") from None
    return tuple(found)


def _text(row: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A field as text. Whole numbers count, floats only where they are whole: ``0.1`` has several decimal texts."""
    value = row.get(name, default)
    if value is None:
        raise ValueError(f"no field {name!r}; the row has {files.names(row)}")
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"field {name!r} is {value!r}; expected text or a whole number")
    return str(value)


def _with_places(rows: Iterable[Mapping[str, Any] | Problem]) -> list[tuple[Mapping[str, Any] | Problem, str]]:
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise TypeError(f"rows is {type(rows).__name__}: give a list of mappings (use Task.from_file for a file)")
    return [(row, f"row {index}") for index, row in enumerate(rows)]


def _unique_ids(problems: Sequence[Problem], task: str) -> None:
    seen: dict[str, int] = {}
    for index, problem in enumerate(problems):
        if problem.id in seen:
            raise ValueError(f"task {task!r}: problems {seen[problem.id]} and {index} have the same id {problem.id!r}; ids have to differ")
        seen[problem.id] = index


def _divided(problems: Sequence[Problem], splits: str | Mapping[str, float]) -> dict[str, Sequence[Problem]]:
    if isinstance(splits, str):
        return {_name(splits, "splits"): problems}
    shares = dict(splits)
    good = all(isinstance(share, (int, float)) and not isinstance(share, bool) and share > 0 for share in shares.values())
    if not shares or not good or abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError(f"splits = {splits!r} is not possible: give positive shares that sum to 1, such as {{'tune': 0.2, 'test': 0.8}}")
    divided: dict[str, list[Problem]] = {name: [] for name in shares}
    for problem in problems:
        divided[split_of(problem.key, shares)].append(problem)
    for name, part in divided.items():
        if not part:
            raise ValueError(f"splits = {splits!r}: no problem falls into {name!r}; {len(problems)} problems are too few for this share")
    return {name: tuple(part) for name, part in divided.items()}


def check_limit(limit: int | None) -> None:
    """ValueError unless ``limit`` is None or an integer from 1 on."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit = {limit!r} is not possible: give an integer from 1 on, or None for all problems")


def _name(name: str, what: str = "name") -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{what} = {name!r} is not possible: give a name such as 'mine'")
    return name
