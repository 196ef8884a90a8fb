"""Gold reasoning: a correct way from a problem to its answer, drawn anew each time.

A trace says what is asked (and what does not matter), makes one step for each operation, and closes; blank lines separate the steps.
Levels 1 and 2 also list what is given, level 1 goes back once, so that every trace has at least four steps. What is drawn: the order of
independent steps, wording, operand order, whole or decomposed computing and in which way, checks, and recaps::

    opening, step ─► step ─► … ─► closing            thinking
                                    └─► \\boxed{85}   final

Every equation in a trace is true. With a small chance a step first tries a wrong value and rejects it by a true check
(``83-38=45, not 47``): the only way to learn that a check can fail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from reset.tasks.arithmetic.computing import decomposed, equation, inverse, is_hard, operation
from reset.tasks.arithmetic.draw import Draw, Template, sentences
from reset.tasks.arithmetic.story import LARGEST, QUESTIONS, Operation, Story
from reset.tasks.arithmetic.telling import PARTS, count

if TYPE_CHECKING:
    from collections.abc import Mapping


DRAWS = 16
"""Traces drawn to find one within the limit; then as many with every operation whole; then the shortest of all counts."""

_TOKEN = re.compile(r" ?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+\n*|\n+| ")


def tokens(text: str) -> int:
    """Length in tokens of a small tokenizer: words with their space, single digits, marks, blank lines with the mark before.

    >>> tokens("So Ana has 85.\\n\\nThen")
    8
    """
    return len(_TOKEN.findall(text))


class Trace(NamedTuple):
    """A gold response: the thinking, and the message after it."""

    thinking: str
    final: str

    @property
    def text(self) -> str:
        """``<think>…</think>`` and the message, as Qwen3's chat template writes them."""
        return f"<think>\n{self.thinking}\n</think>\n\n{self.final}"


@dataclass(frozen=True)
class Style:
    """How traces compute.

    Attributes:
        share_whole: chance that a hard operation is written whole instead of decomposed.
        checks: chance that a step checks its result.
        slips: chance that a hard sum or difference first tries a wrong value, and finds out.
        limit: length that question and trace should keep, by :func:`tokens`; a longer trace is drawn again.
    """

    share_whole: float = 0.5
    checks: float = 0.15
    slips: float = 0.03
    limit: int = 460

    def __post_init__(self) -> None:
        for name in ("share_whole", "checks", "slips"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"{name} = {value!r} is not possible: give a probability from 0 to 1")


WHY: Mapping[str, Template] = {
    kind: Template(text)
    for kind, text in {
        "groups": "[there are|<H> has] <n> <boxes> [with|of] <m> [each|in each], so we [multiply|take <n> times <m>]",
        "bought": "[there are|<H> gets] <n> <boxes> [with|of] <m> [each|in each], so we [multiply|take <n> times <m>]",
        "more": "<A> has <a>[, and| and] <H> [has |]<n> more, [so we|we] [add|take the sum]",
        "fewer": "<A> has <a>[, and| but| and] <H> [has |]<n> [fewer|less], [so we|we] [subtract|take away]",
        "times": "<A> has <a>[, and| and] <H> [has |]<times> [as many|that], [so we|we] [multiply|take the product]",
        "part": "<A> has <a>[, and| and] <H> [has |][only |]<part> of [that|it], [so we|we] [divide|split] by <n>",
        "both": "<A> has <a> and <B> [has |]<b>[, and| and] <H> has [both|as many as both|the two together], [so we|we] [add|take the sum]",
        "gap": "<A> has <a> and <B> [has |]<b>[, and| and] <H> has the [difference|gap], [so we|we] [subtract|take away]",
        "gains": "[before it was|<H> [has|had]] <a>[, then| and then] [come |]<n> more, [so we|we] [add|take the sum]",
        "loses": "[before it was|<H> [has|had]] <a>[, then| and then] <n> [go|are gone], [so we|we] [subtract|take away]",
        "gains_groups": "[before it was|<H> [has|had]] <a>[, and| and] [now |]<b> [come|are new], [so we|we] [add|take the sum]",
        "packs": "[there are|<H> has] <a>, <n> [for|in] each [one|of the <boxes>], [so we|we] [divide|split]",
        "shared": "[there are|<H> has] <a> for <n> [friends|of them], [so we|we] [divide|split]",
        "price": "[there are|<H> sells] <a>, for <n> coins each, [so we|we] [multiply|take the product]",
        "total": "<A> has <a>[, and| and] <B> [has |]<b>, [so we|we] [add|take the sum]",
        "total_rest": "[the others have|so far it is] <a>[, and| and] <B> [has |]<b>, [so we|we] [add|take the sum]",
        "gap_asked": "<A> has <a>[, and| and|, but] <B> [has |]<b>, [so we|we] [subtract|take away]",
    }.items()
}

