"""What is published: contents and size of wheel and source archive, one version everywhere, and the command that checks built files."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from maintainer_tools import load_tool

import reset

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
METADATA = f"""Metadata-Version: 2.4
Name: reset-nvfp4
Version: {reset.__version__}
License-Expression: MIT OR Apache-2.0
License-File: LICENSE-APACHE
License-File: LICENSE-MIT
License-File: THIRD_PARTY_LICENSES
"""
MODULE = b"\x7fELF\0GLIBC_2.2.5\0GLIBC_2.28\0memcpy\0"
PLATFORM = "manylinux_2_28_x86_64"


@pytest.fixture(scope="module")
def dist() -> ModuleType:
    return load_tool("check_dist")


def wheel(folder: Path, *, changed: dict[str, bytes] | None = None, drop: str = "") -> Path:
    """A wheel that passes, but for files that are added, changed or dropped; ``INFO`` stands for the folder of metadata."""
    info = f"reset_nvfp4-{reset.__version__}.dist-info"
    files: dict[str, bytes] = {
        "reset/__init__.py": b"", "reset/_core.pyi": b"", "reset/py.typed": b"", "reset/_core.abi3.so": MODULE, "reset/cli/demo.py": b"",
        "reset/models/__init__.py": b"", "reset/models/tiny/model.safetensors": b"", "reset/models/tiny/MODEL_CARD.md": b"",
        f"{info}/METADATA": METADATA.encode(), f"{info}/entry_points.txt": b"[console_scripts]\nreset-nvfp4=reset.cli:main\n",
        **{f"{info}/licenses/{name}": b"" for name in ("LICENSE-APACHE", "LICENSE-MIT", "THIRD_PARTY_LICENSES")},
    }  # fmt: skip
    files.update({name.replace("INFO", info): content for name, content in (changed or {}).items()})
    path = folder / f"reset_nvfp4-{reset.__version__}-cp310-abi3-{PLATFORM}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            if name != drop.replace("INFO", info):
                archive.writestr(name, content)
    return path


def test_a_wheel_of_the_package_licences_and_tiny_passes(dist: ModuleType, tmp_path: Path) -> None:
    assert dist.wheel_problems(wheel(tmp_path)) == []


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("tests/golden/a.json", b"", "tests/golden/a.json is outside the package"),
        ("reset/models/large/model.safetensors", b"", "reset/models/large/model.safetensors does not belong"),
        ("reset/models/tiny/optimizer.pt", b"", "reset/models/tiny/optimizer.pt does not belong"),
        ("reset/data/gsm8k.jsonl", b"", "reset/data/gsm8k.jsonl does not belong"),
        ("reset/tasks/problems.json", b"", "reset/tasks/problems.json does not belong"),
        ("reset/__pycache__/api.py", b"", "reset/__pycache__/api.py does not belong"),
        ("reset/_core.pyd", b"", "one compiled module is wanted, found ['reset/_core.abi3.so', 'reset/_core.pyd']"),
        ("reset/_core.abi3.so", b"\0GLIBC_2.2.5\0GLIBC_2.34\0", f"{PLATFORM} is promised, but the module asks for glibc 2.34"),
        ("INFO/entry_points.txt", b"[console_scripts]\nreset=reset.cli:main\n", "one command is wanted, reset-nvfp4"),
        ("INFO/METADATA", METADATA.replace(reset.__version__, "9.9").encode(), "version 9.9, but Cargo.toml says"),
        ("INFO/METADATA", METADATA.replace("MIT OR", "MIT AND").encode(), "licence 'MIT AND Apache-2.0' instead of"),
    ],
)
def test_what_is_wrong_with_a_wheel_is_named(dist: ModuleType, tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (found,) = dist.wheel_problems(wheel(tmp_path, changed={name: content}))
    assert problem in found


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("reset/models/tiny/model.safetensors", "reset/models/tiny/model.safetensors is missing"),
        ("reset/py.typed", "reset/py.typed is missing"),
        ("reset/_core.abi3.so", "one compiled module is wanted, found []"),
        ("INFO/licenses/THIRD_PARTY_LICENSES", "the licence THIRD_PARTY_LICENSES is missing"),
    ],
)
def test_what_a_wheel_lacks_is_named(dist: ModuleType, tmp_path: Path, name: str, problem: str) -> None:
    assert dist.wheel_problems(wheel(tmp_path, drop=name)) == [problem]


def test_the_budget_of_a_wheel_is_25_mebibytes(dist: ModuleType, tmp_path: Path) -> None:
    name = "reset/padding.py"  # zipfile stores what it is not asked to compress
    slack = 25 * 2**20 - wheel(tmp_path, changed={name: b""}).stat().st_size
    assert dist.wheel_problems(wheel(tmp_path, changed={name: bytes(slack)})) == []
    assert dist.wheel_problems(wheel(tmp_path, changed={name: bytes(slack + 1)})) == ["25.0 MiB are above the budget of 25 MiB"]


def test_a_wheel_of_one_interpreter_alone_is_refused(dist: ModuleType, tmp_path: Path) -> None:
    path = wheel(tmp_path)
    other = path.rename(path.with_name(path.name.replace("cp310-abi3", "cp311-cp311")))
    assert dist.wheel_problems(other) == ["the name is not reset_nvfp4-VERSION-cp310-abi3-PLATFORM.whl"]


@pytest.mark.parametrize(
    ("strings", "newest"), [(b"", (0, 0)), (MODULE, (2, 28)), (b"\0GLIBC_2.9\0GLIBC_2.10\0", (2, 10)), (b"\0GLIBC_PRIVATE\0", (0, 0))]
)
def test_the_newest_glibc_is_read_from_a_module(dist: ModuleType, strings: bytes, newest: tuple[int, int]) -> None:
    assert dist.glibc_of(strings) == newest


@pytest.fixture(scope="module")
def source_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real one; nothing is compiled for it."""
    if shutil.which("maturin") is None or shutil.which("cargo") is None:
        pytest.skip("needs maturin and cargo: pip install maturin; https://rustup.rs")
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run(["maturin", "sdist", "--out", str(folder)], cwd=ROOT, capture_output=True, check=True)
    (path,) = folder.iterdir()
    return path


