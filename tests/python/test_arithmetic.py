"""Generated word problems: solved by a reader of their English, traces checked equation by equation."""

from __future__ import annotations

import hashlib
import itertools
import re
import statistics
import subprocess
import sys
from collections import Counter
from difflib import SequenceMatcher
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from reference.word_problems import solve
from reset.tasks import Problem, fingerprint, get_task, split_of
from reset.tasks.arithmetic import HARD, SHARES, SIZES, Arithmetic, Style, generate, stream, tokens, trace
from reset.tasks.arithmetic.building import build
from reset.tasks.arithmetic.computing import WAYS, inverse, is_hard, operation
from reset.tasks.arithmetic.draw import Draw, Template, sentences
from reset.tasks.arithmetic.story import Story

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVELS = (1, 2, 3, 4, 5, 6)
EQUATION = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return [generate(seed, level, shuffle=0.5) for level in LEVELS for seed in range(80)]


def check_trace(thinking: str, final: str, answer: str, level: int) -> int:
    """Everything that holds for every gold trace; returns the number of its equations."""
    equations = EQUATION.findall(thinking)
    for left, sign, right, result in equations:
        a, b, c = Fraction(left), Fraction(right), Fraction(result)
        assert {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[sign] == c, f"{left}{sign}{right}={result}"
    assert thinking.count("=") == len(equations), "an equation of another form"
    assert len(equations) >= level
    assert all(0 <= int(number) <= 999 for number in re.findall(r"\d+", thinking))
    steps = thinking.split("\n\n")
    assert len(steps) >= 4
    assert all(step == step.strip() and "\n" not in step and step[-1] == "." for step in steps)
    assert re.search(rf" {answer}\.", steps[-1])
    assert re.fullmatch(rf"(The|So the|Thus the) (answer|result) is \\boxed\{{{answer}\}}\.", final)
    assert "boxed" not in thinking
    assert "  " not in thinking
    assert "<" not in thinking
    return len(equations)


def test_a_reader_of_the_text_finds_the_answer(problems: list[Problem]) -> None:
    for problem in problems:
        assert solve(problem.question) == int(problem.answer), problem.question


def test_reader_finds_the_answer_of_the_fixed_splits() -> None:
    for task in (Arithmetic(), Arithmetic(**HARD)):
        for problem in task.problems("test", limit=120):
            assert solve(problem.question) == int(problem.answer), problem.question


def test_key_is_an_expression_with_the_value_of_the_answer(problems: list[Problem]) -> None:
    for problem in problems:
        numbers = re.sub(r"(\d+)", r"Fraction(\1)", problem.key)
        assert eval(numbers, {"Fraction": Fraction}) == int(problem.answer)
        assert len(re.findall(r"[-+*/]", problem.key)) >= problem.metadata["level"]


def test_every_trace_is_right(problems: list[Problem]) -> None:
    total = 0
    for problem in problems:
        level = problem.metadata["level"]
        assert problem.solution is not None
        thinking, _, final = problem.solution.rpartition("\n\n")
        total += check_trace(thinking, final, problem.answer, level)
        for style in (Style(share_whole=0, checks=1, slips=1), Style(share_whole=1)):
            total += check_trace(*trace(problem, 5, style=style), problem.answer, level)
    assert total > 8_000


def test_levels_are_numbers_of_operations(problems: list[Problem]) -> None:
    for problem in problems:
        story = Story.from_json(problem.metadata["story"])
        assert story.level == problem.metadata["level"]
        assert story.key() == problem.key
        assert all(1 <= operation.result <= 999 for done in story.operations for operation in done)
    assert Counter(problem.metadata["level"] for problem in problems) == dict.fromkeys(LEVELS, 80)


def test_every_kind_of_amount_and_question_occurs(problems: list[Problem]) -> None:
    kinds = Counter(amount[0] for problem in problems for amount in problem.metadata["story"]["amounts"])
    wanted = {"given", "groups", "more", "fewer", "times", "part", "both", "gap", "gains", "loses", "gains_groups"}
    wanted |= {"of", "total", "gap_asked", "packs", "shared", "price"}
    assert set(kinds) == wanted
    assert min(kinds.values()) >= 8


def test_amounts_refer_to_what_their_holders_have_in_the_end(problems: list[Problem]) -> None:
    events = ("gains", "loses", "gains_groups")
    for problem in problems:
        amounts = Story.from_json(problem.metadata["story"]).amounts
        last = {amount.holder: index for index, amount in enumerate(amounts[:-1])}
        for amount in amounts:
            if amount.kind not in events:
                assert all(last[amounts[ref].holder] == ref for ref in amount.refs), problem.question


def test_same_seed_same_problem_in_another_interpreter() -> None:
    code = (
        "from reset.tasks import fingerprint; from reset.tasks.arithmetic import *; from itertools import islice;"
        "print(fingerprint(Arithmetic().problems('test', limit=30)), fingerprint(islice(stream('tune', 3), 20)), hash('x'))"
    )
    outputs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() for _ in range(2)]
    assert outputs[0][:2] == outputs[1][:2]
    assert outputs[0][0] == fingerprint(Arithmetic().problems("test", limit=30))


