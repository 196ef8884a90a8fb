"""The notebooks run from top to bottom, and are stored without outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reset.models import shipped_folder

SOURCES = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("[0-9]*.py"))
NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
    assert len(SOURCES) == 5


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_the_source_of_a_notebook_runs(source: Path, tmp_path: Path) -> None:
    """As a script, in an empty folder; a warning fails."""
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    if '"tiny"' in source.read_text(encoding="utf-8"):
        try:
            shipped_folder("tiny")
        except FileNotFoundError:
            pytest.skip("this source tree has no weights of tiny")
    done = subprocess.run([sys.executable, "-W", "error", str(source)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert not any(tmp_path.iterdir()), "it leaves files where it runs"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(notebook: Path) -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    for index, cell in enumerate(cells(notebook)):
        exec(compile("".join(cell["source"]), f"{notebook.name}, code cell {index}", "exec"), scope)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_stored_without_outputs(notebook: Path) -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(notebook))
