"""Arguments of public functions: what makes no sense is refused with ValueError or TypeError, and the message names the argument."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import reset
from reset import _checks, policies, sampling

if TYPE_CHECKING:
    from collections.abc import Callable

HUGE = 2**2000
NOT_NUMBERS = (None, True, "0.5", b"x", 1j, [], [0.5], {}, object())
NOT_INTEGERS = (None, True, "1", b"x", 1j, 0.5, float("nan"), float("inf"), [], {}, object())
NOT_BOOLS = ("yes", b"x", 2, 0.5, [], {}, object())
LOGITS = np.array([0.0, 1.0, 2.0], np.float32)


@pytest.fixture(scope="module")
def model() -> reset.Model:
    return reset.load("tiny", threads=1)


def refused(call: Callable[[], Any], name: str) -> None:
    """The call raises ValueError or TypeError, and the message names the argument."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert name in str(caught.value), str(caught.value)


@pytest.mark.parametrize("ids", [None, 5, "x", [None], ["x"], [0.5], [True], [-1], [2**32], [HUGE]], ids=lambda v: repr(v)[:20])
def test_a_controller_names_the_ids_it_cannot_take(ids: Any) -> None:
    for make in (reset.Controller, reset.BatchController):
        refused(lambda make=make: make(reset.Greedy(), newline_ids=ids), "newline_ids")  # type: ignore[misc]
        refused(lambda make=make: make(reset.Greedy(), double_newline_ids=ids), "double_newline_ids")  # type: ignore[misc]


def test_a_controller_names_what_a_step_cannot_take() -> None:
    controller, batch = reset.Controller(reset.Greedy()), reset.BatchController(reset.Greedy())
    for value in (True, "0.5", b"x", 1j, [], [0.5], {}, object(), HUGE, float("nan"), float("inf")):
        refused(lambda value=value: controller.step(entropy=value), "entropy")
        refused(lambda value=value: batch.step(entropy=[value]), "entropy")
    for value in ("0.5", [["a"]], [[0.5], [0.5, 1.0]], 0.5):
        refused(lambda value=value: batch.step(entropy=value), "entropy")
    for value in NOT_BOOLS:
        refused(lambda value=value: controller.step(entropy=1.0, boundary=value), "boundary")
    for value in (True, "1", 0.5, -1, 2**32, HUGE):
        refused(lambda value=value: controller.step(entropy=1.0, last_token=value), "last_token")
    for value in (None, 5, "x", [], {}, object()):
        refused(lambda value=value: controller.restore(value), "snapshot")
    for value in (5, "x", [None], [5]):
        refused(lambda value=value: batch.restore(value), "snapshot")
    for value in (5, "x", [None], [0.5], [float("inf")], [True], [HUGE]):
        refused(lambda value=value: batch.reset(value), "slots")
    assert controller.position == 0
    assert len(batch) == 0


def test_entropy_may_be_any_real_scalar() -> None:
    for value in (1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(1), np.array(0.5), np.float16(0.5)):
        assert reset.Controller(reset.Greedy()).step(entropy=value).entropy == float(value)


def test_from_dict_says_what_it_takes() -> None:
    for value in (None, 5, "x", [1]):
        refused(lambda value=value: policies.from_dict(value), "record")
    refused(lambda: policies.from_dict({"policy": []}), "policy")


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p"])
@pytest.mark.parametrize("value", [*NOT_NUMBERS[1:], HUGE, -HUGE, float("nan")], ids=lambda v: repr(v)[:20])
def test_a_draw_names_the_number_it_cannot_take(name: str, value: Any) -> None:
    refused(lambda: sampling.draw(LOGITS, **{name: value}), name)


@pytest.mark.parametrize("name", ["top_k", "seed", "stream", "position"])
@pytest.mark.parametrize("value", [*NOT_INTEGERS[1:], -1, HUGE], ids=lambda v: repr(v)[:20])
def test_a_draw_names_the_integer_it_cannot_take(name: str, value: Any) -> None:
    refused(lambda: sampling.draw(LOGITS, **{name: value}), name)


