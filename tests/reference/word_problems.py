"""Reads the English of a generated word problem and solves it, knowing nothing of how it was made.

Every sentence is matched against the forms that a reader would know; a sentence of another form is an error. What people own is worked
out by filling in until nothing changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

ONE = r"([A-Z][a-z]+)"
PARTS = ["half", "a third", "a quarter", "a fifth", "a sixth", "a seventh", "an eighth", "a ninth"]

Rule = tuple[str, Callable[..., Fraction]]


def solve(question: str) -> Fraction:
    """The answer to the question, from its text alone."""
    sentences = [s.strip() for s in re.findall(r"[^.?]+[.?]", question)]
    asked = sentences[-1]
    thing = _thing(asked, sentences)
    owners: dict[str, list[tuple[str, ...]]] = {}
    coins: tuple[str, int] | None = None
    for sentence in sentences[:-1]:
        match = re.fullmatch(rf"{ONE} (?:puts|shares|sells) all {thing} .*?(\d+).*\.", sentence)
        if match:
            coins = (match[1], int(match[2]))
            continue
        read = _fact(sentence, thing)
        if read:
            owner, *how = read
            owners.setdefault(owner, []).append(tuple(how))
    known: dict[str, Fraction] = {}
    for _ in owners:
        for owner, facts in owners.items():
            if owner not in known:
                value = _value(facts, known)
                if value is not None:
                    known[owner] = value
    return _answer(asked, known, coins)


def _thing(asked: str, sentences: list[str]) -> str:
    for sentence in (*sentences[-2:], asked):
        match = re.search(r"all ([a-z]+) ", sentence)
        if match:
            return match[1]
    match = re.search(r"(?:How many more|How many|number of) ([a-z]+) ", asked)
    assert match, asked
    return match[1]


def _fact(sentence: str, thing: str) -> tuple[str, ...] | None:
    n = r"(\d+)"
    forms = [
        (rf"{ONE} (?:has|owns) {n} {thing}\.", ("is",)),
        (rf"{ONE} (?:has|owns) {n} [a-z]+ (?:with|of) {n} {thing} each\.", ("groups",)),
        (rf"{ONE} has {n} (?:more {thing}|{thing} more) than {ONE}\.", ("more",)),
        (rf"{ONE} has {n} (?:fewer {thing}|{thing} fewer) than {ONE}\.", ("fewer",)),
        (rf"{ONE} (?:has|owns) (twice|{n} times) as many {thing} as {ONE}\.", ("times",)),
        (rf"{ONE} (?:has|owns) ({'|'.join(PARTS)}) (?:of the {thing} of {ONE}|of what {ONE} has|as many {thing} as {ONE})\.", ("part",)),
        (rf"{ONE} has as many {thing} as {ONE} and {ONE} (?:have )?together\.", ("sum",)),
        (rf"{ONE} has the difference between those of {ONE} and {ONE}\.", ("gap",)),
        (rf"The number of {thing} of {ONE} is the difference between those of {ONE} and {ONE}\.", ("gap",)),
        (rf"Then {ONE} (?:finds|buys|gets) {n} more(?: {thing})?\.", ("gains",)),
        (rf"Then {ONE} (?:loses|sells|gives away) {n} (?:of them|{thing})\.", ("loses",)),
        (rf"Then {ONE} (?:buys|gets) {n} [a-z]+ (?:with|of) {n} {thing} each\.", ("gains groups",)),
    ]
    for form, kind in forms:
        match = re.fullmatch(form, sentence)
        if match:
            owner, *rest = (group for group in match.groups() if group is not None)
            return (owner, *kind, *rest)
    match = re.fullmatch(rf"There are {n} {thing} in each of the {n} [a-z]+ of {ONE}\.", sentence)
    if match:
        return match[3], "groups", match[1], match[2]
    aside = rf"{ONE} is \d+ years old\.|{ONE} (?:has|owns) \d+ (?!{thing})[a-z]+(?: too)?\.|The house of {ONE} has \d+ (?:rooms|windows)\."
    assert re.fullmatch(aside, sentence), f"cannot read {sentence!r}"
    return None


def _value(facts: list[tuple[str, ...]], known: dict[str, Fraction]) -> Fraction | None:
    value = None
    for kind, *rest in facts:
        numbers = [Fraction(word) for word in rest if word.isdigit()]
        people = [word for word in rest if re.fullmatch(ONE, word)]
        if any(person not in known for person in people):
            return None
        others = [known[person] for person in people]
        if kind == "is":
            value = numbers[0]
        elif kind == "groups":
            value = numbers[0] * numbers[1]
        elif kind == "more":
            value = others[0] + numbers[0]
        elif kind == "fewer":
            value = others[0] - numbers[0]
        elif kind == "times":
            value = others[0] * (2 if rest[0] == "twice" else numbers[0])
        elif kind == "part":
            value = others[0] / (PARTS.index(rest[0]) + 2)
        elif kind == "sum":
            value = others[0] + others[1]
        elif kind == "gap":
            value = others[0] - others[1]
        else:
            assert value is not None, f"{kind} before anything is owned"
            change = numbers[0] * numbers[1] if kind == "gains groups" else numbers[0]
            value = value - change if kind == "loses" else value + change
    return value


def _answer(asked: str, known: dict[str, Fraction], action: tuple[str, int] | None) -> Fraction:
    if action:
        owner, number = action
        return known[owner] * number if "coins" in asked else known[owner] / number
    people = [name for name in re.findall(ONE, asked) if name not in ("How", "What")]
    if asked.startswith("How many more"):
        return known[people[0]] - known[people[1]]
    return sum((known[name] for name in people), Fraction(0))
