"""Estimates and intervals of one arm, against enumeration and scipy."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reset.statistics import average, clustered_mean, interaction, majority_at, mcnemar, pass_at, power, wilson

Votes = list[tuple["str | None", bool]]

CORRECT = {"a": True, "b": False, "c": False, "d": True}  # two different texts may both be right
votes_of_a_problem = st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=1, max_size=8).map(
    lambda answers: [(answer, answer is not None and CORRECT[answer]) for answer in answers]
)


def majority_by_enumeration(votes: Votes, k: int) -> Fraction:
    """The definition: every choice of k samples, ties score their mean, abstentions do not vote."""
    scores = []
    for chosen in itertools.combinations(votes, k):
        tally = Counter(answer for answer, _ in chosen if answer is not None)
        winners = [answer for answer, count in tally.items() if count == max(tally.values())]
        scores.append(Fraction(sum(CORRECT[answer] for answer in winners), len(winners)) if winners else Fraction(0))
    return sum(scores, Fraction(0)) / len(scores)


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n), st.integers(1, n))))
def test_pass_at_is_the_share_of_draws_with_a_correct_sample(case: tuple[int, int, int]) -> None:
    correct, n, k = case
    draws = list(itertools.combinations([True] * correct + [False] * (n - correct), k))
    assert pass_at([correct], [n], k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


def test_pass_at_does_not_overflow() -> None:
    # 1 − C(9 000, 5 000) / C(10 000, 5 000), from log-gammas
    assert pass_at([3], [10_000], 5_000) == pytest.approx(1 - stats.hypergeom.pmf(0, 10_000, 3, 5_000), rel=1e-9)
    assert pass_at([9_999], [10_000], 5_000) == 1.0


@given(st.lists(votes_of_a_problem, min_size=1, max_size=4), st.data())
@settings(max_examples=200, deadline=None)
def test_majority_equals_enumeration(problems: list[Votes], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, min(map(len, problems))))
    exact = sum(majority_by_enumeration(one, k) for one in problems) / len(problems)
    assert majority_at(problems, k) == pytest.approx(float(exact), abs=1e-12)


@given(st.lists(votes_of_a_problem, min_size=1, max_size=4))
def test_one_attempt_is_the_average_three_times(problems: list[Votes]) -> None:
    correct, samples = [sum(ok for _, ok in one) for one in problems], [len(one) for one in problems]
    assert average(correct, samples) == pytest.approx(pass_at(correct, samples, 1), abs=1e-12)
    assert average(correct, samples) == pytest.approx(majority_at(problems, 1), abs=1e-12)


def test_ties_and_abstentions_of_majority() -> None:
    right, wrong, nothing = ("7", True), ("8", False), (None, False)
    assert majority_at([[right, wrong]], 2) == 0.5
    assert majority_at([[right, wrong, ("9", False)]], 3) == pytest.approx(1 / 3)
    assert majority_at([[right, nothing, nothing]], 3) == 1.0  # one vote against none
    assert majority_at([[nothing, nothing]], 2) == 0.0
    assert majority_at([[right, right, wrong], [wrong, wrong, wrong]], 3) == 0.5


def test_majority_of_many_samples_stays_a_probability() -> None:
    votes: Votes = [("a", True)] * 500 + [("b", False)] * 400 + [(None, False)] * 100
    value = majority_at([votes], 101)
    # A multivariate hypergeometric draw, by simulation.
    drawn = np.random.default_rng(0).multivariate_hypergeometric([500, 400, 100], 101, size=20_000)
    simulated = np.mean((drawn[:, 0] > drawn[:, 1]) + 0.5 * (drawn[:, 0] == drawn[:, 1]))
    assert abs(value - simulated) < 4 * np.sqrt(0.25 / 20_000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pass_at([1, 1], [4, 2], 3), "index 1"),
        (lambda: pass_at([1], [4], 0), "k = 0 is not possible"),
        (lambda: majority_at([[("1", True)] * 3, [("1", True)] * 2], 3), "index 1"),
        (lambda: majority_at([], 1), "no problems"),
        (lambda: majority_at([[(None, True)]], 1), "without an answer"),
        (lambda: average([], []), "no problems"),
        (lambda: average([0, 0], [0, 0]), "no problem has a sample"),
        (lambda: average([3], [2]), "3 correct of 2"),
        (lambda: average([-1], [2]), "-1 correct of 2"),
        (lambda: average([0.5], [2]), "whole numbers"),
        (lambda: average([1, 1], [2, 2, 2]), "2 problems"),
        (lambda: average(1, 2), "one count per problem"),
        (lambda: clustered_mean([], []), "no problems"),
        (lambda: clustered_mean([1], [1], level=1.0), "between 0 and 1"),
        (lambda: wilson(0, 0), "at least one trial"),
        (lambda: wilson(4, 3), "4 correct of 3"),
    ],
)
def test_impossible_values_are_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_equals_scipy(case: tuple[int, int], level: float) -> None:
    correct, n = case
    expected = stats.binomtest(correct, n).proportion_ci(level, method="wilson")
    assert wilson(correct, n, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_the_published_examples(correct: int, n: int, low: float, high: float) -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


clusters = st.lists(st.integers(1, 16).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=40)


@given(clusters)
def test_the_clustered_interval_keeps_its_bounds(problems: list[tuple[int, int]]) -> None:
    correct, samples = np.array(problems).T
    interval = clustered_mean(correct, samples)
    mean = average(correct, samples)
    assert 0 <= interval.low <= mean <= interval.high <= 1
    assert interval.low < interval.high
    # What is wrong mirrors what is right.
    assert clustered_mean(samples - correct, samples) == pytest.approx((1 - interval.high, 1 - interval.low), abs=1e-9)
    # Never narrower than if every sample were a problem of its own, never wider than if the samples of a problem always agreed.
    widths = [np.diff(_score(mean, n))[0] for n in (len(problems) ** 2 / np.sum(1 / samples), len(problems))]
    assert widths[0] - 1e-12 <= interval.high - interval.low <= widths[1] + 1e-12
    # A higher level contains a lower one.
    wider = clustered_mean(correct, samples, level=0.99)
    assert wider.low <= interval.low
    assert interval.high <= wider.high


def _score(p: float, n: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's ends as the roots of (p − π)² = z² π (1 − π) / n."""
    low, high = sorted(np.roots([1 + z * z / n, -(2 * p + z * z / n), p * p]).real)
    return float(low), float(high)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_one_sample_per_problem_is_wilson(correct: list[int]) -> None:
    assert clustered_mean(correct, 1) == pytest.approx(wilson(sum(correct), len(correct)), abs=1e-12)