def test_sampling_helpers_name_what_they_cannot_take() -> None:
    for value in (None, 5, "x", [None], [0.5], [-1]):
        refused(lambda value=value: sampling.draw(LOGITS, banned=value), "banned")
        refused(lambda value=value: sampling.stream_of_generate(value, 0), "prompt_ids")
    for value in (None, 0.5, "x", -1):
        refused(lambda value=value: sampling.exponentials(1, 2, 3, value), "n")
        refused(lambda value=value: sampling.stream_of_generate([1], value), "sample_index")
        refused(lambda value=value: sampling.stream_of_evaluate("t", "p", value), "sample_index")
    for value in (None, 5, b"x"):
        refused(lambda value=value: sampling.stream_of_evaluate(value, "p", 0), "task")
        refused(lambda value=value: sampling.stream_of_evaluate("t", value, 0), "problem_id")
    for value in ([], [[1.0], [1.0, 2.0]], None, "x"):
        refused(lambda value=value: sampling.draw(value), "logits")
        refused(lambda value=value: sampling.entropy(value), "logits")


def test_logits_of_either_byte_order_are_the_same() -> None:
    assert sampling.draw(LOGITS.astype(">f4"), seed=3) == sampling.draw(LOGITS, seed=3)
    assert sampling.entropy(LOGITS.astype(">f2")) == sampling.entropy(LOGITS)


GENERATION = {
    "max_new_tokens": NOT_INTEGERS, "n": NOT_INTEGERS, "seed": NOT_INTEGERS[1:], "top_k": NOT_INTEGERS[1:],
    "top_p": (*NOT_NUMBERS[1:], HUGE), "min_p": (*NOT_NUMBERS[1:], HUGE), "thinking": (1, *NOT_BOOLS), "ignore_eos": (None, 1, *NOT_BOOLS),
    "boundary": (None, 1, "x"), "chat": (None, 1, "x"), "stop": (None, 1, [1], ""), "policy": (1, "x", reset.ReSET),
}  # fmt: skip


@pytest.mark.parametrize("name", GENERATION)
def test_generation_names_the_option_it_cannot_take(model: reset.Model, name: str) -> None:
    for value in GENERATION[name]:
        refused(lambda value=value: reset.generate(model, "1 + 1", **{"max_new_tokens": 1, name: value}), name)
        if name != "n":
            refused(lambda value=value: reset.stream(model, "1 + 1", **{"max_new_tokens": 1, name: value}), name)
    for value in (None, 1, *NOT_BOOLS):
        refused(lambda value=value: reset.generate(model, "1 + 1", max_new_tokens=1, progress=value), "progress")


def test_thinking_is_refused_where_no_template_reads_it(model: reset.Model) -> None:
    refused(lambda: reset.generate(model, [1, 2], thinking=True), "thinking")
    refused(lambda: reset.generate(model, "x", chat=False, thinking=False), "thinking")


def test_a_model_is_named_where_it_is_none() -> None:
    for value in (None, 5, b"x", [], {}):
        refused(lambda value=value: reset.generate(value, "x"), "model")
        refused(lambda value=value: reset.load(value), "path_or_hub_id")
    refused(lambda: reset.load(""), "path_or_hub_id")
    for name in ("weights", "activations", "method", "lm_head", "kv"):
        for value in (None, 5, "x"):
            refused(lambda name=name, value=value: reset.load("tiny", **{name: value}), name)
    for value in (5, "x", b"x", {}, [""], [5]):
        refused(lambda value=value: reset.load("tiny", calibration=value), "calibration")
    refused(lambda: reset.load("tiny", revision=5), "revision")
    refused(lambda: reset.load("tiny", local_files_only="yes"), "local_files_only")


