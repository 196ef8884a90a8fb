"""The name of the model inside the package: what it means, everywhere a model is taken, and what is refused.

A random checkpoint stands in for the shipped one, so that none of this needs its weights; ``test_tiny.py`` looks at those.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import reset
from reset import models
from reset.calibration import Calibration, beside_model
from reset.hub import resolve
from reset.studies import load_plan, prepare

if TYPE_CHECKING:
    from click.testing import Result

EASY: dict[str, Any] = {"problems": 1, "max_new_tokens": 8, "progress": False}


@pytest.fixture
def package(demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the package's models lie in; ``tiny`` there is a random checkpoint, and so is the current folder's, another one."""
    (tmp_path / "package").mkdir()
    shutil.copytree(demo_bf16, tmp_path / "package" / "tiny")
    monkeypatch.setattr(models, "files", lambda name: tmp_path / "package")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "package"


@pytest.fixture
def local(package: Path, demo_nvfp4: Path) -> Path:
    """A folder ``tiny`` of the user's own: the same weights in NVFP4."""
    shutil.copytree(demo_nvfp4, "tiny")
    return Path("tiny")


def stored(tau_0: float, t_low: float, folder: Path) -> None:
    Calibration.from_entropies([[tau_0] * 4]).save(folder / "reset_calibration.json", t_low=t_low)


def command(*arguments: str) -> Result:
    from reset.cli import app

    return CliRunner().invoke(app, list(arguments))


def test_the_name_beats_a_folder_and_a_path_does_not(package: Path, local: Path) -> None:
    assert resolve("tiny") == package / "tiny"
    for path in ("./tiny", Path("tiny"), local.absolute()):
        assert resolve(path) == Path(path)
    assert reset.load("tiny").weights == "bf16"
    assert reset.load("./tiny").weights == reset.load(Path("tiny")).weights == "nvfp4"


def test_results_tell_the_name_from_the_folder(package: Path, local: Path) -> None:
    assert [reset.load(path).name for path in ("tiny", "./tiny", Path("tiny"))] == ["tiny", "./tiny", "./tiny"]
    assert reset.load("tiny").describe()["model"] == "tiny"


def test_the_cache_keeps_name_and_folder_apart(package: Path, local: Path) -> None:
    reset.model_cache.clear()
    found = [reset.model_cache.get(path) for path in ("tiny", "./tiny", Path("tiny"), "tiny")]
    reset.model_cache.clear()
    assert [model.weights for model in found] == ["bf16", "nvfp4", "nvfp4", "bf16"]
    assert found[0] is found[3]
    assert found[1] is found[2]


def test_everything_that_takes_a_model_takes_the_name(package: Path, demo_bf16: Path) -> None:
    assert reset.inspect("tiny")["folder"] == str(package / "tiny")
    assert reset.quantize("tiny", "out", activations="float")["quantized"] == 28
    assert reset.load("tiny").fingerprint == reset.load(demo_bf16).fingerprint
    generation = reset.generate("tiny", "First", max_new_tokens=3, policy=reset.Greedy())
    assert isinstance(generation, reset.Generation)
    assert [step.token_id for step in reset.stream("tiny", "First", max_new_tokens=3, policy=reset.Greedy())] == generation.token_ids
    assert len(reset.score_trace("tiny", [1, 2, 3])) == 2
    assert len(reset.evaluate("tiny", "arithmetic", limit=1, max_new_tokens=4, progress=False)) == 1
    reset.model_cache.clear()


def test_without_weights_the_error_says_what_would_work(package: Path) -> None:
    (package / "tiny" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"'tiny'[\s\S]*model\.safetensors[\s\S]*wheel[\s\S]*examples/train_tiny") as caught:
        reset.load("tiny")
    assert "./tiny" not in str(caught.value)
    Path("tiny").mkdir()
    with pytest.raises(FileNotFoundError, match=r"'\./tiny'"):
        reset.load("tiny")


def test_a_revision_belongs_to_the_hub(package: Path) -> None:
    with pytest.raises(ValueError, match="inside this package"):
        reset.load("tiny", revision="main")


def test_other_names_are_no_models_of_the_package(package: Path) -> None:
    for name in ("Tiny", "tiny/", "small"):
        with pytest.raises(FileNotFoundError, match="hub id"):
            reset.load(name)


