"""The Python of docs/studies.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import reset

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "studies.md"


def test_the_python_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, "studies.md", "exec"), scope)
    assert (tmp_path / "runs" / "study" / "report.md").is_file()
    assert scope["policy"] == reset.ReSET(0.3, scope["calibration"].tau_0)
    assert len(scope["tuning"].arms) == 4
    assert sorted(path.name for path in (tmp_path / "paper" / "tables").iterdir())[:2] == ["arms.csv", "arms.tex"]