def test_token_ids_that_a_model_cannot_read_are_named(model: reset.Model) -> None:
    for ids in (
        None,
        5,
        "x",
        [],
        [1.0],
        [True],
        [[1], [2]],
        [[1], [1, 2]],
        [1, -1],
        [1, model.vocab_size],
        [1] * (model.max_positions + 1),
    ):
        refused(lambda ids=ids: model.logits(ids), "token_ids")
        refused(lambda ids=ids: reset.score_trace(model, ids), "token_ids")
    for value in (None, 0, -1, 3, 0.5, "x", HUGE):
        refused(lambda value=value: reset.score_trace(model, [1, 2, 3], prompt_length=value), "prompt_length")


def test_an_evaluation_takes_filters_as_numbers_of_numpy(model: reset.Model, tmp_path: Path) -> None:
    options: dict[str, Any] = {"limit": 1, "max_new_tokens": 2, "progress": False, "output_dir": tmp_path}
    first = reset.evaluate(model, "arithmetic", top_p=np.float32(0.5), min_p=np.float32(0.25), top_k=np.int64(3), **options)
    again = reset.evaluate(model, "arithmetic", top_p=0.5, min_p=0.25, top_k=3, **options)
    assert first.run == again.run
    assert [s.token_ids for s in first.samples] == [s.token_ids for s in again.samples]


def test_an_evaluation_names_what_it_cannot_take(model: reset.Model) -> None:
    options: dict[str, Any] = {"limit": 1, "max_new_tokens": 2, "progress": False}
    for name in ("resume", "progress", "traces"):
        for value in (None, 1, *NOT_BOOLS):
            refused(lambda name=name, value=value: reset.evaluate(model, "arithmetic", **{**options, name: value}), name)
    for value in ("", 5, b"x", True):
        refused(lambda value=value: reset.evaluate(model, "arithmetic", output_dir=value, **options), "output_dir")
        refused(lambda value=value: reset.calibrate(model, output=value, problems=1, max_new_tokens=2, progress=False), "output")
        refused(lambda value=value: reset.tune(model, "arithmetic", [reset.Greedy()], output_dir=value, **options), "output_dir")
    for value in (1, *NOT_BOOLS):
        refused(lambda value=value: reset.evaluate(model, "arithmetic", thinking=value, **options), "thinking")


def test_results_say_what_they_compare_and_merge_with(model: reset.Model) -> None:
    result = reset.evaluate(model, "arithmetic", limit=1, max_new_tokens=2, progress=False)
    for value in (None, 5, "x", [], {}):
        refused(lambda value=value: reset.compare(result, value), "b is")
        refused(lambda value=value: reset.compare(value, result), "a is")
        refused(lambda value=value: result.merge(value), "merge")
    for value in ("x", [], ("a",), ("a", 1), 5):
        refused(lambda value=value: reset.compare(result, result, names=value), "names")
    for value in (None, 5, b"x"):
        refused(lambda value=value: reset.compare(result, result, differ=value), "differ")
    for value in (None, 0, 0.5, "x"):
        refused(lambda value=value: reset.compare(result, result, draws=value), "draws")
        refused(lambda value=value: result.pass_at(value), "k = ")
        refused(lambda value=value: result.majority_at(value), "k = ")


