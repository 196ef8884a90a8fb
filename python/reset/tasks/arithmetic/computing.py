"""One operation on paper: in one go, or taken apart into easy ones, in several ways.

An operation is *easy* when a child does it at sight: no carry or borrow, a factor from the tables, a round number. Others are *hard*:
two-digit sums with a carry, products with two digits, long divisions. A trace writes a hard operation either *whole*
(``47+38=85``) or decomposed (``40+30=70, 7+8=15, 70+15=85``).

>>> [equation(step) for step in rounds_up("+", 47, 38)]
['47+40=87', '87-2=85']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reset.tasks.arithmetic.story import LARGEST, Operation, apply

if TYPE_CHECKING:
    from collections.abc import Callable

    from reset.tasks.arithmetic.draw import Draw

Steps = list[Operation]


def operation(sign: str, left: int, right: int) -> Operation:
    """An operation with its result."""
    return Operation(sign, left, right, apply(sign, left, right))


def equation(done: Operation) -> str:
    """``47+38=85``"""
    return f"{done.left}{done.sign}{done.right}={done.result}"


def is_hard(sign: str, left: int, right: int) -> bool:
    """Whether the operation is worth taking apart.

    >>> is_hard("+", 47, 38), is_hard("+", 41, 38), is_hard("*", 7, 8), is_hard("*", 7, 18), is_hard("/", 56, 7), is_hard("/", 96, 4)
    (True, False, False, True, False, True)
    """
    if sign == "*":
        small, large = sorted((left, right))
        return large > 10 and small > 1 and not _round(large) and not (_round(small) and large < 10)
    if sign == "/":
        return left // right > 10 and not _round(left // right)
    if min(left, right) < 10 or _round(right) or (sign == "+" and _round(left)):
        return False
    a, b = left, right
    while a or b:
        if a % 10 + b % 10 > 9 if sign == "+" else a % 10 < b % 10:
            return True
        a, b = a // 10, b // 10
    return False


def _round(n: int) -> bool:
    """One digit and zeros."""
    while n % 10 == 0:
        n //= 10
    return n < 10


def _parts(n: int) -> list[int]:
    """342 → [340, 2]"""
    return [part for part in (n - n % 10, n % 10) if part]


def columns(sign: str, left: int, right: int) -> Steps:
    """Tens with tens, ones with ones; a product or quotient likewise."""
    if sign == "+" and left < 100 and right < 100 and left % 10 and right % 10:
        tens, ones = operation("+", left - left % 10, right - right % 10), operation("+", left % 10, right % 10)
        return [tens, ones, operation("+", tens.result, ones.result)]
    if sign == "*":
        kept, split = (left, right) if len(_parts(right)) > 1 else (right, left)
        if len(_parts(split)) < 2:
            return []
        parts = [operation("*", kept, part) if kept == left else operation("*", part, kept) for part in _parts(split)]
        return [*parts, *_summed([part.result for part in parts])]
    if sign == "/":
        quotient = left // right
        parts = [operation("/", part * right, right) for part in (quotient - quotient % 10, quotient % 10) if part]
        if len(parts) < 2:
            return []
        return [*parts, *_summed([part.result for part in parts])]
    return []


def _summed(values: list[int]) -> Steps:
    done: Steps = []
    total = values[0]
    for value in values[1:]:
        done.append(operation("+", total, value))
        total = done[-1].result
    return done


def by_parts(sign: str, left: int, right: int) -> Steps:
    """The second operand in two parts: 83 − 47 as 83 − 40, then − 7."""
    if sign not in "+-":
        return []
    done: Steps = []
    value = left
    for part in _parts(right):
        done.append(operation(sign, value, part))
        value = done[-1].result
    return done if len(done) > 1 else []


def rounds_up(sign: str, left: int, right: int) -> Steps:
    """The second operand rounded up to tens, then put right: 47+38 as 47+40, then − 2."""
    up = -right % 10
    if not 1 <= up <= 4 or right < 10:
        return []
    if sign == "+" and left + right + up <= LARGEST:
        first = operation("+", left, right + up)
        return [first, operation("-", first.result, up)]
    if sign == "-" and left >= right + up:
        first = operation("-", left, right + up)
        return [first, operation("+", first.result, up)]
    if sign == "*" and left * (right + up) <= LARGEST and left < 100:
        first, second = operation("*", left, right + up), operation("*", left, up)
        return [first, second, operation("-", first.result, second.result)]
    return []


def counts_up(sign: str, left: int, right: int) -> Steps:
    """A difference from below: 83 − 47 as 47+3=50, 50+33=83, 3+33=36."""
    up = -right % 10
    if sign != "-" or not up or right + up >= left:
        return []
    rest = left - right - up
    return [operation("+", right, up), operation("+", right + up, rest), operation("+", up, rest)]


def by_multiples(sign: str, left: int, right: int) -> Steps:
    """A quotient through products: 96/4 as 4*20=80, 96-80=16, 16/4=4, 20+4=24."""
    if sign != "/" or left // right < 11 or left // right % 10 == 0:
        return []
    quotient = left // right
    tens = quotient - quotient % 10
    first = operation("*", right, tens)
    rest = operation("-", left, first.result)
    return [first, rest, operation("/", rest.result, right), operation("+", tens, quotient % 10)]


WAYS: tuple[Callable[[str, int, int], Steps], ...] = (columns, by_parts, rounds_up, counts_up, by_multiples)


def decomposed(draw: Draw, sign: str, left: int, right: int) -> Steps:
    """The operation taken apart in one of the ways that fit it; ``[]`` where none does."""
    found = [steps for steps in (way(sign, left, right) for way in WAYS) if steps]
    return draw.pick(found) if found else []


def inverse(draw: Draw, done: Operation) -> Operation:
    """The operation that takes a result back: the check of 47+38=85 is 85-38=47."""
    sign, left, right, result = done[:4]
    first = draw.chance(0.5)
    if sign == "+":
        return operation("-", result, right if first else left)
    if sign == "*":
        return operation("/", result, right if first else left)
    if sign == "-":
        return operation("+", *((result, right) if first else (right, result)))
    return operation("*", *((result, right) if first else (right, result)))
