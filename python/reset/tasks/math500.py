"""MATH-500: 500 problems of the MATH test set (Hendrycks et al. 2021; selection of Lightman et al. 2023), MIT licence.

``test`` is MATH-500 itself. The other splits come from the 5,000 problems of the MATH test file that are not in it::

    math500.jsonl   ─────────────────────────────► test (500)
    math_test.jsonl ── minus MATH-500 (4,500) ───► train | calibration | tune, by a hash of the problem's text

Ids of MATH-500 are its ``unique_id``; ids of the other splits come from the text, because copies of MATH order the problems differently.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reset.tasks.base import Problem, Task, normalised, split_of
from reset.tasks.files import Row, Source, text_field

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

SUBJECTS = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra", "precalculus")

MATH500 = Source(("math500.jsonl", "test.jsonl"), "HuggingFaceH4/MATH-500", ("test.jsonl",))
MATH = Source(
    ("math_test.jsonl",),
    "EleutherAI/hendrycks_math",
    tuple(f"{subject}/test-00000-of-00001.parquet" for subject in SUBJECTS),
)

SHARES: Mapping[str, float] = {"train": 0.7, "calibration": 0.1, "tune": 0.2}
"""How the rest of MATH is divided."""


class Math500(Task):
    """MATH-500, with the rest of the MATH test set for calibration and tuning.

    Args:
        data: a folder with ``math500.jsonl`` (and ``math_test.jsonl`` for splits other than test), the file of MATH-500, or None for
            the hub.
    """

    name = "math500"
    version = "1"
    scorer = "math"
    splits = ("train", "calibration", "tune", "test")
    max_new_tokens = 16384

    def __init__(self, data: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self._data = data
        self._rest: list[Problem] | None = None

    def load(self, split: str) -> list[Problem]:
        """Reads the files that the split needs."""
        if split == "test":
            return [_test_problem(row, index) for index, row in enumerate(MATH500.rows(self._data, self.name))]
        return [problem for problem in self._outside() if split_of(problem.key, SHARES) == split]

    def _outside(self) -> list[Problem]:
        """MATH without MATH-500, ordered by a hash: the same order whatever copy of MATH is read."""
        if self._rest is None:
            tested = {problem.key for problem in self.problems("test")}
            data = self._data
            if data is not None and Path(data).expanduser().is_file():
                data = Path(data).expanduser().parent
            found = {problem.key: problem for problem in map(_rest_problem, MATH.rows(data, self.name))}
            self._rest = sorted((p for p in found.values() if p.key not in tested), key=lambda problem: problem.id)
        return self._rest


def _test_problem(row: Row, index: int) -> Problem:
    question = text_field(row, "problem", "question")
    id = row[0].get("unique_id")
    return Problem(
        id=str(id) if id else f"test-{index}",
        question=question,
        answer=text_field(row, "answer"),
        solution=text_field(row, "solution") if row[0].get("solution") else None,
        metadata=_metadata(row),
    )


def _rest_problem(row: Row) -> Problem:
    question, solution = text_field(row, "problem", "question"), text_field(row, "solution")
    answer = last_boxed(solution)
    if answer is None:
        raise ValueError(f"{row[1]}: field 'solution' has no \\boxed{{answer}}")
    key = normalised(question)
    id = f"math-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return Problem(id=id, question=question, answer=answer, solution=solution, key=key, metadata=_metadata(row))


def _metadata(row: Row) -> dict[str, Any]:
    fields = row[0]
    metadata: dict[str, Any] = {}
    level = re.search(r"\d", str(fields.get("level", "")))
    if level:
        metadata["level"] = int(level.group())
    subject = fields.get("subject") or fields.get("type")
    if subject:
        metadata["subject"] = str(subject)
    return metadata


def last_boxed(text: str) -> str | None:
    """The content of the last ``\\\\boxed{…}`` with balanced braces, or None.

    >>> last_boxed(r"So $\\boxed{\\frac{1}{2}}$."), last_boxed("none")
    ('\\\\frac{1}{2}', None)
    """
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*", text))):
        rest = text[match.end() :]
        if not rest.startswith("{"):
            return rest[:1].strip("$ ") or None  # TeX takes one token: \boxed 5
        depth = 0
        for place, sign in enumerate(rest):
            depth += (sign == "{") - (sign == "}")
            if depth == 0:
                return rest[1:place].strip()
    return None