def test_problems_are_those_of_version_1() -> None:
    """A change of any problem has to change the version: results of different problems must never be mixed."""
    assert get_task("arithmetic").version == "1"
    assert fingerprint(get_task("arithmetic").problems("test", limit=60))[:16] == "65e8bbd8ec82fbd5"
    assert fingerprint(get_task("arithmetic-hard").problems("test", limit=20))[:16] == "dd69b8b5c3cab356"
    assert fingerprint(get_task("arithmetic").problems("tune", limit=20))[:16] == "9a48e7580c20cac4"


def test_gold_solutions_are_those_of_version_1() -> None:
    text = "\0".join(str(problem.solution) for problem in Arithmetic().problems("test", limit=30))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "08f2386e6d137ba0"


def test_splits_share_no_expression() -> None:
    seen: dict[str, str] = {}
    for split in SHARES:
        fixed = Arithmetic().problems(split, limit=100)
        hard = Arithmetic(**HARD).problems(split, limit=20)
        streamed = list(itertools.islice(stream(split, seed=9, levels=(1, 2, 3)), 100))
        assert len({problem.key for problem in fixed}) == 100
        for problem in (*fixed, *hard, *streamed):
            assert seen.setdefault(problem.key, split) == split
            assert split_of(problem.key, SHARES) == split


def test_prefix_keeps_the_mix_and_the_problems() -> None:
    task = Arithmetic()
    first = task.problems("test", limit=12)
    assert [problem.metadata["level"] for problem in first] == [1, 2, 3, 4, 5, 6] * 2
    assert [problem.id for problem in first] == [f"test-{i}" for i in range(12)]
    assert task.problems("test", limit=30)[:12] == first == Arithmetic().problems("test", limit=12)
    assert task.problems("test", limit=5) == first[:5]


def test_sizes_of_the_splits() -> None:
    task = Arithmetic(sizes={"test": 7})
    assert len(task.problems("test")) == len(task.problems("test", limit=100)) == 7
    assert dict(SIZES) == {"train": 10_000, "calibration": 500, "tune": 1_000, "test": 3_000}
    assert Arithmetic().sizes == SIZES


def test_gold_style_changes_solutions_and_nothing_else() -> None:
    one, other = Arithmetic().problems("tune", limit=12), Arithmetic(style=Style(share_whole=0)).problems("tune", limit=12)
    assert fingerprint(one) == fingerprint(other)
    assert [p.solution for p in one] != [p.solution for p in other]


def test_traces_of_one_problem_differ() -> None:
    problem = generate("many", 4)
    found = {trace(problem, seed) for seed in range(200)}
    assert len(found) == 200
    assert trace(problem, 3) == trace(problem, 3)
    assert len({t.thinking.count("=") for t in found}) > 3


def test_share_whole_decides_how_hard_operations_are_written(problems: list[Problem]) -> None:
    def equations(share: float) -> int:
        style = Style(share_whole=share, checks=0, slips=0, limit=10_000)
        return sum(len(EQUATION.findall(trace(problem, 1, style=style).thinking)) for problem in problems[:240])

    whole, half, apart = equations(1), equations(0.5), equations(0)
    base = sum(problem.metadata["level"] + (problem.metadata["level"] == 1) for problem in problems[:240])
    assert whole == base
    assert whole + 60 < half < apart - 60


