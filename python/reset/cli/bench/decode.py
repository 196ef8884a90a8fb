"""``bench decode``, ``batch``, ``context`` and ``prefill``: models of published sizes with random weights."""

from __future__ import annotations

import os
import statistics
from typing import Annotated, Any

import typer

from reset.cli._common import Json, emit_json, table
from reset.cli.bench._quiet import Quiet

POLICY_VOCAB = 151_936
SAMPLING = {"reset": "sampling by ReSET included", "fixed": "sampling included", "none": "sampling not included"}
POLICY_PARTS = ("entropy pass, all threads", "policy step")

Shape = Annotated[str, typer.Option(help="Model size; an unknown one lists all.")]
Weights = Annotated[str, typer.Option(help="nvfp4 or bf16.")]
Activations = Annotated[str, typer.Option(help="nvfp4 or float.")]
Head = Annotated[str, typer.Option("--lm-head", help="nvfp4 or bf16.")]
Kv = Annotated[str, typer.Option(help="f32, bf16, fp8 or nvfp4.")]
Steps = Annotated[int, typer.Option("--tokens", help="Steps timed for each row.")]
Policy = Annotated[str, typer.Option(help="Temperatures of the draw in every step: reset or fixed; on the CPU, none leaves sampling out.")]
Threads = Annotated[int | None, typer.Option(help="Default: all that this process may use.")]


def decode(
    shape: Shape = "qwen3-0.6b",
    weights: Weights = "nvfp4",
    activations: Activations = "nvfp4",
    lm_head: Head = "nvfp4",
    kv: Kv = "bf16",
    batch: Annotated[list[int] | None, typer.Option(help="Sequences decoded together (repeatable). Default: 1, 4, 8.")] = None,
    context: Annotated[int, typer.Option(help="Tokens already in the cache.")] = 0,
    tokens: Steps = 64,
    prompt: Annotated[int, typer.Option(help="Time the prefill of a prompt of this length as well.")] = 0,
    threads: Threads = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    policy: Policy = "reset",
    as_json: Json = False,
) -> None:
    """Time decode steps as generation runs them: model, entropy, policy and an unfiltered draw; on CUDA as graphs."""
    from reset import _core
    from reset._cuda import device_place

    options = _options(weights, activations, lm_head, kv, threads)
    place = device_place(device)
    if place is not None:
        _decode_on_device(shape, place, policy, options | {"batches": batch or [1, 2, 4, 8], "context": context}, tokens, as_json=as_json)
        return
    with Quiet() as quiet:
        before = _bandwidth(threads)
        result = _core.bench_decode(
            shape, **options, batches=batch or [1, 4, 8], context=context, steps=tokens, prompt=prompt, policy=policy
        )
        read = max(before, _bandwidth(threads))
        # What ReSET adds to a step of one sequence: the entropy pass and the controller, at the widest vocabulary of the shapes.
        parts = {name: median for name, median, _, _ in _core.sampler_timings(POLICY_VOCAB, 101)}
    rows = _rows(result, read)
    seconds = result.pop("prefill", None)
    policy_us = sum(parts[name] for name in POLICY_PARTS)
    result |= {"policy_us": policy_us, "policy_share": policy_us / 1e3 / min(row["ms"] for row in rows)}
    result |= {"rows": rows, "read_gb_per_s": read, "steps": tokens, "policy": policy} | quiet.report()
    if seconds is not None:
        result["prefill_tokens_per_second"] = prompt / statistics.median(seconds)
    if as_json:
        emit_json(result)
        return
    _table("decode", result, ("batch",), rows)
    typer.echo(f"read bandwidth measured in this run: {read:.1f} GB/s; {tokens} steps for each batch, {SAMPLING[policy]}")
    typer.echo(
        f"the ReSET policy, entropy pass included: {policy_us:.0f} µs at a vocabulary of {POLICY_VOCAB:,}, {result['policy_share']:.2%} "
        "of the shortest step above"
    )
    if seconds is not None:
        typer.echo(f"prefill of {prompt} tokens: {result['prefill_tokens_per_second']:.0f} tokens/s")
    quiet.echo()


def _decode_on_device(shape: str, place: Any, policy: str, options: dict[str, Any], steps: int, *, as_json: bool) -> None:
    from reset import _core

    read = _core.cuda_check(place[0], place[1], place[2], 512 << 20, 2, 30)["read_bytes_per_second"] / 1e9
    named = shape.replace("r1-qwen-", "r1-distill-qwen-")
    result = _core.bench_decode(named, **options, steps=steps, cuda=place, policy=policy)
    rows = _rows(result, read)
    result |= {"rows": rows, "read_gb_per_s": read, "steps": steps, "policy": policy, "device": f"cuda:{place[0]}"}
    if as_json:
        emit_json(result)
        return
    _table(f"decode on cuda:{place[0]}, {policy} temperatures", result, ("batch",), rows)
    typer.echo(f"read bandwidth measured in this run: {read:.0f} GB/s; {steps} steps for each batch, {SAMPLING[policy]}")


