r"""Where the final answer of a generated text is.

    <think> … maybe \boxed{3} … </think> So she makes \$18 a day. \boxed{18}
    └────────── not looked at ─────────┘                            └┬┘ answer, source "boxed"

1. Only the text after the last ``</think>`` counts. A thought that is still open at the end (``<think>`` without its end, or a prompt
that ended
   inside a thought) means that no answer was given, whatever the thought contains.
2. The last balanced ``\boxed{…}`` with content; ``\fbox{…}``, ``\boxed 5`` too. Boxes that never close are as if they were not there.
3. Else the first ``####`` that is followed by a number or a formula: GSM8K's own marker. The *first*, and only the value right behind
it, because
   models that were shown worked examples run on ("#### 18\n\nQuestion: …#### 7") and the last one answers a question of their own making. A
   Markdown heading ("#### Step 2") is no marker.
4. Else the last number, marked as such, so that a reader can tell an answer from a guess.

Every rule is one pass over the text: a megabyte of opening braces costs what a megabyte of prose does.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from reset.scoring.characters import to_ascii

__all__ = ["Extracted", "answer_region", "extract", "extract_lenient", "last_box", "last_number"]

MAX_ANSWER = 10_000  # characters; a longer "answer" is none


class Extracted(NamedTuple):
    """An answer as it stands in the text, and the rule that found it: "boxed", "####" or "number"."""

    text: str
    source: str


_THOUGHT = re.compile(r"</?think>")
# At most three backslashes: answers quoted as JSON double them, and an unbounded run would be tried from each of its members.
_BOX = re.compile(r"\\{1,3}(?:boxed|fbox)(?![A-Za-z])\s*(?P<brace>\{)?|\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"[^\s$\\{}]{1,100}|\\[A-Za-z]{1,20}(?:\{[^{}]{0,50}\}){0,2}")

_DIGITS = r"(?:[0-9]{1,3}(?:(?:,|\{,\}|,?\\[,!])[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_FRACTION = r"\\[dtc]?frac\s?(?:\{-?[0-9.]{1,40}\}|[0-9])\s?(?:\{[0-9.]{1,40}\}|[0-9])"
_VALUE = rf"(?:[0-9]{{1,9}}\s?{_FRACTION}|{_FRACTION}|[0-9]{{1,9}}\x20[0-9]{{1,9}}/[0-9]{{1,9}}|(?:{_DIGITS})(?:\s?/\s?[0-9]+)?)"
_NUMBER = re.compile(rf"(?<![A-Za-z0-9_^.])(?<![_^]\{{)(?:(?<![)\]}}])-(?=\\?[$0-9.]|\\[dtc]?frac))?(?:\\?\$)?-?{_VALUE}(?:\s?\\?%)?")
_MARKER = re.compile(
    r"####[ \t]*(?:(?i:(?:the[ \t])?(?:final[ \t])?answer(?:[ \t]is)?)[ \t]*:?[ \t]*)?(?:\*\*[ \t]*)?"
    rf"(?:(?P<number>(?:-[ \t]?)?(?:\\?[$€£¥][ \t]?)?-?{_VALUE}(?:[ \t]?\\?%)?)(?P<heading>[.):][ \t]+[A-Za-z])?"
    r"|\$(?P<math>[^$\n]{1,500})\$|\\\((?P<inline>[^\n]{1,500}?)\\\)|(?P<latex>\\[A-Za-z][^\n]{0,500}))"
)


def answer_region(text: str, thinking_open: bool = False) -> str | None:
    """The part of ``text`` in which an answer counts: after the last thought; None inside an unfinished one."""
    opened, end = thinking_open, 0
    for tag in _THOUGHT.finditer(text):
        opened, end = tag[0] == "<think>", tag.end()
    return None if opened else text[end:]


def extract(text: str, thinking_open: bool = False) -> Extracted | None:
    r"""The final answer by the rules of this module, or None.

    >>> extract(r"<think>\boxed{3}?</think> It is \boxed{\frac{1}{2}}.")
    Extracted(text='\\frac{1}{2}', source='boxed')
    >>> extract("She sells 9. #### 18\n\nQuestion: and then? #### 7")
    Extracted(text='18', source='####')
    >>> extract("so the total is $1,234.50.")
    Extracted(text='$1,234.50', source='number')
    >>> extract(r"so \boxed{3}", thinking_open=True) is None
    True
    """
    region = answer_region(text, thinking_open)
    if region is None:
        return None
    box = last_box(region)
    if box is not None:
        return Extracted(box, "boxed")
    plain = to_ascii(region)
    marked = _marked(plain)
    if marked is not None:
        return Extracted(marked, "####")
    number = last_number(plain)
    return None if number is None else Extracted(number, "number")


def extract_lenient(text: str) -> Extracted | None:
    r"""The rule of the ReSET paper: the last ``\boxed`` anywhere, unfinished thoughts included, else the last number anywhere."""
    box = last_box(text)
    if box is not None:
        return Extracted(box, "boxed")
    number = last_number(to_ascii(text))
    return None if number is None else Extracted(number, "number")


def last_box(text: str) -> str | None:
    r"""Content of the balanced ``\boxed{…}`` that begins last; of nested boxes that is the innermost. Empty boxes do not count.

    >>> last_box(r"\boxed{1} and \boxed{\frac{1}{2}} and \boxed{3")
    '\\frac{1}{2}'
    """
    if "boxed" not in text and "fbox" not in text:
        return None
    best_start, best = -1, (0, 0)
    open_braces: list[tuple[int, int]] = []  # (where the box began or -1 for a plain brace, where its content begins)
    for token in _BOX.finditer(text):
        if token[0] == "{":
            open_braces.append((-1, 0))
        elif token[0] == "}":
            start, content = open_braces.pop() if open_braces else (-1, 0)
            if start > best_start and not _blank(text, content, token.start()):
                best_start, best = start, (content, token.start())
        elif token["brace"]:
            open_braces.append((token.start(), token.end()))
        elif token[0].lstrip("\\").startswith(("boxed", "fbox")):
            value = _UNBRACED.match(text, token.end())
            if value is not None:
                best_start, best = token.start(), value.span()
    return None if best_start < 0 else text[best[0] : best[1]].strip()


def _blank(text: str, start: int, end: int) -> bool:
    return end - start < 100 and not text[start:end].strip(" \t\r\n$\\,;!")


def _marked(text: str) -> str | None:
    step = 1  # numbered headings count 1, 2, 3; "#### 18. I hope" is an answer all the same
    for match in _MARKER.finditer(text):
        if match["heading"] and match["number"] == str(step):
            step += 1
            continue
        found: str = match["number"] or match["math"] or match["inline"] or match["latex"]
        return found.strip()
    return None


def last_number(text: str) -> str | None:
    """The last number of ASCII text: integer, decimal, fraction or mixed number, with its sign, currency and percent sign."""
    last: str | None = None
    for match in _NUMBER.finditer(text):
        last = match[0]
    return last
