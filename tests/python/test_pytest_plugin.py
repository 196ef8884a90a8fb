"""The pytest plugin: pytest runs in a process of its own on small test files; assertions are tried on made-up results."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import reset
from reset.pytest_arm import Arm
from reset.pytest_plugin import _safe

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = """
import pytest, reset
pytest_plugins = ["reset.pytest_plugin"]

@pytest.fixture(scope="session")
def model():
    return reset.load({model!r})

@pytest.fixture
def sums():
    return reset.Task("sums", [dict(id=f"sum {{i}}", question=f"{{i}} + 1 =", answer=i + 1) for i in range(6)], scorer="number")
"""

TESTS = """
import pytest, reset
OPTIONS = dict(policy=reset.FixedTemperature(1.0), max_new_tokens=8, n_samples=2)

@pytest.mark.accuracy
def test_passes(run_arm, model, sums):
    arm = run_arm(model, sums, **OPTIONS)
    arm.assert_not_below(0.0)
    assert arm.accuracy == arm.result.accuracy and sum(arm.counts.values()) == 12

@pytest.mark.parametrize("t", [0.3, 0.6])
def test_two_arms(run_arm, model, sums, t):
    run_arm(model, sums, name="low", policy=reset.FixedTemperature(t), max_new_tokens=4)
    run_arm(model, sums, name="high", policy=reset.FixedTemperature(1.0), max_new_tokens=4)

def test_claims_too_much(run_arm, model, sums):
    run_arm(model, sums, **OPTIONS).assert_above(0.5)

def test_chooses_the_folder(run_arm, model, sums):
    run_arm(model, sums, output_dir="x", **OPTIONS)

def test_takes_a_name_twice(run_arm, model, sums):
    run_arm(model, sums, name="a", **OPTIONS)
    run_arm(model, sums, name="a", **OPTIONS)

@pytest.fixture(scope="module")
def baseline(run_shared_arm, model):
    task = reset.Task("one", [dict(question="1 + 1 =", answer=2)], scorer="number")
    return run_shared_arm(model, task, name="base", policy=reset.Greedy(), max_new_tokens=4)

def test_shares(baseline):
    assert baseline.result.planned == 1

def test_shares_again(baseline, run_shared_arm, model):
    with pytest.raises(ValueError, match="needs a name"):
        run_shared_arm(model, "gsm8k")
