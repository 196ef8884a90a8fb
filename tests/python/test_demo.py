"""`reset-nvfp4 demo`: what it computes, what it shows, and what it does where something is missing."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

import reset
from reset import models
from reset.calibration import Calibration
from reset.cli import app
from reset.cli._trace_text import BANDS, coloured, legend, style_of
from reset.types import COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

SHORT = ("--problems", "4", "--level", "1", "--no-plot", "--threads", "1")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's models, with a calibration of known numbers beside the weights."""
    try:
        weights = models.shipped_folder("tiny")
    except FileNotFoundError:
        pytest.skip("this source tree has no weights of tiny")
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(weights, folder / "tiny")
    Calibration.from_entropies([[0.5] * 4]).save(folder / "tiny" / "reset_calibration.json", t_low=0.25)
    return folder


@pytest.fixture
def here(calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(models, "files", lambda name: calibrated)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def demo(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["demo", *arguments])


def as_json(*arguments: str) -> dict[str, Any]:
    done = demo(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_the_arms_are_what_evaluate_and_compare_say(here: Path) -> None:
    found = as_json(*SHORT, "--seed", "3")
    assert list(found["arms"]) == ["bf16", "nvfp4", "reset"]
    task = reset.tasks.arithmetic.Arithmetic(level=1)
    nvfp4 = {"weights": "nvfp4", "activations": "nvfp4"}
    options: dict[str, Any] = {"split": found["split"], "limit": 4, "seed": 3, "progress": False}
    expected = {
        name: reset.evaluate(reset.load("tiny", **load), task, policy=policy, **options)
        for name, load, policy in (
            ("bf16", {}, reset.FixedTemperature(0.6)),
            ("nvfp4", nvfp4, reset.FixedTemperature(0.6)),
            ("reset", nvfp4, reset.ReSET(0.25, 0.5)),
        )
    }
    for name, result in expected.items():
        arm = found["arms"][name]
        assert (arm["accuracy"], arm["ci95"], arm["problems"]) == (result.accuracy, list(result.ci95), 4)
        assert arm["tokens_mean"] == sum(sample.tokens for sample in result.samples) / 4
    assert [(c["a"], c["b"]) for c in found["contrasts"]] == [("bf16", "nvfp4"), ("nvfp4", "reset")]
    for contrast in found["contrasts"]:
        compared = reset.compare(expected[contrast["a"]], expected[contrast["b"]])
        assert (contrast["difference"], contrast["p_value"]) == (compared.difference, compared.p_value)
        assert {"ci95", "mde", "verdict"} <= set(contrast)
    trace = found["trace"]["columns"]
    assert set(trace["temperature"]) == {0.25, 1.0}
    assert found["figure"] is None


def test_the_seed_decides(here: Path) -> None:
    first, second, other = (as_json(*SHORT[:1], "1", *SHORT[2:], "--seed", seed)["trace"]["columns"]["token_id"] for seed in "556")
    assert first == second != other


def test_the_table_the_trace_and_the_figure(here: Path) -> None:
    pytest.importorskip("matplotlib")
    done = demo("--problems", "3", "--threads", "1")
    assert done.exit_code == 0, done.output
    for words in ("BF16", "NVFP4 + ReSET", "95 % interval", "detectable", "undecided", "docs/study.md", "entropy in nats", "‹"):
        assert words in done.stdout
    for arm in ("BF16", "NVFP4", "NVFP4 + ReSET"):
        assert f"{arm}: 3 problems" in done.stderr
    assert "figure: reset-demo.png" in done.stdout
    assert (here / "reset-demo.png").read_bytes()[:4] == b"\x89PNG"


def test_a_figure_nobody_asked_for_may_be_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = [argument for argument in SHORT if argument != "--no-plot"]
    (here / "reset-demo.png").mkdir()  # a place that cannot be written
    done = demo(*short)
    assert done.exit_code == 0
    assert "no figure" in done.stderr
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = demo(*short, "--json")
    assert done.exit_code == 0
    assert "reset-nvfp4[plot]" in done.stderr
    assert json.loads(done.stdout)["figure"] is None
    assert isinstance(demo(*short, "--plot", "mine.png").exception, ImportError)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--plot", "x.txt"), "--plot x.txt"),
        (("--plot", "nowhere/x.png"), "nowhere"),
        (("--plot", "x.png", "--no-plot"), "exclude each other"),
        (("--level", "9"), "9"),
        (("--problems", "0"), "0"),
    ],
)
def test_options_that_make_no_sense_are_refused(here: Path, arguments: tuple[str, ...], words: str) -> None:
    done = demo(*arguments)
    assert done.exit_code == 1
    assert isinstance(done.exception, (ValueError, OSError))
    assert words in str(done.exception)


def test_without_a_calibration_the_error_names_the_file(demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(demo_bf16, tmp_path / "tiny")
    monkeypatch.setattr(models, "files", lambda name: tmp_path)
    assert "reset_calibration.json" in str(demo().exception)


def trace_of(*tokens: tuple[str, float, float]) -> reset.Trace:
    columns: dict[str, Any] = {name: np.zeros(len(tokens), dtype) for name, dtype in COLUMNS.items()}
    columns["entropy"] = np.array([entropy for _, entropy, _ in tokens])
    columns["temperature"] = np.array([temperature for _, _, temperature in tokens])
    return reset.Trace(**columns, tokens=tuple(text for text, _, _ in tokens))


def test_brackets_stand_around_runs_of_the_high_temperature() -> None:
    high = ("I", " am", ".\n\n", "So", " ", "\n\n", " x ")
    tokens = ("I", " am", " sure", ".\n\n", "So", " ", "1", " ", "5", "\n\n", " x ")
    trace = trace_of(*((token, 0.5, 1.0 if token in high else 0.3) for token in tokens))
    assert coloured(trace, t_high=1.0).plain == "‹I am› sure‹.›\n\n‹So ›1‹ ›5‹¶›\n\n ‹x› "


def test_colours_follow_the_entropy() -> None:
    text = coloured(trace_of(("a", 0.01, 0.3), (" b", 0.2, 0.3), (" c", 0.5, 0.3), (" d", 3.0, 0.3)), t_high=1.0)
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    assert [styles.get(letter, "") for letter in "abcd"] == [band.style for band in BANDS]
    assert [style_of(band.below) for band in BANDS[:-1]] == [band.style for band in BANDS[1:]]
    shown = legend(reset.ReSET(0.3, 0.5))
    assert all(band.name in shown.plain for band in BANDS)
    assert "T = 0.3" in shown.plain
    assert "0.50 nats" in shown.plain


def test_a_trace_without_texts_cannot_be_shown() -> None:
    trace = trace_of(("a", 0.0, 1.0))
    with pytest.raises(ValueError, match="tokenizer"):
        coloured(reset.Trace(**trace.columns), t_high=1.0)
