"""One graded sample: a row of a result, a line of ``samples.jsonl``."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from typing import Any

#: Outcomes, each sample in exactly one: the first that holds, in this order.
OUTCOMES = ("correct", "truncated", "unparsed", "wrong")


@dataclass(frozen=True)
class Sample:
    """One graded sample.

    Attributes:
        problem_id: which problem of the task.
        sample_index: which of its samples, from 0.
        seed: of the draws.
        stream: 64-bit number of this sample's draws (``reset.sampling.stream_of_evaluate``), ``0x`` and 16 hexadecimal digits.
        prompt_sha256: of the prompt's token ids.
        prompt_tokens: length of the prompt.
        token_ids: every produced id, the one that ended it included.
        tokens: their number.
        text: decoded, without special tokens.
        finish_reason: ``"stop"`` or ``"length"`` (the limit, or no room left in the context).
        seconds: from joining the batch to the last token; not part of what a sample *is* (see :meth:`same_as`).
        reference: the answer it was compared with.
        answer, source, method, parsed, correct, lenient_correct, lenient_answer: see :class:`reset.Score`.
        truncated: whether ``finish_reason`` is ``"length"``.
        outcome: one of ``OUTCOMES``: correct, else truncated, else unparsed, else wrong.
        entropy_mean: mean raw token entropy, nats; NaN without tokens, as for the next.
        temperature_mean: mean temperature of the draws.
        steps: reasoning steps begun (1 and the boundaries).
        high_tokens: tokens whose entropy reached the threshold (0 for policies without one).
        uncertain_tokens: tokens of uncertain steps, ``step_entropy > global_mean``.
        repetition: whether it ends in a loop (:func:`ends_in_a_loop`).
        trace: path of the trace file inside the result's folder, or None.
        options: policy, filters, limits: what shaped it.
        versions: of the package, the scorer and the tokenizer library, device and instruction set.
        run: hash of the identity it belongs to.
    """

    problem_id: str
    sample_index: int
    seed: int
    stream: str
    prompt_sha256: str
    prompt_tokens: int
    token_ids: list[int]
    tokens: int
    text: str
    finish_reason: str
    seconds: float
    reference: str
    answer: str | None
    source: str | None
    method: str | None
    parsed: bool
    correct: bool
    truncated: bool
    lenient_correct: bool
    lenient_answer: str | None
    outcome: str
    entropy_mean: float
    temperature_mean: float
    steps: int
    high_tokens: int
    uncertain_tokens: int
    repetition: bool
    trace: str | None
    options: dict[str, Any]
    versions: dict[str, Any]
    run: str

    def __getitem__(self, name: str) -> Any:
        """``sample["correct"]`` is ``sample.correct``; with :meth:`keys`, ``dict(sample)`` is a row as a dict."""
        if name not in _FIELDS:
            raise KeyError(f"a sample has no {name!r}; it has {', '.join(_FIELDS)}")
        return getattr(self, name)

    def keys(self) -> tuple[str, ...]:
        """Names of the columns."""
        return _FIELDS

    @property
    def key(self) -> tuple[str, int]:
        """Problem and sample: unique in a result."""
        return self.problem_id, self.sample_index

    def same_as(self, other: Sample) -> bool:
        """Whether both are the same sample: equal but for the time it took, the machine, and whether a trace was kept."""
        return self._content() == other._content()

    def _content(self) -> dict[str, Any]:
        content = dict(vars(self))
        for name in ("seconds", "versions", "trace"):
            del content[name]
        # NaN is unequal to itself.
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in content.items()}

    def to_json(self) -> str:
        """One line of strict JSON, without its end; NaN is null."""
        record = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in vars(self).items()}
        return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> Sample:
        """Reads :meth:`to_json`. ValueError for anything else; unknown fields (of a later version) are refused too."""
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")
        missing = [name for name in _FIELDS if name not in record]
        unknown = [name for name in record if name not in _FIELDS]
        if missing or unknown:
            raise ValueError(f"not a sample: missing {missing}, unknown {unknown}")
        for name in ("entropy_mean", "temperature_mean", "seconds"):
            record[name] = math.nan if record[name] is None else float(record[name])
        if record["outcome"] not in OUTCOMES:
            raise ValueError(f"outcome {record['outcome']!r} is none of {', '.join(OUTCOMES)}")
        return cls(**record)


_FIELDS = tuple(field.name for field in fields(Sample))


def outcome_of(*, correct: bool, truncated: bool, parsed: bool) -> str:
    """The first of ``OUTCOMES`` that holds."""
    return "correct" if correct else "truncated" if truncated else "unparsed" if not parsed else "wrong"


def ends_in_a_loop(token_ids: list[int], *, longest_period: int = 128, repeats: int = 4, least_span: int = 64) -> bool:
    """Whether the last tokens repeat: at least ``repeats`` times one period of up to ``longest_period`` tokens, over at least
    ``least_span`` tokens. Truncated samples that loop would not have come to an answer with a higher limit either.

    >>> ends_in_a_loop([5] * 64), ends_in_a_loop(list(range(100)))
    (True, False)
    """
    backwards = token_ids[::-1]
    for period in range(1, longest_period + 1):
        span = max(repeats * period, least_span)
        if span > len(backwards):
            return False  # longer periods need longer spans
        if backwards[: span - period] == backwards[period:span]:
            return True
    return False
