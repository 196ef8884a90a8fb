r"""Numbers compared exactly: integers and rationals, never floats.

``18.00`` is 18, ``1,234`` is 1234, ``\frac{3}{6}`` is 1/2 and ``073`` is 73; ``0.333`` is not 1/3, because a rounded number is another
number. What this file cannot read as one number (an interval, a root, a variable) it says so about, and a slower judge may look at it.

Bounded: a number has at most 1,000 digits and an exponent of at most 1,000; nothing is evaluated that could grow (``9^{9^9}``).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from reset.scoring.latex import assignment, tidy
from reset.scoring.units import SCALES, TEXT_GROUP, without_units

__all__ = ["Number", "equal", "read_number"]

MAX_DIGITS = 1_000  # Python's own limit for int(str) is 4,300; no answer needs it
MAX_EXPONENT = 1_000
MAX_LENGTH = 300  # characters of a number with its units and words; a longer text is one only where it is all digits


class Number(NamedTuple):
    """One exact number. ``percent``: written with a percent sign; ``value`` is what stands before it. ``base``: written as 52_8."""

    value: Fraction
    percent: bool = False
    base: int | None = None
    digits: str = ""  # only with a base

    def __str__(self) -> str:
        return f"{self.digits}_{self.base}" if self.base is not None else str(self.value)


_PLAIN = re.compile(r"[-+]?[0-9., ]+")
_LOOSE_UNITS = re.compile(r"(?<=[0-9.%}])\s*(?:[A-Za-z]|[^\x00-\x7f])[^0-9+*=<>(){}\\^-]*(?:\^\{?[0-9]\}?)?$")
_LOOSE_PREFIX = re.compile(r"^[^0-9\\$.+*/<>(){}^-]*(?=[-\\$]?\s?[-\\$]?[0-9.\\])")
_GROUP_PREFIX = re.compile(rf"^(?:{TEXT_GROUP}\s*)+")
_CURRENCY = re.compile(r"^(?P<sign>-?)\s*(?:\\?\$|[€£¥₹]|US\\?\$|USD|Rs\.?)\s*")
_WRAPPED = re.compile(r"\\(?:text(?:bf|it|rm|sf)?|math(?:bf|it|rm|sf)|mbox)\{([^{}]*)\}")  # an answer that is one text: \text{72 clips}
_CURRENCY_END = re.compile(r"\s*(?:\\?\$|[€£¥₹])$")
_GROUPED = re.compile(
    r"[0-9]{1,3}(?:,\s?[0-9]{3})+|[0-9]{1,3}(?: [0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}"
)  # the last is Indian grouping
_DECIMAL = re.compile(
    r"(?P<whole>[0-9, ]*)(?:\.(?P<part>[0-9]*)(?:\\(?:overline|bar)\s?\{(?P<cycle>[0-9]{1,50})\}|\\(?:ldots|dots)|\.\.\.)?)?"
)
_TIMES_TEN = re.compile(
    r"(?P<mantissa>.*?[0-9.])?\s*(?:\\times|\\cdot|\*|(?<![0-9.])(?=10\^))\s*10\^\{?\s*(?P<exponent>[+-]?[0-9]{1,4})\s*\}?|(?P<m>[0-9.,]+)[eE](?P<x>[+-]?[0-9]{1,4})"
)
_PART = r"(?:\{\s*(-?[0-9][0-9,. ]*|-?\.[0-9]+)\s*\}|\s*([0-9]))"
_FRACTION = re.compile(rf"\\frac\s?{_PART}\s?{_PART}")
_SLASH = re.compile(r"\(?\s*(-?[0-9][0-9,.]*)\s*\)?\s*/\s*\(?\s*(-?[0-9][0-9,.]*)\s*\)?")
_MIXED = re.compile(r"(?P<whole>[0-9]+)(?:\s*(?P<latex>\\frac.*)|\s+(?:and\s+)?(?P<slash>[0-9]+\s?/\s?[0-9]+))")
_BASED = re.compile(
    r"(?P<digits>[0-9A-Z]{1,200})_\{?\s*(?:\\text\{)?\s*(?P<base>[0-9]{1,2}|two|three|four|five|six|seven|eight|nine|ten)\s*\}?\}?"
)
_BASE_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}


def read_number(text: str, loose: bool = False) -> Number | None:
    r"""``text`` as one exact number, or None.

    Args:
        text: An answer as it stands: ``\$1{,}234.50``, ``-\dfrac{3}{4}``, ``12\%``, ``5\text{ cm}``, ``1\frac{1}{2}``, ``52_8``, ``x = 5``.
        loose: Whether the answer is known to be a number, so that letters can only be units or a label: ``5m``, ``Total: 5 x 10 cm``.

    >>> [str(read_number(t)) for t in (r"\$1{,}234.50", "073", r"-1\frac{1}{2}", "5 cm", r"0.\overline{3}", "5x", "1,2")]
    ['2469/2', '73', '-3/2', '5', '1/3', 'None', 'None']
    >>> read_number("5m"), str(read_number("5m", loose=True))
    (None, '5')
    """
    if len(text) > 10 * MAX_LENGTH:
        return None
    text = tidy(text)
    if len(text) > MAX_LENGTH and _PLAIN.fullmatch(text) is None:
        return None
    if not text or not any("0" <= c <= "9" for c in text):
        return None
    wrapped = _WRAPPED.fullmatch(text)
    _, value = assignment(text if wrapped is None else wrapped[1])
    found = _read(value)
    if found is None and loose:
        value = value.split("\\approx")[0].rpartition("=")[2]
        found = _read(value) or _read(_LOOSE_UNITS.sub("", _LOOSE_PREFIX.sub("", _GROUP_PREFIX.sub("", value.strip())).strip()))
    return found


def equal(answer: Number, reference: Number) -> bool:
    r"""Whether two numbers are the same.

    A percent sign may be left out (12% and 12) or be meant (12% and 0.12). Of numbers in a base the digits are compared; the base may be
    left out, though it may not differ.

    >>> percent = read_number("12\\%")
    >>> equal(percent, read_number("12")), equal(percent, read_number("3/25")), equal(read_number("12"), read_number("0.12"))
    (True, True, False)
    """
    if answer.base is not None or reference.base is not None:
        if answer.base is not None and reference.base is not None and answer.base != reference.base:
            return False
        return (answer.digits or str(answer.value)) == (reference.digits or str(reference.value))
    if answer.value == reference.value:
        return True
    if answer.percent != reference.percent:
        return answer.value / (100 if answer.percent else 1) == reference.value / (100 if reference.percent else 1)
    return False


def _read(text: str) -> Number | None:
    text = without_units(text.strip())
    percent = text.endswith("%")
    if percent:
        text = text[:-1].rstrip()
    currency = _CURRENCY.match(text)
    if currency is not None:
        text = currency["sign"] + text[currency.end() :]
    text = _CURRENCY_END.sub("", text)
    based = _BASED.fullmatch(text)
    if based is not None:
        base = _BASE_WORDS.get(based["base"]) or int(based["base"])
        return _based(based["digits"].lstrip("0") or "0", base)
    negative = False
    while text[:1] in ("-", "+"):
        if text[0] == "-":
            negative = not negative
        text = text[1:].lstrip()
        if text[:1] in ("-", "+"):
            return None
    scale = 1
    for word, factor in SCALES.items():
        if text.lower().endswith(" " + word):
            scale, text = factor, text[: -len(word)].rstrip()
            break
    value = _magnitude(text)
    if value is None:
        return None
    return Number((-value if negative else value) * scale, percent)


def _based(digits: str, base: int) -> Number | None:
    if not 2 <= base <= 36:
        return None
    try:
        return Number(Fraction(int(digits, base)), base=base, digits=digits)
    except ValueError:  # a digit that the base does not have
        return None


def _magnitude(text: str) -> Fraction | None:
    """The value of unsigned ``text``."""
    text = text.strip()
    if text.startswith("(") and text.endswith(")") and "," not in text and text.count("(") == 1 and text.count(")") == 1:
        text = text[1:-1].strip()
    mixed = _MIXED.fullmatch(text)
    if mixed is not None and len(mixed["whole"]) <= MAX_DIGITS:
        part = _quotient(mixed["latex"] or mixed["slash"])
        return None if part is None or part < 0 else int(mixed["whole"]) + part
    power = _TIMES_TEN.fullmatch(text)
    if power is not None:
        mantissa = power["mantissa"] or power["m"]
        value = Fraction(1) if mantissa is None else _decimal(mantissa)
        exponent = int(power["exponent"] or power["x"])
        return None if value is None or abs(exponent) > MAX_EXPONENT else value * Fraction(10) ** exponent
    value = _quotient(text)
    return _decimal(text) if value is None else value


def _quotient(text: str) -> Fraction | None:
    match = _FRACTION.fullmatch(text)
    if match is not None:
        above, below = match[1] or match[2], match[3] or match[4]
    else:
        match = _SLASH.fullmatch(text)
        if match is None:
            return None
        above, below = match[1], match[2]
    numerator, denominator = _signed_decimal(above), _signed_decimal(below)
    return None if numerator is None or not denominator else numerator / denominator


def _signed_decimal(text: str) -> Fraction | None:
    value = _decimal(text.lstrip("-"))
    return None if value is None else -value if text.startswith("-") else value


def _decimal(text: str) -> Fraction | None:
    match = _DECIMAL.fullmatch(text.strip())
    if match is None:
        return None
    whole, part, cycle = match["whole"].strip(), match["part"] or "", match["cycle"] or ""
    if "..." in text or "dots" in text:
        return None  # "0.333…" says that digits are missing
    if whole and not whole.isdigit():
        if _GROUPED.fullmatch(whole) is None:
            return None
        whole = whole.replace(",", "").replace(" ", "")
    if not (whole or part or cycle) or len(whole) + len(part) + len(cycle) > MAX_DIGITS:
        return None
    value = Fraction(int(whole + part or "0"), 10 ** len(part))
    return value + Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(part)) if cycle else value
