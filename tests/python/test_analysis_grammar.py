"""Which characters a token is, and which class it belongs to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import BACKENDS, small

from reset.analysis import Text, Texts, positions
from reset.analysis.grammar import CLASSES, Equation, label_characters
from reset.analysis.spans import token_spans
from reset.tasks.arithmetic import generate, trace
from reset.text import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path


def byte_spans(tokenizer: Tokenizer, ids: list[int]) -> tuple[str, list[tuple[int, int]]]:
    """The oracle for byte-level tokenizers: tokens as bytes, and which characters those bytes touch."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in visible}
    table |= {chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in visible)}
    strings = tokenizer.token_strings()
    added = tokenizer.backend.get_added_tokens_decoder()
    pieces = [added[i].content.encode() if i in added else bytes(table[c] for c in str(strings(i))) for i in ids]
    text = b"".join(pieces).decode()
    owner = [index for index, character in enumerate(text) for _ in character.encode()]
    spans, at = [], 0
    for piece in pieces:
        touched = owner[at : at + len(piece)]
        spans.append((touched[0], touched[-1] + 1))
        at += len(piece)
    return text, spans


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_spans_are_the_characters_that_a_tokens_bytes_touch(text: str) -> None:
    tokenizer = small("byte level")
    ids = tokenizer.encode(text)
    found = token_spans(tokenizer, ids)
    whole, spans = byte_spans(tokenizer, ids)
    assert found.text == whole
    assert list(zip(found.start.tolist(), found.end.tolist(), strict=True)) == spans


@pytest.mark.parametrize("name", BACKENDS)
def test_spans_are_in_order_and_cover_the_text(name: str) -> None:
    tokenizer = small(name)
    rng = np.random.default_rng(0)
    for _ in range(200):
        ids = rng.choice([*tokenizer._tokens, 10**6], rng.integers(1, 14)).tolist()
        text, start, end = token_spans(tokenizer, ids)
        assert (start <= end).all()
        assert (np.diff(start) >= 0).all()
        assert (end <= len(text)).all()
        covered = np.zeros(len(text), bool)
        for a, b in zip(start, end, strict=True):
            covered[a:b] = True
        assert covered.all(), (name, ids, text)


def test_a_token_in_the_middle_of_a_character_covers_it() -> None:
    tokenizer = small("byte level")
    ids = [i for byte in "a🙂b".encode() for i in tokenizer.encode("é")[:0] or [byte_id(tokenizer, byte)]]
    text, start, end = token_spans(tokenizer, ids)
    assert text == "a🙂b"
    assert list(zip(start.tolist(), end.tolist(), strict=True)) == [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (2, 3)]


def byte_id(tokenizer: Tokenizer, byte: int) -> int:
    return next(i for i in range(300) if tokenizer.token_strings()(i) and byte_of(tokenizer, i) == bytes([byte]))


def byte_of(tokenizer: Tokenizer, token_id: int) -> bytes:
    from reset.detokenize import byte_of_character

    table = byte_of_character()
    return bytes(table[c] for c in str(tokenizer.token_strings()(token_id)) if c in table)


def labelled(text: str) -> dict[str, str]:
    """Class → its characters, ``_`` elsewhere; only classes that occur."""
    labels, _ = label_characters(text, 0, [])
    shown = {name: [c if label == code else "_" for c, label in zip(text, labels, strict=True)] for code, name in enumerate(CLASSES)}
    return {name: "".join(characters) for code, (name, characters) in enumerate(shown.items()) if (labels == code).any()}


def test_digits_by_their_place() -> None:
    text = r"add: 47+38=85. So 85 \boxed{85}."
    found = labelled(text)
    assert found["operand digit"] == r"_____47_38______________________"
    assert found["result digit"] == r"___________85___________________"
    assert found["other digit"] == r"__________________85____________"
    assert found["answer digit"] == r"____________________________85__"


