"""What notebooks show: every character of the text once, every token's numbers, nothing that a text could smuggle in."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from arm_rows import make_result
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import byte_fallback, byte_level
from test_study_report import made_study

import reset
from reset.detokenize import text_ends
from reset.text import TextStream, Tokenizer
from reset.types import COLUMNS, Generation, Trace
from reset.views import _html
from reset.views import generation as generation_view
from reset.views.pieces import Piece, pieces

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "</pre></span><script>alert(1)</script> \" onmouseover='x' & &amp; <!-- ]]> \r\n\u202e\x1b[31m"


class Reader(HTMLParser):
    """A page as a list of elements, each with its attributes, the names of those around it, and the text in it."""

    VOID = ("meta", "br", "hr")

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] = []
        self.feed(page)
        self.close()
        assert not self._open, f"never closed: {[element['tag'] for element in self._open]}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        around = [element["tag"] for element in self._open]
        element = {"tag": tag, "around": around, "text": "", **{f"@{name}": value for name, value in attributes}}
        self.elements.append(element)
        if tag not in self.VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element["text"] += data

    def find(self, tag: str, **attributes: str) -> list[dict[str, Any]]:
        wanted = {f"@{name.rstrip('_')}": value for name, value in attributes.items()}
        return [e for e in self.elements if e["tag"] == tag and all(value in (e.get(key) or "").split() for key, value in wanted.items())]

    @property
    def shown_text(self) -> str:
        return "".join(e["text"] for e in self.find("pre"))


def made(parts: list[str], *, ends: bool = True, boundaries: tuple[int, ...] = (), temperature: Any = None, **changed: Any) -> Generation:
    """A generation whose tokens have these texts."""
    n = len(parts)
    columns: dict[str, Any] = {name: np.linspace(0, 3, n) for name, dtype in COLUMNS.items() if dtype is np.float64}
    boundary = np.isin(np.arange(n), boundaries)
    columns |= {"token_id": np.arange(100, 100 + n), "boundary": boundary, "step_index": np.cumsum(boundary), "logprob": -np.ones(n)}
    if temperature is not None:
        columns["temperature"] = np.broadcast_to(np.asarray(temperature, float), n)
    lengths = np.cumsum([len(part) for part in parts], dtype=int).tolist()
    base: dict[str, Any] = {
        "text": "".join(parts),
        "token_ids": list(range(100, 100 + n)),
        "prompt_token_ids": [1],
        "finish_reason": "stop",
    }
    base |= {"seed": 7, "seconds": 1.0, "trace": Trace(**columns, tokens=tuple(parts)), "text_ends": tuple(lengths) if ends else ()}
    return Generation(**(base | changed))


# Whose text is whose


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([byte_level, byte_fallback]),
    st.lists(st.integers(0, 440), max_size=24),
    st.lists(st.integers(0, 440), max_size=3),
    st.sampled_from([(), ("e",), ("\n\n", " t"), ("�",)]),
)
def test_the_pieces_of_any_ids_are_the_text(make: Any, ids: list[int], prompt: list[int], stop: tuple[str, ...]) -> None:
    tokenizer = Tokenizer.from_backend(make())
    stream, text, kept = TextStream(tokenizer, prompt, stop=stop), "", []
    for token in ids:
        kept.append(token)
        text += stream.push(token)
        if stream.stopped is not None:
            break
    text += stream.finish()
    ends = text_ends(tokenizer, kept, prompt, len(text))
    assert len(ends) == len(kept)
    assert list(ends) == sorted(ends)
    assert not kept or ends[-1] == len(text)
    generation = Generation(
        text, kept, prompt, "stop", 0, 1.0, made(["x"] * len(kept)).trace[:0] if not kept else _trace_of(tokenizer, kept), text_ends=ends
    )
    found = pieces(generation)
    assert "".join(piece.text for piece in found) == text
    assert [i for piece in found for i in range(piece.first, piece.last + 1)] == list(range(len(kept)))


def _trace_of(tokenizer: Tokenizer, ids: list[int]) -> Trace:
    columns = made(["x"] * len(ids)).trace.columns
    return Trace(**(columns | {"token_id": np.array(ids)}), tokens=tokenizer.token_texts(ids))


def test_a_character_of_several_tokens_is_one_piece() -> None:
    tokenizer = Tokenizer.from_backend(byte_level())
    backend = tokenizer.backend
    ids = [backend.token_to_id(token) for token in ("Ġthe", "ð", "Ł", "Ĳ", "¬", "s", "<|end|>")]
    assert None not in ids
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert text == " the🐬s"
    ends = text_ends(tokenizer, ids, [5], len(text))
    assert ends == (4, 4, 4, 4, 5, 6, 6)
    generation = Generation(text, ids, [5], "stop", 0, 1.0, _trace_of(tokenizer, ids), text_ends=ends)
    assert pieces(generation) == [Piece(0, 0, " the"), Piece(1, 4, "🐬"), Piece(5, 5, "s"), Piece(6, 6, "")]
    spans = Reader(generation._repr_html_()).find("pre")
    assert len(spans) == 1
    assert spans[0]["text"] == text
    read = Reader(generation._repr_html_())
    titled = [e for e in read.find("span") if "@title" in e]
    assert [len(e["@title"].split("\n")) for e in titled] == [1, 4, 1, 1]
    assert titled[-1]["@data-token"] == "<|end|>"


def test_special_tokens_between_characters_stand_alone() -> None:
    generation = made(["a", "", "b"])
    trace = Trace(**generation.trace.columns, tokens=("a", "<s>", "b"))
    assert pieces(Generation(**(vars(generation) | {"trace": trace}))) == [Piece(0, 0, "a"), Piece(1, 1, ""), Piece(2, 2, "b")]


def test_without_ends_tokens_are_joined_or_the_text_is_one_piece() -> None:
    assert pieces(made(["a", "bc"], ends=False)) == [Piece(0, 0, "a"), Piece(1, 1, "bc")]
    assert pieces(made(["a", "bc"], ends=False, text="something else")) == [Piece(0, 1, "something else")]
    assert pieces(made(["a", "bc"], text_ends=(1, 2))) == [Piece(0, 1, "abc")]
    assert pieces(made([], text="")) == []


def test_what_was_generated_has_its_ends(demo_nvfp4: Path) -> None:
    model = reset.load(demo_nvfp4)
    options: dict[str, Any] = {"max_new_tokens": 60, "seed": 3, "policy": reset.FixedTemperature(1.5), "ignore_eos": True}
    whole = reset.generate(model, "Count", **options)
    assert isinstance(whole, Generation)
    assert whole.text_ends[-1] == len(whole.text)
    letter = next(c for c in whole.text[20:] if c.isalpha())
    cut = reset.generate(model, "Count", **options, stop=(whole.text[:20][-3:] + letter, letter))
    assert isinstance(cut, Generation)
    assert cut.stop is not None
    assert cut.text_ends[-1] == len(cut.text) < len(whole.text)
    for generation in (whole, cut):
        assert "".join(piece.text for piece in pieces(generation)) == generation.text
        assert Reader(generation._repr_html_()).shown_text == _readable(generation.text)


def _readable(text: str) -> str:
    """What HTML can hold of a text."""
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


# Structure


def test_a_generation_shows_steps_marks_and_numbers() -> None:
    parts = ["So", " it", " is", ".\n\n", "The", " end", "."]
    generation = made(parts, boundaries=(4,), temperature=[0.3, 0.3, 1.0, 0.3, 1.0, 0.3, 0.3], metadata={"policy": "P(1)", "seed": None})
    read = Reader(generation._repr_html_())
    assert read.shown_text == generation.text
    assert [e["text"] for e in read.find("pre")] == ["So it is.\n\n", "The end."]
    headings = [e["text"] for e in read.find("summary")]
    assert headings == [
        "Step 1 of 2: 4 tokens, mean entropy 0.75 nats, T 0.30 to 1.00", "Step 2 of 2: 3 tokens, mean entropy 2.50 nats, T 0.30 to 1.00",
        "Model, policy and options",
    ]  # fmt: skip
    tokens = [e for e in read.find("span") if "@title" in e]
    assert [e["text"] for e in tokens if "rs-hi" in e["@class"]] == [" is", "The"]
    assert [int(re.findall(r"rs-e(\d)", e["@class"])[0]) for e in tokens] == [0, 3, 4, 4, 5, 5, 5]  # 0, 0.5, 1, … 3 nats
    assert "T 1.00" in tokens[2]["@title"]
    assert "entropy 1.000 nats" in tokens[2]["@title"]
    assert "probability 36.8%" in tokens[2]["@title"]
    assert tokens[4]["@title"].endswith("token 4, begins step 2")
    rows = [e["text"] for e in read.find("tr")]
    assert len(rows) == len(parts) + 2 + 1  # two heads, and the policy; what is None is left out
    # The tab key stops at steps, not at tokens: a heading and the scrolled table of each.
    assert len(read.find("summary")) + len([e for e in read.elements if "@tabindex" in e]) == 3 + 2


def test_step_numbers_follow_step_indices_that_do_not_begin_at_zero() -> None:
    generation = made(["a", "b", "c"], boundaries=(1, 2))
    part = Generation(**(vars(generation) | {"trace": generation.trace[1:], "text": "bc", "text_ends": (1, 2)}))
    assert [e["text"][:11] for e in Reader(part._repr_html_()).find("summary")] == ["Step 1 of 2", "Step 2 of 2"]


@pytest.mark.parametrize(
    ("temperature", "classes", "said"),
    [
        ([0.6, 0.6, 0.6, 0.6], ["", "", "", ""], "all drawn at T = 0.60"),
        ([0.3, 1.0, 0.3, 1.0], ["", "rs-hi", "", "rs-hi"], "underlined drawn at T = 1.00 · others drawn at T = 0.30"),
        ([0.0, 0.5, 0.9, 0.1], ["", "rs-mid", "rs-hi", ""], "T = 0.90 · dotted drawn at T = 0.50 · others drawn at T = 0.00 to 0.10"),
    ],
)  # fmt: skip
def test_temperatures_are_underlined_and_the_key_says_which(temperature: list[float], classes: list[str], said: str) -> None:
    read = Reader(made(["a", "b", "c", "d"], temperature=temperature)._repr_html_())
    tokens = [e["@class"].split() for e in read.find("span") if "@title" in e]
    assert [next((c for c in token if c in ("rs-hi", "rs-mid")), "") for token in tokens] == classes
    assert read.find("p", class_="rs-key")[0]["text"].endswith(said)


def test_hostile_texts_are_text() -> None:
    generation = made(["a", HOSTILE, "\0\ud800"], metadata={"policy": HOSTILE, HOSTILE: [HOSTILE]}, stop=HOSTILE)
    for shown in (generation._repr_html_(), generation_view.generation_page(generation)):
        read = Reader(shown)
        assert read.shown_text == f"a{HOSTILE}\ufffd\ufffd"
        assert {e["tag"] for e in read.elements} <= {
            "html", "head", "meta", "title", "body", "main", "h1", "div", "style", "p", "section", "details", "summary", "table", "caption",
            "thead", "tbody", "tr", "th", "td", "pre", "span", "i",
        }  # fmt: skip
        assert not any(key.startswith("@on") for e in read.elements for key in e)
        assert "http:" not in shown
        assert "https:" not in shown
    for name in ("T1", HOSTILE):
        assert "<script" not in _html.table(name, (name,), [(name, name)])


def test_carriage_returns_survive_a_browser() -> None:
    """A browser reads a bare carriage return in a file as a newline; the reference it keeps."""
    assert _html.escape("a\r\nb\rc") == "a&#13;\nb&#13;c"


@pytest.mark.parametrize("text", ["", "two tokens"])
def test_generations_without_tokens_or_texts_show(text: str) -> None:
    empty = Reader(made([], text=text)._repr_html_())
    assert empty.shown_text == text
    ids = made(["", "", ""], trace=Trace(**made(["a"] * 3).trace.columns), text_ends=())
    marks = [e["@data-token"] for e in Reader(ids._repr_html_()).find("span") if "@data-token" in e]
    assert marks == ["#100", "#101", "#102"]


@pytest.mark.parametrize("step", [10_000, 700])
def test_a_notebook_shows_the_ends_of_a_long_text_and_a_page_all(step: int, tmp_path: Path) -> None:
    n = 3_000
    generation = made([f"{i} " for i in range(n)], boundaries=tuple(range(step, n, step)))
    read = Reader(generation._repr_html_())
    numbers = [int(word) for word in read.shown_text.split()]
    assert numbers == [*range(1_500), *range(2_500, 3_000)]
    assert [e["text"] for e in read.find("strong")] == ["… 1,000 of 3,000 tokens are left out here."]
    assert read.find("summary")[0]["text"].startswith(f"Step 1 of {1 if step > n else 5}: {min(n, step):,} tokens")
    file = tmp_path / "page.html"
    generation.save_html(file)
    assert Reader(file.read_text(encoding="utf-8")).shown_text == generation.text


def test_a_page_is_one_file_without_scripts(tmp_path: Path) -> None:
    generation = made(["One", " two", "."])
    generation.save_html(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert Reader(page).find("title")[0]["text"] == "One two."
    assert "default-src 'none'" in page
    with pytest.raises(FileNotFoundError):
        generation.save_html(tmp_path / "no" / "folder.html")


# Colours


def contrast(ink: float, paper: tuple[float, float, float], text: tuple[float, float, float]) -> float:
    """WCAG 2 contrast of text on paper with a layer of the colour of that opacity."""

    def luminance(colour: Any) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in colour)]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    ground = [ink * a + (1 - ink) * b for a, b in zip(_html.INK, paper, strict=True)]
    low, high = sorted((luminance(ground), luminance(text)))
    return (high + 0.05) / (low + 0.05)


#: Background and text of JupyterLab's themes, VS Code's, and plain browsers'.
THEMES = {
    "jupyter light": ((255, 255, 255), (33, 33, 33)), "jupyter dark": ((17, 17, 17), (255, 255, 255)),
    "vscode light": ((255, 255, 255), (59, 59, 59)), "vscode dark": ((31, 31, 31), (204, 204, 204)),
    "browser light": ((255, 255, 255), (0, 0, 0)), "browser dark": ((18, 18, 18), (255, 255, 255)),
}  # fmt: skip


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_legible_on_every_level(theme: str) -> None:
    paper, text = THEMES[theme]
    assert contrast(0.0, (255, 255, 255), (0, 0, 0)) == pytest.approx(21)
    levels = [contrast(opacity, paper, text) for opacity in _html.OPACITIES]
    assert min(levels) >= 4.5, levels
    assert len(levels) == len(generation_view.LEVELS) + 1


def test_levels_differ_in_lightness_too() -> None:
    """Printed in grey, each level is darker than the one before."""
    grounds = [contrast(opacity, (255, 255, 255), (0, 0, 0)) for opacity in _html.OPACITIES]
    assert all(a > b * 1.05 for a, b in pairwise(grounds))


# Tables


def rows_of(html: str) -> dict[str, list[str]]:
    """First cell → the others."""
    read, found = Reader(html), {}
    assert len(read.find("caption")) == len(read.find("table"))
    for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL):
        first, *rest = (re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL))
        found[first] = rest
    return found


def test_a_model_is_a_table(demo_nvfp4: Path) -> None:
    model = reset.load(demo_nvfp4)
    rows = rows_of(model._repr_html_())
    assert rows["architecture"][0].startswith("Qwen3ForCausalLM, ")
    assert rows["weights"] == ["nvfp4"]
    assert rows["key-value cache"] == [f"bf16, {model.kv_bytes_per_token:,} bytes per token"]
    assert rows["all"] == [f"{sum(model.footprint().values()) / 1e6:.2f}", "100.0%"]
    assert rows["lm_head"][0] == f"{model.footprint()['lm_head'] / 1e6:.2f}"


def test_a_result_is_a_table() -> None:
    result = make_result({"p0": [True, False], "p1": [True, True]})
    rows = rows_of(result._repr_html_())
    low, high = result.ci95
    assert rows["accuracy"] == [f"75.0%, 95 % interval {low:.1%} to {high:.1%}"]
    assert rows["correct"] == ["3", "75.0%"]
    assert rows["wrong"] == ["1", "25.0%"]
    assert rows["samples"] == ["4: 2 problems × 2"]
    assert "PARTIAL" not in result._repr_html_()


def test_a_partial_result_says_so() -> None:
    result = make_result({"p0": [True], "p1": [True]})
    part = reset.EvalResult(result.samples[:1], identity=result._identity, plan=result._plan)
    assert "PARTIAL: 1 of 2 planned samples" in part._repr_html_()
    none = reset.EvalResult([], identity=result._identity, plan=result._plan)
    assert rows_of(none._repr_html_())["accuracy"] == ["–, 95 % interval –"]


def test_a_comparison_is_a_table() -> None:
    a = make_result({f"p{i}": [i < 10] for i in range(40)})
    b = make_result({f"p{i}": [i < 25] for i in range(40)})
    found = reset.compare(a, b, names=("old <b>", "new"))
    rows = rows_of(found._repr_html_())
    assert rows["a: old &lt;b&gt;"][0] == "25.0%"
    assert rows["b: new"][0] == "62.5%"
    low, high = (f"{100 * bound:+.1f}".replace("-", "−") for bound in found.ci95)
    assert rows["strict"] == ["+37.5", f"{low} to {high}", "&lt; 0.001", "exact McNemar", f"{100 * found.mde:.1f}"]
    assert "Verdict: b is better." in found._repr_html_()
    assert "by a alone: 0, by b alone: 15" in found._repr_html_()
    assert math.isinf(reset.compare(a, a).mde) == (rows_of(reset.compare(a, a)._repr_html_())["strict"][-1] == "–")


def test_a_study_is_a_table() -> None:
    right = [True] * 10 + [False] * 30
    study = made_study({"base": right, "x & y": [True] * 30 + [False] * 10}, primary=[("base", "x & y")])
    rows = rows_of(study._repr_html_())
    assert rows["base"][:3] == ["25.0%", "14.2% to 40.2%", "40 × 1"]
    row = study.contrast_rows[0]
    name = row["contrast"].replace("&", "&amp;")
    assert rows[name][:2] == ["primary", f"{100 * row['difference']:+.1f}".replace("-", "−")]
    assert rows[name][-1] == row["verdict"]


def test_a_partial_study_shows_no_contrasts() -> None:
    study = made_study({"base": [True, False], "x": [True, True]}, primary=[("base", "x")])
    study.results.pop("x")
    html = study._repr_html_()
    assert "PARTIAL: not finished: x." in html
    assert "Contrasts</caption>" not in html