def test_scoring_calibration_and_planning_name_what_they_cannot_take(model: reset.Model) -> None:
    for value in (None, 5, b"x", []):
        refused(lambda value=value: reset.score("gsm8k", value, "1"), "generated_text")
    refused(lambda: reset.score("gsm8k", "1", "1", thinking_open="yes"), "thinking_open")
    calibration: dict[str, Any] = {"problems": 1, "max_new_tokens": 2, "progress": False}
    bad = {"percentile": (None, "x", True, -1, 101, HUGE), "temperature": (-1.0, float("nan")), "prompt": (None, 5, [], "x")}
    for name, values in bad.items():
        for value in values:
            refused(lambda name=name, value=value: reset.calibrate(model, **{**calibration, name: value}), name)
    for name in ("difference", "power", "level", "correlation", "discordance", "heterogeneity"):
        for value in ("x", True, [], HUGE):
            refused(lambda name=name, value=value: reset.power(0.6, **{"difference": 0.05, name: value}), name)
    for name in ("problems", "samples"):
        for value in ("x", True, 0, 0.5, [], HUGE):
            refused(lambda name=name, value=value: reset.power(0.6, **{"difference": 0.05, name: value}), name)
    refused(lambda: reset.power(None), "baseline")


def test_a_study_names_what_it_cannot_take(model: reset.Model) -> None:
    arms = {"a": {"policy": reset.Greedy()}, "b": {"policy": reset.FixedTemperature(1.0)}}
    options: dict[str, Any] = {"limit": 1, "max_new_tokens": 2, "progress": False}
    for name in ("contrasts", "exploratory", "interactions"):
        for value in (5, "ab", [None], [5], [("a", None)], ["ab"]):
            refused(lambda name=name, value=value: reset.study(model, "arithmetic", arms, **{**options, name: value}), name)
    for name in ("output_dir", "folder"):
        refused(lambda name=name: reset.study(model, "arithmetic", arms, **{**options, name: 5}), name)
    study = reset.study(model, "arithmetic", arms, top_p=np.float32(0.5), n_samples=np.int64(1), **options)
    assert [row["arm"] for row in study.arms] == ["a", "b"]


def test_tensors_name_what_they_cannot_take() -> None:
    x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)
    tensor = reset.nvfp4.quantize(x)
    refused(lambda: reset.nvfp4.quantize(x, tensor_scale=HUGE), "tensor_scale")
    for value in ("x", 5, [], b"x"):
        refused(lambda value=value: tensor.dequantize(out=value), "out")


def test_files_that_cannot_be_written_or_read_are_named_by_the_callers_name(model: reset.Model, tmp_path: Path) -> None:
    trace = reset.generate(model, [1, 2], max_new_tokens=2).trace
    result = reset.evaluate(model, "arithmetic", limit=1, max_new_tokens=2, progress=False)
    for save in (trace.save, result.save):
        missing = tmp_path / "missing" / "x.jsonl"
        with pytest.raises(FileNotFoundError, match="the folder of this file does not exist") as caught:
            save(missing)
        assert caught.value.filename == str(missing)
        folder = tmp_path / "folder.jsonl"
        folder.mkdir(exist_ok=True)
        with pytest.raises(IsADirectoryError, match="is a folder") as found:
            save(folder)
        assert found.value.filename == str(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.jsonl"]
    for value in (None, 5, b"x", []):
        for call in (
            trace.save,
            reset.Trace.load,
            result.save,
            reset.EvalResult.load,
            reset.Calibration.load,
            reset.Study.load,
            reset.inspect,
        ):
            refused(lambda call=call, value=value: call(value), "give a path")


def test_a_trace_takes_texts_and_a_dict(model: reset.Model) -> None:
    trace = reset.generate(model, [1, 2], max_new_tokens=2).trace
    refused(lambda: reset.Trace(**trace.columns, tokens=("a", 1)), "tokens")  # type: ignore[arg-type]
    refused(lambda: reset.Trace(**trace.columns, metadata="x"), "metadata")  # type: ignore[arg-type]


def test_the_checks_themselves() -> None:
    assert _checks.integer("n", np.int64(3)) == 3
    assert _checks.number("x", np.float16(0.5)) == 0.5
    assert _checks.number("x", HUGE) == float("inf")
    assert _checks.number("x", -HUGE) == float("-inf")
    assert _checks.flag("f", np.bool_(True)) is True
    assert _checks.path_like("p", Path("a") / "b") == str(Path("a") / "b")
