"""A TOML file as a dict, with errors that name it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from reset.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def read_toml(file: Path, what: str) -> dict[str, Any]:
    """Reads ``file``; ``what`` says in errors what it should hold, such as "a study".

    Raises:
        FileNotFoundError: no such file.
        reset.ConfigError: not TOML; the message names file and line.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file; give {what} written in TOML") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not readable as TOML ({error})") from error
