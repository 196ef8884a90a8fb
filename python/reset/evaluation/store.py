"""The folder of a run, which survives being killed at any moment.

    run.json              identity and plan, replaced as a whole
    samples.jsonl         one line per finished sample, appended; a shard writes samples.1-of-4.jsonl
    traces/00017-003.npz  trace of sample 3 of the task's problem 17, where asked for

A line is appended with one write and the file only grows, so the worst a killed process leaves is a torn last line. It is cut off when
the file is next opened for writing: its sample was not finished. Only one process may write one samples file; shards have files of
their own and may share the folder.
"""

from __future__ import annotations

import errno
import json
import os
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from reset.errors import ConfigError
from reset.evaluation.identity import FORMAT, differences, identity_hash
from reset.evaluation.sample import Sample
from reset.files import written_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RUN_FILE = "run.json"
SAMPLES = "samples.jsonl"
TRACES = "traces"
_SYNC_SECONDS = 1.0


def samples_name(shard: tuple[int, int] | None) -> str:
    """Name of the samples file of a shard ``(index, count)``, counted from 1."""
    return SAMPLES if shard is None else f"samples.{shard[0]}-of-{shard[1]}.jsonl"


def read_run(folder: Path) -> dict[str, Any] | None:
    """``run.json`` as a dict with ``identity`` and ``plan``; None where there is none.

    Raises:
        reset.ConfigError: it is damaged or of another format.
    """
    path = folder / RUN_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as JSON ({error}); take another output_dir") from error
    check_run(record, path)
    return dict(record)


def check_run(record: Any, where: object) -> None:
    """ConfigError unless ``record`` is what ``run.json`` holds."""
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ConfigError(f"{where}: format {found!r}, and this version reads {FORMAT!r}; read it with the version that wrote it")
    plan = record.get("plan")
    if not isinstance(record.get("identity"), dict) or not isinstance(plan, dict) or not {"problems", "n_samples"} <= plan.keys():
        raise ConfigError(f"{where}: identity or plan are missing; it was not written by this package, or was edited")


def write_run(folder: Path, identity: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """Replaces ``run.json``."""
    content = json.dumps(
        {"format": FORMAT, "run": identity_hash(identity), "identity": identity, "plan": plan}, indent=1, ensure_ascii=False
    )
    with written_atomically(folder / RUN_FILE) as file:
        file.write(content.encode() + b"\n")


def refuse_other(found: Mapping[str, Any], wanted: Mapping[str, Any], where: object) -> None:
    """ConfigError naming what differs, unless both identities are the same."""
    lines = differences(found, wanted)
    if lines:
        listed = "\n  ".join(lines)
        raise ConfigError(f"{where} holds results of another run; they are never mixed. Use another output_dir. What differs:\n  {listed}")


def read_samples(folder: Path, run: str) -> dict[tuple[str, int], Sample]:
    """All finished samples of all sample files, by key. A torn last line is skipped: another process may just be writing it.

    Raises:
        reset.ConfigError: a line that is no sample of this run, or two different samples of one key.
    """
    found: dict[tuple[str, int], Sample] = {}
    for path in sorted(folder.glob("samples*.jsonl")):
        content = path.read_bytes()
        for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
            add_sample(found, parse_line(line, run, f"{path}, line {number}"), f"{path}, line {number}")
    return found


def parse_line(line: bytes | str, run: str, where: str) -> Sample:
    """The sample of one line."""
    try:
        sample = Sample.from_json(line)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}. Delete this line to have its sample made again") from error
    if sample.run != run:
        raise ConfigError(f"{where}: the sample belongs to run {sample.run}, not to {run}; results of different runs are never mixed")
    return sample


def add_sample(found: dict[tuple[str, int], Sample], sample: Sample, where: str) -> None:
    """Adds it; ConfigError if another sample of the same key is there."""
    before = found.setdefault(sample.key, sample)
    if before is not sample and not before.same_as(sample):
        raise ConfigError(
            f"{where}: sample {sample.sample_index} of problem {sample.problem_id!r} is there twice, with different content; the two "
            "parts were not made by the same model and version"
        )


class Writer:
    """Appends samples to one file of a run's folder. A context manager; holds a lock that the operating system frees with the process.

    Raises:
        reset.ConfigError: another process writes this file.
        OSError: it cannot be written (full disk, no permission); the samples written so far stay whole.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] | None) -> None:
        self.path = folder / samples_name(shard)
        self._file: IO[bytes] = self.path.open("ab", buffering=0)
        try:
            if not _lock(self._file):
                raise ConfigError(
                    f"{self.path}: another process is writing it. Wait for it, or give every process a shard of its own "
                    "(shard=(1, 2), shard=(2, 2))"
                )
            self._length = _without_torn_line(self.path)
            self._file.truncate(self._length)
        except BaseException:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def append(self, sample: Sample) -> None:
        """Appends one line; after a failure the file is as before."""
        line = sample.to_json().encode("utf-8", "surrogatepass") + b"\n"
        written = 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
        except BaseException as error:
            if written == len(line):  # Ctrl-C after the last byte: the sample is there
                self._length += written
                raise
            self._file.truncate(self._length)
            if isinstance(error, OSError):
                kept = f"{self.path}: could not be written ({error.strerror}); the samples finished before are whole, and the run can go on"
                raise OSError(error.errno, kept) from error
            raise
        self._length += len(line)
        # A line outlives a killed process at once, and a power failure after this.
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            if kind is None:  # else the first error says more
                raise OSError(error.errno, error.strerror, str(self.path)) from error
        finally:
            self._file.close()


def _without_torn_line(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    size = path.stat().st_size
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            cut = file.read(end - start).rfind(b"\n")
            if cut >= 0:
                return start + cut + 1
            end = start
    return 0


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """While the block runs, no other process is in such a block for this folder: for reading and replacing ``run.json``."""
    with (folder / ".lock").open("ab") as file:
        _lock(file, wait=True)
        yield


def _lock(file: IO[bytes], *, wait: bool = False) -> bool:
    """Locks an open file until it is closed; False if another process holds it. File systems without locks let everybody in."""
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            file.seek(1 << 40)  # far behind the content, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            return True
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True
