"""The result of a study: arms, contrasts, and the report on them."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reset._arms import folder_name, summarize
from reset._checks import path_like
from reset.errors import ConfigError
from reset.evaluation.result import EvalResult
from reset.files import written_atomically
from reset.studies.contrasts import ContrastResult, InteractionResult, contrast_results, interaction_results
from reset.studies.plan import PLAN_FILE, Plan
from reset.studies.published import OUTCOMES_FILE, PublishedArm, outcomes_csv, read_published
from reset.tasks import Problem, fingerprint

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

PROBLEMS_FILE = "problems.jsonl"
ARMS_FOLDER = "arms"
REPORT_FILES = ("report.md", "arms.csv", "contrasts.csv", "outcomes.csv", "arms.tex", "contrasts.tex", "viewer.html")


class Drawn(NamedTuple):
    """A row of the table of contrasts, as :func:`reset.plots.plot_differences` takes it."""

    difference: float
    ci95: tuple[float, float]
    verdict: str
    p_value: float
    p_adjusted: float | None
    mde: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Drawn:
        return cls(row["difference"], (row["low"], row["high"]), row["verdict"], row["p_value"], row["p_adjusted"], row["mde"])


class Study:
    """Arms of a plan with their samples. Made by :func:`reset.study` and :meth:`load`.

    Attributes:
        plan: what was decided before the first sample.
        results: name → :class:`reset.EvalResult` (counts alone where the study came without samples), in the plan's order; arms not
            begun are missing.
        problems: the problems, in order.
        directory: the folder it lies in, or None.
    """

    def __init__(
        self, plan: Plan, results: Mapping[str, EvalResult | PublishedArm], problems: Sequence[Problem], *, directory: Path | None = None
    ) -> None:
        self.plan = plan
        self.results = {name: results[name] for name in plan.record["arms"] if name in results}
        self.problems = tuple(problems)
        self.directory = directory

    @property
    def partial(self) -> bool:
        """Whether planned samples are missing."""
        return bool(self.unfinished)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Arms that miss planned samples."""
        record = self.plan.record

        def whole(name: str, arm: Mapping[str, Any]) -> bool:
            found = self.results.get(name)
            return found is not None and not found.partial and (len(found.problem_ids), found.n_samples) == (
                record["problems"], arm["n_samples"]
            )  # fmt: skip

        return tuple(name for name, arm in record["arms"].items() if not whole(name, arm))

    @cached_property
    def arms(self) -> list[dict[str, Any]]:
        """One row per arm: accuracy with interval, outcomes, tokens, temperatures, regimes. None where an arm has no such quantity."""
        return [
            {"arm": name, **(result.summary() if isinstance(result, PublishedArm) else summarize(result))}
            for name, result in self.results.items()
        ]

    @property
    def published(self) -> bool:
        """Whether it holds counts without samples (:mod:`reset.studies.published`): numbers to check, no texts and no report."""
        return any(isinstance(result, PublishedArm) for result in self.results.values())

    @cached_property
    def contrasts(self) -> tuple[ContrastResult, ...]:
        """Primary contrasts, adjusted together, then exploratory ones.

        Raises:
            reset.ConfigError: the study is partial: Holm's correction needs all primary contrasts.
        """
        self._check_whole()
        record = self.plan.record
        return contrast_results(self.results, _pairs(record["primary"]), _pairs(record["exploratory"]), record["arms"])

    @cached_property
    def interactions(self) -> tuple[InteractionResult, ...]:
        """Differences of differences. Raises as :attr:`contrasts`."""
        self._check_whole()
        return interaction_results(self.results, [(first, second) for first, second in map(_pairs, self.plan.record["interactions"])])

    @property
    def contrast_rows(self) -> list[dict[str, Any]]:
        """Contrasts, then interactions, as flat values for a table; none while the study is partial."""
        if self.partial:
            return []
        return [*(found.row for found in self.contrasts), *(found.row for found in self.interactions)]

    def _check_whole(self) -> None:
        missing = self.unfinished
        if missing:
            raise ConfigError(
                f"the study is partial: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not finished. Run it again to go on; "
                "contrasts of a part would be looks at data that the plan did not announce"
            )

    def only_one_solves(self, a: str, b: str) -> dict[str, list[str]]:
        """Ids of the problems of which one arm solves at least one sample and the other none: ``{a: […], b: […]}``."""
        (right_a, n_a), (right_b, n_b) = self.results[a].outcomes(), self.results[b].outcomes()
        ids, sampled = self.results[a].problem_ids, (n_a > 0) & (n_b > 0)
        only_a, only_b = sampled & (right_a > 0) & (right_b == 0), sampled & (right_b > 0) & (right_a == 0)
        return {name: [id for id, chosen in zip(ids, of, strict=True) if chosen] for name, of in ((a, only_a), (b, only_b))}

    def to_dict(self) -> dict[str, Any]:
        """Plan hash, arms and contrasts, as JSON values."""
        return {
            "plan_sha256": self.plan.sha256, "partial": self.partial, "arms": self.arms, "contrasts": self.contrast_rows,
            "directory": None if self.directory is None else str(self.directory),
        }  # fmt: skip

    def to_pandas(self) -> Any:
        """One row per arm. Raises ``ImportError`` without pandas."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ImportError("Study.to_pandas needs pandas: pip install 'reset-nvfp4[pandas]'") from error
        return pandas.DataFrame(self.arms)

    def to_markdown(self) -> str:
        """The report as Markdown."""
        from reset.studies.report import markdown

        return markdown(self)

    def report(self, directory: str | os.PathLike[str] | None = None) -> list[Path]:
        """Writes ``report.md``, ``arms.csv``, ``contrasts.csv``, ``outcomes.csv``, ``arms.tex``, ``contrasts.tex`` and ``viewer.html``;
        returns their paths.

        Args:
            directory: where; None is the study's folder. It is made if need be.

        Raises:
            ValueError: no folder is known, or the study came without samples.
        """
        from reset.studies import report, viewer

        if self.published:
            raise ValueError(f"{self.directory} holds counts without samples: the report that lies there was made from the samples")

        chosen = self.directory if directory is None else Path(directory)
        if chosen is None:
            raise ValueError("this study has no folder: name one, study.report('report')")
        chosen.mkdir(parents=True, exist_ok=True)
        contents = {
            "report.md": report.markdown(self), "arms.csv": report.csv_text(report.arm_cells(self)),
            "contrasts.csv": report.csv_text(report.contrast_cells(self)), "outcomes.csv": outcomes_csv(self),
            "arms.tex": report.arms_latex(self), "contrasts.tex": report.contrasts_latex(self), "viewer.html": viewer.html(self),
        }  # fmt: skip
        for name in REPORT_FILES:
            with written_atomically(chosen / name) as file:
                file.write(contents[name].encode("utf-8", "replace"))
        return [chosen / name for name in REPORT_FILES]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Accuracies with intervals; see :func:`reset.plots.plot_accuracy`. Returns the axes."""
        from reset.plots import plot_accuracy

        return plot_accuracy(self.results, ax=ax)

    def plot_contrasts(self, ax: Axes | None = None, *, kinds: Sequence[str] = ("primary", "exploratory", "interaction")) -> Axes:
        """Differences with intervals; see :func:`reset.plots.plot_differences`. Returns the axes.

        Args:
            ax: where; None makes a figure.
            kinds: which contrasts: "primary", "exploratory", "interaction".

        Raises:
            reset.ConfigError: the study is partial.
            ValueError: it has no such contrasts.
        """
        from reset.plots import plot_differences

        self._check_whole()
        rows = [row for row in self.contrast_rows if row["kind"] in kinds]
        if not rows:
            raise ValueError(f"the study has no contrasts of kind {', '.join(kinds)}")
        return plot_differences({row["contrast"]: Drawn.of(row) for row in rows}, ax=ax)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Study:
        """Reads the folder of a study, finished or not; or a published one, with ``plan.json`` and ``outcomes.csv`` and no samples.

        Raises:
            FileNotFoundError: no plan there.
            reset.ConfigError: plan, problems or samples are damaged or were edited.
        """
        folder = Path(path_like("directory", directory))
        plan = Plan.read(folder)
        if not (folder / ARMS_FOLDER).is_dir() and (folder / OUTCOMES_FILE).is_file():
            counts = read_published(folder, plan.record["arms"])
            ids = next(iter(counts.values())).problem_ids
            return cls(plan, counts, [Problem(id, question="(not published)", answer="(not published)") for id in ids], directory=folder)
        problems = read_problems(folder)
        if fingerprint(problems) != plan.record["problems_sha256"]:
            raise ConfigError(f"{folder / PROBLEMS_FILE}: these are not the problems of the plan; run the study again to restore the file")
        results: dict[str, EvalResult | PublishedArm] = {}
        for name in plan.record["arms"]:
            arm = arm_folder(folder, name)
            if (arm / "run.json").is_file():
                results[name] = EvalResult.load(arm)
        return cls(plan, results, problems, directory=folder)

    def _repr_markdown_(self) -> str:  # notebooks show the report
        return self.to_markdown()

    def _repr_html_(self) -> str:
        from reset.views import study_html

        return study_html(self)

    def __repr__(self) -> str:
        arms = ", ".join(f"{row['arm']} {row['accuracy']:.1%}" for row in self.arms)
        partial = ", PARTIAL" if self.partial else ""
        return f"Study({len(self.problems)} problems of {self.plan.record['task']}, plan {self.plan.sha256[:12]}{partial}: {arms})"


def arm_folder(folder: Path, name: str) -> Path:
    """Where the samples of an arm lie."""
    return folder / ARMS_FOLDER / folder_name(name)


def write_problems(folder: Path, problems: Iterable[Problem]) -> None:
    """Keeps the problems beside the samples, so that a report needs no task files."""
    lines = [json.dumps({"id": p.id, "question": p.question, "answer": p.answer}, ensure_ascii=False) + "\n" for p in problems]
    with written_atomically(folder / PROBLEMS_FILE) as file:
        file.write("".join(lines).encode("utf-8", "surrogatepass"))


def read_problems(folder: Path) -> list[Problem]:
    """The problems of a study's folder. ConfigError if they are missing or damaged."""
    path = folder / PROBLEMS_FILE
    try:
        lines = path.read_bytes().decode("utf-8", "surrogatepass").split("\n")
        return [Problem(**json.loads(line)) for line in lines if line]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}), though {PLAN_FILE} is there; run the study again to restore it") from error


def _pairs(listed: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in listed]
