"""The report on a study: Markdown to read, CSV to compute with, LaTeX to print.

Every form shows the same cells, made once by :func:`arm_cells` and :func:`contrast_cells`. Nothing in it depends on when or how fast the
study ran, so a study that was killed and resumed gives the same report, byte for byte.
"""

from __future__ import annotations

import csv
import io
import math
import re
from typing import TYPE_CHECKING, Any

from reset._arms import REGIMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reset.studies.result import Study

NOTHING = "–"

Table = tuple[list[str], list[list[Any]]]

_ARM_COLUMNS = (
    "arm", "accuracy", "low", "high", "problems", "n_samples", "samples", "correct", "truncated", "unparsed", "wrong", "truncated_share",
    "unparsed_share", "repetition_share", "lenient_accuracy", "tokens_mean", "tokens_median", "steps_mean", "temperature_mean",
    "entropy_mean", "high_share", "uncertain_share",
)  # fmt: skip


def arm_cells(study: Study) -> Table:
    """Column names and values of every arm; regimes, pass@k and maj@k as columns where an arm has them."""
    rows = study.arms
    powers = sorted({int(k) for row in rows for k in row["pass_at"]})
    with_regimes = any(row["regimes"] for row in rows)
    names = [*_ARM_COLUMNS, *(REGIMES if with_regimes else ()), *(f"{kind}@{k}" for k in powers for kind in ("pass", "maj"))]
    table = []
    for row in rows:
        regimes = [(row["regimes"] or {}).get(name) for name in REGIMES] if with_regimes else []
        several = [row[kind].get(str(k)) for k in powers for kind in ("pass_at", "majority_at")]
        table.append([*(row[name] for name in _ARM_COLUMNS), *regimes, *several])
    return names, table


def contrast_cells(study: Study) -> Table:
    """Column names and values of every contrast and interaction; no rows while the study is partial."""
    names = [
        "contrast", "kind", "difference", "low", "high", "p_value", "p_adjusted", "verdict", "test", "mde", "only_a", "only_b", "problems",
        "differs",
    ]  # fmt: skip
    return names, [[row[name] for name in names] for row in study.contrast_rows]


def csv_text(table: Table) -> str:
    """The table as CSV: full precision, an empty cell for what does not exist."""
    names, rows = table
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if _missing(cell) else cell for cell in row] for row in rows])
    return out.getvalue()


def markdown(study: Study) -> str:
    """The report to read."""
    record, whole = study.plan.record, not study.partial
    lines = [
        f"# Study of {_md(record['task'])}, split {_md(record['split'])}", "",
        f"{record['problems']:,} problems; seed {record['seed']}; reset {record['versions']['reset']}, scorer "
        f"{_md(record['versions']['scorer'])}. Plan SHA-256 `{study.plan.sha256}`, fixed before the first sample.", "",
    ]  # fmt: skip
    if not whole:
        lines += ["**PARTIAL: planned samples are missing.** Contrasts follow when all arms are finished.", ""]
    lines += ["## Arms", "", *_md_table(*_shown_arms(study)), ""]
    lines += [
        "Accuracy is the mean over problems of the share of correct samples, with its 95 % interval. Outcomes exclude each other: correct, "
        "else truncated (the limit was reached), else unparsed (no answer found), else wrong. *Lenient* counts boxes in unfinished "
        "thoughts. *Loops* are samples that end repeating themselves.", "", *_md_table(*_shown_outcomes(study)), "",
        *_md_table(*_shown_tokens(study)), "",
        "*High* are tokens at or above the threshold, drawn at the high temperature; *uncertain* those of steps above the mean entropy so "
        "far; the four regimes, as step / temperature, need traces.", "",
    ]  # fmt: skip
    several = _shown_several(study)
    if several[0]:
        lines += ["## Several samples", "", *_md_table(*several), ""]
    if whole:
        for kind, heading, note in _KINDS:
            table = _shown_contrasts(study, kind)
            if table[1]:
                lines += [f"## {heading}", "", note, "", *_md_table(*table), ""]
    lines += ["## Plan", "", *_md_table(*_shown_plan(study)), ""]
    return "\n".join(lines)


_KINDS = (
    ("primary", "Primary contrasts", "Declared beforehand; p adjusted by Holm over all of them. Differences in percentage points. "
     "*Detectable* is the smallest true difference that such a study would find with probability 0.8."),
    ("exploratory", "Exploratory contrasts", "Raw p-values, not adjusted: where to look next, not what was found."),
    ("interaction", "Interactions", "Whether the first difference is larger than the second; planned, p not adjusted."),
)  # fmt: skip


def _shown_arms(study: Study) -> Table:
    names = ["arm", "accuracy", "95 % interval", "problems × samples", "lenient"]
    rows = [
        [row["arm"], percent(row["accuracy"]), _range(row), f"{row['problems']:,} × {row['n_samples']}", percent(row["lenient_accuracy"])]
        for row in study.arms
    ]
    return names, rows


def _shown_outcomes(study: Study) -> Table:
    names = ["arm", "correct", "truncated", "unparsed", "wrong", "truncated %", "unparsed %", "loops %"]
    shares = ("truncated_share", "unparsed_share", "repetition_share")
    rows = [
        [row["arm"], *(f"{row[name]:,}" for name in names[1:5]), *(percent(row[name]) for name in shares)] for row in study.arms
    ]  # fmt: skip
    return names, rows


