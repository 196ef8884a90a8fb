"""``reset-nvfp4 doctor``."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer

from reset.cli._common import Json, emit_json, table

#: Packages whose versions explain results or failures; the last ones are optional.
PACKAGES = ("numpy", "tokenizers", "jinja2", "ml_dtypes", "huggingface_hub", "matplotlib", "torch", "transformers", "vllm")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor")(doctor)


def collect() -> dict[str, Any]:
    """Versions, CPU, SIMD tables, memory bandwidth, devices."""
    from reset import _core

    cpu = {"name": _cpu_name(), **_core.cpu()}
    bandwidth = _core.memory_bandwidth(cpu["threads"])
    return {
        "reset-nvfp4": _core.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": cpu,
        "memory_bandwidth": {
            "threads": cpu["threads"],
            "read_gb_per_s": bandwidth["read"],
            "write_gb_per_s": bandwidth["write"],
        },
        "devices": _devices(),
    }


def _devices() -> list[dict[str, str]]:
    """Where models can run, as `load(device=…)` spells it."""
    from reset import _core

    found = [{"device": name, "state": sentence} for name, sentence in _core.backends()]
    cuda = _core.cuda()
    for ordinal, name, (major, minor), memory in cuda["devices"]:
        state = f"{name}, compute capability {major}.{minor}, {memory / 2**30:.1f} GiB"
        found.append({"device": f"cuda:{ordinal}", "state": f"{state}; not used by this version: models decode on the CPU"})
    if cuda["problem"] is not None:
        found.append({"device": "cuda", "state": cuda["problem"]})
    return found


def _cpu_name() -> str:
    """The processor's own name where the system tells it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(named, platform.processor() or platform.machine())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def doctor(as_json: Json = False) -> None:
    """Show versions, CPU features and the SIMD table chosen, memory bandwidth, devices."""
    report = collect()
    if as_json:
        emit_json(report)
        return
    cpu, bandwidth = report["cpu"], report["memory_bandwidth"]
    rows: list[tuple[str, object]] = [
        ("reset-nvfp4", report["reset-nvfp4"]),
        ("python", report["python"]),
        ("platform", report["platform"]),
        *((name, found or "not installed") for name, found in report["packages"].items()),
    ]
    table("versions", ("", ""), [(name, str(value)) for name, value in rows])
    table(
        "SIMD tables",
        ("table", "state"),
        [(name, "chosen" if name == cpu["table"] else reason or "runs here") for name, reason in cpu["tables"]],
    )
    typer.echo(f"CPU: {cpu['name']}, {cpu['threads']} threads; features: {', '.join(cpu['features']) or 'none detected'}")
    typer.echo(
        f"memory bandwidth, {bandwidth['threads']} threads: read {bandwidth['read_gb_per_s']:.1f} GB/s, "
        f"write {bandwidth['write_gb_per_s']:.1f} GB/s"
    )
    table("devices", ("device", "state"), [(d["device"], d["state"]) for d in report["devices"]])
