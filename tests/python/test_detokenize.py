"""Streaming text equals the full decode of the tokenizers library, for any ids."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import BACKENDS, SENTENCES, byte_level, small
from tokenizers import decoders

from reset import FormatError
from reset.detokenize import Detokenizer, byte_of_character
from reset.text import Tokenizer

SHARED = Path(__file__).resolve().parents[3] / "shared"
REAL = ["models/stories260K", "tokenizers/qwen3", "tokenizers/deepseek-r1-qwen"]


@lru_cache
def real(name: str) -> Tokenizer:
    if not (SHARED / name).is_dir():
        pytest.skip("needs the folder `shared` beside the project")
    tokenizer = Tokenizer.from_dir(SHARED / name)
    assert tokenizer is not None
    return tokenizer


def streamed(tokenizer: Tokenizer, ids: list[int], *, skip: bool) -> str:
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip)
    pieces = [detokenizer.push(i) for i in ids]
    return "".join(pieces) + detokenizer.finish()


def id_lists(size: int) -> st.SearchStrategy[list[int]]:
    """Any ids, some beyond the vocabulary; small ids, which are the bytes and special tokens, often."""
    return st.lists(st.one_of(st.integers(0, size + 3), st.integers(0, min(size, 260)), st.just(size - 1)), max_size=24)


@pytest.mark.parametrize("name", BACKENDS)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_stream_equals_full_decode(name: str, data: st.DataObject) -> None:
    tokenizer = small(name)
    ids = data.draw(id_lists(len(tokenizer)))
    for skip in (False, True):
        assert streamed(tokenizer, ids, skip=skip) == tokenizer.backend.decode(ids, skip_special_tokens=skip)


@pytest.mark.parametrize("name", REAL)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_stream_equals_full_decode_of_real_tokenizers(name: str, data: st.DataObject) -> None:
    tokenizer = real(name)
    ids = data.draw(id_lists(len(tokenizer)))
    for skip in (False, True):
        assert streamed(tokenizer, ids, skip=skip) == tokenizer.backend.decode(ids, skip_special_tokens=skip)


@pytest.mark.parametrize("name", ["byte level", "byte fallback", *REAL])
@pytest.mark.parametrize("text", [*SENTENCES, "🙂👩‍👩‍👧数学é", " two  spaces ", "", "\n\n", "e\u0301\u200b"])
def test_no_piece_holds_half_a_character(name: str, text: str) -> None:
    tokenizer = small(name) if name in BACKENDS else real(name)
    detokenizer = Detokenizer(tokenizer)
    ids = tokenizer.encode(text)
    pieces = [detokenizer.push(i) for i in ids]
    if name in ("tokenizers/qwen3", "tokenizers/deepseek-r1-qwen"):
        text = unicodedata.normalize("NFC", text)  # these tokenizers do so
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
    assert "".join(pieces) + detokenizer.finish() == text


def test_emoji_waits_for_its_last_byte() -> None:
    tokenizer = small("byte level")
    detokenizer = Detokenizer(tokenizer)
    ids = [tokenizer.backend.token_to_id(c) for c in _characters("🦊".encode())]
    assert [detokenizer.push(i) for i in ids] == ["", "", "", "🦊"]
    assert detokenizer.push(ids[0]) == ""
    assert detokenizer.pending == "\N{REPLACEMENT CHARACTER}"
    assert detokenizer.pending == "\N{REPLACEMENT CHARACTER}"  # asking changes nothing
    assert detokenizer.finish() == "\N{REPLACEMENT CHARACTER}"
    assert detokenizer.finish() == ""


def test_byte_alphabet_is_the_librarys() -> None:
    alphabet = byte_of_character()
    assert sorted(alphabet) == sorted(set(byte_level().pre_tokenizer.alphabet()))  # type: ignore[union-attr]
    assert sorted(alphabet.values()) == list(range(256))
    assert alphabet["Ġ"] == ord(" ")
    assert alphabet["Ċ"] == ord("\n")


@pytest.mark.parametrize("name", ["byte level", "byte fallback", "metaspace", "metaspace first"])
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_prompt_keeps_the_leading_space_of_the_continuation(name: str, data: st.DataObject) -> None:
    tokenizer = small(name)
    start = tokenizer.encode(data.draw(st.sampled_from(["the cat", "the", " cat sat"])))
    ids = data.draw(id_lists(len(tokenizer)))
    detokenizer = Detokenizer(tokenizer, start)
    text = "".join(map(detokenizer.push, ids)) + detokenizer.finish()
    whole = tokenizer.decode([*start, *ids], skip_special_tokens=True)
    assert tokenizer.decode(start, skip_special_tokens=True) + text == whole


def test_prompt_without_visible_text_is_the_beginning() -> None:
    tokenizer = small("byte fallback")
    ids = tokenizer.encode("cat", add_special_tokens=False)
    detokenizer = Detokenizer(tokenizer, [1])
    assert "".join(map(detokenizer.push, ids)) + detokenizer.finish() == "cat"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12))
def test_eager_gives_every_complete_character_at_once(text: str) -> None:
    tokenizer = small("byte fallback")
    if "▁" in text:  # the vocabulary's own space
        return
    detokenizer = Detokenizer(tokenizer, eager=True)
    ids = [tokenizer.backend.token_to_id(f"<0x{byte:02X}>") for byte in text.encode()]
    detokenizer.continue_text()
    so_far = ""
    for position, i in enumerate(ids):
        so_far += detokenizer.push(i)
        assert so_far == text.encode()[: position + 1].decode(errors="ignore")


def test_tokens_have_texts_of_their_own() -> None:
    tokenizer = small("byte fallback")
    ids = tokenizer.encode("the cat\né")
    assert tokenizer.token_texts(ids)[0] == "<s>"
    assert "".join(tokenizer.token_texts(ids)).replace("\N{REPLACEMENT CHARACTER}", "") == "<s> the cat\n"
    assert tokenizer.token_texts([10_000]) == ("",)


@pytest.mark.parametrize(
    "decoder",
    [
        decoders.WordPiece(),
        decoders.CTC(),
        decoders.BPEDecoder(),
        decoders.Sequence([decoders.ByteFallback(), decoders.Strip(" ", 1, 0)]),
        decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 1, 1)]),
        decoders.Sequence([decoders.Fuse(), decoders.Replace("a", "b")]),
    ],
    ids=["WordPiece", "CTC", "BPE suffix", "strip after byte fallback", "strip at the end", "replace in the whole text"],
)
def test_other_decoders_are_refused_by_name(decoder: decoders.Decoder) -> None:
    backend = byte_level()
    backend.decoder = decoder
    with pytest.raises(FormatError, match="cannot be run token by token; supported: ByteLevel"):
        Tokenizer.from_backend(backend)


def _characters(data: bytes) -> list[str]:
    of_byte = {byte: character for character, byte in byte_of_character().items()}
    return [of_byte[byte] for byte in data]
