"""``bench device``: a CUDA device."""

from __future__ import annotations

from typing import Annotated

import typer

from reset.cli._common import Json, emit_json, table


def device(
    device: Annotated[str, typer.Option(help="cuda or cuda:N.")] = "cuda",
    gib: Annotated[float, typer.Option(help="Size of each of two buffers in GiB; at most an eighth of what is free.")] = 2.0,
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
