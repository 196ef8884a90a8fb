"""What every command promises, checked on all of them: help with examples, JSON alone on stdout, exit codes, completion."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

import reset
from reset.cli import app
from reset.cli._run import EXIT_CODES, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAN = """
model = "tiny"
task = "arithmetic"
split = "tune"
limit = 2
max_new_tokens = 8
output_dir = "study"
[arms.plain]
policy = { policy = "fixed", t = 0.6 }
[arms.cooler]
policy = { policy = "fixed", t = 0.3 }
"""
SHORT = "--limit 2 --max-new-tokens 8"
#: A quick run of every command, in a folder with two results and a plan.
RUNS = {
    "demo": "--problems 2 --no-plot",
    "generate": "tiny 'Ben has 47 apples.' --max-new-tokens 8 --temperature 0.6",
    "quantize": "tiny OUT",
    "inspect": "tiny",
    "calibrate": "tiny --problems 2 --max-new-tokens 16",
    "tune": f"tiny arithmetic --tau-0 0.7 --t-low 0.3 --fixed 0.6 {SHORT}",
    "eval": f"tiny arithmetic --split tune --temperature 0.6 {SHORT}",
    "compare": "runs/a runs/b",
    "power": "0.7 0.05",
    "study": "study.toml",
    "analyze": "tiny --gold 2 --no-figures -o mechanisms",
    "doctor": "",
    "bench decode": "--shape tiny --tokens 2 --batch 1",
    "bench batch": "--shape tiny --tokens 2 --size 1",
    "bench context": "--shape tiny --tokens 2 --length 8",
    "bench prefill": "--shape tiny --length 8",
    "bench load": "--shape tiny --runs 2",
    "bench sampler": "--vocab 512 --runs 3",
    "bench codec": "--size 32 --runs 2",
}
NEEDS_A_CARD = ("bench device", "bench linear")


def leaves(group: Any = None, before: str = "") -> Iterator[tuple[str, Any]]:
    """Name and click command of every command, those of groups included."""
    for name, command in (get_command(app) if group is None else group).commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield before + name, command


COMMANDS = dict(leaves())
each_command = pytest.mark.parametrize("name", COMMANDS)


def examples(command: Any) -> list[str]:
    return re.findall(r"^\$ reset-nvfp4 (.*)$", command.epilog or "", re.MULTILINE)


@each_command
def test_help_says_what_it_does_and_every_option_what_it_is(name: str) -> None:
    command = COMMANDS[name]
    assert command.help.split("\n")[0].endswith(".")
    for parameter in command.params:
        assert parameter.help, f"{name} says nothing about {parameter.opts[0]}"


@each_command
def test_help_ends_with_examples_that_parse(name: str) -> None:
    found = examples(COMMANDS[name])
    assert found, f"{name} has no example"
    for line in found:
        words = shlex.split(line)
        assert " ".join(words).startswith(name), line
        arguments = words[len(name.split()) :]
        if "--config" not in arguments:  # read while parsing
            COMMANDS[name].make_context(name, arguments)


@each_command
def test_results_are_had_as_json(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[name].params)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two results and a plan."""
    made = tmp_path_factory.mktemp("commands")
    model = reset.load("tiny")
    for name, temperature in (("a", 0.6), ("b", 0.3)):
        policy = reset.FixedTemperature(temperature)
        options: dict[str, Any] = {"split": "tune", "limit": 3, "max_new_tokens": 8, "progress": False}
        reset.evaluate(model, "arithmetic", policy=policy, output_dir=made / "runs" / name, **options)
    (made / "study.toml").write_text(PLAN)
    return made


def invoke(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["reset-nvfp4", *arguments])
    with pytest.raises(SystemExit) as left:
        run(app)
    assert isinstance(left.value.code, int)
    return left.value.code


def test_every_command_is_run_here_or_needs_a_card() -> None:
    assert set(RUNS) | set(NEEDS_A_CARD) == set(COMMANDS)