LEAD = Template(
    "[[Next|Then|Now|After that|And now], [on to|we take|look at] <what>[:|.]|[What about|How about|Now for] <what>?|<what>:|"
    "[Next|Then|Now] [comes|it is] <what>[:|.]] "
)
WHOLE = Template("[:|. [That gives|This is|We get|It is]] <work>.")
APART = Template(". [In parts|Step by step|Slowly|In pieces]: <work>.")
RESULT = Template("[So|Thus|Hence|That means] <what> [|exactly |just ]<r>.")
CHECK = Template("[Check|To check|Test|Going back]: <work>, [right|good|fine|it fits].")
SLIP = Template(". [Maybe|Perhaps|Could it be] <wrong>? [Check|Test]: <work>, [not <want>|but we need <want>], so no")

OPENING = Template(
    "[[We|I] [want|need|look for]|[The question is|We are asked for|I am asked for]] <asked>. "
    "[[For that|For this|To get there], [we|I] [go|work] [step by step|one by one|in <n>]"
    "[|, [starting|beginning] with <first>].|[First|To begin], [we|I] [take|need|look at] <first>.|] <aside>"
)
ASIDE = Template("[We|I] [do not need|can skip|ignore] <what>. ")
GIVEN = Template(
    "[We know|Given is|The text says] that <facts>. [[All else|The rest] follows[| from this].|[With|From] this we [begin|go on|start].]"
)
CLOSING = Template(
    "[So|Finally,|In the end,|All in all,|So now] <asked> [is|comes to|must be] <r>. <recap>"
    "[[That|This] [was|is] [what we wanted|the answer|what was asked].|[We are|I am] done.|Done.|]"
)
RECAP = Template("[Looking back|To sum up|Once more]: <values>. ")
FINAL = Template("[The|So the|Thus the] [answer|result] is \\boxed{<r>}.")


def reason(story: Story, question: str, draw: Draw, style: Style) -> Trace:
    """One gold response to the story's question, if possible within the style's limit."""
    room = style.limit - tokens(question)
    shorter = replace(style, share_whole=1.0, checks=0.0)
    found: list[tuple[int, Trace]] = []
    for attempt in range(2 * DRAWS):
        trace = _drawn(story, draw, style if attempt < DRAWS else shorter)
        found.append((tokens(trace.text), trace))
        if found[-1][0] <= room:
            return trace
    return min(found, key=lambda item: item[0])[1]


def _drawn(story: Story, draw: Draw, style: Style) -> Trace:
    operations, values = story.operations, story.values
    answer = values[-1]
    opening = _opening(story, draw)
    steps = [_given(story, draw)] if story.level < 3 else []
    for index in _order(story, draw):
        steps += _steps(story, index, operations[index], draw, style)
    if story.level == 1:
        steps.append(_certain(operations, draw))
    steps[0] = f"{opening} {steps[0]}"
    steps.append(_closing(story, values, draw))
    thinking = "\n\n".join(sentences(step) for step in steps)
    return Trace(thinking, FINAL.expand(draw, r=answer))


def _order(story: Story, draw: Draw) -> list[int]:
    """The amounts that need computing, each after those it refers to, otherwise in any order."""
    waiting = [index for index in range(len(story.amounts)) if story.operations[index]]
    ready_after = {index: set(story.amounts[index].refs) & set(waiting) for index in waiting}
    found: list[int] = []
    while waiting:
        index = draw.pick([i for i in waiting if ready_after[i] <= set(found)])
        waiting.remove(index)
        found.append(index)
    return found


def _asked(story: Story) -> str:
    asked = story.amounts[-1]
    people = [story.amounts[ref].holder for ref in asked.refs]
    things = story.thing
    return {
        "of": f"the number of {things} of {asked.holder}",
        "total": f"the number of {things} of {', '.join(people[:-1])} and {people[-1]}",
        "gap_asked": f"the difference between {people[0]} and {people[-1]}",
        "packs": f"the number of {story.container[1]}",
        "shared": f"the number of {things} for each friend",
        "price": "the number of coins",
    }[asked.kind]


def _opening(story: Story, draw: Draw) -> str:
    asides = []
    for kind, name, _, what in story.distractors:
        if draw.chance(0.5):
            about = {"age": f"the age of {name}", "other": f"the {what}", "house": f"the house of {name}"}
            asides.append(ASIDE.expand(draw, what=about.get(kind, f"the {story.thing} of {name}")))
    first = draw.pick([amount.holder for amount in story.amounts if not amount.refs])
    level = story.level
    parts = "one step" if level == 1 else f"{level} steps"
    return OPENING.expand(draw, asked=_asked(story), first=first, n=parts, aside="".join(asides))


def _given(story: Story, draw: Draw) -> str:
    facts = []
    for amount in story.amounts:
        if amount.kind == "given":
            facts.append(f"{amount.holder} has {amount.numbers[0]}")
        elif amount.kind == "groups":
            facts.append(f"{amount.holder} has {amount.numbers[0]} {story.container[1]} of {amount.numbers[1]}")
    return GIVEN.expand(draw, facts=" and ".join(draw.shuffled(facts)))


