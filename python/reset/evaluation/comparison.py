"""Two results on the same problems: difference, interval, test, smallest detectable difference, verdict.

A difference between arms is worth a number only if nothing but the arms differs. So everything that decides what was asked, how long an
answer may be and who graded it has to agree, down to the token ids of each prompt; what is meant to differ is declared:

    reset.compare(plain, boxed, differ=("prompt",))

Model, weights, policy, filters and seed are what arms are for: they may differ and are listed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reset._checks import integer
from reset.evaluation.arms import ArmsTable, arm_row
from reset.evaluation.identity import differences
from reset.evaluation.result import EvalResult
from reset.statistics import Interval, Paired, paired

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from reset.evaluation.sample import Sample

__all__ = ["Comparison", "Flips", "compare"]

#: What has to agree unless declared: name → what it is. All but the last are in the metadata.
AGREEING = {
    "task": "the task",
    "task_version": "problems, prompts and references of the task",
    "split": "the split",
    "problems": "the planned problems",
    "prompt": "the prompt style",
    "thinking": "the chat template's enable_thinking",
    "scorer": "who grades, and its version",
    "max_new_tokens": "the limit of an answer",
    "prompt_sha256": "token ids of the prompts; different tokenizers or chat templates differ here",
}
#: A declared difference in these makes other prompts, so that need not be declared too.
_PROMPTING = {"prompt", "thinking", "task_version", "prompt_sha256"}


class Flips(NamedTuple):
    """Problems that one arm alone solves: with at least one sample, where the other has samples and none is correct.

    Attributes:
        only_a: their ids, in the task's order.
        only_b: the same for b.
    """

    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Comparison:
    """Arm b against arm a. Made by :func:`reset.compare`; print it.

    Attributes:
        names: of the arms a and b.
        paired: all numbers of the comparison (:class:`reset.statistics.Paired`).
        lenient: the same under the lenient score, the paper's rule.
        table: one row per arm: accuracy, interval, outcomes, tokens; ``table.to_pandas()``.
        flips: ids of problems that one arm alone solves.
        differing: what differs between the arms, as ``name: value in a, value in b``.
        partial: whether planned samples of an arm are missing.
    """

    names: tuple[str, str]
    paired: Paired
    lenient: Paired
    table: ArmsTable
    flips: Flips
    differing: tuple[str, ...] = field(default=())
    partial: bool = False

    @property
    def difference(self) -> float:
        """Accuracy of b minus accuracy of a."""
        return self.paired.difference

    @property
    def ci95(self) -> Interval:
        """95 % interval of the difference."""
        return self.paired.ci95

    @property
    def p_value(self) -> float:
        """Two-sided p-value of no difference."""
        return self.paired.p_value

    @property
    def test(self) -> str:
        """ "exact McNemar" for one sample per problem and arm, else "sign-flip permutation"."""
        return self.paired.test

    @property
    def mde(self) -> float:
        """The smallest difference that a repetition with this noise would detect with probability 0.8."""
        return self.paired.mde

    @property
    def verdict(self) -> str:
        """ "better" (b than a), "worse" or "undecided"."""
        return self.paired.verdict

    @property
    def label(self) -> str:
        """Names of the arms."""
        return f"{self.names[1]} − {self.names[0]}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """The difference with its interval; see :func:`reset.plots.plot_differences`."""
        from reset.plots import plot_differences

        return plot_differences({self.label: self}, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "a": self.names[0], "b": self.names[1], **self.paired.to_dict(), "lenient": self.lenient.to_dict(),
            "arms": list(self.table.rows), "flips": {"only_a": list(self.flips.only_a), "only_b": list(self.flips.only_b)},
            "differing": list(self.differing), "partial": self.partial,
        }  # fmt: skip

    def _repr_html_(self) -> str:
        from reset.views import comparison_html

        return comparison_html(self)

    def __repr__(self) -> str:
        p = self.paired
        lines = [str(self.table), "", f"b − a: {_points(p)}, {p.test} p = {p.p_value:.4g}; smallest detectable {_percent(p.mde)}"]
        lines.append(f"verdict: b is {p.verdict}" if p.verdict != "undecided" else "verdict: undecided")
        if p.verdict == "undecided" and (p.p_value <= 0.05 or not p.ci95.low <= 0 <= p.ci95.high):
            lines.append("         (interval and test disagree: both have to exclude 0; see docs/statistics.md)")
        lines.append(f"lenient score: {_points(self.lenient)}, p = {self.lenient.p_value:.4g}")
        lines.append(f"{p.problems} problems; solved by a alone: {len(self.flips.only_a)}, by b alone: {len(self.flips.only_b)} (.flips)")
        if self.differing:
            lines += ["the arms differ in", *(f"  {line}" for line in self.differing)]
        if self.partial:
            lines.append("PARTIAL: planned samples are missing; problems without samples in an arm are left out")
        return "\n".join(lines)


def compare(
    a: EvalResult,
    b: EvalResult,
    *,
    differ: Sequence[str] = (),
    allow_partial: bool = False,
    names: tuple[str, str] | None = None,
    draws: int = 100_000,
    seed: int = 0,
) -> Comparison:
    """Compares arm b with arm a, problem by problem.

    Args:
        a: the arm that is compared with.
        b: the arm that may be better or worse.
        differ: names of what is meant to differ: ``task``, ``task_version``, ``split``, ``problems``, ``prompt``, ``thinking``, ``scorer``,
            ``max_new_tokens``, ``prompt_sha256``. With ``problems`` the problems that both have are compared.
        allow_partial: compare what is there of runs that are not finished.
        names: of the arms, for the table; by default their policy and weights.
        draws: random patterns of the sign-flip test, for several samples.
        seed: of these draws.

    Raises:
        ValueError: the arms differ in what was not declared (each mismatch is listed), a result is partial, no problem has samples in
            both arms, or an unknown name in ``differ``.
    """
    for mark, result in (("a", a), ("b", b)):
        if not isinstance(result, EvalResult):
            raise TypeError(f"{mark} is {type(result).__name__}: give an EvalResult (of reset.evaluate, or EvalResult.load(path))")
    if not isinstance(differ, Collection) or isinstance(differ, bytes):
        raise TypeError(f"differ is {type(differ).__name__}: give a list of names, such as ('prompt',)")
    if names is not None and (not isinstance(names, (list, tuple)) or [type(name) for name in names] != [str, str]):
        raise TypeError(f"names = {names!r} is not possible: give two texts, for a and for b")
    draws, seed = integer("draws", draws), integer("seed", seed, low=0)
    declared = {differ} if isinstance(differ, str) else set(differ)
    unknown = sorted(declared - AGREEING.keys())
    if unknown:
        raise ValueError(f"differ = {unknown[0]!r} is not known; what has to agree, and may be declared: {', '.join(AGREEING)}")
    mismatches = list(_mismatches(a, b, declared))
    if mismatches:
        listed = "\n  ".join(line for _, line in mismatches)
        given = ", ".join(f'"{name}"' for name in dict.fromkeys(name for name, _ in mismatches))
        raise ValueError(
            f"these results are not of the same problems under the same conditions:\n  {listed}\n"
            f"evaluate both arms alike, or declare what is meant to differ: compare(a, b, differ=({given},))"
        )
    partial = a.partial or b.partial
    if partial and not allow_partial:
        states = ", ".join(f"{name} has {len(r)} of {r.planned} samples" for name, r in (("a", a), ("b", b)) if r.partial)
        raise ValueError(f"partial results: {states}. Run the same evaluation again to finish it, or pass allow_partial=True")
    others = set(b.problem_ids)
    ids = [id for id in a.problem_ids if id in others]
    if not ids:
        raise ValueError(f"no problem is in both results: a begins with {a.problem_ids[:1]}, b with {b.problem_ids[:1]}")
    strict = [_counts(r, ids, lenient=False) for r in (a, b)]
    lenient = [_counts(r, ids, lenient=True) for r in (a, b)]
    labels = names if names is not None else (a.label, b.label)
    return Comparison(
        names=(str(labels[0]), str(labels[1])),
        paired=paired(*strict[0], *strict[1], draws=draws, seed=seed),
        lenient=paired(*lenient[0], *lenient[1], draws=draws, seed=seed),
        table=ArmsTable(tuple(arm_row(mark, name, r) for mark, name, r in zip("ab", labels, (a, b), strict=True))),
        flips=_flips(ids, strict),
        differing=tuple(_differing(a.metadata, b.metadata)),
        partial=partial,
    )


def _mismatches(a: EvalResult, b: EvalResult, declared: set[str]) -> Any:
    """(name, line) of every condition that differs and was not declared."""
    ours, theirs = a.metadata, b.metadata
    for name, what in AGREEING.items():
        if name in declared or name in ("problems", "prompt_sha256"):
            continue
        if ours[name] != theirs[name]:
            yield name, f"{name} ({what}): {ours[name]!r} in a, {theirs[name]!r} in b"
    if "problems" not in declared and ours["problems_sha256"] != theirs["problems_sha256"]:
        yield "problems", f"problems ({AGREEING['problems']}): {_problems(a, b)}"
    prompts, references = (
        (_by_problem(r, lambda s: s.prompt_sha256) for r in (a, b)),
        [_by_problem(r, lambda s: s.reference) for r in (a, b)],
    )
    if not declared & _PROMPTING:
        line = _unequal(*prompts)
        # Another style or thinking mode, listed above, makes other prompts: once is enough.
        if line is not None and all(ours[name] == theirs[name] for name in ("prompt", "thinking", "task_version")):
            yield "prompt_sha256", f"prompt_sha256 ({AGREEING['prompt_sha256']}): {line}"
    if "task_version" not in declared and ours["task_version"] == theirs["task_version"]:
        line = _unequal(*references)
        if line is not None:
            yield "task_version", f"references of problems with the same id: {line}"


def _problems(a: EvalResult, b: EvalResult) -> str:
    ours, theirs = set(a.problem_ids), set(b.problem_ids)
    if ours == theirs:
        return f"the same {len(ours)} ids, but other questions, answers or order"
    return f"{len(ours)} in a, {len(theirs)} in b, {len(ours & theirs)} in both"


def _by_problem(result: EvalResult, of: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for sample in result.samples:
        found.setdefault(sample.problem_id, of(sample))
    return found


def _unequal(ours: dict[str, str], theirs: dict[str, str]) -> str | None:
    both = [id for id in ours if id in theirs]
    unequal = [id for id in both if ours[id] != theirs[id]]
    if not unequal:
        return None
    first = unequal[0]
    return f"{len(unequal)} of {len(both)} problems, the first {first!r}: {ours[first][:16]!r} in a, {theirs[first][:16]!r} in b"


def _counts(result: EvalResult, ids: list[str], *, lenient: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Correct samples and samples of the given problems."""
    place = {id: index for index, id in enumerate(ids)}
    correct, samples = np.zeros((2, len(ids)), np.int64)
    for sample in result.samples:
        index = place.get(sample.problem_id)
        if index is not None:
            samples[index] += 1
            correct[index] += _solved(sample, lenient)
    return correct, samples


