"""Stand-ins for the NVIDIA driver and NVRTC, built from ``tests/fakes`` with the machine's C compiler, and processes that meet them.

:func:`build_device` makes a driver that runs the kernels' own text on the CPU: C++ bodies stand in for what is PTX, and fibers for threads.
"""

from __future__ import annotations

import csv
import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "fakes"
KERNELS = SOURCES.parents[1] / "kernels"


@dataclass(frozen=True)
class Fakes:
    """Folders and files of the stand-ins."""

    driver: Path  # a folder for the loader's path, with a whole driver
    lacking: Path  # one whose driver lacks an entry
    nvrtc: Path  # 13.0, for compute capability 9.0
    newer: Path  # 14.0
    older: Path  # 13.0, knows no 9.0

    def python(self, code: str, *, driver: Path | None = None, code_ok: bool = True, **variables: str) -> str:
        """Runs ``code`` in a process that finds the stand-in for the driver; its output."""
        done = self.process([sys.executable, "-c", code], driver=driver, **variables)
        assert (done.returncode == 0) == code_ok, done.stdout + done.stderr
        assert done.returncode in (0, 1), done.stderr  # neither a signal nor an abort
        return done.stdout + done.stderr

    def process(self, command: list[str], *, driver: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs ``command`` with the stand-in on the loader's path."""
        own = {"LD_LIBRARY_PATH": str(driver or self.driver), "XDG_CACHE_HOME": str(self.cache)}
        settings = [f"{name}={value}" for name, value in (own | variables).items()]
        return subprocess.run(["env", *settings, *command], capture_output=True, text=True, check=False)

    @property
    def cache(self) -> Path:
        """Where processes keep compiled kernels: what the stand-ins "compile" must never be taken for a kernel by a real driver."""
        return self.driver.parent / "cache"

    def report(self, nvrtc: list[Path], *, driver: Path | None = None, **variables: str) -> dict[str, Any]:
        """``_core.cuda`` of such a process."""
        code = f"import json; from reset import _core; print(json.dumps(_core.cuda({[str(p) for p in nvrtc]}), default=str))"
        return json.loads(self.python(code, driver=driver, **variables))

    def check(self, ordinal: int = 0, *, nvrtc: Path | None = None, cache: Path | None = None, ok: bool = True, **variables: str) -> str:
        """``_core.cuda_check`` of such a process, with small sizes."""
        code = (
            "import json; from reset import _core\n"
            f"print(json.dumps(_core.cuda_check({ordinal}, [{str(nvrtc or self.nvrtc)!r}], {cache and str(cache)!r}, 3_000_001, 17, 3)))"
        )
        return self.python(code, code_ok=ok, **variables)


def build(folder: Path) -> Fakes:
    """Compiles the stand-ins; skips where that is not possible."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")

    def library(name: str, source: str, *flags: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", *flags, "-o", str(path), str(SOURCES / source)], check=True)
        return path

    return Fakes(
        driver=library("whole/libcuda.so", "driver.c").parent,
        lacking=library("lacking/libcuda.so", "driver.c", "-DLACKS").parent,
        nvrtc=library("13/libnvrtc.so.13", "nvrtc.c", "-DMAJOR=13", "-DARCH=90"),
        newer=library("14/libnvrtc.so.14", "nvrtc.c", "-DMAJOR=14", "-DARCH=90"),
        older=library("old/libnvrtc.so.13", "nvrtc.c", "-DMAJOR=13", "-DARCH=80"),
    )


def build_device(folder: Path) -> Fakes:
    """The stand-ins, with a driver that runs the kernels; skips where they cannot be built."""
    fakes = build(folder)
    compiler = shutil.which("g++")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("needs g++ on x86-64")
    texts = folder / "kernels"
    texts.mkdir()
    for header in KERNELS.glob("*.cuh"):
        shutil.copy(header, texts)
    for own in ("instructions.cuh", "device.hpp", "device.cpp"):
        shutil.copy(SOURCES / own, texts)
    entries: dict[str, list[str]] = {}
    with (KERNELS / "registers.csv").open() as table:
        for row in csv.DictReader(table):
            if row["architecture"] == "sm_90":
                entries.setdefault(row["file"], []).append(row["kernel"])
    flags = ["-shared", "-fPIC", "-O1", "-march=native", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-D__CUDA_ARCH__=900"]
    units = [texts / "device.cpp"]
    for file, names in entries.items():
        if file != "probe":
            units.append(texts / f"{file}.cpp")
            units[-1].write_text(unit((KERNELS / f"{file}.cu").read_text(), names))
    driver = folder / "device" / "libcuda.so"
    driver.parent.mkdir()
    objects = [texts / "driver.o"]
    commands = [["cc", "-c", "-fPIC", "-O1", "-o", str(objects[0]), str(SOURCES / "driver.c")]]
    for source in units:
        objects.append(source.with_suffix(".o"))
        commands.append([compiler, "-c", "-std=c++17", *flags[1:], "-o", str(objects[-1]), str(source)])
    for command in commands:
        subprocess.run(command, check=True)
    subprocess.run([compiler, "-shared", "-o", str(driver), *map(str, objects)], check=True)
    return Fakes(driver=driver.parent, lacking=fakes.lacking, nvrtc=fakes.nvrtc, newer=fakes.newer, older=fakes.older)


def unit(text: str, entries: list[str]) -> str:
    """A file of kernels as C++: its shared memory as an array of its own, its entries registered by name."""
    match = re.search(r"extern __shared__ __align__\(\d+\) (\w+) (\w+)\[\];", text)
    text = text.replace("extern __shared__", "extern")
    lines = [text]
    if match:
        lines.append(f"alignas(128) {match[1]} {match[2]}[(227 * 1024 + 64) / sizeof({match[1]})];")
    lines += [f'static Register r_{name}("{name}", {name}, {match[2] if match else "nullptr"});' for name in entries]
    return "\n".join(lines) + "\n"
