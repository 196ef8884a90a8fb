"""The result of an analysis of mechanisms: rows, and the report made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reset.files import written_atomically
from reset.studies.report import NOTHING, csv_text, fixed, p_value, percent, points

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from reset.analysis.scoring import Scores

#: Decimals of nats in the report; the CSV files have all.
DIGITS = 4


@dataclass
class Mechanisms:
    """What :func:`reset.analysis.mechanisms` found.

    Attributes:
        reference: the model that others are compared with.
        models: name → what identifies it.
        texts: name → number of texts and tokens, and their hash.
        classes: rows of :func:`reset.analysis.class_shifts`, with ``texts`` and ``model``; the group ``"all"`` is every position.
        bins: rows of :func:`reset.analysis.entropy_shifts`, likewise.
        digits: rows of :func:`reset.analysis.result_digits`, with ``texts`` and the ``shift`` against the reference.
        accuracies: measured ones, as they were given.
        scores: (texts, model) → :class:`reset.analysis.Scores`.
    """

    reference: str
    models: Mapping[str, Mapping[str, Any]]
    texts: Mapping[str, Mapping[str, Any]]
    classes: list[dict[str, Any]] = field(default_factory=list)
    bins: list[dict[str, Any]] = field(default_factory=list)
    digits: list[dict[str, Any]] = field(default_factory=list)
    accuracies: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[tuple[str, str], Scores] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the scores, as JSON values."""
        return {
            "reference": self.reference, "models": self.models, "texts": self.texts, "classes": self.classes, "bins": self.bins,
            "digits": self.digits, "accuracies": self.accuracies,
        }  # fmt: skip

    def to_markdown(self) -> str:
        """The report as Markdown."""
        lines = ["# Mechanisms", ""]
        lines += [
            f"Every model read the same texts, token by token; differences are *model − {self.reference}* at the same positions, with 95 % "
            "intervals clustered by problem and raw p-values (many classes: read sizes, not stars). Entropies and surprisals in nats. "
            "*Overconfidence* is surprisal − entropy: 0 where probabilities are right, above 0 where a model is surer than it may be. "
            "*Not first*: another token is more probable than the one that stands there. Texts that an arm wrote suit that arm: it expects "
            "its own tokens. Read all arms' texts side by side, and gold ones first.", "",
        ]  # fmt: skip
        lines += [*_table(["texts", "number", "tokens", "SHA-256"], [
            [name, f"{of['texts']:,}", f"{of['tokens']:,}", f"`{of['sha256'][:16]}`"] for name, of in self.texts.items()
        ]), ""]  # fmt: skip
        lines += [*_table(["model", "fingerprint", "weights", "activations"], [
            [name, f"`{of['fingerprint']}`", of["weights"], of["activations"]] for name, of in self.models.items()
        ]), ""]  # fmt: skip
        for source in self.texts:
            for name in self.models:
                rows = _of(self.classes, source, name)
                if rows:
                    lines += [f"## {name} − {self.reference}, on {source}", "", *_table(*_shifts(rows, "class", self.reference, name)), ""]
                    bins = _of(self.bins, source, name)
                    lines += ["By the mean of both models' entropies:", "", *_table(*_shifts(bins, "nats", self.reference, name)), ""]
            rows = [row for row in self.digits if row["texts"] == source]
            if rows:
                lines += [
                    f"## Right digits, on {source}", "",
                    "Probability that digits of results are drawn right, given the text before: of one, of all of an equation, of all of "
                    f"a trace ({rows[0]['digits']:,} digits, {rows[0]['equations']:,} equations, {rows[0]['traces']:,} traces).", "",
                    *_table(*_digits(rows, self.reference)), "",
                ]  # fmt: skip
        if self.accuracies:
            lines += ["## Measured accuracy", "", *_table(["model", "arm", "mean T", "accuracy", "95 % interval"], [
                [row["model"], row["rule"], fixed(row["temperature"], 3), percent(row["accuracy"]),
                 f"{percent(row['low'])} to {percent(row['high'])}"] for row in self.accuracies
            ]), ""]  # fmt: skip
        return "\n".join(lines)

    def report(self, directory: str | os.PathLike[str], *, figures: bool = True) -> list[Path]:
        """Writes ``report.md``, ``classes.csv``, ``entropy_bins.csv``, ``digits.csv`` and the figures; returns their paths.

        Args:
            directory: where; it is made if need be.
            figures: draw them too. Needs matplotlib.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        contents = {"report.md": self.to_markdown()}
        tables = {"classes": self.classes, "entropy_bins": self.bins, "digits": self.digits, "accuracies": self.accuracies}
        for name, rows in tables.items():
            if rows:
                contents[f"{name}.csv"] = csv_text((list(rows[0]), [list(row.values()) for row in rows]))
        for name, content in contents.items():
            with written_atomically(folder / name) as file:
                file.write(content.encode())
            written.append(folder / name)
        return [*written, *(self._draw(folder) if figures else [])]

    def _draw(self, folder: Path) -> list[Path]:
        from reset._arms import folder_name
        from reset.plots import plot_digits, plot_paired_entropy, plot_shifts

        written = []

        def save(name: str, ax: Any) -> None:
            with written_atomically(folder / name) as file:
                ax.figure.savefig(file, format="png")
            written.append(folder / name)

        others = [name for name in self.models if name != self.reference]
        for source in self.texts:
            rows = {name: _of(self.classes, source, name) for name in others}
            for measure in ("entropy", "surprisal", "overconfidence") if others else ():
                save(f"{measure}-{folder_name(source)}.png", plot_shifts(rows, measure=measure, reference=self.reference))
            for name in others:
                ax = plot_paired_entropy(self.scores[source, self.reference], self.scores[source, name])
                save(f"paired-{folder_name(source)}-{folder_name(name)}.png", ax)
            digits = [row for row in self.digits if row["texts"] == source]
            if digits:
                save(f"digits-{folder_name(source)}.png", plot_digits(digits, accuracies=self.accuracies))
        return written


def _of(rows: list[dict[str, Any]], source: str, name: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["texts"] == source and row["model"] == name]


def nats(value: float | None) -> str:
    """A number of nats with its sign, none where it rounds to nothing.

    >>> nats(0.01234), nats(-0.5), nats(-0.00001), nats(None)
    ('+0.0123', '−0.5000', '0.0000', '–')
    """
    text = fixed(value, DIGITS)
    if text.lstrip("-") in (NOTHING, fixed(0.0, DIGITS)):
        return text.lstrip("-")
    return text.replace("-", "−") if text.startswith("-") else f"+{text}"


def _shifts(rows: list[dict[str, Any]], what: str, reference: str, name: str) -> tuple[list[str], list[list[str]]]:
    names = [
        what, "positions", f"entropy {reference}", f"entropy {name}", "shift", "95 % interval", "p", "surprisal", "95 % interval",
        f"overconfidence {reference}", f"overconfidence {name}", "not first, points", "flips", "divergence",
    ]  # fmt: skip
    cells = [
        [
            row["group"], f"{row['positions']:,}", fixed(row["entropy_a"], DIGITS), fixed(row["entropy_b"], DIGITS),
            nats(row["entropy_shift"]), f"{nats(row['entropy_low'])} to {nats(row['entropy_high'])}", p_value(row["entropy_p"]),
            nats(row["surprisal_shift"]), f"{nats(row['surprisal_low'])} to {nats(row['surprisal_high'])}", nats(row["overconfidence_a"]),
            nats(row["overconfidence_b"]), points(row["wrong_shift"]), percent(row["flips"]), fixed(row["divergence"], DIGITS),
        ]
        for row in rows
    ]  # fmt: skip
    return names, cells


def _digits(rows: list[dict[str, Any]], reference: str) -> tuple[list[str], list[list[str]]]:
    names = [
        "model", "rule", "mean T", "digit", "equation", "hard equation", "trace", "95 % interval", f"− {reference}, points",
        "95 % interval",
    ]  # fmt: skip
    cells = [
        [
            row["model"], row["rule"], fixed(row["temperature"], 3), percent(row["digit"]), percent(row["equation"]), percent(row["hard"]),
            percent(row["trace"]),
            f"{percent(row['trace_low'])} to {percent(row['trace_high'])}", points(row["shift"]),
            "–" if row["shift"] is None else f"{points(row['shift_low'])} to {points(row['shift_high'])}",
        ]
        for row in rows
    ]  # fmt: skip
    return names, cells


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = ["| " + " | ".join(names) + " |", "|" + "|".join(["---", *["---:"] * (len(names) - 1)]) + "|"]
    return [*head, *("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)]
