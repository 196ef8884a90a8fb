"""Teacher-forced traces: equal to what generation recorded, and to a plain softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from random_checkpoint import PROMPT

import reset

if TYPE_CHECKING:
    from pathlib import Path

POLICY = reset.ReSET(t_low=0.3, tau_0=2.0)


@pytest.fixture(scope="module")
def model(demo_nvfp4: Path) -> reset.Model:
    return reset.load(demo_nvfp4)


def test_scoring_a_generation_gives_its_trace_back(model: reset.Model) -> None:
    g = reset.generate(model, PROMPT, policy=POLICY, max_new_tokens=80, seed=3)
    assert isinstance(g, reset.Generation)
    scored = reset.score_trace(model, g.prompt_token_ids + g.token_ids, prompt_length=len(g.prompt_token_ids), policy=POLICY)
    for name in ("token_id", "logprob", "entropy", "step_entropy", "global_mean", "threshold", "temperature", "step_index", "boundary"):
        np.testing.assert_array_equal(getattr(scored, name), getattr(g.trace, name), err_msg=name)
    np.testing.assert_allclose(scored.sampling_logprob, g.trace.sampling_logprob, rtol=1e-5, atol=1e-5)


def test_without_a_policy_the_temperature_is_one(model: reset.Model) -> None:
    trace = reset.score_trace(model, [5, 6, 7, 8])
    logits = model.logits([5, 6, 7]).astype(np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(trace.logprob, np.log(p[[0, 1, 2], [6, 7, 8]]), rtol=1e-5)
    np.testing.assert_allclose(trace.sampling_logprob, trace.logprob, rtol=1e-5)
    np.testing.assert_allclose(trace.entropy, -(p * np.log(p)).sum(1), rtol=1e-5)
    assert np.all(trace.temperature == 1)


def test_a_greedy_policy_gives_certainty_or_none(model: reset.Model) -> None:
    trace = reset.score_trace(model, [5, 6, 7, 8], policy=reset.Greedy())
    assert set(trace.sampling_logprob.tolist()) <= {0.0, -np.inf}


@pytest.mark.parametrize(
    ("ids", "prompt_length", "match"), [([5], 1, "prompt_length"), ([5, 6], 0, "prompt_length"), ([5, 10**6], 1, "token_ids")]
)
def test_requests_that_make_no_sense_are_refused(model: reset.Model, ids: list[int], prompt_length: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        reset.score_trace(model, ids, prompt_length=prompt_length)
