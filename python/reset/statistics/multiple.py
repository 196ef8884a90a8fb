"""Several contrasts at once: Holm's correction (Holm 1979, Scandinavian Journal of Statistics 6:65).

Sort the m p-values; multiply the smallest by m, the next by m − 1, and so on; never let one fall below its predecessor. Calling the
adjusted values at most 0.05 significant keeps the chance of any false one at 5 %, however the tests depend on each other.

>>> from reset.statistics import holm
>>> holm([0.01, 0.04, 0.03])
[0.03, 0.06, 0.06]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given; none for none.

    Raises:
        ValueError: a value outside [0, 1].
    """
    values = [float(p) for p in p_values]
    for index, p in enumerate(values):
        if not 0 <= p <= 1:
            raise ValueError(f"p_values: {p} at index {index} is not a probability")
    adjusted = [0.0] * len(values)
    floor = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        floor = max(floor, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = floor
    return adjusted
