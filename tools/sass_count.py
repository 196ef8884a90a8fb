"""Count the machine instructions that an inner loop spends per weight, from cubins and without a GPU.

    python tools/nvrtc_compile.py --cubins /tmp/cubins
    python tools/sass_count.py /tmp/cubins/nvfp4_linear.sm_90.cubin

A bandwidth-bound kernel has a budget: weights arrive at bandwidth / (9/16 byte), and each multiprocessor issues four instructions per
clock. On an H200 at 4.3 TB/s that leaves 3.9 issued instructions per weight. The loop counted is the one with the most tensor-core
instructions; each of them (m16n8k16) stands for 8 weights per lane and operand column tile. Needs `nvdisasm`
(`pip install nvidia-cuda-nvdisasm`, or the toolkit).
"""

from __future__ import annotations

import argparse
import collections
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

LIMITS = {("nvfp4_linear", "sm_90"): 2.6}  # instructions per weight; the budget on an H200 is 3.9 at copy bandwidth
ALU = {"LOP3", "PRMT", "SHF", "IADD3", "IADD", "SEL", "ISETP", "LEA", "VIADD", "VIADDMNMX", "PLOP3", "SGXT", "FSETP", "IABS", "F2FP"}
WEIGHTS_PER_MMA = 8  # per lane: 16 x 16 weights over 32 lanes


@dataclass(frozen=True)
class Loop:
    """The inner loop of a kernel."""

    kernel: str
    weights: int
    instructions: int
    alu: int
    counts: dict[str, int]

    @property
    def per_weight(self) -> float:
        """Issued instructions per weight."""
        return self.instructions / self.weights


def nvdisasm() -> str | None:
    """Path of the disassembler."""
    local = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13" / "bin" / "nvdisasm"
    return str(local) if local.exists() else shutil.which("nvdisasm")


def loops(cubin: Path, disassembler: str, columns: int = 1) -> list[Loop]:
    """The busiest loop of each kernel in a cubin; `columns` tiles of 8 operand columns share each weight."""
    command = [disassembler, "-c", "-ndf", str(cubin)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kernels: dict[str, list[tuple[str, str]]] = {}
    lines: list[tuple[str, str]] = []
    for line in text.splitlines():
        if section := re.match(r"\s*\.text\.(\S+):", line):
            lines = kernels.setdefault(section.group(1), [])
        elif label := re.match(r"\s*(\.L_x_\d+):", line):
            lines.append(("label", label.group(1)))
        elif instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)(.*)", line):
            lines.append((instruction.group(1), instruction.group(2)))
    found = []
    for kernel, lines in kernels.items():
        labels = {text: index for index, (name, text) in enumerate(lines) if name == "label"}
        bodies = []
        for index, (name, operands) in enumerate(lines):
            target = re.search(r"(\.L_x_\d+)", operands) if name.startswith("BRA") else None
            if target and labels.get(target.group(1), len(lines)) < index:
                body = [name for name, _ in lines[labels[target.group(1)] : index + 1] if name != "label"]
                tensor = sum(name.startswith("HMMA") for name in body)
                bodies.append((tensor, -len(body), body))
        if not bodies or max(bodies)[0] == 0:
            continue
        tensor, _, body = max(bodies)
        counts = collections.Counter(name.split(".")[0] for name in body)
        weights = tensor * WEIGHTS_PER_MMA // columns
        found.append(Loop(kernel, weights, len(body), sum(n for name, n in counts.items() if name in ALU), dict(counts.most_common())))
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cubins", nargs="+", type=Path, help="files named KERNEL.ARCHITECTURE.cubin")
    parser.add_argument("--columns", type=int, default=1, help="tiles of 8 operand columns that share each weight")
    arguments = parser.parse_args()
    disassembler = nvdisasm()
    if disassembler is None:
        print("no nvdisasm: pip install nvidia-cuda-nvdisasm", file=sys.stderr)
        return 2
    failed = False
    for path in arguments.cubins:
        file, architecture = path.name.split(".")[:2]
        limit = LIMITS.get((file, architecture))
        for loop in loops(path, disassembler, arguments.columns):
            verdict = "" if limit is None else f"  limit {limit}" + ("" if loop.per_weight <= limit else "  EXCEEDED")
            failed |= limit is not None and loop.per_weight > limit
            most = ", ".join(f"{name} {n / loop.weights:.3f}" for name, n in list(loop.counts.items())[:10])
            print(f"{file} {loop.kernel} {architecture}: {loop.per_weight:.3f} instructions per weight{verdict}")
            print(f"    ALU pipe {loop.alu / loop.weights:.3f}; {most}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
