"""Which model is it? A short hash of a checkpoint folder, so that results of different weights are never mixed.

Hashed are the files that decide about text and configuration in full, and of the weights every tensor's name, type and shape together
with three pieces of its bytes: the beginning, the middle, the end. A fine-tuned, requantized or truncated checkpoint differs in these
pieces; a change of a few bytes somewhere else in one tensor is not noticed. Reading a 16 GB checkpoint this way touches about 4 MB.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING

from reset.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

#: Files that are hashed in full where the folder has them.
TEXT_FILES = (
    "config.json", "generation_config.json", "hf_quant_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_PIECE = 4096
_LONGEST_HEADER = 1 << 28


def checkpoint_fingerprint(folder: Path) -> str:
    """Sixteen hexadecimal digits for the checkpoint in ``folder``; the same bytes give the same digits wherever the folder lies.

    Raises:
        reset.CheckpointError: a safetensors file whose header cannot be read.
    """
    digest = hashlib.sha256()
    for name in TEXT_FILES:
        path = folder / name
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            _weights(digest, file, path)
    return digest.hexdigest()[:16]


def _weights(digest: hashlib._Hash, file: IO[bytes], path: Path) -> None:
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header = file.read(length)
        tensors = {name: entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__"}
        digest.update(header)
        base = 8 + length
        for name in sorted(tensors):
            begin, end = tensors[name]
            for start in sorted({begin, max(begin, (begin + end - _PIECE) // 2), max(begin, end - _PIECE)}):
                file.seek(base + start)
                digest.update(file.read(min(_PIECE, end - start)))
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a safetensors file that can be read ({error})") from error
