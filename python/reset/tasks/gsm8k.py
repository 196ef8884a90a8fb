"""GSM8K: 8,792 grade-school word problems (Cobbe et al. 2021, arXiv:2110.14168), MIT licence.

Rows are ``{"question": …, "answer": "worked solution … #### 72"}``, and the solutions carry their arithmetic in calculator
annotations: ``<<48/2=24>>``. Those give the canonical expression of a problem: the sorted normal forms of all annotations. Problems that
share it differ in names and wording only, so splits keep them together::

    test file  ──────────────────────────────────────────► test (1,319)
    train file ── drop what has a key of the test file ──► train | calibration | tune, by a hash of the key
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from reset.tasks.base import Problem, Task, normalised, split_of
from reset.tasks.expression import canonical
from reset.tasks.files import Row, Source, text_field

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

TEST = Source(("gsm8k_test.jsonl", "test.jsonl"), "openai/gsm8k", ("main/test-00000-of-00001.parquet",))
TRAIN = Source(("gsm8k_train.jsonl", "train.jsonl"), "openai/gsm8k", ("main/train-00000-of-00001.parquet",))

SHARES: Mapping[str, float] = {"train": 0.7, "calibration": 0.1, "tune": 0.2}
"""How the train file is divided."""

_ANNOTATION = re.compile(r"<<([^<>]*)>>")


class GSM8K(Task):
    """GSM8K with splits that share no canonical expression.

    Args:
        data: a folder with ``gsm8k_test.jsonl`` and ``gsm8k_train.jsonl``, one of the files (the other is looked for beside it), or None
            for the hub.
    """

    name = "gsm8k"
    version = "1"
    scorer = "number"
    splits = ("train", "calibration", "tune", "test")
    max_new_tokens = 4096

    def __init__(self, data: str | os.PathLike[str] | Path | None = None) -> None:
        super().__init__()
        # Every split needs the test file, be it to leave its problems out: the train file stands for its folder.
        self._data = _folder(data) if data is not None and Path(data).name in TRAIN.names else data
        self._rows: dict[str, list[Problem]] = {}

    def load(self, split: str) -> list[Problem]:
        """Reads the files that the split needs."""
        if split == "test":
            return self._file("test", TEST)
        tested = {problem.key for problem in self._file("test", TEST)}
        return [p for p in self._file("train", TRAIN) if p.key not in tested and split_of(p.key, SHARES) == split]

    def _file(self, prefix: str, source: Source) -> list[Problem]:
        if prefix not in self._rows:
            data = self._data
            if prefix == "train" and data is not None:
                data = _folder(data)
            self._rows[prefix] = [_problem(row, f"{prefix}-{index}") for index, row in enumerate(source.rows(data, self.name))]
        return self._rows[prefix]


def _folder(data: str | os.PathLike[str]) -> Path:
    """Splits of the train file need both files: those beside the one that was named."""
    path = Path(data).expanduser()
    return path.parent if path.is_file() else path


def _problem(row: Row, id: str) -> Problem:
    question, answer = text_field(row, "question"), text_field(row, "answer")
    solution, mark, reference = answer.rpartition("####")
    if not mark or not reference.strip():
        raise ValueError(f"{row[1]}: field 'answer' has no '#### <number>' at its end")
    return Problem(
        id=id,
        question=question,
        answer=reference.strip().replace(",", ""),
        solution=_ANNOTATION.sub("", solution).strip() or None,
        key=expression_key(solution) or normalised(question),
    )


def expression_key(solution: str) -> str:
    """The canonical expression of a solution: its annotations in normal form, sorted; ``""`` without annotations.

    >>> expression_key("He buys 2*3=<<3*2=6>>6 and pays $<<6*1.50=9>>9.")
    '2*3=6; 3/2*6=9'
    """
    return "; ".join(sorted(_equation(found) for found in _ANNOTATION.findall(solution)))


def _equation(text: str) -> str:
    left, _, right = text.partition("=")
    try:
        return f"{canonical(left)}={canonical(right)}"
    except ValueError:  # a few annotations hold units or words: compare those as they are
        return "".join(text.split())
