"""The slots of a vLLM engine: which are steered, and by whose boundary ids. What both runners share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reset.boundaries import step_boundaries
from reset.integrations._logits import entropies, tempered
from reset.integrations._tensor_policy import TensorPolicies
from reset.policies import FixedTemperature

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from reset.integrations.vllm.parameters import Request

    Boundaries = tuple[tuple[int, ...], tuple[int, ...]]

#: What a slot that nobody steers decides: dividing by it changes nothing.
_UNTOUCHED = FixedTemperature(1.0)


class Slots:
    """Policies of an engine's slots.

    Args:
        vllm_config: the engine's configuration, for its tokenizer. Boundary ids are found once, here.
        count: how many slots there are.
        device: where logits are.

    Raises:
        ValueError: the engine speculates: rows of drafts run ahead of the tokens that stay.
    """

    def __init__(self, vllm_config: Any, count: int, device: torch.device) -> None:
        from vllm.tokenizers import cached_tokenizer_from_config

        if vllm_config.speculative_config is not None:
            raise ValueError("ReSET does not work with speculative decoding: leave speculative_config out")
        self.policies = TensorPolicies(count, device)
        self.steered = [False] * count
        self._lines: dict[Boundaries | None, int] = {None: 0}  # of the boundary table; line 0 is the tokenizer's
        self._line_of = [0] * count
        self._staged: dict[int, Request | None] = {}
        tokenizer = cached_tokenizer_from_config(vllm_config.model_config)
        self._has_tokenizer = tokenizer is not None
        if tokenizer is not None:
            self.policies.set_boundaries(*step_boundaries(tokenizer), table=0)

    def stage(self, slot: int, request: Request | None) -> None:
        """Notes who moves into ``slot``."""
        if request is not None and request.boundaries is None and not self._has_tokenizer:
            raise ValueError(
                "the engine has no tokenizer (skip_tokenizer_init): give extra_args['reset_nl_ids'] and ['reset_dnl_ids'] with each request"
            )
        self._staged[slot] = request
        self.steered[slot] = request is not None

    def settle(self) -> None:
        """Writes what was staged to the device, all at once."""
        if not self._staged:
            return
        staged, self._staged = self._staged, {}
        for slot in staged:
            self._line_of[slot] = 0
        for slot, request in staged.items():
            self._line_of[slot] = 0 if request is None else self._line(request.boundaries)
        policies = [_UNTOUCHED if request is None else request.policy for request in staged.values()]
        self.policies.set_policies(list(staged), policies, [self._line_of[slot] for slot in staged])

    def _line(self, boundaries: Boundaries | None) -> int:
        """The line of the boundary table that holds these ids: equal ones share it, and lines that no slot uses are taken over."""
        if boundaries is not None and boundaries not in self._lines:
            used = {0, *self._line_of}
            self._lines = {key: line for key, line in self._lines.items() if line in used}
            line = min(set(range(len(self._lines) + 1)) - set(self._lines.values()))
            self.policies.set_boundaries(*boundaries, table=line)
            self._lines[boundaries] = line
        return self._lines[boundaries]

    def temper(
        self, logits: torch.Tensor, slots: torch.Tensor, last_token: torch.Tensor, kept: torch.Tensor, present: Iterable[int]
    ) -> torch.Tensor:
        """Divides ``logits`` ``[rows, vocab]``, in place, by the temperatures of the rows' slots.

        Args:
            logits: raw and float32.
            slots, last_token, kept: ``[rows]``; as :meth:`TensorPolicies.step` takes them.
            present: the same slots, on the host.
        """
        decision = self.policies.step(entropies(logits), slots, last_token, kept)
        return tempered(logits, decision.temperature, greedy=self.policies.may_be_greedy(present), in_place=True)
