"""Docstrings for the site: what Sphinx would understand becomes Markdown, and what is written in Rust is found there.

The package is analysed without importing it. Two things are missing then:

- docstrings use ``:func:`reset.load```, ``::`` before indented blocks, and examples after ``>>>``; none of these is Markdown;
- classes of the compiled core have their documentation in Rust (``///`` above a ``#[pyclass]`` or a method), which pyo3 turns into
  ``__doc__``. Their stubs (``_core.pyi``) have signatures alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))  # griffe loads this file by its path

from rst import rust_docs, to_markdown

ROOT = Path(__file__).resolve().parents[2]


class Docstrings(griffe.Extension):
    """Applies both to every object as it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self._rust: dict[str, str] = {}
        for path in sorted((ROOT / "src" / "python").glob("*.rs")):
            self._rust |= rust_docs(path.read_text(encoding="utf-8"))

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        # pyo3's constructors are __new__, signatures are shown of __init__.
        if cls.path.startswith("reset._core.") and "__new__" in cls.members and "__init__" not in cls.members:
            made = cls.members["__new__"]
            cls.set_member("__init__", griffe.Function("__init__", parameters=made.parameters, returns="None"))

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is None and obj.path.startswith("reset._core."):
            text = self._rust.get(obj.path.removeprefix("reset._core."))
            if text is not None:
                obj.docstring = griffe.Docstring(text, parent=obj, parser=griffe.Parser.google, parser_options={"warnings": False})
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
