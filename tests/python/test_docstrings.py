"""Every example in a docstring runs and says the truth."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import reset

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def module_names() -> list[str]:
    found = pkgutil.walk_packages(reset.__path__, prefix="reset.")
    return ["reset", *(module.name for module in found if not module.name.endswith(("._core", ".__main__")))]


@pytest.mark.parametrize("name", module_names())
def test_examples_in_docstrings(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"needs {error.name}")
    failed, _ = doctest.testmod(module, optionflags=FLAGS)
    assert failed == 0, "the output above says which example differs"


def test_some_examples_are_found() -> None:
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in ("reset.stop", "reset.boundaries")]
    assert all(any(test.examples for test in finder.find(module)) for module in modules)
