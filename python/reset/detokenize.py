"""Token ids to text, one id at a time.

A token is not a piece of text. One emoji may be spread over three tokens, a leading space may vanish because it is the
first one, and ``<0x0A>`` means a newline. ``Tokenizer.decode`` knows all this but wants every id at once; decoding anew
after each token would cost time quadratic in the length. :class:`Detokenizer` runs the same rules as a pipeline of small
stages that each keep a few bytes of state::

    ids → token strings → Replace ▁ by space → join byte tokens → drop the first space → text

The text it has given out never changes afterwards: half a character is held back until the rest arrives, and what has
come out after :meth:`Detokenizer.finish` equals the full decode exactly, whatever the ids. That includes ids that make no
sense together: invalid UTF-8 becomes U+FFFD, in the same places and the same number as in a full decode.

The stages restate the decoders of the ``tokenizers`` library that language models use: ByteLevel (Qwen, GPT, Llama 3),
Replace + ByteFallback + Fuse + Strip (Llama 2, Mistral, Gemma) and Metaspace.
"""

from __future__ import annotations

import codecs
import copy
import json
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from reset.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reset.text import Tokenizer


class Stage:
    """One rule of a decoder, fed token by token."""

    def push(self, token: str) -> str | None:
        """The token's text as far as it is certain; None where this token gives nothing (yet)."""
        raise NotImplementedError

    def close(self) -> str | None:
        """What is still held back, as it reads if nothing follows; the stage is then as after a complete token."""
        return None

    def holds(self) -> bool:
        """Whether something is held back."""
        return False


class _Replace(Stage):
    """Replaces a literal string in every token: ``▁`` by a space."""

    def __init__(self, pattern: str, content: str) -> None:
        self._pattern, self._content = pattern, content

    def push(self, token: str) -> str | None:
        return token.replace(self._pattern, self._content)


class _Metaspace(Stage):
    """``▁`` is a space, except in the first token, where it only marks the beginning of a word."""

    def __init__(self, replacement: str, prepend_scheme: str) -> None:
        self._replacement = replacement
        self._drop = prepend_scheme != "never"

    def push(self, token: str) -> str | None:
        space = "" if self._drop else " "
        self._drop = False
        return token.replace(self._replacement, space)


class _Utf8:
    """Bytes to characters. Invalid bytes become U+FFFD, one for each maximal part of a character (as in Rust and on the web)."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def close(self) -> str:
        return self._decoder.decode(b"", final=True)

    def holds(self) -> bool:
        return bool(self._decoder.getstate()[0])

    def __copy__(self) -> _Utf8:
        twin = _Utf8()
        twin._decoder.setstate(self._decoder.getstate())
        return twin


def byte_of_character() -> dict[str, int]:
    """The byte-level alphabet: which byte a character of a byte-level token stands for.

    Bytes that print as one visible Latin-1 character stand for themselves; the other 68 (controls, spaces, soft hyphen) are
    numbered in order from U+0100, so that a vocabulary file holds visible characters only. Space is ``Ġ``, newline ``Ċ``.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


_BYTE_OF_CHARACTER = byte_of_character()


class _ByteLevel(Stage):
    """Characters of the byte-level alphabet to bytes, bytes to text. A token with any other character is taken as it is written."""

    def __init__(self) -> None:
        self._utf8 = _Utf8()

    def push(self, token: str) -> str | None:
        try:
            data = bytes([_BYTE_OF_CHARACTER[character] for character in token])
        except KeyError:
            data = token.encode("utf-8", "surrogatepass")
        return self._utf8.push(data)

    def close(self) -> str | None:
        return self._utf8.close() or None

    def holds(self) -> bool:
        return self._utf8.holds()

    def __copy__(self) -> _ByteLevel:
        twin = _ByteLevel()
        twin._utf8 = copy.copy(self._utf8)
        return twin


