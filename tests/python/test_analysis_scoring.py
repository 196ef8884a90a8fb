"""Teacher-forced scores: equal to plain arithmetic on the logits, to the traces of the core, and to the sampler."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import reset
from reset.analysis import Rule, Text, Texts, score, temperatures
from reset.analysis.distributions import divergence, log_softmax, logprob_at, statistics

if TYPE_CHECKING:
    from pathlib import Path

RESET = reset.ReSET(t_low=0.3, tau_0=2.0)


@pytest.fixture(scope="module")
def model(arithmetic_model: Path) -> reset.Model:
    return reset.load(arithmetic_model)


@pytest.fixture(scope="module")
def quantized(arithmetic_model: Path) -> reset.Model:
    return reset.load(arithmetic_model, weights="nvfp4", activations="nvfp4")


def some_texts(count: int = 5, seed: int = 0) -> Texts:
    """Random ids, a fifth of them 379, ".\\n\\n": steps end often."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        response = np.where(rng.random(9 + i) < 0.2, 379, rng.integers(0, 384, 9 + i))
        made.append(Text(f"p{i // 2}", rng.integers(0, 384, 3 + i).tolist(), response.tolist()))
    return Texts(made)


def softmax(row: Any) -> list[float]:
    top = max(float(x) for x in row)
    mass = [math.exp(float(x) - top) for x in row]
    return [m / math.fsum(mass) for m in mass]


def test_statistics_are_those_of_the_softmax() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (40, 17)).astype(np.float32)
    logits[3, 5] = -np.inf
    logits[7] = 0.0  # all equal
    ids = rng.integers(0, 17, 40)
    ids[3] = 4
    found = statistics(logits, ids)
    for t in range(40):
        p = softmax(logits[t])
        assert found["entropy"][t] == pytest.approx(-math.fsum(x * math.log(x) for x in p if x > 0), rel=1e-6)
        assert found["logprob"][t] == pytest.approx(math.log(p[ids[t]]), rel=1e-9, abs=1e-12)
        assert found["rank"][t] == sum(x > p[ids[t]] for x in p)
        best = max(float(logits[t, i]) for i in range(17) if i != ids[t])
        assert found["margin"][t] == float(logits[t, ids[t]]) - best
        assert found["top"][t] == p.index(max(p))
    assert found["margin"][7] == 0


@pytest.mark.parametrize("filters", [{}, {"top_k": 4}, {"top_p": 0.7}, {"min_p": 0.1}, {"top_k": 6, "top_p": 0.8, "min_p": 0.05}])
def test_probabilities_of_rules_are_those_of_the_sampler(filters: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (30, 12)).astype(np.float32)
    banned = [3, 7]
    for temperature in (0.3, 1.0, 1.7):
        drawn = [reset.sampling.draw(row, temperature, seed=5, stream=t, banned=banned, **filters) for t, row in enumerate(logits)]
        ids = np.array([d.token for d in drawn])
        found = logprob_at(logits, ids, np.full(30, temperature), banned=banned, **filters)
        np.testing.assert_allclose(found, [d.sampling_logprob for d in drawn], rtol=1e-5, atol=1e-6)
        total = sum(np.exp(logprob_at(logits, np.full(30, i), np.full(30, temperature), banned=banned, **filters)) for i in range(12))
        np.testing.assert_allclose(total, 1.0, rtol=1e-12)  # type: ignore[arg-type]
        assert (logprob_at(logits, np.full(30, 3), np.full(30, temperature), banned=banned, **filters) == -np.inf).all()


def test_greedy_is_certain_of_the_most_probable_token() -> None:
    logits = np.array([[0, 2, 1], [5, 5, 0]], np.float32)
    zero = np.zeros(2)
    assert logprob_at(logits, np.array([1, 0]), zero).tolist() == [0, 0]
    assert logprob_at(logits, np.array([0, 1]), zero).tolist() == [-np.inf, -np.inf]
    assert logprob_at(logits, np.array([2, 1]), zero, banned=[1]).tolist() == [0.0, -np.inf]
    mixed = logprob_at(logits, np.array([1, 1]), np.array([0.0, 1.0]), top_p=0.9)
    assert mixed[0] == 0
    assert mixed[1] == pytest.approx(math.log(0.5))


