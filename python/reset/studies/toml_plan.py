"""A study written down as TOML; see ``examples/study.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reset.errors import ConfigError
from reset.models import is_shipped
from reset.toml_file import read_toml

if TYPE_CHECKING:
    import os

#: Keys at the top of the file: options of :func:`reset.study`.
KEYS = (
    "model", "task", "data", "split", "n_samples", "limit", "seed", "max_new_tokens", "top_p", "top_k", "min_p", "prompt", "thinking",
    "batch_size", "traces", "output_dir", "contrasts", "exploratory", "interactions", "arms",
)  # fmt: skip


def load_plan(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a TOML file into the arguments of :func:`reset.study`: ``reset.study(**load_plan("study.toml"))``.

    ``output_dir``, ``data``, models in folders and files named by policies are looked for beside the file; a hub id stays as it is.

    Raises:
        FileNotFoundError: no such file.
        reset.ConfigError: not TOML, an unknown key, or a missing one; the message names the file.
    """
    file = Path(path).expanduser()
    record = read_toml(file, "a study")
    unknown = [key for key in record if key not in KEYS]
    if unknown:
        raise ConfigError(f"{file}: unknown key {unknown[0]!r}; a study takes {', '.join(KEYS)}")
    for key in ("task", "arms"):
        if key not in record:
            raise ConfigError(f"{file}: {key!r} is missing")
    folder = file.absolute().parent
    for name in ("output_dir", "data"):
        if name in record:
            record[name] = str(folder / Path(record[name]).expanduser())
    for holder in (record, *(arm for arm in record["arms"].values() if isinstance(arm, dict))):
        if isinstance(holder.get("model"), str) and not is_shipped(holder["model"]):
            beside = folder / Path(holder["model"]).expanduser()
            holder["model"] = str(beside) if beside.is_dir() else holder["model"]
    return {"model": None, **record, "folder": str(folder)}
