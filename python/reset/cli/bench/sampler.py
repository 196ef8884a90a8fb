"""``bench sampler``: what follows the logits."""

from __future__ import annotations

from typing import Annotated

import typer

from reset.cli._common import Json, emit_json, table
from reset.cli.bench._quiet import Quiet


def sampler(
    vocab: Annotated[int, typer.Option(help="Width of the logits, in tokens.")] = 151_936,
    runs: Annotated[int, typer.Option(help="Runs of which the median is taken.")] = 201,
    as_json: Json = False,
) -> None:
    """Time what follows the logits: entropy, the ReSET controller, filters and the draw; one thread where no other number is named."""
    from reset import _core

    with Quiet() as quiet:
        timings = _core.sampler_timings(vocab, runs)
    rows = [{"case": name, "median": mid, "p10": low, "p90": high} for name, mid, low, high in timings]
    if as_json:
        emit_json({"vocab": vocab, "runs": runs, "unit": "us", "rows": rows} | quiet.report())
        return
    table(f"after the logits, vocabulary {vocab:,}, µs", ("", "median", "p10", "p90"), [tuple(row.values()) for row in rows])
    quiet.echo()
