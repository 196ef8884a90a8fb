"""Random choices that are the same on every platform and every version of Python.

Python promises to keep the sequence of ``random.Random(seed).random()`` for integer seeds, and nothing else about that class. So seeds
come from SHA-256, and every choice is made from ``random()`` alone.

Texts are written as templates: ``[a|b]`` is a choice (it nests, and may be empty), ``<name>`` is filled in.

>>> Template("[So|Thus] <who> has [exactly |]<n>.").expand(Draw("example", 1), who="Ben", n=12)
'Thus Ben has 12.'
"""

from __future__ import annotations

import hashlib
import random
import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_TOKEN = re.compile(r"[\[\]|]|<\w+>|[^\[\]|<]+")


class Draw:
    """A stream of choices, named by the values it is seeded with.

    ``decisions`` counts the choices among at least two options so far: the survey relates it to the length of a text.
    """

    def __init__(self, *seed: str | int) -> None:
        name = "\x1f".join(f"{type(part).__name__}:{part}" for part in seed)
        self._random = random.Random(int.from_bytes(hashlib.sha256(name.encode()).digest(), "big"))
        self.decisions = 0

    def below(self, n: int) -> int:
        """An integer from 0 to n − 1."""
        if n > 1:
            self.decisions += 1
        return int(self._random.random() * n)

    def between(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        if 0 < probability < 1:
            self.decisions += 1
        return self._random.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all alike."""
        return options[self.below(len(options))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in a random order."""
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in range(len(rest))]


class Template:
    """Text with choices and slots, parsed once."""

    def __init__(self, text: str) -> None:
        self.text = text
        tokens = _TOKEN.findall(text)
        if "".join(tokens) != text:
            raise ValueError(f"template {text!r} has a '<' that opens no slot")
        self._parts, end = _alternatives(tokens, 0)
        if end != len(tokens) or len(self._parts) != 1:
            raise ValueError(f"template {text!r}: brackets do not match, or '|' stands outside of them")

    def expand(self, draw: Draw, **slots: object) -> str:
        """The text with every choice made and every slot filled."""
        return _expanded(self._parts[0], draw, slots)


def _alternatives(tokens: list[str], at: int) -> tuple[list[list[object]], int]:
    found: list[list[object]] = [[]]
    while at < len(tokens) and tokens[at] != "]":
        token = tokens[at]
        if token == "[":
            inner, at = _alternatives(tokens, at + 1)
            if at >= len(tokens):
                raise ValueError(f"template {''.join(tokens)!r}: brackets do not match")
            found[-1].append(inner)
        elif token == "|":
            found.append([])
        else:
            found[-1].append(token)
        at += 1
    return found, at


def _expanded(parts: list[object], draw: Draw, slots: dict[str, object]) -> str:
    text = ""
    for part in parts:
        if isinstance(part, list):
            text += _expanded(draw.pick(part), draw, slots)
        elif isinstance(part, str) and part.startswith("<"):
            text += str(slots[part[1:-1]])
        else:
            text += str(part)
    return text


def sentences(text: str) -> str:
    """``text`` with single spaces and a capital at the beginning of every sentence."""
    text = re.sub(r" +", " ", text).strip()
    return re.sub(r"(^|[.?!:] )([a-z])", lambda match: match[1] + match[2].upper() if match[1] != ": " else match[0], text)
