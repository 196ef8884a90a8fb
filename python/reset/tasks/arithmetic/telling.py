"""A story as the text of a problem: facts in sentences, then the question.

What one holder has, and what happens to it, is told in one breath; these units come in the order of the story or shuffled, with the
facts that do not matter in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reset.tasks.arithmetic.draw import Draw, Template, sentences
from reset.tasks.arithmetic.story import EVENTS, QUESTIONS, Amount, Story

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 6: "a sixth", 7: "a seventh", 8: "an eighth", 9: "a ninth"}

FACTS: Mapping[str, Template] = {
    kind: Template(text)
    for kind, text in {
        "given": "<H> [has|has|owns] <n> <things>.",
        "groups": "[<H> [has|owns] <n> <boxes> [with|of] <m> <things> each.|There are <m> <things> in each of the <n> <boxes> of <H>.]",
        "more": "<H> has [<n> more <things> than <A>|<n> <things> more than <A>].",
        "fewer": "<H> has [<n> fewer <things> than <A>|<n> <things> fewer than <A>].",
        "times": "<H> [has|owns] <times> as many <things> as <A>.",
        "part": "<H> [has|owns] <part> [of the <things> of <A>|of what <A> has].",
        "halves": "<H> [has|owns] half as many <things> as <A>.",
        "both": "<H> has as many <things> as <A> and <B> [together|have together].",
        "gap": "[The number of <things> of <H> is|<H> has] the difference between those of <A> and <B>.",
        "gains": "Then <H> [finds|buys|gets] <n> more[| <things>].",
        "loses": "Then <H> [loses|sells|gives away] <n> [of them|<things>].",
        "gains_groups": "Then <H> [buys|gets] <n> <boxes> [with|of] <m> <things> each.",
    }.items()
}

ASKED: Mapping[str, Template] = {
    kind: Template(text)
    for kind, text in {
        "of": "[How many <things> does <H> have[| now]?|What is the number of <things> that <H> has[| now]?]",
        "total": "How many <things> do <all> have [together|in total|in all]?",
        "gap_asked": "How many more <things> does <A> have than <B>?",
        "packs": "<H> puts all <things> into <boxes> of <n>. How many <boxes> [are needed|does <H> fill]?",
        "shared": "<H> shares all <things> [evenly|equally] among <n> friends. How many <things> does each friend get?",
        "price": "<H> sells all <things> for <n> coins each. How many coins does <H> get?",
    }.items()
}

ASIDES: Mapping[str, Template] = {
    kind: Template(text)
    for kind, text in {
        "age": "<X> is <n> years old.",
        "other": "<X> [has|owns] <n> <what>[| too].",
        "more": "<X> has <n> more <things> than <what>.",
        "fewer": "<X> has <n> fewer <things> than <what>.",
        "house": "The house of <X> has <n> [rooms|windows].",
    }.items()
}


def count(n: int) -> str:
    """``n`` times, as people write it."""
    return "twice" if n == 2 else f"{n} times"


def units(story: Story) -> list[list[int]]:
    """Amounts that are told together: a holder's first amount and the events that follow."""
    found: list[list[int]] = []
    for index, amount in enumerate(story.amounts):
        if amount.kind in QUESTIONS:
            continue
        if amount.kind in EVENTS:
            next(unit for unit in found if amount.refs[0] in unit).append(index)
        else:
            found.append([index])
    return found


def told(story: Story, draw: Draw, shuffle: float) -> str:
    """The text of the problem. ``shuffle``: chance that the units come in any order."""
    parts = [" ".join(_fact(story, story.amounts[index], draw) for index in unit) for unit in units(story)]
    if draw.chance(shuffle):
        parts = draw.shuffled(parts)
    for distractor in story.distractors:
        parts.insert(draw.below(len(parts) + 1), _aside(story, distractor, draw))
    return sentences(" ".join([*parts, _question(story, draw)]))


def _fact(story: Story, amount: Amount, draw: Draw) -> str:
    refs = [story.amounts[ref].holder for ref in amount.refs]
    numbers = (*amount.numbers, 0, 0)
    kind = "halves" if amount.kind == "part" and numbers[0] == 2 and draw.chance(0.5) else amount.kind
    if kind == "both":
        refs = draw.shuffled(refs)
    return FACTS[kind].expand(
        draw,
        H=amount.holder,
        A=refs[0] if refs else "",
        B=refs[1] if len(refs) > 1 else "",
        n=numbers[0],
        m=numbers[1],
        times=count(numbers[0]),
        part=PARTS.get(numbers[0], ""),
        things=story.thing,
        boxes=story.container[1],
    )


def _aside(story: Story, distractor: tuple[str, str, int, str], draw: Draw) -> str:
    kind, name, number, what = distractor
    return ASIDES[kind].expand(draw, X=name, n=number, what=what, things=story.thing)


def _question(story: Story, draw: Draw) -> str:
    asked = story.amounts[-1]
    people = [story.amounts[ref].holder for ref in asked.refs]
    ordered = people if asked.kind == "gap_asked" else draw.shuffled(people)
    return ASKED[asked.kind].expand(
        draw,
        H=asked.holder,
        A=ordered[0],
        B=ordered[-1],
        all=" and ".join(ordered) if len(ordered) < 3 else f"{ordered[0]}, {ordered[1]} and {ordered[2]}",
        n=asked.numbers[0] if asked.numbers else 0,
        things=story.thing,
        boxes=story.container[1],
    )
