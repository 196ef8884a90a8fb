"""How the time of a token grows: with the model, the context, the batch and the threads.

Runs ``reset-nvfp4 bench decode`` over a grid, each row again until the machine was quiet meanwhile, and fits what a reader needs
to predict another machine: for one sequence,

    ms = megabytes / rate + fixed

by least squares over all sizes and contexts, for each number of threads. What a further sequence of a batch adds is printed for each
size: that is arithmetic, not memory. Sampling is left out: it depends on the vocabulary alone (``bench sampler``).

    python tools/bench_growth.py [--shape qwen3-0.6b …] [--context 0 …] [--batch 1 …] [--threads 1 2] [--tries 3] [--output growth.csv]
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("shape", "threads", "context", "batch", "ms", "ms_p10", "ms_p90", "mb", "read_gb_per_s", "clean")


def decode(shape: str, threads: int, context: int, batches: list[int], steps: int) -> dict[str, Any]:
    """One command's report."""
    batch = [word for size in batches for word in ("--batch", str(size))]
    command = ["bench", "decode", "--shape", shape, "--threads", str(threads), "--context", str(context), "--tokens", str(steps), *batch]
    done = subprocess.run([sys.executable, "-m", "reset", *command, "--policy", "none", "--json"], check=True, stdout=subprocess.PIPE)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def measure(shape: str, threads: int, context: int, batches: list[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one command, of the first quiet run, else of the last."""
    for _ in range(options.tries):
        report = decode(shape, threads, context, batches, options.tokens)
        if report["clean"] is not False:
            break
    shared = {"shape": shape, "threads": threads, "context": context, "read_gb_per_s": report["read_gb_per_s"], "clean": report["clean"]}
    return [{**row, **shared} for row in report["rows"]]


def fit(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """GB/s, fixed milliseconds, and the largest relative error, of single sequences."""
    megabytes = np.array([row["mb"] for row in rows])
    milliseconds = np.array([row["ms"] for row in rows])
    # Relative errors: a model ten times as large is not ten times as important.
    design = np.stack([megabytes, np.ones_like(megabytes)], 1) / milliseconds[:, None]
    (per_megabyte, fixed), *_ = np.linalg.lstsq(design, np.ones_like(milliseconds), rcond=None)
    error = np.abs((megabytes * per_megabyte + fixed) / milliseconds - 1).max()
    return float(1 / per_megabyte), float(fixed), float(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=["qwen3-0.6b", "qwen3-1.7b", "qwen3-4b"])
    parser.add_argument("--context", nargs="+", type=int, default=[0, 2048, 8192, 16384])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--tokens", type=int, default=16, help="steps of each row")
    parser.add_argument("--tries", type=int, default=3, help="runs of a row until one is clean")
    parser.add_argument("--output", type=Path, default=None, help="also write the rows as CSV")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{'shape':<12}{'threads':>8}{'context':>9}{'batch':>7}{'ms':>10}{'(p10 to p90)':>18}{'MB':>9}{'GB/s':>7}  bandwidth")
    for shape in options.shape:
        for threads in options.threads:
            for context in options.context:
                # Batches without a context: with one, the caches of all sequences would have to fit into memory.
                for row in measure(shape, threads, context, options.batch if context == 0 else [1], options):
                    rows.append(row)
                    spread = f"({row['ms_p10']:.1f} to {row['ms_p90']:.1f})"
                    print(
                        f"{shape:<12}{threads:>8}{context:>9}{row['batch']:>7}{row['ms']:>10.2f}{spread:>18}{row['mb']:>9.0f}"
                        f"{row['mb'] / row['ms']:>7.1f}  {row['read_gb_per_s']:.1f} GB/s{'' if row['clean'] else ', NOT CLEAN'}",
                        flush=True,
                    )
    for threads in options.threads:
        single = [row for row in rows if row["threads"] == threads and row["batch"] == 1]
        if len(single) > 2:
            rate, fixed, error = fit(single)
            print(f"{threads} threads: ms = MB / {rate:.1f} + {fixed:.2f}, off by {error:.0%} at most over {len(single)} rows")
    further: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in rows:
        first = next(r for r in rows if all(r[k] == row[k] for k in ("shape", "threads", "context")))
        if row["batch"] > first["batch"]:
            added = (row["ms"] - first["ms"]) / (row["batch"] - first["batch"])
            further[row["shape"], row["threads"]].append(f"{added:.2f} ({row['batch']})")
    for (shape, threads), added in further.items():
        print(f"{shape}, {threads} threads: a further sequence of a batch adds, ms (up to batch): {', '.join(added)}")
    if options.output:
        with options.output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
