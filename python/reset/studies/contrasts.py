"""Contrasts of a study: which arm is better, and how many such questions were asked.

Every contrast is paired, problem by problem. The *primary* ones were declared in the plan, and their p-values are adjusted together
(Holm), so that the chance of any false finding among them stays at 5 %. All others are *exploratory*: their raw p-values say where to look
next, not what was found. An *interaction* asks whether one difference is larger than another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from reset.statistics import Interaction, Paired, holm, interaction, paired, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from reset.studies.plan import Contrast

    class HasOutcomes(Protocol):
        """What a contrast needs of an arm: :meth:`reset.EvalResult.outcomes`."""

        def outcomes(self) -> tuple[NDArray[Any], NDArray[Any]]: ...


@dataclass(frozen=True)
class ContrastResult:
    """Arm b against arm a.

    Attributes:
        a: the arm that is compared with.
        b: the arm that is called better or worse.
        kind: "primary" or "exploratory".
        paired: difference b − a, interval, raw p-value; see :class:`reset.statistics.Paired`.
        p_adjusted: Holm's, over the primary contrasts; None for exploratory ones.
        verdict: "better", "worse" or "undecided" at 5 %, of a primary contrast by ``p_adjusted``; and the interval has to exclude 0.
        differs: options in which the arms differ.
    """

    a: str
    b: str
    kind: str
    paired: Paired
    p_adjusted: float | None
    verdict: str
    differs: tuple[str, ...]

    @property
    def name(self) -> str:
        """``b − a``."""
        return f"{self.b} − {self.a}"

    @property
    def row(self) -> dict[str, Any]:
        """Flat values for a table."""
        p = self.paired
        return {
            "contrast": self.name, "a": self.a, "b": self.b, "kind": self.kind, "difference": p.difference, "low": p.ci95[0],
            "high": p.ci95[1], "p_value": p.p_value, "p_adjusted": self.p_adjusted, "verdict": self.verdict, "test": p.test, "mde": p.mde,
            "only_a": p.only_a, "only_b": p.only_b, "problems": p.problems, "differs": ", ".join(self.differs),
        }  # fmt: skip


@dataclass(frozen=True)
class InteractionResult:
    """Whether the difference of one contrast is larger than that of another: (b − a) − (d − c).

    Attributes:
        first: arms ``(a, b)``.
        second: arms ``(c, d)``.
        result: difference of differences, interval, raw p-value; see :class:`reset.statistics.Interaction`.
    """

    first: Contrast
    second: Contrast
    result: Interaction

    @property
    def name(self) -> str:
        """``(b − a) − (d − c)``."""
        return f"({self.first[1]} − {self.first[0]}) − ({self.second[1]} − {self.second[0]})"

    @property
    def row(self) -> dict[str, Any]:
        """Flat values for a table, with the names of :attr:`ContrastResult.row`."""
        r = self.result
        return {
            "contrast": self.name, "a": " − ".join(reversed(self.second)), "b": " − ".join(reversed(self.first)), "kind": "interaction",
            "difference": r.difference, "low": r.ci95[0], "high": r.ci95[1], "p_value": r.p_value, "p_adjusted": None,
            "verdict": r.verdict, "test": r.test, "mde": None, "only_a": None, "only_b": None, "problems": r.problems, "differs": "",
        }  # fmt: skip


def contrast_results(
    results: Mapping[str, HasOutcomes], primary: Sequence[Contrast], exploratory: Sequence[Contrast], arms: Mapping[str, Mapping[str, Any]]
) -> tuple[ContrastResult, ...]:
    """Primary contrasts with adjusted p-values, then exploratory ones. ``results`` are whole; ``arms`` describe them in the plan."""
    first = [paired(*results[a].outcomes(), *results[b].outcomes()) for a, b in primary]
    adjusted = holm([found.p_value for found in first])
    made = [
        ContrastResult(a, b, "primary", found, p, verdict(found.ci95, p), differing(arms[a], arms[b]))
        for (a, b), found, p in zip(primary, first, adjusted, strict=True)
    ]
    for a, b in exploratory:
        found = paired(*results[a].outcomes(), *results[b].outcomes())
        made.append(ContrastResult(a, b, "exploratory", found, None, found.verdict, differing(arms[a], arms[b])))
    return tuple(made)


def interaction_results(
    results: Mapping[str, HasOutcomes], interactions: Sequence[tuple[Contrast, Contrast]]
) -> tuple[InteractionResult, ...]:
    """Interactions of whole results."""
    return tuple(
        InteractionResult(first, second, interaction(*(results[name].outcomes() for name in (*first, *second))))
        for first, second in interactions
    )


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the options in which two arms of a plan differ."""
    return tuple(name for name in sorted({*a, *b}) if a.get(name) != b.get(name))
