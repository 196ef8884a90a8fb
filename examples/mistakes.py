"""What goes wrong in the samples of a study of the arithmetic task: sums, or everything else.

    python examples/mistakes.py examples/runs/study                  # one row per arm, as CSV

A wrong sample with a false equation has miscalculated. One whose equations are all true took a value of the wrong person, passed over a
fact, or computed something else than what was asked.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from train_tiny.measure import judged

from reset.studies import Study

COLUMNS = (
    "arm", "samples", "easy_equations", "easy_false", "hard_equations", "hard_false", "wrong_with_false_equation",
    "wrong_with_true_equations",
)  # fmt: skip


def row(name: str, result: Any) -> tuple[str | int, ...]:
    """Counts of one arm, in the order of :data:`COLUMNS`. Hard: with a carry, a borrow, or a long product or quotient."""
    counts: Counter[tuple[str, bool]] = Counter()
    wrong: Counter[bool] = Counter()
    for sample in result.samples:
        equations = [(kind.split()[1], true) for kind, true in judged(sample.text)]
        counts.update(equations)
        if not sample.correct:
            wrong[all(true for _, true in equations)] += 1
    by_kind = [number for kind in ("easy", "hard") for number in (counts[kind, True] + counts[kind, False], counts[kind, False])]
    return name, len(result.samples), *by_kind, wrong[False], wrong[True]


def main() -> int:
    """Entry point."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    study = Study.load(Path(sys.argv[1]))
    if study.published:
        print(f"{sys.argv[1]} holds counts without samples; run the study first", file=sys.stderr)
        return 1
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(row(name, result) for name, result in study.results.items())
    return 0


if __name__ == "__main__":
    sys.exit(main())
