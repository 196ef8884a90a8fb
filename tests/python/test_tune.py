"""The search on the tuning split."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from arm_rows import make_result

import reset
from reset import tuning
from reset._arms import check_names, folder_name, policy_name, summarize
from reset.evaluation import run as evaluation_run
from reset.tuning import TunedArm, Tuning, grid

if TYPE_CHECKING:
    from pathlib import Path

SHORT: dict[str, Any] = {"max_new_tokens": 24, "progress": False}


def sums() -> reset.Task:
    rows = [{"question": f"What is {i} + {j}?", "answer": i + j} for i in range(3) for j in range(4)]
    return reset.Task("sums", rows, splits={"tune": 0.5, "test": 0.5}, scorer="number")


@pytest.fixture(scope="module")
def model(demo_nvfp4: Path) -> reset.Model:
    return reset.load(demo_nvfp4)


def tuned(*arms: tuple[str, reset.Policy, list[bool], int]) -> Tuning:
    made = []
    for name, policy, rights, tokens in arms:
        outcomes = {f"p{i}": [right] for i, right in enumerate(rights)}
        made.append(TunedArm(name, policy, make_result(outcomes, policy, tokens=tokens)))
    return Tuning(tuple(made))


def test_the_test_split_is_refused_with_a_reason(model: reset.Model) -> None:
    with pytest.raises(ValueError, match=r"'test' is refused: .*flattered by chance.*reset\.study"):
        reset.tune(model, sums(), grid(1.0), split="test")


def test_every_arm_is_an_evaluation_on_the_tuning_split(model: reset.Model, tmp_path: Path) -> None:
    policies = {"low": reset.FixedTemperature(0.3), "reset": reset.ReSET(0.3, 2.5)}
    found = reset.tune(model, sums(), policies, n_samples=2, output_dir=tmp_path, **SHORT)
    assert [arm.name for arm in found.arms] == ["low", "reset"]
    for arm in found.arms:
        alone = reset.evaluate(model, sums(), policy=policies[arm.name], split="tune", n_samples=2, **SHORT)
        assert [s.token_ids for s in arm.result.samples] == [s.token_ids for s in alone.samples]
        assert arm.row["accuracy"] == alone.accuracy
        assert (tmp_path / arm.name / "samples.jsonl").is_file()
        assert arm.result.metadata["split"] == "tune"


def test_a_finished_search_draws_nothing_again(model: reset.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = [reset.FixedTemperature(0.3), reset.FixedTemperature(0.8)]
    first = reset.tune(model, sums(), policies, output_dir=tmp_path, limit=3, **SHORT)
    real = evaluation_run.Loop.samples

    def nothing_to_do(self: Any, jobs: Any) -> Any:
        assert jobs == []
        return real(self, jobs)

    monkeypatch.setattr(evaluation_run.Loop, "samples", nothing_to_do)
    again = reset.tune(model, sums(), policies, output_dir=tmp_path, limit=3, **SHORT)
    assert again.to_dict() == first.to_dict()
    with pytest.raises(reset.ConfigError, match="seed"):
        reset.tune(model, sums(), policies, output_dir=tmp_path, limit=3, seed=1, **SHORT)


def test_best_is_the_most_accurate_then_the_shortest_then_the_first() -> None:
    a, b, c, d = (reset.FixedTemperature(t) for t in (0.1, 0.2, 0.3, 0.4))
    right, worse = [True, True, False], [True, False, False]
    assert tuned(("a", a, worse, 5), ("b", b, right, 9)).best.name == "b"
    assert tuned(("a", a, right, 9), ("b", b, right, 7), ("c", c, right, 8)).best.name == "b"
    found = tuned(("a", a, worse, 1), ("b", b, right, 7), ("c", c, right, 7), ("d", d, right, 7))
    assert found.best.name == "b"
    assert found.policy is b


def test_best_of_a_kind() -> None:
    found = tuned(
        ("fixed", reset.FixedTemperature(0.6), [True, True], 5), ("r1", reset.ReSET(0.1, 0.5), [False, False], 5),
        ("r2", reset.ReSET(0.2, 0.5), [True, False], 5),
    )  # fmt: skip
    assert found.best.name == "fixed"
    assert found.best_of("reset").name == "r2"
    with pytest.raises(ValueError, match=r"'greedy': there are fixed, reset"):
        found.best_of("greedy")


def test_contenders_are_those_that_cannot_be_told_from_the_best() -> None:
    best, close, far = [True] * 40, [True] * 39 + [False], [False] * 40
    found = tuned(
        ("best", reset.FixedTemperature(0.6), best, 5), ("far", reset.FixedTemperature(0.7), far, 5),
        ("close", reset.FixedTemperature(0.8), close, 5),
    )  # fmt: skip
    assert found.contenders == ("close",)
    assert "1 other cannot be told from it" in repr(found)


def test_grid_gives_fixed_temperatures_the_same_effort() -> None:
    policies = grid(0.55)
    assert sum(isinstance(p, reset.ReSET) for p in policies.values()) == 6
    assert sum(isinstance(p, reset.FixedTemperature) for p in policies.values()) == 6
    assert policies["reset t_low=0.3 tau_0=0.55"] == reset.ReSET(0.3, 0.55)
    assert [p.t for p in policies.values() if isinstance(p, reset.FixedTemperature)] == [0.1, 0.28, 0.46, 0.64, 0.82, 1.0]
    assert list(grid(0.5, t_low=(0.2,), fixed=(0.6,), t_high=1.2)) == ["reset t_low=0.2 tau_0=0.5 t_high=1.2", "T=0.6"]


def test_names_of_policies_and_folders() -> None:
    class Mine(reset.Policy):
        def __repr__(self) -> str:
            return "Mine()"

    assert policy_name(reset.Greedy()) == "greedy"
    assert policy_name(reset.ReSET(0.1, 0.5, 1.0, 16)) == "reset t_low=0.1 tau_0=0.5 window=16"
    assert policy_name(Mine()) == "Mine()"
    assert folder_name("a.b-c_1=2+3") == "a.b-c_1=2+3"
    hostile = ["../up", "a/b", "..", ".", "", "nul\0", "ä", "a b", "a  b", "x" * 300, "-rf", "a\nb"]
    folders = [folder_name(name) for name in hostile]
    assert len(set(folders)) == len(hostile)
    for folder in folders:
        assert len(folder) < 80
        assert set(folder) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=+-")
        assert folder[0] not in ".-"


@pytest.mark.parametrize(
    ("policies", "error", "message"),
    [
        ({}, ValueError, r"policies is empty.*grid"),
        ([], ValueError, "policies is empty"),
        ("reset", TypeError, "policies is str"),
        ({"a": 0.6}, TypeError, "policy of arm 'a' is float"),
        ([reset.Greedy(), 0.6], TypeError, r"policies\[1\] is float"),
        ([reset.Greedy(), reset.Greedy()], ValueError, "two policies are called 'greedy'"),
        ({"A": reset.Greedy(), "a": reset.Greedy()}, ValueError, "'A' and 'a' cannot be told apart"),
        ({" ": reset.Greedy()}, ValueError, "visible"),
        ({1: reset.Greedy()}, TypeError, "arm 1 is named by int"),
    ],
)
def test_wrong_policies_are_named(model: reset.Model, policies: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        reset.tune(model, sums(), policies, **SHORT)


def test_an_interrupted_search_hands_over_what_is_finished(model: reset.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = {"a": reset.FixedTemperature(0.3), "b": reset.FixedTemperature(0.5)}
    real = evaluation_run.evaluate

    def interrupted(*args: Any, **options: Any) -> Any:
        if options["policy"] is policies["b"]:
            raise reset.Interrupted(None, "interrupted")
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation_run, "evaluate", interrupted)
        with pytest.raises(reset.Interrupted, match=r"in arm 'b', 1 of 2 arms are finished; all samples are kept") as stopped:
            reset.tune(model, sums(), policies, limit=2, output_dir=tmp_path, **SHORT)
    assert [arm.name for arm in stopped.value.partial.arms] == ["a"]
    assert len(reset.tune(model, sums(), policies, limit=2, output_dir=tmp_path, **SHORT).arms) == 2


def test_the_table_is_strict_json_and_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    found = tuned(("r", reset.ReSET(0.1, 0.5), [True, False], 5), ("f", reset.FixedTemperature(0.6), [False, False], 5))
    found.save(tmp_path / "tuning.json")
    record = json.loads((tmp_path / "tuning.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (record["best"], record["format"], len(record["table"])) == ("r", "reset-tuning-1", 2)
    assert record["policy"]["t_low"] == 0.1
    axes = Figure().add_subplot()
    assert found.plot(ax=axes) is axes
    assert list(found.to_pandas()["name"]) == ["r", "f"]


def test_summary_counts_what_is_in_the_rows() -> None:
    result = make_result({"a": [True, False], "b": [False, False]}, reset.ReSET(0.1, 0.5), tokens=20, temperature=0.7)
    row = summarize(result)
    assert (row["accuracy"], row["samples"], row["correct"], row["wrong"]) == (0.25, 4, 1, 3)
    assert (row["tokens_mean"], row["tokens_median"], row["temperature_mean"]) == (20, 20, pytest.approx(0.7))
    assert (row["high_share"], row["uncertain_share"]) == (3 / 20, 1 / 20)
    assert row["pass_at"] == {"2": 0.5}
    fixed = summarize(make_result({"a": [True]}))
    assert (fixed["high_share"], fixed["uncertain_share"], fixed["regimes"], fixed["pass_at"]) == (None, None, None, {})


def test_regimes_are_counted_from_the_traces(model: reset.Model, tmp_path: Path) -> None:
    policy = reset.ReSET(0.5, 2.0, window=4)
    result = reset.evaluate(
        model, sums(), policy=policy, split="test", n_samples=2, max_new_tokens=160, traces=True, output_dir=tmp_path, progress=False
    )
    counts, total = dict.fromkeys(("confident-low", "confident-high", "uncertain-low", "uncertain-high"), 0), 0
    for sample in result.samples:
        for row in result.trace(sample.problem_id, sample.sample_index):
            uncertain = row["step_entropy"] > row["global_mean"]
            high = row["temperature"] == 1.0  # t_low is 0.5
            counts[f"{'uncertain' if uncertain else 'confident'}-{'high' if high else 'low'}"] += 1
            total += 1
    summary = summarize(result)
    assert summary["regimes"] == {name: count / total for name, count in counts.items()}
    assert counts["uncertain-high"] > 0
    assert counts["uncertain-low"] > 0
    assert summary["high_share"] == pytest.approx(summary["regimes"]["confident-high"] + summary["regimes"]["uncertain-high"])
    assert summary["uncertain_share"] == pytest.approx(summary["regimes"]["uncertain-low"] + summary["regimes"]["uncertain-high"])


def test_check_names_allows_ordinary_names() -> None:
    check_names(["bf16", "nvfp4", "reset t=0.3", "Reset t=0.4"])
    assert tuning.FORMAT == "reset-tuning-1"
