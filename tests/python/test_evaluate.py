"""reset.evaluate: what a row holds, that it is right, and what results say."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from small_tasks import sums

import reset
from reset.evaluation.identity import describe_policy
from reset.evaluation.sample import Sample, ends_in_a_loop

if TYPE_CHECKING:
    from pathlib import Path

SUMS = sums()
POLICY = reset.ReSET(0.3, 2.0)
RUN: dict[str, Any] = {"policy": POLICY, "limit": 6, "n_samples": 2, "max_new_tokens": 40, "seed": 3, "progress": False}


@pytest.fixture(scope="module")
def model(demo_nvfp4: Path) -> reset.Model:
    return reset.load(demo_nvfp4)


@pytest.fixture(scope="module")
def result(model: reset.Model, tmp_path_factory: pytest.TempPathFactory) -> reset.EvalResult:
    return reset.evaluate(model, SUMS, output_dir=tmp_path_factory.mktemp("eval") / "run", traces=True, **RUN)


def drawn_by_hand(model: reset.Model, prompt: list[int], stream: int, count: int, **filters: Any) -> list[int]:
    """The rule of the draw, restated: logits of the whole sequence at every step, a controller of its own, no session, no batch."""
    assert model.tokenizer is not None
    newline, double_newline = reset.step_boundaries(model.tokenizer)
    controller = reset.Controller(POLICY, newline, double_newline)
    ids, last = list(prompt), None
    for position in range(count):
        logits = model.logits(ids)[-1]
        decision = controller.step(logits, last_token=last)
        last = reset.sampling.draw(
            logits, decision.temperature, seed=RUN["seed"], stream=stream, position=position, banned=model.banned_ids, **filters
        ).token
        ids.append(last)
        if last in model.eos_ids:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9, "top_k": 20}])
def test_samples_are_drawn_by_the_published_rule_with_the_stream_of_problem_and_sample(model: reset.Model, filters: dict[str, Any]) -> None:
    result = reset.evaluate(model, SUMS, batch_size=3, **{**RUN, **filters})
    problems = {problem.id: problem for problem in SUMS.problems("test", limit=6)}
    for sample in (result.samples[0], result.samples[5], result.samples[-1]):
        prompt = model.encode_prompt(SUMS.prompt(problems[sample.problem_id], "boxed"))
        stream = reset.sampling.stream_of_evaluate("sums", sample.problem_id, sample.sample_index)
        assert sample.stream == f"0x{stream:016x}"
        assert sample.prompt_tokens == len(prompt)
        assert sample.token_ids == drawn_by_hand(model, prompt, stream, 40, **filters)


def test_rows_are_in_order_and_complete(result: reset.EvalResult) -> None:
    assert [sample.key for sample in result.samples] == [(id, s) for id in result.problem_ids for s in range(2)]
    assert not result.partial
    assert len(result) == result.planned == 12
    for sample in result.samples:
        assert sample.tokens == len(sample.token_ids)
        assert (sample.finish_reason == "length") == sample.truncated == (sample.tokens == 40)
        assert sample.options["policy"] == {"policy": "reset", **POLICY.parameters()}
        assert sample.options["max_new_tokens"] == 40
        assert sample.versions["reset"] == reset.__version__
        assert sample.run == result.run
        assert sample.seconds > 0


def test_sums_of_a_row_are_those_of_its_trace(result: reset.EvalResult) -> None:
    for sample in result.samples:
        trace = result.trace(*sample.key)
        assert trace.token_id.tolist() == sample.token_ids
        assert sample.entropy_mean == pytest.approx(trace.entropy.mean(), rel=1e-12)
        assert sample.temperature_mean == pytest.approx(trace.temperature.mean(), rel=1e-12)
        assert sample.steps == trace.step_index[-1] + 1
        assert sample.high_tokens == np.sum(trace.temperature == 1.0)
        assert sample.uncertain_tokens == np.sum(trace.uncertain)
        assert trace.metadata["problem_id"] == sample.problem_id


def test_text_is_the_decoded_text_without_the_end_token(model: reset.Model, result: reset.EvalResult) -> None:
    assert model.tokenizer is not None
    for sample in result.samples:
        ids = sample.token_ids[:-1] if sample.finish_reason == "stop" else sample.token_ids
        assert sample.text == model.tokenizer.decode(ids, skip_special_tokens=True)


def test_counts_are_exclusive_and_accuracy_is_the_mean_over_problems(result: reset.EvalResult) -> None:
    assert list(result.counts) == ["correct", "truncated", "unparsed", "wrong"]
    assert sum(result.counts.values()) == len(result)
    assert result.counts == {**dict.fromkeys(result.counts, 0), **Counter(sample.outcome for sample in result.samples)}
    by_problem = [[s.correct for s in result.samples if s.problem_id == id] for id in result.problem_ids]
    assert result.accuracy == np.mean([np.mean(values) for values in by_problem])
    low, high = result.ci95
    assert 0 <= low <= result.accuracy <= high <= 1


def rows(result: reset.EvalResult, outcomes: dict[str, list[tuple[str | None, bool, bool]]]) -> reset.EvalResult:
    """A result with made-up grades: per problem a list of (answer, correct, truncated)."""
    template = vars(result.samples[0])
    made = [
        Sample(**{
            **template, "problem_id": id, "sample_index": index, "answer": answer, "parsed": answer is not None, "correct": correct,
            "truncated": truncated, "lenient_correct": correct or truncated,
            "outcome": "correct" if correct else "truncated" if truncated else "wrong" if answer is not None else "unparsed",
        })
        for id, samples in outcomes.items()
        for index, (answer, correct, truncated) in enumerate(samples)
    ]  # fmt: skip
    plan = {"problems": [[id, ""] for id in outcomes], "n_samples": max(map(len, outcomes.values()))}
    return reset.EvalResult(made, identity=result._identity, plan=plan)  # type: ignore[arg-type]


def test_numbers_of_a_result_worked_by_hand(result: reset.EvalResult) -> None:
    right, wrong, none, cut = ("7", True, False), ("8", False, False), (None, False, False), (None, False, True)
    made = rows(result, {"a": [right, right, wrong, right], "b": [wrong, wrong, right, none], "c": [cut, none, none, wrong]})
    assert made.counts == {"correct": 4, "truncated": 1, "unparsed": 3, "wrong": 4}
    assert made.accuracy == pytest.approx((3 / 4 + 1 / 4 + 0) / 3)
    assert made.lenient_accuracy == pytest.approx((3 / 4 + 1 / 4 + 1 / 4) / 3)
    # Of two draws without return, none right: a: 0 of 6 pairs, b: 3 of 6, c: all.
    assert made.pass_at(2) == pytest.approx((1 + 3 / 6 + 0) / 3)
    assert made.pass_at(4) == pytest.approx(2 / 3)
    assert made.majority_at(4) == pytest.approx(1 / 3)  # a by 3 to 1; b loses by 2 to 1; c has one vote, for a wrong answer
    with pytest.raises(ValueError, match="5"):
        made.pass_at(5)
    assert made.outcomes()[0].tolist() == [3, 1, 0]
    assert made.outcomes()[1].tolist() == [4, 4, 4]


def test_a_partial_result_says_so_and_counts_what_is_there(result: reset.EvalResult) -> None:
    part = reset.EvalResult(result.samples[:5], identity=result._identity, plan=result._plan)
    assert part.partial
    assert "PARTIAL: 5 of 12" in repr(part)
    assert sum(part.counts.values()) == 5
    assert part.outcomes()[1].tolist() == [2, 2, 1, 0, 0, 0]
    empty = reset.EvalResult([], identity=result._identity, plan=result._plan)
    assert math.isnan(empty.accuracy)
    assert math.isnan(empty.ci95[0])
    assert "no samples of 12" in repr(empty)


@pytest.mark.parametrize("name", ["saved", "saved.jsonl"])
def test_save_and_load_keep_every_value(result: reset.EvalResult, tmp_path: Path, name: str) -> None:
    result.save(tmp_path / name)
    loaded = reset.EvalResult.load(tmp_path / name)
    assert list(map(vars, loaded.samples)) == list(map(vars, result.samples))
    assert loaded.metadata == result.metadata
    assert loaded.problem_ids == result.problem_ids
    if name == "saved":
        assert loaded.trace(*result.samples[0].key) == result.trace(*result.samples[0].key)
        with pytest.raises(FileExistsError, match="merge"):
            result.save(tmp_path / name)
    else:
        with pytest.raises(FileNotFoundError, match="has no trace"):
            loaded.trace(*result.samples[0].key)


def test_load_names_what_is_missing_or_damaged(result: reset.EvalResult, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder or file"):
        reset.EvalResult.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="no result"):
        reset.EvalResult.load(tmp_path)
    path = tmp_path / "saved.jsonl"
    result.save(path)
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first, rest[0].replace('"correct":', '"right":'), *rest[1:]]))
    with pytest.raises(reset.ConfigError, match=r"saved\.jsonl, line 2: not a sample: missing \['correct'\], unknown \['right'\]"):
        reset.EvalResult.load(path)
    path.write_text("{}\n")
    with pytest.raises(reset.ConfigError, match="line 1: format None"):
        reset.EvalResult.load(path)
    path.write_text("")
    with pytest.raises(reset.ConfigError, match="line 1"):
        reset.EvalResult.load(path)


def test_a_row_reads_as_attributes_and_as_a_dict(result: reset.EvalResult) -> None:
    sample = result.samples[0]
    assert dict(sample) == vars(sample)  # type: ignore[call-overload]
    assert sample["outcome"] == sample.outcome
    with pytest.raises(KeyError, match="no 'score'"):
        sample["score"]


def test_to_pandas_has_one_row_for_each_sample(result: reset.EvalResult) -> None:
    frame = result.to_pandas()
    assert len(frame) == 12
    assert frame["correct"].dtype == bool
    assert frame.attrs["task"] == "sums"


class Halving(reset.Policy):
    """A policy written in Python: what ReSET(0.3, 2.0) does without its step term."""

    def temperature(self, signal: reset.policies.Signal) -> float:
        return 1.0 if signal.entropy >= 2.0 else 0.3


def test_policies_written_in_python_work_and_are_identified(model: reset.Model) -> None:
    mine = reset.evaluate(model, SUMS, **{**RUN, "policy": Halving()})
    built_in = reset.evaluate(model, SUMS, **{**RUN, "policy": reset.EntropyThreshold(0.3, 2.0)})
    assert [s.token_ids for s in mine.samples] == [s.token_ids for s in built_in.samples]
    described = mine.metadata["policy"]
    assert described["class"].endswith("Halving")
    assert len(described["source_sha256"]) == 64
    json.dumps(mine.metadata)


class Calling(reset.Policy):
    """A policy that holds a function: two of them differ if their functions do."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule

    def temperature(self, signal: reset.policies.Signal) -> float:
        return float(self.rule(signal))


