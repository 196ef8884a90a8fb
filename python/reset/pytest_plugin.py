"""A pytest plugin: run an arm on a task inside a test, and assert on its interval rather than on its point.

Load it by name; nothing is registered, because an installed entry point would import this package into every pytest run of the
environment::

    # conftest.py (the topmost one)                    or on the command line:
    pytest_plugins = ["reset.pytest_plugin"]           pytest -p reset.pytest_plugin

    @pytest.mark.accuracy
    def test_nvfp4_keeps_its_accuracy(run_arm):
        arm = run_arm("path/to/checkpoint", "gsm8k", policy=reset.ReSET(0.3, 0.55), limit=200)
        arm.assert_above(0.6)          # strict: the whole interval lies above 0.6
        arm.assert_not_below(0.6)      # lenient: the interval does not lie below 0.6 as a whole

A measured accuracy has an interval, and a threshold can lie below it, inside it, or above it::

                         threshold below     inside       above
                              ┆ ├──●──┤      ├──┆●──┤    ├──●──┤ ┆
    assert_above              passes         fails       fails       "shown to be above"
    assert_not_below          passes         passes      fails       "not shown to be below"

``assert_above`` suits a release: it fails unless there are enough problems to show the claim. ``assert_not_below`` suits a quick check
on few problems: it fails only when something is broken beyond chance, and passes on too little data. ``assert_not_worse(than, margin)``
and ``assert_no_regression(than)`` are the same pair for the paired difference of two arms.

Every arm leaves JUnit properties (``--junit-xml``), a line in ``DIR/results.jsonl`` and its samples in ``DIR/<test>/<arm>/`` with
``--reset-output DIR``, where an interrupted run goes on; without the option the samples lie in pytest's temporary folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from reset.pytest_arm import Arm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["ArmRunner"]

_CHOSEN_HERE = ("output_dir", "resume", "progress")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("reset", "accuracy tests (reset)")
    group.addoption(
        "--reset-output", metavar="DIR", default=None,
        help="keep samples and results of run_arm in DIR, and go on with what is there; default: a temporary folder",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "accuracy: runs a model on a task and asserts on the accuracy (choose with -m accuracy)")


class ArmRunner:
    """What the fixtures ``run_arm`` and ``run_shared_arm`` give: call it to run an arm."""

    def __init__(self, owner: str, folder: Path, root: Path | None, record: Callable[[str, object], None], *, named: bool) -> None:
        self._owner = owner
        self._folder = folder
        self._root = root
        self._record = record
        self._named = named
        self._names: set[str] = set()

    def __call__(self, model: Any, task: Any, *, name: str | None = None, **options: Any) -> Arm:
        """Runs :func:`reset.evaluate` and records what came out.

        Args:
            model: a :class:`reset.Model`, or a path or hub id (loaded once and kept by ``reset.model_cache``).
            task: a name or a :class:`reset.Task`.
            name: of the arm, in properties, folders and messages; by default ``arm1``, ``arm2`` … (``run_shared_arm`` needs one).
            **options: of :func:`reset.evaluate`: ``policy``, ``n_samples``, ``limit``, ``seed``, ``max_new_tokens`` …

        Returns:
            An :class:`~reset.pytest_arm.Arm`: the result, with the assertions.

        Raises:
            TypeError: ``output_dir``, ``resume`` or ``progress``, which are chosen by ``--reset-output``.
            ValueError: a name that is taken in this test or empty.
            reset.ConfigError: ``--reset-output`` holds this test's samples with other options.
        """
        import reset

        for option in _CHOSEN_HERE:
            if option in options:
                raise TypeError(f"run_arm takes no {option}: samples are kept in the folder of pytest's option --reset-output")
        if name is None:
            if self._named:
                raise ValueError(
                    "run_shared_arm needs a name: tests and later runs find the arm by it, as in run_shared_arm(…, name='bf16')"
                )
            name = f"arm{len(self._names) + 1}"
        folder = self._folder / _safe(name)
        if not name or (folder.name in self._names and not self._named):
            raise ValueError(f"name = {name!r} is not possible: give every arm of a test a name of its own, at least one letter long")
        self._names.add(folder.name)
        result = reset.evaluate(model, task, output_dir=folder, progress=False, **options)
        arm = Arm(name, result)
        summary = arm.summary()
        for key in ("task", "accuracy", "ci95_low", "ci95_high", "samples", "run"):
            self._record(f"{name}.{key}", summary[key])
        for outcome, count in summary["counts"].items():
            self._record(f"{name}.{outcome}", count)
        if self._root is not None:
            line = {"test": self._owner, "arm": name, **summary, "folder": folder.relative_to(self._root).as_posix()}
            _append(self._root / "results.jsonl", line)
        return arm


@pytest.fixture
def run_arm(request: pytest.FixtureRequest, tmp_path: Path) -> ArmRunner:
    """Runs an arm on a task: ``run_arm(model, "gsm8k", policy=…, limit=…)`` → an arm with ``accuracy``, ``ci95`` and assertions."""
    root = _root(request.config)
    test = request.node.nodeid
    folder = (tmp_path if root is None else root) / _safe(test)
    # Not the fixture record_property: it warns for pytest's default JUnit family, whose files hold properties all the same.
    properties: list[tuple[str, object]] = request.node.user_properties
    return ArmRunner(test, folder, root, lambda key, value: properties.append((key, value)), named=False)


@pytest.fixture(scope="session")
def run_shared_arm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, record_testsuite_property: Callable[[str, object], None]
) -> ArmRunner:
    """As ``run_arm``, for arms that many tests compare with: of session scope, so that fixtures of any scope can use it."""
    root = _root(request.config)
    folder = tmp_path_factory.mktemp("reset_arms") if root is None else root / "shared"
    return ArmRunner("shared", folder, root, record_testsuite_property, named=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The accuracies of this run, below the failures; from the reports, so that it works with pytest-xdist too."""
    lines = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                lines += [f"{report.nodeid}  {line}" for line in _arms_of(getattr(report, "user_properties", ()))]
    if lines:
        terminalreporter.section("accuracies", sep="-")
        for line in sorted(lines):
            terminalreporter.write_line(line)


def _arms_of(properties: Sequence[tuple[str, Any]]) -> list[str]:
    found = dict(properties)
    lines = []
    for key, value in found.items():
        name, _, what = key.rpartition(".")
        if what == "run" and f"{name}.ci95_low" in found:
            low, high = found[f"{name}.ci95_low"], found[f"{name}.ci95_high"]
            accuracy, samples = found[f"{name}.accuracy"], found[f"{name}.samples"]
            lines.append(f"{name}: {accuracy:.1%} [{100 * low:.1f}, {100 * high:.1f}] of {samples} samples, run {value}")
    return lines


def _root(config: pytest.Config) -> Path | None:
    given = config.getoption("--reset-output")
    return None if given is None else config.invocation_params.dir / given


def _safe(text: str) -> str:
    """A file name for any text: readable, and different for different texts (also where file names ignore case)."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[-80:]
    if readable == text and text == text.lower():
        return text
    return f"{readable}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _append(path: Path, record: dict[str, Any]) -> None:
    """One write in append mode: processes of pytest-xdist share the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line)
    finally:
        os.close(file)
