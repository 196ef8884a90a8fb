"""The other end of the judge's pipe: a process that compares mathematical expressions with math-verify.

A request is one line of JSON on stdin, ``{"id": 7, "reference": "…", "answer": "…", "seconds": 10.0}``; the reply is one line on stdout,
``{"id": 7, "equal": true}``. It ends when stdin does.

Why a process: expressions come from a model, and simplifying one can take forever (``9^{9^{9}}``), take all memory, or crash. A process
can be ended; a thread cannot, and the library's own timeouts need the main thread's SIGALRM. Why a file that is run by its path: it
loads neither this package nor the user's ``__main__``.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from typing import Any

MEMORY_BYTES = 4 << 30


def main() -> None:
    """Answers requests until stdin ends."""
    replies = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not reach the protocol
    sys.stdout = sys.stderr
    if len(sys.argv) > 1:
        sys.path[:] = json.loads(sys.argv[1])  # the parent's: finds what the parent finds, and no module beside this file
    _limit_memory()
    logging.disable(logging.CRITICAL)
    try:
        math_verify = importlib.import_module("math_verify")  # untyped

        version = getattr(math_verify, "__version__", "")
        if not (compare("\\frac{1}{2}", "0.5") and not compare("1", "2")):
            raise RuntimeError("math-verify does not find 0.5 equal to \\frac{1}{2}")
    except Exception as error:  # told to the parent, which raises it
        _send(replies, {"ready": False, "error": f"{type(error).__name__}: {error}"})
        return
    _send(replies, {"ready": True, "version": version})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _end_after(request.get("seconds"))
        reply: dict[str, Any] = {"id": request["id"]}
        try:
            reply["equal"] = compare(request["reference"], request["answer"])
        except (Exception, RecursionError, MemoryError) as error:  # nothing that an expression does may end the loop
            reply["error"] = type(error).__name__
        _end_after(None)
        _send(replies, reply)


def compare(reference: str, answer: str) -> bool:
    """Whether two LaTeX expressions mean the same, by math-verify; not symmetric (``x=5`` as the reference accepts ``5``)."""
    m = importlib.import_module("math_verify")
    # LaTeX alone: as a plain expression the library would take a number out of text that it cannot read. No units: it takes letters for
    # them ("5t", "3ab"). Twelve digits instead of six: 1.414214 is not the root of 2.
    options = {"basic_latex": True, "units": False, "malformed_operators": True, "nits": True, "boxed": "all", "equations": False}
    rules = m.parser.NormalizationConfig(**options)
    targets = [m.LatexExtractionConfig(boxed_match_priority=0, normalization_config=rules)]
    gold = m.parse(f"\\boxed{{{reference}}}", targets, parsing_timeout=None)
    found = m.parse(f"\\boxed{{{answer}}}", targets, parsing_timeout=None)
    return bool(gold and found and m.verify(gold, found, float_rounding=12, timeout_seconds=None, allow_set_relation_comp=True))


def _send(fd: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(fd, data) :]


def _end_after(seconds: float | None) -> None:
    """Has the kernel end this process ``seconds`` from now, also inside C code and when the parent is gone; None: no longer."""
    import signal

    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0 if seconds is None else seconds)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ValueError, OSError):  # a system that has no such limit, or a lower hard one
        return


if __name__ == "__main__":
    main()
