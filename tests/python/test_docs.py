"""The README and the documents tell the truth: their Python runs, their commands and links exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_the_python_of_the_readme_runs(
    demo_nvfp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    scope: dict[str, Any] = {"w": np.ones((4, 32), np.float32)}
    for block in blocks:
        exec(compile(block.replace('"OUT"', repr(str(demo_nvfp4))), "README.md", "exec"), scope)
    assert capsys.readouterr().out


def test_the_python_of_the_generation_guide_runs(demo_nvfp4: Path) -> None:
    import reset

    text = (ROOT / "docs" / "generation.md").read_text(encoding="utf-8")
    scope: dict[str, Any] = {"reset": reset, "model": reset.load(demo_nvfp4)}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "generation.md", "exec"), scope)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), target


def test_commands_in_the_readme_exist() -> None:
    commands = set(re.findall(r"reset-nvfp4 ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    text = subprocess.run([sys.executable, "-m", "reset", "--help"], capture_output=True, text=True, check=True).stdout
    for command in commands:
        assert re.search(rf"\b{command}\b", text), command


def test_documents_name_no_machine() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"(^|[\s`\"'(])/(root|work|home)/", document.read_text(encoding="utf-8")), document
