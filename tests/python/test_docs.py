"""The README and the documents tell the truth: their Python and their commands run, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
RUN_HERE = ("README.md",)
"""Documents whose Python and whose commands run here from top to bottom, each in an empty folder."""
RUN_THROUGH = (
    "docs/evaluation.md",
    "docs/explanation/format.md",
    "docs/explanation/policy.md",
    "docs/generation.md",
    "docs/howto/evaluate-your-policy.md",
    "docs/howto/install.md",
    "docs/howto/quantize-for-vllm.md",
    "docs/index.md",
    "docs/reference/configuration-files.md",
    "docs/tutorial.md",
)
"""Documents whose commands go on with what their Python made: all of it in one folder."""
RUN_NOWHERE = ("docs/vllm.md",)
"""Documents whose Python needs what no test has: vLLM with a GPU. The adapter itself has tests (``test_integration_vllm.py``)."""
NOT_RUN = {"bench": "a gigabyte of random weights", "demo": "test_demo.py runs it"}


def python_blocks(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


def commands(document: Path) -> list[list[str]]:
    """Arguments of every ``$ reset-nvfp4 …`` in a console block."""
    blocks = re.findall(r"```console\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    lines = re.findall(r"^\$ (?:.*&& )?reset-nvfp4 ((?:.*\\\n)*.*)$", "\n".join(blocks), re.MULTILINE)
    return [shlex.split(line.replace("\\\n", " "), comments=True) for line in lines]


@pytest.mark.parametrize("name", RUN_HERE)
def test_the_python_of_a_document_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(ROOT / name)
    assert blocks
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), scope)


@pytest.mark.parametrize("name", RUN_HERE)
def test_the_commands_of_a_document_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_commands(ROOT / name)


@pytest.mark.parametrize("name", RUN_THROUGH)
def test_a_document_runs_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(ROOT / name)
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), scope)
    assert run_commands(ROOT / name) or blocks


def run_commands(document: Path) -> int:
    """Runs the commands of a document here; how many there were."""
    from reset.cli import app

    run = [arguments for arguments in commands(document) if arguments[0] not in NOT_RUN]
    for arguments in run:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{shlex.join(arguments)}\n{done.output}\n{done.exception!r}"
        assert done.stdout
    return len(run)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if commands(d)], ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_are_spelt_as_the_program_wants_them(document: Path) -> None:
    """Every command of every document, whether or not it can run here: names, options, and values of the right kind."""
    from reset.cli import app

    group: Any = get_command(app)
    for name, *arguments in commands(document):
        assert name in group.commands, name
        if "..." not in arguments and "--config" not in arguments:  # a configuration is read while parsing
            group.commands[name].make_context(name, list(arguments))


def test_every_document_with_python_is_run_by_some_test() -> None:
    """Those that are not run here have a test that names them."""
    tests = {path: path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)}
    for document in DOCUMENTS:
        if python_blocks(document) and str(document.relative_to(ROOT).as_posix()) not in (*RUN_HERE, *RUN_THROUGH, *RUN_NOWHERE):
            assert any(f'"{document.name}"' in text for text in tests.values()), f"no test runs the Python of {document.name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), target


def test_code_that_a_document_quotes_is_that_of_the_file() -> None:
    """Comments apart: they are the document's."""
    text = (ROOT / "docs" / "howto" / "add-an-architecture.md").read_text(encoding="utf-8")
    (quoted,) = re.findall(r"```rust\n(.*?)```", text, re.DOTALL)
    source = (ROOT / "src" / "model" / "arch" / "qwen2.rs").read_text(encoding="utf-8")
    assert re.sub(r" *//.*", "", quoted) in source


def test_documents_name_no_machine() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"(^|[\s`\"'(])/(root|work|home)/", document.read_text(encoding="utf-8")), document
