"""The study that the repository publishes: its files agree with the plan that is run, and its pages with its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reset.studies import Study, load_plan, prepare
from reset.studies.report import percent, points

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = {
    "study": ROOT / "docs/study",
    "study-seed-1": ROOT / "docs/study/seed-1",
    "study-seed-2": ROOT / "docs/study/seed-2",
    "study-levels-4-6": ROOT / "docs/study/levels-4-6",
    "study-ablations": ROOT / "docs/study/ablations",
}
#: Columns of the table "Other seeds, harder problems", and its rows.
REPEATED = ("study", "study-seed-1", "study-seed-2", "study-levels-4-6")
REPEATED_ARMS = ("bf16-fixed", "bf16-reset", "w4a4-fixed", "w4a4-tuned", "w4a4-reset", "w4a4-shuffled")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_example_is_the_plan_that_was_run(name: str) -> None:
    stored = json.loads((PUBLISHED[name] / "plan.json").read_text(encoding="utf-8"))
    planned = dict(prepare(**load_plan(ROOT / f"examples/{name}.toml")).plan.record)
    assert planned.pop("versions").keys() == stored["plan"].pop("versions").keys()  # those of the package move on
    assert planned == stored["plan"]
    assert stored["sha256"] in (ROOT / "docs/study.md").read_text(encoding="utf-8")


def test_the_pages_say_what_the_counts_say() -> None:
    study = Study.load(PUBLISHED["study"])
    page, front = ((ROOT / name).read_text(encoding="utf-8") for name in ("docs/study.md", "README.md"))
    for row in study.arms:
        if row["arm"] in ("w4a4-mean", "w4a4-cold", "w4a4-shuffled") or row["arm"].endswith(("-fixed", "-tuned", "-reset")):
            shown = f"({100 * row['low']:.1f} to {100 * row['high']:.1f})"
            assert percent(row["accuracy"]) in page, row["arm"]
            assert shown in page, row["arm"]
            if row["arm"] not in ("w4a4-mean", "w4a4-cold"):
                assert percent(row["accuracy"]) in front, row["arm"]
                assert shown in front, row["arm"]
    for row in study.contrast_rows:
        if row["kind"] == "primary":
            assert f"| {points(row['difference'])} | {points(row['low'])} to {points(row['high'])} |" in page, row["contrast"]


def test_the_page_says_what_other_seeds_and_levels_gave() -> None:
    page = (ROOT / "docs/study.md").read_text(encoding="utf-8")
    section = page[page.index("\n## Other seeds") :]
    section = section[: section.index("\n## ", 5)]
    studies = [Study.load(PUBLISHED[name]) for name in REPEATED]

    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    for arm in REPEATED_ARMS:
        found = [next(row for row in study.arms if row["arm"] == arm) for study in studies]
        assert row([f"{percent(r['accuracy'])} ({100 * r['low']:.1f} to {100 * r['high']:.1f})" for r in found])[1:] in section, arm
    primary = [[r for r in study.contrast_rows if r["kind"] == "primary"] for study in studies]
    for same in zip(*primary, strict=True):
        assert len({r["contrast"] for r in same}) == 1, "one contrast in the same place of every plan"
        cells = [f"{points(r['difference'])} ({points(r['low'])} to {points(r['high'])})" for r in same]
        for cell in cells:
            assert cell in section, same[0]["contrast"]


def test_no_spread_of_temperatures_is_a_fixed_one() -> None:
    results = Study.load(PUBLISHED["study"]).results
    assert results["w4a4-same"].outcomes()[0].tolist() == results["w4a4-fixed"].outcomes()[0].tolist()