_BYTE_OF_FALLBACK_TOKEN = {f"<0x{high}{low}>": int(high + low, 16) for high in "0123456789ABCDEFabcdef" for low in "0123456789ABCDEFabcdef"}


class _ByteFallback(Stage):
    """Tokens ``<0x00>`` … ``<0xFF>`` are bytes; a run of them is one string if it is valid UTF-8, else one U+FFFD per byte.

    So the first byte of a run is not certain before the run ends, even where it is a whole character by itself. With
    ``eager`` characters come out as soon as they are complete; the text then differs from a full decode in invalid runs.
    """

    def __init__(self, eager: bool) -> None:
        self._run = bytearray()
        self._eager = _Utf8() if eager else None

    def push(self, token: str) -> str | None:
        byte = _BYTE_OF_FALLBACK_TOKEN.get(token)
        if byte is None:
            return (self.close() or "") + token
        if self._eager is not None:
            return self._eager.push(bytes([byte]))
        self._run.append(byte)
        return None

    def close(self) -> str | None:
        if self._eager is not None:
            return self._eager.close() or None
        if not self._run:
            return None
        try:
            text = self._run.decode("utf-8")
        except UnicodeDecodeError:
            text = "\N{REPLACEMENT CHARACTER}" * len(self._run)
        self._run = bytearray()
        return text

    def holds(self) -> bool:
        return bool(self._run) if self._eager is None else self._eager.holds()

    def __copy__(self) -> _ByteFallback:
        twin = _ByteFallback(eager=False)
        twin._run = bytearray(self._run)
        twin._eager = copy.copy(self._eager)
        return twin


class _StripToken(Stage):
    """Drops up to ``start`` leading and ``stop`` trailing ``content`` characters of every token."""

    def __init__(self, content: str, start: int, stop: int) -> None:
        self._content, self._start, self._stop = content, start, stop

    def push(self, token: str) -> str | None:
        leading = len(token) - len(token.lstrip(self._content))
        token = token[min(leading, self._start) :]
        trailing = len(token) - len(token.rstrip(self._content))
        return token[: len(token) - min(trailing, self._stop)]


class _StripText(Stage):
    """Drops up to ``start`` leading ``content`` characters of the whole text."""

    def __init__(self, content: str, start: int) -> None:
        self._content, self._left = content, start

    def push(self, token: str) -> str | None:
        if not self._left or not token:
            return token
        kept = token.lstrip(self._content)
        dropped = min(len(token) - len(kept), self._left)
        self._left = self._left - dropped if dropped == len(token) else 0
        return token[dropped:]


class _Join(Stage):
    """No decoder at all: tokens are words, with a space between two."""

    def __init__(self) -> None:
        self._first = True

    def push(self, token: str) -> str | None:
        text = token if self._first else " " + token
        self._first = False
        return text


def _stages(spec: dict[str, Any] | None, eager: bool) -> list[Stage]:
    if spec is None:
        return [_Join()]
    parts = spec.get("decoders", []) if spec.get("type") == "Sequence" else [spec]
    stages: list[Stage] = []
    fused = False  # from here on there is one text, not tokens
    for part in parts:
        if stages and isinstance(stages[-1], _ByteFallback) and not fused and part.get("type") != "Fuse":
            raise _unsupported(part, spec)  # it may hand on two tokens as one string, which only Fuse cannot tell
        match part:
            case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)} if not fused:
                stages.append(_Replace(pattern, content))
            case {"type": "Metaspace", "replacement": str(replacement)} if not fused:
                stages.append(_Metaspace(replacement, part.get("prepend_scheme", "always")))
            case {"type": "ByteFallback"} if not fused:
                stages.append(_ByteFallback(eager))
            case {"type": "ByteLevel"} if not fused:
                stages.append(_ByteLevel())
                fused = True  # it returns one string for all tokens
            case {"type": "Fuse"}:
                fused = True
            case {"type": "Strip", "content": str(content), "start": int(start), "stop": int(stop)} if not fused:
                stages.append(_StripToken(content, start, stop))
            case {"type": "Strip", "content": str(content), "start": int(start), "stop": 0}:
                stages.append(_StripText(content, start))
            case _:
                raise _unsupported(part, spec)
    return stages