def test_slips_are_found_out() -> None:
    """A rejected try names a wrong value, checks that value, and misses what the check should have given."""
    pattern = re.compile(
        r"(\d+)\? (?:Check|Test): (\d+)([-+])(\d+)=(\d+), (?:not|but we need) (\d+), so no(?:: |[.] [A-Z][a-z ]+ )(\d+)([-+])(\d+)=(\d+)"
    )
    style = Style(share_whole=1, checks=0, slips=1)
    signs = Counter()
    for problem in (generate(seed, 3) for seed in range(60)):
        text = trace(problem, style=style).thinking
        found = pattern.findall(text)
        assert len(found) == text.count("so no")
        for tried, left, undo, right, result, want, first, sign, second, true in found:
            assert tried == left != true
            assert result != want
            assert {sign, undo} == {"+", "-"}
            assert (want, right) == (first, second)
            signs[sign] += 1
    assert min(signs["+"], signs["-"]) >= 10


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_of_computing_ends_in_the_result(way: object) -> None:
    used = 0
    cases = [(s, a, b) for s in "+-" for a in range(2, 999, 13) for b in range(2, 300, 7)]
    cases += [("*", a, b) for a in range(2, 90) for b in range(2, 999 // a + 1)]
    cases += [("/", q * b, b) for b in range(2, 10) for q in range(2, 999 // b)]
    for sign, a, b in cases:
        if not (a - b >= 0 if sign == "-" else a + b <= 999 if sign == "+" else True) or not is_hard(sign, a, b):
            continue
        steps = way(sign, a, b)  # type: ignore[operator]
        if steps:
            used += 1
            assert steps[-1].result == operation(sign, a, b).result
            assert 2 <= len(steps) <= 4
            assert all(0 <= value <= 999 for step in steps for value in step[1:4])
    assert used > 100


def test_inverse_takes_back() -> None:
    for case in (("+", 47, 38), ("-", 83, 47), ("*", 7, 18), ("/", 96, 4)):
        done = operation(*case)
        for seed in range(4):
            back = inverse(Draw(seed), done)
            assert done.result in back[1:4]
            assert back.result in done[1:4]


# What training and the policies need: length of steps, genuine alternatives, room in the context


def survey(problems: Sequence[Problem]) -> dict[str, float]:
    """Figures of gold traces, lengths in the tokens of :func:`reset.tasks.arithmetic.tokens`.

    ``alternatives``: share of one trace's tokens that the best alignment with another trace of the same problem leaves unmatched.
    """
    steps, per_trace, total, different, characters = [], [], [], [], []
    for problem in problems:
        one, other = trace(problem, "one"), trace(problem, "other")
        parts = one.thinking.split("\n\n")
        steps += [tokens(part + "\n\n") for part in parts]
        characters += [len(part) for part in parts]
        per_trace.append(len(parts))
        total.append(tokens(problem.question) + tokens(one.text))
        a, b = (re.findall(r"\d|\w+|[^\w\s]|\n\n", t.text) for t in (one, other))
        matched = sum(block.size for block in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks())
        different.append(1 - matched / len(a))
    return {
        "steps a trace, least": min(per_trace),
        "steps a trace, median": statistics.median(per_trace),
        "tokens a step, median": statistics.median(steps),
        "share of steps above 32 tokens": sum(s > 32 for s in steps) / len(steps),
        "characters a step, median": statistics.median(characters),
        "tokens of question and trace, median": statistics.median(total),
        "tokens of question and trace, 95 %": sorted(total)[int(0.95 * len(total))],
        "tokens of question and trace, most": max(total),
        "alternatives": statistics.mean(different),
    }


def test_traces_fit_the_study() -> None:
    found = survey(Arithmetic().problems("test", limit=300))
    print(found)  # shown by pytest -s
    assert found["steps a trace, least"] >= 4
    assert found["tokens a step, median"] >= 40
    assert found["share of steps above 32 tokens"] >= 0.6
    assert found["alternatives"] >= 0.25
    assert found["tokens of question and trace, most"] <= 460


def test_vocabulary_is_small() -> None:
    text = "\n".join(f"{p.question}\n{p.solution}" for p in itertools.islice(stream(seed=1), 600))
    words = set(re.findall(r"[A-Za-z]+", text))
    assert len(words) <= 300
    assert set(re.sub(r"[A-Za-z0-9\s]", "", text)) <= set(".,:?+-*/=\\{}")


def test_decisions_are_at_least_a_fifth_of_the_tokens() -> None:
    from reset.tasks.arithmetic.reasoning import reason

    shares = []
    for problem in Arithmetic().problems("test", limit=120):
        draw = Draw("decisions", problem.id)
        one = reason(Story.from_json(problem.metadata["story"]), problem.question, draw, Style(limit=10_000))
        shares.append(draw.decisions / tokens(one.text))
    assert statistics.mean(shares) >= 0.25


# Pieces


def test_draw_is_fixed() -> None:
    draw = Draw("a", 1)
    assert [draw.below(10) for _ in range(8)] == [6, 0, 8, 3, 9, 2, 9, 0]
    assert Draw("a", 1).below(1 << 30) != Draw("a", "1").below(1 << 30)
    assert sorted(Draw(2).shuffled("abcde")) == list("abcde")


def test_template_makes_every_choice() -> None:
    template = Template("[a|b[c|]] <n>.")
    assert {template.expand(Draw(seed), n=3) for seed in range(60)} == {"a 3.", "bc 3.", "b 3."}
    for bad in ("[a", "a]", "a|b", "[[a]", "a < b"):
        with pytest.raises(ValueError, match="template"):
            Template(bad)


def test_sentences_begin_with_capitals() -> None:
    assert sentences("so ben  has 3. then: we add? yes.") == "So ben has 3. Then: we add? Yes."


def test_stories_without_distractors_name_nobody_else() -> None:
    for seed in range(40):
        story = build(Draw("plain", seed), 3, 0)
        assert story.distractors == ()
        assert Story.from_json(story.to_json()) == story


def test_distractors_do_not_contradict_each_other() -> None:
    for seed in range(200):
        facts = generate(seed, 2, distractors=4).metadata["story"]["distractors"]
        assert len({(kind, name) for kind, name, *_ in facts}) == 4


# Errors


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"level": 0}, "levels = .* from 1 to 8"),
        ({"level": 9}, "levels = "),
        ({"levels": ()}, "at least one"),
        ({"level": 2, "levels": (1,)}, "give one of them"),
        ({"distractors": 5}, "distractors = 5"),
        ({"distractors": (2, 1)}, "distractors = "),
        ({"shuffle": 1.5}, "shuffle = 1.5"),
        ({"levels": (2, 4)}, "give it a name"),
        ({"levels": (2, 3), "name": "arithmetic"}, "stands for another mix"),
        ({"levels": (2, 3), "name": "arithmetic-l2"}, "stands for another mix"),
        ({"sizes": {"test": 0}}, "sizes = "),
        ({"sizes": {"dev": 5}}, "sizes = "),
    ],
)
def test_impossible_options_are_named(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Arithmetic(**options)  # type: ignore[arg-type]


def test_names_follow_the_mix() -> None:
    assert Arithmetic().name == "arithmetic"
    assert Arithmetic(**HARD).name == "arithmetic-hard"
    assert Arithmetic(level=4).name == "arithmetic-l4"
    assert Arithmetic(levels=(2, 3)).name == "arithmetic-l2-3"
    assert Arithmetic(levels=(1, 2, 3, 4, 5, 6)).name == "arithmetic"
    assert Arithmetic(levels=(2, 3), name="mine").name == "mine"
    for name in ("arithmetic-l4", "arithmetic-l2-3", "arithmetic-hard", "arithmetic"):
        task = get_task(name)
        assert task.name == name
        assert [p.metadata["level"] for p in task.problems(limit=3)] == [p.metadata["level"] for p in get_task(name).problems(limit=3)]
    assert [p.metadata["level"] for p in get_task("arithmetic-l2-3").problems(limit=3)] == [2, 3, 2]
    for name in ("arithmetic-l", "arithmetic-l3-2", "arithmetic-l1-23", "arithmetic-x"):
        with pytest.raises(ValueError, match="no task"):
            get_task(name)
    with pytest.raises(ValueError, match=r"levels = .* from 1 to 8"):
        get_task("arithmetic-l9")
    assert Arithmetic(level=4).problems(limit=1)[0].metadata["level"] == 4


def test_other_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="share_whole = 2 "):
        Style(share_whole=2)
    with pytest.raises(ValueError, match="no split 'dev': use one of 'train', 'calibration'"):
        stream("dev")
    with pytest.raises(ValueError, match="only problems of the arithmetic tasks"):
        trace(Problem("a", "b?", "1"))
    with pytest.raises(ValueError, match="reads no files"):
        get_task("arithmetic", data="x")
    with pytest.raises(ValueError, match="no split 'dev'"):
        Arithmetic().problems("dev")
    with pytest.raises(ValueError, match="ask for fewer"):
        Arithmetic(level=1, distractors=0, name="few", sizes={"test": 30_000})._problem("test", 0, _Everything())


class _Everything(set[str]):
    def __contains__(self, key: object) -> bool:
        return True
