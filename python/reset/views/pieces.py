"""From tokens to pieces of text that can be coloured.

A byte-level token may be a third of a character, and a special token no text at all. So a text is cut where a token made something
certain (``Generation.text_ends``), and tokens that only together gave a character are one piece::

    tokens   " to"   F0 9F   98    80      "!"    <|im_end|>
    pieces   " to"   "😀" (three tokens)   "!"    "" (shown by its name)

Whatever the tokens are, the pieces joined are the text.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from reset.types import Generation


class Piece(NamedTuple):
    """A run of tokens and the text that is theirs.

    Attributes:
        first: number of its first token.
        last: number of its last token.
        text: their text; empty for tokens that have none, such as the one that ends an answer.
    """

    first: int
    last: int
    text: str


def pieces(generation: Generation) -> list[Piece]:
    """The text cut into pieces, every token in one; a text without tokens is none."""
    own = generation.trace.tokens
    count = len(generation.trace)
    if not generation.text or not count:
        return _empty(0, count)
    ends = list(generation.text_ends) or _ends_of_joined(own)
    if len(ends) != count or ends[-1] != len(generation.text):
        return [Piece(0, count - 1, generation.text)]  # made by hand, and nothing says which text is whose
    found: list[Piece] = []
    waiting: int | None = None  # first of the tokens without text so far
    start = 0
    for token, end in enumerate(ends):
        text, start = generation.text[start:end], end
        if not text:
            waiting = token if waiting is None else waiting
            continue
        first = token
        if waiting is not None and (own is None or text != own[token]):
            first = waiting  # more than this token says by itself: the tokens before were a part of it
        elif waiting is not None:
            found += _empty(waiting, token)
        found.append(Piece(first, token, text))
        waiting = None
    return found if waiting is None else found + _empty(waiting, count)


def _empty(first: int, end: int) -> list[Piece]:
    return [Piece(token, token, "") for token in range(first, end)]


def _ends_of_joined(tokens: tuple[str, ...] | None) -> list[int]:
    """Ends for a generation that was made without them, if its tokens joined are its text."""
    return list(accumulate(map(len, tokens or ())))
