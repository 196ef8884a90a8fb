"""``tools/licenses.py``: which licences pass, which crates count as linked, and that THIRD_PARTY_LICENSES belongs to Cargo.lock."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from maintainer_tools import load_tool

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def licenses() -> ModuleType:
    return load_tool("licenses")


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT/Apache-2.0", True),
        ("Unlicense OR MIT", True),
        ("MIT OR Apache-2.0 OR LGPL-2.1-or-later", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", True),
        ("(MIT OR Apache-2.0) AND OpenSSL", False),
        ("GPL-2.0-only OR MIT AND GPL-3.0-only", False),  # AND binds closer
        ("GPL-2.0-only OR MIT AND ISC", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH Some-other-exception", False),
        ("GPL-2.0-only WITH LLVM-exception OR Zlib", True),
    ],
)
def test_an_expression_passes_if_allowed_licences_meet_it(licenses: ModuleType, expression: str, passes: bool) -> None:
    assert licenses.allowed(expression) is passes


@pytest.mark.parametrize("expression", ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "AND MIT", "MIT OR )"])
def test_what_is_no_expression_is_named(licenses: ModuleType, expression: str) -> None:
    with pytest.raises(ValueError, match="is no SPDX expression"):
        licenses.allowed(expression)


def test_refused_crates_are_all_named(licenses: ModuleType) -> None:
    crates: list[dict[str, Any]] = [
        {"name": "fine", "version": "1.0.0", "license": "ISC"},
        {"name": "viral", "version": "2.0.0", "license": "AGPL-3.0-only"},
        {"name": "silent", "version": "3.0.0", "license": None},
    ]
    with pytest.raises(ValueError, match=r"viral 2\.0\.0: AGPL-3\.0-only\n  silent 3\.0\.0: None$") as caught:
        licenses.check_allowed(crates)
    assert "fine" not in str(caught.value)


def test_normal_dependencies_alone_are_linked(licenses: ModuleType) -> None:
    def node(name: str, **kinds: str | None) -> dict[str, Any]:
        return {"id": name, "deps": [{"pkg": package, "dep_kinds": [{"kind": kind}]} for package, kind in kinds.items()]}

    nodes = [
        node("root", a=None, build="build", dev="dev"), node("a", b=None), node("b", a=None),
        node("build", deep=None), node("dev"), node("deep"),
    ]  # fmt: skip
    assert licenses.linked({"resolve": {"root": "root", "nodes": nodes}}) == {"a", "b"}


def crate(folder: Path, name: str, **files: str) -> dict[str, Any]:
    home = folder / name
    home.mkdir()
    for file, text in files.items():
        (home / file).write_text(text, encoding="utf-8")
    return {"name": name, "version": "1.0.0", "license": "MIT", "manifest_path": str(home / "Cargo.toml")}


def test_one_text_is_printed_once_under_all_its_crates(licenses: ModuleType, tmp_path: Path) -> None:
    crates = [
        crate(tmp_path, "second", LICENSE="Permission is granted\r\n  to all.\n"),
        crate(tmp_path, "first", LICENSE="Permission is granted\nto all.", COPYING="See LICENSE", README="nothing"),
    ]
    text = licenses.render(crates)
    assert text.count("Permission is granted") == 1
    assert "\nfirst 1.0.0, second 1.0.0\n" in text
    assert "\nfirst 1.0.0   MIT\nsecond 1.0.0  MIT\n" in text
    assert "See LICENSE" in text
    assert "nothing" not in text


def test_a_crate_without_a_text_is_named(licenses: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bare 1\.0\.0 ships no text of its licence \(MIT\)"):
        licenses.render([crate(tmp_path, "bare", README="MIT")])


def test_the_crates_listed_are_those_that_are_locked() -> None:
    """Without cargo: names and versions of the table are in Cargo.lock, and every dependency of the package itself is in the table."""
    table = set(re.findall(r"^(\S+ \d+\.\d+\.\d+\S*)  +\S", (ROOT / "THIRD_PARTY_LICENSES").read_text(encoding="utf-8"), re.MULTILINE))
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    locked = {f"{name} {version}" for name, version in re.findall(r'^name = "(.*)"\nversion = "(.*)"', lock, re.MULTILINE)}
    assert len(table) > 50
    assert table <= locked, "python tools/licenses.py"
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8").partition("\n[dependencies]\n")[2].partition("\n[dev-dependencies]")[0]
    direct = set(re.findall(r"^([\w-]+) = ", manifest, re.MULTILINE))
    assert {"half", "pyo3", "cudarc", "libc"} <= direct <= {name.partition(" ")[0] for name in table}


def test_the_file_is_current() -> None:
    if shutil.which("cargo") is None:
        pytest.skip("needs cargo (https://rustup.rs)")
    done = subprocess.run(
        [sys.executable, "tools/licenses.py", "--check", "--offline"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if "attempting to make an HTTP request, but --offline was specified" in done.stderr or "failed to download" in done.stderr:
        pytest.skip("not every crate is downloaded; tools/lint.sh makes the same check with the network")
    assert done.returncode == 0, done.stderr
