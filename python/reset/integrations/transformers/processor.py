"""The temperature policy as a logits processor of ``model.generate``.

``generate`` calls its processors once per token with the ids so far and the raw logits of all rows, and applies its own temperature
and filters after them. This one returns ``logits / T``, so those filters see what they should, and ``generate``'s temperature has to
stay 1::

    logits [rows, vocab] ─► entropies ─► policy ─► logits / T ─► top-k, top-p, min-p of generate ─► draw

Where the state lives depends on the device. On the CPU nothing has to travel, and the core decides. On another device the built-in
policies run there as tensors, and nothing travels either; a policy written in Python costs one transfer per token, of one number and
one id per row.

With a ``seed`` the processor draws as well, by the rule of :mod:`reset.sampling`, and leaves ``generate`` one possible token per row:
the tokens are then those of :func:`reset.generate` for this seed, as far as the two engines' logits agree. The logits travel to the
host for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import LogitsProcessor

from reset.boundaries import step_boundaries
from reset.integrations._logits import GREEDY, device_entropies, tempered
from reset.integrations._tensor_policy import TENSOR_POLICIES, TensorPolicies
from reset.policies import BatchController, BatchDecision, Policy
from reset.sampling import Draw, draw, entropy, stream_of_generate
from reset.types import Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from reset.integrations._tensor_policy import TensorDecision

#: Columns of a trace that a decision fills.
_DECIDED = ("entropy", "step_entropy", "global_mean", "threshold", "temperature", "step_index", "boundary")


class ReSETLogitsProcessor(LogitsProcessor):  # type: ignore[misc]
    """Sets the temperature of every draw of one call of ``model.generate``; works for batches, left padding and streaming.

    Args:
        policy: any ``reset.Policy``: ``reset.ReSET(…)``, ``reset.ReSET.preset(name)``, one written in Python.
        newline_ids: ids that decode to exactly ``"\\n"``; as for :class:`reset.Controller`.
        double_newline_ids: ids whose text contains ``"\\n\\n"``.
        tokenizer: a tokenizer of transformers, from which both lists, the ids to pad and end with, and the ids that stand for no
            token are taken where they are not given.
        seed: draw here, with these random numbers, instead of in ``generate``.
        n: with ``seed``: rows per prompt, ``num_return_sequences``. Row ``i`` is sample ``i % n`` of its prompt.
        streams: with ``seed``: the streams of random numbers, one per row, instead of those that follow from prompts and samples.
        top_k, top_p, min_p: with ``seed``: the filters, in this order.
        banned: with ``seed``: ids never drawn.
        pad_token_id: what prompts are padded with on the left; for ``seed`` (a padded prompt has the stream of the bare one).
        eos_token_id: an id or several, where a row of :meth:`traces` ends.
        record: keep what :meth:`traces` needs: a few numbers per token, and the logits of the last one.

    A processor holds the state of the sequences it sees, so it serves one call of ``generate``; :meth:`reset` makes it new.
    ``generate``'s beam search, assisted and continuous batching modes move rows around or run ahead and are refused.
    """

    supports_continuous_batching = False

    def __init__(
        self,
        policy: Policy,
        newline_ids: Iterable[int] | None = None,
        double_newline_ids: Iterable[int] | None = None,
        *,
        tokenizer: Any = None,
        seed: int | None = None,
        n: int = 1,
        streams: Sequence[int] | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        banned: Iterable[int] | None = None,
        pad_token_id: int | None = None,
        eos_token_id: int | Sequence[int] | None = None,
        record: bool = True,
    ) -> None:
        if not isinstance(policy, Policy):
            raise TypeError(f"policy has to be a reset.Policy, not {type(policy).__name__}")
        if seed is None:
            extra = {"n": n if n != 1 else None, "streams": streams, "top_k": top_k, "top_p": top_p, "min_p": min_p, "banned": banned}
            given = [name for name, value in extra.items() if value is not None]
            if given:
                raise ValueError(
                    f"{', '.join(given)}: options of the draw, which is generate's without a seed; give them to generate, or a seed"
                )
        found = ((), ()) if tokenizer is None else step_boundaries(tokenizer)
        self.policy = policy
        self._newline_ids = list(found[0] if newline_ids is None else newline_ids)
        self._double_newline_ids = list(found[1] if double_newline_ids is None else double_newline_ids)
        self._controller = BatchController(policy, self._newline_ids, self._double_newline_ids)
        self._seed, self._n = seed, n
        self._streams = None if streams is None else list(streams)
        self._filters = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
        self._banned = None if banned is None else list(banned)
        self._known = None if tokenizer is None else set(tokenizer.get_vocab().values())
        self._pad = getattr(tokenizer, "pad_token_id", None) if pad_token_id is None else pad_token_id
        ends = getattr(tokenizer, "eos_token_id", None) if eos_token_id is None else eos_token_id
        self._ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        self._record = record
        self.reset()

    def reset(self) -> None:
        """Forgets every sequence: ready for another call of ``generate``."""
        self._controller = BatchController(self.policy, self._newline_ids, self._double_newline_ids)
        self._tensors: TensorPolicies | None = None
        self._ids: torch.Tensor | None = None
        self._prompt_length = 0
        self._rows: list[int] = []
        self._logits: torch.Tensor | None = None
        self._decisions: list[BatchDecision | TensorDecision] = []
        self._logprobs: list[torch.Tensor] = []
        self._draws: list[list[Draw]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``scores / T``, or with a seed scores that leave the drawn token alone. Called by ``generate``.

        Args:
            input_ids: int64 ``[rows, tokens so far]``.
            scores: raw logits, float32 ``[rows, vocab]``.

        Raises:
            ValueError: another call of ``generate`` than the one it serves, beam search, NaN in the logits (on the CPU).
        """
        first = self._ids is None
        if first:
            self._begin(input_ids, scores)
        else:
            self._check_rows(input_ids)
            self._note_logprobs(input_ids)
        self._ids = input_ids
        if self._seed is not None:
            return self._drawn(scores, None if first else input_ids[:, -1])
        last = torch.full_like(input_ids[:, 0], -1) if first else input_ids[:, -1]
        if scores.device.type not in ("cpu", "mps") and isinstance(self.policy, TENSOR_POLICIES):
            temperature, cold = self._on_device(scores, last)
        else:
            temperature, cold = self._on_host(scores, last)
        self._logits = scores if self._record else None
        return tempered(scores, temperature, greedy=cold)

    # One call

    def _begin(self, input_ids: torch.Tensor, scores: torch.Tensor) -> None:
        rows, self._prompt_length = input_ids.shape
        if rows > 1 and _looks_like_beams(input_ids, scores):
            raise ValueError(
                "the scores are log-probabilities of equal rows: this is beam search, which has no temperature; use num_beams = 1"
            )
        if self._seed is None:
            return
        if rows % self._n:
            raise ValueError(f"n = {self._n} does not divide the {rows} rows of the batch; it has to be num_return_sequences")
        if self._streams is None:
            prompts = [_without_padding(row, self._pad) for row in input_ids.tolist()]
            self._rows = [stream_of_generate(prompt, row % self._n) for row, prompt in enumerate(prompts)]
        elif len(self._streams) != rows:
            raise ValueError(f"streams: {len(self._streams)} for a batch of {rows} rows")
        else:
            self._rows = self._streams
        if self._banned is None:
            self._banned = [] if self._known is None else [i for i in range(scores.shape[-1]) if i not in self._known]

    def _check_rows(self, input_ids: torch.Tensor) -> None:
        before = self._ids
        assert before is not None
        rows, length = before.shape
        if input_ids.shape != (rows, length + 1):
            raise ValueError(
                f"the last call had {rows} rows of {length} ids, this one {tuple(input_ids.shape)}: a ReSETLogitsProcessor serves one call "
                "of generate, one token at a time (no assisted generation); make a new one, or call reset() between"
            )
        # To look at ids on another device would mean to wait for it.
        if input_ids.device.type == "cpu" and not torch.equal(input_ids[:, :-1], before):
            raise ValueError(
                "the rows are not those of the last call: beam search reorders them (use num_beams = 1), or this is another call of "
                "generate (make a new ReSETLogitsProcessor, or call reset() between)"
            )

    def _on_device(self, scores: torch.Tensor, last: torch.Tensor) -> tuple[torch.Tensor, bool]:
        rows = range(len(scores))
        if self._tensors is None:
            self._tensors = TensorPolicies(len(scores), scores.device)
            self._tensors.set_boundaries(self._newline_ids, self._double_newline_ids)
            self._tensors.set_policies(rows, [self.policy] * len(scores), [0] * len(scores))
        decision = self._tensors.step(device_entropies(scores), torch.arange(len(scores), device=scores.device), last)
        if self._record:
            self._decisions.append(decision)
        return decision.temperature, self._tensors.may_be_greedy(rows)

    def _on_host(self, scores: torch.Tensor, last: torch.Tensor) -> tuple[torch.Tensor, bool]:
        kind = scores.device.type
        if kind in ("cpu", "mps"):  # Metal has no float64: there the logits travel
            entropies, tokens = entropy(scores), last.cpu().numpy()
        else:
            entropies, ids = torch.stack([device_entropies(scores), last.double()]).cpu().numpy()
            tokens = ids.astype(np.int64)
        decision = self._controller.step(entropy=entropies, last_token=tokens)
        if self._record:
            self._decisions.append(decision)
        temperature = torch.from_numpy(decision.temperature)
        cold = bool((temperature <= GREEDY).any())
        return temperature.to(scores.device, torch.float32 if kind == "mps" else torch.float64), cold

    def _drawn(self, scores: torch.Tensor, last: torch.Tensor | None) -> torch.Tensor:
        logits = scores.float().cpu().numpy()
        tokens = None if last is None else last.cpu().numpy()
        decision = self._controller.step(logits, last_token=tokens)
        position = 0 if last is None else self._ids.shape[1] - self._prompt_length  # type: ignore[union-attr]
        options: dict[str, Any] = {"seed": self._seed, "position": position, "banned": self._banned, **self._filters}
        draws = [
            draw(row, temperature=t, stream=stream, **options)
            for row, t, stream in zip(logits, decision.temperature.tolist(), self._rows, strict=True)
        ]
        if self._record:
            self._decisions.append(decision)
            self._draws.append(draws)
        only = torch.full_like(scores, float("-inf"))
        chosen = torch.tensor([d.token for d in draws], device=scores.device)
        return only.scatter_(1, chosen.unsqueeze(-1), 0.0)

    # What is left of it

    def _note_logprobs(self, ids: torch.Tensor) -> None:
        """Log-probabilities, in the raw distribution, of the tokens that the last call's logits gave."""
        if self._logits is not None:
            chosen = self._logits.gather(1, ids[:, -1:]).squeeze(-1)
            self._logprobs.append(chosen.double() - self._logits.logsumexp(-1).double())
            self._logits = None

    def traces(self, sequences: Any) -> list[Trace]:
        """One :class:`reset.Trace` per row, cut after the first end token.

        Without a seed, ``sampling_logprob`` is NaN: the filters are ``generate``'s, and nobody tells this processor about them.

        Args:
            sequences: what ``generate`` returned: ids ``[rows, prompt and generated tokens]``, or the output object holding them.

        Raises:
            ValueError: sequences of another call, or ``record=False``.
        """
        ids = getattr(sequences, "sequences", sequences)
        if not self._record:
            raise ValueError("record = False was given: nothing was kept for traces")
        steps, rows = len(self._decisions), 0 if self._ids is None else len(self._ids)
        if tuple(ids.shape) != (rows, self._prompt_length + steps):
            raise ValueError(
                f"sequences: shape {tuple(ids.shape)}, expected ({rows}, {self._prompt_length + steps}): {steps} tokens were decided after "
                f"{self._prompt_length} of the prompt; give what the same call of generate returned"
            )
        if not steps:
            return []
        self._note_logprobs(ids)
        produced: NDArray[np.int64] = ids[:, self._prompt_length :].cpu().numpy()
        columns: dict[str, Any] = {name: np.stack([_array(getattr(d, name)) for d in self._decisions], 1) for name in _DECIDED}
        if self._draws:
            columns["logprob"], columns["sampling_logprob"] = np.array(self._draws).transpose(2, 1, 0)[1:]
        else:
            columns["logprob"] = np.stack([_array(p) for p in self._logprobs], 1)
            columns["sampling_logprob"] = np.full(produced.shape, np.nan)
        found = []
        metadata = {"engine": "transformers", "policy": repr(self.policy), "seed": self._seed, **self._filters}
        for row, tokens in enumerate(produced):
            ended = np.flatnonzero(np.isin(tokens, self._ends))
            length = int(ended[0]) + 1 if len(ended) else steps
            values = {name: column[row, :length] for name, column in columns.items()}
            found.append(Trace(token_id=tokens[:length], metadata=metadata, **values))
        return found

    def __repr__(self) -> str:
        return f"ReSETLogitsProcessor({self.policy!r}{'' if self._seed is None else f', seed={self._seed}'})"


def _looks_like_beams(input_ids: torch.Tensor, scores: torch.Tensor) -> bool:
    """Beam search hands over log-probabilities, of groups of equal rows at its first step."""
    if (input_ids[0] != input_ids[1]).any():
        return False
    return bool((scores.logsumexp(-1).abs() < 1e-3).all())


def _without_padding(row: list[int], pad: int | None) -> list[int]:
    start = 0
    while start < len(row) - 1 and row[start] == pad:
        start += 1
    return row[start:]


def _array(values: Any) -> NDArray[Any]:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
