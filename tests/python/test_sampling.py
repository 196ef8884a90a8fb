"""The draw against its numpy restatement, and against the probabilities it should have."""

from __future__ import annotations

import math
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reference import sampler as reference
from reset import sampling


def test_the_restated_philox_gives_the_published_known_answers() -> None:
    counter = np.array([[0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]], np.uint64)
    assert reference.philox4x32_10(counter, (0xA4093822, 0x299F31D0))[0].tolist() == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


KEYS = [(0, 0, 0), (1, 2, 3), (2**64 - 1, 2**64 - 1, 2**32 - 1), (0xDEADBEEF << 20, 1 << 40, 9)]


@pytest.mark.parametrize(("seed", "stream", "position"), KEYS)
def test_exponentials_equal_the_restatement(seed: int, stream: int, position: int) -> None:
    got = sampling.exponentials(seed, stream, position, 4099)
    np.testing.assert_allclose(got, reference.exponentials(seed, stream, position, 4099), rtol=1e-15)


def test_exponentials_are_exponential_and_independent() -> None:
    draws = {key: sampling.exponentials(*key, 20_000) for key in ((1, 2, 3), (1, 2, 4), (1, 3, 3), (2, 2, 3))}
    for values in draws.values():
        assert stats.kstest(values, "expon").pvalue > 1e-4
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03  # neighbouring ids; standard error 0.007
    base = draws[1, 2, 3]
    for key, values in draws.items():
        if key != (1, 2, 3):  # neighbouring positions, streams, seeds
            assert abs(np.corrcoef(base, values)[0, 1]) < 0.03


def test_streams_are_fnv_1a_of_the_stated_bytes() -> None:
    ids = [5, 0, 2**32 - 1]
    data = b"generate" + struct.pack("<Q3IQ", 3, *ids, 7)
    assert sampling.stream_of_generate(ids, 7) == reference.fnv1a(data)
    task, problem = "gsm8k", "prüfung/1"
    encoded = problem.encode()
    data = b"evaluate" + struct.pack("<Q", 5) + b"gsm8k" + struct.pack("<Q", len(encoded)) + encoded + struct.pack("<Q", 2)
    assert sampling.stream_of_evaluate(task, problem, 2) == reference.fnv1a(data)


FILTERS = st.fixed_dictionaries(
    {
        "top_k": st.none() | st.integers(1, 60),
        "top_p": st.none() | st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.95, 0.999, 1.0]),
        "min_p": st.none() | st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    }
)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 3000),
    st.sampled_from([0.01, 1.0, 4.0, 30.0]),
    st.sampled_from([0.0, 0.1, 0.6, 1.0, 2.5]),
    FILTERS,
)
def test_any_draw_equals_the_restatement(seed: int, vocab: int, spread: float, temperature: float, filters: dict[str, Any]) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, vocab).astype(np.float32)
    if seed % 3 == 0:
        logits = np.round(logits * 2) / 2  # ties
    logits[rng.random(vocab) < 0.2] = -np.inf
    logits[rng.integers(vocab)] = 0.0
    banned = np.flatnonzero(rng.random(vocab) < 0.1).tolist() if seed % 2 else []
    if not np.isfinite(np.delete(logits, banned)).any():
        banned = []
    got = sampling.draw(logits, temperature, seed=seed, stream=seed * 77, position=seed % 1000, banned=banned, **filters)
    expected = reference.draw(logits, temperature, seed, seed * 77, seed % 1000, banned=banned, **filters)
    assert got.token == expected[0]
    assert got.logprob == pytest.approx(expected[1], rel=1e-6, abs=1e-6)
    assert got.sampling_logprob == pytest.approx(expected[2], rel=1e-6, abs=2e-6)


