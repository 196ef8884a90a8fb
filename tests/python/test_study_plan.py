"""The plan of a study: hashed before anything is sampled, and held to."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from study_child import ARMS, OPTIONS, task

import reset
from reset.calibration import Calibration
from reset.studies import Plan, load_plan, prepare
from reset.studies import run as study_run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def planned(model: Path, **changes: Any) -> Plan:
    return prepare(model, changes.pop("task", task()), changes.pop("arms", ARMS), **{**OPTIONS, **changes}).plan


def test_the_hash_is_that_of_the_canonical_json(demo_bf16: Path, tmp_path: Path) -> None:
    plan = planned(demo_bf16)
    plan.hold(tmp_path)
    stored = json.loads((tmp_path / "plan.json").read_text())
    canonical = json.dumps(stored["plan"], sort_keys=True, separators=(",", ":")).encode()
    assert stored["sha256"] == plan.sha256 == hashlib.sha256(canonical).hexdigest()
    assert Plan.read(tmp_path) == plan


def test_the_hash_is_the_same_in_another_process(demo_bf16: Path) -> None:
    code = (
        "import sys; from study_child import *; from reset.studies import prepare; "
        "print(prepare(sys.argv[1], task(), ARMS, **OPTIONS).plan.sha256)"
    )
    where = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}; "
    found = subprocess.run([sys.executable, "-c", where + code, demo_bf16], check=True, capture_output=True, text=True).stdout
    assert found.strip() == planned(demo_bf16).sha256


def test_the_plan_says_what_decides(demo_bf16: Path) -> None:
    record = planned(demo_bf16).record
    assert record["problems"] == 12
    assert record["problems_sha256"] == reset.tasks.fingerprint(task().problems("test"))
    assert record["arms"]["reset"]["policy"] == {
        "policy": "reset", "t_low": 0.3, "tau_0": 2.0, "t_high": 1.0, "window": 8, "include_current": False
    }  # fmt: skip
    assert record["arms"]["bf16"]["policy"] == {"policy": "fixed", "t": 0.6}
    assert record["arms"]["bf16"]["max_new_tokens"] == 40
    assert record["arms"]["reset"]["model"] == reset.load(demo_bf16).fingerprint
    assert record["primary"] == [["bf16", "reset"], ["shuffled", "reset"]]
    assert record["versions"]["reset"] == reset.__version__


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"n_samples": 3}, r"arms\.bf16\.n_samples: 2 there, 3 here"),
        ({"limit": 5}, "problems: 12 there, 5 here"),
        ({"top_p": 0.9}, r"arms\.mean\.top_p: None there, 0\.9 here"),
        ({"prompt": "plain"}, r"prompt: 'boxed' there, 'plain' here"),
        ({"max_new_tokens": 41}, "max_new_tokens: 40 there, 41 here"),
        ({"contrasts": [("bf16", "reset")]}, "primary: "),
        ({"exploratory": []}, "exploratory: "),
        ({"interactions": []}, "interactions: "),
        ({"arms": {**ARMS, "bf16": {"policy": reset.FixedTemperature(0.7)}}}, r"arms\.bf16\.policy\.t: 0\.6 there, 0\.7 here"),
        ({"arms": {**ARMS, "more": {}}}, r"arms\.more: None there"),
        ({"arms": {**ARMS, "bf16": {**ARMS["bf16"], "kv": "fp8"}}}, r"arms\.bf16\.kv: None there, 'fp8' here"),
    ],
)
def test_another_plan_is_refused_by_what_differs(demo_bf16: Path, tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    planned(demo_bf16).hold(tmp_path)
    before = (tmp_path / "plan.json").read_bytes()
    with pytest.raises(reset.ConfigError, match=rf"plan\.json holds another plan(.|\n)*What differs:(.|\n)*{named}"):
        planned(demo_bf16, **changes).hold(tmp_path)
    assert (tmp_path / "plan.json").read_bytes() == before
    planned(demo_bf16).hold(tmp_path)


def test_other_problems_and_other_weights_are_another_plan(demo_bf16: Path, demo_nvfp4: Path, tmp_path: Path) -> None:
    planned(demo_bf16).hold(tmp_path)
    rows = [{"question": p.question, "answer": p.answer, "id": p.id} for p in task().problems("test")]
    rows[5]["answer"] = "99"
    with pytest.raises(reset.ConfigError, match="problems_sha256"):
        planned(demo_bf16, task=reset.Task("sums", rows, scorer="number")).hold(tmp_path)
    with pytest.raises(reset.ConfigError, match=r"arms\.bf16\.model"):
        planned(demo_nvfp4).hold(tmp_path)


def test_what_changes_no_token_is_no_part_of_the_plan(demo_bf16: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(demo_bf16)
    same = {name: {**arm, "threads": 1} for name, arm in ARMS.items()}
    assert planned(elsewhere, arms=same, batch_size=3, traces=True).sha256 == planned(demo_bf16).sha256


def test_an_edited_plan_is_noticed(demo_bf16: Path, tmp_path: Path) -> None:
    planned(demo_bf16).hold(tmp_path)
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))
    with pytest.raises(reset.ConfigError, match="it was edited after it was written"):
        planned(demo_bf16, seed=7).hold(tmp_path)
    for content in ("", "[]", '{"format": "other"}'):
        path.write_text(content)
        with pytest.raises(reset.ConfigError, match=r"plan\.json"):
            Plan.read(tmp_path)


def test_samples_without_a_plan_are_refused(demo_bf16: Path, tmp_path: Path) -> None:
    (tmp_path / "arms" / "bf16").mkdir(parents=True)
    (tmp_path / "arms" / "bf16" / "samples.jsonl").touch()
    with pytest.raises(reset.ConfigError, match=r"holds samples and no plan\.json"):
        planned(demo_bf16).hold(tmp_path)
    assert not (tmp_path / "plan.json").exists()


def test_the_plan_is_written_before_the_first_sample(demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_sample(*_: Any, **__: Any) -> None:
        assert Plan.read(tmp_path).sha256 == planned(demo_bf16).sha256
        raise ZeroDivisionError

    monkeypatch.setattr(study_run, "evaluate", first_sample)
    with pytest.raises(ZeroDivisionError):
        reset.study(demo_bf16, task(), ARMS, output_dir=tmp_path, **OPTIONS)


@pytest.mark.parametrize(
    ("arms", "error", "message"),
    [
        ({}, ValueError, "at least one arm"),
        ({"a": 3}, TypeError, "arm 'a' is int"),
        ({"a": {"wieghts": "nvfp4"}}, ValueError, "arm 'a': unknown option 'wieghts'; an arm takes policy, model, weights"),
        ({"a": {"seed": 3}}, ValueError, "unknown option 'seed' .*one seed and one task for all arms"),
        ({"a": {"policy": 0.6}}, TypeError, "policy of arm 'a' is float"),
        ({"a": {"policy": "nobody/knows"}}, ValueError, r"policy of arm 'a': .*nobody/knows"),
        ({"a": {"policy": {"policy": "rest"}}}, ValueError, "policy = 'rest' .*reset, .*preset, replayed, mean-temperature"),
        ({"a": {"policy": {"policy": "reset", "t_low": 0.3}}}, ValueError, "policy of arm 'a'.*tau_0"),
        ({"a": {"policy": {"policy": "replayed"}}}, ValueError, "'replayed' takes arm, shuffle_seed"),
        ({"a": {"policy": {"policy": "mean-temperature", "arm": "b", "shuffle_seed": 1}}}, ValueError, "'mean-temperature' takes arm,"),
        ({"a": {"policy": {"policy": "replayed", "arm": "b"}}}, ValueError, "temperatures of arm 'b', and there is no such arm"),
        ({"a": {"policy": {"policy": "replayed", "arm": "a"}}}, ValueError, "circle: a → a"),
        (
            {"a": {"policy": {"policy": "replayed", "arm": "b"}}, "b": {"policy": {"policy": "mean-temperature", "arm": "a"}}},
            ValueError, "circle: a → b → a",
        ),
    ],
)  # fmt: skip
def test_wrong_arms_are_named(demo_bf16: Path, arms: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        prepare(demo_bf16, task(), arms)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrasts": [("bf16", "bf16")]}, "two different arms"),
        ({"contrasts": ["ab"]}, "two different arms"),
        ({"contrasts": [("bf16", "rest")]}, "there is no arm 'rest'.*the arms are mean, bf16, reset, shuffled"),
        ({"contrasts": [("bf16", "reset"), ("reset", "bf16")]}, "compared twice"),
        ({"exploratory": [("reset", "bf16")]}, "a primary contrast already"),
        ({"interactions": [("bf16", "reset", "mean")]}, "give two contrasts"),
        ({"interactions": [(("bf16", "reset"), ("bf16", "bf16"))]}, "interactions: .*two different arms"),
        ({"n_samples": 0}, "n_samples = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"split": "tset"}, "no split 'tset'"),
        ({"contrasts": 3}, "contrasts = 3 .*list of pairs"),
        ({"exploratory": [3]}, "exploratory: 3 .*two different arms"),
        ({"interactions": "ab"}, "interactions = 'ab' .*list of two contrasts"),
    ],
)
def test_wrong_options_are_named(demo_bf16: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        prepare(demo_bf16, task(), ARMS, **{**OPTIONS, **options})


def test_without_contrasts_every_arm_is_compared_with_the_first(demo_bf16: Path) -> None:
    record = prepare(demo_bf16, task(), {"a": {}, "b": {}, "c": {}}).plan.record
    assert record["primary"] == [["a", "b"], ["a", "c"]]
    assert prepare(demo_bf16, task(), {"a": {}, "b": {}}, []).plan.record["primary"] == []


def test_a_loaded_model_takes_no_options_of_the_loading(demo_nvfp4: Path) -> None:
    model = reset.load(demo_nvfp4)
    with pytest.raises(ValueError, match="arm 'a' names weights, and the model is loaded already"):
        prepare(model, task(), {"a": {"weights": "bf16"}})
    with pytest.raises(ValueError, match="arm 'a' has no model"):
        prepare(None, task(), {"a": {}})
    arm = prepare(model, task(), {"a": {}}).plan.record["arms"]["a"]
    assert (arm["weights"], arm["activations"], arm["model"]) == ("nvfp4", "nvfp4", model.fingerprint)


def test_a_policy_may_name_a_calibration(demo_bf16: Path, tmp_path: Path) -> None:
    Calibration.from_entropies([[0.1, 0.9], [0.2, 1.4]]).save(tmp_path / "calibration.json", t_low=0.2)
    tau_0 = Calibration.load(tmp_path / "calibration.json").tau_0
    arms = {
        "named": {"policy": {"policy": "reset", "t_low": 0.3, "tau_0": "calibration.json"}},
        "preset": {"policy": {"policy": "preset", "name": "calibration.json"}},
        "published": {"policy": "Qwen/Qwen3-8B"},
    }
    record = prepare(demo_bf16, task(), arms, folder=tmp_path).plan.record["arms"]
    assert (record["named"]["policy"]["tau_0"], record["named"]["policy"]["t_low"]) == (tau_0, 0.3)
    assert (record["preset"]["policy"]["tau_0"], record["preset"]["policy"]["t_low"]) == (tau_0, 0.2)
    assert record["published"]["policy"]["tau_0"] == 0.5505
    with pytest.raises(FileNotFoundError, match=r"calibration\.json"):
        prepare(demo_bf16, task(), arms, folder=tmp_path / "elsewhere")


def test_the_example_is_a_plan(demo_bf16: Path) -> None:
    arguments = load_plan(EXAMPLES / "study-8b.toml")
    assert arguments["model"] == "Qwen/Qwen3-8B"
    assert arguments["output_dir"] == str(EXAMPLES / "runs/arithmetic")
    ready = prepare(**{**arguments, "model": demo_bf16, "task": task()})
    assert ready.needed == {"reset"}
    assert list(ready.plan.record["arms"]) == ["bf16", "nvfp4", "reset", "shuffled", "mean"]
    assert ready.plan.record["interactions"] == [[["nvfp4", "reset"], ["nvfp4", "shuffled"]]]


def test_paths_in_toml_are_looked_for_beside_it(demo_bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").symlink_to(demo_bf16)
    file = tmp_path / "s.toml"
    file.write_text('model = "model"\ntask = "arithmetic"\ndata = "d"\n[arms.a]\nmodel = "model"\n[arms.b]\nmodel = "x/y"\n')
    monkeypatch.chdir("/")
    arguments = load_plan(file)
    assert (arguments["model"], arguments["data"]) == (str(tmp_path / "model"), str(tmp_path / "d"))
    assert (arguments["arms"]["a"]["model"], arguments["arms"]["b"]["model"]) == (str(tmp_path / "model"), "x/y")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("task = ", r"s\.toml: not readable as TOML"),
        ('task = "x"\n[arms.a]\n[other]\n', r"s\.toml: unknown key 'other'"),
        ('task = "x"\n', r"s\.toml: 'arms' is missing"),
        ("[arms.a]\n", r"s\.toml: 'task' is missing"),
    ],
)
def test_wrong_toml_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "s.toml").write_text(content)
    with pytest.raises(reset.ConfigError, match=message):
        load_plan(tmp_path / "s.toml")
    with pytest.raises(FileNotFoundError, match=r"other\.toml: no such file"):
        load_plan(tmp_path / "other.toml")
