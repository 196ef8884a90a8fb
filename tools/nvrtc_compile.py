"""Compile every kernel for every supported architecture with NVRTC, without a GPU, and hold its resources in a table.

    python tools/nvrtc_compile.py                 compile all, compare with kernels/registers.csv
    python tools/nvrtc_compile.py --write         the same, and write the table anew
    python tools/nvrtc_compile.py --cubins DIR    keep the machine code (tools/sass_count.py reads it)

NVRTC comes from PyPI (`pip install nvidia-cuda-nvrtc==13.0.88`), or from the toolkit. Each file is compiled alone: C++17, no macros, its
own folder on the include path. The table has one line per kernel and architecture: registers per thread, static shared memory, spilled
bytes and stack as ptxas reports them. A kernel that spills, or a table that tells something else than the compiler, fails the run.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import re
import sys
import sysconfig
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parent.parent
KERNELS = PROJECT / "kernels"
TABLE = KERNELS / "registers.csv"
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100a", "sm_120")
VERSION = (13, 0)  # the table is this compiler's; others may allocate registers differently


@dataclass(frozen=True)
class Usage:
    """Resources of one kernel on one architecture."""

    file: str
    kernel: str
    architecture: str
    registers: int
    static_shared_bytes: int
    spilled_bytes: int
    stack_bytes: int


class Nvrtc:
    """The run-time compiler, loaded from the first place that has it."""

    def __init__(self) -> None:
        """Raises OSError where no NVRTC is found."""
        folder = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13" / "lib"
        found = sorted(folder.glob("libnvrtc.so.*"))
        builtins = sorted(folder.glob("libnvrtc-builtins.so.*"))
        for path in builtins:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)  # NVRTC looks for it by name
        self.library = ctypes.CDLL(str(found[0]) if found else "libnvrtc.so.13")
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "version")
        self.version = (major.value, minor.value)

    def _check(self, status: int, what: str) -> None:
        if status != 0:
            raise RuntimeError(f"NVRTC {what}: {self.library.nvrtcGetErrorString(status).decode()}")

    def _text(self, program: ctypes.c_void_p, name: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self.library, f"nvrtcGet{name}Size")(program, ctypes.byref(size)), f"{name} size")
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self.library, f"nvrtcGet{name}")(program, buffer), name)
        return buffer.raw

    def compile(self, path: Path, architecture: str, *options: str) -> tuple[bytes, str]:
        """Machine code and log of one file. RuntimeError with the log where it does not compile."""
        program = ctypes.c_void_p()
        source = path.read_bytes()
        self._check(self.library.nvrtcCreateProgram(ctypes.byref(program), source, path.name.encode(), 0, None, None), "create")
        arguments = [f"--gpu-architecture={architecture}", "--std=c++17", f"--include-path={path.parent}", "--ptxas-options=-v", *options]
        array = (ctypes.c_char_p * len(arguments))(*[a.encode() for a in arguments])
        status = self.library.nvrtcCompileProgram(program, len(arguments), array)
        log = self._text(program, "ProgramLog").rstrip(b"\0").decode()
        if status != 0:
            raise RuntimeError(f"{path.name} for {architecture}:\n{log}")
        cubin = self._text(program, "CUBIN")
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return cubin, log


def usages(file: str, architecture: str, log: str) -> Iterator[Usage]:
    """What the `-v` log of ptxas says about each kernel of a file."""
    for part in log.split("Compiling entry function '")[1:]:
        kernel = part.split("'")[0]

        def number(pattern: str, part: str = part) -> int:
            match = re.search(pattern, part)
            return int(match.group(1)) if match else 0

        spilled = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
        stack, registers, shared = number(r"(\d+) bytes stack frame"), number(r"Used (\d+) registers"), number(r"(\d+) bytes smem")
        yield Usage(file, kernel, architecture, registers, shared, spilled, stack)


def compile_all(nvrtc: Nvrtc, cubins: Path | None = None, architectures: tuple[str, ...] = ARCHITECTURES) -> list[Usage]:
    """Compiles every kernel file; RuntimeError for the first that fails, warnings included."""
    found = []
    for path in sorted(KERNELS.glob("*.cu")):
        for architecture in architectures:
            cubin, log = nvrtc.compile(path, architecture)
            if "warning" in log:
                raise RuntimeError(f"{path.name} for {architecture}:\n{log}")
            if cubins is not None:
                (cubins / f"{path.stem}.{architecture}.cubin").write_bytes(cubin)
            found += usages(path.stem, architecture, log)
    return found


def read_table() -> list[Usage]:
    """The committed table."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [Usage(*row[:3], *map(int, row[3:])) for row in list(csv.reader(file))[1:]]


def write_table(rows: list[Usage]) -> None:
    """Writes the table anew."""
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Usage)])
        writer.writerows(map(astuple, rows))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write kernels/registers.csv")
    parser.add_argument("--cubins", type=Path, help="keep the machine code in this folder")
    arguments = parser.parse_args()
    try:
        nvrtc = Nvrtc()
    except OSError as error:
        print(f"no NVRTC: {error}; pip install nvidia-cuda-nvrtc==13.0.88", file=sys.stderr)
        return 2
    if arguments.cubins:
        arguments.cubins.mkdir(parents=True, exist_ok=True)
    try:
        found = compile_all(nvrtc, arguments.cubins)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    for u in found:
        spill = f"  SPILLS {u.spilled_bytes} bytes" if u.spilled_bytes else ""
        print(f"{u.file:18} {u.kernel:28} {u.architecture:8} {u.registers:4} registers {u.static_shared_bytes:6} bytes shared{spill}")
    if arguments.write:
        write_table(found)
    elif nvrtc.version == VERSION and (not TABLE.exists() or found != read_table()):
        print(f"{TABLE} is stale: run with --write", file=sys.stderr)
        return 1
    return int(any(u.spilled_bytes for u in found))


if __name__ == "__main__":
    sys.exit(main())
