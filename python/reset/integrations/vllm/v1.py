"""The processor for vLLM's model runner V1.

The runner keeps a batch without holes: requests are added at an index, removed, moved to another one, and swapped. Here each has a
slot of its own, so that a move changes one entry of a list and no tensor::

    batch index ──► sequence (slot, its list of output tokens) ──► state on the device

Requests that are not scheduled for a step leave the batch, too, and come back later with the same list: their slots are kept until
another sequence needs one. Output tokens are known on the host; they travel to the device with the slots, and nothing travels back.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor, MoveDirectionality

from reset.integrations.vllm.parameters import read_request
from reset.integrations.vllm.slots import Slots

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate


@dataclass(eq=False)
class _Sequence:
    """A steered request."""

    slot: int
    output: list[int]  # the engine's own list, which grows
    seen: int  # tokens of it at the last step


class ReSETLogitsProcessorV1(LogitsProcessor):  # type: ignore[misc]
    """Sets the temperature of every draw of requests whose ``extra_args`` say ``reset``."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        most = vllm_config.scheduler_config.max_num_seqs
        # As many again for those who are away, and slot 0 for rows that nobody steers.
        self._slots = Slots(vllm_config, 2 * most + 1, device)
        self._slots.stage(0, None)
        self._free = list(range(2 * most, 0, -1))
        self._batch: dict[int, _Sequence] = {}
        self._away: OrderedDict[int, _Sequence] = OrderedDict()  # by the identity of the output list, oldest first

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raises ValueError for ``extra_args`` that make no policy."""
        read_request(sampling_params)

    def is_argmax_invariant(self) -> bool:
        """False: V1 runs the other kind after its own temperature, and this one needs raw logits."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows the batch: removed, then added, then moved."""
        if batch_update is None:
            return
        # Whom an addition replaces is not named as removed, and may be added again elsewhere.
        for index in (*batch_update.removed, *(index for index, *_ in batch_update.added)):
            self._leave(index)
        for index, params, _prompt, output in batch_update.added:
            request = read_request(params)
            if request is None:
                continue
            back = self._away.pop(id(output), None)
            if back is None:
                back = _Sequence(self._take_slot(), output, len(output))
                self._slots.stage(back.slot, request)
            self._batch[index] = back
        for source, target, direction in batch_update.moved:
            here, there = self._batch.pop(source, None), self._batch.pop(target, None)
            if here is not None:
                self._batch[target] = here
            if there is not None and direction == MoveDirectionality.SWAP:
                self._batch[source] = there
            elif there is not None:
                self._put_away(there)

    def _leave(self, index: int) -> None:
        sequence = self._batch.pop(index, None)
        if sequence is not None:
            self._put_away(sequence)

    def _put_away(self, sequence: _Sequence) -> None:
        self._away[id(sequence.output)] = sequence  # holding the list keeps its identity its own

    def _take_slot(self) -> int:
        return self._free.pop() if self._free else self._away.popitem(last=False)[1].slot

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Divides each row by its temperature, in place."""
        if not self._batch:
            return logits
        self._slots.settle()
        table = [[0, -1, 0] for _ in range(len(logits))]  # slot, last token, whether the last draw stayed
        for index, sequence in self._batch.items():
            length = len(sequence.output)
            # A prompt that is read in pieces is sampled from at every step; those draws never reach the list.
            table[index] = [sequence.slot, sequence.output[-1] if length else -1, int(length > sequence.seen)]
            sequence.seen = length
        slots, last_token, kept = self._slots.policies.upload(table, torch.int64).unbind(1)
        return self._slots.temper(logits, slots, last_token, kept.bool(), [row[0] for row in table])
