"""What the loop of an evaluation costs beside the model: prompts, text, scoring, rows on disk.

Runs ``reset.evaluate`` on a small random model and takes the time spent in the core apart. Prints medians over runs.

    python tools/bench_evaluate.py [--runs 5] [--limit 200] [--tokens 64]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import reset
from reset.demo_model import write_demo_checkpoint
from reset.evaluation import run as evaluation
from reset.evaluation.loop import Loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    loops: list[Loop] = []

    class Observed(Loop):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            loops.append(self)

    rows = []
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(evaluation, "Loop", Observed):
        write_demo_checkpoint(Path(directory) / "model")
        model = reset.load(Path(directory) / "model")
        for number in range(arguments.runs):
            start = time.perf_counter()
            result = reset.evaluate(
                model, "arithmetic", policy=reset.ReSET(0.3, 2.0), limit=arguments.limit, n_samples=2, max_new_tokens=arguments.tokens,
                output_dir=Path(directory) / f"run{number}", progress=False,
            )  # fmt: skip
            total = time.perf_counter() - start
            core = loops[-1].core_seconds
            tokens = sum(sample.tokens for sample in result.samples)
            rows.append((total, core, len(result), tokens))
    apart = [(total - core) / samples for total, core, samples, _ in rows]
    per_token = [(total - core) / tokens for total, core, _, tokens in rows]
    print(f"{rows[0][2]} samples of {rows[0][3] / rows[0][2]:.0f} tokens; {arguments.runs} runs; scoring and rows on disk included")
    whole, core = (statistics.median(row[column] for row in rows) for column in (0, 1))
    print(f"whole run              {whole:8.3f} s, of which in the core {core:.3f} s")
    print(f"apart from the model   {1e6 * statistics.median(apart):8.1f} µs a sample ({1e6 * min(apart):.1f} to {1e6 * max(apart):.1f})")
    print(f"                       {1e6 * statistics.median(per_token):8.2f} µs a token")
    print(f"samples per second     {1 / statistics.median(apart):8.0f}")


if __name__ == "__main__":
    main()
