"""Who may import whom, in Python: the table of docs/architecture.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "reset"

#: Each layer may import itself and the layers before it. What is not listed belongs to the layer "api".
LAYERS = ("base", "pure", "api", "evaluation", "studies", "surface")
LAYER_OF = {
    **dict.fromkeys(("_checks", "_clash", "_core", "errors", "files", "hub", "models"), "base"),
    **dict.fromkeys(("tasks", "scoring", "statistics"), "pure"),
    "evaluation": "evaluation",
    **dict.fromkeys(("_calibration_run", "_processed", "analysis", "calibration", "tuning", "studies"), "studies"),
    **dict.fromkeys(("cli", "pytest_plugin", "__main__", "integrations"), "surface"),
}
#: Drawn by methods of results, and drawing nothing but what it is given.
ANYWHERE = {"plots", "types", "views"}


def layer(module: str) -> str:
    return LAYER_OF.get(module, "api")


def imports(path: Path) -> set[str]:
    """First names below ``reset`` that a file imports, inside functions too, but not for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "reset":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("reset.")}
    return found - {"__version__"}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_its_own_layer_and_those_below(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in ANYWHERE:
        return
    for imported in imports(path) - ANYWHERE:
        assert LAYERS.index(layer(imported)) <= LAYERS.index(layer(own)), f"{own} ({layer(own)}) imports {imported} ({layer(imported)})"


def test_the_pure_packages_do_not_know_each_other_but_for_the_scorer_of_a_task() -> None:
    for package, allowed in (("tasks", set()), ("statistics", set()), ("scoring", {"tasks"})):
        for path in (PACKAGE / package).rglob("*.py"):
            assert imports(path) & {"tasks", "scoring", "statistics"} <= {package} | allowed, path


def test_the_table_sees_imports() -> None:
    assert {"_core", "model"} <= imports(PACKAGE / "generation.py")
    assert layer("generation") == "api"
