"""Output on terminals and pipes that are not Unicode: nothing is lost, nothing fails."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import reset
from reset.cli._streams import make_robust

if TYPE_CHECKING:
    from pathlib import Path


def run(encoding: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    """A child whose streams have this encoding, as a pipe of Windows has. (ASCII is left to click, which takes it for a mistake.)"""
    done = subprocess.run(
        [sys.executable, "-m", "reset", *map(str, arguments)],
        capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},  # noqa: TID251
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("results")
    model = reset.load("tiny")
    for name, temperature in (("a", 0.6), ("b", 0.3)):
        reset.evaluate(
            model, "arithmetic", policy=reset.FixedTemperature(temperature), split="tune", limit=3, max_new_tokens=8, progress=False,
            output_dir=folder / name,
        )  # fmt: skip
    return folder / "a", folder / "b"


@pytest.mark.parametrize("encoding", ["cp1252", "shift_jis"])
def test_a_comparison_prints_its_minus(encoding: str, results: tuple[Path, Path]) -> None:
    text = run(encoding, "compare", *results).stdout.decode(encoding)
    assert "verdict: undecided" in text
    assert "b - a: " in text.replace("−", "-")


def test_a_finished_checkpoint_is_reported(tmp_path: Path) -> None:
    """The sign that is lacking stands in the last line, after the work."""
    text = run("cp1252", "quantize", "tiny", tmp_path / "OUT").stdout.decode("cp1252")
    assert " KiB -> " in text or " MiB -> " in text
    assert (tmp_path / "OUT" / "config.json").is_file()


@pytest.mark.parametrize("arguments", [("--help",), ("eval", "--help"), ("eval", "--show"), ("inspect", "tiny", "--card")], ids=" ".join)
def test_help_and_tables_print(arguments: tuple[str, ...], results: tuple[Path, Path]) -> None:
    shown = (*arguments, results[0]) if arguments[-1] == "--show" else arguments
    assert run("cp1252", *shown).stdout


def test_json_keeps_every_sign() -> None:
    narrow = json.loads(run("ascii", "inspect", "tiny", "--card", "--json").stdout.decode("ascii"))
    wide = json.loads(run("utf-8", "inspect", "tiny", "--card", "--json").stdout.decode("utf-8"))
    assert narrow == wide
    assert not wide["text"].isascii()


def test_signs_are_spelt_and_the_rest_is_numbered() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="cp1252")
    make_robust(stream)
    stream.write("τ₀ ≥ 0.5 → −1.3 µs, 慢, é")
    stream.flush()
    assert raw.getvalue().decode("cp1252") == "tau0 >= 0.5 -> -1.3 µs, \\u6162, é"


def test_streams_of_unicode_stay_as_they_are() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", errors="strict")
    make_robust(stream)
    assert stream.errors == "strict"
    stream.write("−τ")
    stream.flush()
    assert raw.getvalue().decode("utf-8") == "−τ"