def _solved(sample: Sample, lenient: bool) -> bool:
    return sample.lenient_correct if lenient else sample.correct


def _flips(ids: list[str], counts: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Flips:
    (a, n_a), (b, n_b) = counts
    sampled = (n_a > 0) & (n_b > 0)
    only_a, only_b = sampled & (a > 0) & (b == 0), sampled & (b > 0) & (a == 0)
    return Flips(tuple(ids[i] for i in np.flatnonzero(only_a)), tuple(ids[i] for i in np.flatnonzero(only_b)))


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What differs. Policies of two kinds have other parameters each: they are named whole, on one line."""
    a, b = (record["policy"] for record in (ours, theirs))
    lines = []
    if a.get("policy") != b.get("policy"):
        lines.append(f"policy: {_policy(a)} in a, {_policy(b)} in b")
        ours, theirs = ({name: value for name, value in record.items() if name != "policy"} for record in (ours, theirs))
    lines += [line.replace(" there, ", " in a, ").replace(" here", " in b") for line in differences(ours, theirs)]
    return sorted(lines)


def _policy(described: dict[str, Any]) -> str:
    parameters = ", ".join(f"{name}={value!r}" for name, value in described.items() if name != "policy")
    return f"{described.get('policy', 'policy')}({parameters})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} points" if value < float("inf") else "none (too few problems)"


def _points(p: Paired) -> str:
    low, high = p.ci95
    return f"{100 * p.difference:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
