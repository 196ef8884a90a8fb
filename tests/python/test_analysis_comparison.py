"""Differences by class, classes by entropy, the probability of right digits: against hand-made cases, scipy, and simulations."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

import reset
from reset.analysis import (
    Scores,
    Text,
    Texts,
    class_shifts,
    clustered_mean_of,
    entropy_bins,
    entropy_shifts,
    gold_texts,
    positions,
    result_digits,
    score,
    temperatures,
)
from reset.analysis.comparison import student_quantile
from reset.analysis.digits import digit_shift
from reset.tasks.arithmetic import Arithmetic
from reset.tasks.arithmetic.computing import is_hard

if TYPE_CHECKING:
    from pathlib import Path


def made(texts: Texts, entropy: Any, logprob: Any = None, rank: Any = None, top: Any = None, name: str = "a", **more: Any) -> Scores:
    n = texts.tokens
    values = np.asarray(entropy, np.float64)
    return Scores(
        name, texts, {}, values, -values if logprob is None else np.asarray(logprob, np.float64),
        np.zeros(n, np.int64) if rank is None else np.asarray(rank), np.zeros(n), np.zeros(n, np.int64) if top is None else np.asarray(top),
        **more,
    )  # fmt: skip


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_students_quantile_is_scipys(level: float) -> None:
    for degrees in (*range(1, 40), 99, 100, 1001, 9999):
        assert student_quantile(level, degrees) == pytest.approx(stats.t.ppf(0.5 + level / 2, degrees), rel=1e-9), degrees


def test_equal_clusters_give_the_t_interval_of_their_means() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(2, 1, (12, 5)) + rng.normal(0, 3, (12, 1))
    found = clustered_mean_of(values.ravel(), np.repeat(np.arange(12), 5))
    means = values.mean(1)
    low, high = stats.t.interval(0.95, 11, means.mean(), stats.sem(means))
    assert found == pytest.approx((means.mean(), low, high, 60, 12))


def test_unequal_clusters_weigh_every_value_alike() -> None:
    found = clustered_mean_of([1.0, 2.0, 3.0, 10.0], [7, 7, 7, -1])
    assert found.mean == 4
    # Residual sums: 6 − 3·4 and 10 − 4; var = 2/1 · (36 + 36) / 16.
    half = stats.t.ppf(0.975, 1) * math.sqrt(2 * 72 / 16)
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half))
    one = clustered_mean_of([1.0, 3.0], [4, 4])
    assert (one.mean, one.values, one.clusters) == (2, 2, 1)
    assert math.isnan(one.low)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """600 simulated studies of 40 problems with unequal numbers of positions and effects of problems; naive intervals cover about half."""
    rng = np.random.default_rng(1)
    covered = naive = 0
    for _ in range(600):
        sizes = rng.integers(1, 40, 40)
        clusters = np.repeat(np.arange(40), sizes)
        values = 0.3 + rng.normal(0, 0.5, 40)[clusters] + rng.normal(0, 1, len(clusters))
        found = clustered_mean_of(values, clusters)
        covered += found.low <= 0.3 <= found.high
        naive += abs(values.mean() - 0.3) <= 1.96 * values.std() / math.sqrt(len(values))
    assert 0.92 <= covered / 600 <= 0.975
    assert naive / 600 < 0.75


@pytest.mark.parametrize(
    ("values", "clusters", "match"), [([], [], "at least 1"), ([1.0], [1, 2], "shape"), ([1.0, math.inf], [1, 2], "finite")]
)
def test_means_of_nothing_are_refused(values: Any, clusters: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        clustered_mean_of(values, clusters)


TEXTS = Texts([Text("p", [1], [5, 6, 7]), Text("q", [1], [5, 6]), Text("p", [1], [8])])


def test_shifts_of_a_hand_made_case() -> None:
    a = made(TEXTS, [1, 2, 3, 4, 5, 6], logprob=[-2, -2, -2, -2, -2, -2], rank=[0, 1, 0, 0, 2, 0], top=[1, 2, 3, 4, 5, 6])
    b = made(
        TEXTS, [2, 2, 3, 4, 7, 6], logprob=[-1, -2, -2, -2, -3, -2], rank=[1, 0, 0, 0, 2, 0], top=[9, 9, 3, 4, 5, 6], name="b",
        divergence_from_reference=np.array([0.5, 0, 0, 0, 1.5, 0]),
    )  # fmt: skip
    group = np.array([True, True, False, False, True, False])
    (row,) = class_shifts(a, b, {"some": group, "none": np.zeros(6, bool)})
    assert (row["group"], row["positions"], row["problems"]) == ("some", 3, 2)
    assert (row["entropy_a"], row["entropy_b"], row["entropy_shift"]) == pytest.approx((8 / 3, 11 / 3, 1))
    found = clustered_mean_of([1, 0, 2], [0, 0, 1])
    assert (row["entropy_low"], row["entropy_high"]) == (found.low, found.high)
    assert row["entropy_p"] == reset.statistics.sign_flip([1, 2]) == 0.5
    assert (row["surprisal_a"], row["surprisal_b"], row["surprisal_shift"]) == pytest.approx((2, 2, 0))
    assert row["overconfidence_a"] == pytest.approx(2 - 8 / 3)
    assert row["overconfidence_b"] == pytest.approx(2 - 11 / 3)
    assert row["overconfidence_shift"] == pytest.approx(-1)
    assert (row["wrong_a"], row["wrong_b"]) == pytest.approx((2 / 3, 2 / 3))
    assert row["flips"] == pytest.approx(2 / 3)
    assert row["divergence"] == pytest.approx(2 / 3)
    assert class_shifts(a, a, {"all": np.ones(6, bool)}, test=False)[0]["entropy_p"] is None
    assert class_shifts(b, a, {"all": np.ones(6, bool)}, test=False)[0]["divergence"] is None


def test_texts_of_one_problem_are_one_cluster() -> None:
    a, b = made(TEXTS, [0.0] * 6), made(TEXTS, [1, 1, 1, 0, 0, 9.0])
    (row,) = class_shifts(a, b, {"all": np.ones(6, bool)}, test=False)
    assert row["problems"] == 2
    assert row["entropy_low"] == clustered_mean_of([1, 1, 1, 0, 0, 9], [0, 0, 0, 1, 1, 0]).low


def test_other_texts_are_not_compared() -> None:
    other = Texts([*TEXTS[:2], Text("p", [1], [9])])
    with pytest.raises(ValueError, match="different texts"):
        class_shifts(made(TEXTS, [0.0] * 6), made(other, [0.0] * 6), {"all": np.ones(6, bool)})
    with pytest.raises(ValueError, match="6 positions"):
        class_shifts(made(TEXTS, [0.0] * 6), made(TEXTS, [0.0] * 6), {"all": np.ones(5, bool)})


def noisy_arms(spread: float = 0.2) -> tuple[Scores, Scores]:
    """Two arms that do not differ: the same true entropies, each with noise of its own."""
    rng = np.random.default_rng(4)
    texts = Texts(Text(f"p{i}", [1], [1] * 100) for i in range(300))
    h = rng.exponential(0.5, texts.tokens)
    return made(texts, h + rng.normal(0, 0.2, h.size)), made(texts, h + rng.normal(0, spread, h.size), name="b")


def test_choosing_by_one_arm_makes_a_difference_out_of_noise_and_the_mean_does_not() -> None:
    a, b = noisy_arms()
    groups = {"low": a.entropy <= np.quantile(a.entropy, 0.2), "high": a.entropy >= np.quantile(a.entropy, 0.8)}
    low, high = class_shifts(a, b, groups)
    assert low["entropy_low"] > 0.05
    assert high["entropy_high"] < -0.01
    assert low["entropy_p"] < 0.001
    assert high["entropy_p"] < 0.001
    rows = entropy_shifts(a, b, bins=5)
    assert len(rows) == 5
    assert all(abs(row["entropy_shift"]) < 0.015 for row in rows)
    assert sum(row["entropy_low"] > 0 or row["entropy_high"] < 0 for row in rows) <= 1


def test_an_arm_that_scatters_more_fans_out_even_by_the_mean() -> None:
    """The limit that the documentation states: cov(b − a, a + b) = var b − var a."""
    a, b = noisy_arms(spread=0.6)
    rows = entropy_shifts(a, b, bins=5, test=False)
    assert rows[0]["entropy_shift"] < -0.1
    assert rows[-1]["entropy_shift"] > 0.1
    slope = np.cov(b.entropy - a.entropy, (a.entropy + b.entropy) / 2)[0, 1]
    assert slope == pytest.approx((b.entropy.var() - a.entropy.var()) / 2, rel=1e-3)


def test_bins_divide_the_positions() -> None:
    a, b = noisy_arms()
    for bins in (entropy_bins(a, b), entropy_bins(a, b, bins=1), entropy_bins(a, b, edges=[0.1, 1])):
        assert (np.sum(list(bins.values()), axis=0) == 1).all()
    assert [int(mask.sum()) for mask in entropy_bins(a, b).values()] == [3000] * 10
    mean = (a.entropy + b.entropy) / 2
    middle = list(entropy_bins(a, b, edges=[0.1, 1]).values())[1]
    np.testing.assert_array_equal(middle, (mean >= 0.1) & (mean < 1))
    ties = made(TEXTS, [0.0, 0, 0, 0, 1, 2])
    assert [int(mask.sum()) for mask in entropy_bins(ties, ties, bins=4).values()][-1] == 2
    for wrong in ({"bins": 0}, {"edges": [1, 1]}, {"edges": [1, math.nan]}):
        with pytest.raises(ValueError, match="not possible"):
            entropy_bins(a, b, **wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def models(arithmetic_model: Path) -> tuple[reset.Model, reset.Model]:
    return reset.load(arithmetic_model), reset.load(arithmetic_model, weights="nvfp4", activations="nvfp4")


def test_right_digits_are_a_product_over_the_results(models: tuple[reset.Model, reset.Model]) -> None:
    """The oracle reads the equations with a regular expression and the distributions with loops of its own."""
    model = models[0]
    assert model.tokenizer is not None
    texts = gold_texts(model, Arithmetic(level=2), split="tune", limit=3, per_problem=2, prompt="plain")
    rules = {**temperatures(0, 0.7), "reset": reset.ReSET(0.3, 2.0)}
    scores = score(model, texts, rules=rules, name="demo")
    rows = {row["rule"]: row for row in result_digits(scores, positions(texts, model.tokenizer))}
    assert list(rows) == ["T=0", "T=0.7", "reset"]
    wholes: dict[str, list[float]] = {name: [] for name in rules}
    by_equation: dict[str, list[float]] = {name: [] for name in rules}
    hard: dict[str, list[float]] = {name: [] for name in rules}
    digits = 0
    for index, text in enumerate(texts):
        pieces = [model.tokenizer.decode([i]) for i in text.response_ids]
        starts = np.cumsum([0, *map(len, pieces)])
        logits = model.logits([*text.prompt_ids, *text.response_ids[:-1]])[len(text.prompt_ids) - 1 :].astype(np.float64)
        for name in rules:
            temperature = scores.temperature[name][texts.offsets[index] : texts.offsets[index + 1]]
            whole = 1.0
            for match in re.finditer(r"(\d+)([-+*/])(\d+)=(\d+)", "".join(pieces)):
                product = 1.0
                for i in np.flatnonzero((starts[:-1] >= match.start(4)) & (starts[1:] <= match.end(4))):
                    if temperature[i] == 0:
                        product *= float(logits[i].argmax() == text.response_ids[i])
                    else:
                        p = np.exp((logits[i] - logits[i].max()) / temperature[i])
                        product *= p[text.response_ids[i]] / p.sum()
                    digits += name == "reset"
                by_equation[name].append(product)
                if is_hard(match.group(2), int(match.group(1)), int(match.group(3))):
                    hard[name].append(product)
                whole *= product
            wholes[name].append(whole)
    for name, row in rows.items():
        assert row["trace"] == pytest.approx(np.mean(wholes[name]), rel=1e-4, abs=0)
        assert row["equation"] == pytest.approx(np.mean(by_equation[name]), rel=1e-4, abs=0)
        assert row["hard"] == pytest.approx(np.mean(hard[name]), rel=1e-4, abs=0)
        assert (row["digits"], row["equations"], row["traces"]) == (digits, len(by_equation[name]), 6)
        assert 0 <= row["trace_low"] <= row["trace"] <= row["trace_high"] <= 1
    assert rows["T=0.7"]["temperature"] == pytest.approx(0.7)
    assert rows["T=0"]["temperature"] == 0


def test_the_shift_of_right_digits_pairs_traces(models: tuple[reset.Model, reset.Model]) -> None:
    model, quantized = models
    assert model.tokenizer is not None
    texts = gold_texts(model, Arithmetic(level=1), split="tune", limit=4, forks=False)
    where = positions(texts, model.tokenizer)
    a, b = (score(m, texts, rules=temperatures(2.0)) for m in (model, quantized))
    (row_a,), (row_b,) = result_digits(a, where), result_digits(b, where)
    found = digit_shift(a, b, where, "T=2")
    assert found["shift"] == pytest.approx(row_b["trace"] - row_a["trace"])
    assert found["shift_low"] < found["shift"] < found["shift_high"]
    assert digit_shift(a, a, where, "T=2") == {"shift": 0, "shift_low": 0, "shift_high": 0}


def test_digits_need_rules_equations_and_their_own_positions(models: tuple[reset.Model, reset.Model]) -> None:
    model = models[0]
    assert model.tokenizer is not None
    texts = Texts([Text("p", [1], model.tokenizer.encode("no numbers")), Text("q", [1], model.tokenizer.encode("1+1=3"))])
    where = positions(texts, model.tokenizer)
    with pytest.raises(ValueError, match="without rules"):
        result_digits(score(model, texts), where)
    with pytest.raises(ValueError, match="no digit of a true equation"):
        result_digits(score(model, texts, rules={"T=1": 1.0}), where)
    with pytest.raises(ValueError, match="same texts"):
        result_digits(score(model, texts[:1], rules={"T=1": 1.0}), where)
