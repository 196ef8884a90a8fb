"""The tokenizer of a checkpoint folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from small_tokenizers import byte_fallback, byte_level, plain_words, small

from reset import CheckpointError
from reset.text import TextStream, Tokenizer, eos_token_ids

if TYPE_CHECKING:
    from pathlib import Path


def folder_with(tmp_path: Path, **files: Any) -> Path:
    """A checkpoint folder with a small tokenizer and further files; ``tokenizer_config={…}`` is tokenizer_config.json."""
    backend = files.pop("backend", byte_level())
    backend.save(str(tmp_path / "tokenizer.json"))
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path


def loaded(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_dir(path)
    assert tokenizer is not None
    return tokenizer


def test_folder_without_tokenizer_has_none(tmp_path: Path) -> None:
    assert Tokenizer.from_dir(tmp_path) is None


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        Tokenizer.from_dir(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("tokenizer", "", "tokenizer.json: not a tokenizer"),
        ("tokenizer", "{", "tokenizer.json: not a tokenizer"),
        ("tokenizer", '{"version": "1.0"}', "tokenizer.json: not a tokenizer"),
        ("tokenizer_config", "{oops", "tokenizer_config.json: not a JSON file"),
        ("tokenizer_config", "\xff".encode("latin-1"), "tokenizer_config.json: not a JSON file"),
        ("tokenizer_config", "[]", "tokenizer_config.json: expected a JSON object, found list"),
        ("tokenizer_config", '{"eos_token": 3}', "tokenizer_config.json: eos_token is 3; expected a string"),
        ("tokenizer_config", '{"eos_token": {"text": "x"}}', "eos_token is {'text': 'x'}; expected a string"),
        ("tokenizer_config", '{"chat_template": 3}', "chat_template must be a string or a list"),
        ("tokenizer_config", '{"chat_template": [{"name": "x"}]}', "chat_template must be a string or a list"),
        ("tokenizer_config", '{"added_tokens_decoder": [1]}', "added_tokens_decoder must map ids to objects"),
        ("tokenizer_config", '{"added_tokens_decoder": {"7": "x"}}', "added_tokens_decoder must map ids to objects"),
        ("tokenizer_config", '{"added_tokens_decoder": {"x": {"content": "x"}}}', "added_tokens_decoder must map ids to objects"),
        ("special_tokens_map", "no", "special_tokens_map.json: not a JSON file"),
        ("generation_config", "no", "generation_config.json: not a JSON file"),
        ("generation_config", '{"eos_token_id": "x"}', "generation_config.json: eos_token_id is 'x'; expected a token id or a list"),
        ("generation_config", '{"eos_token_id": [1, -1]}', "expected a token id or a list"),
        ("config", '{"eos_token_id": true}', "config.json: eos_token_id is True"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str | bytes, complaint: str) -> None:
    folder_with(tmp_path)
    (tmp_path / f"{name}.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.from_dir(tmp_path)
    assert complaint in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_pointer_that_git_left_in_place_of_the_tokenizer_is_told_from_damage(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 7031645\n")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: a Git LFS pointer .*git lfs pull"):
        Tokenizer.from_dir(tmp_path)


def test_damaged_template_file_is_named(tmp_path: Path) -> None:
    folder_with(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: not UTF-8"):
        Tokenizer.from_dir(tmp_path)


def test_special_tokens_come_from_both_files(tmp_path: Path) -> None:
    tokenizer = loaded(
        folder_with(
            tmp_path,
            special_tokens_map={"bos_token": "<|begin|>", "eos_token": "<wrong>", "unk_token": {"content": "a"}},
            tokenizer_config={
                "eos_token": {"__type": "AddedToken", "content": "<|end|>"},
                "unk_token": None,
                "image_token": "<think>",
                "add_bos_token": True,
            },
        )
    )
    assert tokenizer.special_tokens == {"bos_token": "<|begin|>", "eos_token": "<|end|>", "image_token": "<think>"}
    assert tokenizer.bos_token == "<|begin|>"
    assert tokenizer.eos_token_id == tokenizer.backend.token_to_id("<|end|>")
    assert tokenizer.eos_token_ids == (tokenizer.eos_token_id,)
    assert tokenizer.encode("x") == tokenizer.encode("x", add_special_tokens=False)  # tokenizer.json says so, add_bos_token does not


def test_tokens_of_the_configuration_are_added(tmp_path: Path) -> None:
    size = len(Tokenizer.from_backend(byte_level()))
    entries = {
        str(size + 1): {"content": "<second>", "special": True},
        str(size): {"content": "<first>", "special": False, "normalized": False},
        "0": {"content": "<think>", "special": False},
    }
    tokenizer = loaded(
        folder_with(
            tmp_path, tokenizer_config={"added_tokens_decoder": entries, "eos_token": "<think>", "additional_special_tokens": ["<third>"]}
        )
    )
    assert [tokenizer.backend.token_to_id(t) for t in ("<first>", "<second>", "<third>")] == [size, size + 1, size + 2]
    ids = tokenizer.encode("a<first><second><third><think>b")
    assert tokenizer.decode(ids) == "a<first><second><third><think>b"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<first>b"  # tokens with a role became special
    stream = TextStream(tokenizer)
    assert "".join(map(stream.push, ids)) + stream.finish() == "a<first>b"


@pytest.mark.parametrize(
    ("generation", "config", "want"),
    [
        ({"eos_token_id": [7, 5, 7]}, {"eos_token_id": 3}, (7, 5)),
        ({"eos_token_id": 4}, None, (4,)),
        ({}, {"eos_token_id": 3}, (3,)),
        (None, {"eos_token_id": None}, None),
    ],
)
def test_end_ids(tmp_path: Path, generation: Any, config: Any, want: tuple[int, ...] | None) -> None:
    for name, content in (("generation_config", generation), ("config", config)):
        if content is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert eos_token_ids(tmp_path) == want
    folder_with(tmp_path, tokenizer_config={"eos_token": "<|end|>"})
    tokenizer = loaded(tmp_path)
    assert tokenizer.eos_token_ids == (want or (tokenizer.eos_token_id,))


def test_chat_template_files_win(tmp_path: Path) -> None:
    folder_with(
        tmp_path, tokenizer_config={"chat_template": [{"name": "default", "template": "from config"}, {"name": "rag", "template": "r"}]}
    )
    assert loaded(tmp_path).chat_templates == {"default": "from config", "rag": "r"}
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    (tmp_path / "chat_template.jinja").write_text("from file\n")
    tokenizer = loaded(tmp_path)
    assert tokenizer.chat_templates == {"default": "from file\n", "tool_use": "tools"}
    assert tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False) == "from file"


def test_encode_puts_around_what_tokenizer_json_says() -> None:
    tokenizer = small("byte fallback")
    assert tokenizer.encode("the cat")[0] == 1
    assert tokenizer.encode("the cat")[1:] == tokenizer.encode("the cat", add_special_tokens=False)
    with pytest.raises(TypeError, match="one str, got list"):
        tokenizer.encode(["a"])  # type: ignore[arg-type]


def test_truncation_and_padding_of_the_file_are_off() -> None:
    backend = byte_fallback()
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    tokenizer = Tokenizer.from_backend(backend)
    text = "a frog, a dog and the end of it"
    assert len(tokenizer.encode(text)) > 4
    assert tokenizer.encode(text) == small("byte fallback").encode(text)


def test_undecodable_ids_are_holes_and_padding() -> None:
    tokenizer = Tokenizer.from_backend(plain_words())
    assert tokenizer.undecodable(14).tolist() == [3, 4, 5, 6, 7, 8, 9, 11, 12, 13]
    assert tokenizer.undecodable(2).tolist() == []
    assert tokenizer.undecodable(14).dtype == np.int64
    assert all(tokenizer.decode([i]) == "" for i in tokenizer.undecodable(14))
    assert len(tokenizer) == 4


def test_unknown_ids_decode_to_nothing_and_negative_ones_are_refused() -> None:
    tokenizer = small("byte level")
    a = tokenizer.encode("a")
    assert tokenizer.decode([10_000, *a, 4_000_000_000]) == "a"
    assert tokenizer.decode(np.array(a)) == "a"
    with pytest.raises(ValueError, match="token id -1 is negative"):
        tokenizer.decode([-1])


def test_size_counts_added_tokens() -> None:
    tokenizer = small("byte level")
    assert len(tokenizer) == tokenizer.vocab_size + 5
    assert repr(tokenizer) == f"Tokenizer({len(tokenizer)} tokens, eos [], no chat template, from tokenizer)"


@pytest.mark.parametrize(
    ("name", "size", "vocab_size", "eos", "special", "width"),
    [
        ("tokenizers/qwen3", 151_669, 151_643, (151_645,), {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, 151_936),
        ("tokenizers/deepseek-r1-qwen", 151_665, 151_643, (151_643,), None, 152_064),
        ("models/stories260K", 512, 512, (2,), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, 512),
    ],
)
def test_real_tokenizers(
    shared: Path, name: str, size: int, vocab_size: int, eos: tuple[int, ...], special: dict[str, str] | None, width: int
) -> None:
    tokenizer = loaded(shared / name)
    assert (len(tokenizer), tokenizer.vocab_size, tokenizer.eos_token_ids) == (size, vocab_size, eos)
    assert special is None or tokenizer.special_tokens == special
    assert tokenizer.undecodable(width).tolist() == list(range(size, width))


# Ids from transformers 5.23: AutoTokenizer.from_pretrained(folder)(text).input_ids
@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("models/stories260K", "Once upon a time", [1, 403, 407, 261, 378]),
        ("models/stories260K", " hi", [1, 410, 270, 417]),
        ("models/stories260K", "", [1]),
        ("models/stories260K", "é🙂\n\nx", [1, 410, 485, 243, 162, 156, 133, 13, 13, 444]),
        ("models/stories260K", "<s>a</s> b", [1, 1, 261, 2, 410, 268]),
        ("tokenizers/qwen3", "é🙂\n\nx", [963, 145080, 271, 87]),
        ("tokenizers/qwen3", "<think>\n", [151667, 198]),
        ("tokenizers/deepseek-r1-qwen", "é🙂\n\nx", [151646, 963, 145080, 271, 87]),
        ("tokenizers/deepseek-r1-qwen", "<think>\n", [151646, 151648, 198]),
    ],
)
def test_ids_equal_those_of_transformers(shared: Path, name: str, text: str, ids: list[int]) -> None:
    tokenizer = loaded(shared / name)
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == (text if "<s>" not in text else "a  b")


def test_stories_text_continues_its_prompt(shared: Path) -> None:
    tokenizer = loaded(shared / "models" / "stories260K")
    reference = json.loads((shared / "models" / "stories260K" / "greedy_reference.json").read_text())
    ids = reference["prompt_ids"] + reference["greedy_ids"][len(reference["greedy_ids"]) - len(reference["entropy_nats"]) :]
    for prompt in (1, 3, 60):
        stream = TextStream(tokenizer, ids[:prompt])
        text = "".join(map(stream.push, ids[prompt:])) + stream.finish()
        assert tokenizer.decode(ids[:prompt], skip_special_tokens=True) + text == reference["text"]
