"""Output that survives any terminal or pipe.

Tables and verdicts use signs that are not in every encoding: "−", "τ₀", "→", "★". A Windows pipe in cp1252 or a C locale would end a
finished run with UnicodeEncodeError. There such a sign is spelt in ASCII, and what has no such spelling (a model's text) by its number::

    +1.3 − τ₀ → 慢    becomes    +1.3 - tau0 -> \\u6162

JSON loses nothing: where the stream is not Unicode, :func:`reset.cli._common.emit_json` writes the escapes of JSON instead.
"""

from __future__ import annotations

import codecs
import io
from typing import TextIO

#: Signs that the commands print, in ASCII.
ASCII = {
    "−": "-", "–": "-", "—": "-", "‑": "-", "…": "...", "→": "->", "×": "x", "·": "*", "±": "+/-", "≤": "<=", "≥": ">=", "≈": "~",
    "★": "*", "¶": "|", "‹": "<", "›": ">", "“": '"', "”": '"', "’": "'", "‘": "'", "τ": "tau", "Σ": "sum", "µ": "u", "μ": "u", "²": "^2",
    "\N{NO-BREAK SPACE}": " ", "█": "#", "▏": "|",
    **{sign: str(digit) for digit, sign in enumerate("₀₁₂₃₄₅₆₇₈₉")},
}  # fmt: skip

HANDLER = "reset-nvfp4-ascii"


def spelt(error: UnicodeError) -> tuple[str, int]:
    """The error handler: one spelling for every sign that the encoding lacks.

    >>> spelt(UnicodeEncodeError("cp1252", "1 − τ₀, 慢", 2, 3, ""))
    ('-', 3)
    >>> "τ₀ → 慢".encode("cp1252", HANDLER) if codecs.register_error(HANDLER, spelt) is None else None
    b'tau0 -> \\\\u6162'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(ASCII.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii") for sign in lacking), error.end


def make_robust(stream: TextIO) -> None:
    """Lets ``stream`` spell what its encoding lacks. Streams of Unicode, and those that are no text files, stay as they are."""
    if isinstance(stream, io.TextIOWrapper) and not is_unicode(stream):
        codecs.register_error(HANDLER, spelt)
        stream.reconfigure(errors=HANDLER)


def is_unicode(stream: TextIO) -> bool:
    """Whether every sign can be written to ``stream``."""
    return (stream.encoding or "utf-8").lower().replace("_", "-").startswith("utf")
