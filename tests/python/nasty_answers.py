r"""Answers as models write them, and what each of them is worth: the specification of scoring, row by row.

A row is ``right(text, reference, answer)`` or ``wrong(…)`` with the canonical answer, or
``unparsed(text, reference)``. The rule that must have found the answer is "boxed" unless the row names another.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    text: str
    reference: str
    answer: str | None  # canonical; None: unparsed
    correct: bool
    source: str | None = "boxed"
    thinking_open: bool = False


def right(text: str, reference: str, answer: str, source: str = "boxed", *, thinking_open: bool = False) -> Row:
    return Row(text, reference, answer, True, source, thinking_open)


def wrong(text: str, reference: str, answer: str, source: str = "boxed", *, thinking_open: bool = False) -> Row:
    return Row(text, reference, answer, False, source, thinking_open)


def unparsed(text: str, reference: str, source: str | None = None, *, thinking_open: bool = False) -> Row:
    return Row(text, reference, None, False, source, thinking_open)


# Scored the same by "number" and "math".
NUMBERS = [
    # plain boxes
    right(r"\boxed{18}", "18", "18"),
    right(r"The answer is $\boxed{18}$.", "18", "18"),
    right(r"\[ \boxed{18} \]", "18", "18"),
    right(r"\boxed{ 18 }", "18", "18"),
    right(r"\boxed{18.}", "18", "18"),
    right(r"\boxed{18.00}", "18", "18"),
    right(r"\boxed{018}", "18", "18"),
    right(r"\boxed{+18}", "18", "18"),
    right(r"\boxed{-18}", "-18", "-18"),
    wrong(r"\boxed{-18}", "18", "-18"),
    wrong(r"\boxed{18.01}", "18", "1801/100"),
    wrong(r"\boxed{1.8}", "18", "9/5"),
    wrong(r"\boxed{181}", "18", "181"),
    right(r"\boxed {18}", "18", "18"),
    right(r"\fbox{18}", "18", "18"),
    right(r"$\boxed 18$", "18", "18"),
    right(r"\boxed18.", "18", "18"),
    right("\\boxed{\n  18\n}", "18", "18"),
    right(r"\boxed{\boxed{18}}", "18", "18"),
    right(r"\boxed{\mathbf{18}}", "18", "18"),
    right(r"\boxed{\text{18}}", "18", "18"),
    right(r"\boxed{$18$}", "18", "18"),
    right(r"\boxed{\(18\)}", "18", "18"),
    right(r"**\boxed{18}**", "18", "18"),
    right(r'{"answer": "\\boxed{18}"}', "18", "18"),
    right("```latex\n\\boxed{18}\n```", "18", "18"),
    # several boxes
    right(r"First \boxed{9}, then \boxed{18}.", "18", "18"),
    wrong(r"First \boxed{18}, then \boxed{9}.", "18", "9"),
    right(r"\boxed{18} \boxed{}", "18", "18"),
    right(r"\boxed{18} or rather \boxed{19", "18", "18"),
    right(r"\boxed{\frac{36}{2} and \boxed{18}", "18", "18"),
    right(r"} stray { braces \boxed{18} } {", "18", "18"),
    # no box worth the name
    unparsed(r"\boxed{}", "18"),
    unparsed(r"\boxed{ }", "18"),
    unparsed("", "18"),
    unparsed("I cannot answer that.", "18"),
    right(r"\boxed{} so it is 18", "18", "18", "number"),
    right(r"so we get \boxed{18", "18", "18", "number"),
    # thoughts
    right(r"<think>\boxed{3}</think>\boxed{18}", "18", "18"),
    right(r"hm, \boxed{3}</think>\boxed{18}", "18", "18", thinking_open=True),
    right(r"<think>a</think>\boxed{3}<think>no</think>\boxed{18}", "18", "18"),
    right("<think>is it 3? 4?</think>It is 18", "18", "18", "number"),
    wrong(r"<think>\boxed{18}</think>It is 19.", "18", "19", "number"),
    unparsed(r"<think>maybe \boxed{18}", "18"),
    unparsed(r"maybe \boxed{18}", "18", thinking_open=True),
    unparsed(r"<think>a</think>\boxed{3}<think> wait, \boxed{18}", "18"),
    unparsed(r"<think>\boxed{18}</think>", "18"),
    unparsed(r"<think>\boxed{18}</think> I am not sure.", "18"),
    unparsed("#### 18", "18", thinking_open=True),
    right(r"</think>\boxed{18}", "18", "18"),
    # GSM8K's marker
    right("16 - 3 = 13\n#### 18", "18", "18", "####"),
    right("#### 18\n\nQuestion: A robe takes 2 bolts.\nAnswer: 2 + 1 = 3\n#### 7", "18", "18", "####"),
    wrong("#### 7\n\nQuestion: Janet sells eggs.\n#### 18", "18", "7", "####"),
    right("####18", "18", "18", "####"),
    right("#### $18", "18", "18", "####"),
    right("#### 1,800", "1800", "1800", "####"),
    right("#### -18", "-18", "-18", "####"),
    right("#### **18**", "18", "18", "####"),
    right("#### 18 dollars a day, which is 126 a week", "18", "18", "####"),
    right("#### 18. I hope this helps 5 people.", "18", "18", "####"),
    right("#### Answer: 18", "18", "18", "####"),
    right("#### The final answer is $18$", "18", "18", "####"),
    right("#### 18%", "18", "18", "####"),
    right("### Step 1\n#### Step 2\nso 18", "18", "18", "number"),
    right("#### 1. Eggs left\n9\n#### 2. Money made\n9 * 2 = 18", "18", "18", "number"),
    right("#### Solution\n… \n#### 18", "18", "18", "####"),
    right(r"#### 7 \boxed{18}", "18", "18"),
    # the last number
    right("So she makes $18 every day.", "18", "18", "number"),
    right("The answer is 18.", "18", "18", "number"),
    right("She has 3 and gets 15 more: 18", "18", "18", "number"),
    right("It is -18", "-18", "-18", "number"),
    right("20-2 is 18, since 36-18", "18", "18", "number"),
    right("The total is $1,234.50.", "1234.5", "2469/2", "number"),
    right("The area is 18 cm^2", "18", "18", "number"),
    right("The area is 18 m²", "18", "18", "number"),
    right("Half of it, 1/2.", "0.5", "1/2", "number"),
    right(r"It is $\frac{1}{2}$.", "1/2", "1/2", "number"),
    right("答案是18。", "18", "18", "number"),
    right("答案是１８。", "18", "18", "number"),
    wrong("Of 18 eggs, 3 break.", "18", "3", "number"),
    # separators, currency, percent
    right(r"\boxed{1,234}", "1234", "1234"),
    right(r"\boxed{1{,}234}", "1234", "1234"),
    right(r"\boxed{1,\!234}", "1234", "1234"),
    right(r"\boxed{1\,234}", "1234", "1234"),
    right("\\boxed{1\u202f234}", "1234", "1234"),
    right(r"\boxed{1 234 567}", "1234567", "1234567"),
    right(r"\boxed{1234}", "1,234", "1234"),
    right(r"\boxed{\$1{,}234.50}", "1234.5", "2469/2"),
    right(r"\boxed{\$18}", "18", "18"),
    right(r"\boxed{$18}", "18", "18"),
    right(r"\boxed{18\$}", "18", "18"),
    right(r"\boxed{-\$18}", "-18", "-18"),
    right(r"\boxed{€18}", "18", "18"),
    right(r"\boxed{12\%}", "12", "12"),
    right(r"\boxed{12%}", "12", "12"),
    right(r"\boxed{12 \%}", "12\\%", "12"),
    right(r"\boxed{12\%}", "0.12", "12"),
    right(r"\boxed{0.12}", r"12\%", "3/25"),
    wrong(r"\boxed{0.12}", "12", "3/25"),
    wrong(r"\boxed{1.2\%}", "12", "6/5"),
    # units
    right(r"\boxed{5\text{ cm}}", "5", "5"),
    right(r"\boxed{5 \text{ cm}^2}", "5", "5"),
    right(r"\boxed{5\ \mathrm{m/s}}", "5", "5"),
    right(r"\boxed{5~\text{m}^{3}}", "5", "5"),
    right(r"\boxed{18 dollars}", "18", "18"),
    right(r"\boxed{18\text{ dollars per day}}", "18", "18"),
    right(r"\boxed{90^\circ}", "90", "90"),
    right(r"\boxed{90^{\circ}}", "90", "90"),
    right(r"\boxed{90°}", r"90^\circ", "90"),
    right(r"\boxed{20 \, ^\circ\text{C}}", "20", "20"),
    right(r"\boxed{1.5 \text{ million}}", "1500000", "1500000"),
    wrong(r"\boxed{5 million}", "5", "5000000"),
    # fractions and decimals
    right(r"\boxed{\frac{1}{2}}", "0.5", "1/2"),
    right(r"\boxed{0.5}", r"\frac{1}{2}", "1/2"),
    right(r"\boxed{.5}", "1/2", "1/2"),
    right(r"\boxed{\dfrac{3}{4}}", "3/4", "3/4"),
    right(r"\boxed{\tfrac34}", "3/4", "3/4"),
    right(r"\boxed{\frac34}", "3/4", "3/4"),
    right(r"\boxed{\frac 3 4}", "0.75", "3/4"),
    right(r"\boxed{\frac{270}7}", r"\frac{270}7\text{ degrees}", "270/7"),
    right(r"\boxed{-\frac{1}{2}}", "-1/2", "-1/2"),
    right(r"\boxed{\frac{-1}{2}}", "-1/2", "-1/2"),
    right(r"\boxed{\frac{6}{8}}", "3/4", "3/4"),
    right(r"\boxed{6/8}", r"\frac34", "3/4"),
    right(r"\boxed{1\frac{1}{2}}", "3/2", "3/2"),
    right(r"\boxed{1 1/2}", "1.5", "3/2"),
    right(r"\boxed{-1\frac{1}{2}}", "-1.5", "-3/2"),
    right(r"\boxed{½}", "0.5", "1/2"),
    right(r"\boxed{0.\overline{3}}", "1/3", "1/3"),
    wrong(r"\boxed{0.333}", r"\frac{1}{3}", "333/1000"),
    wrong(r"\boxed{0.33333333333}", r"\frac{1}{3}", "33333333333/100000000000"),
    wrong(r"\boxed{\frac{2}{1}}", "1/2", "2"),
    right(r"\boxed{0.1}", "0.10", "1/10"),
    right(r"\boxed{0.30000000000000004}", "0.30000000000000004", "7500000000000001/25000000000000000"),
    wrong(r"\boxed{0.30000000000000004}", "0.3", "7500000000000001/25000000000000000"),
    wrong(r"\boxed{9007199254740993}", "9007199254740992", "9007199254740993"),
    right(r"\boxed{1.2 \times 10^{3}}", "1200", "1200"),
    right(r"\boxed{10^5}", "100000", "100000"),
    right(r"\boxed{1.2e3}", "1200", "1200"),
    # answers in an equation
    right(r"\boxed{x = 18}", "18", "18"),
    right(r"\boxed{\text{Total} = 18}", "18", "18"),
    right(r"\boxed{073}", "73", "73"),
    right(r"\boxed{73}", "073", "73"),
    # Unicode
    right(r"\boxed{１８}", "18", "18"),
    right(r"\boxed{−18}", "-18", "-18"),
    right(r"\boxed{–18}", "-18", "-18"),
    right(r"\boxed{１，２３４．５}", "1234.5", "2469/2"),
    right(r"\boxed{१८}", "18", "18"),
    right("\\boxed{\u200b18\ufeff}", "18", "18"),
    right(r"最终答案是 \boxed{18}。", "18", "18"),
]  # fmt: skip

# Only for the scorer that knows its reference is a number: letters can be nothing but units.
LOOSE = [
    right(r"\boxed{5cm}", "5", "5"),
    right(r"\boxed{6h}", "6", "6"),
    right(r"\boxed{18元}", "18", "18"),
    right(r"\boxed{Total: 18}", "18", "18"),
    right(r"\boxed{\text{Janet makes } \$18 \text{ a day}}", "18", "18"),
    right(r"\boxed{9 \times 2 = 18}", "18", "18"),
    right(r"\boxed{9 \times 2 = \$18}", "18", "18"),
    unparsed(r"\boxed{\text{eighteen}}", "18", "boxed"),
    unparsed(r"\boxed{18 \text{ or } 19}", "18", "boxed"),
    unparsed(r"\boxed{\frac{1}{0}}", "18", "boxed"),
    unparsed(r"\boxed{x+18}", "18", "boxed"),
    unparsed(r"\boxed{9^{9^{9}}}", "18", "boxed"),
    unparsed(r"\boxed{1e999999999}", "18", "boxed"),
    right("#### 18", "Janet sells 9 * 2 = <<9*2=18>>18\n#### 18", "18", "####"),
]  # fmt: skip

# Only for the scorer "math".
MATH = [
    # words and letters
    right(r"\boxed{\text{Evelyn}}", r"\text{Evelyn}", "evelyn"),
    right(r"\boxed{Evelyn}", r"\text{Evelyn}", "evelyn"),
    right(r"\boxed{\textbf{evelyn}}", r"\text{Evelyn}", "evelyn"),
    wrong(r"\boxed{\text{Navin}}", r"\text{Evelyn}", "navin"),
    wrong(r"\boxed{nylevE}", r"\text{Evelyn}", "nyleve"),
    wrong(r"\boxed{\text{odd}}", r"\text{even}", "odd"),
    right(r"\boxed{\mathrm{even}}", r"\text{even}", "even"),
    right(r"\boxed{\text{(C)}}", r"\text{(C)}", "C"),
    right(r"\boxed{C}", r"\text{(C)}", "C"),
    right(r"\boxed{(C)}", r"\text{(C)}", "C"),
    right(r"\boxed{\textbf{(C)}}", "C", "C"),
    right(r"\boxed{\textbf{(C)}\ 12}", r"\text{(C)}", "C"),
    wrong(r"\boxed{\text{(D)}}", r"\text{(C)}", "D"),
    wrong(r"\boxed{12}", r"\text{(C)}", "12"),
    # numbers that are part of more
    wrong(r"\boxed{5x}", "5", "5x"),
    wrong(r"\boxed{5\pi}", "5", r"5\pi"),
    wrong(r"\boxed{5}", r"5\pi", "5"),
    wrong(r"\boxed{5i}", "5", "5i"),
    wrong(r"\boxed{1,2}", "12", "1,2"),
    wrong(r"\boxed{(1,234)}", "1234", "(1,234)"),
    right(r"\boxed{(1,234)}", "(1, 234)", "(1,234)"),
    # roots, powers, constants
    right(r"\boxed{\sqrt{12}}", r"2\sqrt{3}", r"\sqrt{12}"),
    right(r"\boxed{11\sqrt2}", r"11\sqrt{2}", r"11\sqrt2"),
    right(r"\boxed{\frac{1}{\sqrt{3}}}", r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    wrong(r"\boxed{\sqrt{5}}", r"\sqrt{51}", r"\sqrt{5}"),
    right(r"\boxed{12π}", r"12\pi", r"12\pi"),
    wrong(r"\boxed{37.699}", r"12\pi", "37699/1000"),
    right(r"\boxed{2^{10}}", "1024", "2^{10}"),
    right(r"\boxed{\frac{\pi}{6}}", r"\frac{1}{6}\pi", r"\frac{\pi}{6}"),
    wrong(r"\boxed{\frac{\pi}{6}}", r"-\frac{\pi}{6}", r"\frac{\pi}{6}"),
    right(r"\boxed{6-5i}", "6 - 5i", "6-5i"),
    right(r"\boxed{-5i+6}", "6 - 5i", "-5i+6"),
    wrong(r"\boxed{6+5i}", "6 - 5i", "6+5i"),
    right(r"\boxed{2k+2}", "2(k+1)", "2k+2"),
    right(r"\boxed{(b+2)(a+5)}", "(a+5)(b+2)", "(b+2)(a+5)"),
    right(r"\boxed{\frac{x}{2}}", "0.5x", r"\frac{x}{2}"),
    wrong(r"\boxed{x^2}", "x^3", "x^2"),
    right(r"\boxed{\cot x}", r"\frac{\cos x}{\sin x}", r"\cot x"),
    right(r"\boxed{q-p}", "-p+q", "q-p"),
    wrong(r"\boxed{q-p}", "p - q", "q-p"),
    # equations
    right(r"\boxed{x=5}", "5", "5"),
    right(r"\boxed{5}", "x=5", "5"),
    wrong(r"\boxed{y=5}", "x=5", "5"),
    right(r"\boxed{y = 2x + 3}", "y=3+2x", "2x+3"),
    right(r"\boxed{2x - y = -3}", "y=2x+3", "2x-y=-3"),
    wrong(r"\boxed{y = 2x - 3}", "y=2x+3", "2x-3"),
    right(r"\boxed{3 + 5 = 8}", "8", "3+5=8"),
    # sets, intervals, pairs
    right(r"\boxed{[2,5)}", "[2,5)", "[2,5)"),
    right(r"\boxed{x \in [2,5)}", "[2,5)", "[2,5)"),
    right(r"\boxed{[2,5)}", r"x \in [2,5)", "[2,5)"),
    right(r"\boxed{\left[2, 5\right)}", "[2,5)", "[2,5)"),
    wrong(r"\boxed{(2,5)}", "[2,5)", "(2,5)"),
    wrong(r"\boxed{[2,5]}", "[2,5)", "[2,5]"),
    wrong(r"\boxed{[2,6)}", "[2,5)", "[2,6)"),
    right(r"\boxed{2 \le x < 5}", "[2,5)", r"2\le x<5"),
    right(r"\boxed{(-\infty, 0]}", r"(-\infty,0]", r"(-\infty,0]"),
    right(r"\boxed{(3,\infty) \cup (-\infty,2)}", r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty)\cup(-\infty,2)"),
    wrong(r"\boxed{(-\infty,2)}", r"(-\infty, 2) \cup (3, \infty)", r"(-\infty,2)"),
    right(r"\boxed{(6, 31, -1)}", "(6,31,-1)", "(6,31,-1)"),
    wrong(r"\boxed{(31, 6, -1)}", "(6,31,-1)", "(31,6,-1)"),
    right(r"\boxed{\left(3, \tfrac{\pi}{2}\right)}", r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
    right(r"\boxed{7, 3, 5}", "3, 5, 7", "7,3,5"),
    right(r"\boxed{\{3,5,7\}}", "3, 5, 7", r"\{3,5,7\}"),
    wrong(r"\boxed{3, 5}", "3, 5, 7", "3,5"),
    wrong(r"\boxed{3, 5, 7, 9}", "3, 5, 7", "3,5,7,9"),
    right(r"\boxed{1 + \sqrt{19}, 1 - \sqrt{19}}", r"1 \pm \sqrt{19}", r"1+\sqrt{19},1-\sqrt{19}"),
    right(r"\boxed{1 ± √19}", r"1 \pm \sqrt{19}", r"1\pm\sqrt{19}"),
    wrong(r"\boxed{1 + \sqrt{19}}", r"1 \pm \sqrt{19}", r"1+\sqrt{19}"),
    right(r"\boxed{x = 1 \text{ or } x = -2}", "1,-2", "x=1,x=-2"),
    # matrices
    right(r"\boxed{\begin{pmatrix} -2 \\ -14 \\ -7 \end{pmatrix}}",
          r"\begin{pmatrix}-2\\-14\\-7\end{pmatrix}", r"\begin{pmatrix}-2\\-14\\-7\end{pmatrix}"),
    right(r"\boxed{\begin{bmatrix} 0.2 \\ -3.6 \end{bmatrix}}",
          r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{bmatrix}0.2\\-3.6\end{bmatrix}"),
    wrong(r"\boxed{\begin{pmatrix} -14 \\ -2 \\ -7 \end{pmatrix}}",
          r"\begin{pmatrix} -2 \\ -14 \\ -7 \end{pmatrix}", r"\begin{pmatrix}-14\\-2\\-7\end{pmatrix}"),
    # bases
    right(r"\boxed{4210_5}", "4210_{5}", "4210_5"),
    right(r"\boxed{4210}", "4210_{5}", "4210"),
    right(r"\boxed{4210_{\text{five}}}", "4210_{5}", "4210_5"),
    wrong(r"\boxed{4210_6}", "4210_{5}", "4210_6"),
    wrong(r"\boxed{421_5}", "4210_{5}", "421_5"),
    wrong(r"\boxed{555}", "4210_{5}", "555"),
    # units and money of MATH
    right(r"\boxed{864}", r"864 \mbox{ inches}^2", "864"),
    right(r"\boxed{15\text{ cm}^2}", r"15\mbox{ cm}^2", "15"),
    right(r"\boxed{5.4}", r"5.4 \text{ cents}", "27/5"),
    right(r"\boxed{32348}", r"\$32,\!348", "32348"),
    right(r"\boxed{11111111100}", r"11,\! 111,\! 111,\! 100", "11111111100"),
    right(r"\boxed{137.5}", r"137 \frac{1}{2}", "275/2"),
    right(r"\boxed{0.0000672}", ".0000672", "21/312500"),
    # without a box
    right(r"#### \frac{3}{4}", "3/4", "3/4", "####"),
    right("#### $x^2 + 1$", "1+x^2", "x^2+1", "####"),
    wrong("The answer is $x^2+1$", "x^2+1", "1", "number"),
    # what nobody can compare
    wrong(r"\boxed{\frac{1}{0}}", "5", r"\frac{1}{0}"),
    wrong(r"\boxed{???}", "5", "???"),
    wrong(r"\boxed{\text{no solution}}", "5", "no solution"),
    wrong(r"\boxed{\undefined{command}}", "5", r"\undefined{command}"),
]  # fmt: skip
