"""``bench codec``: quantize and dequantize beside the memory bandwidth."""

from __future__ import annotations

import functools
import os
import time
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from reset.cli._common import Json, emit_json, table
from reset.cli.bench._quiet import Quiet

if TYPE_CHECKING:
    from collections.abc import Callable


def codec(
    size: Annotated[int, typer.Option(help="Rows and columns of the bf16 matrix, a multiple of 16.")] = 4096,
    runs: Annotated[int, typer.Option(help="Runs of which the median is taken.")] = 15,
    as_json: Json = False,
) -> None:
    """Time quantize by each method and dequantize, in GB/s of the dense matrix; other libraries beside them: ``tools/bench_codec.py``."""
    import ml_dtypes
    import numpy as np

    from reset import _core
    from reset.nvfp4 import Method, quantize

    if size < 16 or size % 16 or runs < 1:
        raise ValueError(f"size = {size}, runs = {runs} are not possible: size is a multiple of 16, runs at least 1")
    x = (np.random.default_rng(0).standard_normal((size, size), np.float32) * 0.02).astype(ml_dtypes.bfloat16)
    rows: list[dict[str, Any]] = []
    with Quiet() as quiet:
        memory = _core.memory_bandwidth(os.cpu_count() or 1)
        for method in get_args(Method):
            rates = _rates(functools.partial(quantize, x, method=method), x.nbytes, runs)
            rows.append({"case": f"quantize, {method}"} | rates)
        packed = quantize(x)
        for dtype in (np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)):
            out = np.ones(x.shape, dtype)
            rates = _rates(functools.partial(packed.dequantize, dtype.name, out=out), out.nbytes, runs)
            rows.append({"case": f"dequantize to {dtype.name}"} | rates)
    for row in rows:
        row["share_of_bandwidth"] = row["median"] / memory["write" if row["case"].startswith("dequantize") else "read"]
    result = {"size": size, "runs": runs, "unit": "GB/s", "memory": memory, "rows": rows} | quiet.report()
    if as_json:
        emit_json(result)
        return
    table(
        f"codec, {size:,} × {size:,} bf16, GB/s of the dense matrix",
        ("", "median", "p10", "p90", "of bandwidth"),
        [tuple(row.values()) for row in rows],
    )
    typer.echo(f"memory in this run: read {memory['read']:.1f}, write {memory['write']:.1f} GB/s")
    quiet.echo()


def _rates(work: Callable[[], Any], nbytes: int, runs: int) -> dict[str, Any]:
    import numpy as np

    work()
    rates = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        rates.append(nbytes / (time.perf_counter() - start) / 1e9)
    return {"median": float(np.median(rates)), "p10": float(np.quantile(rates, 0.1)), "p90": float(np.quantile(rates, 0.9))}
