"""A small task for tests of the machinery."""

from __future__ import annotations

import reset


def sums(count: int = 24) -> reset.Task:
    """Additions, half of them to test and half to tune."""
    rows = [{"id": f"sum-{i}", "question": f"What is {7 * i} plus {3 * i + 2}?", "answer": 10 * i + 2} for i in range(count)]
    return reset.Task("sums", rows, splits={"test": 0.5, "tune": 0.5}, scorer="number")
