"""The notebooks run from top to bottom, and what is stored beside a source was made from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reset.models import shipped_folder

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))

by_source = pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)


def stored(source: Path) -> list[dict[str, Any]]:
    """Cells of the notebook beside a source."""
    cells: list[dict[str, Any]] = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    return cells


def cells_of(source: Path) -> list[tuple[str, str]]:
    """Kind and text of every cell of a script in percent format."""
    _, *parts = re.split(r"^# %%(.*)\n", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    cells = []
    for kind, text in zip(parts[::2], parts[1::2], strict=True):
        if kind.strip() == "[markdown]":
            cells.append(("markdown", "\n".join(re.sub("^# ?", "", line) for line in text.strip().split("\n"))))
        else:
            cells.append(("code", text.strip("\n")))
    return cells


def test_the_notebooks_are_those_that_the_readme_lists() -> None:
    listed = re.findall(r"\]\((\d\d_\w+)\.ipynb\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert listed == [source.stem for source in SOURCES] == [path.stem for path in sorted(FOLDER.glob("*.ipynb"))]
    assert len(listed) == 5


@by_source
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


@by_source
def test_a_notebook_holds_the_cells_of_its_source(source: Path) -> None:
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in stored(source)]
    assert found == cells_of(source), "python tools/notebooks.py writes it anew"


@by_source
def test_a_notebook_is_stored_executed_and_tells_nothing_of_the_machine(source: Path) -> None:
    code = [cell for cell in stored(source) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    texts = json.dumps([{**o, "data": {k: v for k, v in o.get("data", {}).items() if k != "image/png"}} for o in outputs])
    assert not re.search(r"/(tmp|home|root|Users|private|var/folders)/", texts)
    assert not any("execution" in cell["metadata"] for cell in code), "times of execution differ at every run"


def test_objects_show_as_html_in_the_notebooks() -> None:
    """One kind of view each: of a model, a generation, a result, a comparison."""
    shown = "".join(
        "".join(output.get("data", {}).get("text/html", []))
        for source in SOURCES
        for cell in stored(source)
        for output in cell.get("outputs", [])
    )
    for part in ("Model tiny", 'class="rs-step"', "Evaluation on arithmetic", "Paired difference"):
        assert part in shown, part