def test_the_divergence_is_a_sum_over_the_vocabulary() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 2, (2, 20, 9)).astype(np.float32)
    a[0, 1] = b[1, 2] = -np.inf
    found = divergence(log_softmax(a), log_softmax(b))
    for t in range(20):
        p, q = softmax(a[t]), softmax(b[t])
        wanted = math.inf if t == 1 else math.fsum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 0)
        assert found[t] == pytest.approx(wanted, rel=1e-9)
    assert (divergence(log_softmax(a), log_softmax(a)) == 0).all()


def test_scores_are_the_traces_of_the_core(model: reset.Model) -> None:
    texts = some_texts()
    scores = score(model, texts, rules={"reset": RESET, "threshold": reset.EntropyThreshold(0.3, 2.0), "T=0.7": 0.7})
    assert scores.texts is texts
    assert len(scores) == texts.tokens
    for rule, policy in {"reset": RESET, "threshold": reset.EntropyThreshold(0.3, 2.0), "T=0.7": reset.FixedTemperature(0.7)}.items():
        for index, text in enumerate(texts):
            trace = reset.score_trace(model, [*text.prompt_ids, *text.response_ids], prompt_length=len(text.prompt_ids), policy=policy)
            here = slice(texts.offsets[index], texts.offsets[index + 1])
            np.testing.assert_array_equal(scores.entropy[here], trace.entropy)
            np.testing.assert_array_equal(scores.temperature[rule][here], trace.temperature)
            np.testing.assert_allclose(scores.logprob[here], trace.logprob, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(scores.rule_logprob[rule][here], trace.sampling_logprob, rtol=1e-5, atol=1e-5)
    assert len(set(scores.temperature["reset"].tolist())) == 2


def test_steps_of_the_text_reach_the_policy(model: reset.Model) -> None:
    rng = np.random.default_rng(6)
    response = np.where(np.arange(240) % 17 == 5, 379, rng.integers(0, 300, 240)).tolist()
    text = Text("p", [5, 6, 7], response)
    entropies = score(model, Texts([text])).entropy
    policy = reset.ReSET(t_low=0.3, tau_0=float(np.quantile(entropies, 0.6)), window=8)
    found = score(model, Texts([text]), rules={"reset": policy}).temperature["reset"]
    trace = reset.score_trace(model, [*text.prompt_ids, *response], prompt_length=3, policy=policy)
    np.testing.assert_array_equal(found, trace.temperature)
    assert trace.boundary.sum() == 14
    blind = reset.Controller(policy, *model.step_boundaries())
    assert [blind.step(entropy=float(e)).temperature for e in entropies] != found.tolist()


def test_a_policy_in_python_is_a_rule_too(model: reset.Model) -> None:
    class Half(reset.Policy):
        def temperature(self, signal: Any) -> float:
            return 0.5 if signal.entropy > 2 else 1.5

    scores = score(model, some_texts(2), rules={"half": Half()})
    np.testing.assert_array_equal(scores.temperature["half"], np.where(scores.entropy > 2, 0.5, 1.5))


def test_rows_predict_the_token_after_them(model: reset.Model) -> None:
    text = some_texts(1)[0]
    scores = score(model, Texts([text]))
    ids = [*text.prompt_ids, *text.response_ids]
    for t in range(len(text.response_ids)):
        p = softmax(model.logits(ids[: len(text.prompt_ids) + t])[-1])
        assert scores.logprob[t] == pytest.approx(math.log(p[text.response_ids[t]]), rel=1e-5)
    np.testing.assert_allclose(scores.overconfidence, -scores.logprob - scores.entropy)
    np.testing.assert_array_equal(scores.surprisal, -scores.logprob)


def test_a_reference_gives_divergences_in_both_directions(model: reset.Model, quantized: reset.Model) -> None:
    texts = some_texts(2)
    scores = score(quantized, texts, reference=model)
    text = texts[1]
    ids = [*text.prompt_ids, *text.response_ids[:-1]]
    a, b = (m.logits(ids)[len(text.prompt_ids) - 1 :] for m in (model, quantized))
    here = slice(texts.offsets[1], None)
    for t, (one, other) in enumerate(zip(a, b, strict=True)):
        p, q = softmax(one), softmax(other)
        forward = math.fsum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
        assert scores.divergence_from_reference is not None
        assert scores.divergence_to_reference is not None
        assert scores.divergence_from_reference[here][t] == pytest.approx(forward, rel=1e-5)
        backward = math.fsum(y * math.log(y / x) for x, y in zip(p, q, strict=True))
        assert scores.divergence_to_reference[here][t] == pytest.approx(backward, rel=1e-5)
    assert score(quantized, texts).divergence_from_reference is None


def test_an_interrupted_run_goes_on_and_scores_nothing_twice(model: reset.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reset.analysis.scoring.CHUNK", 2)
    texts, rules = some_texts(7), {**temperatures(0, 0.5), "reset": Rule(RESET, top_p=0.9)}
    whole = score(model, texts, rules=rules)
    calls: list[int] = []
    real = reset.Model.logits

    def counted(self: reset.Model, ids: Any) -> Any:
        calls.append(len(ids))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, ids)

    monkeypatch.setattr(reset.Model, "logits", counted)
    with pytest.raises(KeyboardInterrupt):
        score(model, texts, rules=rules, cache=tmp_path / "cache")
    found = score(model, texts, rules=rules, cache=tmp_path / "cache")
    assert len(calls) == 6 + 3  # four texts were finished, the fifth was interrupted in the sixth call's chunk
    again = score(model, texts, rules=rules, cache=tmp_path / "cache")
    assert len(calls) == 9
    for got in (found, again):
        for name in ("entropy", "logprob", "rank", "margin", "top"):
            np.testing.assert_array_equal(getattr(got, name), getattr(whole, name))
        for rule in rules:
            np.testing.assert_array_equal(got.rule_logprob[rule], whole.rule_logprob[rule])
            np.testing.assert_array_equal(got.temperature[rule], whole.temperature[rule])
    assert not list((tmp_path / "cache").glob(".*"))
    # A longer list begins where the shorter ended.
    more = Texts([*texts[:6], *some_texts(3, seed=9)])
    score(model, more, rules=rules, cache=tmp_path / "cache")
    assert len(calls) == 9 + 3


def test_a_cache_is_never_shared_by_what_differs(model: reset.Model, quantized: reset.Model, tmp_path: Path) -> None:
    texts = some_texts(2)
    runs = [
        lambda: score(model, texts, cache=tmp_path), lambda: score(quantized, texts, cache=tmp_path),
        lambda: score(model, texts, cache=tmp_path, rules={"a": 0.5}), lambda: score(model, texts, cache=tmp_path, rules={"a": 0.6}),
        lambda: score(model, texts, cache=tmp_path, rules={"a": Rule(reset.FixedTemperature(0.5), top_p=0.9)}),
        lambda: score(model, texts, cache=tmp_path, reference=quantized), lambda: score(quantized, texts, cache=tmp_path, reference=model),
        lambda: score(model, texts[:1], cache=tmp_path),
    ]  # fmt: skip
    for number, run in enumerate(runs, 1):
        run()
        run()
        assert len(list(tmp_path.glob("*.npz"))) == number


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        (Texts([Text("long", [1], [1] * 1100)]), "1024 positions"),
        (Texts([Text("wide", [1], [1, 400])]), "token id 400"),
    ],
)
def test_texts_that_the_model_cannot_read_are_refused(model: reset.Model, texts: Texts, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        score(model, texts)


def test_the_last_position_of_the_context_can_be_scored(model: reset.Model) -> None:
    assert len(score(model, Texts([Text("full", [1], [1] * 1024)]))) == 1024


def test_rules_that_make_no_sense_are_refused(model: reset.Model) -> None:
    with pytest.raises(TypeError, match="rule 'x'"):
        score(model, some_texts(1), rules={"x": "hot"})  # type: ignore[dict-item]


def test_other_vocabularies_have_no_divergence(model: reset.Model, monkeypatch: pytest.MonkeyPatch, demo_nvfp4: Path) -> None:
    other = reset.load(demo_nvfp4)
    monkeypatch.setattr(reset.Model, "vocab_size", property(lambda self: 384 if self is model else 500))
    with pytest.raises(ValueError, match="different vocabularies"):
        score(model, some_texts(1), reference=other)


def test_identities_are_json(model: reset.Model) -> None:
    json.dumps(dict(score(model, some_texts(1)).model))
