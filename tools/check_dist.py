"""Looks into built wheels and source archives: what is in them, what is not, how large they are, how old a Linux they run on.

    python tools/check_dist.py dist/*.whl dist/*.tar.gz

A wheel holds the package, the licences and the small model, and nothing else; a source archive what it takes to build that wheel. Data,
golden files, notebooks and other models stay in the repository. Everything wrong is printed; the exit status is 1 if anything is.
"""

from __future__ import annotations

import argparse
import re
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[1]
NAME = "reset_nvfp4"
MIB = 1 << 20
WHEEL_BUDGET, SDIST_BUDGET = 25 * MIB, 8 * MIB

COMPILED = {"reset/_core.abi3.so", "reset/_core.pyd"}
LICENSES = {"LICENSE-APACHE", "LICENSE-MIT", "THIRD_PARTY_LICENSES"}
MODELS = {"tiny"}
#: What a folder below ``reset/`` may hold: sources, and the files of a model.
SOURCES, MODEL_FILES = {".py", ".pyi", ".typed"}, {".json", ".safetensors", ".md"}
#: Top level of a source archive. Cargo refuses a manifest whose tests and benches are missing, so these go along.
SDIST_FILES = {"Cargo.lock", "Cargo.toml", "PKG-INFO", "README.md", "pyproject.toml", *LICENSES}
SDIST_FOLDERS = ("src", "kernels", "benches", "tests/rust", "python/reset")


def version() -> str:
    """The version of Cargo.toml, which is the only place that states it."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{ROOT / 'Cargo.toml'} states no version")
    return found[1]


def package_problems(paths: Iterable[str]) -> list[str]:
    """What does not belong among the files of the package, given as ``reset/…``; and what is missing there."""
    paths = set(paths)
    problems = []
    for path in sorted(paths):
        parts = PurePosixPath(path).parts
        if parts[1] == "models" and len(parts) > 3:
            belongs = parts[2] in MODELS and PurePosixPath(path).suffix in MODEL_FILES
        else:
            belongs = PurePosixPath(path).suffix in SOURCES or path in COMPILED
        if not belongs or "__pycache__" in parts:
            problems.append(f"{path} does not belong into the package")
    wanted = {"reset/__init__.py", "reset/_core.pyi", "reset/py.typed", *(f"reset/models/{name}/model.safetensors" for name in MODELS)}
    return problems + [f"{path} is missing" for path in sorted(wanted - paths)]


def glibc_of(module: bytes) -> tuple[int, int]:
    """The newest glibc whose symbols a Linux module asks for: their versions stand in its string table."""
    return max(((int(a), int(b)) for a, b in re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?=[\0.])", module)), default=(0, 0))


def wheel_problems(path: Path) -> list[str]:
    """Everything wrong with a wheel."""
    match = re.fullmatch(rf"{NAME}-(?P<version>[^-]+)-cp310-abi3-(?P<platform>[^-]+)\.whl", path.name)
    if match is None:
        return [f"the name is not {NAME}-VERSION-cp310-abi3-PLATFORM.whl"]
    problems = _size_problems(path, WHEEL_BUDGET)
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        info = f"{NAME}-{match['version']}.dist-info/"
        package = {name for name in names if name.startswith("reset/")}
        described = {name.removeprefix(info) for name in names if name.startswith(info)}
        problems += [f"{name} is outside the package" for name in sorted(names - package) if not name.startswith(info)]
        problems += package_problems(package)
        if len(modules := sorted(package & COMPILED)) != 1:
            problems.append(f"one compiled module is wanted, found {modules}")
        problems += [f"the licence {name} is missing" for name in sorted(LICENSES) if f"licenses/{name}" not in described]
        if "METADATA" in described:
            problems += _metadata_problems(archive.read(f"{info}METADATA").decode())
        scripts = archive.read(f"{info}entry_points.txt").decode() if "entry_points.txt" in described else ""
        if re.findall(r"^(\S+) ?=", scripts, re.MULTILINE) != ["reset-nvfp4"]:  # `reset` alone belongs to ncurses
            problems.append(f"one command is wanted, reset-nvfp4; entry points: {scripts!r}")
        promised = re.search(r"manylinux_(\d+)_(\d+)", match["platform"])
        if promised and modules and (found := glibc_of(archive.read(modules[0]))) > (int(promised[1]), int(promised[2])):
            problems.append(f"{match['platform']} is promised, but the module asks for glibc {found[0]}.{found[1]}")
    return problems


def sdist_problems(path: Path) -> list[str]:
    """Everything wrong with a source archive."""
    top = f"{NAME}-{version()}"
    if path.name != f"{top}.tar.gz":
        return [f"the name is not {top}.tar.gz"]
    problems = _size_problems(path, SDIST_BUDGET)
    with tarfile.open(path) as archive:
        names = {member.name.removeprefix(f"{top}/") for member in archive.getmembers() if not member.isdir()}
        problems += [f"{member.name} is a link" for member in archive.getmembers() if member.issym() or member.islnk()]
        metadata = archive.extractfile(f"{top}/PKG-INFO") if "PKG-INFO" in names else None
        problems += _metadata_problems(metadata.read().decode()) if metadata else []
    package = {name.removeprefix("python/") for name in names if name.startswith("python/reset/")}
    problems += package_problems(package) + [f"{name} is compiled already" for name in sorted(package & COMPILED)]
    inside = {name for name in names if name.startswith(tuple(f"{folder}/" for folder in SDIST_FOLDERS))}
    problems += [f"{name} does not belong into the archive" for name in sorted(names - inside - SDIST_FILES)]
    wanted = SDIST_FILES | {"src/lib.rs", "kernels/common.cuh"}
    return problems + [f"{name} is missing" for name in sorted(wanted - names)]


def _size_problems(path: Path, budget: int) -> list[str]:
    size = path.stat().st_size
    return [f"{size / MIB:.1f} MiB are above the budget of {budget / MIB:.0f} MiB"] if size > budget else []


def _metadata_problems(text: str) -> list[str]:
    metadata = Parser().parsestr(text)
    problems = [] if metadata["Version"] == version() else [f"version {metadata['Version']}, but Cargo.toml says {version()}"]
    if metadata["License-Expression"] != "MIT OR Apache-2.0":
        problems.append(f"licence {metadata['License-Expression']!r} instead of 'MIT OR Apache-2.0'")
    if set(metadata.get_all("License-File", [])) != LICENSES:
        problems.append(f"licence files {metadata.get_all('License-File')} instead of {sorted(LICENSES)}")
    return problems


def main() -> int:
    """Prints size and problems of every archive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="a .whl or .tar.gz")
    failed = False
    for path in parser.parse_args().archives:
        problems = wheel_problems(path) if path.suffix == ".whl" else sdist_problems(path)
        print(f"{path.name}: {path.stat().st_size / MIB:.2f} MiB, {'fine' if not problems else 'WRONG'}")
        for problem in problems:
            print(f"  {problem}")
        failed |= bool(problems)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
