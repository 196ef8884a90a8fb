"""Reading answers: any text is read, in linear time, and numbers are exact."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reset.scoring import Judge
from reset.scoring.characters import to_ascii
from reset.scoring.exact import equal, read_number
from reset.scoring.extract import answer_region, extract, extract_lenient, last_box, last_number
from reset.scoring.latex import canonical, choice, tidy, words

PIECES = [
    "\\boxed{", "\\fbox{", "\\boxed ", "}", "{", "\\", "\\\\", "####", "#### ", "<think>", "</think>", "1", "-", "1,234", "$", "\\$",
    "%", "\\%",
    "\\frac{1}{2}", "\\frac", "\\text{", " cm", ".", ",", "\n", "\n\n", "e9", "10^{", "９", "−", "√", "½", "=", "x", "(", ")", "\\in",
    "_5", "\\!", "\x00", "\ud800",
    "answer", "\\overline{3}", " or ", "/", "and",
]  # fmt: skip
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map("".join))


class TestRegion:
    @pytest.mark.parametrize(
        ("text", "thinking_open", "region"),
        [
            ("a", False, "a"),
            ("a", True, None),
            ("a</think>b", True, "b"),
            ("<think>a</think>b</think>c", False, "c"),
            ("<think>a", False, None),
            ("a<think>b</think>c<think>d", False, None),
            ("a</think>", True, ""),
        ],
    )
    def test_only_text_after_the_last_thought_counts(self, text: str, thinking_open: bool, region: str | None) -> None:
        assert answer_region(text, thinking_open) == region


class TestLastBox:
    @pytest.mark.parametrize(
        ("text", "content"),
        [
            (r"\boxed{a{b}c}", "a{b}c"),
            (r"\boxed{\{1,2\}}", r"\{1,2\}"),
            (r"\boxed{\left\{x\right\}}", r"\left\{x\right\}"),
            (r"\boxed{a}\boxed{b", "a"),
            (r"\boxed{a \boxed{b}", "b"),
            (r"\boxed{a}\boxed{}", "a"),
            (r"\boxed{\boxed{a}}", "a"),
            (r"\boxedness{a}", None),
            (r"\boxed", None),
            ("boxed{a}", None),
        ],
    )
    def test_it_is_balanced_and_has_content(self, text: str, content: str | None) -> None:
        assert last_box(text) == content

    @given(
        st.recursive(
            st.sampled_from(["a", "1", r"\{", r"\}", "\\\\"]),
            lambda inner: st.lists(inner, max_size=3).map(lambda p: "{" + "".join(p) + "}"),
        )
    )
    def test_whatever_is_balanced_comes_back_whole(self, content: str) -> None:
        assert last_box(f"x \\boxed{{a{content}}} y") == f"a{content}"


class TestNumbers:
    @given(st.integers(), st.integers(min_value=1, max_value=10**30))
    def test_integers_and_fractions_come_back_exactly(self, a: int, b: int) -> None:
        for text in (f"{a}/{b}", f"\\frac{{{a}}}{{{b}}}", f"-\\dfrac{{{-a}}}{{{b}}}" if a <= 0 else f"\\tfrac{{{a}}}{{{b}}}"):
            found = read_number(text)
            assert found is not None
            assert found.value == Fraction(a, b), text

    @given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=6))
    def test_decimals_in_every_spelling_are_the_same_number(self, value: object) -> None:
        plain = f"{value:f}"
        spellings = [
            plain,
            f"{value:,f}",
            f"{value:,f}".replace(",", "{,}"),
            plain.replace("-", "−"),
            f"${plain}$",
            f"\\${plain}",
            f"{plain}00",
        ]
        found = {read_number(text) for text in (*spellings, f"{plain} \\text{{ cm}}")}
        assert len(found) == 1
        assert found != {None}
        assert str(next(iter(found))) == str(Fraction(plain))

    @given(st.integers(min_value=1, max_value=10**40))
    def test_neighbours_differ_however_large(self, n: int) -> None:
        a, b = read_number(str(n)), read_number(str(n + 1))
        assert a is not None
        assert b is not None
        assert not equal(a, b)

    def test_huge_exponents_and_digits_are_not_evaluated(self) -> None:
        for text in ("1e1000000000", "10^{1000000000}", "1e-999999999", "9^{9^{9}}", "9" * 5_000, "0." + "3" * 5_000, "1/" + "9" * 5_000):
            assert read_number(text, loose=True) is None

    def test_numbers_within_the_limits_are_read(self) -> None:
        assert read_number("9" * 1_000) is not None
        assert read_number("1e1000") is not None
        assert read_number("9" * 1_001) is None

    @pytest.mark.parametrize("text", ["", "x", "5x", "5\\pi", "1,2", "1,23", "12,34", "1.2.3", "1/0", "\\frac{1}{0}", "(1,2)", "[1,2]",
    "1-2", "--1", "3:30", "5 pi",
                                      "2 sin", "1..2", "0.333...", "5 or 6", "\\sqrt{2}", "2^{10}", "5!", "1 + 1", "1_1", "9_8", "2_2",
                                      "∞"])  # fmt: skip
    def test_what_is_not_one_number_is_left_to_others(self, text: str) -> None:
        assert read_number(text) is None

    @pytest.mark.parametrize(
        ("text", "number"),
        [("in 3 days 12", "12"), ("x2 and 5-3", "3"), ("a (-3)", "-3"), ("x^2", None), ("x_1", None), ("m^{2}", None), ("3 - 2", "2"),
         ("v1.2.3", None),
         ("1/2", "1/2"), (r"$\frac{1}{2}$", r"$\frac{1}{2}"), ("-$5", "-$5"), ("5.", "5"), ("12,345,678", "12,345,678"), ("1,2", "2")],
    )  # fmt: skip
    def test_the_last_number_of_a_text(self, text: str, number: str | None) -> None:
        assert last_number(text) == number


class TestAnyText:
    @settings(max_examples=300, deadline=None)
    @given(texts, texts, st.booleans())
    @example("\\boxed{" * 50 + "}" * 50, "1", False)
    def test_scoring_never_raises_and_repeats(self, text: str, more: str, thinking_open: bool) -> None:
        with Judge("number") as judge:
            for whole in (text, f"{text}\\boxed{{{more}}}", f"{text}#### {more}"):
                found = judge.score(whole, "18", thinking_open)
                assert found == judge.score(whole, "18", thinking_open)
                assert found.parsed == (found.answer is not None)
                assert found.parsed or not found.correct
                assert (found.source is None) <= (not found.parsed)

    @settings(deadline=None)
    @given(texts)
    def test_tidying_never_raises_and_settles(self, text: str) -> None:
        once = tidy(text)
        for read in (canonical, words, choice, read_number):
            read(once)
        assert to_ascii(to_ascii(text)) == to_ascii(text)

    @given(st.text(alphabet="abc 123.,$\\{}#-/%", max_size=80))
    def test_ascii_stays_as_it_is(self, text: str) -> None:
        assert to_ascii(text) == text


# One repeat would take a second if a rule went over the rest of the text once more for each character: 100,000² / 2 steps.
HOSTILE = [
    "\\boxed{", "{", "}", "\\", "####", "#### ", "#### \t", "1,", "1", "1 ", "-", "$", "<think>", "\\frac{1}{", "０", "√(", "√",
    "#### $", "#### \\(", ".", "\\text{",
    " ", "a ", "\n", "\\boxed ", "\\!", "#### 1 ", "1/", "1 1/", "\\%", "-$", "{,}", "111,", "cm ", "a/", "=", "x=", "\\in", "\\frac1",
    "e9", "10^", "\\overline{3",
    "\\text{ a}/", "^\\circ ", "A", "and ", "billion ", "1a", "#### answer ", "the answer is ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_linear_time(piece: str) -> None:
    whole, limit = 100_000, 5.0
    for before, after in (("1", ""), ("", "1}")):
        text = before + piece * (whole // len(piece)) + after
        answer = before + piece * (9_900 // len(piece)) + after
        start = time.perf_counter()
        extract(text)
        extract_lenient(text)
        for read in (read_number, lambda t: read_number(t, loose=True), tidy, lambda t: canonical(tidy(t)), lambda t: words(tidy(t))):
            read(answer)
        assert time.perf_counter() - start < limit


def test_a_megabyte_is_no_answer() -> None:
    with Judge("number") as judge:
        found = judge.score(f"\\boxed{{{'1' * 1_000_000}}}", "18")
    assert (found.parsed, found.correct, found.source) == (False, False, "boxed")
