"""Policies as values, and controllers against the published traces and the numpy restatement."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reset
from reference import policy as reference
from reset import policies

NEWLINE, DOUBLE = [3], [5, 7, 11]
FIELDS = ("temperature", "entropy", "step_entropy", "global_mean", "threshold", "boundary", "uncertain", "step_index")


def row(decision: Any) -> dict[str, Any]:
    return {name: getattr(decision, name) for name in FIELDS}


def run(controller: reset.Controller, entropies: Any, tokens: Any) -> list[dict[str, Any]]:
    last = [None, *[int(t) for t in tokens[:-1]]]
    return [row(controller.step(entropy=float(h), last_token=t)) for h, t in zip(entropies, last, strict=True)]


# ---- the published traces -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traces(golden: Any) -> tuple[dict[str, Any], Any]:
    folder = golden / "reset"
    return json.loads((folder / "reset_traces.json").read_text()), np.load(folder / "reset_traces.npz")


CASES = ["regime_w32", "regime_w4", "peaky_w32", "peaky_w1", "flat_w8", "masked_greedy_w16", "no_steps_w32"]


def golden_controller(parameters: dict[str, Any]) -> reset.Controller:
    p = parameters
    policy = reset.ReSET(t_low=p["t_low"], tau_0=p["tau_0"], t_high=p["t_high"], window=p["window"])
    return reset.Controller(policy, newline_ids=p["newline_ids"], double_newline_ids=p["double_newline_ids"])


def test_all_golden_cases_are_read(traces: Any) -> None:
    assert sorted(traces[0]) == sorted(CASES)


@pytest.mark.parametrize("case", CASES)
def test_recorded_entropies_give_the_published_decisions(traces: Any, case: str) -> None:
    parameters, data = traces
    got = run(golden_controller(parameters[case]), data[f"{case}.entropy"], data[f"{case}.tokens"])
    for name in ("boundary", "uncertain", "temperature"):
        assert [r[name] for r in got] == data[f"{case}.{name}"].tolist(), name
    np.testing.assert_allclose([r["step_entropy"] for r in got], data[f"{case}.h_step"], rtol=1e-6)
    np.testing.assert_allclose([r["global_mean"] for r in got], data[f"{case}.h_bar"], rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_logits_give_the_published_decisions_away_from_the_threshold(traces: Any, case: str) -> None:
    parameters, data = traces
    controller = golden_controller(parameters[case])
    last = None
    far = 0
    for t, logits in enumerate(data[f"{case}.logits"]):
        d = controller.step(logits, last_token=last)
        last = int(data[f"{case}.tokens"][t])
        assert d.entropy == pytest.approx(data[f"{case}.entropy"][t], abs=1e-5)
        assert d.entropy == pytest.approx(reference.entropy(logits), rel=2e-6, abs=1e-12)
        assert d.step_entropy == pytest.approx(data[f"{case}.h_step"][t], abs=1e-5)
        assert d.global_mean == pytest.approx(data[f"{case}.h_bar"][t], abs=1e-5)
        assert d.boundary == bool(data[f"{case}.boundary"][t])
        published = data[f"{case}.h_step"][t] if data[f"{case}.uncertain"][t] else parameters[case]["tau_0"]
        if min(abs(d.entropy - d.threshold), abs(d.entropy - published)) > 1e-5:
            far += 1
            assert d.uncertain == bool(data[f"{case}.uncertain"][t])
            assert d.temperature == data[f"{case}.temperature"][t]
    assert far > 10


# ---- the restatement ------------------------------------------------------------------------------------------------------

PARAMETERS = st.fixed_dictionaries(
    {
        "t_low": st.floats(0, 0.5),
        "tau_0": st.floats(0, 4),
        "t_high": st.floats(0.5, 2),
        "window": st.integers(1, 40),
        "include_current": st.booleans(),
    }
)
SEQUENCES = st.lists(st.tuples(st.floats(0, 12, allow_subnormal=False), st.sampled_from([1, 2, 3, 3, 3, 5, 7])), min_size=1, max_size=150)


@settings(max_examples=200, deadline=None)
@given(PARAMETERS, SEQUENCES)
def test_any_sequence_equals_the_restatement(parameters: dict[str, Any], sequence: list[tuple[float, int]]) -> None:
    entropies, tokens = [h for h, _ in sequence], [t for _, t in sequence]
    expected = reference.reset_trace(entropies, reference.boundaries(tokens, set(NEWLINE), set(DOUBLE)), **parameters)
    got = run(reset.Controller(reset.ReSET(**parameters), NEWLINE, DOUBLE), entropies, tokens)
    assert got == expected


@pytest.mark.parametrize("include_current", [False, True])
@pytest.mark.parametrize("window", [1, 4, 32])
def test_long_random_sequences_equal_the_restatement(window: int, include_current: bool) -> None:
    rng = np.random.default_rng(window)
    entropies = rng.exponential(0.4, 600) ** 2  # f64: rounding to f32 happens inside
    tokens = rng.choice([1, 2, 3, 5], 600, p=[0.5, 0.3, 0.15, 0.05]).tolist()
    policy = reset.ReSET(0.2, 0.5, 1.0, window, include_current)
    expected = reference.reset_trace(
        entropies.tolist(), reference.boundaries(tokens, {3}, {5}), t_low=0.2, tau_0=0.5, window=window, include_current=include_current
    )
    assert run(reset.Controller(policy, [3], [5]), entropies, tokens) == expected


def test_nothing_is_uncertain_before_the_first_boundary() -> None:
    rng = np.random.default_rng(0)
    for window in (1, 8, 32):
        controller = reset.Controller(reset.ReSET(0.2, 0.5, window=window))
        assert not any(controller.step(entropy=h).uncertain for h in rng.exponential(0.5, 3000))


@settings(max_examples=60, deadline=None)
@given(PARAMETERS, SEQUENCES, st.data())
def test_a_snapshot_goes_back_anywhere(parameters: dict[str, Any], sequence: list[tuple[float, int]], data: st.DataObject) -> None:
    controller = reset.Controller(reset.ReSET(**parameters), NEWLINE, DOUBLE)
    cut = data.draw(st.integers(0, len(sequence)))
    steps: list[Any] = []
    last = None
    snapshot, last_there = controller.snapshot(), None
    for t, (h, token) in enumerate(sequence):
        if t == cut:
            snapshot, last_there = controller.snapshot(), last
        steps.append(row(controller.step(entropy=h, last_token=last)))
        last = token
    if cut == len(sequence):
        snapshot, last_there = controller.snapshot(), last
    if data.draw(st.booleans()):
        stored = pickle.loads(pickle.dumps(snapshot))
        assert stored == snapshot
        snapshot = stored
    if data.draw(st.booleans()):
        controller = reset.Controller(reset.ReSET(**parameters), NEWLINE, DOUBLE)
    controller.restore(snapshot)
    assert controller.position == cut == snapshot.position
    last = last_there
    for t in range(cut, len(sequence)):
        assert row(controller.step(entropy=sequence[t][0], last_token=last)) == steps[t]
        last = sequence[t][1]
    controller.reset()
    assert controller.snapshot() == reset.Controller(reset.ReSET(**parameters)).snapshot()


# ---- batches --------------------------------------------------------------------------------------------------------------


def test_a_batch_equals_its_sequences_whatever_the_slots() -> None:
    rng = np.random.default_rng(4)
    policy = reset.ReSET(0.3, 1.0, window=5)
    batch = reset.BatchController(policy, NEWLINE, DOUBLE)
    single = {slot: reset.Controller(policy, NEWLINE, DOUBLE) for slot in range(6)}
    last: dict[int, int | None] = dict.fromkeys(range(6))
    for t in range(120):
        slots = rng.permutation(6)[: rng.integers(1, 7)]
        if t % 25 == 24:
            batch.reset([int(slots[0])])
            single[int(slots[0])].reset()
            last[int(slots[0])] = None
        if t == 60:
            snapshots = batch.snapshot()
            batch = reset.BatchController(policy, NEWLINE, DOUBLE)
            batch.restore(pickle.loads(pickle.dumps(snapshots)))
        h = rng.exponential(1.0, len(slots))
        tokens = np.array([-1 if last[int(s)] is None else last[int(s)] for s in slots])
        got = batch.step(entropy=h, last_token=tokens, slots=slots)
        assert len(got) == len(slots)
        for i, slot in enumerate(slots.tolist()):
            expected = row(single[slot].step(entropy=h[i], last_token=last[slot]))
            assert {name: getattr(got, name)[i] for name in FIELDS} == expected
            last[slot] = int(rng.choice([1, 3, 3, 5]))
    assert len(batch) == 6


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_logits_of_every_dtype_give_the_entropy_of_their_values(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 4, (5, 2500)).astype(dtype)
    logits[:, ::7] = -np.inf
    batch = reset.BatchController(reset.EntropyThreshold(0.1, 1.0))
    expected = [reference.entropy(x) for x in logits.astype(np.float32)]
    np.testing.assert_allclose(batch.step(logits).entropy, expected, rtol=1e-6)
    np.testing.assert_allclose(batch.step(np.asfortranarray(logits)).entropy, expected, rtol=1e-6)
    np.testing.assert_allclose(reset.Controller(reset.Greedy()).step(logits[2]).entropy, expected[2], rtol=1e-6)
    np.testing.assert_allclose(reset.sampling.entropy(logits.reshape(1, 5, 2500)), [expected], rtol=1e-6)


def test_torch_tensors_are_logits_too() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 500, generator=torch.Generator().manual_seed(0)) * 3
    for tensor in (x, x.bfloat16(), x.half(), x.t().contiguous().t()):
        expected = [reference.entropy(row) for row in tensor.float().numpy()]
        np.testing.assert_allclose(reset.BatchController(reset.Greedy()).step(tensor).entropy, expected, rtol=1e-6)


def test_an_empty_batch_decides_nothing() -> None:
    batch = reset.BatchController(reset.ReSET(0.1, 0.5))
    assert len(batch.step(entropy=np.zeros(0))) == 0 == len(batch)


# ---- policies as values ---------------------------------------------------------------------------------------------------

VALUES: list[reset.Policy] = [
    reset.ReSET(0.3, 0.5),
    reset.ReSET(0.3, 0.5, include_current=True),
    reset.ReSET(0.3, 0.5, window=8),
    reset.EntropyThreshold(0.3, 0.5),
    reset.FixedTemperature(0.6),
    reset.FixedTemperature(0.7),
    reset.Greedy(),
]


def test_policies_are_values() -> None:
    for i, a in enumerate(VALUES):
        for j, b in enumerate(VALUES):
            assert (a == b) is (i == j)
        twin = eval(repr(a), {name: getattr(reset, name) for name in reset.__all__})
        assert twin == a
        assert hash(twin) == hash(a)
        assert pickle.loads(pickle.dumps(a)) == a == copy.deepcopy(a)
        assert policies.from_dict(json.loads(json.dumps(policies.to_dict(a)))) == a
    assert repr(VALUES[0]) == "ReSET(t_low=0.3, tau_0=0.5, t_high=1.0, window=32, include_current=False)"
    assert reset.ReSET(-0.0, 1) == reset.ReSET(0, 1.0)
    with pytest.raises(AttributeError):
        VALUES[0].t_low = 1.0  # type: ignore[attr-defined]


def test_every_listed_policy_has_a_class() -> None:
    from reset import _core

    listed = dict(_core.policy_entries())
    assert list(listed) == list(policies.POLICIES)
    assert all(sentence.endswith(".") for sentence in listed.values())


def test_presets_are_the_published_parameters() -> None:
    assert reset.ReSET.preset("Qwen/Qwen3-8B") == reset.ReSET(0.1, 0.5505, 1.0, 32) == policies.PRESETS["Qwen/Qwen3-8B"]
    published = {m: (p.t_low, p.tau_0) for m, p in policies.PRESETS.items()}
    assert published == {
        "Qwen/Qwen3-8B": (0.1, 0.5505),
        "Qwen/Qwen3-14B": (0.3, 0.4863),
        "Qwen/Qwen3-32B": (0.1, 0.5363),
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": (0.4, 0.6446),
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": (0.3, 0.6488),
    }
    with pytest.raises(ValueError, match=r"Qwen3-9B.*Qwen/Qwen3-8B.*Distill-Qwen-14B"):
        reset.ReSET.preset("Qwen/Qwen3-9B")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reset.ReSET(1.0, 0.5, 0.3), "t_low = 1 .*t_high = 0.3.*swapped"),
        (lambda: reset.ReSET(-1, 0.5), "t_low = -1"),
        (lambda: reset.ReSET(0.1, math.nan), "tau_0 = NaN"),
        (lambda: reset.ReSET(0.1, -0.1), "tau_0 = -0.1"),
        (lambda: reset.ReSET(0.1, 0.5, math.inf), "t_high = inf"),
        (lambda: reset.ReSET(0.1, 0.5, window=0), "window = 0"),
        (lambda: reset.ReSET(0.1, 0.5, window=-3), "window = -3"),
        (lambda: reset.FixedTemperature(-0.5), "temperature = -0.5"),
        (lambda: reset.EntropyThreshold(0.5, 1.0, 0.4), "t_low = 0.5"),
        (lambda: policies.from_dict({"policy": "warm"}), "'warm'.*reset, entropy-threshold, fixed, greedy"),
        (lambda: policies.from_dict({"policy": "fixed", "x": 1}), "fixed"),
    ],
)
def test_impossible_parameters_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_policies_without_a_quantity_say_nan() -> None:
    d = reset.Controller(reset.EntropyThreshold(0.2, 0.75)).step(entropy=0.75)
    assert (d.temperature, d.threshold, d.uncertain) == (1.0, 0.75, False)
    assert math.isnan(d.step_entropy)
    assert math.isnan(d.global_mean)
    assert reset.Controller(reset.EntropyThreshold(0.2, 0.75)).step(entropy=0.74).temperature == 0.2
    for policy, temperature in ((reset.FixedTemperature(0.6), 0.6), (reset.Greedy(), 0.0)):
        d = reset.Controller(policy).step(entropy=2.0)
        assert d.temperature == temperature
        assert math.isnan(d.threshold)


# ---- controllers: what they refuse ----------------------------------------------------------------------------------------


def test_broken_input_is_named_and_changes_nothing() -> None:
    controller = reset.Controller(reset.ReSET(0.1, 0.5), NEWLINE, DOUBLE)
    controller.step(entropy=1.0)
    before = controller.snapshot()
    for entropy in (math.nan, math.inf, 1e300):
        with pytest.raises(ValueError, match="entropy"):
            controller.step(entropy=entropy)
    for bad, message in ((np.nan, "logit 1 is NaN"), (np.inf, "logit 1 is inf")):
        with pytest.raises(ValueError, match=message):
            controller.step(np.array([0, bad, 1], np.float32))
    with pytest.raises(ValueError, match="all 2 logits are −inf"):
        controller.step(np.full(2, -np.inf, np.float32))
    with pytest.raises(ValueError, match="empty"):
        controller.step(np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="BatchController"):
        controller.step(np.zeros((2, 3), np.float32))
    with pytest.raises(TypeError, match="got neither"):
        controller.step()
    with pytest.raises(TypeError, match="not both"):
        controller.step(np.zeros(3, np.float32), entropy=1.0)
    with pytest.raises(TypeError, match="complex"):
        controller.step(np.zeros(3, np.complex64))
    with pytest.raises(ValueError, match="last_token = -1"):
        controller.step(entropy=1.0, last_token=-1)
    assert controller.snapshot() == before
    other = reset.Controller(reset.ReSET(0.1, 0.5, window=4))
    with pytest.raises(ValueError, match="window"):
        other.restore(before)
    with pytest.raises(TypeError, match=r"reset\.Policy.*not float"):
        reset.Controller(0.6)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="make an instance"):
        reset.Controller(reset.Greedy)  # type: ignore[arg-type]


def test_broken_batches_are_named_and_change_nothing() -> None:
    batch = reset.BatchController(reset.ReSET(0.1, 0.5))
    batch.step(entropy=[1.0, 2.0])
    before = batch.snapshot()
    logits = np.zeros((2, 9), np.float32)
    logits[1, 4] = np.nan
    for arguments, message in (
        ({"logits": logits}, "row 1: .*logit 4 is NaN"),
        ({"entropy": [1.0, math.nan]}, r"entropy\[1\] is NaN"),
        ({"entropy": [1.0, 1.0], "slots": [1, 1]}, "twice"),
        ({"entropy": [1.0], "slots": [-1]}, "negative"),
        ({"entropy": [1.0], "slots": [1 << 40]}, "too large"),
        ({"entropy": [1.0, 1.0], "last_token": [1]}, "last_token"),
        ({"entropy": [1.0, 1.0], "last_token": [1, 1 << 33]}, "no token id"),
        ({"entropy": [1.0, 1.0], "boundary": [1, 0]}, "boundary"),
        ({"entropy": [[1.0]]}, "dimensions"),
        ({"logits": logits[0]}, "dimensions"),
    ):
        with pytest.raises(ValueError, match=message):
            batch.step(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no slot 9"):
        batch.reset([9])
    assert batch.snapshot() == before


def test_prompt_tokens_never_count() -> None:
    controller = reset.Controller(reset.ReSET(0.1, 0.5), NEWLINE, DOUBLE)
    assert controller.step(entropy=1.0, last_token=5).step_index == 0
    assert not controller.step(entropy=1.0, last_token=3).boundary
    assert controller.step(entropy=1.0, last_token=3).boundary


def test_boundaries_decided_on_text_overrule_the_tokens() -> None:
    controller = reset.Controller(reset.ReSET(0.1, 0.5), NEWLINE, DOUBLE)
    controller.step(entropy=1.0)
    assert controller.step(entropy=1.0, boundary=True).step_index == 1
    assert not controller.step(entropy=1.0, last_token=5, boundary=False).boundary
    batch = reset.BatchController(reset.ReSET(0.1, 0.5))
    batch.step(entropy=[1.0, 1.0])
    assert batch.step(entropy=[1.0, 1.0], boundary=np.array([True, False])).boundary.tolist() == [True, False]


# ---- policies written in Python -------------------------------------------------------------------------------------------


class InPython(reset.Policy):
    """ReSET's rule in Python; the signal has all it needs."""

    def temperature(self, signal: policies.Signal) -> float:
        threshold = signal.step_entropy if signal.uncertain else 0.5
        return 1.0 if signal.entropy >= threshold else 0.2


