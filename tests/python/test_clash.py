"""`reset-decoding` installs another package of the same import name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reset import _clash

if TYPE_CHECKING:
    from pathlib import Path


def test_a_clean_environment_passes(tmp_path: Path) -> None:
    (tmp_path / "reset").mkdir()
    _clash.check(tmp_path / "reset")


def test_metadata_of_reset_decoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "reset").mkdir()
    (tmp_path / "reset_decoding-0.1.0.dist-info").mkdir()
    with pytest.raises(ImportError, match="pip uninstall reset-decoding"):
        _clash.check(tmp_path / "reset")


def test_its_files_in_our_package_are_named(tmp_path: Path) -> None:
    (tmp_path / "reset").mkdir()
    (tmp_path / "reset" / "logits_processor.py").touch()
    with pytest.raises(ImportError, match=r"logits_processor\.py"):
        _clash.check(tmp_path / "reset")
