"""Shared fixtures: where golden files and the optional shared material are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest_plugins = ["reset.pytest_plugin"]
sys.path.insert(0, str(ROOT / "tests"))  # `import reference.…`: oracles that share no code with the package


@pytest.fixture(scope="session")
def golden() -> Path:
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Models, tokenizers and data for tests that use real material; they lie beside the project and are no part of it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("needs the folder `shared` beside the project")
    return path


@pytest.fixture(scope="session")
def demo_bf16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen3 checkpoint of random weights with a tokenizer, in BF16."""
    from random_checkpoint import write_random_checkpoint

    path = tmp_path_factory.mktemp("demo") / "bf16"
    write_random_checkpoint(path, seed=0)
    return path


@pytest.fixture(scope="session")
def demo_nvfp4(demo_bf16: Path) -> Path:
    """The same checkpoint, quantized to NVFP4 W4A4 in the ModelOpt dialect."""
    import reset

    path = demo_bf16.parent / "nvfp4"
    reset.quantize(demo_bf16, path)
    return path


@pytest.fixture(scope="session")
def arithmetic_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's small random Qwen3 in BF16 with a tokenizer that can write arithmetic traces, and a template that opens a thought."""
    from random_checkpoint import write_random_checkpoint
    from small_tokenizers import write_arithmetic_tokenizer

    path = tmp_path_factory.mktemp("arithmetic") / "bf16"
    write_random_checkpoint(path, seed=0)
    write_arithmetic_tokenizer(path)
    return path
