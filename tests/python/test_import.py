"""``import reset`` is light: what it does not need is imported where it is used. ``tools/import_time.py`` measures what is left."""

from __future__ import annotations

import subprocess
import sys

#: Own modules that come with the package. Whatever is added here is paid for by everybody, whether they use it or not.
OWN = {
    "reset", "reset._checks", "reset._clash", "reset._core", "reset._linear", "reset.errors", "reset.nvfp4", "reset.policies",
    "reset.sampling", "reset.types",
}  # fmt: skip
#: Of the standard library: not needed by numpy, slow, and easily imported by mistake.
NOT_YET = {
    "argparse", "asyncio", "concurrent", "email", "http", "importlib.metadata", "logging", "multiprocessing", "pathlib", "tomllib",
    "urllib",
}  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """Modules after a statement in a fresh process, without those the interpreter loads itself."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_import_loads_numpy_ml_dtypes_and_the_core_only() -> None:
    loaded = loaded_by("import reset")
    packages = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert packages == {"reset", "numpy", "ml_dtypes"}
    assert {name for name in loaded if name.partition(".")[0] == "reset"} == OWN


def test_import_loads_no_slow_part_of_the_standard_library_that_numpy_does_without() -> None:
    assert not (loaded_by("import reset") - loaded_by("import numpy")) & NOT_YET


def test_what_is_named_later_comes_later() -> None:
    assert "reset.generation" in loaded_by("import reset; reset.generate") - loaded_by("import reset")
