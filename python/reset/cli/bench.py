"""``reset-nvfp4 bench decode|sampler|device``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from reset.cli._common import Json, emit_json, table

POLICY_VOCAB = 151_936
POLICY_PARTS = ("entropy pass, all threads", "policy step")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, help="Measure this machine: medians, spread, bytes moved, share of the measured bandwidth.")
    group.command("decode")(decode)
    group.command("sampler")(sampler)
    group.command("device")(device)
    app.add_typer(group, name="bench")


def decode(
    shape: Annotated[str, typer.Option(help="Model size; an unknown one lists all.")] = "qwen3-0.6b",
    weights: Annotated[str, typer.Option(help="nvfp4 or bf16.")] = "nvfp4",
    activations: Annotated[str, typer.Option(help="nvfp4 or float.")] = "nvfp4",
    lm_head: Annotated[str, typer.Option(help="nvfp4 or bf16.")] = "nvfp4",
    kv: Annotated[str, typer.Option(help="f32, bf16, fp8 or nvfp4.")] = "bf16",
    batch: Annotated[list[int] | None, typer.Option(help="Sequences decoded together (repeatable). Default: 1, 4, 8.")] = None,
    context: Annotated[int, typer.Option(help="Tokens already in the cache.")] = 0,
    tokens: Annotated[int, typer.Option(help="Steps timed for each batch.")] = 64,
    prompt: Annotated[int, typer.Option(help="Time the prefill of a prompt of this length as well.")] = 0,
    threads: Annotated[int | None, typer.Option()] = None,
    as_json: Json = False,
) -> None:
    """Time decode steps of a model with random weights: nothing is downloaded."""
    import numpy as np

    from reset import _core

    before = _bandwidth(threads)
    result: dict[str, Any] = _core.bench_decode(
        shape, weights=weights, activations=activations, lm_head=lm_head, kv=kv, batches=batch or [1, 4, 8], context=context, steps=tokens,
        prompt=prompt, threads=threads,
    )  # fmt: skip
    read = max(before, _bandwidth(threads))
    rows = []
    for size, entry in result.pop("batches").items():
        seconds = np.sort(entry["seconds"])
        median = float(np.median(seconds))
        nbytes = entry["weight_bytes"] + entry["kv_bytes"]
        rows.append(
            {
                "batch": size, "tokens_per_second": size / median, "ms": 1e3 * median, "ms_p10": 1e3 * float(np.quantile(seconds, 0.1)),
                "ms_p90": 1e3 * float(np.quantile(seconds, 0.9)), "mb": nbytes / 1e6, "gb_per_s": nbytes / median / 1e9,
                "share_of_bandwidth": nbytes / median / 1e9 / read,
            }
        )  # fmt: skip
    prefill = result.pop("prefill", None)
    # What ReSET adds to a step of one sequence: the entropy pass and the controller, at the widest vocabulary of the shapes.
    parts = {name: median for name, median, _, _ in _core.sampler_timings(POLICY_VOCAB, 101)}
    policy_us = sum(parts[name] for name in POLICY_PARTS)
    result |= {"policy_us": policy_us, "policy_share": policy_us / 1e3 / min(row["ms"] for row in rows)}
    result |= {"rows": rows, "read_gb_per_s": read, "steps": tokens}
    if prefill is not None:
        result["prefill_tokens_per_second"] = prompt / float(np.median(prefill))
    if as_json:
        emit_json(result)
        return
    table(
        f"decode, {result['shape']}: weights {result['weights']}, head {result['lm_head']}, activations {result['activations']}, "
        f"kv {result['kv']}, {result['threads']} threads, {result['table']}, context {context}",
        ("batch", "tokens/s", "ms/step", "p10", "p90", "MB/step", "GB/s", "of bandwidth"),
        [tuple(row.values()) for row in rows],
    )
    typer.echo(f"read bandwidth measured in this run: {read:.1f} GB/s; {tokens} steps for each batch, sampling not included")
    typer.echo(
        f"the ReSET policy, entropy pass included: {policy_us:.0f} µs at a vocabulary of {POLICY_VOCAB:,}, {result['policy_share']:.2%} "
        "of the shortest step above"
    )
    if prefill is not None:
        typer.echo(f"prefill of {prompt} tokens: {result['prefill_tokens_per_second']:.0f} tokens/s")


def _bandwidth(threads: int | None) -> float:
    import os

    from reset import _core

    return _core.memory_bandwidth(threads or os.cpu_count() or 1)["read"]


def sampler(
    vocab: Annotated[int, typer.Option(help="Width of the logits.")] = 151_936,
    runs: Annotated[int, typer.Option()] = 201,
    as_json: Json = False,
) -> None:
    """Time what follows the logits: entropy, the ReSET controller, filters and the draw; one thread where no other number is named."""
    from reset import _core

    rows = [{"case": name, "median": mid, "p10": low, "p90": high} for name, mid, low, high in _core.sampler_timings(vocab, runs)]
    if as_json:
        emit_json({"vocab": vocab, "runs": runs, "unit": "us", "rows": rows})
        return
    table(f"after the logits, vocabulary {vocab:,}, µs", ("", "median", "p10", "p90"), [tuple(row.values()) for row in rows])


def device(
    device: Annotated[str, typer.Option(help="cuda or cuda:N.")] = "cuda",
    gib: Annotated[float, typer.Option(help="Size of each of two buffers; at most an eighth of what is free.")] = 2.0,
    nodes: Annotated[int, typer.Option(help="Kernels of a graph.")] = 200,
    repetitions: Annotated[int, typer.Option(help="Runs of which the median is taken.")] = 50,
    as_json: Json = False,
) -> None:
    """Check a CUDA device and time what other figures are read against: copies, graph nodes, the way back to the host."""
    from reset import _core
    from reset._cuda import cubin_folder, nvrtc_candidates

    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ValueError(f"device = {device!r} is not possible: use 'cuda' or 'cuda:N'")
    places = nvrtc_candidates()
    figures = _core.cuda_check(int(number or 0), places, cubin_folder(), int(gib * 2**30), nodes, repetitions)
    card = _core.cuda(places)["devices"][int(number or 0)][1]
    if as_json:
        emit_json({"card": card, "nodes": nodes, "repetitions": repetitions, **figures})
        return
    rows: list[tuple[str, float, str]] = [
        ("size of a buffer", figures["bytes"] / 2**20, "MiB"),
        ("copy, bytes read and written", figures["copy_bytes_per_second"] / 1e9, "GB/s"),
        ("read", figures["read_bytes_per_second"] / 1e9, "GB/s"),
        (f"node of a graph of {nodes}", figures["node_seconds"] * 1e6, "µs"),
        ("the same, overlapping", figures["overlapping_node_seconds"] * 1e6, "µs"),
        ("overlapping edges kept", figures["overlapping_edges"], f"of {nodes - 1}"),
        ("graph launch to record on the host", figures["record_seconds"] * 1e6, "µs"),
    ]
    table(card, ("", "median", ""), rows)
