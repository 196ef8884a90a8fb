"""Checks every link of the built site.

    python tools/site/links.py target/site

A link within the site has to lead to a file, and its fragment to an element of that page. Links elsewhere are not followed (a check that
needs the network fails on somebody else's bad day); they have to be well-formed, and over https unless the host is this machine.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINKING = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src", "iframe": "src"}


class Page(HTMLParser):
    """Ids and links of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[int, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        for name in ("id", "name"):
            if (value := found.get(name)) is not None:
                self.ids.add(value)
        target = found.get(LINKING.get(tag, ""))
        if target is not None:
            self.links.append((self.getpos()[0], target))


def problems(site: Path) -> list[str]:
    """One line for each link that leads nowhere."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for line, target in page.links:
            said = problem(path, target, pages, site.resolve())
            if said is not None:
                found.append(f"{path.relative_to(site.resolve())}:{line}: {target}: {said}")
    return found


def problem(path: Path, target: str, pages: dict[Path, Page], site: Path) -> str | None:
    """What is wrong with a link, if anything."""
    try:
        parts = urlsplit(target)
    except ValueError as error:
        return str(error)
    if parts.scheme in ("mailto", "data", "javascript"):
        return None
    if parts.scheme or parts.netloc:
        return external(target)
    if path.name == "404.html":  # is served for any address, so the theme links it from the top
        return None
    file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if file.is_dir():
        file /= "index.html"
    if not file.is_relative_to(site):
        return "leads out of the site"
    if not file.is_file():
        return "no such file"
    if parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].ids:
        return "no such element"
    return None


def external(target: str) -> str | None:
    """What is wrong with an address elsewhere, by its spelling alone."""
    parts = urlsplit(target)
    if any(sign.isspace() or sign in '<>"{}' for sign in target):
        return "signs that an address cannot have"
    if parts.hostname in ("localhost", "127.0.0.1"):
        return None
    if parts.scheme not in ("https", ""):
        return "not https"
    if not parts.hostname or "." not in parts.hostname:
        return "no host"
    return None


def main() -> None:
    (folder,) = sys.argv[1:] or ["target/site"]
    site = Path(folder)
    count = len(list(site.rglob("*.html")))
    if not count:
        sys.exit(f"{site} has no pages: build the site first")
    found = problems(site)
    print("\n".join(found) if found else f"{count} pages, every link leads somewhere")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