@dataclass(frozen=True)
class Windowed(reset.Policy):
    window: int = 4
    include_current: bool = True

    def temperature(self, signal: policies.Signal) -> float:
        return signal.step_entropy


class Counting(reset.Policy):
    def __init__(self) -> None:
        self.calls = 0

    def temperature(self, signal: policies.Signal) -> float:
        self.calls += 1
        return float(self.calls)

    def reset(self) -> None:
        self.calls = 0


def test_a_python_policy_sees_what_the_built_in_one_does() -> None:
    rng = np.random.default_rng(2)
    entropies, tokens = rng.exponential(0.6, 300), rng.choice([1, 3, 5], 300)
    built_in = run(reset.Controller(reset.ReSET(0.2, 0.5), NEWLINE, DOUBLE), entropies, tokens)
    in_python = run(reset.Controller(InPython(), NEWLINE, DOUBLE), entropies, tokens)
    for a, b in zip(built_in, in_python, strict=True):
        assert math.isnan(b.pop("threshold"))
        del a["threshold"]
        assert a == b


def test_a_python_policy_chooses_its_window() -> None:
    entropies = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    expected = reference.reset_trace(entropies, [False] * 6, t_low=0, tau_0=0, window=4, include_current=True)
    controller = reset.Controller(Windowed())
    assert [controller.step(entropy=h).temperature for h in entropies] == [r["step_entropy"] for r in expected]
    with pytest.raises(ValueError, match="window = 0"):
        reset.Controller(Windowed(window=0))


