"""Shell completion of values: what an option takes, offered when the tab key is pressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def one_of(*values: str) -> Callable[[str], list[str]]:
    """Of what takes one of few words.

    >>> one_of("auto", "bf16", "nvfp4")("b")
    ['bf16']
    """

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def a_task(incomplete: str) -> list[tuple[str, str]]:
    """Of a task: its name and what it is."""
    from reset.tasks import TASKS

    return [(name, sentence) for name, sentence in TASKS.items() if name.startswith(incomplete)]


def a_preset(incomplete: str) -> list[str]:
    """Of a preset: tiny, models with published values, and files."""
    from reset.policies import PRESETS

    return [name for name in ("tiny", *PRESETS) if name.startswith(incomplete)] + paths(incomplete, ".json")


def a_model(incomplete: str) -> list[str]:
    """Of a model: tiny, and folders."""
    return one_of("tiny")(incomplete) + paths(incomplete)


def toml_files(incomplete: str) -> list[str]:
    """Of a configuration."""
    return paths(incomplete, ".toml")


def paths(incomplete: str, ending: str = "") -> list[str]:
    """Folders, and files of an ending, that begin like this."""
    head, slash, tail = incomplete.rpartition("/")
    folder = Path(head + slash or ".").expanduser()
    if not folder.is_dir():
        return []
    found = sorted(path for path in folder.iterdir() if path.name.startswith(tail) and not path.name.startswith("." if not tail else "\0"))
    return [f"{head}{slash}{p.name}{'/' * p.is_dir()}" for p in found if p.is_dir() or (ending and p.suffix == ending)]
