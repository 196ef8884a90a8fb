"""Planning: power against enumeration of all tables, against simulation of the whole comparison, and its inverses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import reset.statistics.planning as planning
from reset.statistics import mcnemar, paired, power, smallest_detectable


def power_by_enumeration(n: int, only_a: float, only_b: float, level: float) -> float:
    """The exact test's rejections, summed over every table of n problems."""
    total = 0.0
    for i in range(n + 1):
        for j in range(n + 1 - i):
            if mcnemar(i, j) <= level:
                total += stats.multinomial.pmf([i, j, n - i - j], n, [only_a, only_b, 1 - only_a - only_b])
    return total


@pytest.mark.parametrize(
    ("n", "baseline", "difference", "discordance"), [(12, 0.4, 0.3, 0.4), (25, 0.7, 0.2, 0.25), (30, 0.5, -0.25, 0.35)]
)
def test_power_of_one_sample_is_exact(n: int, baseline: float, difference: float, discordance: float) -> None:
    found = power(baseline, difference, problems=n, discordance=discordance)
    expected = power_by_enumeration(n, (discordance - difference) / 2, (discordance + difference) / 2, 0.05)
    assert found.power == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("baseline", "difference"), [(0.7, 0.05), (0.9, -0.06), (0.2, 0.1)])
def test_problems_found_are_the_fewest(baseline: float, difference: float) -> None:
    found = power(baseline, difference)
    assert found.power >= 0.8
    # Exact power is a saw: it may reach the target once below, never by much.
    assert power(baseline, difference, problems=found.problems - 25).power < 0.8


