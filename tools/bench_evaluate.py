"""What the loop of an evaluation costs beside the model: prompts, text, scoring, rows on disk.

Runs ``reset.evaluate`` on a small random model and counts the processor time of the calling thread outside the core, so that neither
the model's speed nor other work on the machine matters much. Prints medians over runs.

    python tools/bench_evaluate.py [--runs 5] [--limit 200] [--tokens 64]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import reset
from reset.evaluation import run as evaluation
from reset.evaluation.loop import Loop

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "python"))
from random_checkpoint import write_random_checkpoint


class Timed:
    """A session of the core that counts the time spent in its steps."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.cpu = self.wall = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def advance(self) -> Any:
        cpu, wall = time.thread_time(), time.perf_counter()
        steps = self._session.advance()
        self.cpu += time.thread_time() - cpu
        self.wall += time.perf_counter() - wall
        return steps


class Observed(Loop):
    """A loop whose session is timed."""

    sessions: list[Timed] = []  # noqa: RUF012

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._session: Any = Timed(self._session)
        self.sessions.append(self._session)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    walls, cores, apart = [], [], []
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(evaluation, "Loop", Observed):
        write_random_checkpoint(Path(directory) / "model")
        model = reset.load(Path(directory) / "model")
        task = reset.tasks.get_task("arithmetic")
        task.problems("test", limit=arguments.limit)  # a task keeps its problems: making them is no part of the loop
        for number in range(arguments.runs):
            cpu, wall = time.thread_time(), time.perf_counter()
            result = reset.evaluate(
                model, task, policy=reset.ReSET(0.3, 2.0), limit=arguments.limit, n_samples=2, max_new_tokens=arguments.tokens,
                output_dir=Path(directory) / f"run{number}", progress=False,
            )  # fmt: skip
            session = Observed.sessions[-1]
            walls.append(time.perf_counter() - wall)
            cores.append(session.wall)
            apart.append(time.thread_time() - cpu - session.cpu)
    samples, tokens = len(result), sum(sample.tokens for sample in result.samples)
    each = [1e6 * seconds / samples for seconds in apart]
    print(f"{samples} samples of {tokens / samples:.0f} tokens, {arguments.runs} runs; scoring and rows on disk included")
    print(f"whole run              {statistics.median(walls):8.3f} s, of which in the core {statistics.median(cores):.3f} s")
    print(f"apart from the model   {statistics.median(each):8.1f} µs of processor time a sample ({min(each):.1f} to {max(each):.1f})")
    print(f"                       {1e6 * statistics.median(apart) / tokens:8.2f} µs a token")
    print(f"samples per second     {1e6 / statistics.median(each):8.0f}")


if __name__ == "__main__":
    main()
