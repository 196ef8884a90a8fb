"""The real data sets, where they lie beside the project: numbers of rows, disjoint splits, references."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reset.tasks import Problem, Task, fingerprint, get_task
from reset.tasks.math500 import last_boxed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIZES = {
    "gsm8k": {"train": 5200, "calibration": 684, "tune": 1513, "test": 1319},
    "math500": {"train": 3090, "calibration": 471, "tune": 939, "test": 500},
    "aime2022": {"test": 30},
    "aime2023": {"test": 30},
    "aime2024": {"test": 30},
    "aime2025": {"test": 30},
    "svamp": {"test": 1000},
}


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    path = shared / "data"
    if not path.is_dir():
        pytest.skip("needs the benchmark files in shared/data")
    return path


def read(task: Task) -> dict[str, Sequence[Problem]]:
    return {split: task.problems(split) for split in task.splits}


@pytest.mark.parametrize("name", list(SIZES))
def test_sizes_and_disjoint_splits(data: Path, name: str) -> None:
    splits = read(get_task(name, data=data))
    assert {split: len(problems) for split, problems in splits.items()} == SIZES[name]
    keys: dict[str, str] = {}
    ids: set[str] = set()
    for split, problems in splits.items():
        for problem in problems:
            assert keys.setdefault(problem.key, split) == split
        ids |= {problem.id for problem in problems}
    assert len(ids) == sum(SIZES[name].values())


def test_gsm8k_drops_train_problems_that_are_tested(data: Path) -> None:
    splits = read(get_task("gsm8k", data=data))
    assert sum(len(problems) for split, problems in splits.items() if split != "test") == 7473 - 76
    assert all(problem.answer.lstrip("-").isdigit() for problems in splits.values() for problem in problems)
    assert all(problem.solution and "<<" not in problem.solution for problems in splits.values() for problem in problems)


def test_rest_of_math_is_all_but_math500(data: Path) -> None:
    splits = read(get_task("math500", data=data))
    assert sum(len(problems) for split, problems in splits.items() if split != "test") == 4500
    levels = {problem.metadata["level"] for problems in splits.values() for problem in problems}
    assert levels == {1, 2, 3, 4, 5}
    assert len({problem.metadata["subject"] for problem in splits["test"]}) == 7


def test_boxed_answers_are_the_references_of_math500(data: Path) -> None:
    problems = get_task("math500", data=data).problems()
    assert all(problem.solution and last_boxed(problem.solution) == problem.answer for problem in problems)


def test_aime_ids_and_answers(data: Path) -> None:
    for year in (2022, 2023, 2024, 2025):
        problems = get_task(f"aime{year}", data=data).problems()
        assert [p.id for p in problems] == [f"{year}-{paper}-{n}" for paper in ("I", "II") for n in range(1, 16)]
        assert all(0 <= int(p.answer) <= 999 for p in problems)
    assert get_task("aime2025", data=data / "aime2025.jsonl").problems()[0].answer == "70"


def test_references_agree_with_the_equations_of_svamp(data: Path) -> None:
    problems = get_task("svamp", data=data).problems()
    assert problems[0].id == "chal-1"
    agree = sum(abs(eval(p.metadata["equation"]) - float(p.answer)) < 1e-6 for p in problems)
    assert agree >= 995


def test_first_problems_do_not_change(data: Path) -> None:
    """The problems of a version: a change here needs a new version of the task."""
    wanted = {"gsm8k": "1cdb241f0472", "math500": "d561406e0f22", "aime2024": "5c68b7949adf", "svamp": "377830d1b138"}
    for name, digest in wanted.items():
        task = get_task(name, data=data)
        assert task.version == "1"
        assert fingerprint(task.problems())[:12] == digest
