"""reset.compare: what it says, and what it refuses to compare."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from small_tasks import sums

import reset
from reset.evaluation.identity import identity_hash
from reset.evaluation.sample import Sample, outcome_of
from reset.statistics import mcnemar, paired, paired_proportions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IDENTITY: dict[str, Any] = {
    "task": "sums", "task_version": "1", "split": "test", "prompt": "boxed", "thinking": None, "scorer": "number-1", "max_new_tokens": 64,
    "policy": {"policy": "fixed", "t": 0.6}, "top_k": None, "top_p": None, "min_p": None, "seed": 0,
    "model": {"fingerprint": "abc", "weights": "bf16"}, "reset_version": "0.1.0",
}  # fmt: skip


def made(
    correct: Sequence[int],
    samples: Sequence[int] | int = 1,
    *,
    lenient: Sequence[int] | None = None,
    ids: Sequence[str] | None = None,
    prompts: str = "p",
    references: str = "42",
    digests: str = "d",
    planned: int | None = None,
    **identity: Any,
) -> reset.EvalResult:
    """A result with the first ``correct[i]`` samples of problem i right; every fifth wrong one is truncated, every third unreadable."""
    names = list(ids) if ids is not None else [f"problem-{i}" for i in range(len(correct))]
    counts = [samples] * len(correct) if isinstance(samples, int) else list(samples)
    whole = {**IDENTITY, **identity}
    rows = []
    for i, (name, right, count) in enumerate(zip(names, correct, counts, strict=True)):
        for s in range(count):
            ok, truncated, parsed = s < right, s >= right and (i + s) % 5 == 0, s < right or (i + s) % 3 != 0
            rows.append(
                Sample(
                    problem_id=name, sample_index=s, seed=0, stream="0x" + "0" * 16, prompt_sha256=f"{prompts}-{name}", prompt_tokens=9,
                    token_ids=[1] * (10 + i), tokens=10 + i, text="", finish_reason="length" if truncated else "stop", seconds=0.1,
                    reference=references, answer="42" if ok else "7" if parsed else None, source="boxed" if parsed else None,
                    method="exact" if ok else None, parsed=parsed, correct=ok, truncated=truncated,
                    lenient_correct=s < (lenient[i] if lenient is not None else right), lenient_answer=None,
                    outcome=outcome_of(correct=ok, truncated=truncated, parsed=parsed), entropy_mean=0.5, temperature_mean=0.6, steps=1,
                    high_tokens=0, uncertain_tokens=0, repetition=s >= right and i % 2 == 0, trace=None, options={}, versions={},
                    run=identity_hash(whole),
                )
            )  # fmt: skip
    plan: Any = {"problems": [[name, f"{digests}-{name}"] for name in names], "n_samples": planned or max(counts)}
    return reset.EvalResult(rows, identity=whole, plan=plan)


A, B = [1] * 60 + [0] * 40, [1] * 55 + [0] * 5 + [1] * 20 + [0] * 20
RESET = {"policy": "reset", "t_low": 0.3, "tau_0": 1.0}


def test_one_sample_each_is_mcnemar_with_tango() -> None:
    found = reset.compare(made(A), made(B, policy=RESET))
    assert found.difference == pytest.approx(0.15)
    assert found.ci95 == pytest.approx(paired_proportions(55, 5, 20, 20))
    assert found.p_value == mcnemar(5, 20)
    assert (found.test, found.verdict) == ("exact McNemar", "better")
    assert reset.compare(made(B), made(A)).verdict == "worse"
    assert found.flips.only_a == tuple(f"problem-{i}" for i in range(55, 60))
    assert found.flips.only_b == tuple(f"problem-{i}" for i in range(60, 80))
    assert found.mde == paired(A, 1, B, 1).mde


def test_several_samples_are_paired_by_problem() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.binomial(4, 0.4, 40).tolist(), rng.binomial(8, 0.7, 40).tolist()
    found = reset.compare(made(a, 4), made(b, 8), draws=2000, seed=5)
    assert found.paired == paired(a, 4, b, 8, draws=2000, seed=5)
    assert found.flips.only_b == tuple(f"problem-{i}" for i in range(40) if a[i] == 0 and b[i] > 0)
    assert found.flips.only_a == tuple(f"problem-{i}" for i in range(40) if b[i] == 0 and a[i] > 0)


def test_problems_are_matched_by_id_and_lenient_scores_apart() -> None:
    ids = ["x", "y", "z"]
    a = made([1, 0, 1], ids=ids, lenient=[1, 1, 1])
    found = reset.compare(a, made([0, 1, 1], ids=ids, lenient=[0, 1, 1]))
    assert found.difference == 0
    assert found.lenient.difference == pytest.approx(-1 / 3)
    # Another order of the same problems is another plan; declared, rows still meet by id.
    turned = made([1, 1, 0], ids=["z", "y", "x"])
    with pytest.raises(ValueError, match="the same 3 ids, but other questions, answers or order"):
        reset.compare(a, turned)
    assert reset.compare(a, turned, differ=("problems",)).flips == found.flips == (("x",), ("y",))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", "others"),
        ("task_version", "2"),
        ("split", "tune"),
        ("prompt", "plain"),
        ("thinking", True),
        ("scorer", "math-1"),
        ("max_new_tokens", 128),
    ],
)
def test_arms_under_other_conditions_are_refused_unless_declared(name: str, value: Any) -> None:
    a, b = made(A), made(B, **{name: value})
    with pytest.raises(ValueError, match=name) as refusal:
        reset.compare(a, b)
    assert f"{IDENTITY[name]!r} in a, {value!r} in b" in str(refusal.value)
    assert f'differ=("{name}",)' in str(refusal.value)
    assert reset.compare(a, b, differ=(name,)).difference == pytest.approx(0.15)
    assert reset.compare(a, b, differ=name).difference == pytest.approx(0.15)


def test_every_mismatch_is_listed() -> None:
    with pytest.raises(ValueError, match="same conditions") as refusal:
        reset.compare(made(A), made(B, prompt="plain", max_new_tokens=8, digests="e"), differ=("thinking",))
    message = str(refusal.value)
    for part in ("'boxed' in a, 'plain' in b", "64 in a, 8 in b", "the same 100 ids", 'differ=("prompt", "max_new_tokens", "problems",)'):
        assert part in message


def test_other_prompt_tokens_are_refused_unless_declared() -> None:
    a, b = made(A), made(B, prompts="q", model={"fingerprint": "other", "weights": "nvfp4"})
    with pytest.raises(ValueError, match=r"prompt_sha256 .*100 of 100 problems, the first 'problem-0'"):
        reset.compare(a, b)
    assert reset.compare(a, b, differ=("prompt_sha256",)).verdict == "better"
    plain = made(B, prompts="q", prompt="plain")
    assert reset.compare(a, plain, differ=("prompt",)).verdict == "better"  # another style has other tokens


def test_other_references_are_refused() -> None:
    with pytest.raises(ValueError, match=r"references .*'42' in a, '43' in b"):
        reset.compare(made(A), made(B, references="43"))


def test_other_problems_are_refused_or_their_common_part_is_compared() -> None:
    a, b = made(A), made(B[:80])
    with pytest.raises(ValueError, match="100 in a, 80 in b, 80 in both"):
        reset.compare(a, b)
    found = reset.compare(a, b, differ=("problems",))
    assert found.paired == paired(A[:80], 1, B[:80], 1)
    with pytest.raises(ValueError, match="no problem is in both"):
        reset.compare(a, made([1], ids=["elsewhere"]), differ=("problems",))


def test_partial_results_are_refused_unless_allowed() -> None:
    a, b = made(A), made([1, 0, 1, 0], [1, 0, 1, 1], ids=[f"problem-{i}" for i in range(4)])
    whole = made(A[:4])
    with pytest.raises(ValueError, match="b has 3 of 4 samples"):
        reset.compare(whole, b)
    found = reset.compare(whole, b, allow_partial=True)
    assert found.paired.problems == 3
    assert found.partial
    assert "PARTIAL" in repr(found)
    assert a.partial is False


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'temperature' is not known; .*max_new_tokens"):
        reset.compare(made(A), made(B), differ=("temperature",))


def test_an_arm_against_itself_is_undecided() -> None:
    found = reset.compare(made(A), made(A))
    assert (found.difference, found.p_value, found.verdict) == (0.0, 1.0, "undecided")
    assert found.ci95.low < 0 < found.ci95.high
    assert found.differing == ()


def test_the_table_says_how_arms_failed() -> None:
    a, b = made(A), made(B, policy=RESET)
    found = reset.compare(a, b, names=("fixed", "reset"))
    frame = found.table.to_pandas()
    assert list(frame["name"]) == ["fixed", "reset"]
    assert list(frame["accuracy"]) == [0.6, 0.75]
    for row, result in zip(found.table, (a, b), strict=True):
        assert (row["low"], row["high"]) == result.ci95
        for outcome, count in result.counts.items():
            assert row[outcome] == pytest.approx(count / 100)
        assert row["tokens"] == pytest.approx(np.mean([s.tokens for s in result.samples]))
        assert row["repetition"] == pytest.approx(np.mean([s.repetition for s in result.samples]))
    text = repr(found)
    for part in (
        "a: fixed", "b: reset", "60.0% [50.2%, 69.1%]", "+15.0 points [", "exact McNemar p = 0.004", "verdict: b is better",
        "policy: fixed(t=0.6) in a, reset(t_low=0.3, tau_0=1.0) in b", "solved by a alone: 5, by b alone: 20",
    ):  # fmt: skip
        assert part in text
    assert found.label == "reset − fixed"
    assert reset.compare(b, made(B, policy={**RESET, "tau_0": 2.0})).differing == ("policy.tau_0: 1.0 in a, 2.0 in b",)


def test_a_disagreement_of_test_and_interval_is_explained() -> None:
    found = reset.compare(made([0] * 30), made([1] * 4 + [0] * 26))
    assert (found.verdict, found.p_value) == ("undecided", 0.125)
    assert found.ci95.low > 0
    assert "interval and test disagree" in repr(found)


def test_everything_is_json() -> None:
    record = json.loads(json.dumps(reset.compare(made(A), made(B)).to_dict()))
    assert record["difference"] == pytest.approx(0.15)
    assert record["verdict"] == "better"
    assert len(record["arms"]) == 2
    assert len(record["flips"]["only_b"]) == 20
    assert set(record["lenient"]) >= {"difference", "ci95", "p_value"}


def run(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "reset", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_command_compares_folders(tmp_path: Path) -> None:
    one, two, other = (str(tmp_path / name) for name in ("one", "two", "other.jsonl"))
    made(A).save(one)
    made(B, policy=RESET).save(two)
    made(B, prompt="plain").save(other)
    assert json.loads(run("compare", one, two, "--json"))["p_value"] == mcnemar(5, 20)
    text = run("compare", one, two, "--flips")
    assert "verdict: b is better" in text
    assert "only_a: problem-55, problem-56" in text
    assert "'plain' in b" in run("compare", one, other, code=1)
    assert "verdict" in run("compare", one, other, "--differ", "prompt")
    assert "no such folder" in run("compare", one, str(tmp_path / "none"), code=1)


def test_the_command_plans() -> None:
    assert json.loads(run("power", "0.7", "0.05", "--json"))["problems"] == reset.power(0.7, 0.05).problems
    assert "30 problems with 16 samples" in run("power", "0.5", "--problems", "30", "--samples", "16")
    found = json.loads(run("power", "0.3", "0.1", "--problems", "40", "--samples", "0", "--json"))
    assert found["samples"] == reset.power(0.3, 0.1, problems=40, samples=None).samples
    assert "baseline" in run("power", "1.5", "0.1", code=1)


def test_evaluated_arms_compare(demo_nvfp4: Path) -> None:
    model = reset.load(demo_nvfp4)
    options: dict[str, Any] = {"limit": 4, "n_samples": 2, "max_new_tokens": 12, "progress": False}
    arms = [reset.evaluate(model, sums(), policy=policy, **options) for policy in (reset.FixedTemperature(0.6), reset.ReSET(0.3, 1.0))]
    found = reset.compare(*arms)
    assert found.verdict == "undecided"
    assert any(line.startswith("policy") for line in found.differing)
    assert found.test == "sign-flip permutation"
    with pytest.raises(ValueError, match="max_new_tokens"):
        reset.compare(arms[0], reset.evaluate(model, sums(), policy=reset.Greedy(), **{**options, "max_new_tokens": 6}))
