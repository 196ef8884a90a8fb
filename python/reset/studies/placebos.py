"""Placebo arms: the temperatures of another arm without its timing.

ReSET may help because it lowers the temperature *at the right tokens*, or merely because it lowers it. Two arms tell these apart:

- :class:`ReplayedTemperatures` takes the temperatures of every sample of an arm, shuffled within the sample: as many low ones, at random
  places;
- :func:`mean_temperature` is one fixed temperature, the arm's mean.

Both read what ``reset.evaluate(…, output_dir=…, traces=True)`` kept.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reset.policies import FixedTemperature, Policy

if TYPE_CHECKING:
    import os

    from numpy.typing import ArrayLike, NDArray

    from reset.policies import Signal


class GivenTemperatures(Policy):
    """Temperatures by position, given beforehand; after the last one they begin again.

    Args:
        temperatures: of the first, second … token; at least one.

    Raises:
        ValueError: none, or one that is negative or not finite.
    """

    # Kept out of __dict__, which describes a policy in every row: the digest stands for the values.
    __slots__ = ("__dict__", "_values")

    def __init__(self, temperatures: ArrayLike) -> None:
        values = np.array(temperatures, dtype=np.float64)
        if values.ndim != 1 or not len(values) or not np.all(np.isfinite(values)) or np.any(values < 0):
            raise ValueError("temperatures: expected at least one finite number, 0 or more, in one dimension")
        values.flags.writeable = False
        self._values = values
        self.sha256 = hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()[:16]

    @property
    def temperatures(self) -> NDArray[np.float64]:
        """The temperatures, float64 ``[tokens]``."""
        return self._values

    def temperature(self, signal: Signal) -> float:
        """The one at ``signal.position``."""
        return float(self._values[signal.position % len(self._values)])

    def __repr__(self) -> str:
        return f"GivenTemperatures({len(self._values)} of mean {self._values.mean():.4f}, sha256 {self.sha256})"


class ReplayedTemperatures:
    """Every sample gets the temperatures that the same sample of another arm had, in random order. A policy for ``reset.evaluate``.

    Within a sample the multiset of temperatures is the other arm's; a sample that grows longer than its original begins again at
    the first of the shuffled ones, so their shares stay.

    Args:
        directory: the other arm's ``output_dir``, whose traces were kept.
        shuffle_seed: of the order. None keeps the order: a replay, to see what the arm's own text would do to another model.

    Raises:
        FileNotFoundError: there is no result, or a sample has no trace (when it is asked for).
    """

    def __init__(self, directory: str | os.PathLike[str], shuffle_seed: int | None = 0) -> None:
        from reset.evaluation.result import EvalResult

        self._result = EvalResult.load(directory)
        self._directory = Path(directory)
        self._shuffle_seed = None if shuffle_seed is None else int(shuffle_seed)

    def for_sample(self, problem_id: str, sample_index: int) -> Policy:
        """The policy of one sample."""
        try:
            trace = self._result.trace(problem_id, sample_index)
        except KeyError as error:
            raise FileNotFoundError(
                f"{self._directory} has no sample {sample_index} of problem {problem_id!r} to take temperatures from: run that arm on the "
                "same problems, with at least as many samples"
            ) from error
        if not len(trace):  # a prompt that left no room for an answer: the replayed sample will be as empty
            return FixedTemperature(1.0)
        return GivenTemperatures(self._shuffled(trace.temperature, problem_id, sample_index))

    def _shuffled(self, temperatures: NDArray[np.float64], problem_id: str, sample_index: int) -> NDArray[np.float64]:
        if self._shuffle_seed is None:
            return temperatures
        words = hashlib.sha256(f"{self._shuffle_seed} {sample_index} {problem_id}".encode("utf-8", "surrogatepass")).digest()
        return np.random.default_rng(np.frombuffer(words, np.uint32)).permutation(temperatures)

    def describe(self) -> dict[str, Any]:
        """What identifies it: the other arm's run, and the order."""
        return {"policy": "replayed", "run": self._result.run, "shuffle_seed": self._shuffle_seed}

    def __repr__(self) -> str:
        return f"ReplayedTemperatures({str(self._directory)!r}, shuffle_seed={self._shuffle_seed})"


def mean_temperature(directory: str | os.PathLike[str]) -> FixedTemperature:
    """One fixed temperature: the mean over all tokens of an arm.

    Raises:
        FileNotFoundError: there is no result in ``directory``.
        ValueError: it has no token.
    """
    from reset.evaluation.result import EvalResult

    samples = [s for s in EvalResult.load(directory).samples if s.tokens]
    if not samples:
        raise ValueError(f"{directory} has no sample with a token to take a mean temperature from")
    return FixedTemperature(math.fsum(s.temperature_mean * s.tokens for s in samples) / sum(s.tokens for s in samples))
