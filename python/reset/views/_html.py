"""Escaping, tables and style: what every view is made of."""

from __future__ import annotations

import unicodedata
from html import escape as _escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INK = (213, 94, 0)
"""Red, green and blue of the colour that is laid over the background (vermilion of Okabe and Ito)."""
OPACITIES = (0.0, 0.10, 0.20, 0.31, 0.43, 0.55)
"""How much of it, per level of entropy. Light enough for black and for white text: contrast stays above 4.5 : 1 in both themes."""

TEXT = ' class="rs-text"'
"""Attribute of cells that hold words."""

# A class twice in a selector outweighs the tables and <pre> of JupyterLab, VS Code and classic notebooks.
STYLE = """
.reset-view.reset-view { font-family: system-ui, sans-serif; font-size: 14px; line-height: 1.5; max-width: 64rem; color: inherit; }
.reset-view.reset-view :focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
.reset-view.reset-view p { margin: .35em 0; }
.reset-view.reset-view summary { cursor: pointer; }
.reset-view.reset-view pre { font: inherit; line-height: 1.9; margin: .1em 0 .3em; padding: 0; border: 0; background: none; color: inherit;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.reset-view.reset-view table { border-collapse: collapse; border: 0; margin: .4em 0; font-size: 13px; font-variant-numeric: tabular-nums;
  color: inherit; background: none; }
.reset-view.reset-view caption { text-align: left; font-weight: 600; padding: .2em 0; color: inherit; caption-side: top; }
.reset-view.reset-view tr { background: none; color: inherit; }
.reset-view.reset-view th, .reset-view.reset-view td { border: 0; border-bottom: 1px solid rgba(128, 128, 128, .45); padding: .2em .7em;
  text-align: right; vertical-align: top; background: none; color: inherit; white-space: nowrap; max-width: none; }
.reset-view.reset-view th:first-child, .reset-view.reset-view .rs-text { text-align: left; }
.reset-view.reset-view .rs-text, .reset-view.reset-view th[scope="row"] { white-space: normal; overflow-wrap: anywhere; }
.reset-view.reset-view .rs-scroll { overflow: auto; max-height: 22rem; }
""".strip()


def escape(text: str) -> str:
    """``text`` for HTML, between tags and in attributes. A browser reads the same characters back.

    Two kinds have no place in HTML and become U+FFFD: NUL and halves of surrogate pairs.

    >>> escape('<b> & "c"')
    '&lt;b&gt; &amp; &quot;c&quot;'
    """
    if not text.isprintable():
        text = "".join("\N{REPLACEMENT CHARACTER}" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
    return _escape(text).replace("\r", "&#13;")  # as it is, a browser would read a carriage return as a newline


def visible(text: str, limit: int = 40) -> str:
    """``text`` on one line with its white space and controls shown, cut to ``limit`` characters.

    >>> visible(" a\\n\\u202e")
    '·a⏎⟨U+202E⟩'
    """
    shown = "".join(_VISIBLE.get(c) or (f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in _HIDDEN else c) for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


_VISIBLE = {" ": "·", "\n": "⏎", "\t": "⇥"}
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, direction marks and joiners, half surrogates, separators


def table(caption: str, names: Sequence[str], rows: Iterable[Sequence[str]], *, texts: Sequence[int] = ()) -> str:
    """A table whose first column names the row. ``texts`` are the numbers of columns that hold words, to be set from the left.

    Without ``names`` it has no head. All cells are escaped here.
    """
    head = "".join(f'<th scope="col"{TEXT if k in texts else ""}>{escape(name)}</th>' for k, name in enumerate(names))
    lines = [f"<table><caption>{escape(caption)}</caption>", f"<thead><tr>{head}</tr></thead>" if names else "", "<tbody>"]
    for first, *rest in rows:
        cells = (f"<td{TEXT if k in texts else ''}>{escape(cell)}</td>" for k, cell in enumerate(rest, start=1))
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{"".join(cells)}</tr>')
    return "\n".join([*(line for line in lines if line), "</tbody></table>"])


def view(parts: Iterable[str], *, style: str = "") -> str:
    """A view for a notebook: its parts with the style they need."""
    return "\n".join(['<div class="reset-view">', f"<style>{STYLE}{style}</style>", *parts, "</div>"])


def page(title: str, body: str) -> str:
    """A whole page around a view, light or dark as the reader's system is."""
    return "\n".join(
        [
            "<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # No script, no request: whatever a text holds, the page can only be read.
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}</title>",
            "<style>:root { color-scheme: light dark; } body { margin: 1.5rem auto; max-width: 64rem; padding: 0 1rem; "
            "color: CanvasText; background: Canvas; } h1 { font: 600 1.3rem/1.4 system-ui, sans-serif; }</style></head>",
            f"<body><main><h1>{escape(title)}</h1>", body, "</main></body></html>", "",
        ]
    )  # fmt: skip
