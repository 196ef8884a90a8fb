"""Forks: tokens of a gold trace at which the generator could have written something else.

A trace is made by some eighty choices: whom to compute next, which words, which way to compute. Most tokens follow from the others; a
*fork* does not. To find the forks, every choice of a trace is made otherwise, one at a time. The other trace is just as valid, it begins
with the same tokens, and its first other token marks a fork::

    gold    Now Ben. Ana has 12, so we add: 12+30=42.
    other   Now Ben. Ana has 12, so we add: 30+12=42.
                                            ▲ fork ("computing")

So a fork is never claimed without a witness: two traces of one problem, equal up to this token. (A fork that only shows when two choices
change at once can be missed.) A fork between numbers is ``"computing"``; one between names, or a name and the question, is ``"entity"``:
whom to take next; others are ``"wording"``. At a fork even a perfect model is uncertain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from reset.analysis.texts import FORKS
from reset.tasks.arithmetic.draw import Draw
from reset.tasks.arithmetic.generator import VERSION, trace
from reset.tasks.arithmetic.reasoning import reason, tokens
from reset.tasks.arithmetic.story import NAMES, Story

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from reset.tasks import Problem
    from reset.tasks.arithmetic import Style

#: Alternatives tried of each choice.
TRIED = 3
#: Seeds tried for a trace that needs no second draft.
DRAFTS = 16
_NO_LIMIT = 1 << 30
_WORD = re.compile(r"\w*")


@dataclass(frozen=True)
class Draft:
    """A gold trace with the choices that made it.

    Attributes:
        problem: what it solves.
        seed: ``trace(problem, seed, style=style)`` is this trace.
        style: of the trace.
        text: thought, tags and final message.
        choices: for every choice among at least two options, their number and the one taken.
    """

    problem: Problem
    seed: str
    style: Style
    text: str
    choices: tuple[tuple[int, int], ...]


class _Recorder(Draw):
    """Draws, and remembers what was drawn."""

    def __init__(self, *seed: str | int) -> None:
        super().__init__(*seed)
        self.choices: list[tuple[int, int]] = []

    def below(self, n: int) -> int:
        value = super().below(n)
        if n > 1:
            self.choices.append((n, value))
        return value

    def chance(self, probability: float) -> bool:
        value = super().chance(probability)
        if 0 < probability < 1:
            self.choices.append((2, int(value)))
        return value


class _Replay(Draw):
    """Takes the values of a script, each while the number of options is as in the script, and draws from there on."""

    def __init__(self, script: Sequence[tuple[int, int]], *seed: str | int) -> None:
        super().__init__(*seed)
        self._script = list(reversed(script))

    def _next(self, options: int, drawn: int) -> int:
        if self._script and self._script[-1][0] == options:
            return self._script.pop()[1]
        self._script.clear()
        return drawn

    def below(self, n: int) -> int:
        drawn = super().below(n)
        return self._next(n, drawn) if n > 1 else drawn

    def chance(self, probability: float) -> bool:
        drawn = super().chance(probability)
        return bool(self._next(2, int(drawn))) if 0 < probability < 1 else drawn


def recorded(problem: Problem, seed: str, style: Style) -> Draft:
    """A gold trace of an arithmetic problem, with its choices.

    The generator draws a trace again where it is too long; then the choices would be those of several drafts. So seeds ``seed``, ``seed.1``
    … are tried until a first draft fits, which changes nothing about the distribution of traces.

    Raises:
        ValueError: the problem has no story (it is none of the arithmetic tasks), or no first draft fits.
    """
    if "story" not in problem.metadata:
        raise ValueError(f"problem {problem.id!r} has no story in its metadata: only problems of the arithmetic tasks have gold traces")
    story = Story.from_json(problem.metadata["story"])
    for attempt in range(DRAFTS):
        name = seed if attempt == 0 else f"{seed}.{attempt}"
        draw = _Recorder("arithmetic", VERSION, "trace", problem.question, name)
        found = reason(story, problem.question, draw, replace(style, limit=_NO_LIMIT))
        if tokens(found.text) + tokens(problem.question) <= style.limit:
            assert found == trace(problem, name, style=style), "the generator's seeds have changed"
            return Draft(problem, name, style, found.text, tuple(draw.choices))
    raise ValueError(f"problem {problem.id!r}: none of {DRAFTS} traces keeps within {style.limit} tokens; give a style with a larger limit")


def find_forks(draft: Draft, encode: Callable[[str], list[int]], ids: Sequence[int]) -> NDArray[np.int8]:
    """Kinds of forks at the tokens of a draft.

    Args:
        draft: from :func:`recorded`.
        encode: text of a trace → token ids.
        ids: ``encode(draft.text)``.

    Returns:
        int8 ``[len(ids)]``, codes of :data:`reset.analysis.texts.FORKS`; a token at which kinds meet has the higher code.
    """
    story = Story.from_json(draft.problem.metadata["story"])
    style = replace(draft.style, limit=_NO_LIMIT)
    gold = np.asarray(ids, np.int64)
    kinds = np.zeros(len(gold), np.int8)
    for script in _scripts(draft.choices):
        text = reason(story, draft.problem.question, _Replay(script, "forks", draft.seed, len(script)), style).text
        if text == draft.text:
            continue
        found = np.asarray(encode(text), np.int64)
        common = min(len(gold), len(found))
        unequal = np.flatnonzero(gold[:common] != found[:common])
        if unequal.size:
            kinds[unequal[0]] = max(kinds[unequal[0]], _kind(draft.text, text))
    return kinds


def _scripts(choices: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """One choice made otherwise; those after it as they were (as far as they still are the same choices), and once drawn anew.

    As they were: another order of the amounts shows at a name and not in the words before it. Anew: another way to compute shows at once.
    """
    for number, (options, value) in enumerate(choices):
        others = [other for other in range(options) if other != value]
        for other in others[:: max(1, len(others) // TRIED)][:TRIED]:
            yield [*choices[:number], (options, other), *choices[number + 1 :]]
        yield [*choices[:number], (options, others[0])]


def _kind(gold: str, other: str) -> int:
    """Code of the kind of the first difference: digits on both sides, names (or the question) on both sides, anything else."""
    at = next((i for i, (a, b) in enumerate(zip(gold, other, strict=False)) if a != b), min(len(gold), len(other)))
    start = at
    if gold[at : at + 1].isalnum() or other[at : at + 1].isalnum():  # inside a word or number: what differs is all of it
        while start and gold[start - 1].isalnum():
            start -= 1
    words = [match.group() for match in (_WORD.match(text, start) for text in (gold, other)) if match]
    if all(word[:1].isdigit() for word in words):
        return FORKS.index("computing")
    # "the question" stands for the amount that is asked for: to take it next is a choice between amounts too.
    asked = [text.startswith(("question", "the question", "The question"), start) for text in (gold, other)]
    if all(word in NAMES or also for word, also in zip(words, asked, strict=True)):
        return FORKS.index("entity")
    return FORKS.index("wording")
