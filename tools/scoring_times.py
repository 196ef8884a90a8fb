"""Times of one score, as the table in docs/scoring.md.

python tools/scoring_times.py --data FOLDER     with gsm8k_test.jsonl and math500.jsonl
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from reset.scoring import Judge

if TYPE_CHECKING:
    from collections.abc import Callable

THOUGHT = "<think>" + "So 3 * 4 = 12, and \\frac{3}{4} of that is 9.\n\n" * 2_200 + "</think>"  # 100 kB


def times(run: Callable[[str, str], object], cases: list[tuple[str, str]]) -> str:
    """Median and 95th percentile of ``run`` over ``cases``."""
    seconds = []
    for case in cases:
        start = time.perf_counter()
        run(*case)
        seconds.append(time.perf_counter() - start)
    median, high = statistics.median(seconds), statistics.quantiles(seconds, n=20)[-1]
    unit, factor = ("µs", 1e6) if median < 1e-3 else ("ms", 1e3)
    return f"{median * factor:.0f} {unit} (95 % within {high * factor:.0f} {unit}; {len(cases)} answers)"


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data

    def answers(name: str) -> list[str]:
        return [json.loads(line)["answer"] for line in (data / name).read_text(encoding="utf-8").splitlines()]

    gsm8k = answers("gsm8k_test.jsonl")
    boxes = [(f"So \\boxed{{{gold.rpartition('####')[2].strip()}}}.", gold) for gold in gsm8k]
    with Judge("number") as judge:
        print("| a number in a box |", times(judge.score, boxes), "|")
        print("| the same behind 100 kB of thought |", times(judge.score, [(THOUGHT + text, gold) for text, gold in boxes[:200]]), "|")
        print("| a worked solution with `####` |", times(judge.score, [(gold, gold) for gold in gsm8k]), "|")
    with Judge("math") as judge:
        golds = answers("math500.jsonl")
        hard = [gold for gold in golds if judge.score(f"\\boxed{{0+{gold}}}", gold).method == "math-verify"]
        same = [(gold, f"0+{gold}") for gold in hard]
        other = list(zip(hard, hard[1:] + hard[:1], strict=True))
        for case in same + other:
            assert judge._decide(*case) is not None
        print("| math-verify, the same expression |", times(judge._decide, same), "|")
        print("| math-verify, another expression |", times(judge._decide, other), "|")
    start = time.perf_counter()
    with Judge("math") as judge:
        judge.score(r"\boxed{x+1}", "1+x")
        print(f"| starting the worker (once) | {time.perf_counter() - start:.1f} s |")


if __name__ == "__main__":
    main()
