"""Step boundaries by token ids and by text."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import platformdirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import BACKENDS, byte_level, small

from reset import CheckpointError
from reset.boundaries import TextBoundary, step_boundaries
from reset.text import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "user cache"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: folder)
    return folder


class Counting:
    """A tokenizer of somebody else, which counts how often it decodes."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.decoded = 0

    def __len__(self) -> int:
        return len(self.texts)

    def decode(self, ids: list[int]) -> str:
        self.decoded += 1
        return "".join(self.texts[i] for i in ids)


@pytest.mark.parametrize("name", BACKENDS)
def test_ids_are_those_a_scan_of_every_id_finds(name: str) -> None:
    tokenizer = small(name)
    newline, double = [], []
    for i in range(len(tokenizer) + 10):
        text = tokenizer.decode([i])
        if text == "\n":
            newline.append(i)
        if "\n\n" in text:
            double.append(i)
    assert step_boundaries(tokenizer) == (newline, double)


def test_added_and_special_tokens_take_part() -> None:
    backend = byte_level()
    added = backend.token_to_id("é\n\n")
    backend.add_special_tokens(["<br>\n\n"])
    special = backend.token_to_id("<br>\n\n")
    newline, double = step_boundaries(backend)
    assert newline == [backend.token_to_id("Ċ")]
    assert {added, special} <= set(double)


@pytest.mark.parametrize("name", ["qwen3", "deepseek-r1-qwen"])
def test_equal_the_published_ids_of_real_tokenizers(shared: Path, name: str) -> None:
    folder = shared / "tokenizers" / name
    want = json.loads((folder / "newline_ids.json").read_text())
    assert step_boundaries(folder) == (want["nl_ids"], want["dnl_ids"])


def test_every_kind_of_tokenizer_gives_the_same(tmp_path: Path) -> None:
    backend = byte_level()
    backend.save(str(tmp_path / "tokenizer.json"))
    want = step_boundaries(backend)
    assert len(want[0]) == 1
    assert want[1]
    foreign = Counting([backend.decode([i], skip_special_tokens=False) for i in range(backend.get_vocab_size())])

    class Wrapper:  # as transformers' fast tokenizers
        backend_tokenizer = backend

    for tokenizer in (Tokenizer.from_backend(backend), foreign, Wrapper(), tmp_path, str(tmp_path), tmp_path / "tokenizer.json"):
        assert step_boundaries(tokenizer) == want


def test_decodes_the_vocabulary_once_per_tokenizer() -> None:
    tokenizer = Counting(["a", "\n", "\n\n", ".\n\n", "\n\n  \n"])
    assert step_boundaries(tokenizer) == ([1], [2, 3, 4])
    first = tokenizer.decoded
    result = step_boundaries(tokenizer)
    assert tokenizer.decoded == first == 5
    result[0].append(7)  # the caller's own lists
    assert step_boundaries(tokenizer) == ([1], [2, 3, 4])
    tokenizer.texts.append("!\n\n")  # a token was added
    assert step_boundaries(tokenizer) == ([1], [2, 3, 4, 5])


def test_cache_on_disk_is_found_and_keyed_by_content(cache_folder: Path) -> None:
    want = step_boundaries(byte_level())
    (file,) = cache_folder.iterdir()
    assert json.loads(file.read_text()) == {"newline_ids": want[0], "double_newline_ids": want[1]}
    file.write_text('{"newline_ids": [1], "double_newline_ids": [2, 3]}')
    assert step_boundaries(byte_level()) == ([1], [2, 3])  # found
    changed = byte_level()
    changed.add_tokens(["one more"])
    assert step_boundaries(changed) == want  # not confused with another
    assert len(list(cache_folder.iterdir())) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"newline_ids": [1]}', '{"newline_ids": ["1"], "double_newline_ids": []}', "\ufffd"])
def test_damaged_cache_is_replaced(cache_folder: Path, content: str) -> None:
    want = step_boundaries(byte_level())
    (file,) = cache_folder.iterdir()
    file.write_text(content)
    assert step_boundaries(byte_level()) == want
    assert json.loads(file.read_text())["newline_ids"] == want[0]


def test_cache_that_cannot_be_written_is_no_error(cache_folder: Path, tmp_path: Path) -> None:
    cache_folder.write_text("a file where the folder should be")
    assert step_boundaries(byte_level())[0]
    assert step_boundaries(byte_level(), cache=tmp_path / "mine")[0]
    assert len(list((tmp_path / "mine").iterdir())) == 1


def test_cache_false_writes_nothing(cache_folder: Path) -> None:
    step_boundaries(byte_level(), cache=False)
    assert not cache_folder.exists()


def test_wrong_tokenizers_are_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got int"):
        step_boundaries(3)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        step_boundaries(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json: no such file"):
        step_boundaries(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer"):
        step_boundaries(tmp_path)


def ends_of(pieces: list[str]) -> list[bool]:
    rule = TextBoundary()
    return [rule.feed(piece) for piece in pieces]


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [
        (["a", "\n\n", "b"], [False, True, False]),
        (["a.", "\n", "\n", "b"], [False, False, True, False]),
        (["a.\n", "\n", "b"], [False, True, False]),
        (["a\r\n\r\n"], [True]),
        (["a\r", "\n\r", "\n"], [False, False, True]),
        (["a\n", "  \t", "\n"], [False, False, True]),
        (["a\n", " b", "\n", "\n"], [False, False, False, True]),
        (["a\n\n", "\n", "\n\n", "b\n\n"], [True, False, False, True]),  # several blank lines are one end
        (["\n\n", " \n", "a\n\n"], [False, False, True]),  # nothing ends before it began
        (["a\n\nb", "\n\n"], [True, True]),
        (["a\n\nb\n\nc", "\n", "\n"], [True, False, True]),  # at most one end per piece
        (["", "a", "", "\n", "", "\n"], [False, False, False, False, False, True]),
        (["a\rb\r\rc"], [False]),  # a lone carriage return ends no line
    ],
)
def test_text_rule(pieces: list[str], ends: list[bool]) -> None:
    assert ends_of(pieces) == ends


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(["a", "b.", "\n", "\r\n", " ", "\t", "\u00a0", "x\n"]), max_size=30))
def test_number_of_steps_does_not_depend_on_the_cuts(parts: list[str]) -> None:
    text = "".join(parts)
    want = len(re.findall(r"\S(?s:.*?)\n[^\S\n]*\n", text))
    assert sum(ends_of(list(text))) == want
    assert sum(ends_of(parts)) == want


def test_reset_forgets_the_text() -> None:
    rule = TextBoundary()
    rule.feed("a\n")
    rule.reset()
    assert not rule.feed("\n")
