"""Differences of arms: tests and intervals against scipy, enumeration, likelihoods maximised numerically, and published examples."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from reset.statistics import (
    Interval,
    clustered_difference,
    holm,
    interaction,
    mcnemar,
    paired,
    paired_proportions,
    sign_flip,
    verdict,
)

Z = 1.959963984540054


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_test_of_discordant_pairs(only_a: int, only_b: int) -> None:
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (1, 7, 0.0703),  # Bentur et al. 2009 in Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91
        (6, 16, 0.0525),  # Cavo et al. 2012, the same paper
        (0, 0, 1.0),
        (3, 3, 1.0),
    ],
)
def test_mcnemar_equals_published_examples(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p, abs=5e-5)


def tango_score(only_b: float, only_a: float, n: float, delta: float) -> float:
    """The score with the nuisance share found by maximising the likelihood numerically."""
    rest = n - only_b - only_a

    def loss(share: float) -> float:  # share: probability that only a solves
        terms = ((only_a, share), (only_b, share + delta), (rest, 1 - 2 * share - delta))
        return -sum(count * np.log(max(p, 1e-300)) for count, p in terms if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    share = min((low, high, float(found.x)), key=loss)
    return float((only_b - only_a - n * delta) / np.sqrt(n * (2 * share + delta * (1 - delta))))


tables = st.tuples(*[st.integers(0, 25)] * 4).filter(lambda cells: sum(cells) > 0)


@given(tables)
@settings(max_examples=60, deadline=None)
def test_tangos_interval_ends_where_the_likelihood_score_reaches_z(cells: tuple[int, int, int, int]) -> None:
    both, only_a, only_b, neither = cells
    n = sum(cells)
    low, high = paired_proportions(both, only_a, only_b, neither)
    if low > -1 + 1e-9:
        assert tango_score(only_b, only_a, n, low) == pytest.approx(Z, abs=1e-3)
    if high < 1 - 1e-9:
        assert tango_score(only_b, only_a, n, high) == pytest.approx(-Z, abs=1e-3)


@given(tables)
def test_tangos_interval_keeps_its_bounds(cells: tuple[int, int, int, int]) -> None:
    both, only_a, only_b, neither = cells
    low, high = paired_proportions(both, only_a, only_b, neither)
    difference = (only_b - only_a) / sum(cells)
    assert -1 <= low <= difference + 1e-12
    assert difference - 1e-12 <= high <= 1
    assert low < high
    assert paired_proportions(both, only_b, only_a, neither) == pytest.approx((-high, -low), abs=1e-9)  # arms swapped
    assert paired_proportions(neither, only_a, only_b, both) == pytest.approx((low, high), abs=1e-12)  # concordant cells do not tell
    wider = paired_proportions(both, only_a, only_b, neither, level=0.99)
    assert wider.low <= low
    assert high <= wider.high


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [
        (
            (1, 7, 1, 12),
            -0.517,
            -0.026,
        ),  # Bentur et al. 2009, in Fagerland, Lydersen and Laake, "Statistical Analysis of Contingency Tables"
        ((15, 0, 0, 15), -(Z**2) / (30 + Z**2), Z**2 / (30 + Z**2)),  # no discordant pair: closed form
    ],
)
def test_tangos_interval_equals_known_values(cells: tuple[int, int, int, int], low: float, high: float) -> None:
    assert paired_proportions(*cells) == pytest.approx((low, high), abs=5e-4)


def test_exact_mcnemar_is_stricter_than_tangos_interval() -> None:
    """Whatever the exact test rejects, the interval excludes: they disagree in one direction only."""
    for discordant in range(1, 400):
        for fewer in range(discordant // 2 + 1):
            score_rejects = (discordant - 2 * fewer) > Z * np.sqrt(discordant)
            if not score_rejects:
                assert mcnemar(fewer, discordant - fewer) > 0.05
                break  # more balanced tables reject less
    assert mcnemar(0, 4) > 0.05  # and here they do disagree
    assert paired_proportions(0, 0, 4, 26).low > 0


def flips_by_enumeration(differences: list[float]) -> float:
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    return float(np.mean(np.array(sums) >= abs(sum(differences)) - 1e-9))


@given(st.lists(st.integers(-16, 16).map(lambda i: i / 16), min_size=1, max_size=9))
def test_sign_flip_enumerates_few_differences(differences: list[float]) -> None:
    p = sign_flip(differences)
    assert p == pytest.approx(flips_by_enumeration(differences), abs=1e-12)
    assert sign_flip([-d for d in differences]) == p
    assert sign_flip([*differences, 0.0, 0.0]) == p


def test_sign_flip_equals_scipys_permutation_test() -> None:
    differences = np.random.default_rng(5).integers(-4, 6, 11) / 4
    expected = stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(differences) == pytest.approx(expected)


def test_drawn_sign_flips_come_near_the_exact_value_and_repeat() -> None:
    differences = [0.25, 0.5, -0.25, 0.125, 0.375, -0.125, 0.5, 0.25, 0.25, -0.375, 0.125, 0.0625]
    exact = sign_flip(differences)
    drawn = sign_flip(differences, draws=4000, seed=3)
    assert drawn != exact
    assert abs(drawn - exact) < 5 * np.sqrt(exact * (1 - exact) / 4000)
    assert drawn == sign_flip(differences, draws=4000, seed=3)
    assert drawn != sign_flip(differences, draws=4000, seed=4)
    assert (drawn * 4001) == pytest.approx(round(drawn * 4001))  # (b + 1) / (B + 1)
    assert sign_flip([1.0] * 200, draws=999) == 1 / 1000  # never 0


def test_drawn_sign_flips_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    from reset.statistics import significance

    differences = np.random.default_rng(0).normal(0.1, 1, 50)
    whole = sign_flip(differences, draws=5000)
    monkeypatch.setattr(significance, "_CHUNK", 50 * 64)
    assert sign_flip(differences, draws=5000) == whole
    assert sign_flip(differences[:12]) == pytest.approx(flips_by_enumeration(list(differences[:12])))


def test_sums_that_rounding_parts_count_as_equal() -> None:
    assert sign_flip([0.1, 0.2, -0.3, 0.1, 0.2, 0.3]) == flips_by_enumeration([0.1, 0.2, -0.3, 0.1, 0.2, 0.3])
    assert sign_flip([0.1 + 0.2 - 0.3] * 20) == 1.0  # zeros, but for rounding


arms = st.integers(1, 16).flatmap(
    lambda problems: st.tuples(
        *[st.lists(st.integers(1, 8).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=problems, max_size=problems)] * 2
    )
)


@given(arms)
@settings(deadline=None)
def test_arms_swapped_turn_the_comparison_around(pair: tuple[list[tuple[int, int]], list[tuple[int, int]]]) -> None:
    (c_a, n_a), (c_b, n_b) = (np.array(arm).T for arm in pair)
    one, other = paired(c_a, n_a, c_b, n_b, draws=200), paired(c_b, n_b, c_a, n_a, draws=200)
    assert one.difference == pytest.approx(-other.difference, abs=1e-12)
    assert one.ci95 == pytest.approx((-other.ci95.high, -other.ci95.low), abs=1e-9)
    assert one.p_value == pytest.approx(other.p_value, abs=1e-12)
    assert {one.verdict, other.verdict} in ({"undecided"}, {"better", "worse"})
    assert one.mde == pytest.approx(other.mde)
    assert -1 <= one.ci95.low <= one.difference + 1e-12
    assert one.difference - 1e-12 <= one.ci95.high <= 1
    assert one.ci95.low < one.ci95.high
    assert one.difference == pytest.approx(one.only_b - one.only_a, abs=1e-12)
    # All right for wrong: the same with the sign turned.
    mirrored = paired(n_a - c_a, n_a, n_b - c_b, n_b, draws=200)
    assert mirrored.ci95 == pytest.approx((-one.ci95.high, -one.ci95.low), abs=1e-9)


@given(tables)
@settings(deadline=None)
def test_one_sample_per_problem_is_mcnemar_with_tango(cells: tuple[int, int, int, int]) -> None:
    both, only_a, only_b, neither = cells
    a = np.repeat([1, 1, 0, 0], cells)
    b = np.repeat([1, 0, 1, 0], cells)
    p = paired(a, 1, b, np.ones_like(b))
    assert p.test == "exact McNemar"
    assert p.p_value == mcnemar(only_a, only_b)
    assert p.ci95 == pytest.approx(paired_proportions(both, only_a, only_b, neither), abs=1e-9)
    assert clustered_difference(a, 1, b, 1) == pytest.approx(p.ci95, abs=1e-12)


def test_nothing_differs_but_the_interval_has_width() -> None:
    for correct in ([16] * 30, [0] * 30):
        p = paired(correct, 16, correct, 16)
        assert (p.difference, p.p_value, p.verdict) == (0.0, 1.0, "undecided")
        assert p.ci95 == pytest.approx((-(Z**2) / (30 + Z**2), Z**2 / (30 + Z**2)))
        assert 0.2 < p.mde < 0.3  # about (1.96 + 0.84)² / 30
    half = paired([8] * 30, 16, [8] * 30, 16)  # every problem half solved by both: sampling alone has variance
    assert half.ci95.high > 1.96 * np.sqrt(0.25 * 2 / 16 / 30)


def test_a_constant_difference_keeps_its_width() -> None:
    p = paired([4] * 30, 16, [8] * 30, 16)
    assert p.difference == 0.25
    assert p.verdict == "better"
    assert 0.25 - p.ci95.low > 1.96 * np.sqrt((0.25 * 0.75 + 0.5 * 0.5) / 16 / 30)
    assert paired([8] * 30, 16, [4] * 30, 16).verdict == "worse"


def test_problems_without_samples_in_an_arm_are_left_out() -> None:
    whole = paired([3, 1, 2], [4, 0 + 2, 4], [4, 2, 2], [4, 2, 4])
    assert paired([3, 1, 0, 2, 2], [4, 2, 0, 4, 4], [4, 2, 2, 2, 0], [4, 2, 4, 4, 0]) == whole
    assert whole.problems == 3


def test_the_interval_narrows_with_samples_and_problems() -> None:
    rng = np.random.default_rng(0)

    def width(problems: int, samples: int) -> float:
        p = rng.beta(2, 1, problems)
        interval = clustered_difference(rng.binomial(samples, p), samples, rng.binomial(samples, p), samples)
        return interval.high - interval.low

    assert width(100, 16) < width(100, 4) < width(100, 1)
    assert width(1000, 4) < width(100, 4) < width(30, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired([], [], [], []), "no problems"),
        (lambda: paired([1, 1], 1, [1], 1), "arm a has 2, arm b has 1"),
        (lambda: paired([0], [0], [1], [1]), "nothing to compare"),
        (lambda: paired([2], [1], [1], [1]), "2 correct of 1"),
        (lambda: mcnemar(-1, 2), "only_a = -1"),
        (lambda: paired_proportions(0, 0, 0, 0), "all 0"),
        (lambda: paired_proportions(1, -1, 0, 0), "only_a = -1"),
        (lambda: paired_proportions(1, 1, 0, 0, level=95), "between 0 and 1"),
        (lambda: sign_flip([]), "at least one"),
        (lambda: sign_flip([float("nan")]), "finite"),
        (lambda: sign_flip([1.0], draws=0), "draws = 0"),
        (lambda: holm([0.5, 1.5]), "1.5 at index 1"),
        (lambda: holm([float("nan")]), "nan at index 0"),
        (lambda: interaction(([1], 1), ([1], 1), ([1, 1], 1), ([1], 1)), "arm c has 2"),
    ],
)
def test_impossible_values_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_verdict_needs_interval_and_test() -> None:
    assert verdict(Interval(0.01, 0.2), 0.05) == "better"
    assert verdict(Interval(-0.2, -0.01), 0.01) == "worse"
    assert verdict(Interval(0.01, 0.2), 0.06) == "undecided"
    assert verdict(Interval(0.0, 0.2), 0.01) == "undecided"
    assert verdict(Interval(-0.1, 0.2), 0.5) == "undecided"
    assert paired([0] * 30, 1, [1] * 4 + [0] * 26, 1).verdict == "undecided"  # interval (0.005, …), p = 0.125


@given(arms, st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_interaction_is_antisymmetric_and_bounded(pair: tuple[list[tuple[int, int]], list[tuple[int, int]]], seed: int) -> None:
    (c_a, n_a), (c_b, n_b) = (np.array(arm).T for arm in pair)
    rng = np.random.default_rng(seed)
    a, b, c, d = (c_a, n_a), (c_b, n_b), (rng.binomial(n_a, 0.5), n_a), (rng.binomial(n_b, 0.5), n_b)
    one = interaction(a, b, c, d, draws=200)
    assert one.difference == pytest.approx(one.first - one.second, abs=1e-12)
    assert one.difference == pytest.approx(paired(*a, *b, draws=9).difference - paired(*c, *d, draws=9).difference, abs=1e-12)
    assert -2 <= one.ci95.low < one.ci95.high <= 2
    assert one.ci95.low <= one.difference <= one.ci95.high
    for turned in (interaction(c, d, a, b, draws=200), interaction(b, a, d, c, draws=200)):
        assert turned.difference == pytest.approx(-one.difference, abs=1e-12)
        assert turned.ci95 == pytest.approx((-one.ci95.high, -one.ci95.low), abs=1e-9)
        assert turned.p_value == pytest.approx(one.p_value, abs=1e-12)


def test_interaction_by_hand() -> None:
    """Uncorrelated differences join by squares; an unchanged second pair leaves the first contrast's difference."""
    arms = [[4] * 30] * 4
    none = interaction(*((arm, 4) for arm in arms))
    assert none.ci95 == pytest.approx((-np.sqrt(2) * Z**2 / (30 + Z**2), np.sqrt(2) * Z**2 / (30 + Z**2)))
    assert none.p_value == 1.0
    a, b = np.repeat([1, 0], [50, 50]), np.repeat([1, 0], [90, 10])
    i = interaction((a, 1), (b, 1), (a, 1), (a, 1))
    assert i.difference == pytest.approx(0.4)
    assert i.verdict == "better"
    assert i.ci95.low < paired(a, 1, b, 1).ci95.low  # the second contrast adds its own uncertainty


