"""A model's folder: one inside this package, else one on this machine, else one from the Hugging Face hub.

The hub's own library does the downloading and keeps its own cache and settings (``HF_HOME``, ``HF_HUB_OFFLINE``, the login of
``hf auth login``). It is an extra: ``pip install 'reset-nvfp4[hub]'``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from reset._checks import path_like
from reset.models import is_shipped, shipped_folder

WANTED = ("*.safetensors", "*.json", "*.jinja")
"""Weights with their index, configurations, tokenizer and chat templates."""
UNWANTED = ("consolidated*.safetensors", "*/*.safetensors")
"""The same weights a second time, as some publishers add them in another layout."""

_REPOSITORY_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def resolve(path_or_id: str | os.PathLike[str], revision: str | None = None, local_files_only: bool = False) -> Path:
    """The folder of a checkpoint.

    The name of a model inside this package (:mod:`reset.models`: ``"tiny"``) comes first, then a folder of that name on this machine.
    Otherwise ``path_or_id`` is a hub id (``"Qwen/Qwen3-8B"``) and its files are downloaded, or found in the hub's cache.

    Args:
        path_or_id: ``"tiny"``, a folder, or ``owner/name`` on the hub.
        revision: branch, tag or commit on the hub. A folder or a model of this package has none: ValueError.
        local_files_only: use what is in the hub's cache, without network.

    Raises:
        FileNotFoundError: no such folder or repository or revision, or not in the cache while offline; an installation without weights.
        PermissionError: the repository's terms have to be accepted first.
        NotADirectoryError: ``path_or_id`` is a file.
        OSError: the hub answered with another error.
    """
    if isinstance(path_or_id, str) and is_shipped(path_or_id):
        if revision is not None:
            raise ValueError(f"revision={revision!r} belongs to a hub id, but {path_or_id!r} is the model inside this package")
        return shipped_folder(path_or_id)
    path = Path(path_like("path_or_id", path_or_id)).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ValueError(f"revision={revision!r} belongs to a hub id, but {path} is a folder on this machine")
        return path
    if path.exists():
        raise NotADirectoryError(f"{path} is a file; pass the folder that holds config.json and the *.safetensors files")
    name = os.fspath(path_or_id)
    if isinstance(path_or_id, os.PathLike) or not _REPOSITORY_ID.fullmatch(name) or name.startswith("."):
        raise FileNotFoundError(f"{name}: no such folder, and not a hub id either (those read 'owner/name')")
    return _download(name, revision, local_files_only)


def _download(name: str, revision: str | None, local_files_only: bool) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ModuleNotFoundError as error:
        raise FileNotFoundError(f"{name}: no such folder; to get it from the Hugging Face hub: pip install 'reset-nvfp4[hub]'") from error
    at = "" if revision is None else f" at revision {revision!r}"
    try:
        folder = huggingface_hub.snapshot_download(
            name,
            revision=revision,
            local_files_only=local_files_only,
            allow_patterns=list(WANTED),
            ignore_patterns=list(UNWANTED),
        )
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"{name}: its owner asks for consent first: accept the terms at https://huggingface.co/{name}, then log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{name}: the hub has no revision {revision!r} of it; pass a branch, a tag or a commit") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: no such folder, and no such repository on the hub (or a private one: log in with `hf auth login`)"
        ) from error
    except errors.HFValidationError as error:
        raise FileNotFoundError(f"{name}: no such folder, and not a hub id either ({error})") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        if local_files_only:
            hint = "local_files_only=True forbids to download it: leave it out once while online, or pass a folder"
        else:
            hint = "the hub cannot be reached; pass a folder, or try again when online"
        raise FileNotFoundError(f"{name}{at}: not a folder and not in the hub's cache, and {hint}") from error
    except errors.HfHubHTTPError as error:
        raise OSError(f"{name}{at}: the hub answered with an error: {error}") from error
    return Path(folder)
