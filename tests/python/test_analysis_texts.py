"""Texts of an analysis: gold traces with their forks, samples of an evaluation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

import reset
from reset.analysis import Text, Texts, gold_texts, sample_texts
from reset.analysis.forks import _kind, _Replay, _scripts, find_forks, recorded
from reset.analysis.texts import FORKS
from reset.tasks.arithmetic import Arithmetic, Style, generate, tokens, trace
from reset.tasks.arithmetic.reasoning import reason
from reset.tasks.arithmetic.story import Story

if TYPE_CHECKING:
    from pathlib import Path

EASY = Arithmetic(level=1)
_TOKEN = re.compile(r" ?[A-Za-z]+|[0-9]|.|\n", re.DOTALL)


def encode(text: str) -> list[int]:
    """A tokenizer of its own: words with their space, single digits, single marks; the id is a number of the token's text."""
    return [int.from_bytes(token.encode(), "big") % (1 << 61) for token in _TOKEN.findall(text)]


@pytest.fixture(scope="module")
def model(arithmetic_model: Path) -> reset.Model:
    return reset.load(arithmetic_model)


def test_positions_are_the_response_tokens_of_all_texts_in_order() -> None:
    texts = Texts([Text("a", [1, 2], [3, 4, 5]), Text("b", [1], [6]), Text("a", [9], [7, 8], sample_index=1)])
    assert texts.token_ids.tolist() == [3, 4, 5, 6, 7, 8]
    assert texts.text_of.tolist() == [0, 0, 0, 1, 2, 2]
    assert texts.problem_of.tolist() == [0, 1, 0]
    assert texts.forks is None
    assert texts[1:].token_ids.tolist() == [6, 7, 8]
    assert texts.digest != Texts([Text("a", [1], [2, 3, 4, 5]), *texts[1:]]).digest


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Texts([]), "no texts"),
        (lambda: Text("a", [], [1]), "prompt_ids is empty"),
        (lambda: Text("a", [1], []), "response_ids is empty"),
        (lambda: Text("a", [1], [1, 2], forks=np.zeros(1, np.int8)), "1 forks for 2"),
    ],
)
def test_texts_that_make_no_sense_are_refused(make: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()  # type: ignore[operator]


def test_gold_texts_are_the_generators_traces_and_end_as_the_model_ends(model: reset.Model) -> None:
    texts = gold_texts(model, EASY, split="tune", limit=3, per_problem=2, forks=False, prompt="plain")
    problems = EASY.problems("tune", limit=3)
    assert len(texts) == 6
    for text, problem in zip(texts, [p for p in problems for _ in range(2)], strict=True):
        assert text.problem_id == problem.id
        assert text.prompt_ids == model.encode_prompt(problem.question)
        assert text.response_ids[-1] == model.eos_ids[0]
        assert text.seed is not None
        # The chat template opens the thought, so that the response begins within it.
        assert model.tokenizer is not None
        assert model.tokenizer.decode(text.prompt_ids).endswith("<think>\n")
        assert "<think>\n" + model.tokenizer.decode(text.response_ids[:-1]) == trace(problem, text.seed).text
    assert texts[0].response_ids != texts[1].response_ids


def test_a_thought_that_the_prompt_does_not_open_is_opened_by_the_response(model: reset.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reset.Model, "encode_prompt", lambda self, *a, **k: self.tokenizer.encode("Question? <think>So.</think>"))
    text = gold_texts(model, EASY, split="tune", limit=1, forks=False)[0]
    assert model.tokenizer is not None
    assert model.tokenizer.decode(text.response_ids).startswith("<think>\n")


def test_a_tokenizer_that_cannot_write_the_traces_is_refused(demo_bf16: Path) -> None:
    with pytest.raises(ValueError, match="no tokens for some characters"):
        gold_texts(reset.load(demo_bf16), EASY, split="tune", limit=3)
    with pytest.raises(ValueError, match="no story"):
        gold_texts(reset.load(demo_bf16), reset.Task("mine", [{"question": "1+1?", "answer": 2}]), split="test")


def test_a_recorded_trace_is_the_generators_own() -> None:
    for level in (1, 3, 6):
        problem = generate(5, level=level)
        draft = recorded(problem, "0", Style())
        assert draft.text == trace(problem, draft.seed).text
        assert tokens(draft.text) + tokens(problem.question) <= Style().limit
        assert len(draft.choices) > 10
        assert all(0 <= value < options for options, value in draft.choices)


def test_a_trace_without_a_fitting_first_draft_is_refused() -> None:
    with pytest.raises(ValueError, match="larger limit"):
        recorded(generate(5, level=6), "0", Style(limit=50))
    with pytest.raises(ValueError, match="no story"):
        recorded(reset.Problem("x", "What?", "1"), "0", Style())


def test_every_alternative_is_a_valid_trace_of_the_same_problem() -> None:
    problem = generate(11, level=3)
    draft = recorded(problem, "0", Style())
    story = Story.from_json(problem.metadata["story"])
    texts = set()
    for script in _scripts(draft.choices):
        text = reason(story, problem.question, _Replay(script, "test", len(script)), Style(limit=1 << 30)).text
        assert text.endswith(f"\\boxed{{{problem.answer}}}.")
        for left, sign, right, value in re.findall(r"(\d+)([-+*/])(\d+)=(\d+)", text):
            a, b, c = int(left), int(right), int(value)
            assert {"+": a + b == c, "-": a - b == c, "*": a * b == c, "/": a == b * c}[sign]
        texts.add(text)
    assert len(texts) > 50


def test_where_other_traces_part_from_a_gold_trace_there_is_a_fork() -> None:
    """The oracle is the generator itself: traces that make the first so many choices as the gold one does and go on by chance."""
    for seed, level in ((3, 2), (4, 4)):
        problem = generate(seed, level=level)
        story = Story.from_json(problem.metadata["story"])
        draft = recorded(problem, "gold", Style())
        gold = encode(draft.text)
        forks = find_forks(draft, encode, gold)
        parted = []
        for other in range(400):
            kept = draft.choices[: other % len(draft.choices)]
            found = encode(reason(story, problem.question, _Replay(kept, "oracle", other), Style(limit=1 << 30)).text)
            at = next((i for i, (a, b) in enumerate(zip(gold, found, strict=False)) if a != b), None)
            if at is not None:
                parted.append(at)
        assert len(set(parted)) > 20
        assert np.mean(forks[parted] > 0) > 0.97
        # And a fork is a minority of the tokens: most follow from the others.
        assert 0.05 < np.mean(forks > 0) < 0.5


def test_results_and_answers_are_no_forks() -> None:
    for seed in range(12):
        draft = recorded(generate(seed, level=1 + seed % 5), "0", Style())
        forks = find_forks(draft, encode, encode(draft.text))
        spans = [match.span() for match in _TOKEN.finditer(draft.text)]
        for match in re.finditer(r"(?<==)\d+|(?<=boxed\{)\d+", draft.text):
            inside = [i for i, (start, end) in enumerate(spans) if match.start() <= start and end <= match.end()]
            assert not forks[inside].any(), draft.text[match.start() - 20 : match.end()]


@pytest.mark.parametrize(
    ("gold", "other", "kind"),
    [
        ("we add: 12+30=42", "we add: 30+12=42", "computing"),
        ("is 3*38=114", "is 38*3=114", "computing"),
        ("First, Ana has", "First, Ben has", "entity"),
        ("on to Ben: he", "on to the question: he", "entity"),
        ("So Ben has", "Thus Ben has", "wording"),
        ("has exactly 12", "has 12", "wording"),
        ("Ben has 12.", "Ben has 12, and", "wording"),
        ("take Ben: so", "take Ben. so", "wording"),
    ],
)
def test_kinds_of_forks(gold: str, other: str, kind: str) -> None:
    assert FORKS[_kind(gold, other)] == kind


def test_gold_texts_know_their_forks(model: reset.Model) -> None:
    texts = gold_texts(model, EASY, split="tune", limit=2)
    assert texts.forks is not None
    assert texts.forks.shape == (texts.tokens,)
    assert set(np.unique(texts.forks).tolist()) >= {0, 1}


@pytest.fixture(scope="module")
def result(model: reset.Model) -> reset.EvalResult:
    return reset.evaluate(
        model, EASY, policy=reset.FixedTemperature(0.8), split="tune", limit=3, n_samples=2, max_new_tokens=20, seed=1, progress=False
    )


def test_samples_are_texts_with_the_ids_that_were_drawn(model: reset.Model, result: reset.EvalResult) -> None:
    texts = sample_texts(result, model, EASY, name="demo")
    assert [text.response_ids for text in texts] == [sample.token_ids for sample in result.samples]
    assert [(text.problem_id, text.sample_index) for text in texts] == [sample.key for sample in result.samples]
    assert {text.source for text in texts} == {"demo"}
    assert len(sample_texts(result, model, EASY.problems("tune", limit=3), limit=2, n_samples=1)) == 2
    first, sample = texts[0], result.samples[0]
    scored = reset.score_trace(model, [*first.prompt_ids, *first.response_ids], prompt_length=len(first.prompt_ids))
    assert scored.entropy.mean() == pytest.approx(sample.entropy_mean, rel=1e-6)


def test_samples_of_another_prompt_are_refused(model: reset.Model, result: reset.EvalResult) -> None:
    other = [reset.Problem(p.id, p.question + " Why?", p.answer) for p in EASY.problems("tune", limit=3)]
    with pytest.raises(reset.ConfigError, match="not the one that was sampled from"):
        sample_texts(result, model, other)
    with pytest.raises(reset.ConfigError, match="not among the problems"):
        sample_texts(result, model, other[1:])
