"""The study that the repository publishes: its files agree with the plan that is run, and its pages with its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reset.studies import Study, load_plan, prepare
from reset.studies.report import percent, points

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = {"study": ROOT / "docs/study", "study-ablations": ROOT / "docs/study/ablations"}


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


def test_no_spread_of_temperatures_is_a_fixed_one() -> None:
    results = Study.load(PUBLISHED["study"]).results
    assert results["w4a4-same"].outcomes()[0].tolist() == results["w4a4-fixed"].outcomes()[0].tolist()
