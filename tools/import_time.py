"""What `import reset` costs above `import numpy`, which it needs.

    python tools/import_time.py                    51 pairs; the exit status is 1 above 40 ms
    python tools/import_time.py --modules 15       and the modules that cost most, each without those it imports

Fresh processes in turn, one of each kind, so that a busy machine slows both alike; the first pair, which reads files from the disk, does
not count. Clocks start inside the process: an interpreter's own start is left out. Wall time is what a user waits; processor time is
what is left of it on a machine that does other things too, and the limit is on that. Measure an installed package: pip writes the
bytecode, without which every import would compile the sources again.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

LIMIT_MS = 40.0
TIMED = """\
import time
wall, cpu = time.perf_counter_ns(), time.process_time_ns()
import {module}
print(time.perf_counter_ns() - wall, time.process_time_ns() - cpu)
"""


def timed(module: str) -> tuple[float, float]:
    """Wall and processor milliseconds of an import in a fresh process."""
    done = subprocess.run([sys.executable, "-c", TIMED.format(module=module)], capture_output=True, text=True, check=True)
    wall, cpu = map(int, done.stdout.split())
    return wall / 1e6, cpu / 1e6


def costly(count: int) -> list[tuple[float, str]]:
    """Modules that `import reset` loads after numpy, by their own milliseconds."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import numpy; import sys; print(file=sys.stderr); import reset"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (_, after) = done.stderr.split("\n\n", 1)
    rows = re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", after, re.MULTILINE)
    return sorted(((int(own) / 1000, name) for own, name in rows), reverse=True)[:count]


def main() -> int:
    """Prints medians and quartiles; 1 above the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=51)
    parser.add_argument("--modules", type=int, default=0, help="how many of the costliest modules to list")
    options = parser.parse_args()
    if (spec := find_spec("reset")) is None or not Path(str(spec.cached)).is_file():
        parser.error("there is no `reset` with bytecode here: install it with pip")
    pairs = [(timed("numpy"), timed("reset")) for _ in range(options.pairs + 1)][1:]
    extra = 0.0
    for clock, name in enumerate(("wall", "processor")):
        low, extra, high = statistics.quantiles([ours[clock] - numpy[clock] for numpy, ours in pairs], n=4)
        alone, ours = (statistics.median(pair[which][clock] for pair in pairs) for which in (0, 1))
        print(f"{name:9}  numpy {alone:6.1f} ms   reset {ours:6.1f} ms   above numpy {extra:5.1f} ms (quartiles {low:.1f} to {high:.1f})")
    for own, module in costly(options.modules) if options.modules else ():
        print(f"{own:7.2f} ms  {module}")
    return int(extra > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
