"""Docstrings as Markdown, and where those of the compiled core are written. Plain functions over text; ``docstrings.py`` applies them."""

from __future__ import annotations

import re

ROLE = re.compile(r":(?:func|class|mod|meth|attr|data|exc|obj):`(~?)([^`]+)`")
BLOCK = re.compile(r"::\n(?=\n[ \t])")


def to_markdown(text: str, module: str = "reset") -> str:
    """A docstring's text as Markdown: roles become links where their target is on the site, else code."""
    text = BLOCK.sub(":\n", re.sub(r"::$", ":", text) if text.endswith("::") else text)
    text = re.sub(r" ::\n(?=\n[ \t])", "\n", text)

    def role(match: re.Match[str]) -> str:
        shown = match[2].rpartition(".")[2] if match[1] else match[2]
        identifier = match[2] if match[2].startswith("reset.") else f"{module}.{match[2]}"
        return f'<autoref optional identifier="{identifier}"><code>{shown}</code></autoref>'

    return fenced(ROLE.sub(role, apart(text)))


def apart(text: str) -> str:
    """Entries for several parameters (``top_p, top_k, min_p: filters``) as one entry each, so that each gets its type and default."""
    lines: list[str] = []
    entry: list[str] = []
    names: list[str] = []
    inside = False

    def finish() -> None:
        for name in names:
            first = re.sub(r"^( +)[^:]+:", rf"\1{name}:", entry[0])
            lines.extend([first, *entry[1:]])
        names.clear()
        entry.clear()

    for line in text.split("\n"):
        if entry and line.strip() and len(line) - len(line.lstrip()) > len(entry[0]) - len(entry[0].lstrip()):
            entry.append(line)
            continue
        finish()
        if line.strip() and not line.startswith(" "):
            inside = line in ("Args:", "Attributes:")
        match = re.match(r" +(\w+(?:, \w+)+): ", line) if inside else None
        if match:
            names, entry = match[1].split(", "), [line]
        else:
            lines.append(line)
    finish()
    return "\n".join(lines)


def fenced(text: str) -> str:
    """Puts runs of ``>>>`` and what they print between fences."""
    lines: list[str] = []
    inside: str | None = None
    for line in text.split("\n"):
        if inside is None and line.lstrip().startswith(">>>"):
            inside = line[: len(line) - len(line.lstrip())]
            lines.append(f"{inside}```pycon")
        elif inside is not None and not line.strip():
            lines.append(f"{inside}```")
            inside = None
        lines.append(line)
    if inside is not None:
        lines.append(f"{inside}```")
    return "\n".join(lines)


def rust_docs(source: str) -> dict[str, str]:
    """Documentation of the classes of a Rust file, and of their methods, by the names they have in Python.

    >>> rust_docs('/// One.\\n#[pyclass(name = "Fixed")]\\nstruct PyFixed;\\n#[pymethods]\\nimpl PyFixed {\\n/// It.\\nfn t(&self)')
    {'Fixed': 'One.', 'Fixed.t': 'It.'}
    """
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    doc: list[str] = []
    attributes = ""
    owner: str | None = None
    for line in source.splitlines():
        stripped = line.strip()
        if stripped.startswith("///"):
            doc.append(stripped[3:].removeprefix(" "))
        elif stripped.startswith("#["):
            attributes += stripped
        elif match := re.match(r"(?:pub(?:\(\w+\))? )?struct (\w+)", stripped):
            if "pyclass" in attributes:
                named = re.search(r'name = "(\w+)"', attributes)
                names[match[1]] = named[1] if named else match[1].removeprefix("Py")
                found[names[match[1]]] = "\n".join(doc)
            doc, attributes = [], ""
        elif match := re.match(r"impl(?:<[^>]*>)? (\w+)", stripped):
            owner = names.get(match[1]) if "pymethods" in attributes else None
            doc, attributes = [], ""
        elif match := re.match(r"(?:pub(?:\(\w+\))? )?(?:unsafe )?fn (\w+)", stripped):
            if owner is not None and doc:
                named = re.search(r'(?:name = "(\w+)")', attributes)
                found[f"{owner}.{named[1] if named else match[1]}"] = "\n".join(doc)
            doc, attributes = [], ""
        elif stripped and not stripped.startswith("//"):
            if not attributes or attributes.count("(") == attributes.count(")"):
                doc, attributes = [], ""
            else:
                attributes += stripped
    return {name: text for name, text in found.items() if text}
