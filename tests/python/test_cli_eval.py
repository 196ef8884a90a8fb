"""``reset-nvfp4 eval``: runs, resumes, shows and merges results."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import reset

if TYPE_CHECKING:
    from pathlib import Path

RUN = ["--t-low", "0.3", "--tau-0", "2.0", "--limit", "6", "-n", "2", "--max-new-tokens", "24", "--seed", "4"]


def command(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "reset", "eval", *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done


def printed(*arguments: object) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(command(*arguments, "--json").stdout)
    return made


def test_eval_prints_the_numbers_of_the_library(demo_nvfp4: Path, tmp_path: Path) -> None:
    shown = printed(demo_nvfp4, "arithmetic", *RUN, "-o", tmp_path / "run")
    result = reset.evaluate(
        reset.load(demo_nvfp4), "arithmetic", policy=reset.ReSET(0.3, 2.0), limit=6, n_samples=2, max_new_tokens=24, seed=4, progress=False
    )
    assert shown["accuracy"] == result.accuracy
    assert shown["counts"] == result.counts
    assert shown["ci95"] == list(result.ci95)
    assert shown["run"] == result.run
    assert shown["samples"] == 12
    assert set(shown["pass_at"]) == {"1", "2"}
    again = printed("--show", tmp_path / "run")
    assert {**again, "metadata": None} == {**shown, "metadata": None}


def test_shards_are_merged_by_show(demo_nvfp4: Path, tmp_path: Path) -> None:
    for index in (1, 2):
        part = printed(demo_nvfp4, "arithmetic", *RUN, "-o", tmp_path / str(index), "--shard", f"{index}/2")
        assert part["partial"]
        assert part["pass_at"] == {}
    merged = printed("--show", tmp_path / "1", "--show", tmp_path / "2")
    assert not merged["partial"]
    assert merged["samples"] == 12
    table = command("--show", tmp_path / "1").stdout
    assert "6 of 12 (PARTIAL)" in table


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["MODEL", "gsm9k"], 1, "gsm8k"),
        (["MODEL"], 2, "--show"),
        (["MODEL", "arithmetic", "--shard", "half"], 1, "1/4"),
        (["MODEL", "gsm8k", "--data", "/no/such/folder"], 1, "/no/such/folder"),
        (["--show", "/no/such/folder"], 1, "no such folder"),
    ],
)
def test_mistakes_are_named_in_one_line(demo_nvfp4: Path, arguments: list[str], code: int, message: str) -> None:
    done = command(*[str(demo_nvfp4) if a == "MODEL" else a for a in arguments], code=code)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
