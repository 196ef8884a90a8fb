#!/usr/bin/env python3
"""Simulated coverage of the intervals and error rates of the tests: the tables of docs/statistics.md.

    python tools/coverage.py                    every table, minutes
    python tools/coverage.py --rounds 500 --table mean

Simulated world. Problem i has a rank u_i, uniform. An arm with accuracy p and correlation ρ between the samples of a problem solves it with
probability F⁻¹(u_i), the quantile of the beta distribution with mean p and first parameter p (1/ρ − 1). Arms share the ranks; with
probability `apart` an arm takes a rank of its own for a problem, so that true differences vary between problems. Samples are binomial.

The intervals are the package's own functions, applied to [rounds, problems] at once; tests/python/test_statistics_coverage.py shows that
this equals the public functions and checks a part of the grid on each run.
"""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import betaincinv

from reset.statistics.contrasts import interaction_bounds
from reset.statistics.differences import discordance, tango_bounds
from reset.statistics.intervals import effective_problems, score_bounds
from reset.statistics.pairs import paired_test

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

Array = NDArray[np.float64]
Z = float(stats.norm.ppf(0.975))
POINTS = (np.arange(4096) + 0.5) / 4096


class World(NamedTuple):
    """One cell of a grid: everything that draws the data of arms."""

    problems: int
    samples: tuple[int, ...]  # of each arm
    accuracies: tuple[float, ...]
    correlation: float
    apart: float = 0.0


class Drawn(NamedTuple):
    shares: list[Array]  # of each arm [rounds, problems]
    samples: list[Array]  # of each arm [problems]
    accuracies: list[float]  # of the simulated world: means of the tabulated quantiles


def draw(world: World, rounds: int, rng: Generator) -> Drawn:
    """Simulated results of all arms."""
    shape = rounds, world.problems
    ranks = rng.integers(0, POINTS.size, shape)
    shares, true = [], []
    sharpness = 1 / world.correlation - 1
    for samples, accuracy in zip(world.samples, world.accuracies, strict=True):
        quantiles = betaincinv(accuracy * sharpness, (1 - accuracy) * sharpness, POINTS)
        own = np.where(rng.random(shape) < world.apart, rng.integers(0, POINTS.size, shape), ranks) if world.apart else ranks
        shares.append(rng.binomial(samples, quantiles[own]) / samples)
        true.append(float(quantiles.mean()))
    return Drawn(shares, [np.full(world.problems, float(n)) for n in world.samples], true)


def covered(bounds: tuple[Array, Array], value: float) -> float:
    """Share of intervals that hold the value."""
    low, high = bounds
    return float(np.mean((low <= value + 1e-9) & (value - 1e-9 <= high)))


def mean_bounds(drawn: Drawn) -> tuple[Array, Array]:
    """The interval of one arm's accuracy."""
    shares, samples = drawn.shares[0], drawn.samples[0]
    low, high = score_bounds(shares.mean(axis=1), effective_problems(shares, samples), Z)
    return low, high


def difference_bounds(drawn: Drawn) -> tuple[Array, Array]:
    """The interval of b − a."""
    (a, b), (n_a, n_b) = drawn.shares, drawn.samples
    low, high = tango_bounds(discordance(a, n_a, b, n_b), Z)
    return low, high


def student_bounds(values: Array) -> tuple[Array, Array]:
    """The textbook interval for comparison: mean ± t · s / √P over problems."""
    problems = values.shape[1]
    half = stats.t.ppf(0.975, problems - 1) * values.std(axis=1, ddof=1) / np.sqrt(problems)
    return values.mean(axis=1) - half, values.mean(axis=1) + half


def p_values(drawn: Drawn, draws: int = 999) -> Array:
    """The test of b against a as `paired` chooses it, one p per round."""
    (a, b), (n_a, n_b) = drawn.shares, drawn.samples
    found = enumerate(zip(a, b, strict=True))
    return np.array([paired_test(x, n_a, y, n_b, discordance(x, n_a, y, n_b), draws, seed)[1] for seed, (x, y) in found])


