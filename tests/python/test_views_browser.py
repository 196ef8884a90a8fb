"""The views in a real browser: what is read back, legible, reached by the keyboard, and left out without colours.

Needs the extra ``test-browser`` and a Chromium; without them these tests are skipped.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from test_views import HOSTILE, made

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'reset-nvfp4[test-browser]'")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Contrast of every piece of text with what lies behind it, by WCAG 2: layers and opacities are laid over each other up to the page.
CONTRASTS = """() => {
  const parse = s => { const v = s.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const over = (top, below) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * below[i]);
  const luminance = c => c.map(x => x / 255).map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [.2126, .7152, .0722][i], 0);
  const found = [];
  for (const element of document.querySelectorAll('.reset-view *, h1')) {
    if (![...element.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || element.tagName === 'STYLE') continue;
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(e);
    let ground = parse(getComputedStyle(document.body).backgroundColor).slice(0, 3), opacity = 1;
    for (const e of chain) { ground = over(parse(getComputedStyle(e).backgroundColor), ground); opacity *= +getComputedStyle(e).opacity; }
    const ink = parse(getComputedStyle(element).color);
    const text = over([...ink.slice(0, 3), ink[3] * opacity], ground);
    const [low, high] = [luminance(ground), luminance(text)].sort((a, b) => a - b);
    found.push([(high + .05) / (low + .05), element.tagName + '.' + element.className]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"needs a browser: one of {', '.join(NAMES)}")
    with sync_api.sync_playwright() as playwright:
        # Without a sandbox, since containers run as root; the pages are our own, and hold no scripts.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def shown(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a generation's page; fails if the page asks for anything, opens a dialog or reports an error."""
    opened: list[Any] = []
    wrong: list[str] = []

    def show(generation: Any, **options: Any) -> Any:
        file = tmp_path / f"{len(opened)}.html"
        generation.save_html(file)
        page = browser.new_page(**{"viewport": {"width": 900, "height": 700}, **options})
        opened.append(page)
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: request.url != file.as_uri() and wrong.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.goto(file.as_uri())
        return page

    yield show
    for page in opened:
        page.close()
    assert not wrong


def example() -> Any:
    parts = ["So", " it", " is", " né", ".\n\n", "The", " end", HOSTILE, "."]
    return made(parts, boundaries=(5,), temperature=[0.3, 1.0, 0.6, 0.3, 0.3, 1.0, 0.3, 0.3, 0.3], metadata={"policy": "P", "x": HOSTILE})


def test_a_browser_reads_the_text_back(shown: Any) -> None:
    generation = example()
    page = shown(generation)
    assert "".join(page.locator("pre").evaluate_all("all => all.map(e => e.textContent)")) == generation.text
    assert page.locator("script").count() == 0
    assert page.locator("pre span").evaluate_all("all => all.filter(e => !e.title).length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_legible_in_both_schemes(shown: Any, scheme: str) -> None:
    page = shown(example(), color_scheme=scheme)
    page.locator("details").evaluate_all("all => all.forEach(e => e.open = true)")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light"), "the page does not follow the scheme"
    found = page.evaluate(CONTRASTS)
    assert len(found) > 40
    assert min(found)[0] >= 4.5, min(found)


def test_the_keyboard_reaches_every_number(shown: Any) -> None:
    page = shown(example())
    visited = []
    for _ in range(3):
        page.keyboard.press("Tab")
        visited.append(page.evaluate("document.activeElement.textContent.slice(0, 6)"))
        outline = page.evaluate(
            "[getComputedStyle(document.activeElement).outlineStyle, getComputedStyle(document.activeElement).outlineWidth]"
        )
        assert outline == ["solid", "2px"]
    assert visited == ["Step 1", "Step 2", "Model,"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.locator("details[open] caption").inner_text().startswith("Tokens 5 to 8")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Tokens of this step"


def test_thousands_of_tokens_are_few_stops(shown: Any) -> None:
    page = shown(made([f"{i} " for i in range(5_000)], boundaries=(100, 3_000)))
    assert page.evaluate("[...document.querySelectorAll('*')].filter(e => e.tabIndex >= 0 && e.checkVisibility()).length") == 3
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_temperatures_are_seen_without_colours(shown: Any) -> None:
    """Windows' high contrast takes every background away."""
    page = shown(example(), forced_colors="active")
    lines = page.locator("pre span").evaluate_all(
        "all => all.map(e => getComputedStyle(e)).map(s => s.textDecorationLine == 'underline' ? s.textDecorationStyle : '')"
    )
    assert lines == ["", "solid", "dotted", "", "", "solid", "", "", ""]


def test_the_end_of_a_step_is_a_mark_and_no_empty_line(shown: Any) -> None:
    page = shown(example())
    height, line = page.locator("pre").first.evaluate("e => [e.clientHeight, parseFloat(getComputedStyle(e).lineHeight)]")
    assert height == pytest.approx(line, abs=2)
    marks = page.locator("pre").first.locator("i").evaluate_all("all => all.map(e => getComputedStyle(e, '::before').content)")
    assert marks == ['"⏎"', '"⏎"']
