"""Writes THIRD_PARTY_LICENSES: which Rust crates the compiled module contains, under which licence each is used, and the licences' texts.

    python tools/licenses.py             write the file anew; after every change of Cargo.lock
    python tools/licenses.py --check     write nothing; fails where the file is stale: what tools/lint.sh does
    python tools/licenses.py --offline   either, without the network: the crates' sources must have been downloaded

A wheel is a binary distribution of these crates, and nearly every licence asks that its text goes along. The file lists what is linked on
any platform that has a wheel (normal dependencies of the gates that wheels are built with; crates for build scripts and tests stay
outside). Whatever its kind, a crate whose licence is not in ``ALLOWED`` is an error: so nothing with other obligations slips in.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "THIRD_PARTY_LICENSES"
FEATURES = "python,cuda"  # [tool.maturin] of pyproject.toml
PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin", "x86_64-pc-windows-msvc")

#: Licences that ask for no more than their text and notices to be kept.
ALLOWED = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unicode-3.0"}

TEXTS = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
HEAD = """\
Third-party licences
====================

The compiled module of reset-nvfp4 contains the crates below, from https://crates.io, and the standard library of Rust
(https://github.com/rust-lang/rust, MIT OR Apache-2.0). This file is written by tools/licenses.py; the package's own licences are in
LICENSE-MIT and LICENSE-APACHE.
"""


def allowed(expression: str) -> bool:
    """Whether an SPDX expression can be met with licences of ``ALLOWED`` alone. Raises ValueError for what is no expression.

    >>> allowed("MIT OR GPL-3.0-only"), allowed("(MIT OR Apache-2.0) AND Unicode-3.0"), allowed("MIT AND GPL-3.0-only")
    (True, True, False)
    """
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))  # crates of old write a slash for OR

    def take(*expected: str) -> bool:
        if tokens and tokens[0] in expected:
            tokens.pop(0)
            return True
        return False

    def alternatives() -> bool:
        met = [everything()]
        while take("OR"):
            met.append(everything())
        return any(met)

    def everything() -> bool:
        met = [one()]
        while take("AND"):
            met.append(one())
        return all(met)

    def one() -> bool:
        if take("("):
            met = alternatives()
            if not take(")"):
                raise ValueError(f"{expression!r} is no SPDX expression: a parenthesis is left open")
            return met
        if not tokens or tokens[0] in (")", "AND", "OR", "WITH"):
            raise ValueError(f"{expression!r} is no SPDX expression: a licence is missing")
        name = tokens.pop(0)
        if take("WITH"):
            name = f"{name} WITH {tokens.pop(0) if tokens else ''}"
        return name in ALLOWED

    met = alternatives()
    if tokens:
        raise ValueError(f"{expression!r} is no SPDX expression: {tokens[0]!r} is left over")
    return met


def metadata(offline: bool, platform: str | None = None) -> dict[str, Any]:
    """What cargo knows about the dependencies of one platform, or of all."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--features", FEATURES]
    command += ["--offline"] * offline + (["--filter-platform", platform] if platform else [])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def linked(found: dict[str, Any]) -> set[str]:
    """Ids of the packages that the crate reaches by normal dependencies, itself left out."""
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    root: str = found["resolve"]["root"]
    reached, ahead = {root}, [root]
    while ahead:
        for dependency in nodes[ahead.pop()]["deps"]:
            if dependency["pkg"] not in reached and any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                reached.add(dependency["pkg"])
                ahead.append(dependency["pkg"])
    return reached - {root}


def texts(package: dict[str, Any]) -> list[str]:
    """The licence files in a crate's sources. Raises ValueError where there are none."""
    folder = Path(package["manifest_path"]).parent
    files = sorted((path for path in folder.iterdir() if path.is_file() and TEXTS.match(path.name)), key=lambda path: path.name.lower())
    if not files:
        raise ValueError(f"{package['name']} {package['version']} ships no text of its licence ({package['license']}); look at {folder}")
    lines = (path.read_text(encoding="utf-8").splitlines() for path in files)
    return ["\n".join(line.rstrip() for line in text).strip("\n") for text in lines]


def check_allowed(packages: list[dict[str, Any]]) -> None:
    """Raises ValueError naming every package whose licence cannot be met."""
    refused = [f"{p['name']} {p['version']}: {p['license']}" for p in packages if not p["license"] or not allowed(p["license"])]
    if refused:
        raise ValueError("licences outside the list of tools/licenses.py:\n  " + "\n  ".join(refused))


def render(packages: list[dict[str, Any]]) -> str:
    """The file: a table of crates, then every text once under the crates it came with. Texts that differ in spacing alone are one."""
    packages = sorted(packages, key=lambda p: (p["name"], p["version"]))
    shown: dict[str, str] = {}
    owners: dict[str, list[str]] = defaultdict(list)
    for package in packages:
        for text in texts(package):
            key = " ".join(text.split())
            shown.setdefault(key, text)
            owners[key].append(f"{package['name']} {package['version']}")
    width = max(len(f"{p['name']} {p['version']}") for p in packages)
    rows = [f"{p['name']} {p['version']}".ljust(width) + f"  {p['license']}" for p in packages]
    parts = [HEAD, "\n".join(rows) + "\n"]
    for key, text in shown.items():
        names = sorted(set(owners[key]))
        parts.append(f"{'-' * 80}\n{_wrapped(names)}\n{'-' * 80}\n\n{text}\n")
    return "\n".join(parts)


def _wrapped(names: list[str]) -> str:
    """Names in lines of at most 80 characters."""
    lines = [names[0]]
    for name in names[1:]:
        if len(lines[-1]) + len(name) + 2 > 80:
            lines[-1] += ","
            lines.append(name)
        else:
            lines[-1] += f", {name}"
    return "\n".join(lines)


def current(offline: bool) -> str:
    """What the file should say. Raises ValueError for licences that are not allowed or have no text."""
    packages = metadata(offline)["packages"]
    check_allowed(packages)
    wanted: set[str] = set()
    for platform in PLATFORMS:
        wanted |= linked(metadata(offline, platform))
    return render([package for package in packages if package["id"] in wanted])


def main() -> int:
    """Writes or checks the file; 1 for a stale file or a refused licence."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is stale")
    parser.add_argument("--offline", action="store_true", help="use what cargo has downloaded")
    options = parser.parse_args()
    try:
        text = current(options.offline)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if not options.check:
        TARGET.write_text(text, encoding="utf-8", newline="\n")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
        print(f"{TARGET.name} is not what Cargo.lock asks for: python tools/licenses.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