def batch(
    shape: Shape = "qwen3-0.6b",
    weights: Weights = "nvfp4",
    activations: Activations = "nvfp4",
    lm_head: Head = "nvfp4",
    kv: Kv = "bf16",
    size: Annotated[list[int] | None, typer.Option(help="Sequences decoded together (repeatable). Default: 1, 2, 4, 8, 16.")] = None,
    tokens: Steps = 32,
    policy: Policy = "reset",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Time decode steps over batch sizes: how far one reading of the weights serves several sequences."""
    from reset import _core

    options = _options(weights, activations, lm_head, kv, threads)
    with Quiet() as quiet:
        before = _bandwidth(threads)
        result = _core.bench_decode(shape, **options, batches=size or [1, 2, 4, 8, 16], steps=tokens, policy=policy)
        read = max(before, _bandwidth(threads))
    rows = _rows(result, read)
    result |= {"rows": rows, "read_gb_per_s": read, "steps": tokens, "policy": policy} | quiet.report()
    if as_json:
        emit_json(result)
        return
    _table("decode over batch sizes", result, ("batch",), rows)
    typer.echo(f"read bandwidth measured in this run: {read:.1f} GB/s; {SAMPLING[policy]}")
    quiet.echo()


def context(
    shape: Shape = "qwen3-0.6b",
    weights: Weights = "nvfp4",
    activations: Activations = "nvfp4",
    lm_head: Head = "nvfp4",
    kv: Kv = "bf16",
    length: Annotated[list[int] | None, typer.Option(help="Tokens already in the cache (repeatable). Default: 0, 512, 2048, 8192.")] = None,
    tokens: Steps = 16,
    policy: Policy = "reset",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Time decode steps of one sequence over lengths of its context, beside "bytes over bandwidth"."""
    from reset import _core

    options = _options(weights, activations, lm_head, kv, threads)
    measured = []
    with Quiet() as quiet:
        read = _bandwidth(threads)
        for held in length or [0, 512, 2048, 8192]:
            result = _core.bench_decode(shape, **options, batches=[1], context=held, steps=tokens, policy=policy)
            read = max(read, _bandwidth(threads))
            measured.append((held, result.pop("batches")[1]))
    rows = [_row({"context": held}, 1, entry, read) for held, entry in measured]
    for row in rows:
        row["ms_beyond_bandwidth"] = row["ms"] - row["mb"] / read
    result.pop("context")
    result |= {"rows": rows, "read_gb_per_s": read, "steps": tokens, "policy": policy} | quiet.report()
    if as_json:
        emit_json(result)
        return
    _table("decode over contexts", result, ("context",), rows, ("ms beyond",))
    typer.echo(f"read bandwidth measured in this run: {read:.1f} GB/s; {SAMPLING[policy]}")
    typer.echo('"ms beyond": what a step takes beyond its bytes over that bandwidth')
    quiet.echo()


def prefill(
    shape: Shape = "qwen3-0.6b",
    weights: Weights = "nvfp4",
    activations: Activations = "nvfp4",
    lm_head: Head = "nvfp4",
    kv: Kv = "bf16",
    length: Annotated[list[int] | None, typer.Option(help="Tokens of the prompt (repeatable). Default: 512.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Time the reading of a prompt: three runs of each length."""
    import numpy as np

    from reset import _core

    options = _options(weights, activations, lm_head, kv, threads)
    rows = []
    with Quiet() as quiet:
        for tokens in length or [512]:
            result = _core.bench_decode(shape, **options, batches=[], steps=1, prompt=tokens)
            seconds = np.sort(result.pop("prefill"))
            middle = float(np.median(seconds))
            row = {"tokens": tokens, "tokens_per_second": tokens / middle, "ms": 1e3 * middle}
            rows.append(row | {"ms_min": 1e3 * float(seconds[0]), "ms_max": 1e3 * float(seconds[-1])})
    for key in ("batches", "context"):
        result.pop(key)
    result |= {"rows": rows} | quiet.report()
    if as_json:
        emit_json(result)
        return
    table(_title("prefill", result), ("tokens", "tokens/s", "ms", "min", "max"), [tuple(row.values()) for row in rows])
    quiet.echo()


def _options(weights: str, activations: str, lm_head: str, kv: str, threads: int | None) -> dict[str, Any]:
    """What ``_core.bench_decode`` makes its model by, beside the shape."""
    return {"weights": weights, "activations": activations, "lm_head": lm_head, "kv": kv, "threads": threads}


def _rows(result: dict[str, Any], read: float) -> list[dict[str, Any]]:
    """Takes the timings of each batch size out of ``result`` and gives their rows."""
    return [_row({"batch": size}, size, entry, read) for size, entry in result.pop("batches").items()]


def _row(first: dict[str, Any], sequences: int, entry: dict[str, Any], read: float) -> dict[str, Any]:
    """One row of figures: ``read`` is the bandwidth in GB/s."""
    import numpy as np

    seconds = entry["seconds"]
    median = float(np.median(seconds))
    nbytes = entry["weight_bytes"] + entry["kv_bytes"]
    return first | {
        "tokens_per_second": sequences / median,
        "ms": 1e3 * median,
        "ms_p10": 1e3 * float(np.quantile(seconds, 0.1)),
        "ms_p90": 1e3 * float(np.quantile(seconds, 0.9)),
        "mb": nbytes / 1e6,
        "gb_per_s": nbytes / median / 1e9,
        "share_of_bandwidth": nbytes / median / 1e9 / read,
    }


def _title(what: str, result: dict[str, Any]) -> str:
    return (
        f"{what}, {result['shape']}: weights {result['weights']}, head {result['lm_head']}, activations {result['activations']}, "
        f"kv {result['kv']}, {result['threads']} threads, {result['table']}"
    ) + (f", context {result['context']}" if result.get("context") else "")


def _table(what: str, result: dict[str, Any], first: tuple[str, ...], rows: list[dict[str, Any]], last: tuple[str, ...] = ()) -> None:
    columns = (*first, "tokens/s", "ms/step", "p10", "p90", "MB/step", "GB/s", "of bandwidth", *last)
    table(_title(what, result), columns, [tuple(row.values()) for row in rows])


def _bandwidth(threads: int | None) -> float:
    from reset import _core

    return _core.memory_bandwidth(threads or os.cpu_count() or 1)["read"]
