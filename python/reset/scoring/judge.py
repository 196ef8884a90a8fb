r"""Judges: from a generated text and a reference to a :class:`Score`.

    text ── extract ──> answer ─┬─ both are numbers ──────────> exact rationals            method "exact"
                                ├─ same text, words, letters ─> compared as they stand     method "exact"
                                └─ anything else ("math") ────> math-verify, in a process  method "math-verify"

The scorer "number" has the first way only and needs nothing installed; "math" needs math-verify for the third.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reset._checks import flag, text
from reset.errors import ScoringError
from reset.scoring.exact import Number, equal, read_number
from reset.scoring.extract import MAX_ANSWER, Extracted, extract, extract_lenient, last_box
from reset.scoring.latex import assignment, bare, canonical, choice, plain_text, tidy, words
from reset.scoring.process import WORKER, Undecided, WorkerProcess
from reset.scoring.units import without_units

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["SCORERS", "Judge", "Score"]

SCORERS = {
    "number": "exact integers and rationals; needs nothing else installed",
    "math": "numbers exactly, everything else by math-verify (extra `eval`)",
}
RULES = 1  # counts changes of the rules that could change a score; part of Judge.version
MAX_VERDICTS = 10_000


@dataclass(frozen=True)
class Score:
    """What became of one generated text.

    Attributes:
        correct: The answer means what the reference means.
        parsed: An answer was found and could be read. ``answer`` is None without.
        answer: Canonical text of the answer: a number as a fraction in lowest terms ("18", "1/2"), anything else as tidied LaTeX.
        source: Which rule found it: "boxed", "####" or "number" (the last number of the text: a guess).
        method: What decided: "exact" or "math-verify". None where nothing did: there was no answer, or comparing it ran past the
            deadline or crashed (``parsed`` is True then, ``correct`` False).
        lenient_correct, lenient_answer: The same by the paper's rule: the last box anywhere, unfinished thoughts included, else the last
            number.
    """

    correct: bool
    parsed: bool
    answer: str | None
    source: str | None
    method: str | None
    lenient_correct: bool
    lenient_answer: str | None


@dataclass(frozen=True)
class _Grade:
    answer: str | None = None
    correct: bool = False
    method: str | None = None


class Judge:
    r"""Scores texts; owns the worker process of the "math" scorer, which starts when it is first needed.

    Thread-safe, and usable after a fork. A context manager: the worker ends with the block, with :meth:`close`, or with this process.

    Args:
        scorer: "number" or "math".
        deadline_seconds: Longest time for one comparison. An answer that takes longer is not equal, ``method`` None, and the worker is
            replaced.

    Raises:
        ValueError: an unknown scorer, or a deadline that is not positive.
        ImportError: "math" without math-verify installed.

    >>> with Judge("number") as judge:
    ...     judge.score("<think>17?</think> She makes \\boxed{\\$18.00} a day.", "18")
    Score(correct=True, parsed=True, answer='18', source='boxed', method='exact', lenient_correct=True, lenient_answer='18')
    """

    def __init__(self, scorer: str = "math", *, deadline_seconds: float = 10.0) -> None:
        if scorer not in SCORERS:
            raise ValueError(f"scorer = {scorer!r} is not possible: use one of {', '.join(map(repr, SCORERS))}")
        if isinstance(deadline_seconds, bool) or not isinstance(deadline_seconds, (int, float)) or not 0 < deadline_seconds < 1e6:
            raise ValueError(f"deadline_seconds = {deadline_seconds!r} is not possible: give a number of seconds above 0")
        self.scorer = scorer
        self.deadline_seconds = float(deadline_seconds)
        self.version = f"number-{RULES}" if scorer == "number" else f"math-{RULES}+math-verify-{_math_verify_version()}"
        self._script: Path = WORKER
        self._worker: WorkerProcess | None = None
        self._verdicts: dict[tuple[str, str], bool | None] = {}  # samples of one problem repeat their answers
        self._lock = threading.Lock()
        _judges.add(self)

    def score(self, generated_text: str, reference: str, thinking_open: bool = False) -> Score:
        r"""Scores ``generated_text`` against ``reference``.

        Args:
            generated_text: What the model wrote, thoughts included.
            reference: The expected answer: plain ("18", ``\frac{1}{2}``), in a box, or a whole GSM8K solution ("… #### 18").
            thinking_open: Whether the prompt ended inside a thought, so that the text begins in one.

        Raises:
            ScoringError: a reference that this scorer cannot read, or a worker that cannot be started.
        """
        text("generated_text", generated_text)
        thinking_open = flag("thinking_open", thinking_open)
        expected = _Reference.read(reference, self.scorer)
        strict = extract(generated_text, thinking_open)
        boxed = strict is not None and strict.source == "boxed"  # then it is the last one anywhere
        lenient = strict if boxed else extract_lenient(generated_text)
        grade = self._grade(strict, expected)
        other = grade if strict == lenient else self._grade(lenient, expected)
        return Score(
            correct=grade.correct, parsed=grade.answer is not None, answer=grade.answer,
            source=None if strict is None else strict.source, method=grade.method,
            lenient_correct=other.correct, lenient_answer=other.answer,
        )  # fmt: skip

    def _grade(self, found: Extracted | None, expected: _Reference) -> _Grade:
        if found is None or len(found.text) > MAX_ANSWER:
            return _Grade()
        if self.scorer == "number":
            number = read_number(found.text, loose=True)
            assert expected.number is not None
            return _Grade() if number is None else _Grade(str(number), equal(number, expected.number), "exact")
        answer = tidy(found.text)
        if not answer:
            return _Grade()
        number = read_number(answer)
        name = assignment(answer)[0]
        if number is not None and expected.number is not None and (not name or not expected.name or name == expected.name):
            return _Grade(str(number), equal(number, expected.number), "exact")
        if expected.choice is not None and (letter := choice(answer, explained=True)) is not None:
            return _Grade(letter, letter == expected.choice, "exact")
        bare_answer = without_units(answer)
        shown = canonical(bare_answer) if number is None else str(number)
        same = _same_text(answer, expected)
        if same is not None:
            return _Grade(shown, same, "exact")
        verdict = self._ask(without_units(expected.text), bare_answer)
        return _Grade(shown) if verdict is None else _Grade(shown, verdict, "math-verify")

    def _ask(self, reference: str, answer: str) -> bool | None:
        key = (reference, answer)
        with self._lock:
            if key not in self._verdicts:
                if len(self._verdicts) >= MAX_VERDICTS:
                    self._verdicts.clear()
                self._verdicts[key] = self._decide(reference, answer)
            return self._verdicts[key]

    def _decide(self, reference: str, answer: str) -> bool | None:
        for attempt in range(2):
            if self._worker is None or not self._worker.usable:
                self._worker = WorkerProcess(self._script)
            try:
                return self._worker.ask(reference, answer, self.deadline_seconds)
            except Undecided as error:
                # A worker may have died of something else (out of memory, an operator): a crash gets a second try, a timeout would only
                # repeat.
                if error.reason != "crash" or attempt:
                    return None
        return None

    def close(self) -> None:
        """Ends the worker process. Harmless when there is none; a later score that needs one starts another."""
        with self._lock:
            if self._worker is not None:
                self._worker.end()
                self._worker = None

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Judge({self.scorer!r}, deadline_seconds={self.deadline_seconds:g}, version {self.version!r})"

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may hold the old one
        if self._worker is not None:
            self._worker.forget()
            self._worker = None


@dataclass(frozen=True)
class _Reference:
    text: str
    number: Number | None
    name: str  # "x" of "x = 5"
    choice: str | None  # "C" of "(C)"

    @classmethod
    def read(cls, reference: str, scorer: str) -> _Reference:
        if not isinstance(reference, str):
            raise TypeError(f"reference: expected a string, found {type(reference).__name__}")
        answer = reference.rpartition("####")[2]
        text = tidy(last_box(answer) or answer)
        number = read_number(text, loose=scorer == "number") if len(text) <= MAX_ANSWER else None
        if not text or len(text) > MAX_ANSWER or (scorer == "number" and number is None):
            shown = reference if len(reference) <= 80 else reference[:77] + "…"
            need = (
                "one number; use the scorer 'math' for expressions" if scorer == "number" else f"an answer of 1 to {MAX_ANSWER} characters"
            )
            raise ScoringError(f"the reference {shown!r} cannot be scored against: the scorer {scorer!r} needs {need}")
        return cls(text, number, assignment(text)[0], choice(text))


def _same_text(answer: str, expected: _Reference) -> bool | None:
    """Whether texts alone decide: the same text, words; None where mathematics has to."""
    reference = expected.text
    if bare(answer) == bare(reference):
        return True
    expected_words = words(reference)
    if expected_words is not None:
        if plain_text(answer) == expected_words:
            return True
        if "\\" in reference:  # \text{…} is no product of variables, whatever the letters
            return False
    return None


def _math_verify_version() -> str:
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    if find_spec("math_verify") is None:
        raise ImportError(
            "the scorer 'math' compares expressions with math-verify, which is not installed: pip install 'reset-nvfp4[eval]'"
        )
    try:
        return version("math-verify")
    except PackageNotFoundError:  # on the path without metadata
        return "unknown"


_judges: weakref.WeakSet[Judge] = weakref.WeakSet()  # a fork's child lets go of its parent's workers


def _after_fork() -> None:
    for judge in list(_judges):
        judge._after_fork()


def _register() -> None:
    import os

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


_register()
