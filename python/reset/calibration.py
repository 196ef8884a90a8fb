"""Calibration: the base threshold τ_0 of the ReSET policy, measured on a model.

τ_0 separates sure tokens from unsure ones. It is a percentile, the 80th, of the token entropies that the *quantized* model shows on a
few problems (arXiv 2606.13233: five problems, sampled at temperature 0.6, up to 4,096 tokens each)::

    problems ──sample at T 0.6──► outputs ──► entropy of every token ──► 80th percentile = τ_0
                                                                    └──► percentile of resampled problems = its interval

The tokens of one output resemble each other, so the *problems* are what is resampled; five of them make a wide interval.

>>> import numpy as np
>>> from reset.calibration import Calibration
>>> c = Calibration.from_entropies([np.arange(11.0), np.arange(5.0, 16.0)])
>>> float(c.tau_0), c.policy(t_low=0.3).t_low
(10.8, 0.3)

A saved calibration is a preset: ``reset.ReSET.preset("calibration.json", t_low=0.3)``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reset._calibration_run import Measurement, explained
from reset._checks import integer, number, output_path, path_like
from reset._percentile import percentile_interval
from reset.files import written_atomically
from reset.models import is_shipped, shipped_folder
from reset.policies import ReSET
from reset.statistics import Interval

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from reset._sequences import PromptLike
    from reset.model import Model
    from reset.tasks import Task

__all__ = ["FILE_NAME", "Calibration", "calibrate", "preset"]

FORMAT = "reset-calibration-1"
FILE_NAME = "reset_calibration.json"
DISTRIBUTIONS = ("raw", "processed")
SHOWN_PERCENTILES = (1, 5, 10, 25, 50, 60, 70, 75, 80, 85, 90, 95, 99)
#: Below this number of problems the notes say that the interval is rough.
ENOUGH_PROBLEMS = 20


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """A measured τ_0. Made by :func:`reset.calibrate`, :meth:`from_entropies` and :meth:`load`.

    Attributes:
        tau_0: the percentile of all token entropies, nats.
        interval: 95 % interval of it, nats, for problems like these; NaN for a single problem. :mod:`reset._percentile` says how.
        per_problem: the token entropies of each problem, nats: float64 arrays ``[tokens]``.
        percentile: which one ``tau_0`` is, from 0 to 100.
        distribution: "raw", as policies see it, or "processed", after temperature and filters.
        t_low: a temperature found by :func:`reset.tune` that is kept beside ``tau_0``, or None.
        metadata: model, task, problems, options and versions, as JSON values.
    """

    tau_0: float
    interval: Interval
    per_problem: tuple[NDArray[np.float64], ...]
    percentile: float = 80.0
    distribution: str = "raw"
    t_low: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_entropies(
        cls,
        per_problem: Sequence[ArrayLike],
        *,
        percentile: float = 80.0,
        distribution: str = "raw",
        seed: int = 42,
        metadata: Mapping[str, Any] | None = None,
    ) -> Calibration:
        """The calibration that follows from token entropies, one array per problem (``g.trace.entropy`` of each generation).

        Raises:
            ValueError: no tokens, entropies that are negative or not finite, or a percentile outside 0 to 100.
        """
        _check(percentile, distribution)
        arrays = []
        for index, values in enumerate(per_problem):
            array = np.array(values, dtype=np.float64)
            if array.ndim != 1 or not np.all(np.isfinite(array)) or np.any(array < 0):
                raise ValueError(f"entropies of problem {index}: expected a 1-D array of finite numbers of nats, 0 or more")
            array.flags.writeable = False
            arrays.append(array)
        if not sum(map(len, arrays)):
            raise ValueError("there are no token entropies to take a percentile of: every output is empty")
        return cls(
            tau_0=float(np.percentile(np.concatenate(arrays), percentile)),
            interval=percentile_interval(arrays, percentile, seed=seed),
            per_problem=tuple(arrays),
            percentile=float(percentile),
            distribution=distribution,
            metadata=dict(metadata or {}),
        )

    @cached_property
    def entropies(self) -> NDArray[np.float64]:
        """All token entropies, problem by problem, nats: float64 ``[tokens]``."""
        return np.concatenate(self.per_problem)

    @property
    def percentiles(self) -> dict[float, float]:
        """Percentile → entropy in nats, for a table; the calibrated one is among them."""
        wanted = sorted({*map(float, SHOWN_PERCENTILES), self.percentile})
        return dict(zip(wanted, np.percentile(self.entropies, wanted).tolist(), strict=True))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the number should know, as sentences; empty where nothing is to be said."""
        notes, count = [], len(self.per_problem)
        if count == 1:
            notes.append("One problem has no interval: tokens of one output say nothing about other problems.")
        elif count < ENOUGH_PROBLEMS:
            half = (self.interval[1] - self.interval[0]) / 2
            notes.append(
                f"{count} problems are few: tau_0 is {self.tau_0:.3f} ± {half:.3f} nats, and the interval itself is rough. "
                f"With problems={ENOUGH_PROBLEMS} or more both get better."
            )
        if self.distribution == "processed":
            notes.append("Entropies after temperature and filters are on another scale than those that policies see (distribution='raw').")
        return tuple(notes)

    def policy(self, t_low: float | None = None, *, t_high: float = 1.0, window: int = 32, include_current: bool = False) -> ReSET:
        """The ReSET policy with this ``tau_0``; ``t_low`` None takes the stored one.

        Raises:
            ValueError: no ``t_low`` given or stored.
        """
        chosen = self.t_low if t_low is None else t_low
        if chosen is None:
            raise ValueError("a calibration finds tau_0 alone: pass t_low, such as policy(t_low=0.3); reset.tune searches a good one")
        return ReSET(chosen, self.tau_0, t_high, window, include_current)

    def __iter__(self) -> Iterator[Any]:
        """``tau_0, interval, entropies``: ``tau_0, *_ = reset.calibrate(model)``."""
        return iter((self.tau_0, self.interval, self.entropies))

    def save(self, path: str | os.PathLike[str] | None = None, *, t_low: float | None = None) -> Path:
        """Writes JSON, whole or not at all, and returns where.

        Args:
            path: a file, or a folder (then ``reset_calibration.json`` in it). None: beside the model, if that is a folder of one's own.
            t_low: kept in the file, so that ``ReSET.preset(path)`` needs nothing else.

        Raises:
            PermissionError: the folder cannot be written, or is a hub cache or an installed package, which are not ours to change.
            FileNotFoundError: the folder does not exist.
        """
        target = beside_model(str(self.metadata.get("model", ""))) if path is None else file_to_write(path)
        stored = replace(self, t_low=self.t_low if t_low is None else float(t_low))
        with explained(target), written_atomically(target) as file:
            file.write(json.dumps(stored.to_dict(), ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n")
        return target

    def plot(self, ax: Axes | None = None) -> Axes:
        """Histogram and distribution of the entropies, with ``tau_0``; see :func:`reset.plots.plot_entropy`. Returns the axes."""
        from reset.plots import plot_entropy

        return plot_entropy({"calibration": self}, ax=ax, tau_0=self.tau_0)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        low, high = (None if math.isnan(value) else float(value) for value in self.interval)
        return {
            "format": FORMAT, "tau_0": self.tau_0, "interval": [low, high], "t_low": self.t_low, "percentile": self.percentile,
            "distribution": self.distribution, "problems": len(self.per_problem), "tokens": len(self.entropies), "notes": list(self.notes),
            "percentiles": {f"{name:g}": value for name, value in self.percentiles.items()}, "metadata": dict(self.metadata),
            "entropies": [array.tolist() for array in self.per_problem],
        }  # fmt: skip

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Reads what :meth:`save` wrote; of a folder, its ``reset_calibration.json``. ``"tiny"`` is the shipped model's.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is not a calibration; the message names the file.
        """
        file = calibration_file(path)
        if not file.is_file():
            output = "calibration.json" if is_shipped(path) else str(file)
            raise FileNotFoundError(f"{file}: no such file; reset.calibrate(model, output={output!r}) makes one")
        try:
            record = json.loads(file.read_bytes())
            if not isinstance(record, dict) or record.get("format") != FORMAT:
                raise ValueError(f"expected a JSON object with format {FORMAT!r}")
            low, high = (math.nan if value is None else float(value) for value in record["interval"])
            return cls(
                tau_0=float(record["tau_0"]),
                interval=Interval(low, high),
                per_problem=tuple(np.array(values, dtype=np.float64) for values in record["entropies"]),
                percentile=float(record["percentile"]),
                distribution=str(record["distribution"]),
                t_low=None if record["t_low"] is None else float(record["t_low"]),
                metadata=dict(record["metadata"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: not a calibration that reset.calibrate wrote ({error or type(error).__name__})") from error

    def __repr__(self) -> str:
        count = len(self.per_problem)
        return (
            f"Calibration(tau_0={self.tau_0:.4f} [{self.interval[0]:.4f}, {self.interval[1]:.4f}], percentile {self.percentile:g} of "
            f"{len(self.entropies):,} {self.distribution} entropies of {count} problem{'s' * (count != 1)})"
        )


def calibrate(
    model: Model | str | Path,
    *,
    task: str | Task | None = None,
    prompts: PromptLike | None = None,
    split: str = "calibration",
    problems: int = 5,
    max_new_tokens: int = 4096,
    temperature: float = 0.6,
    percentile: float = 80.0,
    distribution: str = "raw",
    seed: int = 42,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    prompt: str = "boxed",
    thinking: bool | None = None,
    data: str | Path | None = None,
    batch_size: int = 8,
    output: str | Path | None = None,
    progress: bool = True,
) -> Calibration:
    """Measures τ_0: samples a few problems, and takes a percentile of all their token entropies.

    Args:
        model: A :class:`~reset.Model` in the form it will run in (NVFP4), or a path or hub id.
        task: Where the problems come from: a name as in :func:`reset.evaluate`, or a :class:`reset.Task`. With neither task nor prompts:
            the built-in "arithmetic", which needs no files; for values that compare with the paper's, take competition mathematics.
        prompts: Prompts of one's own instead: a string, messages, token ids, or a list of those. All of them are used.
        split: Split of the task. "test" is refused: a threshold chosen there has seen what it is tested on.
        problems: Number of problems of the task, the first ones. The paper takes 5; the interval says how far that carries.
        max_new_tokens: Most tokens of an output.
        temperature: Of the draws. The entropies are those of the raw distribution all the same.
        percentile: From 0 to 100.
        distribution: "raw" entropies, which policies see; or "processed" ones, after temperature and filters, as the published script.
            Processed entropies take a second pass over each output, whose logits (tokens × vocabulary × 4 bytes) have to fit in memory.
        seed: Of the draws, and of the interval's resampling.
        top_p, top_k, min_p: Filters of the draws; None is off.
        prompt, thinking, data: As in :func:`reset.evaluate`.
        batch_size: Sequences decoded together; changes no token.
        output: A JSON file to write, or a folder (``reset_calibration.json`` in it). Finished problems are kept beside it while it runs
            (``….partial.jsonl``): after Ctrl-C or a crash, the same call goes on with the others.
        progress: Show a progress bar on stderr.

    Returns:
        A :class:`Calibration`: ``tau_0``, ``interval``, ``entropies``, ``percentiles``, ``notes``, and ``.policy(t_low)``.

    Raises:
        reset.Interrupted: Ctrl-C; ``.partial`` holds the generations so far (``Calibration.from_entropies`` takes their entropies), and
            finished ones are in the partial file where ``output`` was given.
        PermissionError: ``output`` cannot be written; said before anything is generated.
        reset.ConfigError: the partial file beside ``output`` belongs to another model or other options.
        ValueError, TypeError: options or prompts that make no sense.
    """
    from reset.model import resolve_model

    _check(percentile, distribution)
    loaded = resolve_model(model)
    source, texts = _prompts(task, prompts, split, problems, prompt, data)
    measurement = Measurement(
        loaded, texts, distribution=distribution, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed, top_p=top_p,
        top_k=top_k, min_p=min_p, thinking=thinking, batch_size=batch_size,
    )  # fmt: skip
    if output is not None:
        output_path("output", output)
    target = None if output is None else file_to_write(output)
    per_problem = measurement.run(target, source, progress=progress)
    found = Calibration.from_entropies(
        per_problem, percentile=percentile, distribution=distribution, seed=seed, metadata=measurement.describe(source)
    )
    if target is not None:
        found.save(target)
        measurement.discard_partial(target)
    return found


def preset(path: str | os.PathLike[str], t_low: float | None = None) -> ReSET:
    """The policy of a stored calibration: what ``reset.ReSET.preset(path)`` returns.

    Raises:
        FileNotFoundError, ValueError: as :meth:`Calibration.load` and :meth:`Calibration.policy`, naming the file.
    """
    calibration = Calibration.load(path)
    if t_low is None and calibration.t_low is None:
        raise ValueError(
            f"{calibration_file(path)} holds tau_0 = {calibration.tau_0:.4f} and no t_low: pass one, "
            f"ReSET.preset({str(path)!r}, t_low=0.3), or store it with Calibration.save(path, t_low=…)"
        )
    return calibration.policy(t_low)


def calibration_file(path: str | os.PathLike[str]) -> Path:
    """The file meant by a file or folder name, or by the name of a model inside this package."""
    target = shipped_folder(path) if isinstance(path, str) and is_shipped(path) else Path(path_like("path", path)).expanduser()
    return target / FILE_NAME if target.is_dir() else target


def file_to_write(path: str | os.PathLike[str]) -> Path:
    """The file meant by a file or folder name that something will be written to.

    Raises:
        PermissionError: the name of a model inside this package, whose folder is not ours to change.
    """
    if is_shipped(path):
        raise PermissionError(
            f"{path!r} is the model inside this package, which is not ours to change; name a file of your own: 'calibration.json', or "
            f"'./{path}' for a file or folder of that name"
        )
    return calibration_file(path)


def beside_model(model: str) -> Path:
    """Where the calibration of a model belongs that was loaded from a folder of one's own.

    Raises:
        PermissionError: the model came from the hub, or lies in a hub cache or an installed package; the message names ``output=``.
    """
    folder = Path(model).expanduser()
    advice = "name a file of your own: calibrate(…, output='calibration.json')"
    if is_shipped(model):
        raise PermissionError(f"{model!r} is the model inside this package, which is not ours to change; {advice}")
    if not model or not folder.is_dir():
        raise PermissionError(f"{model or 'this calibration'} was not loaded from a folder on this machine; {advice}")
    parts = {*folder.absolute().parts, *folder.resolve().parts}
    if parts & {"site-packages", "dist-packages"}:
        raise PermissionError(f"{folder} belongs to an installed package, which is not ours to change; {advice}")
    if any(part.startswith("models--") for part in parts):
        raise PermissionError(f"{folder} lies in the cache of the Hugging Face hub, which is not ours to change; {advice}")
    return folder / FILE_NAME


def _check(percentile: float, distribution: str) -> None:
    if not 0 <= number("percentile", percentile) <= 100:
        raise ValueError(f"percentile = {percentile!r} is not possible: give a number from 0 to 100; the paper uses 80")
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution = {distribution!r} is not possible: use 'raw' (what policies see) or 'processed'")


def _prompts(
    task: str | Task | None, prompts: PromptLike | None, split: str, problems: int, prompt: str, data: str | Path | None
) -> tuple[dict[str, Any], list[Any]]:
    """What the problems are, as JSON values, and their prompts."""
    from reset._sequences import as_prompts

    if prompts is not None:
        if task is not None:
            raise ValueError("task and prompts exclude each other: give one source of problems")
        return {"task": None}, as_prompts(prompts)[0]
    if split == "test":
        raise ValueError("split = 'test' is refused: a threshold calibrated on the test problems has seen what it is tested on")
    from reset.tasks import fingerprint, get_task

    chosen = get_task("arithmetic" if task is None else task, data=data)
    wanted = integer("problems", problems)
    listed = chosen.problems(split, limit=wanted)
    if len(listed) < wanted:
        raise ValueError(f"problems = {wanted}, and split {split!r} of {chosen.name} has {len(listed)}")
    source = {
        "task": chosen.name, "task_version": chosen.version, "split": split, "prompt": prompt, "problem_ids": [p.id for p in listed],
        "problems_sha256": fingerprint(listed),
    }  # fmt: skip
    return source, [chosen.prompt(problem, prompt) for problem in listed]
