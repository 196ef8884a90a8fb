"""From prompts to steps: what ``generate`` and ``stream`` share.

A :class:`Run` tokenizes every prompt, hands the requests to a core session, and yields ``(index, Step)`` as tokens are drawn. Text is
decided here, token by token: detokenizing, stop strings, and (where asked) reasoning-step boundaries on blank lines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reset import _core
from reset.boundaries import TextBoundary
from reset.detokenize import Detokenizer, text_ends
from reset.sampling import stream_of_generate
from reset.text import TextStream
from reset.types import Generation, Step, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reset._options import Options
    from reset.model import Model
    from reset.types import FinishReason

Message = Mapping[str, Any]
Prompt = str | Sequence[Message] | Sequence[int]
PromptLike = Prompt | Sequence[Prompt]


def as_prompts(prompt: PromptLike) -> tuple[list[Prompt], bool]:
    """The prompts, and whether a list of them was given."""
    if _is_prompt(prompt):
        return [prompt], False  # type: ignore[list-item]
    if isinstance(prompt, Sequence) and not isinstance(prompt, (str, bytes)):
        if len(prompt) == 0:
            raise ValueError("prompt is an empty list: give a string, messages, token ids, or a list of those")
        for index, item in enumerate(prompt):
            if not _is_prompt(item):
                raise TypeError(f"prompt[{index}] is {type(item).__name__}: give strings, lists of messages (dicts) or lists of int")
        return list(prompt), True  # type: ignore[arg-type]
    raise TypeError(f"prompt is {type(prompt).__name__}: give a string, messages (dicts), token ids (a list of int), or a list of those")


def _is_prompt(value: object) -> bool:
    if isinstance(value, str):
        return True
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu"
    if not isinstance(value, Sequence) or isinstance(value, bytes) or len(value) == 0:
        return False
    if all(isinstance(item, Mapping) for item in value):
        return True
    return all(isinstance(item, (int, np.integer)) and not isinstance(item, bool) for item in value)


class _Sequence:
    """Text state of one sample."""

    def __init__(self, run: Run, prompt_ids: list[int], sample: int) -> None:
        tokenizer, options = run.model.tokenizer, run.options
        self.prompt_ids = prompt_ids
        self.sample = sample
        self.stream_id = stream_of_generate(prompt_ids, sample)
        self.text = TextStream(tokenizer, prompt_ids, stop=options.stop)
        # Boundaries are decided on all text, also on what a stop string may still cut off: hence a detokenizer of their own.
        decided_on_text = options.boundary == "text" and tokenizer is not None
        self.boundary = TextBoundary() if decided_on_text else None
        self.detokenizer = Detokenizer(tokenizer, prompt_ids, eager=True) if decided_on_text and tokenizer is not None else None

    def begins_step(self, token: int) -> bool:
        """Whether a reasoning step begins after ``token``, for boundaries decided on text."""
        return self.boundary is not None and self.detokenizer is not None and self.boundary.feed(self.detokenizer.push(token))


class Run:
    """Steps of every sample of every prompt, as they are drawn. Iterate once."""

    def __init__(self, model: Model, prompts: list[Prompt], options: Options) -> None:
        self.model = model
        self.options = options
        self.sequences: list[_Sequence] = []
        self._session = _core.Session(model.core, options.batch_size)
        for prompt in prompts:
            ids = options.encode(prompt)
            samples = [_Sequence(self, ids, sample) for sample in range(options.n)]
            self.sequences += samples
            options.submit(self._session, ids, [s.stream_id for s in samples])

    @property
    def metadata(self) -> dict[str, Any]:
        """What made these results, as JSON values."""
        return {**self.model.describe(), **self.options.describe()}

    def collectors(self) -> list[Collector]:
        """One collector for each sample, in the order of the indices that iteration yields."""
        return [Collector(self, sequence) for sequence in self.sequences]

    def __iter__(self) -> Iterator[tuple[int, Step]]:
        session = self._session
        while session.remaining():
            for raw in session.advance():
                yield raw.request, self._step(raw)

    def _step(self, raw: _core.Step) -> Step:
        sequence = self.sequences[raw.request]
        reason: FinishReason | None = raw.finish_reason
        # The token that ends a sequence is part of the ids, never of the text.
        text = "" if reason == "stop" else sequence.text.push(raw.token_id)
        if sequence.text.stopped is not None:
            if reason is None:
                self._session.finish(raw.request)
            reason = "stop"
        elif reason is not None:
            text += sequence.text.finish()
        elif sequence.boundary is not None:
            self._session.set_boundary(raw.request, sequence.begins_step(raw.token_id))
        return Step(
            text=text,
            token_id=raw.token_id,
            logprob=raw.logprob,
            sampling_logprob=raw.sampling_logprob,
            entropy=raw.entropy,
            step_entropy=raw.step_entropy,
            global_mean=raw.global_mean,
            threshold=raw.threshold,
            temperature=raw.temperature,
            step_index=raw.step_index,
            boundary=raw.boundary,
            finish_reason=reason,
            index=raw.request,
        )


class Collector:
    """Folds the steps of one sample into a :class:`~reset.Generation`."""

    def __init__(self, run: Run, sequence: _Sequence) -> None:
        self._run = run
        self._sequence = sequence
        self._steps: list[Step] = []
        self._started = time.perf_counter()
        self._ended = self._started

    def add(self, step: Step) -> None:
        """Takes the next step."""
        self._ended = time.perf_counter()
        self._steps.append(step)

    def generation(self) -> Generation:
        """What was generated so far."""
        steps, run, sequence = self._steps, self._run, self._sequence
        ids = [step.token_id for step in steps]
        tokenizer = run.model.tokenizer
        tokens = None if tokenizer is None else tuple(tokenizer.token_texts(ids))
        metadata = run.metadata
        text = "".join(step.text for step in steps)
        return Generation(
            text=text,
            token_ids=ids,
            prompt_token_ids=list(sequence.prompt_ids),
            finish_reason=steps[-1].finish_reason if steps else None,
            seed=run.options.seed,
            seconds=self._ended - self._started,
            trace=Trace.from_steps(steps, tokens=tokens, metadata=metadata),
            stream_id=sequence.stream_id,
            sample_index=sequence.sample,
            stop=sequence.text.stopped,
            metadata=metadata,
            text_ends=() if tokenizer is None else text_ends(tokenizer, ids, sequence.prompt_ids, len(text)),
        )
