"""The result of an evaluation: rows, and the numbers that follow from them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from reset._checks import output_path, path_like
from reset.errors import ConfigError
from reset.evaluation import store
from reset.evaluation.identity import FORMAT, identity_hash
from reset.evaluation.sample import OUTCOMES, Sample
from reset.files import written_atomically
from reset.statistics import accuracy_interval, majority_at, pass_at
from reset.types import Trace

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    import pandas
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["EvalResult", "Plan", "Sample"]


class Plan(TypedDict):
    """What a run will hold when it is whole: problems as ``[id, digest of question and reference]``, and samples of each."""

    problems: list[list[str]]
    n_samples: int


class EvalResult:
    """Graded samples of one model, task and set of options. Made by :func:`reset.evaluate` and :meth:`load`; immutable.

    Attributes:
        samples: :class:`Sample` rows, problem by problem, sample by sample.
        problem_ids: the planned problems, in order.
        n_samples: planned samples of each problem.
        metadata: the identity: task, model, policy, options, seed, scorer, versions; and ``problems_sha256`` of the planned problems.
        directory: the folder it lies in, or None.

    >>> import reset
    >>> r = reset.EvalResult.load("runs/bf16")     # doctest: +SKIP
    >>> r.accuracy, r.ci95, r.counts               # doctest: +SKIP
    """

    def __init__(self, samples: Iterable[Sample], *, identity: Mapping[str, Any], plan: Plan, directory: Path | None = None) -> None:
        self._identity = dict(identity)
        self._plan = plan
        self.run = identity_hash(identity)
        self.problem_ids = tuple(id for id, _ in plan["problems"])
        self.n_samples = int(plan["n_samples"])
        self.directory = directory
        position = {id: index for index, id in enumerate(self.problem_ids)}
        found: dict[tuple[str, int], Sample] = {}
        for sample in samples:
            if sample.run != self.run:
                raise ConfigError(f"a sample of run {sample.run} cannot be in a result of run {self.run}; they are never mixed")
            if sample.problem_id in position and sample.sample_index < self.n_samples:
                store.add_sample(found, sample, "samples")
        self.samples = tuple(sorted(found.values(), key=lambda s: (position[s.problem_id], s.sample_index)))
        self._position = position

    # What it is

    @property
    def metadata(self) -> dict[str, Any]:
        """The identity, and the hash of the planned problems."""
        digest = hashlib.sha256(json.dumps(self._plan["problems"], ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()
        return {**self._identity, "problems_sha256": digest}

    @property
    def planned(self) -> int:
        """Samples that the plan asks for."""
        return len(self.problem_ids) * self.n_samples

    @property
    def partial(self) -> bool:
        """Whether planned samples are missing. Numbers of a partial result are those of the samples that are there."""
        return len(self.samples) < self.planned

    def outcomes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Correct samples and samples of each planned problem: two int64 arrays ``[problems]``."""
        correct, samples = np.zeros((2, len(self.problem_ids)), np.int64)
        for sample in self.samples:
            index = self._position[sample.problem_id]
            samples[index] += 1
            correct[index] += sample.correct
        return correct, samples

    # What it says

    @property
    def accuracy(self) -> float:
        """Mean over problems of the mean over their samples (avg@k); NaN without samples."""
        correct, samples = self._sampled()
        return float(np.mean(correct / samples)) if len(samples) else float("nan")

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % interval of :attr:`accuracy` for problems like these: Wilson's for one sample each, else clustered by problem."""
        correct, samples = self._sampled()
        if len(samples) == 0:
            return float("nan"), float("nan")
        low, high = accuracy_interval(correct, samples)
        return float(low), float(high)

    @property
    def counts(self) -> dict[str, int]:
        """Samples by outcome, each in one: correct, else truncated, else unparsed, else wrong."""
        counts = dict.fromkeys(OUTCOMES, 0)
        for sample in self.samples:
            counts[sample.outcome] += 1
        return counts

    @property
    def too_long(self) -> int:
        """Samples whose prompt left no room in the model's context: no token was drawn, and they count as truncated."""
        return sum(sample.tokens == 0 for sample in self.samples)

    @property
    def lenient_accuracy(self) -> float:
        """Accuracy under the paper's rule: the last box anywhere counts, unfinished thoughts included, else the last number."""
        sums: dict[str, list[int]] = {}
        for sample in self.samples:
            pair = sums.setdefault(sample.problem_id, [0, 0])
            pair[0] += sample.lenient_correct
            pair[1] += 1
        return float(np.mean([right / n for right, n in sums.values()])) if sums else float("nan")

    def pass_at(self, k: int) -> float:
        """Chance that at least one of ``k`` samples of a problem is right, mean over problems: the unbiased estimate of Chen et al. 2021
        (arXiv 2107.03374).

        Raises:
            ValueError: a problem has fewer than ``k`` samples.
        """
        return float(pass_at(*self._sampled(), k))

    def majority_at(self, k: int) -> float:
        """Chance that the most frequent answer of ``k`` samples is right, mean over problems; see ``reset.statistics.majority_at`` for
        ties and samples without an answer.

        Raises:
            ValueError: a problem has fewer than ``k`` samples.
        """
        votes: dict[str, list[tuple[str | None, bool]]] = {}
        for sample in self.samples:
            votes.setdefault(sample.problem_id, []).append((sample.answer if sample.parsed else None, sample.correct))
        return float(majority_at(list(votes.values()), k))

    def _sampled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        correct, samples = self.outcomes()
        return correct[samples > 0], samples[samples > 0]

    def trace(self, problem_id: str, sample_index: int = 0) -> Trace:
        """The trace of one sample, of a run with ``traces=True``.

        Raises:
            KeyError: there is no such sample.
            FileNotFoundError: no trace was kept.
        """
        sample = next((s for s in self.samples if s.key == (problem_id, sample_index)), None)
        if sample is None:
            raise KeyError(f"no sample {sample_index} of problem {problem_id!r} in this result")
        if sample.trace is None or self.directory is None:
            raise FileNotFoundError(
                f"sample {sample_index} of problem {problem_id!r} has no trace; evaluate(…, output_dir=…, traces=True) keeps them"
            )
        return Trace.load(self.directory / sample.trace)

    def to_pandas(self) -> pandas.DataFrame:
        """One row per sample, columns as :class:`Sample`'s attributes; ``attrs`` holds the metadata. Needs pandas."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ImportError("EvalResult.to_pandas needs pandas: pip install 'reset-nvfp4[pandas]'") from error
        names = list(Sample.__dataclass_fields__)
        frame = pandas.DataFrame([vars(sample) for sample in self.samples], columns=names)
        frame.attrs.update(self.metadata)
        return frame

    def plot(self, ax: Axes | None = None) -> Axes:
        """Accuracy with its interval and the counts; see :func:`reset.plots.plot_accuracy`."""
        from reset.plots import plot_accuracy

        return plot_accuracy({self.label: self}, ax=ax)

    # Files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a folder (``run.json``, ``samples.jsonl`` and traces), or one ``.jsonl`` file without traces, whole or not at all.

        Raises:
            FileExistsError: the folder already holds a result; :meth:`merge` joins two.
        """
        target = Path(output_path("path", path))
        lines = "".join(sample.to_json() + "\n" for sample in self.samples).encode("utf-8", "surrogatepass")
        if target.suffix == ".jsonl":
            header = json.dumps({"format": FORMAT, "run": self.run, "identity": self._identity, "plan": self._plan}, ensure_ascii=False)
            with written_atomically(target) as file:
                file.write(header.encode("utf-8", "surrogatepass") + b"\n" + lines)
            return
        if target.is_dir() and any(target.glob("samples*.jsonl")):
            raise FileExistsError(f"{target} already holds a result; save to another folder, or load that one and merge")
        target.mkdir(parents=True, exist_ok=True)
        kept = [sample.trace for sample in self.samples if sample.trace is not None and self.directory is not None]
        for name in kept:
            destination = target / name
            destination.parent.mkdir(exist_ok=True)
            assert self.directory is not None
            shutil.copyfile(self.directory / name, destination)
        with written_atomically(target / store.SAMPLES) as file:
            file.write(lines)
        store.write_run(target, self._identity, self._plan)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EvalResult:
        """Reads what :meth:`save` or :func:`reset.evaluate` wrote; of a run still going, the samples so far.

        Raises:
            FileNotFoundError: no such folder or file, or no result in it.
            reset.ConfigError: a file that is damaged, naming file and line.
        """
        source = Path(path_like("path", path))
        if source.is_file():
            return cls._load_file(source)
        if not source.is_dir():
            raise FileNotFoundError(f"{source}: no such folder or file; give the output_dir of an evaluation, or a saved .jsonl")
        record = store.read_run(source)
        if record is None:
            raise FileNotFoundError(f"{source}: holds no {store.RUN_FILE}, so no result of an evaluation")
        samples = store.read_samples(source, identity_hash(record["identity"]))
        return cls(samples.values(), identity=record["identity"], plan=record["plan"], directory=source)

    @classmethod
    def _load_file(cls, source: Path) -> EvalResult:
        first, *lines = source.read_bytes().splitlines() or [b""]
        try:
            record = json.loads(first)
        except ValueError as error:
            raise ConfigError(f"{source}, line 1: not JSON ({error}); a saved result begins with its header") from error
        store.check_run(record, f"{source}, line 1")
        run = identity_hash(record["identity"])
        samples = [store.parse_line(line, run, f"{source}, line {number}") for number, line in enumerate(lines, start=2)]
        return cls(samples, identity=record["identity"], plan=record["plan"])

    def merge(self, *others: EvalResult) -> EvalResult:
        """This result and others of the same run (shards, or parts made on other machines) as one, in memory.

        Plans may differ in length: the longer list of problems and the larger number of samples count. Traces stay where they are;
        ``save`` a merged result after copying them if they are wanted.

        Raises:
            reset.ConfigError: another model, task, option or version; or two different samples of one problem and index.
        """
        plan = self._plan
        for other in others:
            if not isinstance(other, EvalResult):
                raise TypeError(f"merge takes EvalResults, not {type(other).__name__}; EvalResult.load(path) reads one")
            store.refuse_other(other._identity, self._identity, "the other result")
            plan = joined_plan(plan, other._plan, "the other result")
        samples = [sample for result in (self, *others) for sample in result.samples]
        return EvalResult(samples, identity=self._identity, plan=plan, directory=self.directory)

    @property
    def label(self) -> str:
        """A short name: the policy and what the weights are."""
        policy = dict(self._identity["policy"])
        name = policy.pop("policy", "policy")
        arguments = ", ".join(f"{key}={value}" for key, value in policy.items() if isinstance(value, (int, float)))
        return f"{self._identity['model']['weights']} {name}({arguments})"

    def __len__(self) -> int:
        return len(self.samples)

    def _repr_html_(self) -> str:
        from reset.views import result_html

        return result_html(self)

    def __repr__(self) -> str:
        if not self.samples:
            return f"EvalResult({self._identity['task']!r}, no samples of {self.planned})"
        low, high = self.ci95
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        partial = f"; PARTIAL: {len(self.samples)} of {self.planned} samples" if self.partial else ""
        too_long = f"; {self.too_long} prompts too long for the model" if self.too_long else ""
        return (
            f"EvalResult({self._identity['task']!r} {self._identity['split']}: accuracy {self.accuracy:.1%} [{low:.1%}, {high:.1%}], "
            f"{len(self.problem_ids)} problems × {self.n_samples}: {counts}{too_long}{partial})"
        )


def joined_plan(a: Plan, b: Plan, where: object) -> Plan:
    """The plan that holds both: the longer list of problems, of which the other is the beginning, and the larger number of samples."""
    short, long = sorted((a["problems"], b["problems"]), key=len)
    if long[: len(short)] != short:
        index = next(i for i, (x, y) in enumerate(zip(short, long, strict=False)) if list(x) != list(y))
        (id_a, _), (id_b, _) = short[index], long[index]
        what = f"problem {id_a!r} has another text or answer" if id_a == id_b else f"number {index + 1} is {id_a!r} and {id_b!r}"
        raise ConfigError(f"{where}: the problems differ: {what}. Results of different problems are never mixed")
    return {"problems": long, "n_samples": max(a["n_samples"], b["n_samples"])}