def test_the_source_archive_holds_what_a_build_needs_and_no_more(dist: ModuleType, source_archive: Path) -> None:
    assert dist.sdist_problems(source_archive) == []


def test_what_is_wrong_with_a_source_archive_is_named(dist: ModuleType, source_archive: Path, tmp_path: Path) -> None:
    top = f"reset_nvfp4-{reset.__version__}"
    worse = tmp_path / source_archive.name
    with tarfile.open(source_archive) as good, tarfile.open(worse, "w:gz") as bad:
        for member in good.getmembers():
            if member.name != f"{top}/kernels/common.cuh":
                bad.addfile(member, good.extractfile(member))
        for name in ("tests/golden/model.safetensors", "python/reset/_core.abi3.so", "notebooks/README.md"):
            bad.addfile(tarfile.TarInfo(f"{top}/{name}"), io.BytesIO())
    assert dist.sdist_problems(worse) == [
        "reset/_core.abi3.so is compiled already",
        "notebooks/README.md does not belong into the archive",
        "tests/golden/model.safetensors does not belong into the archive",
        "kernels/common.cuh is missing",
    ]


def test_the_command_prints_size_and_verdict(tmp_path: Path) -> None:
    def run(path: Path) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "tools/check_dist.py", str(path)], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert run(wheel(tmp_path)) == (0, f"{wheel(tmp_path).name}: 0.00 MiB, fine\n")
    status, printed = run(wheel(tmp_path, drop="reset/py.typed"))
    assert (status, printed.splitlines()[1:]) == (1, ["  reset/py.typed is missing"])


def test_the_version_is_stated_once_and_named_everywhere(dist: ModuleType) -> None:
    """Cargo.toml states it; the compiled module, the changelog and the citation follow."""
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert reset.__version__ == dist.version()
    (newest, *_) = re.findall(
        r"^## (.+) - (?:unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert newest == dist.version()
    assert re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE) == [dist.version()]


def test_every_extra_of_users_has_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("\n[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE))
    of_maintainers = {"docs", "lint", "notebooks", "test", "test-browser", "test-torch"}
    assert of_maintainers < extras
    assert set(load_tool("check_extras").PROOFS) == extras - of_maintainers
