"""Reports: Holm's numbers, escaping of hostile texts in every form, and the page of problems that only one arm solves."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from arm_rows import make_result

import reset
from reset.statistics import mcnemar
from reset.studies import Plan, Study, report, viewer
from reset.tasks import Problem

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "a|b & 50% <script>alert(1)</script> \\input{x} $x_1^2$ #~[y] {z} `c` *d*\n\"q\" 'r' é −"


def made_study(outcomes: dict[str, list[bool]], *, primary: Any, exploratory: Any = (), interactions: Any = (), **options: Any) -> Study:
    """A study from one sample per problem and arm."""
    ids = [f"p{i}" for i in range(len(next(iter(outcomes.values()))))]
    results = {
        name: make_result({id: [right] for id, right in zip(ids, rights, strict=True)}, **options) for name, rights in outcomes.items()
    }
    arms = {name: {"model": "0", "n_samples": 1, "policy": {"policy": "fixed", "t": i / 10}} for i, name in enumerate(outcomes)}
    record = {
        "task": "sums", "split": "test", "problems": len(ids), "problems_sha256": "", "seed": 0, "arms": arms,
        "primary": [list(p) for p in primary], "exploratory": [list(p) for p in exploratory],
        "interactions": [[list(x), list(y)] for x, y in interactions], "versions": {"reset": "0", "scorer": "number-1"},
    }  # fmt: skip
    return Study(Plan(record), results, [Problem(id, f"question of {id}", "1") for id in ids])


def outcomes_of(only_a: int, only_b: int, both: int, total: int) -> tuple[list[bool], list[bool]]:
    a = [True] * only_a + [False] * only_b + [True] * both
    b = [False] * only_a + [True] * only_b + [True] * both
    rest = [False] * (total - len(a))
    return a + rest, b + rest


def test_holm_over_the_primary_contrasts_alone() -> None:
    """Discordant counts 9:0, 8:1, 3:0 and 5:1 of 40 problems; p by the binomial, adjusted by hand."""
    counts = {"x": (0, 9), "y": (1, 8), "z": (0, 3), "w": (1, 5)}
    base = [True] * 2 + [False] * 38
    arms = {"base": base}
    for name, (lost, won) in counts.items():
        arms[name] = [False] * lost + [True] * (2 - lost) + [True] * won + [False] * (38 - won)
    study = made_study(arms, primary=[("base", "x"), ("base", "y"), ("base", "z")], exploratory=[("base", "w")])
    by_name = {c.b: c for c in study.contrasts}
    raw = {"x": 2 * 0.5**9, "y": 2 * (1 + 9) * 0.5**9, "z": 2 * 0.5**3, "w": 2 * (1 + 6) * 0.5**6}
    for name, p in raw.items():
        assert by_name[name].paired.p_value == pytest.approx(p) == pytest.approx(mcnemar(*counts[name]))
    assert by_name["x"].p_adjusted == pytest.approx(3 * raw["x"])
    assert by_name["y"].p_adjusted == pytest.approx(2 * raw["y"])
    assert by_name["z"].p_adjusted == pytest.approx(raw["z"])
    assert by_name["w"].p_adjusted is None
    assert [by_name[n].kind for n in "xyzw"] == ["primary"] * 3 + ["exploratory"]
    # y is significant alone, and not as one of three
    assert by_name["y"].paired.p_value < 0.05 < by_name["y"].p_adjusted  # type: ignore[operator]
    assert by_name["y"].paired.verdict == "better"
    assert [by_name[n].verdict for n in "xyz"] == ["better", "undecided", "undecided"]


def test_the_report_says_what_was_computed() -> None:
    a, b = outcomes_of(1, 12, 10, 40)
    study = made_study({"a": a, "b": b, "c": a}, primary=[("a", "b")], interactions=[(("a", "b"), ("a", "c"))])
    text = study.to_markdown()
    assert "| b − a | +27.5 |" in text
    assert "| (b − a) − (c − a) | +27.5 |" in text
    assert study.plan.sha256 in text
    assert "better" in text
    rows = {row["contrast"]: row for row in csv.DictReader(io.StringIO(report.csv_text(report.contrast_cells(study))))}
    assert float(rows["b − a"]["difference"]) == pytest.approx(11 / 40)
    assert float(rows["b − a"]["p_value"]) == study.contrasts[0].paired.p_value
    assert rows["(b − a) − (c − a)"]["p_adjusted"] == ""
    assert float(rows["b − a"]["only_a"]) == 1 / 40
    assert "| 2.5 % |" in text
    arms = list(csv.DictReader(io.StringIO(report.csv_text(report.arm_cells(study)))))
    assert [float(row["accuracy"]) for row in arms] == [11 / 40, 22 / 40, 11 / 40]
    assert arms[0]["high_share"] == ""  # a fixed temperature has no threshold


def cells_of_latex(text: str) -> list[list[str]]:
    """Rows of a tabular as the text that LaTeX would set; every active character has to be escaped."""
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0]
    macros = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">", "textbar": "|"}
    rows: list[list[str]] = []
    cells, cell, index, line = [], "", 0, body
    while index < len(line):
        rest = line[index:]
        if match := re.match(r"\\([a-z]+)\{\}", rest):
            cell, index = cell + macros[match[1]], index + match.end()
        elif rest.startswith("\\\\\n"):
            rows.append([*cells, cell.strip()])
            cells, cell, index = [], "", index + 3
        elif match := re.match(r"\\([{}$&#_%])", rest):
            cell, index = cell + match[1], index + 2
        elif match := re.match(r"\{([\[\]*])\}", rest):
            cell, index = cell + match[1], index + 3
        elif rest.startswith("$-$"):
            cell, index = cell + "−", index + 3
        elif rest[0] == "&":
            cells, cell, index = [*cells, cell.strip()], "", index + 1
        else:
            assert rest[0] not in "\\{}$#_%~^<>|", f"unescaped {rest[:20]!r}"
            cell, index = cell + rest[0], index + 1
    return rows


def test_latex_sets_hostile_names_literally() -> None:
    a, b = outcomes_of(0, 3, 1, 5)
    study = made_study({HOSTILE: a, "b_1": b}, primary=[(HOSTILE, "b_1")])
    one_line = " ".join(HOSTILE.split())
    arms = cells_of_latex(report.arms_latex(study))
    assert [row[0] for row in arms] == [one_line, "b_1"]
    assert {len(row) for row in arms} == {10}
    assert arms[0][1] == "20.0 %"
    contrasts = cells_of_latex(report.contrasts_latex(study))
    assert contrasts[0][0] == f"b_1 − {one_line}"
    assert contrasts[0][2] == "+60.0"
    for text in (report.arms_latex(study), report.contrasts_latex(study)):
        assert text.count("\\toprule") == text.count("\\midrule") == text.count("\\bottomrule") == 1
        assert text.startswith(f"% plan {study.plan.sha256}; needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{l")


def test_markdown_tables_keep_their_columns() -> None:
    a, b = outcomes_of(0, 3, 1, 5)
    text = made_study({HOSTILE: a, "b": b}, primary=[(HOSTILE, "b")]).to_markdown()
    assert "<script" not in text
    for table in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_csv_gives_back_hostile_names() -> None:
    a, b = outcomes_of(0, 3, 1, 5)
    study = made_study({HOSTILE: a, "b": b}, primary=[(HOSTILE, "b")])
    assert [row["arm"] for row in csv.DictReader(io.StringIO(report.csv_text(report.arm_cells(study))))] == [HOSTILE, "b"]


class Page(HTMLParser):
    """Elements and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.pre: list[str] = []
        self.summaries: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)
        if tag == "pre":
            self.pre.append("")
        if tag == "summary":
            self.summaries.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self.open:
            self.pre[-1] += data
        if "summary" in self.open:
            self.summaries[-1] += data


