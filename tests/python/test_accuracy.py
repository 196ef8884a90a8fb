"""Accuracy tests of the project's own models, with the plugin that users have.

The models are tiny: one has random weights, the other writes children's stories. They solve next to nothing, and need not: what is
tested is that runs are counted, repeated, resumed and compared right.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import reset

if TYPE_CHECKING:
    from pathlib import Path

    from reset.pytest_plugin import ArmRunner

pytestmark = pytest.mark.accuracy

POLICY = reset.ReSET(0.3, 2.0)
SHORT: dict[str, Any] = {"policy": POLICY, "limit": 6, "n_samples": 2, "max_new_tokens": 24, "seed": 7}


@pytest.fixture(scope="module")
def demo(demo_nvfp4: Path) -> reset.Model:
    return reset.load(demo_nvfp4)


@pytest.fixture(scope="module")
def stories(shared: Path) -> reset.Model:
    path = shared / "models" / "stories260K"
    if not path.is_dir():
        pytest.skip("needs shared/models/stories260K")
    return reset.load(path)


@pytest.fixture(params=["demo", "stories"])
def model(request: pytest.FixtureRequest) -> reset.Model:
    found: reset.Model = request.getfixturevalue(request.param)
    return found


def options_of(task: str, shared: Path) -> dict[str, Any]:
    """Where the task's problems lie; skips without them."""
    if task == "arithmetic":
        return {}
    if not any((shared / "data").glob(f"{task}*.jsonl")):
        pytest.skip(f"needs shared/data/{task}*.jsonl")
    return {"data": shared / "data"}


@pytest.fixture(scope="module")
def guessable(demo: reset.Model) -> reset.Task:
    """Problems whose references are what this model says most often, so that its accuracy is neither 0 nor 1."""
    rows: list[dict[str, Any]] = [{"id": f"q{i}", "question": f"First, the number of apples: {i}", "answer": 1} for i in range(24)]
    pilot = reset.evaluate(demo, reset.Task("pilot", rows, scorer="number"), seed=99, **{**GUESS, "n_samples": 16}, progress=False)
    for row in rows:
        said = Counter(s.answer for s in pilot.samples if s.problem_id == row["id"] and s.answer is not None)
        row["answer"] = said.most_common(1)[0][0] if said else "0"
    return reset.Task("guessable", rows, scorer="number")


GUESS: dict[str, Any] = {"policy": reset.FixedTemperature(0.6), "n_samples": 4, "max_new_tokens": 24, "prompt": "plain"}


@pytest.mark.parametrize("task", ["arithmetic", "gsm8k", "svamp"])
def test_every_sample_is_counted_once(run_arm: ArmRunner, model: reset.Model, task: str, shared: Path) -> None:
    arm = run_arm(model, task, **SHORT, **options_of(task, shared))
    assert not arm.result.partial
    assert list(arm.counts) == ["correct", "truncated", "unparsed", "wrong"]
    assert sum(arm.counts.values()) == len(arm.result.samples) == arm.result.planned == 12
    assert arm.counts == {**dict.fromkeys(arm.counts, 0), **Counter(sample.outcome for sample in arm.result.samples)}
    per_problem = [[s.correct for s in arm.result.samples if s.problem_id == id] for id in arm.result.problem_ids]
    assert arm.accuracy == pytest.approx(sum(sum(right) / len(right) for right in per_problem) / 6)
    arm.assert_not_below(arm.accuracy)
    if arm.accuracy < 0.5:
        with pytest.raises(AssertionError, match="is not shown to be above 50"):
            arm.assert_above(0.5)


def test_a_resumed_run_equals_one_that_was_not_stopped(run_arm: ArmRunner, demo: reset.Model) -> None:
    arm = run_arm(demo, "arithmetic", **SHORT)
    assert arm.directory is not None
    file = arm.directory / "samples.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:5]) + lines[5][:40])
    resumed = reset.evaluate(demo, "arithmetic", output_dir=arm.directory, batch_size=3, progress=False, **SHORT)
    assert len(resumed.samples) == 12
    assert all(a.same_as(b) for a, b in zip(resumed.samples, arm.result.samples, strict=True))
    assert file.read_bytes().splitlines()[:5] == [line.rstrip(b"\n") for line in lines[:5]]


