"""``calibrate``, ``tune`` and ``study`` as a user runs them, from a model to a report."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import reset
from reset.studies import Study

if TYPE_CHECKING:
    from pathlib import Path

PLAN = """
model = "{model}"
task = "arithmetic"
limit = 3
n_samples = 2
max_new_tokens = 16
output_dir = "out"
contrasts = [["plain", "reset"]]
exploratory = [["shuffled", "reset"]]

[arms.plain]
policy = {{ policy = "fixed", t = 0.6 }}

[arms.reset]
weights = "nvfp4"
policy = {{ policy = "reset", t_low = 0.3, tau_0 = "calibration.json" }}

[arms.shuffled]
weights = "nvfp4"
policy = {{ policy = "replayed", arm = "reset" }}
"""


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "reset", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.parametrize("command", ["calibrate", "tune", "study"])
def test_each_command_has_help(command: str) -> None:
    text = run(command, "--help").stdout
    assert "Usage" in text
    assert "--json" in text


def test_calibrate_tune_study(demo_bf16: Path, tmp_path: Path) -> None:
    """The way of docs/studies.md, with every file handed from one command to the next."""
    file = tmp_path / "calibration.json"
    shown = json.loads(run("calibrate", demo_bf16, "--weights", "nvfp4", "--max-new-tokens", 32, "--output", file, "--json").stdout)
    stored = reset.Calibration.load(file)
    assert (shown["tau_0"], shown["interval"], shown["output"]) == (stored.tau_0, list(stored.interval), str(file))
    assert stored.metadata["task"] == "arithmetic"
    assert stored.metadata["split"] == "calibration"
    assert shown["notes"][0].startswith("5 problems are few")

    search = ("tune", demo_bf16, "arithmetic", "--weights", "nvfp4", "--calibration", file, "--t-low", 0.2, "--t-low", 0.4)
    options = ("--limit", 2, "--max-new-tokens", 8, "--output-dir", tmp_path / "tune", "--store", "--save", tmp_path / "tuning.json")
    table = run(*search, *options).stdout
    assert "★" in table
    assert f"T_low written to {file}" in table
    record = json.loads((tmp_path / "tuning.json").read_text())
    assert len(record["table"]) == 4
    assert record["metadata"]["split"] == "tune"
    assert reset.ReSET.preset(file) == reset.ReSET(0.2, stored.tau_0)  # equal accuracies and lengths: the first
    assert json.loads(run(*search, *options, "--json").stdout) == record

    plan = tmp_path / "study.toml"
    plan.write_text(PLAN.format(model=demo_bf16))
    checked = json.loads(run("study", plan, "--check", "--json").stdout)
    assert checked["plan"]["arms"]["reset"]["policy"]["tau_0"] == stored.tau_0
    assert checked["sha256"] in run("study", plan, "--check").stdout
    assert not (tmp_path / "out").exists()
    done = json.loads(run("study", plan, "--json").stdout)
    assert done["plan_sha256"] == checked["sha256"]
    assert [row["kind"] for row in done["contrasts"]] == ["primary", "exploratory"]
    assert Study.load(tmp_path / "out").to_markdown() == (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    text = run("study", tmp_path / "out").stdout  # shows a finished study
    assert "reset − plain" in text
    assert checked["sha256"] in text
    figure = tmp_path / "study.svg"
    run("study", tmp_path / "out", "--plot", figure)
    drawn = figure.read_text(encoding="utf-8")
    assert drawn.startswith("<?xml")
    assert all(f"<!-- {name} -->" in drawn for name in ("plain", "reset", "shuffled", "reset − plain"))
    assert "reset − shuffled" not in drawn  # exploratory
    assert "has to end in .png, .pdf, .svg" in run("study", plan, "--plot", tmp_path / "figure.txt", code=1).stderr

    plan.write_text(PLAN.format(model=demo_bf16).replace("limit = 3", "limit = 2"))
    refused = run("study", plan, code=1).stderr
    assert "problems: 3 there, 2 here" in refused


def test_a_calibration_is_a_preset_of_generate(demo_bf16: Path, tmp_path: Path) -> None:
    file = reset.Calibration.from_entropies([[1.0, 2.0], [3.0, 2.5]]).save(tmp_path / "c.json")
    short = ("generate", demo_bf16, "x", "--preset", file, "--max-new-tokens", 4)
    generation = json.loads(run(*short, "--t-low", 0.25, "--json", "--seed", 1).stdout)[0]
    assert set(generation["trace"]["temperature"]) <= {0.25, 1.0}
    assert "no t_low" in run(*short, code=1).stderr


def test_ctrl_c_during_a_calibration_says_what_is_kept(demo_bf16: Path, tmp_path: Path) -> None:
    file, partial = tmp_path / "c.json", tmp_path / "c.json.partial.jsonl"
    command = ("calibrate", demo_bf16, "--output", file, "--batch-size", 1, "--max-new-tokens", 300, "--problems", 20)
    child = subprocess.Popen([sys.executable, "-m", "reset", *map(str, command)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while (not partial.exists() or partial.read_bytes().count(b"\n") < 3) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    message = child.communicate(timeout=60)[1]
    assert child.returncode == 130, message
    assert "of 20 problems finished; they are kept in" in message
    kept = partial.read_bytes().count(b"\n") - 1
    assert 2 <= kept < 20
    assert not file.exists()
    done = json.loads(run(*command, "--json").stdout)
    assert (done["problems"], partial.exists()) == (20, False)
    assert done["notes"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("calibrate", "{model}", "--split", "test"), "split = 'test' is refused"),
        (("calibrate", "{model}", "--save", "--output", "x.json"), "--save and --output exclude each other"),
        (("calibrate", "{model}", "--output", "{model}/none/x.json"), "does not exist; make it, or name another output="),
        (("tune", "{model}", "arithmetic"), "give --tau-0 or --calibration"),
        (("tune", "{model}", "arithmetic", "--tau-0", "1", "--store"), "--store writes into the file of --calibration"),
        (("tune", "{model}", "arithmetic", "--tau-0", "1", "--split", "test"), "split = 'test' is refused"),
        (("study", "{model}/none.toml"), "no such file"),
    ],
)
def test_mistakes_are_named(demo_bf16: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in run(*(a.format(model=demo_bf16) for a in arguments), code=1).stderr
