"""The published ReSET code is the distribution ``reset-decoding``, whose import name is ``reset`` too: the two overwrite each other."""

from __future__ import annotations

from pathlib import Path


def check(package: Path = Path(__file__).parent) -> None:
    """Raises ImportError where files of ``reset-decoding`` lie in or beside this package."""
    metadata = next(package.parent.glob("reset_decoding-*.dist-info"), None)
    foreign = package / "logits_processor.py"
    if metadata is None and not foreign.exists():
        return
    raise ImportError(
        f"the distribution `reset-decoding` is installed beside `reset-nvfp4` ({metadata or foreign}), and both are imported as `reset`: "
        "their files overwrite each other. Run `pip uninstall reset-decoding reset-nvfp4`, then `pip install reset-nvfp4`; use a virtual "
        "environment of its own for `reset-decoding`."
    )
