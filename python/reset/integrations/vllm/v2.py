"""The processor for vLLM's model runner V2.

The runner gives each request a slot for its whole life and calls ``apply`` once per step with all rows: their slots, the token each
row was fed, and its position. Everything stays on the device. A prompt that is read in pieces has rows, too, whose draws are thrown
away; a draw stays once the sequence is longer than what it was filled with::

    row at position p draws token p + 1        it follows a draw that stayed  ⟺  p + 1 > prefill_len
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor

from reset.integrations.vllm.parameters import read_request
from reset.integrations.vllm.slots import Slots

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState


class ReSETLogitsProcessorV2(LogitsProcessor):  # type: ignore[misc]
    """Sets the temperature of every draw of requests whose ``extra_args`` say ``reset``."""

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        super().__init__(vllm_config, req_states)
        self._requests = req_states
        self._slots = Slots(vllm_config, req_states.max_num_reqs, req_states.device)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raises ValueError for ``extra_args`` that make no policy."""
        read_request(sampling_params)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Gives a slot to a new request; True if it is steered."""
        request = read_request(sampling_params)
        self._slots.stage(req_idx, request)
        return request is not None

    def apply_staged_writes(self) -> None:
        """Sends the new requests' parameters to the device."""
        self._slots.settle()

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """Divides each row by its temperature, in place."""
        present: list[int] = ctx.idx_mapping_np.tolist()
        if not any(self._slots.steered[slot] for slot in present):
            return logits
        slots = ctx.expanded_idx_mapping.long()
        filled: Any = self._requests.prefill_len.gpu[slots]
        return self._slots.temper(logits, slots, ctx.input_ids, ctx.pos + 1 > filled, present)