@pytest.mark.parametrize(
    ("text", "operands", "results", "equation"),
    [
        ("3 × 38 = 114", "3 38", "114", (True, True)),
        ("12 - 7 =  5", "12 7", "5", (True, False)),
        ("12 − 7 = 6", "12 7", "6", (False, False)),
        ("12 − 7 = 5", "12 7", "5", (True, False)),
        ("96/4=24", "96 4", "24", (True, True)),
        ("5 - 7 = -2", "5 7", "2", (True, None)),
        ("5 - 7 = 2", "5 7", "2", (False, None)),
        ("8/0=8", "8 0", "8", (False, None)),
        ("$12.50 - $2.25 = $10.25", "12 50 2 25", "10 25", (True, None)),
        ("1,200 + 300 = 1,500", "1 200 300", "1 500", (True, False)),
        (r"4 \times 6 = 24", "4 6", "24", (True, False)),
        ("1 + 2 + 3 = 6", "1 2 3", "6", (None, None)),
        ("x = 12", "", "12", (None, None)),
        ("7*8=56 apples", "7 8", "56", (True, False)),
        ("so 2 x 3 = 6", "2 3", "6", (True, False)),
        ("<<48/2=24>>24", "48 2", "24", (True, True)),
    ],
)
def test_equations_as_people_write_them(text: str, operands: str, results: str, equation: tuple[bool | None, bool | None]) -> None:
    equations: list[Equation] = []
    labels, of = label_characters(text, 5, equations)

    def digits(name: str) -> str:
        return " ".join(re.findall(r"\d+", "".join(c if labels[i] == CLASSES.index(name) else " " for i, c in enumerate(text))))

    assert (digits("operand digit"), digits("result digit")) == (operands, results)
    assert [(e.true, e.hard) for e in equations] == [equation]
    assert equations[0].text == 5
    assert {text[i] for i in np.flatnonzero(of == 0)} == set(results.replace(" ", ""))


def test_a_chain_of_equations_has_two_results() -> None:
    equations: list[Equation] = []
    labels, of = label_characters("1+2=3=4", 0, equations)
    assert [CLASSES[code] for code in labels[[0, 2, 4, 6]]] == ["operand digit", "operand digit", "result digit", "result digit"]
    assert of.tolist() == [-1, -1, -1, -1, 0, -1, 1]
    assert [e.true for e in equations] == [True, None]


def test_numbers_that_are_no_results() -> None:
    assert set(labelled("In 1999 he had 12 = apples")) == {"word", "space", "other digit", "mark"}
    assert "result digit" not in labelled(r"\boxed{7} of 9")
    assert labelled(r"\boxed{\frac{3}{4}} 5")["answer digit"] == r"_____________3__4____"


def test_blank_lines_end_steps() -> None:
    found = labelled("a.\n\nb\n c \n \n\n")
    assert found["step end"] == "__\n\n_____\n \n\n"
    assert "step end" not in labelled("a\nb\n")


