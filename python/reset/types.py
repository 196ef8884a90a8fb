"""What a generation gives back: steps while it runs, a :class:`Generation` with its :class:`Trace` at the end.

One row of a trace is one produced token::

    token_id  entropy  step_entropy  global_mean  threshold  temperature  step_index  boundary
        1986     1.24          0.91         0.74       0.91         1.00           0     False
         271     0.02          0.88         0.75       0.88         0.30           0     False
         785     0.55          0.02         0.70       0.55         1.00           1      True   ← begins step 1

Entropies are in nats and belong to the raw distribution, before temperature and filters. ``ALGORITHM.md`` of the
documentation defines every quantity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, overload

import numpy as np

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import pandas
    from matplotlib.axes import Axes

    from reset import _core

    Column: TypeAlias = npt.NDArray[Any]

FinishReason: TypeAlias = Literal["stop", "length"]

COLUMNS: Final[dict[str, type[np.generic]]] = {
    "token_id": np.int64,
    "logprob": np.float64,
    "sampling_logprob": np.float64,
    "entropy": np.float64,
    "step_entropy": np.float64,
    "global_mean": np.float64,
    "threshold": np.float64,
    "temperature": np.float64,
    "step_index": np.int64,
    "boundary": np.bool_,
}
"""Columns of a trace, in order, with their dtypes."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during long work. ``partial`` holds what was finished: of ``generate`` the generations so far, of ``evaluate`` the
    :class:`~reset.EvalResult` of the samples so far.

    A ``KeyboardInterrupt``, so that code which knows nothing of it stops as usual.
    """

    def __init__(self, partial: Any, message: str | None = None) -> None:
        if message is None:
            done = sum(len(generation.token_ids) for generation in partial)
            message = f"interrupted after {done} tokens; the generations so far are in .partial"
        super().__init__(message)
        self.partial = partial

    def __reduce__(self) -> tuple[type[Interrupted], tuple[Any, str]]:
        return type(self), (self.partial, str(self))


@dataclass(frozen=True, slots=True)
class Step:
    """One produced token, as ``reset.stream`` yields it.

    Attributes:
        text: the text this token made certain; ``""`` while half a character or the beginning of a stop string is held
            back. The texts of all steps joined are the text of the generation.
        token_id: the token.
        logprob: its log-probability in the raw distribution.
        sampling_logprob: its log-probability after temperature and filters.
        entropy: of the raw distribution it was drawn from, nats.
        step_entropy: estimate of the entropy of the reasoning step, nats; NaN for policies without one.
        global_mean: mean entropy of all tokens before, nats; NaN for policies without one.
        threshold: entropy from which on the temperature is high, nats; NaN for policies without one.
        temperature: the temperature it was drawn at.
        step_index: the reasoning step it belongs to, from 0.
        boundary: whether it begins a new reasoning step.
        finish_reason: ``"stop"`` or ``"length"`` at the last token, else None.
        index: which sequence of the batch it belongs to.
    """

    text: str
    token_id: int
    logprob: float
    sampling_logprob: float
    entropy: float
    step_entropy: float
    global_mean: float
    threshold: float
    temperature: float
    step_index: int
    boundary: bool
    finish_reason: FinishReason | None = None
    index: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """What happened at every produced token: ten arrays of equal length, read-only.

    ``trace.entropy`` is a column; ``trace[10:20]`` and ``trace[trace.boundary]`` are traces; ``trace[3]`` is one row as a dict;
    ``len(trace)`` counts tokens.

    Attributes:
        token_id: int64.
        logprob: float64, raw distribution.
        sampling_logprob: float64, after temperature and filters.
        entropy: float64, nats, raw distribution.
        step_entropy: float64, nats; NaN where the policy has none, as for the next two.
        global_mean: float64, nats.
        threshold: float64, nats.
        temperature: float64.
        step_index: int64, from 0.
        boundary: bool, True at the first token of a step (but not at the very first token).
        tokens: the text of each token, or None.
        metadata: what made the trace: policy, seed, model … (values that JSON can hold).

    Raises:
        ValueError: columns of unequal length, with more than one dimension, or with values their dtype cannot hold.
    """

    token_id: Column
    logprob: Column
    sampling_logprob: Column
    entropy: Column
    step_entropy: Column
    global_mean: Column
    threshold: Column
    temperature: Column
    step_index: Column
    boundary: Column
    tokens: tuple[str, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in COLUMNS.items():
            object.__setattr__(self, name, _column(name, getattr(self, name), dtype))
        if self.tokens is not None:
            object.__setattr__(self, "tokens", tuple(self.tokens))
            if not all(isinstance(token, str) for token in self.tokens):
                raise TypeError("the tokens of a trace must be their texts (str), or None for all")
        if not isinstance(self.metadata, Mapping):
            raise TypeError(f"the metadata of a trace must be a dict, got {type(self.metadata).__name__}")
        lengths = {name: len(getattr(self, name)) for name in COLUMNS}
        if self.tokens is not None:
            lengths["tokens"] = len(self.tokens)
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of a trace must have one length, got {lengths}")

    @classmethod
    def from_steps(
        cls, steps: Sequence[Step | _core.Step], *, tokens: tuple[str, ...] | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Trace:
        """The trace of the steps of one sequence."""
        columns = {name: np.array([getattr(step, name) for step in steps], dtype=dtype) for name, dtype in COLUMNS.items()}
        return cls(**columns, tokens=tokens, metadata=metadata or {})

    @property
    def columns(self) -> dict[str, Column]:
        """Name → array, in order."""
        return {name: getattr(self, name) for name in COLUMNS}

    @property
    def uncertain(self) -> npt.NDArray[np.bool_]:
        """Where the step is uncertain: its entropy is above the global mean. False where the policy has no such quantities."""
        return np.asarray(self.step_entropy > self.global_mean)

    def __len__(self) -> int:
        return len(self.token_id)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice | Column | list[int]) -> Trace: ...
    def __getitem__(self, key: int | slice | Column | list[int]) -> dict[str, Any] | Trace:
        if isinstance(key, int | np.integer):
            row: dict[str, Any] = {name: column[key].item() for name, column in self.columns.items()}
            return row if self.tokens is None else {**row, "token": self.tokens[key]}
        chosen = np.arange(len(self))[key]
        tokens = None if self.tokens is None else tuple(self.tokens[i] for i in chosen)
        return Trace(**{name: column[chosen] for name, column in self.columns.items()}, tokens=tokens, metadata=self.metadata)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        same = all(
            np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(self.columns.values(), other.columns.values(), strict=True)
        )
        return same and self.tokens == other.tokens and dict(self.metadata) == dict(other.metadata)

    __hash__ = None  # type: ignore[assignment]

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame with one row per token, a column ``token`` where texts are known, and ``attrs`` holding the metadata.

        Raises ``ImportError`` without pandas (``pip install 'reset-nvfp4[pandas]'``).
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ImportError("Trace.to_pandas needs pandas: pip install 'reset-nvfp4[pandas]'") from error
        frame = pandas.DataFrame({name: column.copy() for name, column in self.columns.items()})
        if self.tokens is not None:
            frame.insert(1, "token", list(self.tokens))
        frame.attrs.update(self.metadata)
        return frame

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the trace; see :func:`reset.plots.plot_trace`. Returns the axes."""
        from reset.plots import plot_trace

        return plot_trace(self, ax=ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the trace to ``.npz``, ``.jsonl`` or ``.csv``, by the name's ending. The file appears whole or not at all.

        All three keep every value exactly, with tokens and metadata. Raises ValueError for other endings.
        """
        from reset.trace_files import save

        save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trace:
        """Reads what :meth:`save` wrote. FileNotFoundError; ValueError naming the file if it is not such a file."""
        from reset.trace_files import load

        return load(path)

    def __repr__(self) -> str:
        count, steps = len(self), int(self.step_index.max()) + 1 if len(self) else 0
        head = f"Trace: {count} token{'s' * (count != 1)}, {steps} step{'s' * (steps != 1)}"
        if not count:
            return head
        shown = range(count) if count <= 8 else [*range(5), -1, *range(count - 2, count)]
        rows = [["", *(["token"] if self.tokens is not None else []), *_SHOWN]]
        rows += [["…"] * len(rows[0]) if i < 0 else self._cells(i) for i in shown]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([head, *lines])

    def _cells(self, i: int) -> list[str]:
        text = [] if self.tokens is None else [_shortened(repr(self.tokens[i]), 16)]
        return [str(i), *text, *(_cell(getattr(self, name)[i]) for name in _SHOWN)]


_SHOWN = ("token_id", "entropy", "step_entropy", "global_mean", "threshold", "temperature", "step_index", "boundary")


@dataclass(frozen=True, repr=False)
class Generation:
    """One finished sequence. ``print(generation)`` prints its text.

    Attributes:
        text: the text after the prompt, cut before a stop string, without special tokens.
        token_ids: every produced id, the one that ended it included.
        prompt_token_ids: the ids the model read first.
        finish_reason: ``"stop"`` (an end token or a stop string) or ``"length"`` (``max_new_tokens``, or no room left); None
            in what an interrupted generation leaves.
        seed: of the draws; the same seed, options and device give the same tokens.
        seconds: wall-clock time, prompt included; in a batch, of the batch.
        trace: what happened at every token.
        stream_id: 64-bit number of this sequence's random draws, a hash of prompt and sample index.
        sample_index: which of ``n`` samples of its prompt this is.
        stop: the stop string that ended it, or None.
        metadata: model, weights, activations, policy and options, as JSON values.
        text_ends: where in :attr:`text` the text of each token ends: ``text[text_ends[i - 1]:text_ends[i]]`` is what token ``i`` made
            certain. A character spread over several tokens belongs to the last of them. Empty without a tokenizer.

    In a notebook it shows its text coloured by entropy, underlined where the temperature was high; :mod:`reset.views`.
    """

    text: str
    token_ids: list[int]
    prompt_token_ids: list[int]
    finish_reason: FinishReason | None
    seed: int
    seconds: float
    trace: Trace
    stream_id: int = 0
    sample_index: int = 0
    stop: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    text_ends: tuple[int, ...] = ()

    @property
    def tokens_per_second(self) -> float:
        """Produced tokens of this sequence per second of :attr:`seconds`; NaN for no time at all."""
        return len(self.token_ids) / self.seconds if self.seconds > 0 else float("nan")

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Writes what a notebook shows, with every token, as one HTML file that needs nothing else; whole or not at all."""
        from reset.files import written_atomically
        from reset.views import generation_page

        with written_atomically(path) as file:
            file.write(generation_page(self).encode())

    def _repr_html_(self) -> str:
        from reset.views import generation_html

        return generation_html(self)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        count = len(self.token_ids)
        return (
            f"Generation({_shortened(repr(self.text), 60)}, {count} token{'s' * (count != 1)} after {len(self.prompt_token_ids)}, "
            f"{self.finish_reason!r}, seed={self.seed}, {self.tokens_per_second:.1f} tokens/s)"
        )


_ACCEPTED_KINDS: dict[type[np.generic], str] = {np.int64: "iu", np.float64: "fiu", np.bool_: "b"}


def _column(name: str, values: object, dtype: type[np.generic]) -> Column:
    given = np.asarray(values)
    if given.ndim != 1:
        raise ValueError(f"trace column {name} must have one dimension, got shape {given.shape}")
    if given.size and given.dtype.kind not in _ACCEPTED_KINDS[dtype]:
        raise ValueError(f"trace column {name} must hold {np.dtype(dtype).name}, got {given.dtype}")
    column = given.astype(dtype, copy=True)
    column.flags.writeable = False
    return column


def _cell(value: Any) -> str:
    if isinstance(value, np.bool_):
        return "yes" if value else ""
    return f"{value:.3f}" if isinstance(value, np.floating) else str(value)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