def test_the_viewer_lists_problems_that_one_arm_solves_and_escapes_everything() -> None:
    ids = ["both", "only-a", "only-b", "neither", "</summary><script>"]
    a = make_result(
        {id: [right] for id, right in zip(ids, [True, True, False, False, True], strict=True)},
        texts=dict.fromkeys(ids, f"A says {HOSTILE}"), answers={"only-a": "<b>1</b>"},
    )  # fmt: skip
    b = make_result(
        {id: [right] for id, right in zip(ids, [True, False, True, False, False], strict=True)},
        texts=dict.fromkeys(ids, "B \x00\ud800 </pre>"),
    )
    study = made_study({"A <i>": [True], "B": [True]}, primary=[("A <i>", "B")])
    study = Study(
        Plan({**study.plan.record, "problems": 5}),
        {"A <i>": a, "B": b},
        [Problem(id, f"{HOSTILE} of {id}", "</pre><script>") for id in ids],
    )
    assert study.only_one_solves("A <i>", "B") == {"A <i>": ["only-a", "</summary><script>"], "B": ["only-b"]}
    page = Page(viewer.html(study))
    assert "script" not in page.elements
    assert "i" not in page.elements
    assert all(name in ("lang", "charset", "name", "content", "class") for name, _ in page.attributes)
    assert len(page.summaries) == 3
    assert page.summaries[0].startswith("only-b ")  # what the second arm of a contrast wins comes first
    assert page.summaries[2].startswith("</summary><script> ")
    assert all("(1 of 1 against 0 of 1)" in text for text in page.summaries)
    assert page.pre[:3] == [f"{HOSTILE} of only-b", "B �� </pre>", f"A says {HOSTILE}"]
    assert page.pre[3:6] == [f"{HOSTILE} of only-a", f"A says {HOSTILE}", "B �� </pre>"]


