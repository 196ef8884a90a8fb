r"""One spelling for what LaTeX writes in many: spacing, sizes, wrappers.

Nothing here changes what an expression means; it makes equal answers equal texts more often, so that votes can be counted and the slow
comparison is rarely needed.

>>> tidy(r"$\left(\dfrac{1}{2},\;\text{ 3 }\right).$")
'(\\frac{1}{2}, 3 )'
"""

from __future__ import annotations

import re

from reset.scoring.characters import to_ascii

__all__ = ["assignment", "bare", "canonical", "choice", "plain_text", "tidy", "words"]

_WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"), ("\\boxed{", "}"), ("\\displaystyle", ""))
_REWRITES = (
    (re.compile(r"(?<!\\)\\!\s*"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=[0-9])\\[,:; ](?=[0-9]{3}(?![0-9]))"), ","),  # 10\,000
    (re.compile(r"(?<!\\)\\[,:; ]|~|\\q?quad(?![A-Za-z])|\\(?:thin|med|thick)space(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:left|right|bigl|bigr|Bigl|Bigr|big|Big|bigg|Bigg|displaystyle|textstyle|limits)(?![A-Za-z])\s*"), ""),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:textdollar|mathdollar)(?![A-Za-z])"), r"\\$"),
    (re.compile(r"\\(?:degree|textdegree)s?(?![A-Za-z])"), r"^\\circ"),
    (re.compile(r"\^\{\s*\\circ\s*\}"), r"^\\circ"),
    (re.compile(r"\\%|\\percent(?![A-Za-z])"), "%"),
    (re.compile(r"\\(?:text|mathrm|mathbf|mathit|textbf|textit|textrm|mathsf|mbox|hbox|rm|bf)\{([0-9.,%\s$-]{1,40})\}"), r"\1"),
    (re.compile(r"\\sqrt\s*([0-9]{2,40})"), r"\\sqrt{\1}"),  # TeX roots the first digit only; nobody means that
    (re.compile(r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}"), r"\\emptyset"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])"), r"\\pi"),
    (re.compile(r"\s+"), " "),
)
_WORDS = re.compile(r"\\(?:text|mathrm|mathbf|mathit|textbf|textit|textrm|textsf|mathsf|mbox|hbox|operatorname)\s?\{([^{}\\$]*)\}")
_CHOICE = re.compile(r"\(?\s*([A-Z])\s*\)?[.:]?")
_EXPLAINED = re.compile(r"\(?\s*([A-Z])\s*(?:\)|[.:](?=\s))\s*\S")
_TEXT = re.compile(r"[^\W\d_][^\W_]*(?:[\s'.,&-]{1,3}[^\W_]+)*")
_OR = re.compile(r"\s*(?:\\(?:text|mathrm|mbox)\s?\{\s*(?:and|or)\s*\}|(?<=\s)(?:and|or)(?=\s))\s*")
_NEEDLESS_SPACE = re.compile(r" (?![A-Za-z0-9])|(?<![A-Za-z0-9]) ")
_ASSIGNMENT = re.compile(r"([A-Za-z\\][A-Za-z0-9_{}\\ ()]{0,40}?)\s*(?:=|:=|\\in(?![A-Za-z]))\s*([^=<>]+)")


def tidy(text: str) -> str:
    """``text`` without wrappers (dollar signs, boxes, bold), spacing commands and a final full stop."""
    text = to_ascii(text).strip()
    for _ in range(8):  # wrappers nest, though never deep
        before = text
        while text[-1:] in {".", ",", ";", " ", ":"} and not text.endswith(("\\,", "\\;", "\\:", "\\ ", "...")):
            text = text[:-1]
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : len(text) - len(closing)]
            if text.startswith(opening) and text.endswith(closing) and len(inner) < len(text) and not _splits(inner, opening, closing):
                text = inner.strip()
        if text == before:
            break
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip()


def _splits(inner: str, opening: str, closing: str) -> bool:
    """Whether the wrapper's two ends belong to different pairs: ``$1$ or $2$``, ``\\boxed{1}, \\boxed{2}``."""
    if not closing:
        return inner[:1].isalpha()
    if closing != "}":
        return not inner or inner.endswith("\\") or opening in inner.replace("\\$", "") or closing in inner.replace("\\$", "")
    depth = 0
    for c in re.findall(r"\\.|[{}]", inner, re.DOTALL):
        depth += (c == "{") - (c == "}")
        if depth < 0:
            return True
    return depth != 0


def canonical(tidied: str) -> str:
    r"""One text for answers that differ in spelling only, so that votes can be counted: no assigned name, no needless spaces, plain words.

    >>> [canonical(t) for t in (r"x \in [2, 5)", r"\text{(C)}", r"\text{Evelyn}", r"2 \pi r", r"x = 1 \text{ or } x = 2")]
    ['[2,5)', 'C', 'evelyn', '2\\pi r', 'x=1,x=2']
    """
    text = choice(tidied) or words(tidied)
    if text is None:
        text = _NEEDLESS_SPACE.sub("", _OR.sub(",", assignment(tidied)[1]))
    return text


def bare(tidied: str) -> str:
    """The text without spaces and text commands: answers that agree in this are the same."""
    return _WORDS.sub(r"\1", tidied).replace(" ", "")


def plain_text(tidied: str) -> str:
    r"""Lower-case text without text commands, parentheses around it and doubled spaces: ``\text{ (East) }`` → "east"."""
    return " ".join(_WORDS.sub(r"\1", tidied).split()).strip(" .").strip("()").strip().casefold()


def words(tidied: str) -> str | None:
    r"""Lower-case text of an answer that is words and nothing else: ``\text{Evelyn}``; None for mathematics.

    >>> words(r"\text{Evelyn}"), words(r"\mathrm{even}"), words("xy"), words(r"5\text{ cm}")
    ('evelyn', 'even', None, None)

    Bare letters are mathematics ("xy") unless there are four or more in a row.
    """
    text = plain_text(tidied)
    if len(text) > 200 or _TEXT.fullmatch(text) is None:
        return None
    if "\\" not in tidied and re.search(r"[^\W\d_]{4}", text) is None:
        return None
    return text


def choice(tidied: str, explained: bool = False) -> str | None:
    r"""The letter of a multiple-choice answer: ``C``, ``(C)``, ``\text{(C)}``, ``\textbf{C.}``; None for anything else.

    ``explained``: the option's text may follow the letter, as in "(C) 12" and "C. east".
    """
    text = _WORDS.sub(r"\1", tidied).strip()
    match = _CHOICE.fullmatch(text) or (_EXPLAINED.match(text) if explained else None)
    return None if match is None else match[1]


def assignment(tidied: str) -> tuple[str, str]:
    r"""``x = 5`` as ("x", "5"), ``x \in [2,5)`` as ("x", "[2,5)"); ("", text) where nothing is assigned.

    >>> assignment("x = 5"), assignment("5"), assignment("2x + y = 5")
    (('x', '5'), ('', '5'), ('', '2x + y = 5'))
    """
    match = _ASSIGNMENT.fullmatch(tidied)
    return ("", tidied) if match is None else (match[1].strip(), match[2].strip())