@pytest.mark.parametrize("spread", [0.3, 1.5, 6.0])
@pytest.mark.parametrize("filters", [{}, {"top_p": 0.95}, {"top_k": 3000, "top_p": 0.9}, {"top_k": 20, "min_p": 0.05}])
def test_draws_over_a_whole_vocabulary_equal_the_restatement(spread: float, filters: dict[str, Any]) -> None:
    rng = np.random.default_rng(int(spread * 10))
    logits = rng.normal(0, spread, 151_936).astype(np.float32)
    logits[rng.integers(logits.size, size=500)] = -np.inf
    banned = [*range(2040, 2060), int(logits.argmax()), *range(151_669, 151_936)]
    got = sampling.draw(logits, 0.6, seed=5, stream=7, position=3, banned=banned, **filters)
    expected = reference.draw(logits, 0.6, 5, 7, 3, banned=banned, **filters)
    assert got.token == expected[0]
    assert (got.logprob, got.sampling_logprob) == pytest.approx(expected[1:], rel=1e-6, abs=2e-6)


def possible(logits: Any, draws: int = 4000, **options: Any) -> dict[int, int]:
    """How often each id is drawn over many positions."""
    tokens = [sampling.draw(logits, position=i, seed=11, stream=5, **options).token for i in range(draws)]
    ids, counts = np.unique(tokens, return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("filters", [{}, {"top_k": 4}, {"top_p": 0.8}, {"min_p": 0.2}, {"top_k": 6, "top_p": 0.9, "min_p": 0.05}])
def test_ids_come_with_their_probabilities(temperature: float, filters: dict[str, Any]) -> None:
    logits = np.array([0.3, -1.0, 1.2, 0.0, 0.9, -0.4, 0.2, -2.0], np.float32)
    keep = reference.kept(logits, temperature, **filters)
    weights = np.where(keep, np.exp(logits.astype(float) / temperature), 0)
    p = weights / weights.sum()
    counts = possible(logits, temperature=temperature, **filters)
    assert set(counts) <= set(np.flatnonzero(keep))
    observed = np.array([counts.get(i, 0) for i in np.flatnonzero(keep)])
    assert stats.chisquare(observed, 4000 * p[keep]).pvalue > 1e-4


def test_sampling_logprobs_are_those_of_the_filtered_distribution() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    seen = {}
    for position in range(200):
        d = sampling.draw(logits, top_k=3, position=position)
        seen[d.token] = (d.logprob, d.sampling_logprob)
    assert set(seen) == {0, 1, 2}
    for token, (raw, sampled) in seen.items():
        assert raw == pytest.approx(float(logits[token]), abs=1e-6)
        assert sampled == pytest.approx(float(logits[token]) - math.log(0.9), abs=1e-6)


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"top_k": 1}, {1}),
        ({"top_k": 2}, {1, 2, 3}),  # 2 and 3 tie
        ({"top_k": 3}, {1, 2, 3}),
        ({"top_k": 4}, {0, 1, 2, 3}),
        ({"top_k": 99}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.0}, {1}),
        ({"top_p": 0.39}, {1}),
        ({"top_p": 0.41}, {1, 2, 3}),  # reached inside the tie
        ({"top_p": 0.79}, {1, 2, 3}),
        ({"top_p": 0.9}, {0, 1, 2, 3}),
        ({"top_p": 1.0}, {0, 1, 2, 3, 4}),
        ({"min_p": 0.0}, {0, 1, 2, 3, 4}),
        ({"min_p": 0.2}, {0, 1, 2, 3}),
        ({"min_p": 0.49}, {1, 2, 3}),
        ({"min_p": 1.0}, {1}),
        ({"top_k": 2, "top_p": 0.51}, {1, 2, 3}),  # 0.4 of 0.8 is 0.5: the mass is taken over what top-k kept
        ({"top_k": 2, "top_p": 0.49}, {1}),
        ({"top_k": 1, "min_p": 0.01}, {1}),
    ],
)
def test_filters_keep_what_they_say(filters: dict[str, Any], kept: set[int]) -> None:
    logits = np.log(np.array([0.12, 0.4, 0.2, 0.2, 0.06, 0.0], np.float32), where=[True] * 5 + [False], out=np.full(6, -np.inf, np.float32))
    assert set(possible(logits, draws=400, temperature=1.0, **filters)) == kept
    assert set(np.flatnonzero(reference.kept(logits, 1.0, **filters))) == kept


