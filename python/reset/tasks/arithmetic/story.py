"""Stories: which amounts there are, how each follows from others, and which one is asked for.

A story is a list of amounts in an order of computation; the last one answers the question. An amount is a kind, a holder, the amounts
it refers to (by index) and its own numbers::

    0  given  Ana  ()      (23,)      Ana has 23 marbles.                          23
    1  gains  Ana  (0,)    (9,)       Then Ana finds 9 more.                       23 + 9
    2  times  Ben  (1,)    (3,)       Ben has 3 times as many marbles as Ana.      (23 + 9) * 3
    3  total  -    (1, 2)  ()         How many do Ana and Ben have together?       (23 + 9) + (23 + 9) * 3

The number of operations is the level (here 3: 23 + 9, 32 * 3, 32 + 96). :func:`build` draws a story of a given level whose every
intermediate value is an integer from 1 to 999.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from reset.tasks.expression import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reset.tasks.arithmetic.draw import Draw

LARGEST = 999
"""No value in a story, and none in a trace, is larger."""

NAMES = ("Ana", "Ben", "Carl", "Dora", "Emil", "Finn", "Gina", "Hugo", "Ida", "Jan", "Kim", "Leo", "Mia", "Nora", "Omar", "Pia")
THINGS = ("apples", "books", "buttons", "cards", "eggs", "marbles", "nuts", "pencils", "shells", "stamps", "stickers", "stones")
CONTAINERS = (("bag", "bags"), ("basket", "baskets"), ("box", "boxes"), ("jar", "jars"), ("tray", "trays"))


class Operation(NamedTuple):
    """``left sign right = result``. ``of_left`` and ``of_right`` say whose amounts the operands are (None: a number of the text)."""

    sign: str
    left: int
    right: int
    result: int
    of_left: int | None = None
    of_right: int | None = None


class Amount(NamedTuple):
    """One amount; see the module."""

    kind: str
    holder: str
    refs: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()


EVENTS = ("gains", "loses", "gains_groups")
"""Kinds that change what their holder has: told in the same breath as what went before."""

QUESTIONS = ("of", "total", "gap_asked", "packs", "shared", "price")
"""Kinds that end a story."""


@dataclass(frozen=True)
class Story:
    """Amounts, what is counted, and facts that do not matter (kind, name, number, what)."""

    amounts: tuple[Amount, ...]
    thing: str
    container: tuple[str, str]
    distractors: tuple[tuple[str, str, int, str], ...] = ()

    @cached_property
    def operations(self) -> list[list[Operation]]:
        """The operations of every amount, in order; ``[]`` for a given one."""
        return [_operations(amount, self.values) for amount in self.amounts]

    @cached_property
    def values(self) -> list[int]:
        """The value of every amount."""
        values: list[int] = []
        for amount in self.amounts:
            values.append(_value(amount, _operations(amount, values), values))
        return values

    @cached_property
    def level(self) -> int:
        """Number of operations."""
        return sum(map(len, self.operations))

    def expression(self) -> str:
        """The asked amount as an expression in the numbers of the text."""
        texts: list[str] = []
        for amount in self.amounts:
            texts.append(_expression(amount, texts))
        return texts[-1]

    def key(self) -> str:
        """The expression in normal form; see :mod:`reset.tasks.expression`."""
        return canonical(self.expression())

    def to_json(self) -> dict[str, Any]:
        """The story as JSON values."""
        return {
            "amounts": [[a.kind, a.holder, list(a.refs), list(a.numbers)] for a in self.amounts],
            "thing": self.thing,
            "container": list(self.container),
            "distractors": [list(d) for d in self.distractors],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Story:
        """The story that :meth:`to_json` wrote."""
        return cls(
            amounts=tuple(Amount(kind, holder, tuple(refs), tuple(numbers)) for kind, holder, refs, numbers in value["amounts"]),
            thing=value["thing"],
            container=(value["container"][0], value["container"][1]),
            distractors=tuple((kind, name, number, what) for kind, name, number, what in value["distractors"]),
        )


SIGNS = {
    "more": "+", "fewer": "-", "times": "*", "part": "/", "gains": "+", "loses": "-", "packs": "/", "shared": "/", "price": "*",
    "both": "+", "gap": "-", "gap_asked": "-", "total": "+", "groups": "*",
}  # fmt: skip


def apply(sign: str, left: int, right: int) -> int:
    """The value of one operation; a division has to be exact."""
    if sign == "/":
        if left % right:
            raise ValueError(f"{left} / {right} is not exact")
        return left // right
    return {"+": left + right, "-": left - right, "*": left * right}[sign]


def _value(amount: Amount, done: list[Operation], values: list[int]) -> int:
    if done:
        return done[-1].result
    return values[amount.refs[0]] if amount.kind == "of" else amount.numbers[0]


def _operations(amount: Amount, values: list[int]) -> list[Operation]:
    kind, refs, numbers = amount.kind, amount.refs, amount.numbers
    if kind in ("given", "of"):
        return []
    if kind == "groups":
        return [Operation("*", numbers[0], numbers[1], numbers[0] * numbers[1])]
    if kind == "gains_groups":
        bought = numbers[0] * numbers[1]
        return [Operation("*", numbers[0], numbers[1], bought), Operation("+", values[refs[0]], bought, values[refs[0]] + bought, refs[0])]
    sign = SIGNS[kind]
    if len(refs) == 1:
        left, right = values[refs[0]], numbers[0]
        return [Operation(sign, left, right, apply(sign, left, right), refs[0])]
    done: list[Operation] = []
    left, of_left = values[refs[0]], refs[0] if len(refs) == 2 else None
    for ref in refs[1:]:
        done.append(Operation(sign, left, values[ref], apply(sign, left, values[ref]), of_left, ref))
        left, of_left = done[-1].result, None
    return done


def _expression(amount: Amount, texts: list[str]) -> str:
    kind, refs, numbers = amount.kind, amount.refs, amount.numbers
    if kind == "given":
        return str(numbers[0])
    if kind == "of":
        return texts[refs[0]]
    if kind == "groups":
        return f"({numbers[0]}*{numbers[1]})"
    if kind == "gains_groups":
        return f"({texts[refs[0]]}+{numbers[0]}*{numbers[1]})"
    operands = [texts[ref] for ref in refs] + [str(number) for number in numbers]
    return f"({SIGNS[kind].join(operands)})"


class _Stuck(Exception):
    """No number fits: the attempt is given up."""


class _Builder:
    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.names = draw.shuffled(NAMES)
        self.amounts: list[Amount] = []
        self.values: list[int] = []

    def add(self, kind: str, holder: str, refs: tuple[int, ...] = (), numbers: tuple[int, ...] = ()) -> int:
        amount = Amount(kind, holder, refs, numbers)
        done = _operations(amount, self.values)
        value = _value(amount, done, self.values)
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
            return self.relation(before) if way == "event" else self._raise()
        if way == "event_groups":
            return self.add("gains_groups", holder, (before,), self.group_numbers())
        kind = draw.pick(("gains", "loses"))
        return self.add(kind, holder, (before,), (self.small_change(kind, before),))

    def _raise(self) -> int:
        raise _Stuck

    def relation(self, before: int) -> int:
        """Somebody new, compared with an amount there is."""
        kind = self.draw.pick(("more", "fewer", "times", "times", "part"))
        number = self.factor(kind, before) if kind in ("times", "part") else self.small_change(kind, before)
        return self.add(kind, self.name(), (before,), (number,))

    def small_change(self, kind: str, before: int) -> int:
        value = self.values[before]
        high = min(89, LARGEST - value if kind in ("more", "gains") else value - 2)
        if high < 6:
            raise _Stuck
        return self.draw.between(min(11, high), high)

    def factor(self, kind: str, before: int) -> int:
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
        for _ in range(operations):
            start = self.relation(start)
        return start


ATTEMPTS = 2000
SPARE = 4
"""Names left over for facts that do not matter."""


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
