"""AIME: the American Invitational Mathematics Examination, two papers of 15 problems a year; answers are integers from 0 to 999.

One task a year, ``aime2022`` to ``aime2025``, with a test split only: thirty problems are too few to calibrate on and test on. The text
is copyright of the MAA: evaluate on it, do not pass it on. Ids read ``2024-II-7``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reset.tasks.base import Problem, Task
from reset.tasks.files import Row, Source, text_field

if TYPE_CHECKING:
    import os

YEARS = (2022, 2023, 2024, 2025)
PAPERS = ("I", "II")
PROBLEMS = 30
"""In one year: two papers of fifteen."""

_URL = re.compile(r"(\d{4})_AIME_(I{1,2})_Problems/Problem_(\d+)")
_ID = re.compile(r"(\d{4})-(I{1,2})-(\d+)")


def _source(year: int) -> Source:
    if year == 2025:
        return Source(("aime2025.jsonl",), "opencompass/AIME2025", ("aime2025-I.jsonl", "aime2025-II.jsonl"))
    return Source((f"aime{year}.jsonl",), "AI-MO/aimo-validation-aime", ("data/train-00000-of-00001.parquet",))


class AIME(Task):
    """The thirty problems of one year.

    Args:
        year: 2022 to 2025.
        data: a folder with ``aime<year>.jsonl``, a file, or None for the hub.
    """

    version = "1"
    scorer = "number"
    splits = ("test",)
    max_new_tokens = 32768
    missing_split = "its 30 problems are for testing: calibrate and tune on 'math500' or 'gsm8k', which have splits for that"

    def __init__(self, year: int, data: str | os.PathLike[str] | None = None) -> None:
        if year not in YEARS:
            raise ValueError(f"year = {year!r} is not possible: use one of {', '.join(map(str, YEARS))}")
        super().__init__(f"aime{year}")
        self.year = year
        self._data = data

    def load(self, split: str) -> list[Problem]:
        """Reads the year's problems, in the order of the papers."""
        rows = _source(self.year).rows(self._data, self.name)
        found = []
        for index, row in enumerate(rows):
            year, paper, number = _place(row, index, self.year)
            if year == self.year:
                found.append((paper, number, row))
        if len(found) != PROBLEMS:
            where = rows[0][1].rpartition(",")[0]
            raise ValueError(f"task {self.name!r}: {where} has {len(found)} problems of {self.year}, expected {PROBLEMS}")
        found.sort(key=lambda item: (PAPERS.index(item[0]), item[1]))
        return [_problem(row, f"{self.year}-{paper}-{number}", paper) for paper, number, row in found]


def _place(row: Row, index: int, year: int) -> tuple[int, str, int]:
    """Year, paper and number of a row: from its url or id, else from its place among thirty rows in order."""
    for name, pattern in (("url", _URL), ("id", _ID)):
        match = pattern.search(str(row[0].get(name) or ""))
        if match:
            return int(match[1]), match[2], int(match[3])
    return year, PAPERS[min(index // 15, 1)], index % 15 + 1 if index < PROBLEMS else index


def _problem(row: Row, id: str, paper: str) -> Problem:
    answer = text_field(row, "answer")
    match = re.fullmatch(r"0*(\d{1,3})(\.0|\^\\circ|°)?", answer.strip())
    if not match:
        raise ValueError(f"{row[1]}: field 'answer' is {answer!r}; answers of the AIME are integers from 0 to 999")
    solution = row[0].get("solution")
    return Problem(
        id=id,
        question=text_field(row, "problem", "question"),
        answer=match[1],
        solution=str(solution) if solution else None,
        metadata={"paper": paper},
    )
