"""Where a reasoning step ends: at a blank line. Two ways to see one.

By token ids, as the published method does it (:func:`step_boundaries`): a new step begins after a token whose text contains
``"\\n\\n"``, and after two tokens in a row that are exactly ``"\\n"``. That needs two lists of ids, found by decoding every
token of the vocabulary once.

By text (:class:`TextBoundary`): a new step begins after a blank line, however it was cut into tokens. This also sees what
the ids miss: ``".\\n"`` followed by ``"\\n"``, Windows line ends, and lines that hold only spaces.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reset.files import written_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable

Boundaries = tuple[list[int], list[int]]

_RULE = "boundaries-1"  # part of the key on disk: a changed rule must not find old answers
# What was found, with the size of the vocabulary then; an entry goes away with its tokenizer.
_remembered: weakref.WeakKeyDictionary[Any, tuple[int, Boundaries]] = weakref.WeakKeyDictionary()


def step_boundaries(tokenizer: object, *, cache: bool | str | os.PathLike[str] = True) -> Boundaries:
    """``(newline_ids, double_newline_ids)`` of a tokenizer, each in ascending order.

    ``newline_ids`` decode to exactly ``"\\n"``; ``double_newline_ids`` decode to a text that contains ``"\\n\\n"``. Added and
    special tokens take part.

    Args:
        tokenizer: a :class:`reset.text.Tokenizer`, a ``tokenizers.Tokenizer``, a transformers tokenizer (anything with
            ``decode(ids)``, ``len`` and perhaps ``get_vocab()``), or the path of a checkpoint folder or a tokenizer.json.
        cache: keep the answer on disk, under a hash of the tokenizer, in the user's cache folder (True) or in a folder of
            one's own; False: in memory only. A cache that cannot be read or written is no error.

    Raises:
        FileNotFoundError: no such folder, or no tokenizer.json in it.
        TypeError: not a tokenizer.
    """
    if isinstance(tokenizer, str | os.PathLike):
        return step_boundaries(_load(Path(tokenizer)), cache=cache)
    backend = _backend(tokenizer)
    try:
        known = _remembered.get(tokenizer)
    except TypeError:  # an object that cannot be hashed or referenced weakly is looked up on disk only
        known = None
    size = _size(tokenizer, backend)
    if known is not None and known[0] == size:
        return _copied(known[1])
    file = None if backend is None else _cache_file(backend, cache)
    found = None if file is None else _read(file)
    if found is None:
        ids = _ids(tokenizer, backend)
        found = _scan(ids, _texts(tokenizer, backend, ids))
        if file is not None:
            _write(file, found)
    with suppress(TypeError):
        _remembered[tokenizer] = (size, found)
    return _copied(found)


class TextBoundary:
    """Step boundaries decided on the decoded text.

    A line is blank if it holds nothing but white space. A step ends where a blank line is complete, that is at its line end
    (``\\n``; ``\\r`` before it is white space), provided the step has some visible text: several blank lines in a row end one
    step, and blank lines before the first word end none. How many steps a text has therefore does not depend on how it is cut
    into pieces, except that one piece ends at most one step.

    >>> rule = TextBoundary()
    >>> [rule.feed(piece) for piece in ["First.", "\\r\\n", "  \\r\\n", "\\n", "Then", " x\\n\\ny", "\\n\\n"]]
    [False, False, True, False, False, True, True]
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Back to the beginning of a text."""
        self._visible = False  # this step has visible text
        self._blank = False  # and the current line, which is not its first, has none so far

    def feed(self, text: str) -> bool:
        """Takes the text of the next token; True if a new step begins before the token after it."""
        ended = False
        for character in text:
            if character == "\n":
                if self._blank:
                    ended = True
                    self._visible = self._blank = False
                else:
                    self._blank = self._visible
            elif not character.isspace():
                self._visible = True
                self._blank = False
        return ended


def _load(path: Path) -> Any:
    from reset.text import Tokenizer, read_backend

    if path.is_file():
        return read_backend(path)
    tokenizer = Tokenizer.from_dir(path)
    if tokenizer is None:
        raise FileNotFoundError(f"{path / 'tokenizer.json'}: no such file; step boundaries are read from a tokenizer")
    return tokenizer


def _backend(tokenizer: Any) -> Any:
    """The ``tokenizers.Tokenizer`` underneath, or None."""
    from tokenizers import Tokenizer as Backend

    for candidate in (tokenizer, getattr(tokenizer, "backend_tokenizer", None), getattr(tokenizer, "backend", None)):
        if isinstance(candidate, Backend):
            return candidate
    if not (callable(getattr(tokenizer, "decode", None)) and hasattr(tokenizer, "__len__")):
        raise TypeError(
            f"step_boundaries takes a tokenizer of reset, tokenizers or transformers, or the path of one; got {type(tokenizer).__name__}"
        )
    return None


def _ids(tokenizer: Any, backend: Any) -> list[int]:
    if backend is not None:
        return sorted(set(backend.get_vocab(with_added_tokens=True).values()))
    return sorted(set(tokenizer.get_vocab().values())) if hasattr(tokenizer, "get_vocab") else list(range(len(tokenizer)))


def _size(tokenizer: Any, backend: Any) -> int:
    return int(backend.get_vocab_size()) if backend is not None else len(tokenizer)


def _texts(tokenizer: Any, backend: Any, ids: list[int]) -> Iterable[str]:
    """What every id decodes to by itself."""
    if backend is None:
        return (tokenizer.decode([i]) for i in ids)
    texts: list[str] = backend.decode_batch([[i] for i in ids], skip_special_tokens=False)
    return texts


def _scan(ids: list[int], texts: Iterable[str]) -> Boundaries:
    newline, double = [], []
    for token_id, text in zip(ids, texts, strict=True):
        if text == "\n":
            newline.append(token_id)
        elif "\n\n" in text:
            double.append(token_id)
    return newline, double


def _copied(found: Boundaries) -> Boundaries:
    return list(found[0]), list(found[1])


def _cache_file(backend: Any, cache: bool | str | os.PathLike[str]) -> Path | None:
    if cache is False:
        return None
    if cache is True:
        from platformdirs import user_cache_path

        folder = user_cache_path("reset-nvfp4", appauthor=False)
    else:
        folder = Path(cache)
    return folder / f"{_RULE}-{hashlib.sha256(backend.to_str().encode()).hexdigest()}.json"


def _read(file: Path) -> Boundaries | None:
    try:
        stored = json.loads(file.read_bytes())
        newline, double = stored["newline_ids"], stored["double_newline_ids"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not all(isinstance(ids, list) and all(type(i) is int and i >= 0 for i in ids) for ids in (newline, double)):
        return None
    return newline, double


def _write(file: Path, found: Boundaries) -> None:
    content = json.dumps({"newline_ids": found[0], "double_newline_ids": found[1]}).encode()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_atomically(file) as out:
            out.write(content)