def test_many_problems_go_over_into_the_normal_approximation(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = power(0.7, 0.03, problems=planning.MOST_EXACT).power
    monkeypatch.setattr(planning, "MOST_EXACT", 0)
    assert power(0.7, 0.03, problems=2000).power == pytest.approx(exact, abs=0.005)
    # Connor 1987: n = (1.96 √ψ + 0.8416 √(ψ − δ²))² / δ², a little more for the exact test
    psi, delta = 0.2, 0.02
    connor = (1.959964 * math.sqrt(psi) + 0.841621 * math.sqrt(psi - delta**2)) ** 2 / delta**2
    assert connor < power(0.7, delta, discordance=psi).problems < connor + 2 / delta


def simulate(design: planning.Power, rounds: int, rng: np.random.Generator) -> float:
    """Share of simulated comparisons that end in the right verdict, under the model as the module states it."""
    rho, p, q = design.correlation, design.baseline, design.baseline + design.difference
    verdicts = 0
    for _ in range(rounds):
        # Ability of a problem is 0/1-like with probability ρ: then all its samples, of both arms, hang on one uniform number.
        one = rng.random(design.problems)
        stuck = rng.random(design.problems) < rho
        chances = [np.where(stuck, one < mean, mean) for mean in (p, q)]
        a, b = (rng.binomial(design.samples, chance) for chance in chances)
        verdicts += paired(a, design.samples, b, design.samples, draws=400).verdict == ("better" if design.difference > 0 else "worse")
    return verdicts / rounds


@pytest.mark.parametrize(
    "options",
    [
        {"baseline": 0.6, "difference": 0.15, "correlation": 0.3},
        {"baseline": 0.5, "difference": -0.12, "samples": 4, "correlation": 0.2},
        {"baseline": 0.4, "difference": 0.1, "samples": 16, "correlation": 0.1},
        {
            "baseline": 0.3,
            "difference": 0.05,
            "samples": 64,
            "correlation": 0.0,
        },  # few problems, many samples: the pseudo-observation counts
    ],
    ids=["one", "four", "sixteen", "sixty-four"],
)
def test_simulated_comparisons_reach_the_power(options: dict[str, Any]) -> None:
    rho, p, delta = options["correlation"], options["baseline"], options["difference"]
    q = p + delta
    # In the simulated world true differences vary by ρ (|δ| − δ²): a problem that hangs on one number gains all or nothing.
    implied = rho * (math.sqrt(p * (1 - p)) - math.sqrt(q * (1 - q))) ** 2
    design = power(**options, heterogeneity=math.sqrt(rho * (abs(delta) - delta**2) - implied))
    reached = simulate(design, 400, np.random.default_rng(11))
    # Three standard errors of the simulation (0.06), and what the normal approximation may be off.
    assert abs(reached - design.power) < 0.06 + 0.03, (design, reached)


def test_open_quantities_agree_with_each_other() -> None:
    design = power(0.7, 0.05, samples=4)
    again = power(0.7, problems=design.problems, samples=4)
    assert again.difference == pytest.approx(0.05, abs=1e-3)
    assert again.power == pytest.approx(0.8, abs=1e-6)
    samples = power(0.3, 0.1, problems=40, samples=None)
    assert samples.power >= 0.8 > power(0.3, 0.1, problems=40, samples=samples.samples - 1).power


def test_more_is_needed_for_less() -> None:
    base = power(0.7, 0.05, samples=4).problems
    assert power(0.7, 0.03, samples=4).problems > base
    assert power(0.7, 0.05, samples=4, power=0.9).problems > base
    assert power(0.7, 0.05, samples=4, level=0.01).problems > base
    assert power(0.7, 0.05, samples=8).problems < base
    assert power(0.7, 0.05, samples=4, correlation=0.8).problems < base  # arms that share luck are told apart more easily
    assert power(0.7, 0.05, samples=4, heterogeneity=0.2).problems > base


def test_correlation_and_discordance_say_the_same() -> None:
    one = power(0.7, 0.05, correlation=0.4)
    assert power(0.7, 0.05, discordance=one.discordance) == one


def test_the_report_says_what_was_assumed() -> None:
    text = str(power(0.7, 0.05))
    assert "662 problems with 1 sample" in text
    for word in ("McNemar", "correlate with 0.50", "level 0.05", "standard deviation 0"):
        assert word in text
    assert power(0.7, 0.05).to_dict()["problems"] == 662


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power(1.2, 0.1), "baseline = 1.2"),
        (lambda: power(0.5, 0.0), "difference = 0"),
        (lambda: power(0.9, 0.2), "from 0 to 1"),
        (lambda: power(0.5, 0.1, power=1.0), "power = 1.0"),
        (lambda: power(0.5, 0.1, level=0.0), "level = 0.0"),
        (lambda: power(0.5, 0.1, problems=0), "problems = 0"),
        (lambda: power(0.5, 0.1, correlation=0.5, discordance=0.3), "give one"),
        (lambda: power(0.5, 0.1, correlation=1.5), "correlation = 1.5"),
        (lambda: power(0.5, 0.1, discordance=0.05), "from 0.1"),
        (lambda: power(0.95, 0.04, correlation=0.9), "at most"),
        (lambda: power(0.5, 0.1, heterogeneity=-1), "heterogeneity = -1"),
        (lambda: power(0.5), "give problems and samples"),
        (lambda: power(0.5, 0.02, problems=5, samples=None), "take more problems"),
        (lambda: power(0.9, problems=5), "do not show even"),
    ],
)
def test_impossible_designs_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@given(st.integers(8, 5000), st.floats(0, 1))
@settings(max_examples=50)
def test_the_smallest_detectable_difference_solves_its_equation(problems: int, discordance: float) -> None:
    delta = smallest_detectable(problems, discordance)
    assert 0 < delta <= 1
    psi = max(discordance, delta)
    needed = (1.959963984540054 * math.sqrt(psi) + 0.8416212335729143 * math.sqrt(max(psi - delta**2, 0))) ** 2 / delta**2
    assert problems == pytest.approx(needed, rel=1e-6)
    assert smallest_detectable(2 * problems, discordance) < delta


def test_too_few_problems_detect_nothing() -> None:
    assert smallest_detectable(3, 0.1) == math.inf


@pytest.mark.parametrize("dependence", [{"discordance": 0.146}, {"discordance": 0.4}, {"correlation": 0.9}, {"correlation": 0.0}, {}])
@pytest.mark.parametrize("baseline", [0.3, 0.686])
def test_the_smallest_difference_is_found_whatever_says_how_samples_depend(baseline: float, dependence: dict[str, float]) -> None:
    """Discordance and correlation exclude rises; the search has to stay among the others."""
    found = power(baseline, problems=1350, samples=4, **dependence)
    assert 0 < found.difference < 0.1
    assert found.power == pytest.approx(0.8, abs=1e-6)
    again = power(baseline, found.difference, problems=1350, samples=4, **dependence)
    assert again.power == pytest.approx(0.8, abs=1e-6)
    assert power(baseline, 0.99 * found.difference, problems=1350, samples=4, **dependence).power < 0.8


def test_a_discordance_that_no_rise_permits_is_named() -> None:
    with pytest.raises(ValueError, match=r"discordance = 0\.6 is not possible"):
        power(0.69, problems=100, samples=4, discordance=0.6)
    with pytest.raises(ValueError, match=r"the most that a discordance of 0\.01 permits"):
        power(0.69, problems=20, samples=1, discordance=0.01)