class Named(Calling):
    """A policy that says itself what it is."""

    def parameters(self) -> dict[str, Any]:
        return {"rule": "half"}


class Slotted(reset.Policy):
    __slots__ = ("level",)

    def __init__(self, level: float) -> None:
        self.level = level

    def temperature(self, signal: reset.policies.Signal) -> float:
        return self.level


def times(factor: float) -> Any:
    return lambda signal: factor * signal.entropy


def test_python_policies_are_one_only_if_nothing_differs() -> None:
    assert describe_policy(Calling(times(0.5))) == describe_policy(Calling(times(0.5)))
    distinct = [
        Calling(times(0.5)), Calling(times(0.25)), Calling(lambda signal: 1.0), Calling(lambda signal: 0.1), Calling(len), Named(len),
        Slotted(0.5), Slotted(0.6), Halving(),
    ]  # fmt: skip
    described = [json.dumps(describe_policy(policy), sort_keys=True) for policy in distinct]
    assert len(set(described)) == len(distinct)
    assert describe_policy(Named(object())) == describe_policy(Named(len))
    # An object that says nothing of itself cannot be recognised: it equals no other, so that nothing is mixed.
    assert describe_policy(Calling(object())) != describe_policy(Calling(object()))


class PerSample:
    """Sample 0 is greedy, sample 1 at temperature 1."""

    def for_sample(self, problem_id: str, sample_index: int) -> reset.Policy:
        return reset.FixedTemperature(1.0) if sample_index else reset.Greedy()

    def describe(self) -> dict[str, Any]:
        return {"policy": "greedy first"}


