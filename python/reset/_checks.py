"""Arguments of public functions, checked so that the error names the argument, says what was found and what would work."""

from __future__ import annotations

import operator
import os
from typing import Any

import numpy as np


def integer(name: str, value: object, *, low: int = 1, high: int = 1 << 63) -> int:
    """``value`` as an int from ``low`` on and below ``high``; numpy's integers count, bools do not."""
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        number = operator.index(value)
        if low <= number < high:
            return number
    raise ValueError(f"{name} = {value!r} is not possible: give an integer from {low} to {high - 1}")


def number(name: str, value: object, *, wanted: str = "a number") -> float:
    """``value`` as a float; numbers of numpy and arrays of no dimension count, bools and texts do not. Who knows its range checks it.

    A whole number beyond float64 becomes infinite, which every range refuses.
    """
    scalar: Any = value
    found = scalar.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else scalar
    if isinstance(found, (int, float, np.floating)) and not isinstance(found, bool):
        try:
            return float(found)
        except OverflowError:
            return float("inf") if found > 0 else float("-inf")
    raise TypeError(f"{name} = {value!r} is not possible: give {wanted}")


def flag(name: str, value: object, *, wanted: str = "True or False") -> bool:
    """``value`` as a bool; numpy's count, numbers and texts do not."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{name} = {value!r} is not possible: give {wanted}")


def text(name: str, value: object) -> str:
    """``value`` if it is a str; which ones are possible is said by who knows them."""
    if isinstance(value, str):
        return value
    raise TypeError(f"{name} = {value!r} is not possible: give a str")


def path_like(name: str, value: object) -> str:
    """A path as text, ``~`` and all; bytes are refused."""
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        if isinstance(text, str):
            return text
    raise TypeError(f"{name} is {type(value).__name__}: give a path (str or pathlib.Path)")


def output_path(name: str, value: object) -> str:
    """A path to write to, as text. An empty one would be the current folder, which nobody means."""
    text = path_like(name, value)
    if not text.strip():
        raise ValueError(f"{name} = {text!r} is not possible: give a path, or None to keep nothing")
    return text
