r"""The grammar of a text: which tokens are digits of a result, other digits, words, marks, ends of steps.

Positions to compare models at have to be chosen by something that no model's output decides. Text has a grammar:

    We add: 47+38=85. So Ben has 85.\n\nNext … \boxed{85}.
            ^^ ^^                        operand digits: of the expression before "="
                  ^^                     result digits: of the number after "="
                                 ^^      other digits
                                   ^^^^^ step end: a token with a blank line, and the mark before it
                                                   ^^   answer digits: inside \boxed{}

Every character gets one label and a token the strongest label of its characters (in the order of :data:`CLASSES`), so a token such as
``"=8"`` counts as a result digit; :attr:`Positions.mixed` marks it. Where texts know their forks (:mod:`reset.analysis.forks`), tokens at
forks are classes of their own: at ``3*38``, which might have been ``38*3``, the first ``3`` is no forced digit.

Equations are read wherever they stand: ``47+38=85``, ``3 × 38 = 114``, ``$12.50 - $2.25 = $10.25``. A binary one is checked exactly, so
each result digit knows whether its equation is true, and for whole numbers whether it is hard (a carry, a product with two digits, see
:mod:`reset.tasks.arithmetic.computing`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reset.analysis.spans import token_spans
from reset.analysis.texts import FORKS
from reset.tasks.arithmetic.computing import is_hard

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reset.analysis.texts import Text, Texts
    from reset.text import Tokenizer

#: Classes of tokens, the strongest first: of a token with characters of several, the first counts.
CLASSES = ("special", "result digit", "answer digit", "operand digit", "other digit", "step end", "word", "mark", "space")
_CODE = {name: code for code, name in enumerate(CLASSES)}

_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_SIGNS = {"+": "+", "-": "-", "−": "-", "–": "-", "*": "*", "×": "*", "·": "*", "x": "*", "/": "/", "÷": "/"}
# Around the equals sign: spaces, and the decorations of money and formulas.
_RESULT = re.compile(rf"=[ \t$€£\\]*(?:(-|−)[ \t$€£\\]*)?({_NUMBER})")
_LEFT = re.compile(rf"(?:{_NUMBER}|[-+*/×÷·−–()$€£% \t]|(?<=[\d\s])x(?=[\d\s])|\\times|\\div|\\cdot)+\Z")
_BINARY = re.compile(rf"[\s(\\]*[$€£]?({_NUMBER})[\s)]*([-+*/×÷·−–x]|\\times|\\div|\\cdot)[\s(]*\\?[$€£]?({_NUMBER})[\s)%$]*\Z")
_BOXED = re.compile(r"\\boxed\s*\{")
_BLANK = re.compile(r"\n(?:[ \t\r]*\n)+")
_LATEX = {r"\times": "*", r"\cdot": "*", r"\div": "/"}


class Equation(NamedTuple):
    """A number after an equals sign, and what stands before it.

    Attributes:
        text: index of the text.
        written: the equation.
        true: whether it holds; None where the expression is not one operation on two numbers.
        hard: whether the operation is hard; None as ``true``, and for numbers that are not whole.
    """

    text: int
    written: str
    true: bool | None
    hard: bool | None


@dataclass(frozen=True, eq=False)
class Positions:
    """What is known of every response token of some texts.

    Attributes:
        code: index into :data:`CLASSES`, int8 ``[positions]``.
        mixed: tokens with characters of several classes, bool ``[positions]``.
        equation: index into ``equations`` for result digits, else −1; int64 ``[positions]``.
        fork: codes of :data:`reset.analysis.texts.FORKS`, int8 ``[positions]``; None where texts do not know their forks.
        step_start: first tokens of a text, and those after a step end; bool ``[positions]``.
        equations: all of the texts, in order.
    """

    code: NDArray[np.int8]
    mixed: NDArray[np.bool_]
    equation: NDArray[np.int64]
    fork: NDArray[np.int8] | None
    step_start: NDArray[np.bool_]
    equations: tuple[Equation, ...]

    def of(self, name: str) -> NDArray[np.bool_]:
        """Positions of one of :data:`CLASSES`.

        Raises:
            ValueError: no such class.
        """
        if name not in _CODE:
            raise ValueError(f"there is no class {name!r}: use one of {', '.join(map(repr, CLASSES))}")
        return np.asarray(self.code == _CODE[name])

    @property
    def result(self) -> NDArray[np.bool_]:
        """Digits of the results of true equations: what may not go wrong. Result digits at a fork are not among them.

        For texts that no model wrote. In a model's own text its draws decide which equations are true.
        """
        true = np.array([bool(equation.true) for equation in self.equations] + [False])
        chosen = self.of("result digit") & true[self.equation]
        return chosen if self.fork is None else np.asarray(chosen & (self.fork == 0))

    def groups(self) -> dict[str, NDArray[np.bool_]]:
        """Name → positions; every position is in exactly one group, empty groups are left out.

        Result digits are divided into those of hard, easy and other equations, forks, where known, by kind. Whether an equation is *true*
        divides nothing: in a text that a model wrote, its own draws decided that, and a class by truth would be chosen by its output.
        """
        hard = np.array([e.hard is True for e in self.equations] + [False])[self.equation]
        easy = np.array([e.hard is False for e in self.equations] + [False])[self.equation]
        forked = np.zeros(len(self.code), np.bool_) if self.fork is None else self.fork > 0
        found: dict[str, NDArray[np.bool_]] = {}
        if self.fork is not None:
            found |= {f"fork: {kind}": np.asarray(self.fork == code) for code, kind in enumerate(FORKS) if code}
        result = self.of("result digit") & ~forked
        found |= {
            "result digit, hard": result & hard, "result digit, easy": result & easy, "result digit, other": result & ~hard & ~easy,
        }  # fmt: skip
        starts = self.of("word") & self.step_start & ~forked
        found |= {name: self.of(name) & ~forked for name in CLASSES[2:] if name != "word"}
        found |= {"word, first of a step": starts, "word": self.of("word") & ~forked & ~starts, "special": self.of("special") & ~forked}
        return {name: mask for name, mask in found.items() if mask.any()}


def positions(texts: Texts, tokenizer: Tokenizer) -> Positions:
    """Reads the grammar of every response.

    Args:
        texts: what to read; the prompts are not.
        tokenizer: that made the ids.
    """
    parts: list[tuple[NDArray[np.int8], NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]] = []
    equations: list[Equation] = []
    added = frozenset(tokenizer.backend.get_added_tokens_decoder())
    for index, text in enumerate(texts):
        parts.append(_read(text, index, tokenizer, added, equations))
    code, mixed, equation, starts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Positions(code, mixed, equation, texts.forks, starts, tuple(equations))


def _read(
    text: Text, index: int, tokenizer: Tokenizer, added: frozenset[int], equations: list[Equation]
) -> tuple[NDArray[np.int8], NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]:
    spans = token_spans(tokenizer, text.response_ids, text.prompt_ids)
    labels, equation_of = label_characters(spans.text, index, equations)
    count = len(text.response_ids)
    code, mixed = np.full(count, _CODE["space"], np.int8), np.zeros(count, np.bool_)
    equation, starts = np.full(count, -1, np.int64), np.zeros(count, np.bool_)
    fresh = True
    for i, (token_id, start, end) in enumerate(zip(text.response_ids, spans.start, spans.end, strict=True)):
        kinds = sorted(set(labels[start:end].tolist()) - {_CODE["space"]})
        # Added tokens (<|im_end|>, </think>) are marks of the format, unless they are made of blank lines or digits.
        if not kinds or (int(token_id) in added and kinds[0] >= _CODE["word"]):
            code[i] = _CODE["special"] if int(token_id) in added or start == end else _CODE["space"]
        else:
            code[i] = kinds[0]
            mixed[i] = bool(set(kinds[1:]) - ({_CODE["mark"]} if kinds[0] == _CODE["step end"] else set()))
        numbers = [int(n) for n in equation_of[start:end] if n >= 0]
        if code[i] == _CODE["result digit"]:
            equation[i] = numbers[0]
        ends = code[i] == _CODE["step end"]
        starts[i] = fresh and not ends and code[i] != _CODE["space"]
        fresh = ends or (fresh and not starts[i])
    return code, mixed, equation, starts


def label_characters(text: str, index: int, equations: list[Equation]) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Labels of the characters, int8 ``[characters]``, and the equation of each result digit (−1 elsewhere), int64 ``[characters]``.

    Equations found are appended to ``equations``.
    """
    labels = np.array([_label(character) for character in text], np.int8)
    equation_of = np.full(len(text), -1, np.int64)
    digits = labels == _CODE["other digit"]

    def relabel(start: int, end: int, name: str) -> None:
        labels[start:end][digits[start:end]] = _CODE[name]

    for match in _BLANK.finditer(text):
        labels[match.start() : match.end()] = _CODE["step end"]
    for match in _BOXED.finditer(text):
        relabel(match.end(), _closing_brace(text, match.end()), "answer digit")
    for match in _RESULT.finditer(text):
        left = _LEFT.search(text[max(0, match.start() - 200) : match.start()])
        if left is None or not any(character.isdigit() for character in left.group()):
            before = ""
        else:
            before = left.group()
            relabel(match.start() - len(before), match.start(), "operand digit")
        relabel(match.start(2), match.end(2), "result digit")
        inside = np.arange(match.start(2), match.end(2))
        equation_of[inside[digits[inside]]] = len(equations)
        result = _fraction(match.group(2)) * (-1 if match.group(1) else 1)
        equations.append(Equation(index, before.strip() + match.group(), *_judge(before, result)))
    # "1+2=3=3": a number between two equals signs is a result of the first and stays one.
    labels[equation_of >= 0] = _CODE["result digit"]
    return labels, equation_of


def _label(character: str) -> int:
    if character.isspace():
        return _CODE["space"]
    if character.isdecimal():
        return _CODE["other digit"]
    return _CODE["word"] if character.isalpha() else _CODE["mark"]


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return at
    return len(text)


def _fraction(number: str) -> Fraction:
    return Fraction(number.replace(",", ""))


def _judge(left: str, result: Fraction) -> tuple[bool | None, bool | None]:
    """Whether ``left = result`` is true, and whether it is hard; None where it cannot be said."""
    match = _BINARY.fullmatch(left)
    if match is None:
        return None, None
    a, sign, b = _fraction(match.group(1)), match.group(2), _fraction(match.group(3))
    sign = _LATEX.get(sign) or _SIGNS[sign]
    if sign == "/" and b == 0:
        return False, None
    value = {"+": a + b, "-": a - b, "*": a * b}[sign] if sign != "/" else a / b
    # `is_hard` knows whole numbers and results that are whole and not negative.
    whole = a.denominator == b.denominator == value.denominator == 1 and value >= 0 and (sign != "/" or value > 0)
    return value == result, is_hard(sign, int(a), int(b)) if whole else None
