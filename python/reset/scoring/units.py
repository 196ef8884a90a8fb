r"""Units: what stands behind a number or an expression and is no part of its value.

    5\text{ cm}^2   18 dollars   90^\circ   36\pi \text{ square feet}   1.5 \text{ million dollars} → 1.5 million

Units are dropped, never compared: "5 cm" and "5 m" count as the same answer, because a reference usually says the number only. Letters
right behind a number are variables (``5m``, ``3ab``) unless they stand in ``\text{…}`` or, after a space, are a word of three letters or a
common unit.
"""

from __future__ import annotations

import re

__all__ = ["SCALES", "TEXT_GROUP", "without_units"]

MAX_LENGTH = 300  # characters; nobody writes units behind a longer expression, and the patterns look at each place

SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
"""Number words that belong to the value."""

TEXT_GROUP = r"\\(?:text|mathrm|mathbf|mathit|textbf|textit|textrm|mathsf|mbox|hbox|operatorname)\s?\{[^{}\\]*\}(?:\^\{?-?[0-9]\}?)?"
_UNITS = re.compile(rf"(?:\s*(?:{TEXT_GROUP}|\^\\circ(?:\s?[CF](?![A-Za-z]))?|/(?=\s*\\)))+$")
_WORD_UNITS = re.compile(r"\s+[A-Za-z][A-Za-z.'-]+(?:[\s/.-]+[A-Za-z]+)*\.?(?:\^\{?[0-9]\}?)?$")
_MATH_WORDS = frozenset({
    "and", "arccos", "arcsin", "arctan", "cos", "cot", "csc", "deg", "degree", "e", "exp", "i", "inf", "infinity", "ln", "log", "max",
    "min", "minus", "mod", "modulo", "or", "pi", "plus", "sec", "sin", "sqrt", "tan", "theta", "times", "to", "x", "y", "z",
})  # fmt: skip
_SHORT_UNITS = frozenset({
    "am", "cl", "cm", "cu", "dl", "dm", "ft", "gb", "hp", "hr", "hz", "in", "kb", "kg", "km", "kn", "lb",
    "mb", "mg", "mi", "ml", "mm", "ms", "mv", "mw", "nm", "oz", "pm", "pt", "qt", "sq", "tb", "yd", "yr",
})  # fmt: skip
_SCALED = re.compile(r"\s*(?:\\(?:text|mathrm|mbox)\s?\{\s*)?(hundred|thousand|million|billion|trillion)s?(?![A-Za-z])", re.IGNORECASE)


def without_units(text: str) -> str:
    r"""``text`` (tidied) without the units at its end.

    >>> [without_units(t) for t in (r"5\text{ cm}^2", "18 dollars per day", r"36\pi \text{ feet}", "1.5 million dollars")]
    ['5', '18', '36\\pi', '1.5 million']
    >>> [without_units(t) for t in ("5 pi", "3ab", "3 ab")]
    ['5 pi', '3ab', '3 ab']
    """
    if len(text) > MAX_LENGTH:
        return text
    for _ in range(3):  # groups and words may follow each other: "5 \text{ square } feet"
        before = text
        scaled = _SCALED.search(text)
        if scaled is not None and scaled.start() > 0:  # the scale is part of the number, what follows is a unit
            return f"{text[: scaled.start()].rstrip()} {scaled[1].lower()}"
        text = _UNITS.sub("", text).rstrip() or text
        match = _WORD_UNITS.search(text)
        if match is not None and _are_units(match[0]):
            text = text[: match.start()].rstrip() or text
        if text == before:
            break
    return text


def _are_units(words: str) -> bool:
    found = re.findall(r"[a-z]+", words.lower())
    if _MATH_WORDS & set(found):
        return False
    return len(found[0]) >= 3 or found[0] in _SHORT_UNITS
