"""Was the machine quiet while something was measured?"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import typer

#: Processors' worth of other work from which a run is not clean: figures of memory-bound loops move by as much.
LIMIT = 0.06


class Quiet:
    """Counts, between entering and leaving, the processor time that was not this process's own.

    Time that the host of a virtual machine took away counts as well. Known on Linux only; elsewhere :attr:`others` stays None, and a
    run is neither clean nor not.
    """

    def __init__(self) -> None:
        self.others: float | None = None  #: processors' worth of work of others

    def __enter__(self) -> Quiet:
        self._begin = (time.monotonic(), _own_seconds(), _busy_seconds())
        return self

    def __exit__(self, *_: object) -> None:
        wall, own, busy = self._begin
        now = _busy_seconds()
        if busy is not None and now is not None:
            elapsed = max(time.monotonic() - wall, 1e-9)
            self.others = max(0.0, (now - busy - (_own_seconds() - own)) / elapsed)

    @property
    def clean(self) -> bool | None:
        """Whether others used less than :data:`LIMIT`; None where that is not known."""
        return None if self.others is None else self.others <= LIMIT

    def report(self) -> dict[str, Any]:
        """For JSON."""
        return {"clean": self.clean, "other_processors_used": self.others}

    def echo(self) -> None:
        """The same in a sentence."""
        if self.others is None:
            typer.echo("what other processes did meanwhile is not known on this system: compare several runs")
        elif self.clean:
            typer.echo(f"clean: other processes used {self.others:.2f} processors meanwhile")
        else:
            typer.echo(f"NOT CLEAN: other processes used {self.others:.2f} processors meanwhile; run it again when the machine is quiet")


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _busy_seconds() -> float | None:
    """Seconds that all processors together were not idle since the system's start."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
