"""Temperature policies and their controllers.

A policy is a frozen value that says how the temperature of each draw follows from the entropy of the raw next-token
distribution. A controller holds the state of one sequence and asks its policy once per token::

    entropy H_t ──►┌────────────┐
    last token ───►│ Controller │──► Decision(temperature, step_entropy, global_mean, threshold, boundary, …)
                   └────────────┘

>>> import reset
>>> c = reset.Controller(reset.ReSET(t_low=0.3, tau_0=0.5), newline_ids=[198], double_newline_ids=[271])
>>> c.step(entropy=0.75).temperature
1.0
>>> c.step(entropy=0.25, last_token=271)
Decision(temperature=0.3, entropy=0.250000, step_entropy=0.750000, global_mean=0.750000, threshold=0.500000, boundary=True, \
uncertain=False, step_index=1)

``Controller`` works with any engine: give it raw logits (or their entropy) and the token produced last, draw with the
temperature it returns. Nothing here needs a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reset import _core
from reset._checks import flag, number
from reset._core import Decision, EntropyThreshold, FixedTemperature, Greedy, Policy, ReSET, Signal, Snapshot
from reset.sampling import _ids, _rows, entropy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "POLICIES",
    "PRESETS",
    "BatchController",
    "BatchDecision",
    "Controller",
    "Decision",
    "EntropyThreshold",
    "FixedTemperature",
    "Greedy",
    "Policy",
    "ReSET",
    "Signal",
    "Snapshot",
    "from_dict",
    "to_dict",
]

#: Built-in policies by the name that options and records use.
POLICIES: dict[str, type[Policy]] = {cls.name: cls for cls in (ReSET, EntropyThreshold, FixedTemperature, Greedy)}

#: Models with published ReSET parameters, for ``ReSET.preset``.
PRESETS: dict[str, ReSET] = {model: ReSET.preset(model) for model, _, _ in _core.policy_presets()}

_TOKEN_LIMIT = 1 << 32


def to_dict(policy: Policy) -> dict[str, Any]:
    """The policy as values that JSON can hold: ``{"policy": name, parameter: value, …}``.

    A policy written in Python is recorded as ``{"policy": "python", "repr": …}``, which :func:`from_dict` cannot turn back.
    """
    if not isinstance(policy, Policy):
        raise TypeError(f"policy has to be a reset.Policy, not {type(policy).__name__}")
    for name, cls in POLICIES.items():
        if type(policy) is cls:
            return {"policy": name, **policy.parameters()}
    return {"policy": "python", "repr": repr(policy)}


def from_dict(record: Mapping[str, Any]) -> Policy:
    """The policy that :func:`to_dict` recorded.

    Raises:
        ValueError: a name that is not in ``POLICIES``, or parameters the policy does not have.
    """
    if not isinstance(record, Mapping):
        raise TypeError(f"record is {type(record).__name__}: give a dict, as to_dict makes it")
    parameters = dict(record)
    name = parameters.pop("policy", None)
    if not isinstance(name, str) or name not in POLICIES:
        raise ValueError(f"policy = {name!r} is not possible: the built-in policies are {', '.join(POLICIES)}")
    try:
        return POLICIES[name](**parameters)
    except TypeError as error:
        raise ValueError(f"policy {name!r} cannot be made from {parameters}: {error}") from error


class Controller:
    """One sequence's temperature policy, token by token.

    Args:
        policy: a ``reset.Policy``. A policy written in Python is copied (``copy.deepcopy``), so it may hold state.
        newline_ids: ids that decode to exactly ``"\\n"``; two of them in a row end a reasoning step.
        double_newline_ids: ids whose text contains ``"\\n\\n"``; one ends a step. ``reset.step_boundaries(tokenizer)`` gives both.

    Not for use by several threads at once.
    """

    __slots__ = ("_core", "_policy")

    def __init__(self, policy: Policy, newline_ids: Iterable[int] = (), double_newline_ids: Iterable[int] = ()) -> None:
        self._core = _core.Controller(policy, _ids("newline_ids", newline_ids), _ids("double_newline_ids", double_newline_ids))
        self._policy = policy

    @property
    def policy(self) -> Policy:
        """The policy it was made with."""
        return self._policy

    @property
    def position(self) -> int:
        """Tokens decided so far."""
        return self._core.position

    def step(
        self, logits: Any | None = None, *, entropy: float | None = None, last_token: int | None = None, boundary: bool | None = None
    ) -> Decision:
        """Decides the temperature of the next draw.

        Args:
            logits: raw next-token logits ``[vocab]``, before temperature and filters: float32, float16 or bfloat16 (numpy, torch on
                any device, or anything numpy can convert). ``-inf`` entries count as impossible.
            entropy: the entropy of that distribution in nats, instead of ``logits``. Rounded to float32.
            last_token: the token produced after the previous step. None at the first step; there it could only belong to the
                prompt, which never counts, and is ignored.
            boundary: whether a reasoning step begins with this token, for callers that decide it on text. Overrules ``last_token``.

        Raises:
            ValueError: NaN or infinite entropy, logits with NaN or ``+inf`` or without any finite entry. The state is unchanged.
            TypeError: both or neither of ``logits`` and ``entropy``.
        """
        value = _one_entropy(logits, entropy)
        token = None if last_token is None else _token(last_token)
        begins = None if boundary is None else flag("boundary", boundary, wanted="True or False, or None to go by last_token")
        return self._core.step(value, token, begins)

    def snapshot(self) -> Snapshot:
        """The state now. Immutable and picklable; holds at most ``window`` numbers and a few more."""
        return self._core.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Goes back to ``snapshot``, taken from a controller whose policy has the same window and, if written in Python, the same class.

        Raises:
            ValueError: a snapshot that does not fit.
        """
        self._core.restore(_snapshot(snapshot))

    def reset(self) -> None:
        """Back to before the first token."""
        self._core.reset()

    def __repr__(self) -> str:
        return f"Controller({self._policy!r}, position={self.position})"


