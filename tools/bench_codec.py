"""Throughput of the NVFP4 codec beside this machine's memory bandwidth and the libraries it reproduces, in one run.

    maturin develop -r && python tools/bench_codec.py

Prints, for one bfloat16 matrix and two threads: memory bandwidth, quantize by each method, dequantize, and, where torch
with nvidia-modelopt or compressed-tensors is installed, those on the same matrix. GB/s are 10^9 bytes of the dense
matrix (of the output, for dequantize) per second: median, and smallest to largest of the rounds. Codes and scales are
compared before anything is timed. Other work on the machine slows every row: watch the load and the spread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from reset import _core
from reset.nvfp4 import NVFP4Tensor, quantize

if TYPE_CHECKING:
    from collections.abc import Callable

Rows = dict[str, dict[str, float]]


def measure(work: Callable[[], Any], size: int, rounds: int) -> dict[str, float]:
    work()
    rates = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        rates.append(size / (time.perf_counter() - started) / 1e9)
    return {"median": statistics.median(rates), "min": min(rates), "max": max(rates)}


def modelopt(x: Any) -> tuple[Callable[[], Any], Callable[[], Any], NVFP4Tensor]:
    import torch
    from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor

    def run() -> Any:
        return NVFP4QTensor.quantize(x, 16)

    q, scales, scale = run()

    def back() -> Any:
        return q.dequantize(torch.bfloat16, scale=scales, double_scale=scale, block_sizes={-1: 16})

    return run, back, NVFP4Tensor(q._quantized_data, scales, float(scale))


def compressed_tensors(x: Any) -> tuple[Callable[[], Any], Callable[[], Any], NVFP4Tensor]:
    from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
    from compressed_tensors.quantization import QuantizationScheme
    from compressed_tensors.quantization.quant_scheme import NVFP4A16
    from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam

    scheme = QuantizationScheme(targets=["Linear"], weights=NVFP4A16["weights"])

    def run() -> Any:
        divisor = generate_gparam(x.amin().reshape(1), x.amax().reshape(1))
        blocks = x.unflatten(-1, (-1, 16))
        scales, _ = calculate_qparams(blocks.amin(-1), blocks.amax(-1), NVFP4A16["weights"], global_scale=divisor)
        return NVFP4PackedCompressor.compress({"weight": x, "weight_scale": scales, "weight_global_scale": divisor}, scheme)

    state = run()
    parts = (state["weight_packed"], state["weight_scale"].to(_float8()), float(state["weight_global_scale"]))

    def back() -> Any:
        return NVFP4PackedCompressor.decompress(state, scheme)

    return run, back, NVFP4Tensor.from_divisor(*parts)


def _float8() -> Any:
    import torch

    return torch.float8_e4m3fn


def ours(x: Any, rounds: int) -> Rows:
    rows: Rows = {}
    for name, options in (
        ("nearest, modelopt", {}),
        ("nearest, compressed-tensors", {"dialect": "compressed-tensors"}),
        ("four_over_six", {"method": "four_over_six"}),
        ("sweep", {"method": "sweep"}),
    ):
        rows[f"reset quantize {name}"] = measure(lambda o=options: quantize(x, **o), x.nbytes, rounds)  # type: ignore[misc]
    t = quantize(x)
    for name, dtype in (("float32", np.float32), ("bfloat16", ml_dtypes.bfloat16)):
        out = np.ones(x.shape, dtype)
        rows[f"reset dequantize to {name}"] = measure(lambda n=name, o=out: t.dequantize(n, out=o), out.nbytes, rounds)  # type: ignore[misc]
        rows[f"reset dequantize to {name}, new array"] = measure(lambda n=name: t.dequantize(n), out.nbytes, rounds)  # type: ignore[misc]
    return rows


def libraries(x: Any, threads: int, rounds: int) -> tuple[Rows, dict[str, str]]:
    rows: Rows = {}
    missing = {}
    for library, dialect, make in (
        ("nvidia-modelopt", "modelopt", modelopt),
        ("compressed-tensors", "compressed-tensors", compressed_tensors),
    ):
        try:
            import torch

            torch.set_num_threads(threads)
            run, back, found = make(torch.from_numpy(x.view(np.int16)).view(torch.bfloat16))
        except ImportError as absent:
            missing[library] = str(absent)
            continue
        expected = quantize(x, dialect=dialect)  # type: ignore[arg-type]
        if not (np.array_equal(found.codes, expected.codes) and np.array_equal(found.block_scales, expected.block_scales)):
            raise SystemExit(f"{library} and reset disagree: nothing was timed")
        rows[f"{library} quantize"] = measure(run, x.nbytes, rounds)
        rows[f"{library} dequantize to bfloat16"] = measure(back, x.nbytes, rounds)
    return rows, missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns (default 4096)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--library-rounds", type=int, default=3, help="rounds of the libraries, which are slow (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()

    threads = min(2, os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    x = (np.random.default_rng(0).standard_normal((args.size, args.size), np.float32) * 0.02).astype(ml_dtypes.bfloat16)
    rows: Rows = {}
    for kind, rate in _core.memory_bandwidth(threads).items():
        rows[f"memory {kind}"] = {"median": rate, "min": rate, "max": rate}
    theirs, missing = libraries(x, threads, args.library_rounds)
    rows |= ours(x, args.rounds) | theirs
    if args.json:
        print(json.dumps({"size": args.size, "threads": threads, "cpu": platform.processor(), "GB/s": rows, "missing": missing}))
        return
    print(f"{args.size} x {args.size} bfloat16, {threads} threads, load {os.getloadavg()[0]:.1f}, numpy {np.__version__}")
    for name, row in rows.items():
        print(f"{name:<42} {row['median']:8.3f} GB/s  ({row['min']:.3f} to {row['max']:.3f})")
    for library, reason in missing.items():
        print(f"{library}: not measured, {reason}")


if __name__ == "__main__":
    main()