def test_the_clustered_interval_has_width_when_all_are_right() -> None:
    for samples in (1, 4, 16, 64):
        assert clustered_mean([samples] * 30, samples) == pytest.approx(wilson(30, 30))
        assert clustered_mean([0] * 30, samples) == pytest.approx(wilson(0, 30))


def test_one_problem_counts_once() -> None:
    assert clustered_mean([16], [16]) == pytest.approx(wilson(1, 1))
    assert clustered_mean([8], [16]) == pytest.approx(_score(0.5, 1))


def test_problems_that_come_out_alike_are_not_worth_more_than_their_samples() -> None:
    # No variance between problems at all, less than samples must have
    assert clustered_mean([8] * 40, 16) == pytest.approx(wilson(320, 640), abs=1e-12)
    assert clustered_mean([8, 4] * 30, [16, 8] * 30) == pytest.approx(_score(0.5, 60 / np.mean([1 / 16, 1 / 8])))


def test_problems_without_samples_are_left_out() -> None:
    assert clustered_mean([3, 0, 1], [4, 0, 4]) == clustered_mean([3, 1], [4, 4])
    assert average([3, 0, 1], [4, 0, 4]) == 0.5


def test_samples_that_agree_like_problems_count_as_problems() -> None:
    """With no variance between problems beyond that of samples, the interval is about Wilson's over all samples."""
    rng = np.random.default_rng(0)
    correct = rng.binomial(8, 0.6, size=1319)
    interval, pooled = clustered_mean(correct, 8), wilson(int(correct.sum()), 8 * 1319)
    assert interval.high - interval.low == pytest.approx(pooled.high - pooled.low, rel=0.05)


def test_the_python_of_the_guide_runs() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    scope: dict[str, Any] = {}
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, "statistics.md", "exec"), scope)
    # (b − a) − (d − c), from 16ths
    assert interaction(*((scope[name], 16) for name in "abcd")).difference == pytest.approx((7 - 2) / 64)


def test_the_guide_quotes_the_functions() -> None:
    """Numbers in prose and in the table of problems needed are the functions' own."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (0\.\d) \| \+(0\.\d+) \| (\d+) \| ([\d,]+) \|$", text, re.MULTILINE)
    assert len(rows) == 9
    for baseline, difference, samples, problems in rows:
        assert power(float(baseline), float(difference), samples=int(samples)).problems == int(problems.replace(",", ""))
    assert f"[{100 * clustered_mean([16] * 30, 16).low:.1f} %, 100 %]" in text
    assert "4 against 0" in text
    assert mcnemar(4, 0) == 0.125
