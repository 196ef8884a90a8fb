"""The generated problems as a task with fixed splits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from reset.tasks.arithmetic.draw import Draw
from reset.tasks.arithmetic.generator import LEVELS, SHARES, VERSION, Mix, finished
from reset.tasks.arithmetic.reasoning import Style
from reset.tasks.base import Problem, Task, check_limit, split_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIZES: Mapping[str, int] = {"train": 10_000, "calibration": 500, "tune": 1_000, "test": 3_000}
"""Problems in the fixed splits."""

HARD: Mapping[str, Any] = {"levels": (5, 6), "distractors": (2, 2), "shuffle": 1.0}
"""Options of the task ``arithmetic-hard``."""


class Arithmetic(Task):
    """Generated word problems, graded by their number of operations.

    Problem ``i`` of a split has level ``levels[i % len(levels)]``, so every prefix (``limit``) keeps the mix. Within a split no two
    problems share a canonical expression; across splits none is shared, whatever the options.

    Args:
        level: one level only, instead of ``levels``.
        levels, distractors, shuffle: see :class:`~reset.tasks.arithmetic.generator.Mix`.
        style: how the gold solutions compute; questions, answers and ids do not depend on it.
        name: of the task. None: ``"arithmetic"`` with the default mix, ``"arithmetic-hard"`` with that of :data:`HARD`,
            ``"arithmetic-l<level>"`` for one level, ``"arithmetic-l<first>-<last>"`` for some in a row, alike in number; another mix needs
            a name of its own, because the name stands for the problems.
        sizes: problems in each split, where they differ from :data:`SIZES`.

    Raises:
        ValueError: impossible options, or a mix of one's own under a name that stands for another.

    >>> Arithmetic(level=4)
    <Task 'arithmetic-l4', version '1', splits train, calibration, tune, test>
    >>> Arithmetic(levels=(1, 2, 3)).name
    'arithmetic-l1-3'
    """

    version = VERSION
    scorer = "number"
    splits = ("train", "calibration", "tune", "test")
    max_new_tokens = 512

    def __init__(
        self,
        *,
        level: int | None = None,
        levels: Sequence[int] | None = None,
        distractors: int | tuple[int, int] = (0, 2),
        shuffle: float = 0.3,
        style: Style | None = None,
        name: str | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        if level is not None and levels is not None:
            raise ValueError(f"level = {level!r} and levels = {levels!r}: give one of them")
        chosen = (level,) if level is not None else LEVELS if levels is None else tuple(levels)
        self.mix = Mix(chosen, distractors, shuffle)
        self.style = style or Style()
        self.sizes = {**SIZES, **(sizes or {})}
        for split, size in self.sizes.items():
            if split not in SHARES or isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"sizes = {sizes!r} is not possible: give integers from 1 on for {', '.join(SHARES)}")
        standard = _standard_name(self.mix)
        if name is None and standard is None:
            raise ValueError(f"{self.mix!r} is a mix of its own: give it a name that says so, such as name='arithmetic-mine'")
        if name is not None and name != standard and _is_standard(name):
            raise ValueError(f"name = {name!r} stands for another mix; give {self.mix!r} a name of its own")
        super().__init__(name or standard)
        self._found: dict[str, list[Problem]] = {}
        self._keys: dict[str, set[str]] = {}

    def problems(self, split: str = "test", limit: int | None = None) -> Sequence[Problem]:
        """The problems of a split; only as many as ``limit`` asks for are generated."""
        self.check_split(split)
        check_limit(limit)
        wanted = min(self.sizes[split], limit or self.sizes[split])
        found, keys = self._found.setdefault(split, []), self._keys.setdefault(split, set())
        while len(found) < wanted:
            problem = self._problem(split, len(found), keys)
            found.append(problem)
            keys.add(problem.key)
        return tuple(found[:wanted])

    def _problem(self, split: str, index: int, taken: set[str]) -> Problem:
        level = self.mix.levels[index % len(self.mix.levels)]
        for attempt in range(ATTEMPTS):
            draw = Draw("arithmetic", VERSION, "split", self.name, split, index, attempt)
            story = self.mix.story(draw, level)
            key = story.key()
            if key not in taken and split_of(key, SHARES) == split:
                return finished(story, self.mix, draw, self.style, f"{split}-{index}")
        raise ValueError(f"task {self.name!r} has no {index + 1} different problems of level {level} in split {split!r}: ask for fewer")


ATTEMPTS = 20_000


def _standard_name(mix: Mix) -> str | None:
    if mix == Mix():
        return "arithmetic"
    if mix == Mix(**HARD):
        return "arithmetic-hard"
    first, last = mix.levels[0], mix.levels[-1]
    if mix == Mix(tuple(range(first, last + 1))):
        return f"arithmetic-l{first}" if first == last else f"arithmetic-l{first}-{last}"
    return None


def _is_standard(name: str) -> bool:
    return name in ("arithmetic", "arithmetic-hard") or levels_named(name) is not None


def levels_named(name: str) -> tuple[int, ...] | None:
    """The levels that a task's name stands for, or None.

    >>> levels_named("arithmetic-l2-4"), levels_named("arithmetic-l3"), levels_named("arithmetic-hard")
    ((2, 3, 4), (3,), None)
    """
    found = re.fullmatch(r"arithmetic-l(\d)(?:-(\d))?", name)
    if found is None:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    return tuple(range(first, last + 1)) or None