def _shown_tokens(study: Study) -> Table:
    names = [
        "arm",
        "tokens, mean",
        "median",
        "steps",
        "mean T",
        "mean entropy",
        "high",
        "uncertain",
        *(n.replace("-", " / ") for n in REGIMES),
    ]
    rows = [
        [
            row["arm"], fixed(row["tokens_mean"], 1), fixed(row["tokens_median"], 1), fixed(row["steps_mean"], 1),
            fixed(row["temperature_mean"], 3), fixed(row["entropy_mean"], 3), percent(row["high_share"]), percent(row["uncertain_share"]),
            *(percent((row["regimes"] or {}).get(name)) for name in REGIMES),
        ]
        for row in study.arms
    ]  # fmt: skip
    return names, rows


def _shown_several(study: Study) -> Table:
    powers = sorted({int(k) for row in study.arms for k in row["pass_at"]})
    if not powers:
        return [], []
    names = ["arm", *(f"{kind}@{k}" for k in powers for kind in ("pass", "maj"))]
    rows = [
        [row["arm"], *(percent(row[kind].get(str(k))) for k in powers for kind in ("pass_at", "majority_at"))] for row in study.arms
    ]  # fmt: skip
    return names, rows


def _shown_contrasts(study: Study, kind: str) -> Table:
    names = ["contrast", "difference", "95 % interval", "p", "p (Holm)", "verdict", "detectable", "only first", "only second", "differs in"]
    rows = [row for row in study.contrast_rows if row["kind"] == kind]
    keep = {"primary": range(10), "exploratory": (0, 1, 2, 3, 5, 6, 7, 8, 9), "interaction": (0, 1, 2, 3, 5)}[kind]
    cells = [
        [
            row["contrast"], points(row["difference"]), f"{points(row['low'])} to {points(row['high'])}", p_value(row["p_value"]),
            p_value(row["p_adjusted"]), row["verdict"], points(row["mde"], sign=False), percent(row["only_b"]), percent(row["only_a"]),
            row["differs"],
        ]
        for row in rows
    ]  # fmt: skip
    return [names[i] for i in keep], [[line[i] for i in keep] for line in cells]


def _shown_plan(study: Study) -> Table:
    rows = []
    for name, arm in study.plan.record["arms"].items():
        policy = ", ".join(f"{key} {value}" for key, value in arm["policy"].items())
        options = ", ".join(f"{key} {value}" for key, value in arm.items() if key not in ("policy", "model") and value is not None)
        rows.append([name, arm["model"], policy, options])
    return ["arm", "checkpoint", "policy", "options"], rows


# LaTeX


def arms_latex(study: Study) -> str:
    """A ``tabular`` of the arms; needs the package booktabs."""
    names = ["Arm", "Accuracy", "95\\,\\% interval", "Truncated", "Unparsed", "Loops", "Tokens", "Mean $T$", "High", "Uncertain"]
    rows = [
        [
            row["arm"], percent(row["accuracy"]), _range(row), percent(row["truncated_share"]), percent(row["unparsed_share"]),
            percent(row["repetition_share"]), fixed(row["tokens_mean"], 0), fixed(row["temperature_mean"], 3), percent(row["high_share"]),
            percent(row["uncertain_share"]),
        ]
        for row in study.arms
    ]  # fmt: skip
    return _latex(names, rows, study)


def contrasts_latex(study: Study) -> str:
    """A ``tabular`` of contrasts and interactions, differences in percentage points; needs the package booktabs."""
    names = ["Contrast", "Kind", "Difference", "95\\,\\% interval", "$p$", "$p$ (Holm)", "Verdict"]
    rows = [
        [
            row["contrast"], row["kind"], points(row["difference"]), f"{points(row['low'])} to {points(row['high'])}",
            p_value(row["p_value"]), p_value(row["p_adjusted"]), row["verdict"],
        ]
        for row in study.contrast_rows
    ]  # fmt: skip
    return _latex(names, rows, study)


def _latex(names: Sequence[str], rows: Sequence[Sequence[str]], study: Study) -> str:
    body = [" & ".join(latex(cell) for cell in row) + r" \\" for row in rows]
    return "\n".join(
        [
            f"% plan {study.plan.sha256}{' (PARTIAL)' if study.partial else ''}; needs \\usepackage{{booktabs}}",
            rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}", r"\toprule", " & ".join(names) + r" \\", r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}", "",
        ]
    )  # fmt: skip


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "−": "$-$", "–": "--", "@": "@", "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip


def latex(text: str) -> str:
    """``text`` as LaTeX sets it literally, on one line.

    >>> print(latex("50 % of a_b & c"))
    50 \\% of a\\_b \\& c
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


# Cells


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def percent(value: float | None) -> str:
    """A share: ``"62.5 %"``."""
    return NOTHING if _missing(value) else f"{100 * value:.1f} %"  # type: ignore[operator]


def fixed(value: float | None, digits: int) -> str:
    """A number with so many decimals."""
    return NOTHING if _missing(value) else f"{value:,.{digits}f}"


def points(value: float | None, *, sign: bool = True) -> str:
    """A difference of shares in percentage points: ``"+1.5"``."""
    if _missing(value):
        return NOTHING
    assert value is not None
    if math.isinf(value):
        return "∞"
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def p_value(value: float | None) -> str:
    """A p-value with three decimals, ``"< 0.001"`` below."""
    if _missing(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"  # type: ignore[operator]


def _range(row: dict[str, Any]) -> str:
    return NOTHING if _missing(row["low"]) else f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"


def _md_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = ["| " + " | ".join(names) + " |", "|" + "|".join(["---", *["---:"] * (len(names) - 1)]) + "|"]
    return [*head, *("| " + " | ".join(_md(cell) for cell in row) + " |" for row in rows)]


def _md(text: str) -> str:
    """Text that Markdown shows as it is, in a cell of a table."""
    escaped = re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", " ".join(str(text).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