@dataclass(frozen=True, eq=False)
class BatchDecision:
    """Decisions of a whole batch: arrays of one length, in the order of the rows. See ``Decision`` for the meanings.

    Attributes:
        temperature: float64.
        entropy: float64, nats.
        step_entropy: float64, nats; NaN where the policy has none, as for the next two.
        global_mean: float64, nats.
        threshold: float64, nats.
        boundary: bool.
        uncertain: bool.
        step_index: int64.
    """

    temperature: NDArray[np.float64]
    entropy: NDArray[np.float64]
    step_entropy: NDArray[np.float64]
    global_mean: NDArray[np.float64]
    threshold: NDArray[np.float64]
    boundary: NDArray[np.bool_]
    uncertain: NDArray[np.bool_]
    step_index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.temperature)


class BatchController:
    """Controllers of many sequences, one call per decode step; equal to one :class:`Controller` per sequence.

    Each sequence lives in a *slot*, a small integer. Row ``i`` of a call belongs to ``slots[i]``, by default slot ``i``; slots come
    into being when first used. Reset a slot before a new sequence takes it over.

    Args:
        policy: as for :class:`Controller`; a policy written in Python is copied for every slot.
        newline_ids: as for :class:`Controller`.
        double_newline_ids: as for :class:`Controller`.

    The interpreter lock is released while entropies and decisions are computed.
    """

    __slots__ = ("_core", "_policy")

    def __init__(self, policy: Policy, newline_ids: Iterable[int] = (), double_newline_ids: Iterable[int] = ()) -> None:
        self._core = _core.BatchController(policy, _ids("newline_ids", newline_ids), _ids("double_newline_ids", double_newline_ids))
        self._policy = policy

    @property
    def policy(self) -> Policy:
        """The policy it was made with."""
        return self._policy

    def __len__(self) -> int:
        """Slots in use so far."""
        return len(self._core)

    def step(
        self,
        logits: Any | None = None,
        *,
        entropy: ArrayLike | None = None,
        last_token: ArrayLike | None = None,
        slots: ArrayLike | None = None,
        boundary: ArrayLike | None = None,
    ) -> BatchDecision:
        """Decides the temperatures of the next draws.

        Args:
            logits: raw next-token logits ``[batch, vocab]``; dtypes as for :meth:`Controller.step`.
            entropy: entropies ``[batch]`` in nats, instead of ``logits``.
            last_token: tokens ``[batch]`` produced after each slot's previous step; negative where there is none.
            slots: the slots ``[batch]`` the rows belong to, all different; by default 0, 1, 2 …
            boundary: bools ``[batch]``: whether a reasoning step begins, for callers that decide it on text.

        Raises:
            ValueError: as :meth:`Controller.step`, naming the row; arrays that do not fit together. Nothing has changed then.
                An exception of a policy written in Python leaves its row and those after it unchanged.
            TypeError: both or neither of ``logits`` and ``entropy``.
        """
        values = _many_entropies(logits, entropy)
        size = len(values)
        rows = np.arange(size, dtype=np.int64) if slots is None else _integers("slots", slots, size)
        if size and int(rows.min()) < 0:
            raise ValueError(f"slots: {int(rows.min())} is negative; a slot is 0 or more")
        if len(np.unique(rows)) != size:
            raise ValueError("slots: each slot takes one row per call, but some appear twice")
        tokens = np.full(size, -1, np.int64) if last_token is None else _integers("last_token", last_token, size)
        if size and int(tokens.max()) >= _TOKEN_LIMIT:
            raise ValueError(f"last_token: {int(tokens.max())} is no token id; ids are below 2**32, and negative means none")
        flags = np.full(size, -1, np.int8)
        if boundary is not None:
            given = np.asarray(boundary)
            if given.shape != (size,) or given.dtype != np.bool_:
                raise ValueError(f"boundary: {given.dtype} of shape {given.shape}, expected bool of shape ({size},)")
            flags = given.astype(np.int8)
        if size:
            self._core.grow(_slot_count(int(rows.max()) + 1))
        return BatchDecision(*self._core.step(values, tokens, rows, flags))

    def snapshot(self, slots: Iterable[int] | None = None) -> list[Snapshot]:
        """The states of ``slots``, by default of all, in order."""
        return [self._core.snapshot(slot) for slot in self._slots(slots)]

    def restore(self, snapshots: Sequence[Snapshot], slots: Iterable[int] | None = None) -> None:
        """Puts ``snapshots`` back into ``slots``, by default into 0, 1, 2 …

        Raises:
            ValueError: another number of slots than snapshots, or a snapshot that does not fit (see :meth:`Controller.restore`).
        """
        snapshots = [_snapshot(snapshot) for snapshot in _listed("snapshots", snapshots)]
        indices = list(range(len(snapshots))) if slots is None else _slots(slots)
        if len(indices) != len(snapshots):
            raise ValueError(f"restore: {len(snapshots)} snapshots for {len(indices)} slots")
        if indices and min(indices) < 0:
            raise ValueError(f"slots: {min(indices)} is negative; a slot is 0 or more")
        if indices:
            self._core.grow(_slot_count(max(indices) + 1))
        for slot, snapshot in zip(indices, snapshots, strict=True):
            self._core.restore(slot, snapshot)

    def reset(self, slots: Iterable[int] | None = None) -> None:
        """Puts ``slots``, by default all, back to before their first token."""
        for slot in self._slots(slots):
            self._core.reset(slot)

    def _slots(self, slots: Iterable[int] | None) -> list[int]:
        known = len(self._core)
        indices = list(range(known)) if slots is None else _slots(slots)
        for slot in indices:
            if not 0 <= slot < known:
                in_use = f"slots 0 to {known - 1} are" if known else "none is"
                raise ValueError(f"slots: there is no slot {slot}; {in_use} in use")
        return indices

    def __repr__(self) -> str:
        return f"BatchController({self._policy!r}, {len(self)} slots)"


