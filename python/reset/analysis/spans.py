"""Which characters a token is: spans of a decoded text, exact for every tokenizer that :mod:`reset.detokenize` runs.

A token is bytes, not characters. Of an emoji in three tokens, each covers the one character; of a token that ends within a character, that
character too. Spans are in order, together they cover the whole text, and they overlap in such characters only::

    ids      " 4"  "7"  "+"  "3"  "8="  "85"        text  " 47+38=85"
    spans    0:2   2:3  3:4  4:5  5:7   7:9
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reset.detokenize import Detokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from reset.text import Tokenizer


class Spans(NamedTuple):
    """A text and the characters of each of its tokens.

    Attributes:
        text: decoded, special tokens included.
        start, end: token ``i`` is ``text[start[i]:end[i]]``; int64 ``[tokens]``. Ids without a token are empty.
    """

    text: str
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def token_spans(tokenizer: Tokenizer, token_ids: Iterable[int], prompt_ids: Iterable[int] = ()) -> Spans:
    """Spans of ``token_ids``, which follow ``prompt_ids`` (a first token may lose its space; one that follows a prompt does not)."""
    detokenizer = Detokenizer(tokenizer, prompt_ids, skip_special_tokens=False, eager=True)
    pieces: list[str] = []
    starts, ends = [], []
    length, pending = 0, False
    for token_id in token_ids:
        piece = detokenizer.push(int(token_id))
        held = bool(detokenizer.pending)
        starts.append(length)
        length += len(piece)
        # Held back is the beginning of one character, the next of the text: this token is a part of it.
        ends.append(length + held)
        pieces.append(piece)
        pending = held
    rest = detokenizer.finish()
    assert bool(rest) == pending, "a detokenizer holds back at most the beginning of one character"
    text = "".join(pieces) + rest
    return Spans(text, np.array(starts, np.int64), np.minimum(np.array(ends, np.int64), len(text)))
