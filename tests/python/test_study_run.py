"""Studies end to end on a random model: the same numbers as single evaluations, after being killed too, and placebos."""

from __future__ import annotations

import collections
import gc
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_child import ARMS, OPTIONS, task

import reset
from reset.evaluation.result import EvalResult
from reset.statistics import interaction, paired
from reset.studies import GivenTemperatures, ReplayedTemperatures, Study, mean_temperature
from reset.studies import run as study_run
from reset.studies.result import REPORT_FILES

CHILD = Path(__file__).with_name("study_child.py")


@pytest.fixture(scope="module")
def finished(demo_bf16: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The whole study, in one go."""
    folder = tmp_path_factory.mktemp("study")
    return reset.study(demo_bf16, task(), ARMS, output_dir=folder, **OPTIONS)


def report_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in REPORT_FILES}


def test_arms_hold_what_single_evaluations_hold(finished: Study, demo_bf16: Path) -> None:
    common = {"n_samples": 2, "max_new_tokens": 40, "progress": False}
    for name, policy in (("bf16", reset.FixedTemperature(0.6)), ("reset", reset.ReSET(0.3, 2.0, 1.0, 8))):
        model = reset.load(demo_bf16, weights="nvfp4" if name == "reset" else "auto")
        alone = reset.evaluate(model, task(), policy=policy, **common)
        assert [s.token_ids for s in finished.results[name].samples] == [s.token_ids for s in alone.samples]
        row = next(row for row in finished.arms if row["arm"] == name)
        assert (row["accuracy"], row["low"], row["high"]) == (alone.accuracy, *alone.ci95)


def test_contrasts_are_those_of_the_statistics(finished: Study) -> None:
    outcomes = {name: result.outcomes() for name, result in finished.results.items()}
    assert [(c.a, c.b, c.kind) for c in finished.contrasts] == [
        ("bf16", "reset", "primary"), ("shuffled", "reset", "primary"), ("mean", "reset", "exploratory")
    ]  # fmt: skip
    for found in finished.contrasts:
        assert found.paired == paired(*outcomes[found.a], *outcomes[found.b])
    crossed = finished.interactions[0]
    assert crossed.result == interaction(outcomes["bf16"], outcomes["reset"], outcomes["bf16"], outcomes["shuffled"])
    assert crossed.name == "(reset − bf16) − (shuffled − bf16)"
    assert finished.contrasts[0].differs == ("policy", "weights")
    assert finished.contrasts[1].differs == ("policy",)


def test_the_folder_is_read_back(finished: Study) -> None:
    assert finished.directory is not None
    read = Study.load(finished.directory)
    assert read.to_dict() == finished.to_dict()
    assert read.to_markdown() == finished.to_markdown() == finished._repr_markdown_()
    assert not read.partial
    assert [p.question for p in read.problems] == [p.question for p in task().problems("test")]
    assert "4 arms" not in repr(read)
    assert finished.plan.sha256[:12] in repr(read)


def killed_once(model: Path, folder: Path, lines: int) -> int:
    """Starts the study in a process, kills it when that many samples are stored, and returns how many there are."""

    def stored() -> int:
        return sum(file.read_bytes().count(b"\n") for file in folder.glob("arms/*/samples.jsonl"))

    where = f"import sys, runpy; sys.path[:0] = {sys.path!r}; runpy.run_path({str(CHILD)!r}, run_name='__main__')"
    child = subprocess.Popen([sys.executable, "-c", where, str(model), str(folder)])
    try:
        while child.poll() is None and stored() < lines:
            time.sleep(0.001)
    finally:
        child.kill()
        child.wait()
    return stored()


def test_a_killed_study_ends_with_the_same_report(finished: Study, demo_bf16: Path, tmp_path: Path) -> None:
    """Killed in the first arm that runs and in a placebo, which reads another arm's traces."""
    assert finished.directory is not None
    stored = [killed_once(demo_bf16, tmp_path, lines) for lines in (5, 60)]
    assert 5 <= stored[0] < stored[1] < 96, "the child has to be killed while it works"
    assert not (tmp_path / "report.md").exists()
    half = Study.load(tmp_path)
    assert half.partial
    assert reset.study(demo_bf16, task(), ARMS, output_dir=tmp_path, **OPTIONS).to_dict()["arms"] == finished.arms
    assert report_of(tmp_path) == report_of(finished.directory)


@pytest.mark.slow
def test_a_study_killed_again_and_again_ends_with_the_same_report(finished: Study, demo_bf16: Path, tmp_path: Path) -> None:
    """Killed after random numbers of samples, until it is finished."""
    assert finished.directory is not None
    rng = np.random.default_rng(11)
    kills, stored = 0, 0
    while stored < 96:
        stored = killed_once(demo_bf16, tmp_path, stored + int(rng.integers(1, 16)))
        kills += 1
    assert kills >= 6
    reset.study(demo_bf16, task(), ARMS, output_dir=tmp_path, batch_size=3, **OPTIONS)
    assert report_of(tmp_path) == report_of(finished.directory)


def test_a_finished_study_loads_no_model(finished: Study, demo_bf16: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finished.directory is not None
    before = report_of(finished.directory)
    monkeypatch.setattr(study_run, "load", lambda *_, **__: pytest.fail("loaded a model for nothing"))
    again = reset.study(demo_bf16, task(), ARMS, output_dir=finished.directory, batch_size=2, **OPTIONS)
    assert again.to_dict() == finished.to_dict()
    assert report_of(finished.directory) == before


def test_another_plan_is_refused_before_anything_runs(finished: Study, demo_bf16: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_run, "load", lambda *_, **__: pytest.fail("loaded a model under a refused plan"))
    with pytest.raises(reset.ConfigError, match=r"seed: 0 there, 1 here"):
        reset.study(demo_bf16, task(), ARMS, output_dir=finished.directory, seed=1, **OPTIONS)


def test_samples_of_another_arm_in_an_arms_folder_are_refused(finished: Study, demo_bf16: Path, tmp_path: Path) -> None:
    import shutil

    assert finished.directory is not None
    shutil.copytree(finished.directory, tmp_path / "s")
    shutil.rmtree(tmp_path / "s" / "arms" / "bf16")
    shutil.copytree(tmp_path / "s" / "arms" / "reset", tmp_path / "s" / "arms" / "bf16")
    with pytest.raises(reset.ConfigError, match=r"arms/bf16(.|\n)*policy"):
        reset.study(demo_bf16, task(), ARMS, output_dir=tmp_path / "s", **OPTIONS)


def test_one_model_at_a_time_and_each_once(demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[Any, weakref.ref[Any]]] = []
    real = study_run.load

    def watched(path: Any, **options: Any) -> Any:
        gc.collect()
        assert all(reference() is None for _, reference in loaded), "the model before is still held"
        model = real(path, **options)
        loaded.append((options.get("weights"), weakref.ref(model)))
        return model

    monkeypatch.setattr(study_run, "load", watched)
    arms = {"a": {}, "b": {"weights": "nvfp4"}, "c": {"policy": reset.FixedTemperature(0.5)}, "d": {"weights": "nvfp4", "kv": "fp8"}}
    reset.study(demo_bf16, task(), arms, output_dir=tmp_path, limit=1, max_new_tokens=4, progress=False)
    assert [weights for weights, _ in loaded] == [None, "nvfp4", "nvfp4"]


def test_arms_run_after_those_they_need_and_beside_their_like() -> None:
    from reset.studies.plan import make_arms

    arms = make_arms("x/y", ARMS, {}, Path())
    assert [arm.name for arm in study_run.in_order(arms)] == ["bf16", "reset", "mean", "shuffled"]


def test_an_interrupted_study_is_partial(demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = study_run.evaluate

    def interrupted(*args: Any, **options: Any) -> Any:
        if "reset" in str(options["output_dir"]):
            raise reset.Interrupted(real(*args, **{**options, "limit": 3}), "interrupted")
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(study_run, "evaluate", interrupted)
        with pytest.raises(
            reset.Interrupted, match=r"in arm 'reset', 1 of 4 arms are finished; all samples are kept in .*goes on"
        ) as stopped:
            reset.study(demo_bf16, task(), ARMS, output_dir=tmp_path / "s", **OPTIONS)
    part = stopped.value.partial
    assert part.partial
    assert set(part.results) == {"bf16", "reset"}
    with pytest.raises(reset.ConfigError, match=r"partial: mean, reset, shuffled are not finished"):
        _ = part.contrasts
    text = part.to_markdown()
    assert "**PARTIAL" in text
    assert "Primary contrasts" not in text
    assert [path.name for path in part.report(tmp_path / "report")] == list(REPORT_FILES)


def test_without_a_folder_all_stays_in_memory(demo_nvfp4: Path, tmp_path: Path) -> None:
    model = reset.load(demo_nvfp4)
    arms = {"a": {"policy": reset.FixedTemperature(0.3)}, "b": {"policy": reset.Greedy(), "n_samples": 1}}
    found = reset.study(model, task(), arms, limit=3, n_samples=2, max_new_tokens=8, progress=False)
    assert found.contrasts[0].paired.problems == 3
    assert [len(r.samples) for r in found.results.values()] == [6, 3]
    with pytest.raises(ValueError, match="no folder"):
        found.report()
    assert found.report(tmp_path / "new")[0].read_text().startswith("# Study of sums")
    with pytest.raises(ValueError, match=r"temperatures of others \(reset\) need output_dir"):
        reset.study(demo_nvfp4, task(), ARMS, **OPTIONS)


class Counting:
    """Per-sample policies of one's own."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def for_sample(self, problem_id: str, sample_index: int) -> reset.Policy:
        self.asked.append((problem_id, sample_index))
        return reset.FixedTemperature(0.4 + 0.2 * sample_index)

    def describe(self) -> dict[str, Any]:
        return {"policy": "counting", "from": 0.4}


def test_per_sample_policies_pass_through(demo_nvfp4: Path, tmp_path: Path) -> None:
    policy = Counting()
    found = reset.study(
        demo_nvfp4, task(), {"a": {}, "mine": {"policy": policy}}, limit=2, n_samples=2, max_new_tokens=6, output_dir=tmp_path,
        progress=False,
    )  # fmt: skip
    assert sorted(policy.asked) == [("test-0", 0), ("test-0", 1), ("test-1", 0), ("test-1", 1)]
    assert found.plan.record["arms"]["mine"]["policy"] == {"policy": "counting", "from": 0.4}
    assert [s.temperature_mean for s in found.results["mine"].samples] == pytest.approx([0.4, 0.6, 0.4, 0.6])


# Placebos


def test_a_shuffled_replay_has_the_same_temperatures(finished: Study) -> None:
    """Drawn temperatures of every sample against those of the same sample of the other arm, as multisets, repeated where it is longer."""
    source, replay = finished.results["reset"], finished.results["shuffled"]
    assert finished.directory is not None
    policies = ReplayedTemperatures(finished.directory / "arms" / "reset")
    moved = 0
    for sample in source.samples:
        original = source.trace(sample.problem_id, sample.sample_index).temperature
        policy = policies.for_sample(sample.problem_id, sample.sample_index)
        assert isinstance(policy, GivenTemperatures)
        assert collections.Counter(policy.temperatures.tolist()) == collections.Counter(original.tolist())
        moved += not np.array_equal(policy.temperatures, original)
        again = policies.for_sample(sample.problem_id, sample.sample_index)
        assert isinstance(again, GivenTemperatures)
        assert np.array_equal(policy.temperatures, again.temperatures)
        ran = next(s for s in replay.samples if s.key == sample.key)
        given = np.resize(policy.temperatures, ran.tokens)
        assert ran.temperature_mean == pytest.approx(given.mean())
    assert moved == len(source.samples)


def test_a_replay_in_order_of_the_same_model_repeats_it(finished: Study, demo_bf16: Path, tmp_path: Path) -> None:
    """The same temperatures at the same positions, with the same random numbers: the same tokens."""
    assert finished.directory is not None
    replay = ReplayedTemperatures(finished.directory / "arms" / "reset", shuffle_seed=None)
    model = reset.load(demo_bf16, weights="nvfp4")
    found = reset.evaluate(model, task(), policy=replay, n_samples=2, max_new_tokens=40, progress=False)
    assert [s.token_ids for s in found.samples] == [s.token_ids for s in finished.results["reset"].samples]
    assert found.metadata["policy"] == {"policy": "replayed", "run": finished.results["reset"].run, "shuffle_seed": None}


def test_other_shuffles_are_other_orders_and_other_identities(finished: Study) -> None:
    assert finished.directory is not None
    first, second = (ReplayedTemperatures(finished.directory / "arms" / "reset", seed) for seed in (0, 1))
    sample = max(finished.results["reset"].samples, key=lambda s: s.tokens)
    orders = [policies.for_sample(*sample.key).temperatures.tolist() for policies in (first, second)]  # type: ignore[attr-defined]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert first.describe() != second.describe()


def test_the_mean_arm_has_the_mean_temperature(finished: Study) -> None:
    assert finished.directory is not None
    source = finished.results["reset"]
    every = np.concatenate([source.trace(*sample.key).temperature for sample in source.samples])
    assert mean_temperature(finished.directory / "arms" / "reset").t == pytest.approx(every.mean(), rel=1e-12)
    assert finished.results["mean"].metadata["policy"]["t"] == pytest.approx(every.mean(), rel=1e-12)


def test_missing_traces_and_samples_are_named(demo_nvfp4: Path, tmp_path: Path) -> None:
    model = reset.load(demo_nvfp4)
    reset.evaluate(model, task(), policy=reset.Greedy(), limit=1, max_new_tokens=4, output_dir=tmp_path, progress=False)
    policies = ReplayedTemperatures(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no trace.*traces=True"):
        policies.for_sample("test-0", 0)
    with pytest.raises(FileNotFoundError, match="no sample 1 of problem 'test-0' to take temperatures from"):
        policies.for_sample("test-0", 1)
    with pytest.raises(FileNotFoundError):
        ReplayedTemperatures(tmp_path / "nothing")


def test_given_temperatures() -> None:
    import copy
    import pickle

    policy = GivenTemperatures([0.2, 1.0, 0.5])
    for one in (policy, copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        controller = reset.Controller(one)
        assert [controller.step(entropy=1.0).temperature for _ in range(5)] == [0.2, 1.0, 0.5, 0.2, 1.0]
        assert vars(one) == vars(policy)
    assert policy.sha256 != GivenTemperatures([0.2, 0.5, 1.0]).sha256
    for bad in ([], [-0.1], [float("nan")], [[0.5]]):
        with pytest.raises(ValueError, match="temperatures: expected"):
            GivenTemperatures(bad)


def test_stories_runs_a_study(shared: Path, tmp_path: Path) -> None:
    model = shared / "models" / "stories260K"
    if not model.is_dir():
        pytest.skip("needs shared/models/stories260K")
    arms = {"T=0.6": {"policy": reset.FixedTemperature(0.6)}, "reset": {"policy": {"policy": "reset", "t_low": 0.3, "tau_0": 1.0}}}
    found = reset.study(model, task(), arms, limit=4, max_new_tokens=48, output_dir=tmp_path, progress=False, traces=True)
    assert found.contrasts[0].paired.problems == 4
    assert sum(found.arms[1]["regimes"].values()) == pytest.approx(1)
    assert isinstance(EvalResult.load(tmp_path / "arms" / "reset"), EvalResult)