def _slot_count(count: int) -> int:
    if count > 1 << 20:
        raise ValueError(f"slots: slot {count - 1} is too large; number sequences from 0 and use slots again")
    return count


def _slots(slots: Iterable[int]) -> list[int]:
    found = []
    for slot in _listed("slots", slots):
        if isinstance(slot, bool) or not hasattr(slot, "__index__"):
            raise TypeError(f"slots: {slot!r} is no slot: give integers, 0 or more")
        found.append(int(slot.__index__()))
    return found


def _listed(name: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise TypeError(f"{name} is {type(values).__name__}: give a list")
    return list(values)


def _snapshot(snapshot: object) -> Snapshot:
    if not isinstance(snapshot, Snapshot):
        raise TypeError(f"snapshot is {type(snapshot).__name__}: give what snapshot() of a controller returned")
    return snapshot


def _token(token: Any) -> int:
    if isinstance(token, bool) or not hasattr(token, "__index__"):
        raise TypeError(f"last_token = {token!r} is no token id: give an int, or None before the first token")
    value = int(token.__index__())
    if not 0 <= value < _TOKEN_LIMIT:
        raise ValueError(f"last_token = {value} is no token id; ids are 0 or more and below 2**32")
    return value


def _integers(name: str, values: ArrayLike, size: int) -> NDArray[np.int64]:
    array = _array(name, values)
    if array.shape != (size,) or (size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name}: {array.dtype} of shape {array.shape}, expected integers of shape ({size},)")
    return np.ascontiguousarray(array, dtype=np.int64)


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:  # sequences of unequal length
        raise TypeError(f"{name}: expected an array, found sequences of unequal length") from None


def _exactly_one(logits: object, given: object) -> None:
    if (logits is None) == (given is None):
        raise TypeError("step takes either logits or entropy=, " + ("not both" if logits is not None else "and got neither"))


def _one_entropy(logits: Any | None, given: float | None) -> float:
    _exactly_one(logits, given)
    if given is not None:
        return number("entropy", given, wanted="a number of nats")
    rows, dtype, shape = _rows(logits)
    if len(shape) != 1:
        raise ValueError(f"logits: shape {shape}, expected [vocab]; BatchController takes [batch, vocab]")
    return float(_core.logits_entropy(rows, dtype, shape[0])[0])


def _many_entropies(logits: Any | None, given: ArrayLike | None) -> NDArray[np.float64]:
    _exactly_one(logits, given)
    if given is None:
        values = entropy(logits)
    else:
        array = _array("entropy", given)
        if array.dtype.kind in "bcOSUmM" and array.size:
            raise TypeError(f"entropy: {array.dtype} values, expected numbers of nats of shape [batch]")
        values = np.require(array, np.float64, "C")
        with np.errstate(over="ignore"):
            bad = np.flatnonzero(~np.isfinite(values.astype(np.float32)))  # as the core sees them, before a slot comes into being
        for index in bad[: values.ndim]:
            found = "NaN" if np.isnan(values.flat[index]) else values.flat[index]
            raise ValueError(f"entropy[{index}] is {found}; an entropy is a finite number of nats")
    if values.ndim != 1:
        found = "entropy: {} dimensions, expected [batch]" if logits is None else "logits: {} dimensions, expected [batch, vocab]"
        raise ValueError(found.format(values.ndim if logits is None else values.ndim + 1))
    return values