def _unsupported(part: dict[str, Any], spec: dict[str, Any]) -> FormatError:
    return FormatError(
        f"tokenizer: the decoder {part.get('type', part)!r} in {json.dumps(spec)} cannot be run token by token; "
        "supported: ByteLevel, Metaspace, ByteFallback followed by Fuse, Strip, Replace with a literal string, and sequences of these"
    )


def compile_decoder(spec: dict[str, Any] | None) -> Callable[[bool], list[Stage]]:
    """Checks the ``decoder`` entry of a tokenizer.json and returns a maker of fresh stages (argument: ``eager``).

    Raises :class:`reset.FormatError` naming a decoder that cannot be run token by token.
    """
    _stages(spec, eager=False)
    return lambda eager: _stages(spec, eager)


class Detokenizer:
    """Text of a growing sequence of token ids.

    ``push`` returns the text that the id makes certain (often with earlier, held-back text; often ``""``), ``finish`` what is
    left at the end. Joined, they equal ``tokenizer.decode(ids, skip_special_tokens=…)``.

    Args:
        tokenizer: a :class:`reset.text.Tokenizer`.
        prompt_ids: ids that came before. Their text is not returned, but a leading space that only the first token of a
            text loses is then kept, so prompt and continuation can be pasted together.
        skip_special_tokens: leave out tokens such as ``<|im_end|>``.
        eager: give out a character as soon as its bytes are complete, even where later bytes could still make the full
            decode read differently (byte-fallback tokenizers only). For deciding on text, not for showing it.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt_ids: Iterable[int] = (), *, skip_special_tokens: bool = True, eager: bool = False
    ) -> None:
        self._tokens = tokenizer.token_strings(skip_special_tokens)
        self._stages = tokenizer.decoder_stages(eager)
        for token_id in prompt_ids:
            if self.push(token_id):
                break  # only the beginning of a text is special; the rest of the prompt changes nothing
        self.finish()

    def continue_text(self) -> None:
        """From here on reads ids as the continuation of a text: a leading space stays."""
        self._run("a")
        self.finish()

    def push(self, token_id: int) -> str:
        """The text that this id makes certain. Ids without a token (and skipped special tokens) give ``""``."""
        token = self._tokens(token_id)
        return "" if token is None else self._run(token)

    def _run(self, token: str) -> str:
        text: str | None = token
        for stage in self._stages:
            if text is None:
                return ""
            text = stage.push(text)
        return text or ""

    def finish(self) -> str:
        """What is held back, read as if nothing followed: U+FFFD for half a character."""
        return _close(self._stages)

    @property
    def pending(self) -> str:
        """What :meth:`finish` would return now; nothing changes."""
        if not any(stage.holds() for stage in self._stages):
            return ""
        return _close([copy.copy(stage) for stage in self._stages])


def _close(stages: list[Stage]) -> str:
    text: str | None = None
    for stage in stages:
        passed = stage.push(text) if text is not None else None
        rest = stage.close()
        text = None if passed is None and rest is None else (passed or "") + (rest or "")
    return text or ""


def text_ends(tokenizer: Tokenizer, token_ids: Iterable[int], prompt_ids: Iterable[int], length: int) -> tuple[int, ...]:
    """Where in a generated text of ``length`` characters the text of each token ends; the last end is ``length``.

    ``length`` may be less than all tokens make: a stop string cuts, and the token that ends an answer is no part of it.
    """
    detokenizer = Detokenizer(tokenizer, prompt_ids)
    lengths = [len(detokenizer.push(token_id)) for token_id in token_ids]
    if lengths:
        lengths[-1] += len(detokenizer.finish())
    return tuple(min(end, length) for end in accumulate(lengths))
