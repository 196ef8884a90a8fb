"""Scores of real and nasty answers: what counts as right, wrong and unreadable."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nasty_answers import LOOSE, MATH, NUMBERS, Row

from reset.errors import ScoringError
from reset.scoring import Judge, Score, judge_cache, score

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def judges() -> Iterator[dict[str, Judge]]:
    pytest.importorskip("math_verify")
    with Judge("number") as number, Judge("math") as math:
        yield {"number": number, "math": math}


def rows() -> Iterator[Any]:
    for scorers, table in ((("number", "math"), NUMBERS), (("number",), LOOSE), (("math",), MATH)):
        for row in table:
            for scorer in scorers:
                yield pytest.param(scorer, row, id=f"{scorer}: {row.text[:60]!r} for {row.reference[:30]}")


def data(shared: Path, name: str) -> list[dict[str, Any]]:
    path = shared / "data" / name
    if not path.is_file():
        pytest.skip(f"needs {name} in the folder `shared/data` beside the project")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("scorer", "row"), list(rows()))
def test_nasty_answers_are_worth_what_the_table_says(judges: dict[str, Judge], scorer: str, row: Row) -> None:
    found = judges[scorer].score(row.text, row.reference, row.thinking_open)
    assert (found.correct, found.parsed, found.source, found.answer) == (row.correct, row.answer is not None, row.source, row.answer)


def test_the_table_is_large_and_has_enough_that_is_wrong() -> None:
    table = [*NUMBERS, *LOOSE, *MATH]
    assert len(table) >= 280
    assert sum(row.answer is not None and not row.correct for row in table) >= 55
    assert sum(row.answer is None for row in table) >= 12
    assert len(set(table)) == len(table)


def test_every_gold_answer_of_gsm8k_is_right_against_itself(shared: Path) -> None:
    problems = data(shared, "gsm8k_test.jsonl")
    assert len(problems) == 1319
    with Judge("number") as judge:
        for problem in problems:
            gold = problem["answer"].rpartition("####")[2].strip()
            for text in (f"The answer is \\boxed{{{gold}}}", f"<think>7 or 8?</think>\\boxed{{\\${gold}.00}}", problem["answer"]):
                assert judge.score(text, problem["answer"]).correct, (text, gold)
            assert not judge.score(f"\\boxed{{{gold}1}}", problem["answer"]).correct


def test_every_gold_answer_of_math500_is_right_against_itself(shared: Path, judges: dict[str, Judge]) -> None:
    problems = data(shared, "math500.jsonl")
    assert len(problems) == 500
    for problem in problems:
        gold = problem["answer"]
        for text in (f"The answer is \\boxed{{{gold}}}", f"The answer is $\\boxed{{{gold}}}$.", problem["solution"]):
            found = judges["math"].score(text, gold)
            assert found.correct, (text, found)
            assert found.source == "boxed"


def test_math_verify_agrees_on_every_gold_answer_of_math500(shared: Path, judges: dict[str, Judge]) -> None:
    golds = [problem["answer"] for problem in data(shared, "math500.jsonl")]
    texts = [gold for gold in golds if re.search(r"\\text\{\(?[A-Za-z]", gold) is None]  # words never reach it
    assert len(texts) > 480
    different = [gold for gold in texts if judges["math"]._ask(gold, gold) is not True]
    assert different == []


def test_the_gold_answer_of_another_problem_is_wrong(shared: Path, judges: dict[str, Judge]) -> None:
    golds = [problem["answer"] for problem in data(shared, "math500.jsonl")]
    hits = [(a, b) for a, b in zip(golds, golds[1:] + golds[:1], strict=True) if judges["math"].score(f"\\boxed{{{a}}}", b).correct]
    assert [(a, b) for a, b in hits if a != b] == [("5", "x=5")]


@pytest.mark.parametrize("name", ["aime2022", "aime2023", "aime2024", "aime2025"])
def test_every_gold_answer_of_aime_is_right_with_leading_zeros(shared: Path, name: str) -> None:
    with Judge("number") as judge:
        for problem in data(shared, f"{name}.jsonl"):
            assert judge.score(f"\\boxed{{{int(problem['answer']):03}}}", str(problem["answer"])).correct
            assert not judge.score(f"\\boxed{{{int(problem['answer']) + 1:03}}}", str(problem["answer"])).correct


def test_the_python_of_the_scoring_guide_runs() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "scoring.md", "exec"), {})


class TestLenient:
    """The paper's rule, kept beside the strict one."""

    @pytest.mark.parametrize(
        ("text", "thinking_open", "strict", "lenient"),
        [
            (r"<think>maybe \boxed{18}", False, None, "18"),
            (r"maybe \boxed{18}", True, None, "18"),
            ("<think>maybe 18", False, None, "18"),
            (r"<think>\boxed{18}</think> It is 19", False, "19", "18"),
            ("#### 18\n\nQuestion: … #### 7", False, "18", "7"),
            (r"\boxed{18}", False, "18", "18"),
            ("nothing", False, None, None),
        ],
    )
    def test_it_takes_the_last_box_anywhere_else_the_last_number(
        self, text: str, thinking_open: bool, strict: str | None, lenient: str | None
    ) -> None:
        found = score("number", text, "18", thinking_open)
        assert (found.answer, found.lenient_answer) == (strict, lenient)
        assert (found.correct, found.lenient_correct) == (strict == "18", lenient == "18")


class TestReferences:
    @pytest.mark.parametrize(
        "reference", ["18", "18.0", "$18", "The answer is <<9*2=18>>18\n#### 18", r"\boxed{18}", r"So \boxed{\$18}.", "18 eggs"]
    )
    def test_a_reference_is_plain_in_a_box_or_behind_the_marker(self, reference: str) -> None:
        assert score("number", r"\boxed{18}", reference).correct

    def test_one_that_cannot_be_read_is_an_error_and_not_a_wrong_answer(self) -> None:
        with pytest.raises(ScoringError, match="use the scorer 'math'"):
            score("number", r"\boxed{18}", r"\sqrt{2}")
        with pytest.raises(ScoringError, match="cannot be scored against"):
            score("number", r"\boxed{18}", "")
        with pytest.raises(TypeError, match="expected a string, found int"):
            score("number", r"\boxed{18}", 18)  # type: ignore[arg-type]


class TestScore:
    def test_a_task_is_a_name_an_object_or_a_scorer(self) -> None:
        from reset.tasks import Task

        expected = Score(True, True, "18", "boxed", "exact", True, "18")
        assert score("number", r"\boxed{18}", "18") == expected
        assert score("gsm8k", r"\boxed{18}", "#### 18") == expected
        task = Task("mine", [{"question": "9 * 2?", "answer": "18"}])
        assert score(task, r"\boxed{18}", "18") == expected

    def test_unknown_tasks_are_refused_by_name(self) -> None:
        with pytest.raises(ValueError, match="gsm9k"):
            score("gsm9k", "", "1")
        with pytest.raises(TypeError, match="found int"):
            score(7, "", "1")  # type: ignore[arg-type]

    def test_the_cache_keeps_one_judge_until_it_is_closed(self) -> None:
        judge_cache.close()
        score("number", "1", "1")
        score("number", "2", "1")
        assert len(judge_cache) == 1
        assert judge_cache.get("number") is judge_cache.get("number")
        judge_cache.close()
        assert len(judge_cache) == 0
        assert score("number", "1", "1").correct