def test_each_sequence_has_its_own_copy_of_a_python_policy() -> None:
    policy = Counting()
    batch = reset.BatchController(policy)
    for expected in (1.0, 2.0):
        assert batch.step(entropy=[1.0, 1.0]).temperature.tolist() == [expected] * 2
    snapshot = batch.snapshot([1])
    batch.reset([0])
    assert batch.step(entropy=[1.0, 1.0]).temperature.tolist() == [1.0, 3.0]
    batch.restore(pickle.loads(pickle.dumps(snapshot)), [1])
    assert batch.step(entropy=[1.0, 1.0]).temperature.tolist() == [2.0, 3.0]
    assert policy.calls == 0
    with pytest.raises(ValueError, match="another class"):
        reset.Controller(reset.Greedy()).restore(snapshot[0])


def test_what_a_python_policy_raises_comes_through() -> None:
    class Failing(reset.Policy):
        def temperature(self, signal: policies.Signal) -> float:
            raise KeyError("mine")

    class Wrong(reset.Policy):
        def __init__(self, value: Any) -> None:
            self.value = value

        def temperature(self, signal: policies.Signal) -> float:
            return self.value  # type: ignore[no-any-return]

    controller = reset.Controller(Failing())
    with pytest.raises(KeyError, match="mine"):
        controller.step(entropy=1.0)
    assert controller.position == 0
    for value, error in ((math.nan, ValueError), (-1.0, ValueError), ("warm", TypeError), (None, TypeError)):
        with pytest.raises(error, match=r"Wrong\.temperature returned"):
            reset.Controller(Wrong(value)).step(entropy=1.0)
    with pytest.raises(NotImplementedError, match="Policy has to define"):
        reset.Controller(reset.Policy()).step(entropy=1.0)


def test_built_in_policies_answer_a_signal_directly() -> None:
    signal = policies.Signal(entropy=1.0, step_entropy=2.0, global_mean=1.5)
    assert reset.ReSET(0.2, 0.5).temperature(signal) == 0.2
    assert reset.EntropyThreshold(0.2, 0.5).temperature(signal) == 1.0
    assert eval(repr(signal), {"Signal": policies.Signal}) == signal
