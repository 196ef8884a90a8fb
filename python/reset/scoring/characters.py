"""Unicode that means ASCII: digits of other scripts, typographic minus signs, fullwidth punctuation, odd spaces.

Models that think in Chinese write ``１８`` or ``－３．５％``, and copied text brings ``−`` (U+2212) and no-break spaces. Scoring rules are
written for ASCII only; this file brings text there, character by character: the work is linear, and every sign keeps its meaning.
(Compatibility normalisation, NFKC, would do too much: it makes ``x2`` of ``x²``.)

>>> to_ascii("－３．５％，x² = １⁄２")
'-3.5%,x^{2} = 1/2'
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["to_ascii"]

_SIGNS = {
    # minus signs, dashes (an en dash before a digit is a minus; between digits it is a range, which no rule reads as a number)
    "−": "-", "‐": "-", "‑": "-", "‒": "-", "–": "-", "﹣": "-", "－": "-",
    # spaces; thin ones group digits ("1 234")
    "\u00a0": " ", "\u2002": " ", "\u2003": " ", "\u2007": " ", "\u2008": " ", "\u2009": " ",
    "\u200a": " ", "\u202f": " ", "\u205f": " ", "\u3000": " ",
    # no width at all
    "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "", "\ufeff": "", "\u200e": "", "\u200f": "",
    "\u2061": "", "\u2062": "", "\u2063": "",
    "⁄": "/", "∕": "/", "÷": "\\div ", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∗": "*",
    "±": "\\pm ", "∓": "\\mp ", "√": "\\sqrt ", "π": "\\pi ", "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ",
    "∈": "\\in ", "∅": "\\emptyset ",
    "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "°": "^\\circ ", "º": "^\\circ ", "′": "'", "θ": "\\theta ",
    "¼": "\\frac{1}{4}", "½": "\\frac{1}{2}", "¾": "\\frac{3}{4}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}", "⅕": "\\frac{1}{5}",
    "⅖": "\\frac{2}{5}", "⅗": "\\frac{3}{5}", "⅘": "\\frac{4}{5}", "⅙": "\\frac{1}{6}", "⅚": "\\frac{5}{6}",
    "⅛": "\\frac{1}{8}", "⅜": "\\frac{3}{8}", "⅝": "\\frac{5}{8}", "⅞": "\\frac{7}{8}",
    "⁰": "^{0}", "¹": "^{1}", "²": "^{2}", "³": "^{3}", "⁴": "^{4}", "⁵": "^{5}", "⁶": "^{6}", "⁷": "^{7}", "⁸": "^{8}", "⁹": "^{9}",
    "。": ".", "、": ",", "٫": ".", "٬": ",", "٪": "%",
}  # fmt: skip
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_ROOT = re.compile(r"√\s?(?:([0-9.]{1,40}|[A-Za-z])|\(([^()√]{1,100})\))")
_FULLWIDTH = 0xFF01 - 0x21  # distance of "！" from "!"; the block runs to "～"


def _sign(match: re.Match[str]) -> str:
    c = match[0]
    known = _SIGNS.get(c)
    if known is not None:
        return known
    if 0xFF01 <= ord(c) <= 0xFF5E:
        return chr(ord(c) - _FULLWIDTH)
    digit = unicodedata.decimal(c, None)
    return c if digit is None else str(digit)


def to_ascii(text: str) -> str:
    """``text`` with every sign that has an ASCII meaning replaced by it; all other characters stay."""
    return text if text.isascii() else _NOT_ASCII.sub(_sign, _ROOT.sub(_root, text))


def _root(match: re.Match[str]) -> str:
    return f"\\sqrt{{{match[1] or match[2]}}}"  # "\\sqrt 19" would be the root of 1