@pytest.mark.parametrize("name", RUNS)
def test_stdout_is_json_and_nothing_else(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Seen from outside the process, so that nothing that prints by another way is missed."""
    monkeypatch.chdir(folder)
    code = invoke(monkeypatch, *name.split(), *shlex.split(RUNS[name]), "--json")
    captured = capfd.readouterr()
    assert code == 0, captured.err
    value = json.loads(captured.out)
    assert value
    assert "Traceback" not in captured.err


# Exit codes


def test_the_help_lists_the_exit_codes() -> None:
    epilog = get_command(app).epilog
    assert list(EXIT_CODES) == [0, 1, 2, 70, 130]
    for code, meaning in EXIT_CODES.items():
        assert f"{code}: {meaning}" in epilog


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("power", "0.7", "0.05"), 0, ""),
        (("inspect", "no-such-folder/at-all"), 1, "error: "),
        (("power", "1.5", "0.05"), 1, "error: baseline"),
        (("power", "much"), 2, "Usage: reset-nvfp4 power"),
        (("power", "0.7", "--nonsense"), 2, "--nonsense"),
        (("nonsense",), 2, "nonsense"),
        (("compare", "one"), 2, "DIR_B"),
    ],
)
def test_exit_codes(
    arguments: tuple[str, ...], code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(monkeypatch, *arguments) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert "\n\n" not in captured.err.strip() or code == 2  # one paragraph
    if code:
        assert captured.out == ""


def test_a_mistake_of_ours_has_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise KeyError("bandwidth")

    monkeypatch.setattr("reset.cli.doctor.collect", broken)
    assert invoke(monkeypatch, "doctor") == 70
    said = capsys.readouterr().err
    assert "unexpected KeyError: 'bandwidth'" in said
    assert "--debug" in said
    assert "Traceback" not in said
    assert invoke(monkeypatch, "--debug", "doctor") == 70
    assert "in broken" in capsys.readouterr().err


def test_a_panic_of_the_core_is_such_a_mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})  # as pyo3 makes it

    def broken() -> None:
        raise panic("index out of bounds")

    monkeypatch.setattr("reset.cli.doctor.collect", broken)
    assert invoke(monkeypatch, "doctor") == 70
    assert "unexpected PanicException: index out of bounds" in capsys.readouterr().err


def test_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(monkeypatch, "--debug", "power", "1.5", "0.1") == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("error: baseline")


def test_ctrl_c_has_the_code_of_shells(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reset.cli.doctor.collect", interrupted)
    assert invoke(monkeypatch, "doctor") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_leaves_is_no_error_to_speak_of() -> None:
    process = subprocess.Popen([sys.executable, "-m", "reset", "power", "0.7", "0.05"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before anything was written: as `| head` does, only sooner
    assert process.stderr.read() == b""
    assert process.wait(60) == 1
    process.stderr.close()


# Shell completion

SHELLS = {"bash": "complete -o default", "zsh": "compdef", "fish": "complete --command reset-nvfp4"}


def child(*arguments: str, **variables: str) -> str:
    environment = {**os.environ, **variables}  # noqa: TID251  (a shell asks by variables)
    return subprocess.run([sys.executable, "-m", "reset", *arguments], capture_output=True, text=True, env=environment, check=False).stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_the_completion_of_a_shell_is_for_the_command(shell: str) -> None:
    script = child("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert SHELLS[shell] in script
    assert "_RESET_NVFP4_COMPLETE" in script


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ev", ["eval"]),
        ("bench pre", ["prefill"]),
        ("eval tiny arith", ["arithmetic", "arithmetic-hard"]),
        ("generate ti", ["tiny"]),
        ("generate tiny x --weights n", ["nvfp4"]),
        ("quantize tiny OUT --method s", ["sweep"]),
        ("eval --temp", ["--temperature"]),
    ],
)
def test_completion_offers_names_and_values(words: str, offered: list[str]) -> None:
    count = len(words.split())
    found = child(_RESET_NVFP4_COMPLETE="complete_bash", COMP_WORDS=f"reset-nvfp4 {words}", COMP_CWORD=str(count))
    assert found.split() == offered


def test_completion_offers_files_of_a_kind(tmp_path: Path) -> None:
    from reset.cli._complete import a_model, toml_files

    (tmp_path / "eval.toml").touch()
    (tmp_path / "eval.txt").touch()
    (tmp_path / "models").mkdir()
    assert toml_files(f"{tmp_path}/ev") == [f"{tmp_path}/eval.toml"]
    assert a_model(f"{tmp_path}/") == [f"{tmp_path}/models/"]
    assert toml_files(f"{tmp_path}/none/x") == []
