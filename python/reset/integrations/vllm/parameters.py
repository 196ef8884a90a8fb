"""What a request says about its temperature, in ``SamplingParams.extra_args``.

The spelling is that of the adapter published with the paper, so that requests written for it work unchanged::

    reset           true, or the request is left alone
    t_low           temperature of confident tokens
    tau_0           base threshold in nats (0.6349); also h_threshold
    t_high          temperature of uncertain tokens (1.0)
    window          tokens of the sliding window (32); also saat_window
    reset_nl_ids    ids of "\\n", and …
    reset_dnl_ids   … of texts with "\\n\\n"; both follow from the engine's tokenizer where left out
"""

from __future__ import annotations

from typing import Any, NamedTuple

from reset.policies import ReSET

DEFAULTS: dict[str, Any] = {"tau_0": 0.6349, "t_high": 1.0, "window": 32}
ALIASES = {"h_threshold": "tau_0", "saat_window": "window"}


class Request(NamedTuple):
    """A request that ReSET steers.

    Attributes:
        policy: its parameters.
        boundaries: its own newline and double-newline ids; None takes the tokenizer's.
    """

    policy: ReSET
    boundaries: tuple[tuple[int, ...], tuple[int, ...]] | None


def read_request(sampling_params: Any) -> Request | None:
    """The policy that a request asks for, or None where it asks for none.

    Raises:
        ValueError: parameters that make no policy, or a temperature of the engine's own on top of it.
    """
    given = dict(sampling_params.extra_args or {})
    wanted = given.get("reset", False)
    if wanted is None or wanted in (False, 0):
        return None
    if wanted not in (True, 1):  # the text "false" would count as true
        raise ValueError(f"extra_args['reset'] = {wanted!r} is not possible: give true or false")
    temperature = sampling_params.temperature
    if temperature != 1.0:
        raise ValueError(
            f"SamplingParams.temperature = {temperature} beside extra_args['reset']: the policy is the temperature; use temperature=1.0"
        )
    values = dict(DEFAULTS)
    for name in ("t_low", "tau_0", "t_high", "window", *ALIASES):
        if given.get(name) is not None:
            values[ALIASES.get(name, name)] = _number(name, given[name])
    if "t_low" not in values:
        raise ValueError("extra_args['t_low'] is missing: ReSET needs the temperature of confident tokens, such as 0.3")
    if isinstance(values["window"], float) and not values["window"].is_integer():  # neither are NaN and infinity
        raise ValueError(f"extra_args['window'] = {values['window']} is not possible: give a number of tokens")
    policy = ReSET(**{**values, "window": int(values["window"])})
    lists = [given.get(name) for name in ("reset_nl_ids", "reset_dnl_ids")]
    if lists == [None, None]:
        return Request(policy, None)
    newline, double = (_ids(name, ids) for name, ids in zip(("reset_nl_ids", "reset_dnl_ids"), lists, strict=True))
    return Request(policy, (newline, double))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"extra_args[{name!r}] = {value!r} is not possible: give a number")
    return value


def _ids(name: str, ids: Any) -> tuple[int, ...]:
    if not isinstance(ids, (list, tuple)) or not all(type(i) is int and 0 <= i < 1 << 32 for i in ids):
        if ids is None:
            raise ValueError(f"extra_args[{name!r}] is missing: give both lists of ids, or neither")
        raise ValueError(f"extra_args[{name!r}] is no list of token ids")
    return tuple(ids)
