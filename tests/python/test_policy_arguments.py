"""Parameters of policies: what makes no sense is refused with ValueError or TypeError, and the message names the parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import reset
from reset import policies

if TYPE_CHECKING:
    from collections.abc import Callable

HUGE = 2**2000
NOT_NUMBERS = (None, True, "0.5", b"x", 1j, [], [0.5], {}, object())
NOT_INTEGERS = (None, True, "1", b"x", 1j, 0.5, float("nan"), float("inf"), [], {}, object())
NOT_BOOLS = ("yes", b"x", 2, 0.5, [], {}, object())


def refused(call: Callable[[], Any], name: str) -> None:
    """The call raises ValueError or TypeError, and the message names the argument."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert name in str(caught.value), str(caught.value)


@pytest.mark.parametrize("name", ["t_low", "tau_0", "t_high"])
@pytest.mark.parametrize("value", [*NOT_NUMBERS, HUGE, -HUGE], ids=lambda v: repr(v)[:20])
def test_a_policy_names_the_number_it_cannot_take(name: str, value: Any) -> None:
    given = {"t_low": 0.1, "tau_0": 0.5, name: value}
    refused(lambda: reset.ReSET(**given), name)
    refused(lambda: reset.EntropyThreshold(**given), name)
    refused(lambda: reset.FixedTemperature(value), "temperature")


@pytest.mark.parametrize("value", [*NOT_INTEGERS, 0, -1, 2**20 + 1, 2**64, HUGE], ids=lambda v: repr(v)[:20])
def test_a_policy_names_the_window_it_cannot_take(value: Any) -> None:
    refused(lambda: reset.ReSET(0.1, 0.5, window=value), "window")

    class Own(reset.Policy):
        window = value

        def temperature(self, signal: policies.Signal) -> float:
            return 1.0

    refused(lambda: reset.Controller(Own()), "window")


@pytest.mark.parametrize("value", [None, 1, *NOT_BOOLS], ids=lambda v: repr(v)[:20])
def test_a_policy_names_the_flag_it_cannot_take(value: Any) -> None:
    refused(lambda: reset.ReSET(0.1, 0.5, include_current=value), "include_current")


def test_policies_take_numbers_of_numpy() -> None:
    policy = reset.ReSET(np.float32(0.25), np.float64(0.5), np.int64(1), np.int32(8), np.bool_(True))
    assert policy == reset.ReSET(0.25, 0.5, 1.0, 8, True)
    assert reset.FixedTemperature(np.array(0.5)) == reset.FixedTemperature(0.5)


@pytest.mark.parametrize("value", [None, True, 1, 0.5, [], {}, 1j], ids=repr)
def test_preset_says_what_it_takes(value: Any) -> None:
    refused(lambda: reset.ReSET.preset(value), "preset")
    refused(lambda: reset.ReSET.preset("Qwen/Qwen3-8B", t_low="x"), "t_low")