def classes_of(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    return [CLASSES[code] for code in positions(Texts([Text("p", [0], ids)]), tokenizer).code]


def test_a_token_takes_the_strongest_of_its_characters() -> None:
    backend = BACKENDS["byte level"]()
    backend.add_tokens(["=8", "38=", "9.\n\n", ".\n\n", "</think>", "x1", " 4"])
    backend.add_special_tokens(["<|im_end|>"])
    tokenizer = Tokenizer.from_backend(backend)
    pieces = ["1", "+", "7", "=8", ".\n\n", " 4", "*", "2", "=", "9.\n\n", "</think>", "x1", "<|im_end|>"]
    ids = [i for piece in pieces for i in tokenizer.encode(piece)]
    assert len(ids) == len(pieces)
    found = positions(Texts([Text("p", [0], ids)]), tokenizer)
    assert [CLASSES[code] for code in found.code] == [
        "operand digit", "mark", "operand digit", "result digit", "step end", "operand digit", "mark", "operand digit", "mark",
        "result digit", "special", "other digit", "special",
    ]  # fmt: skip
    assert [piece for piece, mixed in zip(pieces, found.mixed, strict=True) if mixed] == ["=8", "9.\n\n", "x1"]
    assert [(e.written, e.true) for e in found.equations] == [("1+7=8", True), ("4*2=9", False)]
    assert found.result.tolist() == [piece == "=8" for piece in pieces]
    with pytest.raises(ValueError, match="no class"):
        found.of("digits")


def test_unknown_ids_are_special() -> None:
    tokenizer = small("byte level")
    assert classes_of(tokenizer, [*tokenizer.encode("a"), 10**6]) == ["word", "special"]


@pytest.mark.parametrize("name", ["qwen3", "deepseek-r1-qwen"])
def test_classes_of_real_tokenizers_agree_with_the_tokenizers_own_offsets(shared: Path, name: str) -> None:
    tokenizer = Tokenizer.from_dir(shared / "tokenizers" / name)
    assert tokenizer is not None
    for seed in range(8):
        text = trace(generate(seed, level=1 + seed % 6), seed).text + " Été 🙂🙂 1,200 × 3 = 3,600!"
        encoded = tokenizer.backend.encode(text, add_special_tokens=False)
        offsets = encoded.offsets
        spans = token_spans(tokenizer, encoded.ids)
        assert spans.text == text
        where = positions(Texts([Text("p", [0], encoded.ids)]), tokenizer)
        wanted = {
            "result digit": [m.span() for m in re.finditer(r"(?<==)\d+|(?<== )[\d,]+", text)],
            "answer digit": [m.span(1) for m in re.finditer(r"boxed\{(\d+)", text)],
            "operand digit": [m.span(g) for m in re.finditer(r"([\d,]+)(?: × |[-+*/])(\d+) ?=", text) for g in (1, 2)],
        }
        for kind, places in wanted.items():
            inside = [any(s <= a and b <= e for s, e in places) and text[a:b].strip().isdigit() for a, b in ((a, b) for a, b in offsets)]
            assert np.flatnonzero(where.of(kind)).tolist() == np.flatnonzero(inside).tolist(), (kind, text)
        assert all(equation.true for equation in where.equations)


def test_every_position_is_in_one_group() -> None:
    tokenizer = small("byte level")
    made = []
    for seed in range(5):
        ids = tokenizer.encode(trace(generate(seed, level=3), seed).text)
        rng = np.random.default_rng(seed)
        made.append(Text(str(seed), [0], ids, forks=rng.integers(0, 4, len(ids)).astype(np.int8) * (rng.random(len(ids)) < 0.2)))
    texts = Texts(made)
    where = positions(texts, tokenizer)
    groups = where.groups()
    assert (np.sum(list(groups.values()), axis=0) == 1).all()
    assert {"fork: wording", "fork: entity", "fork: computing", "result digit, hard", "result digit, easy", "word"} <= set(groups)
    assert not (where.result & (texts.forks > 0)).any()  # type: ignore[operator]
    without = positions(Texts(Text(t.problem_id, t.prompt_ids, t.response_ids) for t in texts), tokenizer).groups()
    assert (np.sum(list(without.values()), axis=0) == 1).all()
    assert not any(name.startswith("fork") for name in without)


def test_steps_begin_at_the_start_and_after_blank_lines() -> None:
    tokenizer = small("byte level")
    pieces = ["So", "\n\n", " ", "Ben", ".", "\n\n", "4"]
    ids = [i for piece in pieces for i in tokenizer.encode(piece)]
    where = positions(Texts([Text("p", [0], ids)]), tokenizer)
    texts = tokenizer.token_texts(ids)
    starts = [texts[i] for i in np.flatnonzero(where.step_start)]
    assert len(starts) == 3
    assert starts[0][0] == "S"
    assert starts[1][0] == "B"
    assert starts[2] == "4"
