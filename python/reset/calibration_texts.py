"""Texts on which input scales are measured when the caller brings none: a little of everything a reasoning model writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reset.text import Tokenizer

#: Written for this package. Arithmetic, algebra, code, prose, lists and a second language, with blank lines between steps.
TEXTS: tuple[str, ...] = (
    "A farmer has 17 crates with 24 apples in each. He sells 9 crates, then gives 13 apples to a neighbour. How many apples are left?\n\n"
    "First, the number of apples: 17 × 24 = 17 × 20 + 17 × 4 = 340 + 68 = 408.\n\n"
    "He sells 9 crates: 9 × 24 = 216 apples, so 408 − 216 = 192 remain.\n\n"
    "He gives away 13: 192 − 13 = 179.\n\nLet me check: 8 crates hold 192 apples, and 192 − 13 is 179. Yes.\n\n"
    "The answer is \\boxed{179}.",
    "Solve x^2 - 5x + 6 = 0.\n\nWe look for two numbers whose product is 6 and whose sum is 5: these are 2 and 3. Hence\n"
    "x^2 - 5x + 6 = (x - 2)(x - 3), and x = 2 or x = 3.\n\nWait, check by substitution: 4 - 10 + 6 = 0 and 9 - 15 + 6 = 0. Both hold.\n",
    "def gcd(a: int, b: int) -> int:\n    while b:\n        a, b = b, a % b\n    return a\n\n\nfor pair in [(12, 18), (35, 64), (0, 7)]:\n"
    '    print(pair, "->", gcd(*pair))\n',
    "The harbour was quiet that morning. Two fishermen mended their nets on the quay while the ferry, late as ever, turned slowly behind "
    "the breakwater. Nobody spoke of the storm; it had taken three roofs and the old lighthouse lamp, and there was work to do.\n",
    "1. Read the question twice.\n2. Write down what is given and what is asked.\n3. Estimate the answer before you compute it.\n"
    "4. Compute, and keep the units: 3.5 km = 3,500 m; 0.25 h = 15 min.\n5. Compare with the estimate.\n",
    "Ein Zug fährt um 8:15 Uhr ab und kommt um 11:05 Uhr an. Wie lange dauert die Fahrt? Von 8:15 bis 11:15 sind es drei Stunden, also "
    "sind es zehn Minuten weniger: 2 Stunden und 50 Minuten.\n",
)


def calibration_ids(tokenizer: Tokenizer | None, texts: Sequence[str] | None) -> list[list[int]] | None:
    """Token ids to measure on: ``texts``, else the built-in ones. None without a tokenizer: the core then draws seeded random ids."""
    if texts is not None and (not isinstance(texts, Collection) or isinstance(texts, (str, bytes, Mapping))):
        raise TypeError(f"calibration is {type(texts).__name__}: give a list of texts, 'dynamic', or None for the built-in ones")
    if texts is not None and not (len(texts) and all(isinstance(text, str) and text for text in texts)):
        raise ValueError("calibration is a list of non-empty texts, or None for the built-in ones")
    if tokenizer is None:
        if texts is not None:
            raise ValueError("calibration texts need a tokenizer, and the checkpoint has no tokenizer.json; leave calibration=None")
        return None
    return [tokenizer.encode(text) for text in (TEXTS if texts is None else texts)]
