"""What has to agree before two samples may lie in one result.

A sample is decided by the model, the task, the options of the draw and the seed: its *identity*. How many problems and samples are
planned, the number of threads, the batch and the machine are not part of it: they change no token (a plan may grow, shards may run
elsewhere). The identity is a flat dict of JSON values; its hash stands in every row.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import secrets
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from reset.policies import Policy, to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "reset-eval-1"

#: Of ``Model.describe``: where it ran, which no token depends on (but for the last bits of float arithmetic between instruction sets).
MACHINE = ("model", "device", "table")


@runtime_checkable
class SamplePolicies(Protocol):
    """Policies that differ from sample to sample, for experiments such as replayed temperatures."""

    def for_sample(self, problem_id: str, sample_index: int) -> Policy:
        """The policy of one sample."""
        ...

    def describe(self) -> dict[str, Any]:
        """What identifies it, as JSON values."""
        ...


def describe_policy(policy: Policy | SamplePolicies) -> dict[str, Any]:
    """The policy as JSON values that are the same in every process.

    A policy written in Python is identified by its class, its source where that can be read, and its parameters: what its method
    ``parameters`` returns where it defines one, else its attributes. A changed rule or parameter is another policy. What cannot be
    described (an attribute without a ``repr`` of its own) gets a number drawn anew, so that such a policy equals no other and results
    are never mixed; define ``parameters`` to make runs with it resumable.

    Raises:
        TypeError: neither a policy nor an object with ``for_sample`` and ``describe``; a description that JSON cannot hold.
    """
    if not isinstance(policy, Policy):
        return _checked_description(policy)
    record = to_dict(policy)
    if record["policy"] != "python":
        return record
    kind = type(policy)
    parameters = policy.parameters() if "parameters" in _defined_below_policy(kind) else _attributes(policy)
    return {
        "policy": "python",
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "source_sha256": _source_sha256(kind),
        "parameters": {name: _described(value) for name, value in sorted(parameters.items())},
    }


def _checked_description(policy: Any) -> dict[str, Any]:
    if isinstance(policy, type) or not isinstance(policy, SamplePolicies):
        found = f"the class {policy.__name__}" if isinstance(policy, type) else f"{policy!r}"
        raise TypeError(
            f"policy is {found}: give a reset.Policy such as reset.ReSET(t_low=0.3, tau_0=0.5), or an object with the methods "
            "for_sample and describe"
        )
    try:
        return dict(json.loads(json.dumps(policy.describe())))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{type(policy).__name__}.describe() has to return a dict of JSON values: {error}") from error


def _defined_below_policy(kind: type) -> set[str]:
    return {name for base in kind.__mro__[: kind.__mro__.index(Policy)] for name in vars(base)}


def _attributes(policy: Policy) -> dict[str, Any]:
    slots = [name for base in type(policy).__mro__ for name in _slots(base)]
    return {**{name: getattr(policy, name) for name in slots if hasattr(policy, name)}, **getattr(policy, "__dict__", {})}


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(name for name in slots if name not in ("__dict__", "__weakref__"))


def _source_sha256(value: Any) -> str | None:
    try:
        return sha256(inspect.getsource(value))
    except (OSError, TypeError):
        return None  # typed into a plain interpreter: there is no source to read


def _described(value: Any) -> Any:
    """JSON values as they are, functions by their code, other values by their ``repr``."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        pass
    code = getattr(value, "__code__", None)
    if code is not None:
        inner = [repr(constant) for constant in code.co_consts if not hasattr(constant, "co_code")]
        captured = [_described(cell.cell_contents) for cell in value.__closure__ or ()]
        defaults = [_described(default) for default in value.__defaults__ or ()]
        return {
            "function": f"{value.__module__}.{value.__qualname__}", "code_sha256": sha256(f"{code.co_code.hex()} {inner} {code.co_names}"),
            "source_sha256": _source_sha256(value), "captured": captured, "defaults": defaults,
        }  # fmt: skip
    text = repr(value)
    return f"not describable, {secrets.token_hex(8)}" if " at 0x" in text else text


def sha256(text: str) -> str:
    """Hexadecimal digest of UTF-8 text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits of the identity."""
    return sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False))[:16]


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """``name: found → wanted`` for every value that differs, nested dicts by their inner names."""
    lines = []
    for name in sorted({*found, *wanted}):
        a, b = found.get(name), wanted.get(name)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            lines += [f"{name}.{line}" for line in differences(a, b)]
        else:
            lines.append(f"{name}: {a!r} there, {b!r} here")
    return lines