"""


@dataclass
class Ran:
    folder: Path
    returncode: int
    output: str

    def properties(self, test: str) -> dict[str, str]:
        tree = ET.parse(self.folder / "junit.xml")
        (case,) = [case for case in tree.iter("testcase") if case.get("name") == test]
        return {entry.get("name", ""): entry.get("value", "") for entry in case.iter("property")}

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "kept" / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def run_pytest(folder: Path, *arguments: str) -> Ran:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-W", "error", *arguments]
    child = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    return Ran(folder, child.returncode, child.stdout + child.stderr)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, demo_bf16: Path) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "conftest.py").write_text(CONFTEST.format(model=str(demo_bf16)), encoding="utf-8")
    (folder / "test_arms.py").write_text(TESTS, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def ran(project: Path) -> Ran:
    return run_pytest(project, "--reset-output", "kept", "--junit-xml", "junit.xml", "--strict-markers")


def test_outcomes_of_the_tests(ran: Ran) -> None:
    assert ran.returncode == 1
    assert "5 passed" in ran.output
    assert "3 failed" in ran.output, ran.output
    for test in ("test_claims_too_much", "test_chooses_the_folder", "test_takes_a_name_twice"):
        assert f"FAILED test_arms.py::{test}" in ran.output


def test_messages_say_what_was_found(ran: Ran) -> None:
    assert "the accuracy of 'arm1' on sums is not shown to be above 50.0%: its interval begins at 0.0%" in ran.output
    assert "6 problems × 2 samples" in ran.output
    assert "12 truncated" in ran.output
    assert "run_arm takes no output_dir: samples are kept in the folder of pytest's option --reset-output" in ran.output
    assert "name = 'a' is not possible" in ran.output


def test_junit_holds_the_numbers(ran: Ran) -> None:
    found = ran.properties("test_passes")
    assert found["arm1.task"] == "sums"
    assert float(found["arm1.ci95_low"]) == 0.0 <= float(found["arm1.accuracy"]) <= float(found["arm1.ci95_high"]) < 1
    assert (
        sum(int(found[f"arm1.{outcome}"]) for outcome in ("correct", "truncated", "unparsed", "wrong")) == int(found["arm1.samples"]) == 12
    )
    assert re.fullmatch("[0-9a-f]{16}", found["arm1.run"])
    assert {"low.accuracy", "high.accuracy"} <= ran.properties("test_two_arms[0.3]").keys()


def test_results_point_to_the_samples(ran: Ran) -> None:
    lines = ran.results()
    assert [(line["test"].rpartition("::")[2], line["arm"]) for line in lines[:5]] == [
        ("test_passes", "arm1"), ("test_two_arms[0.3]", "low"), ("test_two_arms[0.3]", "high"), ("test_two_arms[0.6]", "low"),
        ("test_two_arms[0.6]", "high"),
    ]  # fmt: skip
    for line in lines:
        result = reset.EvalResult.load(ran.folder / "kept" / line["folder"])
        assert (result.accuracy, result.counts, result.run) == (line["accuracy"], line["counts"], line["run"])
    assert lines[1]["policy"] == {"policy": "fixed", "t": 0.3}
    assert {"folder": "shared/base", "test": "shared"}.items() <= next(line for line in lines if line["arm"] == "base").items()


def test_the_accuracies_are_printed_at_the_end(ran: Ran) -> None:
    _, _, section = ran.output.partition(" accuracies ")
    assert re.search(r"test_arms\.py::test_two_arms\[0\.6\]  high: 0\.0% \[0\.0, \d+\.\d\] of 6 samples, run [0-9a-f]{16}", section)


def test_a_second_run_goes_on_with_the_first(ran: Ran) -> None:
    files = {path: path.read_bytes() for path in (ran.folder / "kept").rglob("samples.jsonl")}
    assert len(files) == 8
    torn = next(path for path in files if path.parent.name == "low")
    torn.write_bytes(files[torn][:-50])
    before = ran.results()
    again = run_pytest(ran.folder, "--reset-output", "kept", "-k", "passes or two_arms")
    assert again.returncode == 0, again.output
    for path, content in files.items():
        if path != torn:
            assert path.read_bytes() == content, "a finished sample is not made again"
    once, twice = ([json.loads(line)["token_ids"] for line in content.splitlines()] for content in (files[torn], torn.read_bytes()))
    assert once == twice
    assert again.results()[len(before) :] == before[:5]


def test_other_options_are_refused_where_samples_lie(ran: Ran) -> None:
    test = ran.folder / "test_arms.py"
    text = test.read_text(encoding="utf-8")
    try:
        test.write_text(
            text.replace("FixedTemperature(1.0), max_new_tokens=8", "FixedTemperature(0.9), max_new_tokens=8"), encoding="utf-8"
        )
        refused = run_pytest(ran.folder, "--reset-output", "kept", "-k", "passes")
    finally:
        test.write_text(text, encoding="utf-8")
    assert refused.returncode == 1
    assert "ConfigError" in refused.output
    assert "1.0 there, 0.9 here" in refused.output


def test_without_the_option_nothing_is_left(project: Path, tmp_path: Path) -> None:
    for name in ("conftest.py", "test_arms.py"):
        (tmp_path / name).write_bytes((project / name).read_bytes())
    assert run_pytest(tmp_path, "-k", "passes or shares", "-m", "accuracy or not accuracy").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"conftest.py", "test_arms.py", "__pycache__"}


def test_it_can_be_loaded_from_the_command_line_and_names_its_marker(tmp_path: Path) -> None:
    listed = run_pytest(tmp_path, "-p", "reset.pytest_plugin", "--markers")
    assert "@pytest.mark.accuracy: runs a model on a task" in listed.output
    assert "--reset-output" not in run_pytest(tmp_path, "--help").output, "installing the package must change no other pytest run"


def test_the_examples_of_the_guide_run(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "pytest.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for name, content in blocks:
        (tmp_path / name).write_text(content, encoding="utf-8")
    ran = run_pytest(tmp_path, "-m", "accuracy", "--strict-markers", "--reset-output", "results")
    assert ran.returncode == 0, ran.output
    assert "4 passed" in ran.output
    assert (tmp_path / "results" / "shared" / "fixed-0.6" / "samples.jsonl").is_file()


@pytest.mark.parametrize(
    ("a", "b"), [("x[a]", "x(a)"), ("Arm", "arm"), ("a/b", "a_b"), ("é", "ü"), ("x" * 300, "x" * 301), ("..", "."), ("a ", "a")]
)
def test_different_names_get_different_folders(a: str, b: str) -> None:
    names = [_safe(a), _safe(b)]
    assert names[0].lower() != names[1].lower()
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name), name


def arm(low: float, high: float, *, partial: bool = False, name: str = "mine") -> Arm:
    result: Any = SimpleNamespace(
        accuracy=(low + high) / 2, ci95=(low, high), counts={"correct": 1, "wrong": 1}, directory=None, partial=partial, planned=4,
        samples=(0, 1), n_samples=1, problem_ids=("a", "b"), metadata={"task": "sums"},
    )  # fmt: skip
    return Arm(name, result)


def failure(call: Any, *arguments: Any, **options: Any) -> str | None:
    try:
        call(*arguments, **options)
    except AssertionError as error:
        return str(error)
    return None


def test_thresholds_below_inside_and_above_the_interval() -> None:
    tried = arm(0.5, 0.7)
    strict = [failure(tried.assert_above, threshold) is None for threshold in (0.4, 0.5, 0.6, 0.7, 0.8)]
    lenient = [failure(tried.assert_not_below, threshold) is None for threshold in (0.4, 0.5, 0.6, 0.7, 0.8)]
    assert strict == [True, False, False, False, False]
    assert lenient == [True, True, True, True, False]


def compared(monkeypatch: pytest.MonkeyPatch, low: float, high: float) -> Arm:
    verdict = "better" if low > 0 else "worse" if high < 0 else "undecided"
    comparison = SimpleNamespace(difference=(low + high) / 2, ci95=(low, high), p_value=0.04, verdict=verdict)
    given: list[Any] = []

    def compare(a: Any, b: Any, **declared: Any) -> Any:
        given.append((a, b, declared))
        return comparison

    monkeypatch.setattr(reset, "compare", compare, raising=False)
    tried, other = arm(0.5, 0.7), arm(0.4, 0.6, name="other")
    tried.assert_not_worse(other, 1.0, differ=("prompt",))
    names = ("other", "mine")
    assert given == [(other.result, tried.result, {"names": names, "differ": ("prompt",)})], "the difference is mine minus the other's"
    return tried


@pytest.mark.parametrize(
    ("interval", "better", "not_worse", "no_regression"),
    [
        ((0.01, 0.03), True, True, True),
        ((-0.01, 0.03), False, True, True),
        ((-0.02, 0.02), False, False, True),
        ((-0.05, 0.01), False, False, True),
        ((-0.015, -0.005), False, True, False),
        ((-0.05, -0.03), False, False, False),
    ],
)
def test_statements_about_differences(
    monkeypatch: pytest.MonkeyPatch, interval: tuple[float, float], better: bool, not_worse: bool, no_regression: bool
) -> None:
    tried, other = compared(monkeypatch, *interval), arm(0.4, 0.6)
    messages = [
        failure(tried.assert_better, other),
        failure(tried.assert_not_worse, other, margin=0.02),
        failure(tried.assert_no_regression, other),
    ]
    assert [message is None for message in messages] == [better, not_worse, no_regression]
    for message in filter(None, messages):
        assert f"95 % interval {100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}" in message
    assert (failure(tried.assert_better, other.result) is None) is better, "a result serves as well as an arm"


def test_a_partial_run_is_no_result() -> None:
    tried = arm(0.5, 0.7, partial=True)
    for message in (failure(tried.assert_above, 0.1), failure(tried.assert_not_below, 0.1), failure(tried.assert_better, arm(0, 1))):
        assert message is not None
        assert "partial: 2 of 4 samples" in message


@pytest.mark.parametrize("value", [60, -0.1, float("nan"), "0.6", True])
def test_percentages_are_not_shares(value: Any) -> None:
    tried = arm(0.5, 0.7)
    for call in (tried.assert_above, tried.assert_not_below, lambda value: tried.assert_not_worse(tried, value)):
        with pytest.raises(ValueError, match="a share between 0 and 1"):
            call(value)
