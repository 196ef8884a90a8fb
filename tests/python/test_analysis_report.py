"""Everything at once: tables, files, figures, the command, and the guide."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import reset
from reset import analysis, plots
from reset.analysis.sources import add_noise, from_checkpoint, from_study
from reset.tasks.arithmetic import Arithmetic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "analysis.md"
RULES = {**analysis.temperatures(0, 0.5, 1.0), "reset": reset.ReSET(0.3, 2.0)}


@pytest.fixture(scope="module")
def models(arithmetic_model: Path) -> dict[str, reset.Model]:
    return {
        "bf16": reset.load(arithmetic_model),
        "nvfp4": reset.load(arithmetic_model, weights="nvfp4", activations="nvfp4"),
        "w4a16": reset.load(arithmetic_model, weights="nvfp4"),
    }


@pytest.fixture(scope="module")
def found(models: dict[str, reset.Model]) -> analysis.Mechanisms:
    easy = Arithmetic(level=1)
    result = reset.evaluate(
        models["nvfp4"], easy, policy=reset.FixedTemperature(1.0), split="tune", limit=4, max_new_tokens=40, progress=False
    )
    texts = {
        "gold": analysis.gold_texts(models["bf16"], easy, split="tune", limit=4),
        "nvfp4's own": analysis.sample_texts(result, models["bf16"], easy, name="nvfp4"),
    }
    accuracies = [{"model": "nvfp4", "rule": "arm", "temperature": 0.8, "accuracy": 0.25, "low": 0.1, "high": 0.5}]
    return analysis.mechanisms(models, texts, rules=RULES, bins=3, accuracies=accuracies, test=False)


def test_every_model_reads_every_text(found: analysis.Mechanisms, models: dict[str, reset.Model]) -> None:
    assert found.reference == "bf16"
    assert set(found.scores) == {(texts, model) for texts in ("gold", "nvfp4's own") for model in models}
    assert {(row["texts"], row["model"]) for row in found.classes} == {
        (texts, model) for texts in ("gold", "nvfp4's own") for model in ("nvfp4", "w4a16")
    }
    for texts in found.texts:
        rows = [row for row in found.classes if (row["texts"], row["model"]) == (texts, "nvfp4")]
        assert rows[0]["group"] == "all"
        assert rows[0]["positions"] == sum(row["positions"] for row in rows[1:]) == found.texts[texts]["tokens"]
        a, b = (found.scores[texts, name] for name in ("bf16", "nvfp4"))
        assert rows[0]["entropy_shift"] == pytest.approx(float((b.entropy - a.entropy).mean()))
        assert sum(row["positions"] for row in found.bins if (row["texts"], row["model"]) == (texts, "nvfp4")) == len(a)
    assert any(row["group"].startswith("fork") for row in found.classes)


def test_digits_are_looked_at_on_gold_texts_only(found: analysis.Mechanisms) -> None:
    assert {(row["texts"], row["model"]) for row in found.digits} == {("gold", name) for name in ("bf16", "nvfp4", "w4a16")}
    by = {(row["model"], row["rule"]): row for row in found.digits}
    assert len(by) == 3 * len(RULES)
    assert by["bf16", "reset"]["shift"] is None
    assert by["nvfp4", "reset"]["shift"] == pytest.approx(by["nvfp4", "reset"]["trace"] - by["bf16", "reset"]["trace"])


def test_the_report_holds_the_rows(found: analysis.Mechanisms, tmp_path: Path) -> None:
    written = found.report(tmp_path / "report")
    assert all(path.stat().st_size for path in written)
    names = {path.name for path in written}
    assert {"report.md", "classes.csv", "entropy_bins.csv", "digits.csv", "accuracies.csv", "entropy-gold.png", "digits-gold.png"} <= names
    assert len([name for name in names if name.startswith("paired-")]) == 4
    for name, rows in (("classes", found.classes), ("entropy_bins", found.bins), ("digits", found.digits)):
        read = list(csv.DictReader(io.StringIO((tmp_path / "report" / f"{name}.csv").read_text())))
        assert len(read) == len(rows)
        for line, row in zip(read, rows, strict=True):
            for key, value in row.items():
                missing = value is None or value != value
                assert line[key] == ("" if missing else str(value))
    text = (tmp_path / "report" / "report.md").read_text()
    assert text == found.to_markdown()
    for row in found.classes:
        assert f"| {row['group']} | {row['positions']:,} |" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {line.count("|") for line in table.splitlines()}
        assert len(widths) == 1, table
    json.dumps(found.to_dict())


def test_the_cache_repeats_the_numbers(models: dict[str, reset.Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = {name: models[name] for name in ("bf16", "nvfp4")}
    texts = {"gold": analysis.gold_texts(models["bf16"], Arithmetic(level=1), split="tune", limit=2)}
    first = analysis.mechanisms(two, texts, rules=RULES, cache=tmp_path)
    monkeypatch.setattr(reset.Model, "logits", None)  # nothing is computed a second time
    again = analysis.mechanisms(two, texts, rules=RULES, cache=tmp_path)
    assert again.to_markdown() == first.to_markdown()


def test_what_makes_no_sense_is_refused(models: dict[str, reset.Model]) -> None:
    texts = {"t": analysis.Texts([analysis.Text("p", [1], [2])])}
    with pytest.raises(ValueError, match="at least one model"):
        analysis.mechanisms({}, texts)
    with pytest.raises(ValueError, match="'other' is none of the models"):
        analysis.mechanisms(models, texts, reference="other")


# Figures


def png(ax: Axes) -> bytes:
    buffer = io.BytesIO()
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(buffer, format="png", dpi=50)
    return buffer.getvalue()


def some(rows: list[dict[str, Any]], texts: str, model: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["texts"], row["model"]) == (texts, model)]


def test_figures_draw_what_they_are_given(found: analysis.Mechanisms) -> None:
    rows = {name: some(found.classes, "gold", name) for name in ("nvfp4", "w4a16")}
    for measure in ("entropy", "surprisal", "overconfidence", "wrong"):
        ax = plots.plot_shifts(rows, measure=measure, reference="bf16")
        assert png(ax)
        drawn = [container[0].get_xdata() for container in ax.containers]
        for points, own in zip(drawn, rows.values(), strict=True):
            np.testing.assert_allclose(points, [row[f"{measure}_shift"] for row in own])
        labels = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
        assert labels == [f"{row['group']} ({row['positions']:,})" for row in rows["nvfp4"]]
    ax = plots.plot_digits([row for row in found.digits if row["texts"] == "gold"], accuracies=found.accuracies)
    assert png(ax)
    line = ax.lines[0]
    wanted = [row for row in some(found.digits, "gold", "bf16") if row["rule"] != "reset"]
    np.testing.assert_allclose(line.get_ydata(), [row["trace"] for row in wanted])
    np.testing.assert_allclose(line.get_xdata(), [0, 0.5, 1])
    assert any(np.allclose(container[0].get_xydata(), [[0.8, 0.25]], atol=0.02) for container in ax.containers)
    a, b = found.scores["gold", "bf16"], found.scores["gold", "nvfp4"]
    ax = plots.plot_paired_entropy(a, b, bins=5)
    assert png(ax)
    median = ax.lines[0]
    mean = (a.entropy + b.entropy) / 2
    lowest = mean < np.quantile(mean, 0.2)
    assert median.get_ydata()[0] == pytest.approx(np.median((b.entropy - a.entropy)[lowest]))


def test_figures_use_given_axes_and_refuse_nothing_to_draw(found: analysis.Mechanisms) -> None:
    ax = Figure(figsize=(3, 2)).add_subplot()
    assert plots.plot_shifts(some(found.classes, "gold", "nvfp4"), ax) is ax
    assert png(ax)
    ax = Figure(figsize=(3, 2)).add_subplot()
    assert plots.plot_digits(some(found.digits, "gold", "nvfp4"), ax, per="equation") is ax
    assert png(ax)
    ax = Figure(figsize=(3, 2)).add_subplot()
    scores = found.scores["gold", "bf16"]
    assert plots.plot_paired_entropy(scores, scores, ax) is ax
    assert png(ax)
    for draw, match in (
        (lambda: plots.plot_shifts([]), "at least one row"), (lambda: plots.plot_digits([]), "at least one row"),
        (lambda: plots.plot_shifts(found.classes, measure="joy"), "not possible"),
        (lambda: plots.plot_digits(found.digits, per="page"), "not possible"),
        (lambda: plots.plot_paired_entropy(scores, found.scores["nvfp4's own", "bf16"]), "same texts"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            draw()


# Sources and the command


@pytest.fixture(scope="module")
def study(arithmetic_model: Path, tmp_path_factory: pytest.TempPathFactory) -> reset.Study:
    arms: dict[str, dict[str, Any]] = {
        "bf16": {"weights": "bf16", "policy": reset.FixedTemperature(0.6)},
        "nvfp4": {"weights": "nvfp4", "activations": "nvfp4", "policy": reset.FixedTemperature(0.6)},
        "reset": {"weights": "nvfp4", "activations": "nvfp4", "policy": reset.ReSET(0.3, 2.0), "top_p": 0.95},
        "again": {"weights": "bf16", "policy": reset.ReSET(0.3, 2.0), "top_p": 0.95},
    }
    return reset.study(
        arithmetic_model, "arithmetic", arms, split="tune", limit=3, max_new_tokens=24, prompt="plain", progress=False,
        output_dir=tmp_path_factory.mktemp("study") / "s",
    )  # fmt: skip


def test_a_study_gives_models_samples_policies_and_accuracies(study: reset.Study, arithmetic_model: Path) -> None:
    found = from_study(study, {"": arithmetic_model})
    assert list(found.models) == ["bf16", "nvfp4"]
    assert (found.models["nvfp4"].weights, found.models["nvfp4"].activations) == ("nvfp4", "nvfp4")
    assert list(found.samples) == ["bf16", "nvfp4"]
    assert found.rules == {"reset": analysis.Rule(reset.ReSET(0.3, 2.0), top_p=0.95)}
    assert [(row["model"], row["rule"]) for row in found.accuracies] == [
        ("bf16", "bf16"), ("nvfp4", "nvfp4"), ("nvfp4", "reset"), ("bf16", "again")
    ]  # fmt: skip
    assert found.accuracies[0]["temperature"] == pytest.approx(0.6)
    assert found.accuracies[1]["accuracy"] == study.results["nvfp4"].accuracy
    assert list(from_study(study, {"": arithmetic_model}, arms=["reset", "nvfp4"]).models) == ["reset"]


def test_another_checkpoint_is_not_taken_for_the_studys(study: reset.Study, arithmetic_model: Path, demo_bf16: Path) -> None:
    with pytest.raises(reset.ConfigError, match=r"not the model that made the samples[\s\S]*fingerprint"):
        from_study(study, {"": demo_bf16})
    with pytest.raises(ValueError, match="--model nvfp4=DIR"):
        from_study(study, {"bf16": arithmetic_model})
    with pytest.raises(ValueError, match="no arm 'x'"):
        from_study(study, {"": arithmetic_model}, arms=["x"])
    with pytest.raises(ValueError, match="no way 'w2'"):
        from_checkpoint(demo_bf16, ways=["w2"])


def test_a_study_published_without_samples_has_no_texts(study: reset.Study, tmp_path: Path) -> None:
    assert study.directory is not None
    for name in ("plan.json", "outcomes.csv"):
        (tmp_path / name).write_bytes((study.directory / name).read_bytes())
    with pytest.raises(ValueError, match="holds no samples"):
        from_study(reset.Study.load(tmp_path), {"": "MODEL"})


def test_noise_is_written_once_and_never_mistaken(arithmetic_model: Path, tmp_path: Path) -> None:
    sources = from_checkpoint(arithmetic_model, ways=["bf16", "w4a16"])
    add_noise(sources, tmp_path / "n", seed=1)
    before = (tmp_path / "n" / "model.safetensors").stat().st_mtime_ns
    assert list(sources.models) == ["bf16", "w4a16", "noise"]
    add_noise(sources, tmp_path / "n", seed=1)
    assert (tmp_path / "n" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(reset.ConfigError, match="seed: 1 there, 2 here"):
        add_noise(sources, tmp_path / "n", seed=2)


def command(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "reset", "analyze", *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done


def test_analyze_of_a_study_prints_and_writes(study: reset.Study, arithmetic_model: Path, tmp_path: Path) -> None:
    assert study.directory is not None
    options = [study.directory, "--model", arithmetic_model, "--gold", 2, "--samples", 2, "--noise", 0, "-o", tmp_path / "out"]
    shown = json.loads(command(*options, "--no-figures", "--json").stdout)
    assert shown["reference"] == "bf16"
    assert set(shown["models"]) == {"bf16", "nvfp4", "noise"}
    assert set(shown["texts"]) == {"gold", "bf16", "nvfp4"}
    assert {row["rule"] for row in shown["digits"]} == {"T=0", "T=0.2", "T=0.4", "T=0.6", "T=0.8", "T=1", "reset"}
    assert [Path(name).name for name in shown["files"]] == ["report.md", "classes.csv", "entropy_bins.csv", "digits.csv", "accuracies.csv"]
    text = command(*options, "--no-figures").stdout  # from the cache
    assert "nvfp4 − bf16, on gold" in text
    assert "result digit, easy" in text
    # The library, asked the same, has the same numbers.
    reference = reset.load(arithmetic_model, weights="bf16")
    gold = analysis.gold_texts(reference, "arithmetic", split="tune", limit=2, prompt="plain")
    assert shown["texts"]["gold"]["sha256"] == gold.digest


def test_analyze_of_a_checkpoint(arithmetic_model: Path, tmp_path: Path) -> None:
    shown = json.loads(
        command(
            arithmetic_model, "--arms", "bf16,w4a4", "--gold", 2, "--temperatures", "0.5", "-o", tmp_path / "out", "--json", "--bins", 2
        ).stdout
    )
    assert set(shown["models"]) == {"bf16", "w4a4"}
    assert [row["rule"] for row in shown["digits"]] == ["T=0.5", "T=0.5"]
    assert (tmp_path / "out" / "entropy-gold.png").is_file()
    assert "--noise" in re.sub(r"\x1b\[[0-9;]*m", "", command("--help").stdout)


def test_mistakes_are_named_in_one_line(arithmetic_model: Path, study: reset.Study, tmp_path: Path) -> None:
    out = ["-o", tmp_path / "out"]
    for arguments, message in (
        ([arithmetic_model, "--model", "x", *out], "belongs to a study"),
        ([study.directory, *out], "--model DIR"),
        ([arithmetic_model, "--gold", "0", *out], "nothing to read"),
        ([arithmetic_model, "--temperatures", "hot", *out], "numbers with commas"),
        ([tmp_path / "missing", *out], "no such folder"),
        ([arithmetic_model, "--arms", "w2a2", *out], "no way 'w2a2'"),
        ([arithmetic_model, "--task", "gsm8k", *out], "no gold traces"),
    ):
        done = command(*arguments, code=1)
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_the_python_of_the_guide_runs(arithmetic_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "MODEL").symlink_to(arithmetic_model)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, "analysis.md", "exec"), scope)
    assert (tmp_path / "runs" / "mechanisms" / "report.md").is_file()
    assert scope["record"]["achieved"] == pytest.approx(scope["record"]["target"], rel=1e-3)