def test_every_sample_may_have_a_policy_of_its_own(model: reset.Model) -> None:
    mixed = reset.evaluate(model, SUMS, **{**RUN, "policy": PerSample()})
    greedy = reset.evaluate(model, SUMS, **{**RUN, "policy": reset.Greedy()})
    warm = reset.evaluate(model, SUMS, **{**RUN, "policy": reset.FixedTemperature(1.0)})
    for index, sample in enumerate(mixed.samples):
        assert sample.token_ids == (warm if sample.sample_index else greedy).samples[index].token_ids
        assert sample.options["policy"]["policy"] == ("fixed" if sample.sample_index else "greedy")
    assert mixed.metadata["policy"] == {"policy": "greedy first"}


def test_a_right_answer_counts_and_an_open_thought_does_not(demo_bf16: Path, tmp_path: Path) -> None:
    """A model cannot be made to answer, so the answer is put where a model would: the task asks for what greedy decoding writes."""
    model = reset.load(demo_bf16)
    question = "First, the number of apples:"
    written = reset.evaluate(model, reset.Task("probe", [{"question": question, "answer": "1"}]), policy=reset.Greedy(), max_new_tokens=64,
                             prompt="plain", progress=False).samples[0]  # fmt: skip
    score = reset.score("number", written.text, "1")
    assert (written.answer, written.parsed, written.source) == (score.answer, score.parsed, score.source)
    assert written.answer is not None  # by luck of the seed: some number among the text
    task = reset.Task("probe", [{"question": question, "answer": written.answer}])
    again = reset.evaluate(model, task, policy=reset.Greedy(), max_new_tokens=64, prompt="plain", progress=False)
    assert again.accuracy == 1.0
    assert again.counts["correct"] == 1
    opened = reset.Task("probe", [{"question": question + " <think>", "answer": written.answer}])
    assert reset.evaluate(model, opened, policy=reset.Greedy(), max_new_tokens=8, prompt="plain", progress=False).counts["truncated"] == 1