def test_a_larger_limit_goes_on_with_the_smaller_one(run_arm: ArmRunner, demo: reset.Model) -> None:
    arm = run_arm(demo, "arithmetic", **{**SHORT, "limit": 3, "n_samples": 1})
    more = reset.evaluate(demo, "arithmetic", output_dir=arm.directory, progress=False, **SHORT)
    at_once = run_arm(demo, "arithmetic", name="at once", **SHORT)
    assert [s.key for s in more.samples] == [s.key for s in at_once.result.samples]
    assert all(a.token_ids == b.token_ids for a, b in zip(more.samples, at_once.result.samples, strict=True))


def test_an_arm_is_no_different_from_itself(run_arm: ArmRunner, demo: reset.Model, guessable: reset.Task) -> None:
    a = run_arm(demo, guessable, name="a", **GUESS)
    b = run_arm(demo, guessable, name="b", **GUESS)
    assert 0 < a.accuracy < 1
    comparison = reset.compare(a.result, b.result)
    assert comparison.difference == 0.0
    assert comparison.p_value == 1.0
    assert comparison.verdict == "undecided"
    b.assert_no_regression(a)
    # 24 problems without any discordance still leave room for a rare one.
    b.assert_not_worse(a, margin=0.2)
    with pytest.raises(AssertionError, match=r"'b' is not shown to be at most 0\.1 percentage points worse than 'a'"):
        b.assert_not_worse(a, margin=0.001)
    with pytest.raises(AssertionError, match="'b' is not shown to be better than 'a'"):
        b.assert_better(a)


def test_another_seed_makes_no_difference_that_counts(run_arm: ArmRunner, demo: reset.Model, guessable: reset.Task) -> None:
    a = run_arm(demo, guessable, seed=0, **GUESS)
    b = run_arm(demo, guessable, seed=1, **GUESS)
    assert [s.token_ids for s in a.result.samples] != [s.token_ids for s in b.result.samples]
    comparison = reset.compare(a.result, b.result)
    assert comparison.verdict == "undecided"
    low, high = comparison.ci95
    assert low <= comparison.difference <= high
    assert low < 0 < high


def test_a_worse_arm_is_found(run_arm: ArmRunner, demo: reset.Model, guessable: reset.Task) -> None:
    """References are what the model says at T 0.6; at T 5 it says anything."""
    cool = run_arm(demo, guessable, name="cool", **{**GUESS, "n_samples": 8})
    hot = run_arm(demo, guessable, name="hot", **{**GUESS, "n_samples": 8, "policy": reset.FixedTemperature(5.0)})
    cool.assert_better(hot)
    with pytest.raises(AssertionError, match="'hot' is worse than 'cool'"):
        hot.assert_no_regression(cool)


def test_artefacts_hold_what_the_result_holds(run_arm: ArmRunner, demo: reset.Model, request: pytest.FixtureRequest) -> None:
    arm = run_arm(demo, "arithmetic", **SHORT)
    assert arm.directory is not None
    rows = [json.loads(line) for line in (arm.directory / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted((row["problem_id"], row["sample_index"]) for row in rows) == sorted(sample.key for sample in arm.result.samples)
    assert dict(request.node.user_properties)["arm1.run"] == arm.result.run == rows[0]["run"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["arithmetic", "gsm8k", "math500", "aime2024"])
def test_policies_side_by_side(run_arm: ArmRunner, model: reset.Model, task: str, shared: Path) -> None:
    options = {**SHORT, **options_of(task, shared), "limit": 30, "n_samples": 4, "max_new_tokens": 128}
    fixed = run_arm(model, task, name="fixed", **{**options, "policy": reset.FixedTemperature(0.6)})
    step_aware = run_arm(model, task, name="reset", **options)
    assert sum(step_aware.counts.values()) == 120
    assert fixed.result.problem_ids == step_aware.result.problem_ids
    comparison = reset.compare(fixed.result, step_aware.result)
    assert comparison.difference == pytest.approx(step_aware.accuracy - fixed.accuracy)
    step_aware.assert_no_regression(fixed)
