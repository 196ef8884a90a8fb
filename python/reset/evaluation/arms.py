"""A table of arms: one row per result, for people and for data frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas

    from reset.evaluation.result import EvalResult

#: Column of the printed table → how its cell is made from a row.
_COLUMNS: dict[str, Any] = {
    "arm": lambda row: f"{row['arm']}: {row['name']}",
    "accuracy": lambda row: f"{row['accuracy']:.1%} [{row['low']:.1%}, {row['high']:.1%}]",
    "lenient": lambda row: f"{row['lenient_accuracy']:.1%}",
    "truncated": lambda row: f"{row['truncated']:.1%}",
    "unparsed": lambda row: f"{row['unparsed']:.1%}",
    "tokens": lambda row: f"{row['tokens']:,.0f}",
    "loops": lambda row: f"{row['repetition']:.1%}",
    "samples": lambda row: f"{row['samples']:,} of {row['problems']:,} problems",
}


def arm_row(mark: str, name: str, result: EvalResult) -> dict[str, Any]:
    """What a table says of one result.

    ``truncated`` and ``unparsed`` are shares of samples, exclusive outcomes as in ``EvalResult.counts``; ``repetition`` is the share
    that ends in a loop; ``tokens`` is the mean per answer.
    """
    n = max(len(result.samples), 1)
    low, high = result.ci95
    return {
        "arm": mark, "name": name, "accuracy": result.accuracy, "low": low, "high": high, "lenient_accuracy": result.lenient_accuracy,
        **{outcome: count / n for outcome, count in result.counts.items()}, "tokens": sum(s.tokens for s in result.samples) / n,
        "repetition": sum(s.repetition for s in result.samples) / n, "samples": len(result.samples),
        "problems": len({s.problem_id for s in result.samples}), "n_samples": result.n_samples, "partial": result.partial,
        "run": result.run,
    }  # fmt: skip


@dataclass(frozen=True, repr=False)
class ArmsTable:
    """Rows of arms; prints as text.

    Attributes:
        rows: one dict per arm: ``arm``, ``name``, ``accuracy``, ``low``, ``high`` (its 95 % interval), ``lenient_accuracy``, the shares
            ``correct``, ``truncated``, ``unparsed``, ``wrong``, ``repetition``; ``tokens`` per answer; ``samples``, ``problems``.
    """

    rows: tuple[dict[str, Any], ...]

    def to_pandas(self) -> pandas.DataFrame:
        """One row per arm. Needs pandas."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ImportError("to_pandas needs pandas: pip install 'reset-nvfp4[pandas]'") from error
        return pandas.DataFrame(list(self.rows))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __repr__(self) -> str:
        cells = [list(_COLUMNS), *([make(row) for make in _COLUMNS.values()] for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)
