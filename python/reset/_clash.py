"""The published ReSET code is the distribution ``reset-decoding``, whose import name is ``reset`` too: the two overwrite each other."""

from __future__ import annotations

import os


def check(package: str | os.PathLike[str] | None = None) -> None:
    """Raises ImportError where files of ``reset-decoding`` lie in or beside this package, or another folder."""
    package = os.path.dirname(__file__) if package is None else package
    beside = os.path.dirname(package)  # no pathlib: every `import reset` comes through here, and numpy does without it
    metadata = next((name for name in os.listdir(beside) if name.startswith("reset_decoding-") and name.endswith(".dist-info")), None)
    found = os.path.join(package, "logits_processor.py") if metadata is None else os.path.join(beside, metadata)
    if metadata is None and not os.path.exists(found):
        return
    raise ImportError(
        f"the distribution `reset-decoding` is installed beside `reset-nvfp4` ({found}), and both are imported as `reset`: "
        "their files overwrite each other. Run `pip uninstall reset-decoding reset-nvfp4`, then `pip install reset-nvfp4`; use a virtual "
        "environment of its own for `reset-decoding`."
    )