def _steps(story: Story, index: int, operations: list[Operation], draw: Draw, style: Style) -> list[str]:
    """The paragraphs of one amount: one for each of its operations."""
    amount = story.amounts[index]
    if amount.kind == "gains_groups":
        bought, sum_ = operations
        return [
            _step(story, index, "bought", bought, f"{amount.holder} gets", draw, style),
            _step(story, index, "gains_groups", sum_, f"{amount.holder} has", draw, style),
        ]
    if amount.kind == "total" and len(amount.refs) == 3:
        values = story.values
        a, b, c = draw.shuffled(amount.refs)
        first = operation("+", values[a], values[b])._replace(of_left=a, of_right=b)
        second = operation("+", first.result, values[c])._replace(of_right=c)
        names = f"{story.amounts[a].holder} and {story.amounts[b].holder} have"
        return [
            _step(story, index, "total", first, names, draw, style),
            _step(story, index, "total_rest", second, "all three have", draw, style),
        ]
    says = {
        "total": "together they have",
        "gap_asked": "the difference is",
        "packs": f"the number of {story.container[1]} is",
        "shared": "each friend gets",
        "price": f"{amount.holder} gets",
    }.get(amount.kind, f"{amount.holder} has")
    return [_step(story, index, amount.kind, operations[0], says, draw, style)]


def _step(story: Story, index: int, kind: str, done: Operation, says: str, draw: Draw, style: Style) -> str:
    amount = story.amounts[index]
    a = "" if done.of_left is None else story.amounts[done.of_left].holder
    b = "" if done.of_right is None else story.amounts[done.of_right].holder
    lead = LEAD.expand(draw, what="the question" if amount.kind in QUESTIONS else amount.holder)
    why = WHY[kind].expand(
        draw, H=amount.holder, A=a, B=b, a=done.left, b=done.right, n=done.left if kind in ("groups", "bought") else done.right,
        m=done.right, times=count(done.right), part=PARTS.get(done.right, ""), things=story.thing, boxes=story.container[1],
    )  # fmt: skip
    text = f"{lead}{why}{_work(done, draw, style)} "
    text += RESULT.expand(draw, what=says, r=done.result)
    if draw.chance(style.checks):
        text += " " + CHECK.expand(draw, work=equation(inverse(draw, done)))
    return text


def _work(done: Operation, draw: Draw, style: Style) -> str:
    sign, left, right = done.sign, done.left, done.right
    if sign in "+*" and draw.chance(0.5):
        left, right = right, left
    if not is_hard(sign, left, right):
        return WHOLE.expand(draw, work=equation(operation(sign, left, right)))
    slip = _slip(operation(sign, left, right), draw) if sign in "+-" and draw.chance(style.slips) else ""
    parts = [] if draw.chance(style.share_whole) else decomposed(draw, sign, left, right)
    if not parts:
        return slip + WHOLE.expand(draw, work=equation(operation(sign, left, right)))
    text = equation(parts[0])
    for part in parts[1:]:
        text += draw.pick((", ", ", then ", ", and ")) + equation(part)
    return slip + APART.expand(draw, work=text)


def _slip(done: Operation, draw: Draw) -> str:
    """A near miss, tried and rejected by a true equation; nothing where no near miss can be checked."""
    wrong = done.result + draw.pick((-10, -1, 1, 10))
    if not 1 <= wrong <= LARGEST:
        return ""
    if done.sign == "+" and wrong >= done.right:
        check, want = operation("-", wrong, done.right), done.left
    elif done.sign == "-" and wrong + done.right <= LARGEST:
        check, want = operation("+", wrong, done.right), done.left
    else:
        return ""
    return SLIP.expand(draw, wrong=wrong, work=equation(check), want=want)


def _certain(operations: list[list[Operation]], draw: Draw) -> str:
    """A step of its own that takes the only operation back."""
    done = next(found[0] for found in operations if found)
    back = equation(inverse(draw, done))
    return Template(
        "[[We|I] [check|test] [this|that]|Is [this|that] right|To be sure, [we|I] go back]: <work>. "
        "[[This|That] is [what the text says|as it should be]|[This|That] [fits|agrees] with the text][.|, so the step was right.]"
    ).expand(draw, work=back)


def _closing(story: Story, values: list[int], draw: Draw) -> str:
    named = [
        f"{amount.holder} {value}"
        for amount, value in zip(story.amounts, values, strict=True)
        if amount.kind not in QUESTIONS and amount.kind != "given"
    ][-3:]
    recap = RECAP.expand(draw, values=", ".join(named)) if named and story.level < 5 and draw.chance(0.4) else ""
    return CLOSING.expand(draw, asked=_asked(story), r=values[-1], recap=recap)
