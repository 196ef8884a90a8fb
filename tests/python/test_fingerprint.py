"""Checkpoint fingerprints: the same files give the same digits, other weights and texts do not."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import reset
from reset.fingerprint import checkpoint_fingerprint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def copy(demo_bf16: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(demo_bf16, folder)
    return folder


def test_a_copy_has_the_same_fingerprint_and_the_model_tells_it(demo_bf16: Path, copy: Path) -> None:
    assert checkpoint_fingerprint(copy) == checkpoint_fingerprint(demo_bf16) == reset.load(copy).fingerprint
    (copy / "README.md").write_text("not part of the model")
    assert checkpoint_fingerprint(copy) == checkpoint_fingerprint(demo_bf16)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_changed_text_file_is_another_model(demo_bf16: Path, copy: Path, name: str) -> None:
    path = copy / name
    path.write_text(path.read_text() + "\n")
    assert checkpoint_fingerprint(copy) != checkpoint_fingerprint(demo_bf16)


def test_other_weights_are_another_model(demo_bf16: Path, demo_nvfp4: Path, copy: Path) -> None:
    assert checkpoint_fingerprint(demo_nvfp4) != checkpoint_fingerprint(demo_bf16)
    weights = next(copy.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # the last byte of the last tensor
    weights.write_bytes(content)
    assert checkpoint_fingerprint(copy) != checkpoint_fingerprint(demo_bf16)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]", b"\x08\0\0\0\0\0\0\0" + b'{"a": 1}'])
def test_a_file_that_is_no_safetensors_file_is_named(copy: Path, content: bytes) -> None:
    weights = next(copy.glob("*.safetensors"))
    weights.write_bytes(content)
    with pytest.raises(reset.CheckpointError, match=weights.name):
        checkpoint_fingerprint(copy)
