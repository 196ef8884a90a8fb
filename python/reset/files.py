"""Files written whole or not at all: a temporary file beside the target, then a rename."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from reset._checks import path_like

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def written_atomically(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file object whose content appears at ``path`` when the block ends without an exception.

    Readers see the old file or the new one, never a part. The folder must exist (``FileNotFoundError`` otherwise).
    """
    target = Path(path_like("path", path))
    if target.is_dir():  # the empty path among them
        raise IsADirectoryError(errno.EISDIR, "is a folder; give the name of a file", str(target))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the folder of this file does not exist; make it first", str(target))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk, at some write in the block: say of which file
            raise OSError(error.errno, error.strerror or str(error), str(target)) from error
        raise
