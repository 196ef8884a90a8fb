"""Hooks of the documentation's site (``mkdocs.yml``): files beside ``docs/`` that pages link to become part of the site.

Pages are read in a checkout as well, where ``[the example](../examples/study.toml)`` is right. On the site there is no ``..`` above the
first page, so such a file is carried along below ``project/`` and the link leads there. A link to a folder leads to its README; where there
is none, its words are left without a link.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[2]
CARRIED = "project"
LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"^(```.*?^```|~~~.*?^~~~)", re.MULTILINE | re.DOTALL)
#: A list right after a line of text, which CommonMark knows and Python-Markdown does not: it wants a blank line between.
LIST = re.compile(r"^(?![ \t|]|[-*+] |\d+\. )(.+)\n(?=(?:[-*+]|1\.) )", re.MULTILINE)
#: Pages of the navigation that lie outside docs/.
PAGES = ("CONTRIBUTING.md", "notebooks/README.md")


def inside(base: str, target: str) -> str | None:
    """Where ``target``, linked from ``base`` (both from the project's top), lies on the site: None as it stands, "" nowhere."""
    if re.match(r"[a-z][a-z0-9+.-]*:|/", target):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(base), target))
    folder = (ROOT / path).is_dir()
    if folder:
        path = posixpath.join(path, "README.md")
        if not (ROOT / path).is_file():
            return ""
    if path.startswith("docs/"):
        return None if base.startswith("docs/") and not folder else path.removeprefix("docs/")
    return posixpath.join(CARRIED, path) if (ROOT / path).is_file() else None


def links(text: str) -> list[str]:
    """Targets of the links of a page, code left out."""
    return [match[2] for match in LINK.finditer(FENCE.sub("", text))]


def carried(start: dict[str, str]) -> dict[str, Path]:
    """Place on the site → file, of all that pages link to outside docs/, and of what Markdown files among these link to."""
    found = {posixpath.join(CARRIED, name): ROOT / name for name in PAGES}
    todo = [*start.items(), *((name, (ROOT / name).read_text(encoding="utf-8")) for name in PAGES)]
    while todo:
        base, text = todo.pop()
        for target in links(text):
            place = inside(base, target)
            if not place or not place.startswith(CARRIED) or place in found:
                continue
            found[place] = ROOT / place.removeprefix(f"{CARRIED}/")
            if place.endswith(".md"):
                todo.append((place.removeprefix(f"{CARRIED}/"), found[place].read_text(encoding="utf-8")))
    return found


def on_files(files: Files, *, config: Any) -> Files:
    """Adds what pages link to outside docs/."""
    from mkdocs.structure.files import File

    pages = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    for place, path in sorted(carried(pages).items()):
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Mends the links of a page."""
    return mended(markdown, page.file.src_uri)


def mended(markdown: str, source: str) -> str:
    """The text of the page ``source`` with links as the site needs them."""
    base = source.removeprefix(f"{CARRIED}/") if source.startswith(f"{CARRIED}/") else f"docs/{source}"

    def there(match: re.Match[str]) -> str:
        place = inside(base, match[2])
        if place == "":
            return match[1][1:-2]
        return match[0] if place is None else f"{match[1]}{posixpath.relpath(place, posixpath.dirname(source) or '.')}{match[3]}"

    # Code is left as it is: only what lies between fences is rewritten.
    parts = FENCE.split(markdown)
    return "".join(part if FENCE.match(part) else LIST.sub(r"\1\n\n", LINK.sub(there, part)) for part in parts)
