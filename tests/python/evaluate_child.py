"""A process that evaluates, for tests that kill it. Arguments: checkpoint, output folder, batch size, threads, options as JSON."""

from __future__ import annotations

import json
import sys

from small_tasks import sums

import reset

SUMS = sums()


def main() -> None:
    checkpoint, folder, batch_size, threads, options = sys.argv[1:]
    model = reset.load(checkpoint, threads=int(threads))
    reset.evaluate(
        model,
        SUMS,
        policy=reset.ReSET(0.3, 2.0),
        batch_size=int(batch_size),
        output_dir=folder,
        progress=False,
        **json.loads(options),
    )


if __name__ == "__main__":
    main()
