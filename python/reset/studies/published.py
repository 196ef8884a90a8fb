"""A study without its samples: what a paper or a repository can carry, and every reader can check.

The report's ``outcomes.csv`` says of every problem and arm how many of how many samples are right, one problem a line::

    problem,bf16,nvfp4,reset
    a-17,8/8,7/8,8/8

With the plan beside it, accuracies, intervals, p-values and verdicts are computed again, from counts and not from printed numbers. Tokens,
temperatures and outcomes other than correct come from ``arms.csv``: they need the samples themselves.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reset.errors import ConfigError
from reset.statistics import accuracy_interval, average

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from reset.studies.result import Study

OUTCOMES_FILE = "outcomes.csv"
ARMS_FILE = "arms.csv"
#: Columns of arms.csv that counts of right samples cannot give.
_FROM_SAMPLES = (
    "truncated", "unparsed", "wrong", "truncated_share", "unparsed_share", "repetition_share", "lenient_accuracy", "tokens_mean",
    "tokens_median", "steps_mean", "temperature_mean", "entropy_mean", "high_share", "uncertain_share",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PublishedArm:
    """Counts of one arm; stands where a study has an :class:`reset.EvalResult`.

    Attributes:
        problem_ids: in the plan's order.
        right: correct samples of each problem, int64 ``[problems]``.
        sampled: samples of each problem, int64 ``[problems]``.
        described: what ``arms.csv`` says about the arm's samples; empty without that file.
    """

    problem_ids: tuple[str, ...]
    right: NDArray[np.int64]
    sampled: NDArray[np.int64]
    described: dict[str, Any]

    partial = False

    @property
    def n_samples(self) -> int:
        """Samples of each problem."""
        return int(self.sampled.max())

    def outcomes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Correct samples and samples of each problem."""
        return self.right, self.sampled

    @property
    def accuracy(self) -> float:
        """Mean over problems of the share of correct samples."""
        return average(self.right, self.sampled)

    @property
    def ci95(self) -> tuple[float, float]:
        """As :attr:`reset.EvalResult.ci95`."""
        low, high = accuracy_interval(self.right, self.sampled)
        return float(low), float(high)

    def summary(self) -> dict[str, Any]:
        """The row of a study's table: computed where counts suffice, else from ``arms.csv``, else None."""
        low, high = self.ci95
        return {
            **dict.fromkeys(_FROM_SAMPLES), **self.described, "accuracy": self.accuracy, "low": low, "high": high,
            "problems": len(self.right), "n_samples": self.n_samples, "samples": int(self.sampled.sum()),
            "correct": int(self.right.sum()), "partial": False, "regimes": None, "pass_at": {}, "majority_at": {},
        }  # fmt: skip


def outcomes_csv(study: Study) -> str:
    """Every problem's correct samples of each arm, ``right/samples``, as CSV; an empty cell for what was not begun."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["problem", *study.results])
    columns = [
        {id: f"{right}/{n}" for id, right, n in zip(result.problem_ids, *result.outcomes(), strict=True)}
        for result in study.results.values()
    ]
    writer.writerows([problem.id, *(column.get(problem.id, "") for column in columns)] for problem in study.problems)
    return out.getvalue()


def read_published(folder: Path, arms: dict[str, Any]) -> dict[str, PublishedArm]:
    """The arms of a plan from ``outcomes.csv`` and ``arms.csv`` in ``folder``.

    Raises:
        reset.ConfigError: a line that cannot be read, or arms and sample numbers that are not the plan's; the message names file and line.
    """
    path = folder / OUTCOMES_FILE
    head, *rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    if head != ["problem", *arms]:
        raise ConfigError(f"{path}: the columns are {', '.join(head)}, and the plan has the arms {', '.join(arms)}")
    counts = np.zeros((2, len(arms), len(rows)), np.int64)
    for number, row in enumerate(rows):
        for column, cell in enumerate(row[1:]):
            right, _, of = cell.partition("/")
            if len(row) != len(head) or not right.isdigit() or not of.isdigit() or not int(right) <= int(of):
                raise ConfigError(f"{path}, line {number + 2}: {cell!r} is no count such as 3/4")
            counts[:, column, number] = int(right), int(of)
    described = _described(folder / ARMS_FILE)
    made = {}
    for column, (name, arm) in enumerate(arms.items()):
        right, sampled = counts[:, column]
        if np.any(sampled != arm["n_samples"]):
            raise ConfigError(f"{path}: arm {name!r} has {sampled.min()} to {sampled.max()} samples a problem, the plan {arm['n_samples']}")
        made[name] = PublishedArm(tuple(row[0] for row in rows), right, sampled, described.get(name, {}))
    return made


def _described(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["arm"]: {name: float(row[name]) if row.get(name) else None for name in _FROM_SAMPLES} for row in csv.DictReader(file)}
