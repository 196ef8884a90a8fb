"""What has to agree before two samples may lie in one result.

A sample is decided by the model, the task, the options of the draw and the seed: its *identity*. How many problems and samples are
planned, the number of threads, the batch and the machine are not part of it: they change no token (a plan may grow, shards may run
elsewhere). The identity is a flat dict of JSON values; its hash stands in every row.
"""

from __future__ import annotations

import hashlib
import inspect
import json
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

    A policy written in Python is identified by its class, its source where that can be read, and its attributes: a changed rule or
    parameter is another policy.
    """
    if not isinstance(policy, Policy):
        return dict(policy.describe())
    record = to_dict(policy)
    if record["policy"] != "python":
        return record
    kind = type(policy)
    record = {"policy": "python", "class": f"{kind.__module__}.{kind.__qualname__}"}
    try:
        record["source_sha256"] = sha256(inspect.getsource(kind))
    except (OSError, TypeError):
        record["source_sha256"] = None  # typed into a plain interpreter: there is no source to read
    record["attributes"] = {name: _json_or_repr(value) for name, value in sorted(vars(policy).items())}
    return record


def _json_or_repr(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        # The default repr holds an address, which differs from run to run; the class is all that can be said then.
        kind = type(value)
        return (
            repr(value)
            if "__repr__" in {name for base in kind.__mro__[:-1] for name in vars(base)}
            else f"{kind.__module__}.{kind.__qualname__}"
        )


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
