"""ReSET's state of many sequences as tensors, so that an engine on a device decides temperatures without asking the host.

The same arithmetic as :class:`reset.Controller`: plain float64 sums of float32 entropies in token order, a window that spans step
boundaries, boundaries from token ids. Equal entropies give equal decisions, bit for bit.

Each sequence has a *slot*. A call takes some slots and does two things with each::

    keep    the entropy that the last call saw joins the sums, and the token drawn since decides whether a step begins
    decide  temperatures from the new entropies, which wait for the next call

An engine may throw away what it drew (a prompt that is still being read in pieces is sampled from, too): ``kept`` then says that
the last call's entropy never happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from reset.integrations._logits import GREEDY
from reset.policies import EntropyThreshold, FixedTemperature, Greedy, ReSET

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reset.policies import Policy

#: Policies that fit the tensors; one written in Python needs :class:`reset.BatchController`.
TENSOR_POLICIES = (ReSET, EntropyThreshold, FixedTemperature, Greedy)

NEWLINE, DOUBLE_NEWLINE = 1, 2


class TensorDecision(NamedTuple):
    """Decisions of the rows of a call, tensors ``[rows]``; meanings and dtypes of :class:`reset.policies.BatchDecision`."""

    temperature: torch.Tensor
    entropy: torch.Tensor
    step_entropy: torch.Tensor
    global_mean: torch.Tensor
    threshold: torch.Tensor
    boundary: torch.Tensor
    uncertain: torch.Tensor
    step_index: torch.Tensor


class TensorPolicies:
    """Policies and running sums of ``slots`` sequences.

    Args:
        slots: how many sequences there can be at once.
        device: where the tensors live; it has to know float64.
        window: tokens that the sliding windows can hold at first; they grow with the policies.
    """

    def __init__(self, slots: int, device: torch.device | str, window: int = 32) -> None:
        def zeros(dtype: torch.dtype, *shape: int) -> torch.Tensor:
            return torch.zeros((slots, *shape), dtype=dtype, device=device)

        f64, i64, flag = torch.float64, torch.int64, torch.bool
        self.device = torch.device(device)
        self.slots = slots
        # The running sums, named as in the core.
        self.state = {
            "total": zeros(f64), "count": zeros(i64), "step_total": zeros(f64), "step_count": zeros(i64),
            "window_total": zeros(f64), "window": zeros(f64, window),
            "step_index": zeros(i64), "after_newline": zeros(flag), "boundary_ahead": zeros(flag),
            "waiting": zeros(flag), "entropy": zeros(f64),
        }  # fmt: skip
        # The policies' parameters, and which line of the boundary table holds a slot's ids.
        self.parameters = {
            "t_low": zeros(f64) + 1, "t_high": zeros(f64) + 1, "tau_0": zeros(f64), "width": zeros(i64) + 1,
            "stepwise": zeros(flag), "include_current": zeros(flag), "table": zeros(i64),
        }  # fmt: skip
        self._tables = torch.zeros((1, 0), dtype=torch.uint8, device=device)
        self._cold = [False] * slots

    def set_policies(self, slots: Sequence[int], policies: Sequence[Policy], tables: Sequence[int]) -> None:
        """Gives slots to new sequences: their policies, their lines of the boundary table, empty sums."""
        values = [{**_parameters(policy), "table": table} for policy, table in zip(policies, tables, strict=True)]
        for slot, value in zip(slots, values, strict=True):
            self._cold[slot] = min(value["t_low"], value["t_high"]) <= GREEDY
        held = self.state["window"]
        width = max((int(value["width"]) for value in values), default=0)
        if width > held.shape[1]:
            self.state["window"] = held.new_zeros(self.slots, width)
            self.state["window"][:, : held.shape[1]] = held
        rows = self.upload(slots, torch.int64)
        for name, tensor in self.parameters.items():
            tensor[rows] = self.upload([value[name] for value in values], tensor.dtype)
        for tensor in self.state.values():
            tensor[rows] = torch.zeros((), dtype=tensor.dtype, device=self.device)

    def upload(self, values: Sequence[Any], dtype: torch.dtype) -> torch.Tensor:
        """A list as a tensor on the device, without waiting for it."""
        return torch.tensor(values, dtype=dtype).to(self.device, non_blocking=True)

    def set_boundaries(self, newline_ids: Iterable[int], double_newline_ids: Iterable[int], table: int = 0) -> None:
        """Fills line ``table`` of the boundary table, which is made longer and wider as needed."""
        lists = [[int(i) for i in ids] for ids in (newline_ids, double_newline_ids)]
        width = max(self._tables.shape[1], max(max(ids, default=-1) for ids in lists) + 2)
        rows = max(self._tables.shape[0], table + 1)
        grown = self._tables.new_zeros(rows, width)
        grown[: self._tables.shape[0], : self._tables.shape[1]] = self._tables
        grown[table] = 0
        for kind, ids in zip((NEWLINE, DOUBLE_NEWLINE), lists, strict=True):
            grown[table, self.upload(ids, torch.int64)] |= kind
        self._tables = grown

    def may_be_greedy(self, slots: Iterable[int]) -> bool:
        """Whether a policy of these slots can ask for the most probable token."""
        return any(self._cold[slot] for slot in slots)

    def step(
        self, entropy: torch.Tensor, slots: torch.Tensor, last_token: torch.Tensor, kept: torch.Tensor | None = None
    ) -> TensorDecision:
        """Decides the temperatures of the next draws.

        Args:
            entropy: ``[rows]`` in nats, of raw logits; rounded to float32.
            slots: int64 ``[rows]``, all different.
            last_token: ``[rows]``: the token drawn after the slot's last call; ignored at its first.
            kept: bool ``[rows]``: whether that token stayed. All did where left out.
        """
        entropy = entropy.float().double()
        s = {name: tensor[slots] for name, tensor in self.state.items()}
        p = {name: tensor[slots] for name, tensor in self.parameters.items()}
        self._keep(s, p, last_token, s["waiting"] if kept is None else s["waiting"] & kept)
        decision = _decide(s, p, entropy)
        s["entropy"], s["waiting"] = entropy, torch.ones_like(s["waiting"])
        for name, tensor in self.state.items():
            tensor[slots] = s[name]
        return decision

    def _keep(self, s: dict[str, torch.Tensor], p: dict[str, torch.Tensor], last_token: torch.Tensor, kept: torch.Tensor) -> None:
        """Lets the waiting entropies of rows in ``kept`` join the sums, and looks at the tokens drawn."""
        begins = kept & s["boundary_ahead"]
        value = torch.where(kept, s["entropy"], 0.0)
        place = (s["count"] % p["width"]).unsqueeze(-1)
        oldest = s["window"].gather(1, place).squeeze(-1)
        s["step_total"] = torch.where(begins, 0.0, s["step_total"]) + value
        s["step_count"] = torch.where(begins, 0, s["step_count"]) + kept
        s["total"] = s["total"] + value
        s["window_total"] = s["window_total"] + value - torch.where(kept & (s["count"] >= p["width"]), oldest, 0.0)
        s["window"] = s["window"].scatter(1, place, torch.where(kept, value, oldest).unsqueeze(-1))
        s["count"] = s["count"] + kept
        s["step_index"] = s["step_index"] + begins
        kind = self._kinds(p["table"], last_token)
        newline = (kind & NEWLINE) != 0
        blank_line = ((kind & DOUBLE_NEWLINE) != 0) | (newline & s["after_newline"])
        s["boundary_ahead"] = torch.where(kept, blank_line, s["boundary_ahead"])
        s["after_newline"] = torch.where(kept, newline, s["after_newline"])

    def _kinds(self, table: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """What the boundary table says about tokens; those beyond it (or negative: none) are ordinary."""
        width = self._tables.shape[1]
        if width == 0:
            return torch.zeros_like(table, dtype=torch.uint8)
        tokens = tokens.long()
        known = (tokens >= 0) & (tokens < width)
        return torch.where(known, self._tables[table, tokens.clamp(0, width - 1)], 0)


def _decide(s: dict[str, torch.Tensor], p: dict[str, torch.Tensor], entropy: torch.Tensor) -> TensorDecision:
    boundary = s["boundary_ahead"]
    step_total = torch.where(boundary, 0.0, s["step_total"])
    step_count = torch.where(boundary, 0, s["step_count"])
    full = s["count"] >= p["width"]
    oldest = s["window"].gather(1, (s["count"] % p["width"]).unsqueeze(-1)).squeeze(-1)
    current = p["include_current"]
    window_total = torch.where(current, s["window_total"] + entropy - torch.where(full, oldest, 0.0), s["window_total"])
    window_count = torch.where(full, p["width"], s["count"] + current)
    step_mean = torch.where(current, step_total + entropy, step_total) / (step_count + current)
    estimate = torch.where(step_count < p["width"], window_total / window_count, step_mean)
    step_entropy = torch.where(s["count"] == 0, entropy, estimate)
    global_mean = torch.where(s["count"] == 0, step_entropy, s["total"] / s["count"])
    stepwise, nan = p["stepwise"], float("nan")
    uncertain = stepwise & (step_entropy > global_mean)
    threshold = torch.where(uncertain, step_entropy, p["tau_0"])
    return TensorDecision(
        temperature=torch.where(entropy >= threshold, p["t_high"], p["t_low"]),
        entropy=entropy,
        step_entropy=torch.where(stepwise, step_entropy, nan),
        global_mean=torch.where(stepwise, global_mean, nan),
        threshold=threshold,
        boundary=boundary,
        uncertain=uncertain,
        step_index=s["step_index"] + boundary,
    )


def _parameters(policy: Policy) -> dict[str, float | bool]:
    """A policy as numbers. One without a threshold has NaN, which no entropy reaches: its temperature is ``t_low``."""
    if isinstance(policy, (ReSET, EntropyThreshold)):
        stepwise = isinstance(policy, ReSET)
        values = {"t_low": policy.t_low, "t_high": policy.t_high, "tau_0": policy.tau_0}
        return {**values, "stepwise": stepwise, "width": policy.window, "include_current": stepwise and policy.include_current}
    if isinstance(policy, (FixedTemperature, Greedy)):
        t = policy.t if isinstance(policy, FixedTemperature) else 0.0
        return {"t_low": t, "t_high": t, "tau_0": float("nan"), "stepwise": False, "width": 1, "include_current": False}
    raise TypeError(f"{type(policy).__name__} is written in Python; tensors hold {', '.join(p.__name__ for p in TENSOR_POLICIES)}")
