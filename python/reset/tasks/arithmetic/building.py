"""Stories drawn at random: exactly so many operations, every value an integer from 1 to 999.

A story grows from its question backwards: the question takes one or two operations (a total, a price) or none, and asks for amounts with
the rest; an amount with n operations is made from one with n − 1 (a comparison, an event) or from two that share n − 1 (together,
difference). Where no number fits (nothing divides 67 evenly), the attempt is given up and another begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reset.tasks.arithmetic.story import CONTAINERS, LARGEST, NAMES, QUESTIONS, THINGS, Amount, Story, operations_of, value_of

if TYPE_CHECKING:
    from reset.tasks.arithmetic.draw import Draw

ATTEMPTS = 2000
SPARE = 4
"""Names left over for facts that do not matter."""


class _Stuck(Exception):
    """No number fits: the attempt is given up."""


class _Builder:
    """Amounts so far, their values, and names not yet taken."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.names = draw.shuffled(NAMES)
        self.amounts: list[Amount] = []
        self.values: list[int] = []

    def add(self, kind: str, holder: str, refs: tuple[int, ...] = (), numbers: tuple[int, ...] = ()) -> int:
        """The index of a new amount, if its values are allowed."""
        amount = Amount(kind, holder, refs, numbers)
        done = operations_of(amount, self.values)
        value = value_of(amount, done, self.values)
        if not all(1 <= operation.result <= LARGEST for operation in done) or value < 2:
            raise _Stuck
        self.amounts.append(amount)
        self.values.append(value)
        return len(self.amounts) - 1

    def name(self) -> str:
        if not self.names:
            raise _Stuck
        return self.names.pop()

    def grow(self, operations: int) -> int:
        """A new amount of somebody, made with exactly so many operations."""
        draw = self.draw
        if operations == 0:
            return self.add("given", self.name(), (), (draw.between(12, 98),))
        ways = ["relation"] * 5 + ["event"] * 3 + ["join"] * (2 if operations > 1 else 1)
        ways += ["groups"] * 3 if operations == 1 else ["event_groups"] * 2
        way = draw.pick(ways)
        if way == "groups":
            return self.add("groups", self.name(), (), self.group_numbers())
        if way == "join":
            first = draw.below(operations)
            a, b = self.grow(first), self.grow(operations - 1 - first)
            if self.values[a] < self.values[b]:
                a, b = b, a
            kind = draw.pick(("both", "both", "gap"))
            return self.add(kind, self.name(), (a, b))
        before = self.grow(operations - (2 if way == "event_groups" else 1))
        if way == "relation":
            return self.relation(before)
        holder = self.amounts[before].holder
        if sum(a.holder == holder for a in self.amounts) > 2:  # two events are enough for one person
            if way == "event_groups":
                raise _Stuck
            return self.relation(before)
        if way == "event_groups":
            return self.add("gains_groups", holder, (before,), self.group_numbers())
        kind = draw.pick(("gains", "loses"))
        return self.add(kind, holder, (before,), (self.small_change(kind, before),))

    def relation(self, before: int) -> int:
        """Somebody new, compared with an amount there is."""
        kind = self.draw.pick(("more", "fewer", "times", "times", "part"))
        number = self.factor(kind, before) if kind in ("times", "part") else self.small_change(kind, before)
        return self.add(kind, self.name(), (before,), (number,))

    def small_change(self, kind: str, before: int) -> int:
        """A number to add or take away, with two digits where it can."""
        value = self.values[before]
        high = min(89, LARGEST - value if kind in ("more", "gains") else value - 2)
        if high < 6:
            raise _Stuck
        return self.draw.between(min(11, high), high)

    def factor(self, kind: str, before: int) -> int:
        """A number to multiply with, or one that divides exactly."""
        value = self.values[before]
        if kind in ("times", "price"):
            if self.draw.chance(0.15):
                fitting = [n for n in range(11, 26) if value * n <= LARGEST]
            else:
                fitting = [n for n in range(2, 10) if value * n <= LARGEST]
        else:
            fitting = [n for n in range(2, 10) if value % n == 0 and value // n >= 2]
        if not fitting:
            raise _Stuck
        return self.draw.pick(fitting)

    def group_numbers(self) -> tuple[int, int]:
        """How many groups, and how many things in each: both from the tables, both with two digits, or one and one."""
        draw = self.draw
        way = draw.below(4)
        if way == 0:
            return draw.between(3, 9), draw.between(3, 9)
        if way == 1:
            return draw.between(11, 29), draw.between(11, 29)
        return (draw.between(3, 9), draw.between(11, 89)) if way == 2 else (draw.between(11, 39), draw.between(3, 9))

    def ask(self, level: int) -> None:
        """The amounts of a story of this level, the question last."""
        draw = self.draw
        kinds = ["of"] * 3 + ["packs", "shared", "price", "gap_asked", "total", "total"]
        kind = draw.pick(kinds)
        if kind == "of":
            target = self.grow(level)
            self.add("of", self.amounts[target].holder, (target,))
            return
        if kind in ("packs", "shared", "price"):
            target = self.grow(level - 1)
            self.add(kind, self.amounts[target].holder, (target,), (self.factor(kind, target),))
            return
        parties = 3 if kind == "total" and level >= 2 and draw.chance(0.4) else 2
        rest = level - (parties - 1)
        found: list[int] = []
        for left in range(parties, 0, -1):
            share = rest if left == 1 else draw.below(rest + 1)
            rest -= share
            if found and share and draw.chance(0.5):  # compared with somebody of the question: an amount is used twice
                found.append(self.relation(self.grow_from(found[-1], share - 1)))
            else:
                found.append(self.grow(share))
        if kind == "gap_asked":
            found.sort(key=lambda index: -self.values[index])
        self.add(kind, "", tuple(found))

    def grow_from(self, start: int, operations: int) -> int:
        """Somebody compared with somebody compared with … the one at ``start``."""
        for _ in range(operations):
            start = self.relation(start)
        return start


def build(draw: Draw, level: int, distractors: int) -> Story:
    """A story with ``level`` operations, all values from 1 to 999, and so many facts that do not matter."""
    for _ in range(ATTEMPTS):
        builder = _Builder(draw)
        try:
            builder.ask(level)
        except _Stuck:
            continue
        if len(builder.names) >= SPARE:
            thing, container = draw.pick(THINGS), draw.pick(CONTAINERS)
            facts: dict[tuple[str, str], tuple[str, str, int, str]] = {}
            while len(facts) < distractors:  # one fact of a kind about one person: two would contradict each other
                fact = _distractor(draw, builder, thing)
                facts.setdefault(fact[:2], fact)
            return Story(tuple(builder.amounts), thing, container, tuple(facts.values()))
    raise RuntimeError(f"no story of level {level} in {ATTEMPTS} attempts")


def _distractor(draw: Draw, builder: _Builder, thing: str) -> tuple[str, str, int, str]:
    """A fact about somebody that nothing asked for depends on."""
    has = {amount.holder: value for amount, value in zip(builder.amounts, builder.values, strict=True) if amount.kind not in QUESTIONS}
    kind = draw.pick(("age", "other", "other", "more", "fewer", "house"))
    who = draw.pick(list(has))
    if kind == "fewer" and has[who] > 12:
        return kind, draw.pick(builder.names), draw.between(6, min(has[who] - 2, 89)), who
    if kind in ("more", "fewer"):
        return "more", draw.pick(builder.names), draw.between(11, 89), who
    if kind == "other":
        return kind, who, draw.between(11, 98), draw.pick([t for t in THINGS if t != thing])
    return (kind, who, draw.between(11, 79), "") if kind == "age" else (kind, draw.pick(builder.names), draw.between(11, 59), "")
