"""Tasks: rows to problems, splits, prompts, files; errors that name the row."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest
from huggingface_hub import errors
from hypothesis import given
from hypothesis import strategies as st

import reset
from reset.tasks import INSTRUCTION, TASKS, Problem, Task, fingerprint, get_task, split_of
from reset.tasks.expression import canonical
from reset.tasks.files import Source, download, read_rows
from reset.tasks.gsm8k import SHARES, expression_key
from reset.tasks.math500 import last_boxed

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN = 15
"""Index of the test problem that the guide shows."""

ROWS = [{"question": f"What is {n} + 1?", "answer": n + 1, "topic": "sums"} for n in range(40)]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# Problems


def test_problem_fills_its_key_from_the_question() -> None:
    assert Problem("a", "  What IS\n 1?", "1").key == "what is 1?"
    assert Problem("a", "b", "1", key="1+1").key == "1+1"
    assert hash(Problem("a", "b", "1", metadata={"level": 3})) == hash(Problem("a", "b", "1"))


@pytest.mark.parametrize(
    ("values", "kind", "complaint"),
    [
        (("", "q", "1"), ValueError, "problem '': id is empty"),
        (("a", " \n", "1"), ValueError, "problem 'a': question is empty"),
        (("a", "q", ""), ValueError, "problem 'a': answer is empty"),
        (("a", "q", 1), TypeError, "answer is int, expected str"),
    ],
)
def test_impossible_problems_are_named(values: tuple[Any, ...], kind: type[Exception], complaint: str) -> None:
    with pytest.raises(kind, match=complaint):
        Problem(*values)


def test_fingerprint_sees_ids_questions_answers_and_order() -> None:
    a, b = Problem("a", "x", "1"), Problem("b", "y", "2")
    base = fingerprint([a, b])
    assert base == fingerprint([Problem("a", "x", "1", solution="s", key="k", metadata={"m": 1}), b])
    changed = [Problem("c", "x", "1"), Problem("a", "z", "1"), Problem("a", "x", "3"), Problem("a", 'x","1', "1")]
    others = [[b, a], [a], *([problem, b] for problem in changed)]
    assert len({base, *map(fingerprint, others)}) == 7


# Tasks of one's own


def test_rows_become_problems() -> None:
    task = Task("mine", ROWS)
    problems = task.problems()
    assert (task.splits, task.scorer, task.version, len(problems)) == (("test",), "math", "1", 40)
    assert (problems[3].id, problems[3].answer, problems[3].metadata) == ("test-3", "4", {"topic": "sums"})
    assert task.problems(limit=5) == problems[:5]
    assert reset.Task is Task


def test_shares_divide_rows_by_their_key() -> None:
    twice = [*ROWS, *({**row, "question": row["question"].upper()} for row in ROWS)]
    task = Task("mine", twice, splits={"tune": 0.3, "test": 0.7})
    tune, test = task.problems("tune"), task.problems("test")
    assert len(tune) + len(test) == 80
    assert not {p.key for p in tune} & {p.key for p in test}
    assert 0.1 < len(tune) / 80 < 0.5
    other = Task("other", twice[::-1], splits={"tune": 0.3, "test": 0.7}).problems("tune")  # the order of rows does not matter
    assert {problem.key for problem in other} == {problem.key for problem in tune}


def test_split_of_follows_the_shares() -> None:
    shares = {"train": 0.6, "test": 0.4}
    parts = [split_of(str(n), shares) for n in range(4000)]
    assert abs(parts.count("train") / 4000 - 0.6) < 0.03


def test_subclass_defines_load() -> None:
    class Mine(Task):
        name = "mine"
        splits = ("tune", "test")
        scorer = "number"
        calls = 0

        def load(self, split: str) -> list[dict[str, object]]:
            Mine.calls += 1
            return [{"question": f"{split}?", "answer": 1}]

    task = Mine()
    assert task.problems("tune")[0].question == "tune?"
    assert [p.id for p in task.problems("test")] == [p.id for p in task.problems()] == ["test-0"]
    assert Mine.calls == 2
    assert get_task(task) is task


def test_subclass_may_define_problems_instead() -> None:
    class Mine(Task):
        name = "mine"

        def problems(self, split: str = "test", limit: int | None = None) -> list[Problem]:
            return [Problem("a", "b", "1")][:limit]

    assert Mine().problems()[0].id == "a"


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "complaint"),
    [
        (("mine",), {}, ValueError, "task 'mine' has no problems: pass rows, or subclass"),
        (("mine", []), {}, ValueError, "the list of rows is empty"),
        (("", ROWS), {}, ValueError, "name = ''"),
        (("mine", "rows.jsonl"), {}, TypeError, "use Task.from_file for a file"),
        (("mine", [3]), {}, TypeError, "row 0 is int: give mappings with 'question' and 'answer'"),
        (
            ("mine", [{"question": "a", "answer": "1"}, {"question": "b"}]),
            {},
            ValueError,
            "row 1: no field 'answer'; the row has 'question'",
        ),
        (("mine", [{"question": " ", "answer": "1"}]), {}, ValueError, "row 0: problem 'test-0': question is empty"),
        (("mine", [{"question": "a", "answer": 0.1}]), {}, TypeError, "row 0: field 'answer' is 0.1"),
        (("mine", [{"question": "a", "answer": True}]), {}, TypeError, "row 0: field 'answer' is True"),
        (("mine", [{**row, "id": "x"} for row in ROWS[:2]]), {}, ValueError, "problems 0 and 1 have the same id 'x'"),
        (("mine", ROWS), {"splits": {"tune": 0.5}}, ValueError, "shares that sum to 1"),
        (("mine", ROWS), {"splits": {"tune": -0.5, "test": 1.5}}, ValueError, "shares that sum to 1"),
        (("mine", ROWS[:2]), {"splits": {"tune": 1e-6, "test": 1 - 1e-6}}, ValueError, "no problem falls into 'tune'"),
        (("mine", ROWS), {"scorer": "llm"}, ValueError, "scorer = 'llm' .* 'number', 'math'"),
    ],
)
def test_impossible_tasks_are_named(arguments: tuple[Any, ...], options: dict[str, Any], kind: type[Exception], complaint: str) -> None:
    with pytest.raises(kind, match=complaint):
        Task(*arguments, **options)


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "3"])
def test_impossible_limits_are_named(limit: Any) -> None:
    with pytest.raises(ValueError, match="limit = "):
        Task("mine", ROWS).problems(limit=limit)


def test_unknown_split_lists_the_splits() -> None:
    with pytest.raises(ValueError, match="task 'mine' has no split 'tune': use 'test'"):
        Task("mine", ROWS).problems("tune")
    with pytest.raises(ValueError, match="use 'train' or 'calibration' or 'tune' or 'test'"):
        get_task("gsm8k").problems("dev")
    with pytest.raises(ValueError, match="calibrate and tune on 'math500' or 'gsm8k'"):
        get_task("aime2024").problems("tune")
    with pytest.raises(ValueError, match="calibrate and tune on 'gsm8k'"):
        get_task("svamp").problems("calibration")


def test_prompts() -> None:
    task = Task("mine", ROWS)
    problem = task.problems()[0]
    assert task.prompt(problem, "plain") == "What is 0 + 1?"
    assert task.prompt(problem) == f"What is 0 + 1?\n\n{INSTRUCTION}"
    assert INSTRUCTION == r"Please reason step by step, and put your final answer within \boxed{}."
    with pytest.raises(ValueError, match="prompt = 'cot' is not possible: use one of 'boxed', 'plain'"):
        task.prompt(problem, "cot")


# Built-in tasks by name


def test_every_listed_task_can_be_made() -> None:
    for name in TASKS:
        task = get_task(name)
        assert task.name == name
        assert "test" in task.splits
        assert task.scorer == ("math" if name == "math500" else "number")
    limits = {name: get_task(name).max_new_tokens for name in TASKS}
    assert (limits["arithmetic"], limits["gsm8k"], limits["svamp"], limits["math500"], limits["aime2025"]) == (
        512,
        4096,
        4096,
        16384,
        32768,
    )


def test_errors_of_get_task() -> None:
    with pytest.raises(ValueError, match=r"no task 'gsm9k': use one of gsm8k, math500, .*reset\.Task"):
        get_task("gsm9k")
    with pytest.raises(TypeError, match="task is int"):
        get_task(3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="data=/no/such/place: no such file or folder"):
        get_task("gsm8k", data="/no/such/place")
    with pytest.raises(ValueError, match="belongs to a built-in task's name"):
        get_task(Task("mine", ROWS), data="x")


def gsm8k_row(question: str, left: str, answer: str) -> dict[str, str]:
    return {"question": question, "answer": f"So {left} = <<{left}={answer}>>{answer}.\n#### {answer}"}


@pytest.fixture
def small_gsm8k(tmp_path: Path) -> Path:
    write_lines(tmp_path / "gsm8k_test.jsonl", [gsm8k_row("Two and three?", "2+3", "5"), gsm8k_row("Big?", "1000*2", "2,000")])
    train = [gsm8k_row(f"{n} plus one?", f"{n}+1", str(n + 1)) for n in range(100)]
    write_lines(tmp_path / "gsm8k_train.jsonl", [gsm8k_row("Three and two?", "3+2", "5"), *train])
    return tmp_path


def test_gsm8k_splits_by_expression(small_gsm8k: Path) -> None:
    task = get_task("gsm8k", data=small_gsm8k)
    test = task.problems("test")
    assert [(p.id, p.answer, p.key) for p in test] == [("test-0", "5", "2+3=5"), ("test-1", "2000", "1000*2=2000")]
    assert test[0].solution == "So 2+3 = 5."
    rest = [problem for split in SHARES for problem in task.problems(split)]
    assert len(rest) == 100  # "Three and two?" is the first test problem in other words
    assert len({problem.key for problem in rest}) == 100
    assert "train-0" not in {problem.id for problem in rest}


def test_gsm8k_test_file_alone_serves_the_test_split(small_gsm8k: Path) -> None:
    task = get_task("gsm8k", data=small_gsm8k / "gsm8k_test.jsonl")
    assert len(task.problems()) == 2
    assert len(task.problems("tune")) > 5  # the train file lies beside it
    (small_gsm8k / "gsm8k_train.jsonl").unlink()
    alone = get_task("gsm8k", data=small_gsm8k / "gsm8k_test.jsonl")
    with pytest.raises(FileNotFoundError, match=r"has none of gsm8k_train\.jsonl, train\.jsonl \(it holds gsm8k_test\.jsonl\)"):
        alone.problems("tune")


@pytest.mark.parametrize("split", ["train", "calibration", "tune", "test"])
def test_gsm8k_train_file_stands_for_its_folder(small_gsm8k: Path, split: str) -> None:
    whole = get_task("gsm8k", data=small_gsm8k).problems(split)
    assert get_task("gsm8k", data=small_gsm8k / "gsm8k_train.jsonl").problems(split) == whole


def test_gsm8k_rows_without_a_number_are_named(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "x.jsonl", [{"question": "a", "answer": "#### 1"}, {"question": "b", "answer": "two"}])
    with pytest.raises(ValueError, match=r"x\.jsonl, line 2: field 'answer' has no '#### <number>'"):
        get_task("gsm8k", data=file).problems()


def test_math500_takes_other_splits_from_outside(tmp_path: Path) -> None:
    test = [
        {"problem": "What is  $1+1$?", "answer": "2", "solution": r"\boxed{2}", "level": 1, "subject": "Algebra", "unique_id": "test/a/1"}
    ]
    rest = [
        {"problem": f"What is ${n}$?", "level": "Level 3", "type": "Algebra", "solution": rf"It is $\boxed{{{n}}}$."} for n in range(60)
    ]
    write_lines(tmp_path / "math500.jsonl", test)
    write_lines(tmp_path / "math_test.jsonl", [{**rest[0], "problem": "what is $1+1$?"}, *rest])
    task = get_task("math500", data=tmp_path)
    assert task.problems()[0].id == "test/a/1"
    assert task.problems()[0].metadata == {"level": 1, "subject": "Algebra"}
    found = [problem for split in ("train", "calibration", "tune") for problem in task.problems(split)]
    assert len(found) == 60
    assert {p.question: p.answer for p in found}["What is $7$?"] == "7"
    write_lines(tmp_path / "math_test.jsonl", rest[::-1])
    assert get_task("math500", data=tmp_path).problems("train") == task.problems("train")  # the file's order does not matter
    write_lines(tmp_path / "math_test.jsonl", [{"problem": "a", "solution": "none"}])
    with pytest.raises(ValueError, match=r"math_test\.jsonl, line 1: field 'solution' has no \\boxed"):
        get_task("math500", data=tmp_path).problems("tune")


def test_last_boxed_is_balanced() -> None:
    assert last_boxed(r"\boxed{1} and \boxed{\frac{1}{\sqrt{2}}}.") == r"\frac{1}{\sqrt{2}}"
    assert last_boxed(r"\boxed 7") == "7"
    assert last_boxed(r"\fbox{x}") == "x"
    assert last_boxed(r"\boxed{1} then \boxed{2") == "1"


def aime_rows(year: int) -> list[dict[str, str]]:
    url = "https://example.org/wiki/{}_AIME_{}_Problems/Problem_{}"
    return [{"problem": f"{p} {n}?", "answer": f"{n:03}", "url": url.format(year, p, n)} for p in ("II", "I") for n in range(15, 0, -1)]


def test_aime_orders_and_names_its_problems(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "both.jsonl", aime_rows(2023) + aime_rows(2024))
    problems = get_task("aime2024", data=file).problems()
    assert [p.id for p in problems[:2]] + [problems[-1].id] == ["2024-I-1", "2024-I-2", "2024-II-15"]
    assert (problems[0].answer, problems[-1].question) == ("1", "II 15?")
    plain = [{"question": f"q{n}", "answer": answer} for n, answer in enumerate([r"336^\circ", *map(str, range(29))])]
    folder = tmp_path / "2025"
    folder.mkdir()
    write_lines(folder / "aime2025.jsonl", plain)
    assert [(p.id, p.answer) for p in get_task("aime2025", data=folder).problems()[:2]] == [("2025-I-1", "336"), ("2025-I-2", "0")]


def test_aime_refuses_other_files(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", aime_rows(2023))
    with pytest.raises(ValueError, match=r"a\.jsonl has 0 problems of 2024, expected 30"):
        get_task("aime2024", data=file).problems()
    rows = aime_rows(2024)
    rows[3]["answer"] = "12.5"
    with pytest.raises(ValueError, match=r"b\.jsonl, line 4: field 'answer' is '12\.5'; answers of the AIME are integers from 0 to 999"):
        get_task("aime2024", data=write_lines(tmp_path / "b.jsonl", rows)).problems()


def test_svamp_joins_body_and_question(tmp_path: Path) -> None:
    rows = [
        {"ID": "chal-12", "Body": "Ann has 3 nuts", "Question": "How many?", "Answer": 3.0, "Type": "Subtraction", "Equation": "( 3.0 )"},
        {"ID": "chal-3", "Body": "If Ann eats,", "Question": "how many stay?", "Answer": "2.5"},
    ]
    task = get_task("svamp", data=write_lines(tmp_path / "svamp_test.jsonl", rows))
    first, second = task.problems()
    assert (first.id, first.question, first.answer) == ("chal-3", "If Ann eats, how many stay?", "2.5")
    assert (second.question, second.answer) == ("Ann has 3 nuts. How many?", "3")
    assert second.metadata == {"type": "Subtraction", "equation": "( 3.0 )"}


def test_the_python_of_the_guide_runs() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 3
    scope: dict[str, Any] = {"reset": reset}
    for block in blocks:
        exec(compile(block, "tasks.md", "exec"), scope)


def test_the_guide_shows_a_problem_of_the_test_split() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    problem = get_task("arithmetic").problems("test", limit=40)[SHOWN]
    assert problem.question in text
    assert problem.solution in text
    for name in TASKS:
        assert f"`{name}`" in text


# Expressions


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2+3", "3+2", True),
        ("2-3", "3-2", False),
        ("(2+3)*4", "4*(3+2)", True),
        ("2+(3+4)", "4+3+2", True),
        ("8-(3-1)", "8+1-3", True),
        ("12/(4/2)", "12*2/4", True),
        ("1.50*2", "2*1.5", True),
        ("50%*8", "8*.5/50*50", False),
        ("1,000*$3", "3*1000", True),
        ("6*8", "48", False),
        ("-(2-3)", "3-2", True),
    ],
)
def test_canonical_expressions(one: str, other: str, same: bool) -> None:
    assert (canonical(one) == canonical(other)) is same


@pytest.mark.parametrize(
    "text", ["", "2+", "x+1", "2**3", "__import__('os')", "2//3", "'a'", "f(2)", "1 2", "(" * 900, "1" * 1001, "True+1"]
)
def test_other_expressions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expression"):
        canonical(text)


NUMBERS = st.integers(0, 99).map(str)
EXPRESSIONS = st.recursive(NUMBERS, lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner), max_leaves=12)


def written(tree: Any, swap: bool = False) -> str:
    """The tree as text; ``swap`` turns the operands of sums and products around."""
    if isinstance(tree, str):
        return tree
    left, sign, right = written(tree[0], swap), tree[1], written(tree[2], swap)
    return f"({right}{sign}{left})" if swap and sign in "+*" else f"({left}{sign}{right})"


@given(EXPRESSIONS)
def test_normal_form_keeps_the_value_and_forgets_the_order(tree: Any) -> None:
    text = written(tree)
    form = canonical(text)
    assert canonical(form) == form == canonical(written(tree, swap=True))
    exact = [re.sub(r"(\d+)", r"Fraction(\1)", expression) for expression in (text, form)]
    try:
        value = eval(exact[0], {"Fraction": Fraction})
    except ZeroDivisionError:
        return
    assert eval(exact[1], {"Fraction": Fraction}) == value


def test_expression_key_of_gsm8k() -> None:
    assert expression_key("a <<2*3=6>>6 b <<6/2=3>>3") == expression_key("x <<6/2=3>>3 y <<3*2=6>>6")
    assert expression_key("no annotation") == ""
    assert expression_key("<<two and two>>") == "twoandtwo"


# Files


def test_formats_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [{"question": 'a, "b"\nc', "answer": "1"}, {"question": "d\u2028e", "answer": "2"}]
    write_lines(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "c.json").write_bytes((tmp_path / "a.jsonl").read_bytes())
    (tmp_path / "d.csv").write_text('\ufeffquestion,answer\r\n"a, ""b""\nc",1\r\nd\u2028e,2\r\n', encoding="utf-8", newline="")
    for name in ("a.jsonl", "b.json", "c.json", "d.csv"):
        assert [row for row, _ in read_rows(tmp_path / name)] == rows, name
        assert [p.question for p in Task.from_file(tmp_path / name).problems()] == [row["question"] for row in rows]


def test_from_file_maps_fields(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "exam.jsonl", [{"no": 7, "text": "a?", "gold": 3, "why": "so", "year": 2020}])
    task = Task.from_file(file, question="text", answer="gold", id="no", solution="why", scorer="number", version="2")
    assert (task.name, task.scorer, task.version) == ("exam", "number", "2")
    assert task.problems()[0] == Problem("7", "a?", "3", solution="so", metadata={"year": 2020})
    assert task.problems()[0].metadata == {"year": 2020}


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        (
            "a.jsonl",
            '{"question": "a", "answer": "1"}\n\n{"question": "b"}\n',
            r"a\.jsonl, line 3: no field 'answer'; the row has 'question'",
        ),
        ("a.jsonl", '{"question": "a", "answer": "1"}\n{oops}\n', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", '{"question": "", "answer": "1"}\n', r"a\.jsonl, line 1: problem 'test-0': question is empty"),
        ("a.jsonl", "[1]\n", r"a\.jsonl, line 1: expected an object"),
        ("a.jsonl", "\n", r"a\.jsonl: no rows"),
        ("a.json", '{"question": "a"}', r"a\.json: holds a JSON dict; expected a list"),
        ("a.json", "[{]", r"a\.json, line 1: not JSON"),
        ("a.json", "[3]", r"a\.json, row 0: expected an object"),
        ("a.csv", "question,answer\na\n", r"a\.csv, line 2: not as many fields"),
        ("a.csv", 'question,answer\n"a,1\n', r"a\.csv, line \d: not CSV"),
        ("a.txt", "a", r"a\.txt: cannot read files that end in '\.txt'; use one of \.jsonl"),
    ],
)
def test_damaged_files_are_named_with_the_line(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=complaint):
        Task.from_file(tmp_path / name)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        Task.from_file(tmp_path / "none.jsonl")
    with pytest.raises(IsADirectoryError, match="pass a file"):
        Task.from_file(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xe9"}')
    with pytest.raises(ValueError, match=r"not UTF-8 text \(byte 14\)"):
        read_rows(tmp_path / "latin.jsonl")
    with pytest.raises(FileNotFoundError, match=r"has none of svamp_test\.jsonl, SVAMP\.json \(it holds latin\.jsonl\)"):
        get_task("svamp", data=tmp_path).problems()


def test_parquet_is_read_through_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"reset-nvfp4\[datasets\]"):
        read_rows(file)
    table = SimpleNamespace(to_pylist=lambda: [{"question": "a", "answer": "1"}])
    monkeypatch.setitem(sys.modules, "pyarrow", SimpleNamespace(ArrowInvalid=KeyError))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", SimpleNamespace(read_table=lambda path: table))
    assert read_rows(file) == [({"question": "a", "answer": "1"}, f"{file}, row 0")]


def test_parquet_written_by_pyarrow(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert len(Task.from_file(tmp_path / "a.parquet").problems()) == 40
    (tmp_path / "b.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not a Parquet file"):
        read_rows(tmp_path / "b.parquet")


# The hub, without a network


def test_hub_files_are_read_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str, Mapping[str, str]]] = []

    def stand_in(repository: str, name: str, **options: str) -> str:
        calls.append((repository, name, options))
        half = [{"question": f"{name} {n}?", "answer": str(n)} for n in range(15)]
        return str(write_lines(tmp_path / name, half))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", stand_in)
    problems = get_task("aime2025").problems()
    assert [p.id for p in problems][14:16] == ["2025-I-15", "2025-II-1"]
    assert [(repository, name) for repository, name, _ in calls] == [
        ("opencompass/AIME2025", "aime2025-I.jsonl"),
        ("opencompass/AIME2025", "aime2025-II.jsonl"),
    ]
    assert {options["repo_type"] for *_, options in calls} == {"dataset"}


def test_copy_of_a_hub_repository_is_a_folder_too(tmp_path: Path) -> None:
    for name in ("aime2025-I.jsonl", "aime2025-II.jsonl"):
        write_lines(tmp_path / name, [{"question": f"{name} {n}?", "answer": str(n)} for n in range(15)])
    assert len(get_task("aime2025", data=tmp_path).problems()) == 30


def hub_error(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, "404 from the hub")
    return error


@pytest.mark.parametrize(
    ("error", "kind", "complaint"),
    [
        (hub_error(errors.GatedRepoError), PermissionError, "accept the terms at https://huggingface.co/datasets/a/b"),
        (hub_error(errors.RepositoryNotFoundError), FileNotFoundError, "the hub has no such dataset file; or pass data="),
        (hub_error(errors.EntryNotFoundError), FileNotFoundError, "the hub has no such dataset file"),
        (hub_error(errors.LocalEntryNotFoundError), FileNotFoundError, "the hub cannot be reached"),
        (errors.OfflineModeIsEnabled("offline"), FileNotFoundError, "HF_HUB_OFFLINE"),
        (hub_error(errors.HfHubHTTPError), OSError, "answered with an error: 404"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_of_the_hub_say_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], complaint: str) -> None:
    def stand_in(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", stand_in)
    with pytest.raises(kind, match=complaint) as caught:
        download("a/b", "c.jsonl", "mine")
    assert str(caught.value).startswith("a/b, c.jsonl")
    assert "pass data=<file or folder> to task 'mine'" in str(caught.value)


def test_missing_hub_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'reset-nvfp4\[datasets\]'"):
        Source(("a.jsonl",), "a/b", ("c.jsonl",)).rows(None, "mine")


def test_tasks_know_no_model() -> None:
    code = (
        "import sys, reset.tasks, reset.tasks.arithmetic, reset.tasks.gsm8k, reset.tasks.math500, reset.tasks.aime, reset.tasks.svamp;"
        "print([m for m in ('reset.model', 'reset.generation', 'reset.evaluation', 'reset.scoring', 'tokenizers', 'huggingface_hub')"
        " if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