def test_the_calibration_beside_the_weights_is_a_preset(package: Path, local: Path) -> None:
    before = reset.load("tiny").fingerprint
    stored(0.5, 0.25, package / "tiny")
    stored(0.7, 0.35, local)
    assert reset.ReSET.preset("tiny") == reset.ReSET(0.25, 0.5)
    assert reset.ReSET.preset("tiny", t_low=0.1) == reset.ReSET(0.1, 0.5)
    assert reset.ReSET.preset("./tiny") == reset.ReSET.preset(Path("tiny")) == reset.ReSET(0.35, 0.7)
    assert Calibration.load("tiny").tau_0 == 0.5
    assert reset.load("tiny").fingerprint == before, "a calibration is no part of the model"


def test_the_preset_needs_no_folder_of_that_name_here(package: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tiny.*reset_calibration\.json"):
        reset.ReSET.preset("tiny")
    stored(0.5, 0.25, package / "tiny")
    assert reset.ReSET.preset("tiny") == reset.ReSET(0.25, 0.5)


def test_a_calibration_is_never_written_into_the_package(package: Path) -> None:
    made = reset.calibrate("tiny", **EASY)
    with pytest.raises(PermissionError, match="inside this package"):
        made.save()
    with pytest.raises(PermissionError, match="inside this package"):
        made.save("tiny")
    with pytest.raises(PermissionError, match="inside this package"):
        reset.calibrate("tiny", output="tiny", **EASY)
    with pytest.raises(PermissionError, match="inside this package"):
        beside_model("tiny")
    assert made.save("./tiny") == Path("tiny")
    assert not list(package.rglob("reset_calibration*"))
    reset.model_cache.clear()


def test_a_study_takes_the_name_for_models_presets_and_thresholds(package: Path, local: Path, tmp_path: Path) -> None:
    stored(0.5, 0.25, package / "tiny")
    stored(0.7, 0.35, local)
    arms = {
        "name": {"policy": "tiny"},
        "threshold": {"policy": {"policy": "reset", "t_low": 0.1, "tau_0": "tiny"}},
        "folder": {"model": "./tiny", "policy": {"policy": "preset", "name": "./tiny"}},
        "path": {"model": Path("tiny")},
    }
    plan = prepare("tiny", "arithmetic", arms, limit=1)
    record = plan.plan.record["arms"]
    assert record["name"]["model"] == record["threshold"]["model"] == reset.load("tiny").fingerprint
    assert record["folder"]["model"] == record["path"]["model"] == reset.load("./tiny").fingerprint != record["name"]["model"]
    assert [record[name]["policy"]["tau_0"] for name in ("name", "threshold", "folder")] == [0.5, 0.5, 0.7]
    assert plan.arms["path"].key != plan.arms["name"].key, "arms with equal keys share a loaded model"

    Path("study.toml").write_text('model = "tiny"\ntask = "arithmetic"\n[arms.a]\n[arms.b]\nmodel = "./tiny"\n', encoding="utf-8")
    given = load_plan("study.toml")
    assert given["model"] == "tiny"
    assert resolve(given["arms"]["b"]["model"]).samefile("tiny")


def test_the_commands_take_the_name(package: Path, local: Path) -> None:
    stored(0.5, 0.25, package / "tiny")
    shown = command("inspect", "tiny")
    assert shown.exit_code == 0
    assert str(package) in shown.stdout.replace("\n", "")
    made = command("generate", "tiny", "First", "--preset", "tiny", "--max-new-tokens", "3", "--seed", "1", "--json")
    assert made.exit_code == 0, made.output
    tuned = command("tune", "tiny", "arithmetic", "--calibration", "tiny", "--store", "--limit", "1", "--max-new-tokens", "4")
    assert isinstance(tuned.exception, PermissionError), "storing would change the package"
    saved = command("calibrate", "tiny", "--save")
    assert isinstance(saved.exception, PermissionError)


def test_the_model_card_is_shown(package: Path) -> None:
    assert reset.inspect("tiny")["model_card"] is None
    missing = command("inspect", "tiny", "--card")
    assert isinstance(missing.exception, FileNotFoundError)
    card = package / "tiny" / "MODEL_CARD.md"
    card.write_text("# A model\n\n95 % of nothing.\n", encoding="utf-8")
    assert reset.inspect("tiny")["model_card"] == str(card)
    assert command("inspect", "tiny", "--card").stdout == "# A model\n\n95 % of nothing.\n\n"
    assert "--card" in command("inspect", "tiny").stdout