def test_a_prompt_that_does_not_fit_is_truncated_and_named(model: reset.Model) -> None:
    rows = [{"question": "2 + 2 " * 2000, "answer": "4"}, {"question": "2 + 2 =", "answer": "4"}]
    result = reset.evaluate(model, reset.Task("long", rows), policy=reset.Greedy(), max_new_tokens=4, n_samples=2, progress=False)
    assert [s.tokens for s in result.samples] == [0, 0, 4, 4]
    assert [s.outcome for s in result.samples[:2]] == ["truncated"] * 2
    assert result.too_long == 2
    assert "2 prompts too long" in repr(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "fancy"}, "prompt = 'fancy'.*'boxed', 'plain'"),
        ({"split": "dev"}, "dev.*test"),
        ({"n_samples": 0}, "n_samples"),
        ({"limit": 0}, "limit"),
        ({"seed": -1}, "seed"),
        ({"seed": None}, "seed"),
        ({"output_dir": ""}, "output_dir = ''"),
        ({"shard": (3, 2)}, "shard index"),
        ({"shard": 2}, r"shard = 2.*\(1, 4\)"),
        ({"traces": True}, "traces=True needs output_dir"),
        ({"batch_size": 0}, "batch_size"),
        ({"thinking": True}, "thinking"),
    ],
)
def test_wrong_options_are_named(model: reset.Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reset.evaluate(model, SUMS, **{**RUN, **options})


class NotJson(PerSample):
    def describe(self) -> dict[str, Any]:
        return {"policy": object()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "reset"}, "policy is 'reset': give a reset.Policy"),
        ({"policy": 0.6}, r"policy is 0\.6"),
        ({"policy": reset.ReSET}, "policy is the class ReSET"),
        ({"policy": {"t_low": 0.3}}, "for_sample and describe"),
        ({"policy": NotJson()}, "JSON values"),
        ({"top_p": "x"}, "top_p = 'x'"),
        ({"resume": "no"}, "resume = 'no'"),
    ],
)
def test_values_of_another_type_are_named(model: reset.Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        reset.evaluate(model, SUMS, **{**RUN, **options})


class Numeric(reset.Task):
    def prompt(self, problem: reset.Problem, style: str = "boxed") -> Any:
        return 7


def test_a_prompt_that_is_no_text_is_named(model: reset.Model) -> None:
    with pytest.raises(TypeError, match="prompt of problem 'test-0', task 'mine', is int"):
        reset.evaluate(model, Numeric("mine", [{"question": "1 + 1?", "answer": 2}]), **RUN)


def test_a_model_without_tokenizer_is_refused(demo_nvfp4: Path, tmp_path: Path) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(demo_nvfp4, bare)
    (bare / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        reset.evaluate(reset.load(bare), SUMS, **RUN)


def test_the_model_may_be_a_path(demo_nvfp4: Path, result: reset.EvalResult) -> None:
    try:
        again = reset.evaluate(demo_nvfp4, SUMS, **RUN)
    finally:
        reset.model_cache.clear()
    assert all(a.token_ids == b.token_ids for a, b in zip(again.samples, result.samples, strict=True))


@pytest.mark.parametrize(
    ("ids", "loops"),
    [
        ([1, 2, 3] * 30, True),
        ([9, 9, *[1, 2, 3] * 22, 1], True),
        ([1, 2, 3] * 20, False),  # 60 tokens are too few to tell
        (list(range(64)) * 3, False),  # three times is not a loop yet
        (list(range(64)) * 4, True),
        ([*[7] * 200, 8], False),  # it had left the loop
        ([], False),
    ],
)
def test_loops_are_found_at_the_end(ids: list[int], loops: bool) -> None:
    assert ends_in_a_loop(ids) is loops


@pytest.mark.parametrize("name", ["stories260K"])
def test_a_real_model_on_real_problems(shared: Path, name: str) -> None:
    model = reset.load(shared / "models" / name)
    data = shared / "data"
    r = reset.evaluate(model, "gsm8k", data=data, policy=POLICY, limit=8, n_samples=2, max_new_tokens=24, progress=False)
    assert len(r) == 16
    assert sum(r.counts.values()) == 16
    assert r.accuracy == 0.0
