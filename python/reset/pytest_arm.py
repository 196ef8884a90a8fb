"""What a test asserts about an arm: statements about intervals, which say in words what they found.

========================================  =====================================================  =========================
assertion                                 fails unless …                                         on too few problems
========================================  =====================================================  =========================
``assert_above(threshold)``               the whole interval lies above the threshold            fails: nothing is shown
``assert_not_below(threshold)``           the interval reaches up to the threshold               passes
``assert_better(than)``                   the paired test's verdict is "better"                  fails
``assert_not_worse(than, margin)``        the difference's interval lies above −margin           fails
``assert_no_regression(than)``            the paired test's verdict is not "worse"               passes
========================================  =====================================================  =========================

Intervals are two-sided, of 95 %: a strict assertion that should fail passes by chance in at most 2.5 % of the runs, a lenient one that
should pass fails by chance in at most 2.5 %. With a fixed seed the outcome of a test is the same every time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from reset.evaluation.result import EvalResult


class Arm:
    """An arm that ran on a task: its :class:`reset.EvalResult` as ``result``, and the assertions of the table above."""

    def __init__(self, name: str, result: EvalResult) -> None:
        self.name = name
        self.result = result

    @property
    def accuracy(self) -> float:
        """Mean over problems of the mean over samples."""
        return self.result.accuracy

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        return self.result.ci95

    @property
    def counts(self) -> dict[str, int]:
        """Samples by outcome: correct, else truncated, else unparsed, else wrong."""
        return self.result.counts

    @property
    def directory(self) -> Path | None:
        """The folder with ``samples.jsonl``."""
        return self.result.directory

    def summary(self) -> dict[str, Any]:
        """One line of ``results.jsonl``: JSON values."""
        result, (low, high) = self.result, self.ci95
        metadata = result.metadata
        return {
            "task": metadata["task"], "split": metadata["split"], "accuracy": self.accuracy, "ci95_low": low, "ci95_high": high,
            "counts": self.counts, "problems": len(result.problem_ids), "n_samples": result.n_samples, "samples": len(result.samples),
            "partial": result.partial, "seed": metadata["seed"], "policy": metadata["policy"], "run": result.run,
        }  # fmt: skip

    # One arm

    def assert_above(self, threshold: float) -> None:
        """Strict: passes if the whole 95 % interval lies above ``threshold`` (a share, 0.6 for 60 %).

        Fails also where the data are too few to say. Raises ValueError for a threshold outside 0 to 1.
        """
        __tracebackhide__ = True
        _share("threshold", threshold)
        self._whole()
        if not self.ci95[0] > threshold:
            raise AssertionError(self._about(f"is not shown to be above {threshold:.1%}: its interval begins at {self.ci95[0]:.1%}"))

    def assert_not_below(self, threshold: float) -> None:
        """Lenient: fails only if the whole 95 % interval lies below ``threshold``.

        Passes also where the data are too few to say. Raises ValueError for a threshold outside 0 to 1.
        """
        __tracebackhide__ = True
        _share("threshold", threshold)
        self._whole()
        if self.ci95[1] < threshold:
            raise AssertionError(self._about(f"is below {threshold:.1%}: its interval ends at {self.ci95[1]:.1%}"))

    # Two arms, paired by problem

    def assert_better(self, than: Arm | EvalResult, **declared: Any) -> None:
        """Strict: passes if the paired comparison of ``self`` with ``than`` has the verdict "better" (interval and test agree).

        ``declared`` goes to :func:`reset.compare`, which refuses arms that differ in what is not declared (``differ=("prompt",)``).
        """
        __tracebackhide__ = True
        comparison = self._against(than, declared)
        if comparison.verdict != "better":
            raise AssertionError(self._beside(than, comparison, "is not shown to be better"))

    def assert_not_worse(self, than: Arm | EvalResult, margin: float, **declared: Any) -> None:
        """Strict (non-inferiority): passes if the 95 % interval of the paired difference ``self − than`` lies above ``−margin``.

        Fails also where the data are too few to say; ``reset.power`` tells how many problems a margin needs. Raises ValueError for a
        margin outside 0 to 1 (0.02 is two percentage points).
        """
        __tracebackhide__ = True
        _share("margin", margin)
        comparison = self._against(than, declared)
        if not comparison.ci95[0] > -margin:
            words = f"is not shown to be at most {100 * margin:.3g} percentage points worse"
            raise AssertionError(self._beside(than, comparison, words))

    def assert_no_regression(self, than: Arm | EvalResult, **declared: Any) -> None:
        """Lenient: fails only if the paired comparison's verdict is "worse". Passes also where the data are too few to say."""
        __tracebackhide__ = True
        comparison = self._against(than, declared)
        if comparison.verdict == "worse":
            raise AssertionError(self._beside(than, comparison, "is worse"))

    def _against(self, than: Arm | EvalResult, declared: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        import reset

        self._whole()
        if not isinstance(than, Arm):
            return reset.compare(than, self.result, **declared)
        return reset.compare(than.result, self.result, **{"names": (than.name, self.name), **declared})

    def _whole(self) -> None:
        """A result whose samples are not all there is no result."""
        __tracebackhide__ = True
        if self.result.partial:
            done, planned = len(self.result.samples), self.result.planned
            raise AssertionError(f"arm {self.name!r} is partial: {done} of {planned} samples; run the test again to go on with it")

    def _about(self, finding: str) -> str:
        (low, high), result = self.ci95, self.result
        of_each = "" if result.n_samples == 1 else f" × {result.n_samples} samples"
        where = "" if result.directory is None else f"\nsamples: {result.directory}"
        return (
            f"the accuracy of {self.name!r} on {result.metadata['task']} {finding}\n"
            f"accuracy {self.accuracy:.1%}, 95 % interval {low:.1%} to {high:.1%}, {len(result.problem_ids)} problems{of_each}\n"
            f"samples by outcome: {', '.join(f'{count} {outcome}' for outcome, count in self.counts.items())}{where}"
        )

    def _beside(self, than: Arm | EvalResult, comparison: Any, finding: str) -> str:
        other = repr(than.name) if isinstance(than, Arm) else "the other result"
        low, high = (100 * bound for bound in comparison.ci95)
        return (
            f"{self.name!r} {finding} than {other}\n"
            f"difference {100 * comparison.difference:+.1f} percentage points, 95 % interval {low:+.1f} to {high:+.1f}, "
            f"p = {comparison.p_value:.3g}, verdict {comparison.verdict}\n"
            f"{other}: {than.accuracy:.1%}; {self.name!r}: {self.accuracy:.1%}, {len(self.result.problem_ids)} problems"
        )


def _share(name: str, value: float) -> None:
    if not (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f"{name} = {value!r} is not possible: it is a share between 0 and 1, such as 0.6 for 60 %")
