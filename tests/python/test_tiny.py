"""The model in the wheel: what is shipped, that it fits, and that it can do what its card says."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import reset
from reset.calibration import Calibration
from reset.models import SHIPPED, shipped_folder
from reset.tasks.arithmetic import Arithmetic

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 12 << 20
"""Bytes that a model may add to the wheel."""
REQUIRED = {
    "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "recipe.json", "MODEL_CARD.md",
}  # fmt: skip
ALLOWED = REQUIRED | {"reset_calibration.json", "measured.json"}


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return shipped_folder("tiny")
    except FileNotFoundError:
        pytest.skip("this source tree has no weights of tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> reset.Model:
    return reset.load("tiny")


def greedy(model: reset.Model, prompts: list[str], **options: Any) -> list[list[int]]:
    made = reset.generate(model, prompts, policy=reset.Greedy(), max_new_tokens=40, **options)
    assert isinstance(made, list)
    return [generation.token_ids for generation in made]


def questions(count: int) -> list[str]:
    task = Arithmetic()
    return [task.prompt(problem, "boxed") for problem in task.problems("tune", limit=count)]


def test_what_is_shipped_fits_and_nothing_else_lies_there(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names >= REQUIRED
    assert names <= ALLOWED
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LIMIT


def test_the_source_archive_holds_every_model_whole(folder: Path, tmp_path: Path) -> None:
    maturin = shutil.which("maturin")
    root = folder.parents[3]
    if maturin is None or not (root / "Cargo.toml").is_file():
        pytest.skip("needs maturin and the source tree")
    subprocess.run([maturin, "sdist", "-o", str(tmp_path)], cwd=root, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        packed = {
            name.rpartition("/")[2]: hashlib.sha256(archive.extractfile(name).read()).hexdigest()  # type: ignore[union-attr]
            for name in archive.getnames()
            if "/python/reset/models/tiny/" in name
        }
    assert packed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_it_is_a_small_qwen3_in_bf16(folder: Path, model: reset.Model) -> None:
    info = reset.inspect("tiny")
    assert info["architecture"] == "Qwen3ForCausalLM"
    assert set(info["dtypes"]) == {"BF16"}
    assert 1_000_000 <= info["parameters"] <= 5_000_000
    sizes = [model.config[name] for name in ("hidden_size", "intermediate_size", "head_dim")]
    assert not any(size % 32 for size in sizes), "NVFP4's blocks fill rows of such widths"
    assert (model.name, model.weights, model.folder) == ("tiny", "bf16", folder)
    assert model.describe()["model"] == "tiny"


def test_the_card_is_of_these_weights(folder: Path) -> None:
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    info, recipe = reset.inspect("tiny"), json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    assert f"{info['parameters']:,}" in card
    assert recipe["digest"] in card
    assert f"seed {recipe['seed']}" in card
    assert info["model_card"] == str(folder / "MODEL_CARD.md")


def test_its_tokenizer_has_single_digits_and_ends_steps_as_qwen_does(model: reset.Model) -> None:
    assert model.tokenizer is not None
    assert len(model.tokenizer.encode("873")) == 3
    _, double_newline_ids = model.step_boundaries()
    assert model.tokenizer.encode(".\n\n")[0] in double_newline_ids
    assert model.tokenizer.has_chat_template


@pytest.mark.parametrize("options", [{}, {"weights": "nvfp4", "activations": "nvfp4"}], ids=["bf16", "nvfp4"])
def test_greedy_tokens_depend_on_neither_threads_nor_batch(folder: Path, options: dict[str, Any]) -> None:
    prompts = questions(5)
    expected = greedy(reset.load("tiny", threads=1, **options), prompts, batch_size=1)
    for threads, batch_size in ((1, 4), (2, 1), (2, 5), (3, 3)):
        assert greedy(reset.load("tiny", threads=threads, **options), prompts, batch_size=batch_size) == expected


def test_it_solves_easy_problems_and_closes_its_thoughts(model: reset.Model) -> None:
    """One operation, greedy: answers are the generator's, so nothing here knows what the model tends to say."""
    result = reset.evaluate(model, Arithmetic(level=1), policy=reset.Greedy(), split="tune", limit=24, progress=False)
    assert result.counts["correct"] >= 12, result
    assert result.counts["truncated"] == result.counts["unparsed"] == 0
    assert all("</think>" in sample.text and "\\boxed{" in sample.text for sample in result.samples)


def test_its_prompt_opens_a_thought_and_the_trace_has_steps(model: reset.Model) -> None:
    generation = reset.generate(model, questions(1)[0], policy=reset.FixedTemperature(0.6), seed=0)
    assert isinstance(generation, reset.Generation)
    assert model.tokenizer is not None
    assert model.tokenizer.decode(generation.prompt_token_ids).rstrip().endswith("<think>")
    assert generation.finish_reason == "stop"
    assert generation.trace.step_index[-1] >= 3
    assert np.isfinite(generation.trace.entropy).all()


def test_its_calibration_is_of_these_weights_in_nvfp4(folder: Path, model: reset.Model) -> None:
    if not (folder / "reset_calibration.json").is_file():
        pytest.skip("the model is not calibrated yet")
    found = Calibration.load("tiny")
    record = found.metadata
    assert (record["model"], record["fingerprint"]) == ("tiny", model.fingerprint)
    assert (record["weights"], record["activations"], found.distribution) == ("nvfp4", "nvfp4", "raw")
    assert record["split"] == "calibration"
    assert found.t_low is not None
    assert reset.ReSET.preset("tiny") == reset.ReSET(found.t_low, found.tau_0)


def test_every_shipped_name_has_a_folder(folder: Path) -> None:
    assert [shipped_folder(name).name for name in SHIPPED] == list(SHIPPED)
