"""Stop strings on streams, against a search in the whole text."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import small

from reset.stop import StopMatcher
from reset.text import TextStream

LETTERS = st.text("abc", max_size=30)
STOPS = st.lists(st.text("abc", min_size=1, max_size=5), max_size=4)


def naive(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Walks through every end in the text; the first at which a stop string ends decides, the longest of those."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(places)] or [""]


@settings(max_examples=600, deadline=None)
@given(LETTERS, STOPS, st.lists(st.integers(0, 30), max_size=8))
def test_match_and_cut_depend_on_the_text_alone(text: str, stops: list[str], cuts: list[int]) -> None:
    matcher = StopMatcher(stops)
    given_out = ""
    want, which = naive(text, stops)
    for piece in pieces_of(text, cuts):
        given_out += matcher.feed(piece)
        assert want.startswith(given_out)  # nothing is taken back
    assert (given_out + matcher.finish(), matcher.matched) == (want, which)


@settings(max_examples=250, deadline=None)
@given(LETTERS, STOPS, st.lists(st.integers(0, 30), max_size=8))
def test_holds_back_only_beginnings_of_stop_strings(text: str, stops: list[str], cuts: list[int]) -> None:
    matcher = StopMatcher(stops)
    fed = ""
    for piece in pieces_of(text, cuts):
        matcher.feed(piece)
        fed += piece
        if matcher.matched is None:
            proper = [stop[:k] for stop in stops for k in range(len(stop)) if fed.endswith(stop[:k])]
            assert matcher.held == max(proper, key=len, default="")


def test_would_match_changes_nothing() -> None:
    matcher = StopMatcher("END")
    assert matcher.feed("the E") == "the "
    assert matcher.would_match("ND")
    assert not matcher.would_match("N")
    assert matcher.feed("N") == ""
    assert matcher.feed("gine") == "ENgine"
    assert matcher.matched is None


def test_nothing_after_the_match() -> None:
    matcher = StopMatcher(("\n\n", "Q:"))
    assert matcher.feed("4\nQ: more Q:") == "4\n"
    assert matcher.matched == "Q:"
    assert matcher.feed("again") == ""
    assert matcher.finish() == ""


def test_wrong_stop_strings_are_refused() -> None:
    with pytest.raises(ValueError, match="stop string is empty"):
        StopMatcher(["a", ""])
    with pytest.raises(ValueError, match="stop string is empty"):
        StopMatcher("")
    with pytest.raises(TypeError, match="must be str, got 3"):
        StopMatcher([3])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["byte level", "byte fallback"])
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_text_stream_cuts_the_decoded_text(name: str, data: st.DataObject) -> None:
    """Cut after the token that completes a stop string, the text is that of the ids so far, before the stop string."""
    tokenizer = small(name)
    stops = data.draw(st.lists(st.sampled_from(["\n\n", "\n", "the", "é", "at on", "🙂", "4.", "s"]), max_size=3))
    ids = data.draw(st.one_of(st.lists(st.integers(0, len(tokenizer) - 1), max_size=20), _encoded(name)))
    stream = TextStream(tokenizer, stop=stops)
    text = ""
    used = 0
    for token_id in ids:
        text += stream.push(token_id)
        used += 1
        if stream.stopped is not None:
            break
    text += stream.finish()
    assert (text, stream.stopped) == naive(tokenizer.decode(ids[:used], skip_special_tokens=True), stops)
    if used > 1:  # and no shorter beginning held one
        assert naive(tokenizer.decode(ids[: used - 1], skip_special_tokens=True), stops)[1] is None


def _encoded(name: str) -> st.SearchStrategy[list[int]]:
    return st.sampled_from(["the cat sat on the mat.\n\nSo 4. é🙂\n\n\nend", "🙂🙂é\n"]).map(lambda text: small(name).encode(text))


def test_newline_byte_stops_at_once() -> None:
    tokenizer = small("byte fallback")
    stream = TextStream(tokenizer, stop="\n")
    ids = tokenizer.encode("the\ncat", add_special_tokens=False)
    newline = tokenizer.backend.token_to_id("<0x0A>")
    for token_id in ids[: ids.index(newline)]:
        stream.push(token_id)
        assert stream.stopped is None
    stream.push(newline)
    assert stream.stopped == "\n"


def test_without_tokenizer_there_is_no_text() -> None:
    stream = TextStream(None, [1, 2])
    assert stream.push(3) == ""
    assert stream.finish() == ""
    assert stream.stopped is None
    with pytest.raises(ValueError, match="stop strings need a tokenizer"):
        TextStream(None, stop="x")
