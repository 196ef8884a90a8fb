"""Traces on disk, in three forms that keep every value exactly.

| ending | content |
|---|---|
| ``.npz`` | one array per column and ``header``, a JSON text with format, metadata and tokens; no pickles |
| ``.jsonl`` | the header as the first line, then one object per token (NaN is null, infinities are strings) |
| ``.csv`` | ``#`` and the header as the first line, then a table (``pandas.read_csv(path, skiprows=1)`` reads it) |
"""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reset._checks import path_like
from reset.files import written_atomically
from reset.types import COLUMNS, Trace

if TYPE_CHECKING:
    import os

FORMAT = "reset-trace-1"
_ENDINGS = (".npz", ".jsonl", ".csv")


def save(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Writes ``trace``; see :meth:`reset.Trace.save`."""
    target = Path(path_like("path", path))
    header: dict[str, Any] = {"format": FORMAT, "rows": len(trace), "metadata": dict(trace.metadata)}
    names = [*COLUMNS, *(["token"] if trace.tokens is not None else [])]
    match _ending(target):
        case ".npz":
            buffer = io.BytesIO()
            arrays: dict[str, Any] = {"header": np.array(json.dumps({**header, "tokens": trace.tokens})), **trace.columns}
            np.savez_compressed(buffer, **arrays)
            content = buffer.getvalue()
        case ".jsonl":
            rows = [{name: _to_json(value) for name, value in row.items()} for row in trace]
            lines = [{**header, "columns": names}, *rows]
            content = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines).encode()
        case _:
            out = io.StringIO(newline="")
            out.write(f"# {json.dumps(header, ensure_ascii=True)}\n")
            table = csv.DictWriter(out, names, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)  # quotes every text, "\r" too
            table.writeheader()
            table.writerows(trace)
            content = out.getvalue().encode()
    with written_atomically(target) as file:
        file.write(content)


def load(path: str | os.PathLike[str]) -> Trace:
    """Reads a trace; see :meth:`reset.Trace.load`."""
    file = Path(path_like("path", path))
    ending = _ending(file)
    content = file.read_bytes()
    try:
        return {".npz": _from_npz, ".jsonl": _from_jsonl, ".csv": _from_csv}[ending](content)
    except (ValueError, KeyError, TypeError, EOFError, StopIteration, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file}: not a trace that Trace.save wrote ({error or type(error).__name__})") from error


def _ending(path: Path) -> str:
    if path.suffix not in _ENDINGS:
        raise ValueError(f"{path}: the name must end in {', '.join(_ENDINGS)}, which says how the trace is stored")
    return path.suffix


def _from_npz(content: bytes) -> Trace:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        header = _header(json.loads(arrays["header"].item()))
        tokens = header["tokens"]
        return Trace(
            **{name: arrays[name] for name in COLUMNS}, tokens=None if tokens is None else tuple(tokens), metadata=header["metadata"]
        )


def _from_jsonl(content: bytes) -> Trace:
    lines = content.decode().split("\n")
    header = _header(json.loads(lines[0]))
    rows = [json.loads(line) for line in lines[1:] if line]
    parsed = [{name: _from_json(value) if COLUMNS.get(name) is np.float64 else value for name, value in row.items()} for row in rows]
    return _from_rows(parsed, header["columns"], header)


def _from_csv(content: bytes) -> Trace:
    first, _, table = content.decode().partition("\n")
    header = _header(json.loads(first.removeprefix("#")))
    reader = csv.DictReader(io.StringIO(table, newline=""), strict=True)
    rows = [{name: _from_text(name, text) for name, text in row.items()} for row in reader]
    return _from_rows(rows, list(reader.fieldnames or []), header)


def _from_rows(rows: list[dict[str, Any]], names: list[str], header: dict[str, Any]) -> Trace:
    if len(rows) != header["rows"]:
        raise ValueError(f"{len(rows)} of {header['rows']} rows")
    columns = {name: np.array([row[name] for row in rows], dtype=None if rows else dtype) for name, dtype in COLUMNS.items()}
    return Trace(**columns, tokens=tuple(row["token"] for row in rows) if "token" in names else None, metadata=header["metadata"])


def _to_json(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _from_json(value: object) -> float:
    return math.nan if value is None else float(value)  # type: ignore[arg-type]


def _from_text(name: str, text: str) -> object:
    match COLUMNS.get(name):
        case None:
            return text
        case np.bool_:
            return {"True": True, "False": False}[text]
        case np.int64:
            return int(text)
        case _:
            return float(text)


def _header(header: dict[str, Any]) -> dict[str, Any]:
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']!r}, expected {FORMAT!r}")
    return header
