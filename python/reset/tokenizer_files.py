"""The files of a checkpoint folder that say how its model reads and writes text.

::

    tokenizer.json            vocabulary, splitting rules, what is put before and after a text, how ids become text again
    tokenizer_config.json     which tokens have a role (bos, eos …), further added tokens, the chat template
    special_tokens_map.json   roles, in older folders
    chat_template.jinja       the chat template, where it has a file of its own (it wins over tokenizer_config.json)
    additional_chat_templates/*.jinja   further templates by name
    generation_config.json    the ids that end a text (they win over the tokenizer's eos)

Every one but tokenizer.json may be missing. A damaged one is a :class:`reset.CheckpointError` that names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reset.errors import CheckpointError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import tokenizers

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def eos_token_ids(folder: str | os.PathLike[str]) -> tuple[int, ...] | None:
    """The ids that end a text according to generation_config.json, else config.json; None where neither says.

    Raises :class:`reset.CheckpointError` for a value that is neither an id nor a list of ids.
    """
    for name in ("generation_config.json", "config.json"):
        file = Path(folder) / name
        value = (read_json_object(file) or {}).get("eos_token_id")
        if value is None:
            continue
        ids = value if isinstance(value, list) else [value]
        if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
            raise CheckpointError(f"{file}: eos_token_id is {value!r}; expected a token id or a list of token ids")
        return tuple(dict.fromkeys(ids))
    return None


def read_json_object(file: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no such file. Damaged files: :class:`reset.CheckpointError`."""
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:  # not JSON, or not UTF-8
        raise CheckpointError(f"{file}: not a JSON file ({error}); download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found {type(value).__name__}")
    return value


def read_backend(file: Path) -> tokenizers.Tokenizer:
    """The ``tokenizers.Tokenizer`` in a tokenizer.json. Damaged files: :class:`reset.CheckpointError`."""
    from tokenizers import Tokenizer as Backend

    content = file.read_bytes()
    if content.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file}: a Git LFS pointer in place of the tokenizer; fetch it with `git lfs pull`, or download the file")
    try:
        return Backend.from_buffer(content)
    except Exception as error:  # the library has no exception class of its own
        raise CheckpointError(f"{file}: not a tokenizer that the tokenizers library can read ({error})") from error


def _token_text(value: object, name: str, file: Path) -> str | None:
    """A token as a config writes it: a string, an object with ``content``, or null."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return str(value["content"])
    raise CheckpointError(f"{file}: {name} is {value!r}; expected a string, an object with content, or null")


def special_tokens(older: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Role → token. Roles beyond the usual ones (``image_token``) count too: chat templates read them."""
    roles: dict[str, str] = {}
    for values, name in ((older, "special_tokens_map.json"), (config, "tokenizer_config.json")):
        extra = values.get("extra_special_tokens")
        for role, value in {**(extra if isinstance(extra, dict) else {}), **values}.items():
            if role in _ROLES or (role.endswith("_token") and isinstance(value, str | dict)):
                token = _token_text(value, role, folder / name)
                if token is None:
                    roles.pop(role, None)
                else:
                    roles[role] = token
    return roles


def add_configured_tokens(backend: tokenizers.Tokenizer, config: Mapping[str, Any], roles: Mapping[str, str], folder: Path) -> None:
    """Adds tokens that only tokenizer_config.json knows, and marks tokens with a role as special."""
    from tokenizers import AddedToken

    file = folder / "tokenizer_config.json"
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    listed = config.get("added_tokens_decoder") or {}
    if not isinstance(listed, dict) or not all(
        key.isdecimal() and isinstance(entry, dict) and isinstance(entry.get("content"), str) for key, entry in listed.items()
    ):
        raise CheckpointError(f"{file}: added_tokens_decoder must map ids to objects with content")
    for _, entry in sorted(listed.items(), key=lambda item: int(item[0])):
        if entry["content"] not in known:
            flags = {name: bool(entry[name]) for name in ("single_word", "lstrip", "rstrip", "normalized", "special") if name in entry}
            backend.add_tokens([AddedToken(entry["content"], **flags)])
    further = config.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    named = [*roles.values(), *(_token_text(v, "additional_special_tokens", file) or "" for v in further if isinstance(further, list))]
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    backend.add_special_tokens([token for token in dict.fromkeys(named) if token and token not in special])


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: not UTF-8 ({error}); download it again") from error


def chat_templates(config: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Chat templates by name; a single one is ``"default"``. Files of their own win over tokenizer_config.json."""
    files = {"default": folder / "chat_template.jinja"}
    files |= {file.stem: file for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    texts = {name: _read_text(file) for name, file in files.items() if file.is_file()}
    if texts:
        return texts
    match config.get("chat_template"):
        case None:
            return {}
        case str(text):
            return {"default": text}
        case list(entries) if all(
            isinstance(e, dict) and isinstance(e.get("name"), str) and isinstance(e.get("template"), str) for e in entries
        ):
            return {entry["name"]: entry["template"] for entry in entries}
        case other:
            raise CheckpointError(
                f"{folder / 'tokenizer_config.json'}: chat_template must be a string or a list of objects with name and template, "
                f"found {type(other).__name__}"
            )
