"""Stories: which amounts there are, how each follows from others, and which one is asked for.

A story is a list of amounts in an order of computation; the last one answers the question. An amount is a kind, a holder, the amounts
it refers to (by index) and its own numbers::

    0  given  Ana  ()      (23,)      Ana has 23 marbles.                          23
    1  gains  Ana  (0,)    (9,)       Then Ana finds 9 more.                       23 + 9
    2  times  Ben  (1,)    (3,)       Ben has 3 times as many marbles as Ana.      (23 + 9) * 3
    3  total  -    (1, 2)  ()         How many do Ana and Ben have together?       (23 + 9) + (23 + 9) * 3

The number of operations is the level (here 3: 23 + 9, 32 * 3, 32 + 96). Every value is an integer from 1 to 999.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from reset.tasks.expression import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        return [operations_of(amount, self.values) for amount in self.amounts]

    @cached_property
    def values(self) -> list[int]:
        """The value of every amount."""
        values: list[int] = []
        for amount in self.amounts:
            values.append(value_of(amount, operations_of(amount, values), values))
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


def value_of(amount: Amount, done: list[Operation], values: list[int]) -> int:
    """The value of an amount, given its operations and the values of those before it."""
    if done:
        return done[-1].result
    return values[amount.refs[0]] if amount.kind == "of" else amount.numbers[0]


def operations_of(amount: Amount, values: list[int]) -> list[Operation]:
    """The operations that make an amount, given the values of those before it; none for a given one."""
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
