"""``reset-nvfp4 doctor``."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer

from reset.cli._common import Json, emit_json, examples, table

#: Packages whose versions explain results or failures; the last ones are optional.
PACKAGES = ("numpy", "tokenizers", "jinja2", "ml_dtypes", "huggingface_hub", "matplotlib", "torch", "transformers", "vllm")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor", epilog=examples("doctor", "doctor --json"))(doctor)


def collect() -> dict[str, Any]:
    """Versions, CPU, SIMD tables, memory bandwidth, devices, CUDA."""
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
        **_devices(),
    }


def _devices() -> dict[str, Any]:
    """Where models can run, as `load(device=…)` spells it, and what CUDA needs: what is there, what is missing and what would help."""
    from reset import _core
    from reset._cuda import cubin_folder, nvrtc_candidates

    found = [{"device": name, "state": sentence} for name, sentence in _core.backends()]
    cuda = _core.cuda(nvrtc_candidates())
    for ordinal, name, (major, minor), memory in cuda["devices"]:
        state = f"{name}, compute capability {major}.{minor}, {memory / 2**30:.1f} GiB"
        found.append({"device": f"cuda:{ordinal}", "state": state})
    if cuda["missing"]:
        found.append({"device": "cuda", "state": "; ".join(problem for problem, _ in cuda["missing"])})
    driver, compiler = cuda["driver_version"], cuda["compiler"]
    return {
        "devices": found,
        "cuda": {
            "driver": driver and f"{driver[0]}.{driver[1]}",
            "nvrtc": compiler and {"version": f"{compiler[0][0]}.{compiler[0][1]}", "path": str(compiler[1])},
            "cubins": str(cubin_folder()),
            "kernels": [name for name, _ in _core.cuda_kernels()],
            "missing": [{"found": problem, "help": remedy} for problem, remedy in cuda["missing"]],
        },
    }


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
    """Show versions, CPU features and the SIMD table chosen, memory bandwidth, devices, what CUDA lacks."""
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
    cuda, nvrtc = report["cuda"], report["cuda"]["nvrtc"]
    lines = [
        ("driver", f"serves CUDA {cuda['driver']}" if cuda["driver"] else "not found"),
        ("NVRTC", f"{nvrtc['version']}, {nvrtc['path']}" if nvrtc else "not found"),
        ("compiled kernels", cuda["cubins"]),
        *(("missing", f"{entry['found']}: {entry['help']}" if entry["help"] else entry["found"]) for entry in cuda["missing"]),
    ]
    table("CUDA", ("", ""), lines)