def test_padding_and_banning_change_no_draw() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 777).astype(np.float32)
    padded = np.concatenate([logits, np.full(60, 30, np.float32)])
    masked = np.concatenate([logits, np.full(60, -np.inf, np.float32)])
    for position in range(60):
        options: dict[str, Any] = {"temperature": 0.9, "top_k": 100, "top_p": 0.9, "seed": 3, "stream": 4, "position": position}
        plain = sampling.draw(logits, **options)
        assert sampling.draw(masked, **options) == plain
        banned = sampling.draw(padded, banned=range(777, 837), **options)
        assert (banned.token, banned.sampling_logprob) == (plain.token, plain.sampling_logprob)
        assert banned.logprob < plain.logprob  # the raw distribution has the padding in it


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_short_floats_draw_like_their_values(dtype: Any) -> None:
    logits = np.random.default_rng(5).normal(0, 3, 1000).astype(dtype)
    for position in range(20):
        assert sampling.draw(logits, 0.7, position=position) == sampling.draw(logits.astype(np.float32), 0.7, position=position)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature = -1"),
        ({"temperature": math.nan}, "temperature = NaN"),
        ({"top_k": 0}, "top_k = 0"),
        ({"top_k": -5}, "top_k = -5"),
        ({"top_p": 1.5}, "top_p = 1.5"),
        ({"min_p": -0.1}, "min_p = -0.1"),
        ({"seed": -1}, "seed = -1"),
        ({"stream": 2**64}, "stream"),
        ({"position": 2**32}, "position"),
        ({"banned": [0, 1, 2]}, "banned"),
        ({"banned": [-1]}, "banned"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampling.draw(np.zeros(3, np.float32), **options)


def test_broken_logits_are_named() -> None:
    for logits, message in (
        (np.array([0, np.nan]), "logit 1 is NaN"),
        (np.array([np.inf, 0]), "logit 0 is inf"),
        (np.full(3, -np.inf), "all 3 logits"),
        (np.zeros(0), "logits are empty"),
        (np.zeros((2, 2)), r"expected \[vocab\]"),
    ):
        with pytest.raises(ValueError, match=message):
            sampling.draw(logits)


def test_listed_filters_are_the_options() -> None:
    assert list(sampling.FILTERS) == ["top_k", "top_p", "min_p"]


def test_filters_keep_what_the_warpers_of_transformers_keep() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(0)
    for _ in range(100):
        logits = rng.normal(0, 3, 500).astype(np.float32)
        temperature, top_k = float(rng.choice([0.3, 0.6, 1.0, 1.5])), int(rng.integers(1, 200))
        top_p, min_p = float(rng.uniform(0.1, 0.99)), float(rng.uniform(0.001, 0.3))
        scores = torch.tensor(logits)[None]
        for warper in (
            transformers.TemperatureLogitsWarper(temperature),
            transformers.TopKLogitsWarper(top_k),
            transformers.TopPLogitsWarper(top_p),
            transformers.MinPLogitsWarper(min_p),
        ):
            scores = warper(None, scores)
        theirs = torch.log_softmax(scores, -1)[0].numpy()
        drawn = sampling.draw(logits, temperature, top_k, top_p, min_p, seed=int(rng.integers(1 << 40)))
        assert drawn.sampling_logprob == pytest.approx(float(theirs[drawn.token]), abs=1e-5)
        assert np.array_equal(theirs > -np.inf, reference.kept(logits, temperature, top_k, top_p, min_p))


def test_the_timings_have_a_row_for_each_part() -> None:
    from reset import _core

    rows = _core.sampler_timings(5000, 3)
    names = [name for name, *_ in rows]
    assert names[:3] == ["entropy pass", "entropy pass, all threads", "policy step"]
    assert names[-2:] == [f"entropy, policy, top_p 0.95 and draw, {shape}, all threads" for shape in ("peaked", "flat")]
    assert all(0 < low <= median <= high for _, median, low, high in rows)
    with pytest.raises(ValueError, match="at least 1"):
        _core.sampler_timings(0, 3)
