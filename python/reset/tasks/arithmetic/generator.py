"""From seeds to problems: one, a stream of a split, and fresh traces of a problem."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reset.tasks.arithmetic.building import build
from reset.tasks.arithmetic.draw import Draw
from reset.tasks.arithmetic.reasoning import Style, Trace, reason
from reset.tasks.arithmetic.story import Story
from reset.tasks.arithmetic.telling import told
from reset.tasks.base import Problem, split_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VERSION = "1"
"""Changes with every change of a problem; enters every seed."""

LEVELS = (1, 2, 3, 4, 5, 6)
"""Operations of a problem in the default mix, in equal shares."""

HIGHEST = 8
"""Highest level that can be asked for; from 7 on prompt and trace no longer fit 512 tokens."""

MOST = 4
"""Most distractors."""

SHARES: Mapping[str, float] = {"train": 0.6, "calibration": 0.1, "tune": 0.1, "test": 0.2}
"""How the set of all expressions is divided."""


@dataclass(frozen=True)
class Mix:
    """Which problems are drawn.

    Attributes:
        levels: numbers of operations; a level that stands twice comes twice as often.
        distractors: how many facts that do not matter, or from and to.
        shuffle: chance that the facts come in any order.
    """

    levels: tuple[int, ...] = LEVELS
    distractors: int | tuple[int, int] = (0, 2)
    shuffle: float = 0.3

    def __post_init__(self) -> None:
        if not self.levels or not all(_integer(level, 1, HIGHEST) for level in self.levels):
            raise ValueError(f"levels = {self.levels!r} is not possible: give integers from 1 to {HIGHEST}, at least one")
        low, high = self.range()
        if not (_integer(low, 0, MOST) and _integer(high, 0, MOST) and low <= high):
            raise ValueError(f"distractors = {self.distractors!r} is not possible: give an integer from 0 to {MOST}, or (from, to)")
        if isinstance(self.shuffle, bool) or not isinstance(self.shuffle, (int, float)) or not 0 <= self.shuffle <= 1:
            raise ValueError(f"shuffle = {self.shuffle!r} is not possible: give a probability from 0 to 1")

    def range(self) -> tuple[int, int]:
        """Smallest and largest number of distractors."""
        if isinstance(self.distractors, (tuple, list)):
            low, high = self.distractors
            return low, high
        return self.distractors, self.distractors

    def story(self, draw: Draw, level: int) -> Story:
        """A story of this level."""
        return build(draw, level, draw.between(*self.range()))


def _integer(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def finished(story: Story, mix: Mix, draw: Draw, style: Style, id: str) -> Problem:
    """The story as a problem, with one gold solution."""
    question = told(story, draw, mix.shuffle)
    thinking, final = reason(story, question, draw, style)
    return Problem(
        id=id,
        question=question,
        answer=str(story.values[-1]),
        solution=f"{thinking}\n\n{final}",
        key=story.key(),
        metadata={"level": story.level, "distractors": len(story.distractors), "story": story.to_json()},
    )


def generate(
    seed: int | str,
    level: int = 3,
    *,
    distractors: int | tuple[int, int] = (0, 2),
    shuffle: float = 0.3,
    style: Style | None = None,
    id: str | None = None,
) -> Problem:
    """One problem: the same for the same arguments, on every platform.

    Args:
        seed: any integer or text.
        level: number of operations, 1 to 8.
        distractors: facts that do not matter: how many, or from and to.
        shuffle: chance that the facts come in any order.
        style: how the gold solution computes; it changes nothing of the question.
        id: of the problem; the seed and the level if None.

    Returns:
        a problem with ``solution`` (thinking, blank line, final sentence), ``key`` and ``metadata``: level, distractors, story.
    """
    mix = Mix((level,), distractors, shuffle)
    draw = Draw("arithmetic", VERSION, "problem", seed)
    story = mix.story(draw, level)
    return finished(story, mix, draw, style or Style(), f"{seed}-l{level}" if id is None else id)


def trace(problem: Problem, seed: int | str = 0, *, style: Style | None = None) -> Trace:
    """A fresh gold trace of a problem of this module: ``(thinking, final)``; other seeds give others.

    Raises:
        ValueError: the problem was not generated here.
    """
    if "story" not in problem.metadata:
        raise ValueError(f"problem {problem.id!r} has no story in its metadata: only problems of the arithmetic tasks have traces to draw")
    draw = Draw("arithmetic", VERSION, "trace", problem.question, seed)
    return reason(Story.from_json(problem.metadata["story"]), problem.question, draw, style or Style())


def stream(
    split: str = "train",
    seed: int = 0,
    *,
    levels: Sequence[int] = LEVELS,
    distractors: int | tuple[int, int] = (0, 2),
    shuffle: float = 0.3,
    share_whole: float = 0.5,
    checks: float = 0.15,
    slips: float = 0.03,
) -> Iterator[Problem]:
    """Problems of a split without end, levels drawn alike (repeat one to weight it), each with a gold solution.

    Args:
        split: ``"train"``, ``"calibration"``, ``"tune"`` or ``"test"``.
        seed: of the stream; others give other problems of the same split.
        levels, distractors, shuffle: as :func:`generate` takes them.
        share_whole, checks, slips: of the gold solutions, see :class:`Style`.
    """
    mix = Mix(tuple(levels), distractors, shuffle)
    style = Style(share_whole=share_whole, checks=checks, slips=slips)
    if split not in SHARES:
        raise ValueError(f"no split {split!r}: use one of {', '.join(map(repr, SHARES))}")
    return _stream(split, seed, mix, style)


def _stream(split: str, seed: int, mix: Mix, style: Style) -> Iterator[Problem]:
    for index in itertools.count():
        draw = Draw("arithmetic", VERSION, "stream", split, seed, index)
        story = mix.story(draw, draw.pick(mix.levels))
        if split_of(story.key(), SHARES) == split:
            yield finished(story, mix, draw, style, f"stream-{split}-{seed}-{index}")
