"""The progress bar of an evaluation: samples, accuracy so far, tokens per second, time left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reset.evaluation.sample import Sample


class Progress:
    """A context manager around ``tqdm``; shows nothing where stderr is no terminal. Time left counts new samples only."""

    def __init__(self, name: str, total: int, done: Iterable[Sample], *, show: bool) -> None:
        self._name = name
        self._total = total
        self._correct = self._samples = self._tokens = 0
        for sample in done:
            self._samples += 1
            self._correct += sample.correct
        self._show = show
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self._show:
            from tqdm.auto import tqdm

            initial = min(self._samples, self._total)
            self._bar = tqdm(total=self._total, initial=initial, unit="sample", desc=self._name, disable=None, dynamic_ncols=True)
            self._started = time.perf_counter()
        return self

    def add(self, sample: Sample) -> None:
        """Counts one finished sample."""
        self._samples += 1
        self._correct += sample.correct
        self._tokens += sample.tokens
        if self._bar is not None:
            rate = self._tokens / max(time.perf_counter() - self._started, 1e-9)
            self._bar.set_postfix_str(f"{self._correct / self._samples:.1%} correct, {rate:.0f} tokens/s", refresh=False)
            self._bar.update()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
