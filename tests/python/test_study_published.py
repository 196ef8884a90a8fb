"""A study without its samples gives the numbers of the study with them, and says where its files cannot be right."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from study_child import ARMS, OPTIONS, task

import reset
from reset.studies import Study

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def finished(demo_bf16: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return reset.study(demo_bf16, task(), ARMS, output_dir=tmp_path_factory.mktemp("study"), **OPTIONS)


@pytest.fixture
def published(finished: Study, tmp_path: Path) -> Path:
    """What a repository would carry."""
    assert finished.directory is not None
    for name in ("plan.json", "arms.csv", "outcomes.csv"):
        shutil.copy(finished.directory / name, tmp_path)
    return tmp_path


def test_the_numbers_are_those_of_the_samples(finished: Study, published: Path) -> None:
    read = Study.load(published)
    assert read.published
    assert not finished.published
    assert not read.partial
    assert read.contrast_rows == finished.contrast_rows
    for ours, theirs in zip(read.arms, finished.arms, strict=True):
        assert {name: ours[name] for name in ("accuracy", "low", "high", "correct", "samples", "n_samples", "problems")} == {
            name: theirs[name] for name in ("accuracy", "low", "high", "correct", "samples", "n_samples", "problems")
        }
        assert ours["tokens_mean"] == theirs["tokens_mean"]
        assert ours["truncated"] == theirs["truncated"]
    assert read.only_one_solves("bf16", "reset") == finished.only_one_solves("bf16", "reset")


def test_without_arms_csv_only_counts_are_known(published: Path) -> None:
    (published / "arms.csv").unlink()
    row = Study.load(published).arms[0]
    assert row["accuracy"] is not None
    assert row["tokens_mean"] is None


def test_the_command_computes_them_again(finished: Study, published: Path) -> None:
    command = [sys.executable, "-m", "reset", "study", str(published)]
    shown = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert shown["contrasts"] == json.loads(json.dumps(finished.contrast_rows))
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "outcomes.csv" in text
    assert sorted(path.name for path in published.iterdir()) == ["arms.csv", "outcomes.csv", "plan.json"]


def test_there_is_no_report_without_samples(published: Path) -> None:
    with pytest.raises(ValueError, match="counts without samples"):
        Study.load(published).report()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("bf16", "bf8", 1), "the columns are problem, .*bf8"),
        (lambda text: text.replace("/2", "/x", 1), r"line 2: '\d/x' is no count"),
        (lambda text: text.replace("/2", "/3", 1), "has 2 to 3 samples a problem"),
        (lambda text: text.replace(",0/2", ",3/2", 1).replace(",1/2", ",3/2", 1), "'3/2' is no count"),
        (lambda text: text.rstrip("\n").rpartition(",")[0] + "\n", "is no count"),
    ],
)
def test_damaged_counts_are_refused(published: Path, damage: object, message: str) -> None:
    path = published / "outcomes.csv"
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(reset.ConfigError, match=message):
        Study.load(published)
