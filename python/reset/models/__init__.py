"""Models inside the package, found by name, without network or files of one's own.

======  ==================================================================================================================
name    what it is
======  ==================================================================================================================
tiny    a Qwen3 of 1.2 million weights that solves word problems of one to six operations (the task ``arithmetic``) step by
        step; ``examples/train_tiny`` trained it, ``MODEL_CARD.md`` in its folder says how and how well
======  ==================================================================================================================

A name means the model here, whatever the current folder holds: results that say "tiny" are of one model. A folder of one's own with such a
name is given as a path, ``"./tiny"`` or ``Path("tiny")``:

>>> from pathlib import Path
>>> is_shipped("tiny"), is_shipped("./tiny"), is_shipped(Path("tiny"))
(True, False, False)
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

SHIPPED = ("tiny",)
"""Names of the models in this package; each is a folder beside this file."""


def is_shipped(name: object) -> bool:
    """Whether ``name`` is the name of a model in this package: a str, since a path object is a path."""
    return isinstance(name, str) and name in SHIPPED


def shipped_folder(name: str) -> Path:
    """The folder of a model in this package. It is part of the installation: read it, write nothing there.

    Raises:
        FileNotFoundError: the installation came without the weights, as a source tree may.
    """
    folder = Path(str(files(__name__) / name))
    if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
        return folder
    own = f"; the folder {name} here is given as './{name}'" if Path(name).is_dir() else ""
    raise FileNotFoundError(
        f"{name!r} is the model that comes with this package, and {folder} lacks its config.json or model.safetensors: install a wheel "
        f"(pip install --force-reinstall reset-nvfp4), or train it again (examples/train_tiny) and give the folder{own}"
    )


def model_name(path_or_id: str | os.PathLike[str]) -> str:
    """How results call a model: as it was given, but a path object that reads like a shipped model gets its ``./``.

    >>> model_name("tiny"), model_name("Qwen/Qwen3-8B")
    ('tiny', 'Qwen/Qwen3-8B')
    """
    name = os.fspath(path_or_id)
    return f".{os.sep}{name}" if name in SHIPPED and not is_shipped(path_or_id) else name