PROBLEMS = (30, 100, 500, 1319)
CORRELATIONS = (0.05, 0.2, 0.5, 0.8)
ACCURACIES = (0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98)
PAIRS = ((1, 1), (4, 4), (16, 16), (4, 16), (1, 8))
ARMS = ((0.02, 0.02), (0.05, 0.05), (0.5, 0.5), (0.95, 0.95), (0.5, 0.6), (0.8, 0.9), (0.9, 0.95), (0.95, 0.85))
FOURS = ((0.5,) * 4, (0.9,) * 4, (0.97,) * 4, (0.05,) * 4, (0.5, 0.6, 0.5, 0.6), (0.9, 0.8, 0.9, 0.9), (0.9, 0.7, 0.9, 0.7))


class Run(NamedTuple):
    """How a table is made."""

    rounds: int  # simulated evaluations of each cell
    rng: Generator
    again: int  # how many times a row's worst cell is simulated afresh
    fresh: Generator  # for that

    def column(self) -> list[str]:
        return ["worst, afresh"] if self.again else []

    def afresh(self, shares: list[float]) -> list[float]:
        """The worst of many simulated shares is bad by chance, too: the same cell, drawn again, tells how bad it is."""
        return [float(np.mean(shares))] if self.again else []


class Measured(NamedTuple):
    """What one cell is measured by."""

    values: Array  # per round and problem, whose mean is the estimate
    bounds: tuple[Array, Array]
    truth: float


def one_arm(drawn: Drawn) -> Measured:
    return Measured(drawn.shares[0], mean_bounds(drawn), drawn.accuracies[0])


def two_arms(drawn: Drawn) -> Measured:
    (a, b), (p, q) = drawn.shares, drawn.accuracies
    return Measured(b - a, difference_bounds(drawn), q - p)


def four_arms(drawn: Drawn) -> Measured:
    (a, b, c, d), (p, q, r, s) = drawn.shares, drawn.accuracies
    return Measured((b - a) - (d - c), interaction_bounds(drawn.shares, drawn.samples, Z), (q - p) - (s - r))


def coverage_row(name: tuple[object, ...], worlds: list[World], measure: Callable[[Drawn], Measured], run: Run) -> None:
    """One row: the worlds differ in correlation and accuracies."""
    ours, textbook, widths = [], [], []
    for world in worlds:
        values, bounds, truth = measure(draw(world, run.rounds, run.rng))
        ours.append(covered(bounds, truth))
        widths.append(float(np.mean(bounds[1] - bounds[0])) / 2)
        textbook.append(covered(student_bounds(values), truth))
    worst = worlds[int(np.argmin(ours))]
    again = [covered(*measure(draw(worst, run.rounds, run.fresh))[1:]) for _ in range(run.again)]
    row(*name, min(ours), np.mean(ours), np.mean(widths), min(textbook), np.mean(textbook), *run.afresh(again))


COVERAGE = ("lowest", "mean", "half width", "± t: lowest", "± t: mean")


def table_mean(run: Run) -> None:
    """One arm."""
    header("problems", "samples", *COVERAGE, *run.column())
    for problems, samples in itertools.product(PROBLEMS, (1, 4, 8, 16)):
        cells = itertools.product(CORRELATIONS if samples > 1 else (0.5,), ACCURACIES)
        worlds = [World(problems, (samples,), (accuracy,), correlation) for correlation, accuracy in cells]
        coverage_row((problems, samples), worlds, one_arm, run)


def table_difference(run: Run) -> None:
    """Two arms."""
    header("problems", "samples a, b", *COVERAGE, *run.column())
    for problems, samples in itertools.product(PROBLEMS, PAIRS):
        cells = itertools.product((0.1, 0.5, 0.8), (0.0, 0.2), ARMS)
        worlds = [World(problems, samples, accuracies, correlation, apart) for correlation, apart, accuracies in cells]
        coverage_row((problems, ", ".join(map(str, samples))), worlds, two_arms, run)


