"""SVAMP: 1,000 one-step word problems with misleading surroundings (Patel et al. 2021, arXiv:2103.07191), MIT licence.

Rows are ``{"Body": …, "Question": …, "Answer": 145.0, "Equation": "( 290.0 / 2.0 )", "Type": …, "ID": "chal-777"}``. A body without
its full stop gets one. Copies of the set order it differently, so problems are ordered by the number in their id.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from reset.tasks.base import Problem, Task, normalised
from reset.tasks.files import Row, Source, text_field

if TYPE_CHECKING:
    import os

SVAMP_FILES = Source(
    ("svamp_test.jsonl", "SVAMP.json"),
    "ChilleD/SVAMP",
    ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
)


class SVAMP(Task):
    """All 1,000 problems as a test split.

    Args:
        data: a folder with ``svamp_test.jsonl``, a file, or None for the hub.
    """

    name = "svamp"
    version = "1"
    scorer = "number"
    splits = ("test",)
    max_new_tokens = 4096
    missing_split = "all of SVAMP is for testing: calibrate and tune on 'gsm8k', which has splits for that"

    def __init__(self, data: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self._data = data

    def load(self, split: str) -> list[Problem]:
        """Reads all rows."""
        problems = [_problem(row) for row in SVAMP_FILES.rows(self._data, self.name)]
        return sorted(problems, key=_order)


def _order(problem: Problem) -> tuple[int, str]:
    number = re.search(r"\d+$", problem.id)
    return (int(number.group()) if number else 0, problem.id)


def _problem(row: Row) -> Problem:
    body, question = text_field(row, "Body").strip(), text_field(row, "Question").strip()
    stop = "" if body[-1] in ".?!," else "."
    answer = text_field(row, "Answer")
    try:
        value = Fraction(answer)
    except ValueError as error:
        raise ValueError(f"{row[1]}: field 'Answer' is {answer!r}; expected a number") from error
    text = f"{body}{stop} {question}"
    equation = str(row[0].get("Equation") or "").strip()
    return Problem(
        id=text_field(row, "ID"),
        question=text,
        answer=str(value.numerator) if value.denominator == 1 else answer,
        key=normalised(text),
        metadata={name.lower(): value for name, value in (("Type", row[0].get("Type")), ("Equation", equation)) if value},
    )