def test_interaction_of_the_same_contrast_twice_is_narrow() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.binomial(4, 0.5, 200), 4), (rng.binomial(4, 0.6, 200), 4)
    i = interaction(a, b, a, b)
    assert i.difference == 0
    assert i.ci95.high < 0.02


def holm_by_steps(p_values: list[float]) -> list[float]:
    """Adjusted p: the smallest level at which the step-down procedure still rejects, by definition."""
    m, adjusted = len(p_values), []
    for target in range(m):
        levels = sorted({min(1.0, (m - i) * p) for i in range(m) for p in p_values} | {1.0})
        for level in levels:
            order = sorted(range(m), key=lambda i: p_values[i])
            rejected = set()
            for rank, index in enumerate(order):
                if p_values[index] * (m - rank) > level * (1 + 1e-12):
                    break
                rejected.add(index)
            if target in rejected or level == 1.0:
                adjusted.append(level)
                break
    return adjusted


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_is_the_level_at_which_the_steps_reject(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(holm_by_steps(p_values), rel=1e-9)


def test_holm_by_hand() -> None:
    # 4 · 0.01, 3 · 0.02, then 2 · 0.022 and 1 · 0.09, none below its predecessor
    assert holm([0.01, 0.02, 0.022, 0.09]) == pytest.approx([0.04, 0.06, 0.06, 0.09])
    assert holm([]) == []


def test_unequal_samples_take_the_stricter_of_two_tests() -> None:
    # Two of thirty problems fail the one sample of arm a and none of the eight of b: signs flip to p = 0.5, the score says 0.16.
    c_a, c_b = [0] * 2 + [1] * 28, [8] * 30
    p = paired(c_a, 1, c_b, 8)
    assert p.test == "sign-flip permutation and score"
    assert p.p_value == sign_flip(np.array(c_b) / 8 - np.array(c_a)) == 0.5
    # Seven whose b solves one of eight: flips reject, and the interval, which knows how little that is, does not.
    c_a, c_b = [0] * 30, [1] * 7 + [0] * 23
    p = paired(c_a, 1, c_b, 8)
    assert sign_flip(np.array(c_b) / 8) < 0.05
    assert p.ci95.low < 0 < p.ci95.high
    score = p.difference / np.sqrt((p.only_a + p.only_b) / p.effective_problems)
    assert p.p_value == pytest.approx(2 * stats.norm.sf(score))
    assert p.p_value > 0.05
    assert paired(c_a, 8, c_b, 8).test == "sign-flip permutation"