def table_interaction(run: Run) -> None:
    """Four arms: the contrast of contrasts."""
    header("problems", "samples a, b, c, d", *COVERAGE, *run.column())
    for problems, samples in itertools.product(PROBLEMS[:3], ((1, 1, 1, 1), (4, 4, 4, 4), (16, 16, 16, 16), (1, 8, 8, 1))):
        cells = itertools.product((0.2, 0.6), (0.0, 0.2), FOURS)
        worlds = [World(problems, samples, accuracies, correlation, apart) for correlation, apart, accuracies in cells]
        coverage_row((problems, ", ".join(map(str, samples))), worlds, four_arms, run)


def errors(world: World, rounds: int, rng: Generator) -> tuple[float, float, float]:
    """Shares of rounds in which the test, the interval, and both find a difference."""
    drawn = draw(world, rounds, rng)
    low, high = difference_bounds(drawn)
    rejected, excluded = p_values(drawn) <= 0.05, (low > 0) | (high < 0)
    return float(rejected.mean()), float(excluded.mean()), float((rejected & excluded).mean())


def table_errors(run: Run) -> None:
    """A/A and arms of equal accuracy: how often the test, the interval and the verdict find a difference that is not there."""
    columns = "test: highest", "test: mean", "interval: highest", "verdict: highest", "verdict: mean"
    header("problems", "samples a, b", *columns, *run.column())
    for problems, samples in itertools.product(PROBLEMS[:3], PAIRS):
        cells = itertools.product((0.2, 0.6), (0.0, 0.2), (0.05, 0.5, 0.9))
        worlds = [World(problems, samples, (accuracy, accuracy), correlation, apart) for correlation, apart, accuracy in cells]
        found = np.array([errors(world, run.rounds, run.rng) for world in worlds])
        highest, mean, worst = found.max(axis=0), found.mean(axis=0), worlds[int(found[:, 2].argmax())]
        again = [errors(worst, run.rounds, run.fresh)[2] for _ in range(run.again)]
        row(problems, ", ".join(map(str, samples)), highest[0], mean[0], highest[1], highest[2], mean[2], *run.afresh(again))


def table_exact(run: Run) -> None:
    """One sample per problem needs no simulation: Wilson's coverage is a sum over binomials, on 2,000 accuracies from 0.02 to 0.98."""
    header("problems", "lowest", "at accuracy", "mean")
    accuracies = np.linspace(0.02, 0.98, 2000)
    for problems in PROBLEMS:
        right = np.arange(problems + 1)
        low, high = score_bounds(right / problems, problems, Z)
        chance = stats.binom.pmf(right, problems, accuracies[:, None])
        coverage = (chance * ((low <= accuracies[:, None]) & (accuracies[:, None] <= high))).sum(axis=1)
        row(problems, coverage.min(), f"{accuracies[coverage.argmin()]:.3f}", coverage.mean())


def header(*names: str) -> None:
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names), flush=True)


def row(*cells: object) -> None:
    formats = {float: "{:.3f}", np.float64: "{:.3f}", int: "{:,}", str: "{}"}
    print("| " + " | ".join(formats[type(cell)].format(cell) for cell in cells) + " |", flush=True)


TABLES = {
    "exact": table_exact,
    "mean": table_mean,
    "difference": table_difference,
    "interaction": table_interaction,
    "errors": table_errors,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=TABLES, help="one table instead of all")
    parser.add_argument("--rounds", type=int, default=2000, help="simulated evaluations per cell (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--again", type=int, default=0, metavar="N", help="a column more: each row's worst cell in N times the rounds, afresh"
    )
    options = parser.parse_args()
    for name in [options.table] if options.table else TABLES:
        print(f"\n{name}: {TABLES[name].__doc__}\n")
        rng, fresh = np.random.default_rng(options.seed), np.random.default_rng([options.seed, 1])
        TABLES[name](Run(options.rounds, rng, options.again, fresh))


if __name__ == "__main__":
    main()
