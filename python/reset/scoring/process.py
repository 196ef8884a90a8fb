"""One worker process and the pipe to it: started, asked, ended; never waited for longer than a deadline.

The process has its own session, so Ctrl-C in a terminal reaches the program and not the worker in the middle of a reply. It ends with its
parent: stdin closes when the parent is gone, however that happened. A forked child closes its copies of the pipe, so that it can neither
speak into the parent's conversation nor keep the worker alive.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

from reset.errors import ScoringError

__all__ = ["WORKER", "Undecided", "WorkerProcess"]

WORKER = Path(__file__).with_name("worker.py")
START_SECONDS = 120.0  # sympy on a slow disk
MAX_REPLY = 1 << 16
CREATE_NEW_PROCESS_GROUP = 0x200  # Windows; `subprocess` has the name only there


class Undecided(Exception):
    """The worker gave no answer: it ran past the deadline, died, said what is no reply (and has been ended), or could not digest an
    expression."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason  # "timeout" | "crash" | "garbage" | "error"


class WorkerProcess:
    """A running worker. Not thread-safe: the judge holds a lock around :meth:`ask`.

    Raises:
        ScoringError: the worker cannot be started, or says that math-verify does not work.
    """

    def __init__(self, script: Path = WORKER) -> None:
        if not sys.executable:
            raise ScoringError(
                "the math scorer needs a worker process, and this Python does not know its own executable (sys.executable is empty)"
            )
        paths = [os.fspath(p) for p in sys.path if isinstance(p, (str, os.PathLike))]
        options: dict[str, Any] = {"creationflags": CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"start_new_session": True}
        try:
            self._process = subprocess.Popen(
                [sys.executable, str(script), json.dumps(paths)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                bufsize=0, **options,
            )  # fmt: skip
        except OSError as error:
            raise ScoringError(f"the worker of the math scorer does not start: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._buffer = b""
        self._ids = itertools.count()
        self._end = weakref.finalize(self, _end, self._process, os.getpid())
        self._greet()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether :meth:`ask` may be called: not ended, and ours (a fork's copy is not)."""
        return self._end.alive and self._process.poll() is None

    def _greet(self) -> None:
        try:
            greeting = self._exchange(b"", START_SECONDS)
        except Undecided as error:
            code = self._process.poll()
            raise ScoringError(
                f"the worker of the math scorer ended while starting ({error.reason}, exit code {code}); "
                f"running {WORKER.name} of this package by hand shows why"
            ) from error
        if greeting.get("ready") is not True:
            self.end()
            raise ScoringError(f"the worker of the math scorer cannot compare expressions: {greeting.get('error', greeting)}")

    def ask(self, reference: str, answer: str, seconds: float) -> bool:
        """Whether ``answer`` means the same as ``reference``.

        Raises:
            Undecided: no usable reply within ``seconds``.
        """
        number = next(self._ids)
        # The worker's own limit lies beyond ours and ends it where nobody is left to do so.
        request = {"id": number, "reference": reference, "answer": answer, "seconds": 2 * seconds + 1}
        reply = self._exchange(json.dumps(request).encode("ascii") + b"\n", seconds)
        if reply.get("id") != number:
            self.end()
            raise Undecided("garbage")
        if "error" in reply:  # an expression that the library cannot digest; the worker goes on
            raise Undecided("error")
        return reply.get("equal") is True

    def _exchange(self, request: bytes, seconds: float) -> dict[str, Any]:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        line = None
        try:
            timer.start()
            self._write(request)
            line = self._read_line()
        except OSError:  # the pipe of a dead worker
            line = None
        finally:
            timer.cancel()
            if line is None or expired.is_set():  # also where Ctrl-C broke the exchange: a late reply would answer the next question
                self.end()
        if expired.is_set():
            raise Undecided("timeout")
        if line is None:
            raise Undecided("crash")
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            self.end()
            raise Undecided("garbage")
        return reply

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._stdin.write(view) or 0 :]

    def _read_line(self) -> bytes | None:
        """One line, or None where the stream ended or the line is no reply of ours."""
        while b"\n" not in self._buffer:
            chunk = self._stdout.read(MAX_REPLY)
            if not chunk:
                return None
            self._buffer += chunk
            if len(self._buffer) > MAX_REPLY:
                return b"null"
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def end(self) -> None:
        """Ends the process and waits for it; harmless when it has ended."""
        self._end()

    def forget(self) -> None:
        """In a forked child: lets go of the parent's worker without touching it."""
        self._end.detach()
        self._process.returncode = 0  # not our child: nothing to wait for
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
