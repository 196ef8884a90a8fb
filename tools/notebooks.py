"""Executes notebooks: ``notebooks/NN_name.py`` is the source, ``NN_name.ipynb`` beside it is what this writes, with outputs.

    python tools/notebooks.py                    execute all, write the .ipynb
    python tools/notebooks.py --check            execute all, write nothing: what CI does
    python tools/notebooks.py 03 05              only those whose names begin so

Needs the extra ``notebooks``. Each runs in a fresh kernel and an empty folder. A cell that fails, warns or writes to stderr fails the
command, and so does an output that names a folder of this machine. The files carry no times and no random ids: the same outputs give
the same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
    "jupytext": {"formats": "ipynb,py:percent"},
}


def executed(source: Path) -> Any:
    """The notebook of a source, with outputs. Raises ValueError naming the cell that did what it should not."""
    notebook = jupytext.read(source)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        try:
            NotebookClient(
                notebook, timeout=300, kernel_name="python3", resources=resources, record_timing=False, coalesce_streams=True,
                extra_arguments=["--IPKernelApp.log_level=40"],
            ).execute()  # fmt: skip
        except CellExecutionError as error:
            raise ValueError(f"{source.name}: {error}") from error
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            _clean(cell, source.name)
    nbformat.validate(notebook)
    return notebook


def _clean(cell: Any, name: str) -> None:
    """Takes out what differs from run to run, and refuses what should not be kept."""
    for output in cell.outputs:
        if "text/html" in output.get("data", {}):  # the plain form of a generation says how fast it was
            output.data["text/plain"] = re.sub(r", [\d.]+ tokens/s", "", output.data["text/plain"])
        if output.output_type == "stream" and output.name == "stderr":
            raise ValueError(f"{name}, {cell.id}: wrote to stderr:\n{output.text}")
        shown = json.dumps(output, ensure_ascii=False)
        for private in {tempfile.gettempdir(), str(FOLDER.parent), str(Path.home())} - {"/"}:
            if private in shown:
                raise ValueError(f"{name}, {cell.id}: an output names {private}, a folder of this machine")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; none: all")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    sources = [path for path in sorted(FOLDER.glob("[0-9]*.py")) if path.name.startswith(tuple(options.names or [""]))]
    if not sources:
        print(f"no notebook in {FOLDER} begins with {' or '.join(options.names)}", file=sys.stderr)
        return 2
    for source in sources:
        started = time.perf_counter()
        try:
            notebook = executed(source)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        if not options.check:
            source.with_suffix(".ipynb").write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        print(f"{source.stem}: {time.perf_counter() - started:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
