"""Rows from files: JSON lines, JSON, CSV, Parquet; on this machine or on the Hugging Face hub.

A task names the files it can read as :class:`Source` objects. ``data`` says where they are: a file, a folder that holds one of the
known names, or None for the hub, whose own library downloads and caches (``pip install 'reset-nvfp4[datasets]'``).
"""

from __future__ import annotations

import csv
import importlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

Row = tuple[dict[str, Any], str]
"""The fields of a row, and its place: ``"folder/file.jsonl, line 3"``."""

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Source:
    """Where the rows of one part of a task may lie.

    Attributes:
        names: file names looked for in a folder, in this order.
        repository: dataset on the hub, ``owner/name``.
        hub_files: its files, all read, one after the other.
    """

    names: tuple[str, ...]
    repository: str
    hub_files: tuple[str, ...]

    def rows(self, data: str | os.PathLike[str] | None, task: str) -> list[Row]:
        """All rows, from ``data`` or from the hub."""
        return [row for path in self.paths(data, task) for row in read_rows(path)]

    def paths(self, data: str | os.PathLike[str] | None, task: str) -> list[Path]:
        """The files to read.

        Raises:
            FileNotFoundError: no such path, none of the names in the folder, or the hub cannot give it.
        """
        if data is None:
            return [download(self.repository, name, task) for name in self.hub_files]
        path = Path(data).expanduser()
        if path.is_file():
            return [path]
        if not path.exists():
            raise FileNotFoundError(f"task {task!r}: data={path}: no such file or folder")
        for name in self.names:
            if (path / name).is_file():
                return [path / name]
        if all((path / name).is_file() for name in self.hub_files):  # a copy of the dataset's repository
            return [path / name for name in self.hub_files]
        there = sorted(p.name for p in path.iterdir() if p.suffix in SUFFIXES)
        listed = f"it holds {', '.join(there[:8])}{', …' if len(there) > 8 else ''}" if there else "it holds no data files"
        raise FileNotFoundError(
            f"task {task!r}: {path} has none of {', '.join(self.names)} ({listed}); "
            f"pass the file itself, or leave data out to take {self.repository} from the hub"
        )


def names(row: Mapping[str, Any]) -> str:
    """The names of a row's fields, for messages."""
    return ", ".join(map(repr, row)) or "no fields"


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """All rows of a file, by its suffix: ``.jsonl``, ``.json`` (a list, or JSON lines), ``.csv`` (with a header), ``.parquet``.

    Raises:
        FileNotFoundError: no such file.
        IsADirectoryError: a folder.
        ValueError: another suffix, a row that is damaged or no object (the message gives file and line), or no rows at all.
        ModuleNotFoundError: Parquet without pyarrow.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; pass a file ({', '.join(SUFFIXES)})")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        rows = _parquet(path)
    elif suffix in (".jsonl", ".json", ".csv"):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 text (byte {error.start})") from error
        rows = {".jsonl": _json_lines, ".json": _json, ".csv": _csv}[suffix](text, path)
    else:
        raise ValueError(f"{path}: cannot read files that end in {suffix or 'nothing'!r}; use one of {', '.join(SUFFIXES)}")
    if not rows:
        raise ValueError(f"{path}: no rows in this file")
    return rows


def _json_lines(text: str, path: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 may stand inside a string
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON: {error.msg} (column {error.colno})") from error
        rows.append((_object(value, where), where))
    return rows


def _json(text: str, path: Path) -> list[Row]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # several values: JSON lines under another name
            return _json_lines(text, path)
        raise ValueError(f"{path}, line {error.lineno}: not JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(value, list):
        raise ValueError(f"{path}: holds a JSON {type(value).__name__}; expected a list of objects, one for each problem")
    return [(_object(row, where), where) for row, where in ((row, f"{path}, row {index}") for index, row in enumerate(value))]


def _csv(text: str, path: Path) -> list[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)  # only real line ends end a line
    rows: list[Row] = []
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise ValueError(f"{where}: not as many fields as the header has ({names(dict.fromkeys(reader.fieldnames or ()))})")
            rows.append((dict(row), where))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    return rows


def _parquet(path: Path) -> list[Row]:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path}: Parquet files need pyarrow: pip install 'reset-nvfp4[datasets]' (or pass the rows as JSON lines)"
        ) from error
    try:
        values = parquet.read_table(path).to_pylist()
    except arrow.ArrowInvalid as error:
        raise ValueError(f"{path}: not a Parquet file: {error}") from error
    return [(row, f"{path}, row {index}") for index, row in enumerate(values)]


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object with named fields, found {type(value).__name__}")
    return value


def text_field(row: Row, *wanted: str) -> str:
    """The first of the wanted fields that the row has, as text.

    Raises:
        ValueError: the row has none of them, or it is empty or no text; the message gives file and line.
    """
    fields, where = row
    for name in wanted:
        if name in fields:
            value = fields[name]
            if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not str(value).strip():
                raise ValueError(f"{where}: field {name!r} is {value!r}; expected text")
            return str(value)
    raise ValueError(f"{where}: no field {' or '.join(map(repr, wanted))}; the row has {names(fields)}")


def download(repository: str, name: str, task: str) -> Path:
    """One file of a dataset on the hub, downloaded or from the hub's cache.

    Raises:
        FileNotFoundError: not on the hub, not reachable, or huggingface_hub is not installed.
        PermissionError: the dataset's terms have to be accepted first.
        OSError: the hub answered with another error.
    """
    instead = f"or pass data=<file or folder> to task {task!r}"
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            f"task {task!r} comes from the hub ({repository}), which needs: pip install 'reset-nvfp4[datasets]'; {instead}"
        ) from error
    where = f"{repository}, {name}"
    try:
        return Path(huggingface_hub.hf_hub_download(repository, name, repo_type="dataset"))
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"{where}: its owner asks for consent first: accept the terms at https://huggingface.co/datasets/{repository}, "
            f"log in with `hf auth login`, {instead}"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise FileNotFoundError(
                f"{where}: not in the hub's cache, and the hub cannot be reached; try again online, {instead}"
            ) from error
        raise FileNotFoundError(f"{where}: the hub has no such dataset file; {instead}") from error
    except errors.OfflineModeIsEnabled as error:
        raise FileNotFoundError(f"{where}: not in the hub's cache, and the hub is switched off (HF_HUB_OFFLINE); {instead}") from error
    except errors.HfHubHTTPError as error:
        raise OSError(f"{where}: the hub answered with an error: {error}; {instead}") from error