def test_the_viewer_reads_in_light_and_dark() -> None:
    text = viewer.html(made_study({"a": [True], "b": [False]}, primary=[("a", "b")]))
    assert "color-scheme: light dark" in text
    assert "prefers-color-scheme: dark" in text
    blocks = re.findall(r":root \{([^}]*)\}", text)
    for block in blocks:
        colours = dict(re.findall(r"--(\w+): (#\w+)", block))
        for ink in ("ink", "good", "bad"):
            for paper in ("paper", "soft") if ink == "ink" else ("paper",):
                assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    assert len(blocks) == 2


def contrast(a: str, b: str) -> float:
    """Contrast ratio of WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_other_arms_sample_with_the_same_draws_is_shown() -> None:
    a = make_result({"p": [False, False, True]})
    b = make_result({"p": [False, False, False]})
    record = made_study({"a": [True], "b": [True]}, primary=[("a", "b")]).plan.record
    arms = {name: {**arm, "n_samples": 3} for name, arm in record["arms"].items()}
    text = viewer.html(Study(Plan({**record, "arms": arms}), {"a": a, "b": b}, [Problem("p", "?", "1")]))
    assert text.count("sample 2</h4>") == 2
    assert "(1 of 3 against 0 of 3)" in text


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (report.percent(None), "–"), (report.percent(float("nan")), "–"), (report.percent(0.125), "12.5 %"),
        (report.points(-0.0123), "−1.2"), (report.points(0.0), "0.0"), (report.points(-0.0001), "0.0"), (report.points(0.5), "+50.0"),
        (report.points(float("inf")), "∞"), (report.points(0.5, sign=False), "50.0"), (report.p_value(0.00099), "< 0.001"),
        (report.p_value(0.05), "0.050"), (report.p_value(None), "–"), (report.fixed(1234.56, 1), "1,234.6"), (report.fixed(None, 1), "–"),
    ],
)  # fmt: skip
def test_cells(made: str, shown: str) -> None:
    assert made == shown


def test_report_files_are_written_whole(tmp_path: Path) -> None:
    study = made_study({"a": [True, False] * 4, "b": [True, True] * 4}, primary=[("a", "b")])
    paths = study.report(tmp_path / "deep" / "report")
    assert sorted(p.name for p in paths) == sorted(p.name for p in (tmp_path / "deep" / "report").iterdir())
    assert all(path.stat().st_size > 50 for path in paths)
    assert paths[0].read_text(encoding="utf-8") == study.to_markdown()


def test_a_study_is_a_frame_and_a_plot() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    study = made_study({"a": [True, False], "b": [True, True]}, primary=[("a", "b")])
    axes = Figure().add_subplot()
    assert study.plot(ax=axes) is axes
    assert list(study.to_pandas()["arm"]) == ["a", "b"]
    assert isinstance(study, reset.Study)
