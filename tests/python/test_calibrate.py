"""τ_0: percentile and interval against numpy, files, presets, interruption."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import reset
from reset import _calibration_run, calibration
from reset._percentile import percentile_interval, student_quantile
from reset._processed import processed_entropy
from reset.calibration import Calibration, beside_model

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPTS = ["First, the number", "Then we add the", "So there are 3 apples.", "How many", "In the end"]
SHORT = {"max_new_tokens": 48, "progress": False}


@pytest.fixture(scope="module")
def model(demo_nvfp4: Path) -> reset.Model:
    return reset.load(demo_nvfp4)


def softmax64(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    weights = np.exp(shifted)
    return weights / weights.sum(axis=-1, keepdims=True)


def entropy64(p: np.ndarray) -> np.ndarray:
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(axis=-1)


def same_outputs(model: reset.Model, **options: Any) -> list[reset.Generation]:
    """What calibrate samples, from the public generate."""
    generations = reset.generate(model, PROMPTS, policy=reset.FixedTemperature(0.6), seed=42, max_new_tokens=48, **options)
    assert isinstance(generations, list)
    return generations


def test_raw_threshold_is_numpys_percentile_of_teacher_forced_entropies(model: reset.Model) -> None:
    found = reset.calibrate(model, prompts=PROMPTS, **SHORT)
    forced = [
        reset.score_trace(model, g.prompt_token_ids + g.token_ids, prompt_length=len(g.prompt_token_ids)).entropy
        for g in same_outputs(model)
    ]
    assert [len(e) for e in found.per_problem] == [len(e) for e in forced]
    # Decoding and teacher forcing sum in another order: 1e-3 nats is far above their difference and far below a percentile step.
    np.testing.assert_allclose(found.entropies, np.concatenate(forced), atol=1e-3)
    assert found.tau_0 == pytest.approx(np.percentile(np.concatenate(forced), 80), abs=1e-3)
    assert found.tau_0 == np.percentile(found.entropies, 80)
    assert found.percentiles[80.0] == found.tau_0
    assert found.percentiles[50.0] == np.median(found.entropies)


def test_raw_entropies_are_those_of_the_softmax(model: reset.Model) -> None:
    found = reset.calibrate(model, prompts=PROMPTS[:2], **SHORT)
    for g, entropies in zip(same_outputs(model), found.per_problem, strict=False):
        logits = model.logits([*g.prompt_token_ids, *g.token_ids[:-1]])[len(g.prompt_token_ids) - 1 :]
        np.testing.assert_allclose(entropies, entropy64(softmax64(logits)), atol=1e-3)


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}, {"top_k": 20, "top_p": 0.8, "min_p": 0.02}])
def test_processed_entropies_are_those_of_the_drawn_distribution(model: reset.Model, filters: dict[str, Any]) -> None:
    found = reset.calibrate(model, prompts=PROMPTS[:2], distribution="processed", **SHORT, **filters)
    for g, entropies in zip(same_outputs(model, **filters)[:2], found.per_problem, strict=True):
        logits = model.logits([*g.prompt_token_ids, *g.token_ids[:-1]])[len(g.prompt_token_ids) - 1 :]
        for row, token, logprob, entropy in zip(logits, g.token_ids, g.trace.sampling_logprob, entropies, strict=True):
            p = filtered(row, 0.6, set(model.banned_ids), **filters)
            assert entropy == pytest.approx(entropy64(p), abs=2e-3)
            # The sampler's own log-probability: the distribution is the one that was drawn from, not merely one like it.
            assert math.log(p[token]) == pytest.approx(logprob, abs=2e-3)
    assert found.tau_0 == np.percentile(found.entropies, 80)


def filtered(
    logits: np.ndarray, t: float, banned: set[int], top_k: int | None = None, top_p: float | None = None, min_p: float | None = None
) -> np.ndarray:
    """The filters over sorted ids, one after the other, in float64."""
    p = softmax64(np.array([-np.inf if i in banned else x for i, x in enumerate(logits.astype(np.float64) / t)]))
    order = np.argsort(-p, kind="stable")
    if top_k is not None:
        p[order[top_k:]] = 0
        p /= p.sum()
    if top_p is not None:
        count = int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1
        p[order[count:]] = 0
        p /= p.sum()
    if min_p is not None:
        p[p < min_p * p.max()] = 0
        p /= p.sum()
    return p


def test_ties_at_a_filters_edge_stay() -> None:
    logits = np.log(np.array([[4, 2, 2, 1, 1e-30]], np.float32))
    third = np.array([0.5, 0.25, 0.25])
    for options in ({"top_k": 2}, {"top_p": 0.6}, {"min_p": 0.5}):
        assert processed_entropy(logits, 1.0, **options)[0] == pytest.approx(entropy64(third), abs=1e-6)  # type: ignore[arg-type]
    assert processed_entropy(logits, 1.0, banned=[0], top_k=1)[0] == pytest.approx(math.log(2), abs=1e-6)
    with pytest.raises(ValueError, match="takes the most probable token"):
        processed_entropy(logits, 0.0)


def test_students_quantile() -> None:
    from scipy.stats import t

    for df in (1, 2, 3, 4, 7, 19, 20, 200):
        assert student_quantile(df) == pytest.approx(t.ppf(0.975, df), rel=1e-10)
        assert student_quantile(df, 0.9) == pytest.approx(t.ppf(0.9, df), rel=1e-10)


def test_interval_is_the_students_one_for_equal_lengths_and_means() -> None:
    """With one token per problem and the median of two, the percentile is a mean, whose interval is known."""
    values = np.array([0.4, 1.3])
    low, high = percentile_interval([values[:1], values[1:]], 50, draws=10_000)
    half = student_quantile(1) * values.std(ddof=1) / math.sqrt(2)
    assert high - values.mean() == pytest.approx(half, rel=0.03)
    assert low == 0.0  # an entropy is not negative


def test_interval_covers_in_simulation() -> None:
    rng = np.random.default_rng(5)

    def problem() -> np.ndarray:
        return rng.exponential(np.exp(rng.normal(0, 0.3)), int(rng.integers(40, 160)))

    truth = np.percentile(np.concatenate([problem() for _ in range(4000)]), 80)
    hits = 0
    for _ in range(150):
        low, high = percentile_interval([problem() for _ in range(5)], 80, draws=100)
        hits += low <= truth <= high
    assert 0.88 <= hits / 150 <= 0.99


def test_interval_is_seeded_and_shrinks_with_problems() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.exponential(1 + 0.3 * (i % 4), 80) for i in range(40)]
    few, many = Calibration.from_entropies(arrays[:5]), Calibration.from_entropies(arrays)
    assert few.interval == Calibration.from_entropies(arrays[:5]).interval
    assert few.interval != Calibration.from_entropies(arrays[:5], seed=1).interval
    assert few.interval[0] < few.tau_0 < few.interval[1]
    assert many.interval[1] - many.interval[0] < 0.6 * (few.interval[1] - few.interval[0])
    assert "5 problems are few" in few.notes[0]
    assert many.notes == ()
    single = Calibration.from_entropies(arrays[:1])
    assert math.isnan(single.interval[0])
    assert "One problem" in single.notes[0]


def test_file_round_trip_and_preset(model: reset.Model, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    made = reset.calibrate(model, prompts=PROMPTS, output=path, **SHORT)
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.json"]
    read = Calibration.load(path)
    assert (read.tau_0, read.interval, dict(read.metadata)) == (made.tau_0, made.interval, made.metadata)
    assert all(np.array_equal(a, b) for a, b in zip(read.per_problem, made.per_problem, strict=True))
    assert read.metadata["weights"] == "nvfp4"
    assert read.metadata["outputs"][0]["tokens"] == len(made.per_problem[0])
    for name in (path, str(path)):
        assert reset.ReSET.preset(name, t_low=0.3) == reset.ReSET(0.3, made.tau_0)
    with pytest.raises(ValueError, match=r"calibration.json holds tau_0 = .* no t_low.*t_low=0.3"):
        reset.ReSET.preset(path)
    made.save(tmp_path, t_low=0.25)
    assert reset.ReSET.preset(tmp_path) == reset.ReSET(0.25, made.tau_0) == made.policy(0.25)
    assert reset.ReSET.preset(tmp_path, t_low=0.5).t_low == 0.5


def test_preset_of_published_names_still_works() -> None:
    assert reset.ReSET.preset("Qwen/Qwen3-8B", t_low=0.4) == reset.ReSET(0.4, 0.5505)
    with pytest.raises(ValueError, match=r"nobody/knows.*Qwen/Qwen3-8B.*path of the calibration"):
        reset.ReSET.preset("nobody/knows")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        reset.ReSET.preset(Path("nowhere/calibration.json"))
    with pytest.raises(TypeError):
        reset.ReSET.preset(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "reset-calibration-1"}', '{"format": "other"}'])
def test_other_files_are_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"x\.json: not a calibration"):
        reset.ReSET.preset(path, t_low=0.3)
    with pytest.raises(FileNotFoundError, match=r"reset_calibration\.json"):
        reset.ReSET.preset(tmp_path)


def test_saved_beside_a_local_model_and_found_there(demo_nvfp4: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in demo_nvfp4.iterdir():
        os.link(file, folder / file.name)
    made = reset.calibrate(str(folder), prompts=PROMPTS[:2], **SHORT)
    assert made.save(t_low=0.3) == folder / "reset_calibration.json"
    assert reset.ReSET.preset(folder) == made.policy(0.3)
    reset.load(folder)  # a further JSON file does not disturb the model
    reset.model_cache.clear()


@pytest.mark.parametrize("where", ["lib/site-packages/p/model", "hub/models--a--b/snapshots/0123"])
def test_caches_and_packages_are_left_alone(tmp_path: Path, where: str) -> None:
    folder = tmp_path / where
    folder.mkdir(parents=True)
    with pytest.raises(PermissionError, match=r"not ours to change; .*output="):
        beside_model(str(folder))
    with pytest.raises(PermissionError, match=r"Qwen/Qwen3-8B was not loaded from a folder.*output="):
        Calibration.from_entropies([[1.0]], metadata={"model": "Qwen/Qwen3-8B"}).save()


def test_a_read_only_folder_is_named_before_anything_is_generated(
    model: reset.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_session(*_: object) -> None:
        raise AssertionError("generated although nothing can be stored")

    monkeypatch.setattr(_calibration_run, "Run", no_session)
    with pytest.raises(FileNotFoundError, match=r"missing does not exist.*output="):
        reset.calibrate(model, prompts=PROMPTS, output=tmp_path / "missing" / "c.json", **SHORT)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if not os.access(locked, os.W_OK):
        with pytest.raises(PermissionError, match=r"locked.*cannot be written.*output="):
            reset.calibrate(model, prompts=PROMPTS, output=locked / "c.json", **SHORT)
    real = Path.open

    def denied(self: Path, *args: Any, **kwargs: Any) -> Any:  # root may write anywhere, so the answer of the system is played
        if self.parent == locked:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(PermissionError, match=r"locked.*cannot be written.*output="):
        reset.calibrate(model, prompts=PROMPTS, output=locked / "c.json", **SHORT)


def interrupting(after: int) -> Callable[..., Any]:
    """``_finished`` that is interrupted after some problems."""
    real = _calibration_run._finished

    def rows(*args: Any, **kwargs: Any) -> Any:
        for count, row in enumerate(real(*args, **kwargs), start=1):
            yield row
            if count == after:
                raise KeyboardInterrupt

    return rows


def test_an_interrupted_calibration_goes_on(model: reset.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = reset.calibrate(model, prompts=PROMPTS, **SHORT)
    path = tmp_path / "c.json"
    with monkeypatch.context() as patch:
        patch.setattr(_calibration_run, "_finished", interrupting(2))
        with pytest.raises(reset.Interrupted, match=r"2 of 5 problems finished; they are kept in .*c\.json\.partial\.jsonl") as stopped:
            reset.calibrate(model, prompts=PROMPTS, output=path, batch_size=1, **SHORT)
    assert [len(g.token_ids) > 0 for g in stopped.value.partial] == [True, True, False, False, False]
    import pickle

    again = pickle.loads(pickle.dumps(stopped.value))
    assert str(again) == str(stopped.value)
    with (tmp_path / "c.json.partial.jsonl").open("ab") as file:
        file.write(b'{"problem": 2, "entro')  # a killed process may leave half a line
    asked: list[int] = []
    real = _calibration_run.Run

    def counting(model: Any, prompts: Any, options: Any) -> Any:
        asked.append(len(prompts))
        return real(model, prompts, options)

    monkeypatch.setattr(_calibration_run, "Run", counting)
    resumed = reset.calibrate(model, prompts=PROMPTS, output=path, batch_size=3, **SHORT)
    assert asked == [3]
    assert all(np.array_equal(a, b) for a, b in zip(resumed.per_problem, whole.per_problem, strict=True))
    assert (resumed.tau_0, resumed.interval) == (whole.tau_0, whole.interval)
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


def test_a_partial_file_of_other_options_is_refused(model: reset.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_calibration_run, "_finished", interrupting(1))
        with pytest.raises(reset.Interrupted):
            reset.calibrate(model, prompts=PROMPTS, output=tmp_path / "c.json", **SHORT)
    before = (tmp_path / "c.json.partial.jsonl").read_bytes()
    with pytest.raises(reset.ConfigError, match=r"c\.json\.partial\.jsonl: holds a calibration of another model, or"):
        reset.calibrate(model, prompts=PROMPTS, output=tmp_path / "c.json", seed=1, **SHORT)
    assert (tmp_path / "c.json.partial.jsonl").read_bytes() == before


def test_entropies_of_interrupted_generations_can_be_used(model: reset.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calibration_run, "_finished", interrupting(3))
    with pytest.raises(reset.Interrupted) as stopped:
        reset.calibrate(model, prompts=PROMPTS, batch_size=1, **SHORT)
    rescued = Calibration.from_entropies([g.trace.entropy for g in stopped.value.partial if g.finish_reason])
    assert len(rescued.per_problem) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 101}, "percentile = 101"),
        ({"distribution": "scores"}, "distribution = 'scores'.*'raw'.*'processed'"),
        ({"temperature": 0, "distribution": "processed"}, "greedy.*distribution='raw'"),
        ({"temperature": -1.0}, "temperature = -1"),
        ({"prompts": ["a", "b", "a"]}, "prompts 0 and 2 are the same"),
        ({"prompts": []}, "empty list"),
        ({"task": "arithmetic"}, "task and prompts exclude each other"),
        ({"prompts": None, "split": "test"}, "split = 'test' is refused"),
    ],
)
def test_wrong_options_are_named(model: reset.Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reset.calibrate(model, **{"prompts": PROMPTS, **SHORT, **options})


def test_wrong_entropies_are_refused() -> None:
    for values in ([[]], []):
        with pytest.raises(ValueError, match="no token entropies"):
            Calibration.from_entropies(values)
    for bad in ([1.0, math.nan], [-1.0], [[1.0]]):
        with pytest.raises(ValueError, match="entropies of problem 1"):
            Calibration.from_entropies([[1.0], bad])


def test_json_is_strict_and_tells_the_notes(tmp_path: Path) -> None:
    path = Calibration.from_entropies([[0.5, 1.0]]).save(tmp_path / "one.json")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    record = json.loads(path.read_text(), parse_constant=refuse)
    assert record["interval"] == [None, None]
    assert record["notes"]
    assert math.isnan(Calibration.load(path).interval[0])
    assert calibration.FILE_NAME == "reset_calibration.json"


def test_the_entropies_are_a_plot() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    found = Calibration.from_entropies([[0.5, 1.0], [0.1, 0.2, 0.3]])
    axes = Figure().add_subplot()
    assert found.plot(ax=axes) is axes


def test_a_calibration_unpacks() -> None:
    calibration = reset.Calibration.from_entropies([[0.0, 1.0, 2.0], [0.5, 1.5]])
    tau_0, interval, entropies = calibration
    assert (tau_0, interval) == (calibration.tau_0, calibration.interval)
    assert np.array_equal(entropies, calibration.entropies)
