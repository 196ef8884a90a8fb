"""``reset-nvfp4 eval --config FILE``: the file's options, the command line over them, mistakes by name."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from reset.cli import app
from reset.cli._run import run

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
model = "tiny"
task = "arithmetic"
split = "tune"
limit = 2
max_new_tokens = 8
seed = 5
weights = "nvfp4"
t_low = 0.3
tau_0 = 0.5
output_dir = "kept"
traces = true
"""


class Command:
    """`eval --config FILE …` in this process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.file, self.monkeypatch, self.capsys = folder / "settings" / "eval.toml", monkeypatch, capsys
        self.file.parent.mkdir()
        monkeypatch.chdir(folder)

    def __call__(self, content: str, *arguments: str, code: int = 0) -> str:
        self.file.write_text(content, encoding="utf-8")
        self.monkeypatch.setattr(sys, "argv", ["reset-nvfp4", "eval", "--config", "settings/eval.toml", *arguments])
        with pytest.raises(SystemExit) as left:
            run(app)
        captured = self.capsys.readouterr()
        assert left.value.code == code, captured.err
        return captured.out if code == 0 else captured.err

    def metadata(self, content: str, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(content, *arguments, "--json"))["metadata"]
        return found


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, monkeypatch, capsys)


def test_the_file_gives_the_options(command: Command) -> None:
    found = command.metadata(FILE)
    assert (found["task"], found["split"], found["seed"], found["max_new_tokens"]) == ("arithmetic", "tune", 5, 8)
    assert found["model"]["weights"] == "nvfp4"
    assert (found["policy"]["policy"], found["policy"]["t_low"], found["policy"]["tau_0"]) == ("reset", 0.3, 0.5)
    kept = command.file.parent / "kept"  # beside the file, not where the command runs
    assert len(kept.joinpath("samples.jsonl").read_text().splitlines()) == 2
    assert len(list(kept.joinpath("traces").iterdir())) == 2


def test_the_command_line_wins(command: Command) -> None:
    found = command.metadata(FILE, "-o", "elsewhere", "--seed", "6", "--weights", "bf16", "--t-low", "0.2")
    assert (found["seed"], found["model"]["weights"]) == (6, "bf16")
    assert (found["policy"]["t_low"], found["policy"]["tau_0"]) == (0.2, 0.5)
    assert not (command.file.parent / "kept").exists()


@pytest.mark.parametrize(
    ("in_file", "typed", "policy"),
    [
        ("t_low = 0.3\ntau_0 = 0.5", ("--temperature", "0.7"), {"policy": "fixed", "t": 0.7}),
        ("temperature = 0.6", ("--t-low", "0.3", "--tau-0", "0.5"), {"policy": "reset", "t_low": 0.3, "tau_0": 0.5}),
        ("preset = 'tiny'", ("--tau-0", "0.5", "--t-low", "0.1"), {"policy": "reset", "t_low": 0.1, "tau_0": 0.5}),
        ("preset = 'tiny'", ("--t-low", "0.1"), {"policy": "reset", "t_low": 0.1}),
        ("preset = 'tiny'\nt_low = 0.1", ("--temperature", "0"), {"t": 0}),
    ],
)
def test_another_way_to_set_the_temperature_replaces_the_files(
    command: Command, in_file: str, typed: tuple[str, ...], policy: dict[str, Any]
) -> None:
    base = 'model = "tiny"\ntask = "arithmetic"\nsplit = "tune"\nlimit = 1\nmax_new_tokens = 2\n'
    found = command.metadata(base + in_file, *typed)["policy"]
    assert found | policy == found


def test_two_ways_in_one_file_are_refused(command: Command) -> None:
    assert "exclude each other" in command(FILE + "temperature = 0.6\n", code=1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("limitt = 2", ("unknown key 'limitt'", "eval takes model, task, data, split")),
        ("n = 2", ("unknown key 'n'", "n_samples")),
        ("seed = 2.5", ("seed = 2.5", "an integer")),
        ("seed = true", ("seed = True", "an integer")),
        ("t_high = '1'", ("t_high = '1'", "a number")),
        ("resume = 1", ("resume = 1", "true or false")),
        ("data = 3", ("data = 3", "a path")),
        ("seed = ", ("not readable as TOML",)),
    ],
)
def test_mistakes_are_named_with_the_file(command: Command, line: str, words: tuple[str, ...]) -> None:
    said = command(FILE.replace("seed = 5\n", "") + line + "\n", code=1)
    for word in ("eval.toml", *words):
        assert word in said


def test_a_file_that_is_not_there(command: Command) -> None:
    command.monkeypatch.setattr(sys, "argv", ["reset-nvfp4", "eval", "--config", "none.toml"])
    with pytest.raises(SystemExit) as left:
        run(app)
    assert left.value.code == 1
    assert "none.toml: no such file" in command.capsys.readouterr().err
