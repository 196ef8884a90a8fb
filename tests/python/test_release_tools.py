"""The commands that try wheels and extras: what they take for a failure. They themselves run on built wheels, in CI."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from maintainer_tools import load_tool

if TYPE_CHECKING:
    from types import ModuleType

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def extras(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return load_tool("check_extras")


class Says:
    """Stands in for an environment: its Python prints nothing, or fails with a message."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure

    def python(self, *arguments: str) -> str:
        if self.failure:
            raise self.failure
        return ""


def test_a_feature_without_its_extra_has_to_name_it(extras: ModuleType) -> None:
    extras.without(Says(extras.Failure("needs pandas: pip install 'reset-nvfp4[pandas]'")), "pandas")
    with pytest.raises(extras.Failure, match="the error does not say what to install: No module named pandas"):
        extras.without(Says(extras.Failure("No module named pandas")), "pandas")
    with pytest.raises(extras.Failure, match="the error does not say what to install"):
        extras.without(Says(extras.Failure("pip install 'reset-nvfp4[plot]'")), "pandas")


def test_both_spellings_of_the_figures_are_one(extras: ModuleType) -> None:
    extras.without(Says(extras.Failure("pip install 'reset-nvfp4[plot]'")), "plots")


def test_a_proof_that_runs_without_its_extra_proves_nothing(extras: ModuleType) -> None:
    with pytest.raises(extras.Failure, match="the proof of eval runs without it"):
        extras.without(Says(None), "eval")


def test_what_is_there_anyway_has_to_run(extras: ModuleType) -> None:
    extras.without(Says(None), "hub")
    with pytest.raises(extras.Failure, match="no such module"):
        extras.without(Says(extras.Failure("no such module")), "hub")


def test_proofs_are_programs(extras: ModuleType) -> None:
    for name, proof in extras.PROOFS.items():
        compile(proof, name, "exec")
        assert "print(" in proof, name


@pytest.mark.skipif(sys.platform == "win32", reason="stands in by shell scripts")
def test_pythons_that_do_not_run_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version manager may leave commands on the path that only print how to install them."""
    smoke = load_tool("wheel_smoke")
    scripts = {"python3.11": "exit 127", "python3.12": "echo 12", "python3.13": "echo 13", "python3.14": "echo 12", "python3.15": "exit 1"}
    for name, line in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert smoke.pythons() == [str(tmp_path / "python3.12"), str(tmp_path / "python3.13")]
