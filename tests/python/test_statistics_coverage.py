"""The intervals hold the truth as often as they say, and tests find differences that are not there no more often than they may.

The worlds and the grid are those of tools/coverage.py, which prints the tables of docs/statistics.md. A part runs here with fixed seeds;
the whole grid is slow. Bounds on simulated shares leave four standard errors of the simulation.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from reset.statistics import clustered_difference, clustered_mean, interaction, paired

if TYPE_CHECKING:
    from types import ModuleType

#: What docs/statistics.md promises of every cell, nominal 0.95 and 0.05.
LOWEST_COVERAGE, HIGHEST_ERROR = 0.93, 0.05


def load_coverage() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "tools" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its classes look themselves up by name
    spec.loader.exec_module(module)
    return module


sim = load_coverage()


def noise(share: float, rounds: int) -> float:
    """Four standard errors of a simulated share."""
    return float(4 * np.sqrt(share * (1 - share) / rounds))


def test_simulated_bounds_are_those_of_the_public_functions() -> None:
    drawn = sim.draw(sim.World(12, (3, 5, 1, 2), (0.3, 0.5, 0.6, 0.9), 0.4, 0.3), 5, np.random.default_rng(0))
    correct = [np.rint(x * n).astype(int) for x, n in zip(drawn.shares, drawn.samples, strict=True)]
    means, bounds = sim.mean_bounds(drawn), sim.interaction_bounds(drawn.shares, drawn.samples, sim.Z)
    pair = sim.Drawn(drawn.shares[:2], drawn.samples[:2], drawn.accuracies[:2])
    differences, p_values = sim.difference_bounds(pair), sim.p_values(pair)
    for i in range(5):
        a, b, c, d = ((x[i], n.astype(int)) for x, n in zip(correct, drawn.samples, strict=True))
        assert clustered_mean(*a) == pytest.approx((means[0][i], means[1][i]))
        assert clustered_difference(*a, *b) == pytest.approx((differences[0][i], differences[1][i]))
        assert interaction(a, b, c, d, draws=9).ci95 == pytest.approx((bounds[0][i], bounds[1][i]))
        assert paired(*a, *b, draws=999, seed=i).p_value == p_values[i]


def test_the_simulated_world_is_as_described() -> None:
    """Accuracy, correlation within a problem and between arms come out as asked for."""
    drawn = sim.draw(sim.World(2000, (2, 2), (0.3, 0.3), 0.4), 50, np.random.default_rng(1))
    a, b = drawn.shares
    assert a.mean() == pytest.approx(0.3, abs=0.01)
    # Var(mean of 2) = σ² (1 + ρ) / 2; Cov(arms) = ρ σ²
    assert a.var() == pytest.approx(0.21 * 1.4 / 2, rel=0.03)
    assert np.cov(a.ravel(), b.ravel())[0, 1] == pytest.approx(0.4 * 0.21, rel=0.03)
    apart = sim.draw(sim.World(2000, (2, 2), (0.3, 0.3), 0.4, 1.0), 50, np.random.default_rng(1))
    assert abs(np.cov(apart.shares[0].ravel(), apart.shares[1].ravel())[0, 1]) < 0.003


@pytest.mark.parametrize("problems", [30, 100])
@pytest.mark.parametrize("samples", [4, 16])
def test_the_interval_of_one_arm_covers(problems: int, samples: int) -> None:
    rounds, shares = 1500, []
    for i, (correlation, accuracy) in enumerate(itertools.product((0.05, 0.5, 0.8), (0.02, 0.1, 0.5, 0.95))):
        drawn = sim.draw(sim.World(problems, (samples,), (accuracy,), correlation), rounds, np.random.default_rng(i))
        shares.append(sim.covered(sim.mean_bounds(drawn), drawn.accuracies[0]))
        assert shares[-1] > LOWEST_COVERAGE - noise(LOWEST_COVERAGE, rounds), (correlation, accuracy)
    assert np.mean(shares) > 0.95 - noise(0.95, rounds * len(shares))
    assert np.mean(shares) < 0.98  # and it is not won by width alone


def test_the_textbook_interval_does_not_cover() -> None:
    """What the simulation is able to see: ± t · s / √P holds an accuracy near 1 far too rarely with 30 problems."""
    drawn = sim.draw(sim.World(30, (16,), (0.98,), 0.8), 1500, np.random.default_rng(0))
    assert sim.covered(sim.student_bounds(drawn.shares[0]), drawn.accuracies[0]) < 0.7
    assert sim.covered(sim.mean_bounds(drawn), drawn.accuracies[0]) > LOWEST_COVERAGE


@pytest.mark.parametrize("problems", [30, 100, 500, 1319])
def test_wilson_covers_exactly_as_documented(problems: int) -> None:
    """No simulation: a sum over binomials."""
    accuracies = np.linspace(0.02, 0.98, 500)[:, None]
    right = np.arange(problems + 1)
    low, high = sim.score_bounds(right / problems, problems, sim.Z)
    coverage = (stats.binom.pmf(right, problems, accuracies) * ((low <= accuracies) & (accuracies <= high))).sum(axis=1)
    assert coverage.min() > {30: 0.917, 100: 0.926, 500: 0.937, 1319: 0.941}[problems]
    assert coverage.mean() == pytest.approx(0.95, abs=0.004)


@pytest.mark.parametrize("samples", [(1, 1), (4, 4), (16, 16), (4, 16), (1, 8)], ids=str)
def test_the_interval_of_a_difference_covers(samples: tuple[int, int]) -> None:
    rounds, shares = 800, []
    worlds = itertools.product((30, 100), (0.1, 0.6), ((0.05, 0.05, 0.0), (0.5, 0.6, 0.2), (0.95, 0.85, 0.0), (0.9, 0.95, 0.2)))
    for i, (problems, correlation, (a, b, apart)) in enumerate(worlds):
        drawn = sim.draw(sim.World(problems, samples, (a, b), correlation, apart), rounds, np.random.default_rng(100 + i))
        shares.append(sim.covered(sim.difference_bounds(drawn), drawn.accuracies[1] - drawn.accuracies[0]))
        assert shares[-1] > LOWEST_COVERAGE - noise(LOWEST_COVERAGE, rounds), (problems, correlation, a, b, apart)
    assert np.mean(shares) > 0.95 - noise(0.95, rounds * len(shares))


@pytest.mark.parametrize("samples", [(1, 1, 1, 1), (8, 8, 8, 8), (1, 8, 8, 1)], ids=str)
def test_the_interval_of_an_interaction_covers(samples: tuple[int, int, int, int]) -> None:
    rounds = 800
    for i, (problems, accuracies) in enumerate(itertools.product((30, 200), ((0.9,) * 4, (0.5, 0.6, 0.5, 0.6), (0.9, 0.7, 0.9, 0.8)))):
        drawn = sim.draw(sim.World(problems, samples, accuracies, 0.4, 0.1), rounds, np.random.default_rng(200 + i))
        a, b, c, d = drawn.accuracies
        share = sim.covered(sim.interaction_bounds(drawn.shares, drawn.samples, sim.Z), (b - a) - (d - c))
        assert share > LOWEST_COVERAGE - noise(LOWEST_COVERAGE, rounds), (problems, accuracies)


@pytest.mark.parametrize("samples", [(1, 1), (4, 4), (4, 16), (1, 8)], ids=str)
@pytest.mark.parametrize("problems", [30, 100])
def test_equal_arms_are_told_apart_in_at_most_five_percent(problems: int, samples: tuple[int, int]) -> None:
    """The A/A run: two arms of one distribution, and arms that differ by problem but not on the whole."""
    rounds = 500
    for i, (accuracy, apart, correlation) in enumerate(
        ((0.5, 0.0, 0.5), (0.5, 0.2, 0.5), (0.9, 0.2, 0.5), (0.9, 0.0, 0.2), (0.05, 0.0, 0.2))
    ):
        world = sim.World(problems, samples, (accuracy, accuracy), correlation, apart)
        drawn = sim.draw(world, rounds, np.random.default_rng(300 + i))
        low, high = sim.difference_bounds(drawn)
        rejected = sim.p_values(drawn, draws=399) <= 0.05
        found = rejected & ((low > 0) | (high < 0))
        assert found.mean() < HIGHEST_ERROR + noise(HIGHEST_ERROR, rounds), world
        assert rejected.mean() < HIGHEST_ERROR + noise(HIGHEST_ERROR, rounds), world  # the test alone


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_grid_of_one_arm() -> None:
    rounds, shares = 2000, []
    for i, cell in enumerate(itertools.product(sim.PROBLEMS, (4, 8, 16), sim.CORRELATIONS, sim.ACCURACIES)):
        problems, samples, correlation, accuracy = cell
        drawn = sim.draw(sim.World(problems, (samples,), (accuracy,), correlation), rounds, np.random.default_rng(i))
        shares.append(sim.covered(sim.mean_bounds(drawn), drawn.accuracies[0]))
        assert shares[-1] > LOWEST_COVERAGE - noise(LOWEST_COVERAGE, rounds), cell
    assert np.mean(shares) > 0.95


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_grid_of_differences() -> None:
    rounds, shares = 2000, []
    for i, cell in enumerate(itertools.product(sim.PROBLEMS, sim.PAIRS, (0.1, 0.5, 0.8), (0.0, 0.2), sim.ARMS)):
        problems, samples, correlation, apart, accuracies = cell
        drawn = sim.draw(sim.World(problems, samples, accuracies, correlation, apart), rounds, np.random.default_rng(i))
        shares.append(sim.covered(sim.difference_bounds(drawn), drawn.accuracies[1] - drawn.accuracies[0]))
        assert shares[-1] > LOWEST_COVERAGE - noise(LOWEST_COVERAGE, rounds), cell
    assert np.mean(shares) > 0.95


@pytest.mark.parametrize("accuracies", [(0.9,) * 4, (0.5, 0.6, 0.5, 0.6), (0.9, 0.8, 0.6, 0.5)], ids=["equal", "same gain", "parallel"])
def test_contrasts_that_are_equal_are_told_apart_in_at_most_five_percent(accuracies: tuple[float, ...]) -> None:
    rounds, found = 300, 0
    drawn = sim.draw(sim.World(60, (4,) * 4, accuracies, 0.4, 0.1), rounds, np.random.default_rng(7))
    correct = [np.rint(4 * x).astype(int) for x in drawn.shares]
    for i in range(rounds):
        found += interaction(*((x[i], 4) for x in correct), draws=399, seed=i).verdict != "undecided"
    assert found / rounds < HIGHEST_ERROR + noise(HIGHEST_ERROR, rounds)
