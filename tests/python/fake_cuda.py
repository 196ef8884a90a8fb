"""Stand-ins for the NVIDIA driver and NVRTC, built from ``tests/fakes`` with the machine's C compiler, and processes that meet them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "fakes"


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
        settings = [f"{name}={value}" for name, value in {"LD_LIBRARY_PATH": str(driver or self.driver), **variables}.items()]
        return subprocess.run(["env", *settings, *command], capture_output=True, text=True, check=False)

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
