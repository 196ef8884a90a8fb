"""Models, evaluations, comparisons and studies as small tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from reset.views._html import escape, table, view

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reset.evaluation.comparison import Comparison
    from reset.evaluation.result import EvalResult
    from reset.model import Model
    from reset.statistics import Paired
    from reset.studies import Study

NOTHING = "–"


def model_html(model: Model) -> str:
    """What a model is, how it is held and computed with, and the bytes of its parts."""
    config, what = model.config, model.describe()
    sizes = (("layers", "num_hidden_layers"), ("hidden", "hidden_size"), ("heads", "num_attention_heads"))
    shape = ", ".join(f"{config[key]:,} {name}" for name, key in sizes if isinstance(config.get(key), int))
    scales = f", input scales {what['calibration']}" if what["calibration"] else ""
    rows = [
        ("architecture", ", ".join(filter(None, [model.core.architecture, shape]))),
        ("vocabulary", f"{model.vocab_size:,} tokens" + ("" if model.tokenizer is not None else ", no tokenizer")),
        ("context", f"{model.max_positions:,} positions"),
        ("weights", model.weights + (f", method {what['method']}" if what.get("method") else "")),
        ("head", model.lm_head),
        ("activations", model.activations + scales),
        ("key-value cache", f"{model.kv}, {model.kv_bytes_per_token:,} bytes per token"),
        ("runs on", f"{model.device} ({what['table']}, {model.core.threads} threads)"),
    ]
    held = model.footprint()
    total = sum(held.values())
    sizes_rows = [(part, _megabytes(size), _percent(size / total)) for part, size in {**held, "all": total}.items() if size]
    return view([table(f"Model {model.name}", (), rows, texts=(1,)), table("Bytes held", ("part", "MB", "share"), sizes_rows)])


def result_html(result: EvalResult) -> str:
    """Accuracy with its interval, the outcomes, and what was run."""
    what = result.metadata
    rows = [
        ("policy", result.label),
        ("accuracy", f"{_percent(result.accuracy)}, 95 % interval {_range(*result.ci95)}"),
        ("lenient accuracy", _percent(result.lenient_accuracy)),
        ("samples", f"{len(result.samples):,}: {len(result.problem_ids):,} problems × {result.n_samples}"),
    ]
    count = max(len(result.samples), 1)
    outcomes = [(name, f"{found:,}", _percent(found / count)) for name, found in result.counts.items()]
    notes = []
    if result.partial:
        notes.append(f"PARTIAL: {len(result.samples):,} of {result.planned:,} planned samples are there.")
    if result.too_long:
        notes.append(f"{result.too_long:,} prompts were too long for the model.")
    caption = f"Evaluation on {what['task']}, split {what['split']}"
    return view([table(caption, (), rows, texts=(1,)), table("Outcomes", ("outcome", "samples", "share"), outcomes), *_notes(notes)])


def comparison_html(comparison: Comparison) -> str:
    """Both arms, the paired difference, and what the arms differ in."""
    arms = [
        (
            f"{row['arm']}: {row['name']}", _percent(row["accuracy"]), _range(row["low"], row["high"]), _percent(row["truncated"]),
            _percent(row["unparsed"]), f"{row['tokens']:,.0f}", f"{row['samples']:,} of {row['problems']:,} problems",
        )
        for row in comparison.table
    ]  # fmt: skip
    names = ("arm", "accuracy", "95 % interval", "truncated", "unparsed", "tokens", "samples")
    scores = [_difference(name, paired) for name, paired in (("strict", comparison.paired), ("lenient", comparison.lenient))]
    verdict = comparison.verdict if comparison.verdict == "undecided" else f"b is {comparison.verdict}"
    notes = [
        f"Verdict: {verdict}. {comparison.paired.problems:,} problems; solved by a alone: {len(comparison.flips.only_a):,}, by b alone: "
        f"{len(comparison.flips.only_b):,}."
    ]
    notes += [f"The arms differ in {'; '.join(comparison.differing)}."] if comparison.differing else []
    notes += ["PARTIAL: planned samples are missing; problems without samples in an arm are left out."] if comparison.partial else []
    head = ("score", "b − a (points)", "95 % interval", "p", "test", "detectable")
    return view([table("Arms", names, arms), table("Paired difference", head, scores), *_notes(notes)])


def study_html(study: Study) -> str:
    """Arms, contrasts and interactions of a study."""
    record = study.plan.record
    arms = [
        (
            row["arm"], _percent(row["accuracy"]), _range(row["low"], row["high"]), f"{row['problems']:,} × {row['n_samples']}",
            _percent(row["truncated_share"]), _percent(row["unparsed_share"]), _number(row["tokens_mean"], 1),
        )
        for row in study.arms
    ]  # fmt: skip
    contrasts = [
        (
            row["contrast"], row["kind"], _points(row["difference"]), f"{_points(row['low'])} to {_points(row['high'])}",
            _p(row["p_value"]), _p(row["p_adjusted"]), row["verdict"],
        )
        for row in study.contrast_rows
    ]  # fmt: skip
    caption = f"Study of {record['task']}, split {record['split']}: arms"
    parts = [table(caption, ("arm", "accuracy", "95 % interval", "problems × samples", "truncated", "unparsed", "tokens"), arms)]
    if contrasts:
        names = ("contrast", "kind", "difference (points)", "95 % interval", "p", "p (Holm)", "verdict")
        parts.append(table("Contrasts", names, contrasts, texts=(1, 6)))
    notes = [f"Plan {study.plan.sha256[:12]}, fixed before the first sample."]
    if study.partial:
        notes.append(f"PARTIAL: not finished: {', '.join(study.unfinished)}. Contrasts follow when all arms are.")
    return view([*parts, *_notes(notes)])


def _difference(name: str, paired: Paired) -> tuple[str, ...]:
    low, high = paired.ci95
    smallest = f"{100 * paired.mde:.1f}" if math.isfinite(paired.mde) else NOTHING
    return name, _points(paired.difference), f"{_points(low)} to {_points(high)}", _p(paired.p_value), paired.test, smallest


def _notes(notes: Iterable[str]) -> list[str]:
    return [f"<p>{escape(note)}</p>" for note in notes]


# Cells. None and NaN are quantities that do not exist.


def _exists(value: Any) -> bool:
    return value is not None and not math.isnan(value)


def _number(value: float | None, digits: int) -> str:
    return f"{value:,.{digits}f}" if _exists(value) else NOTHING


def _percent(value: float | None) -> str:
    return f"{value:.1%}" if _exists(value) else NOTHING


def _range(low: float | None, high: float | None) -> str:
    return f"{_percent(low)} to {_percent(high)}" if _exists(low) else NOTHING


def _points(value: float | None) -> str:
    """A difference in percentage points, with its sign."""
    if not _exists(value):
        return NOTHING
    text = f"{100 * (value or 0.0):+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _p(value: float | None) -> str:
    if not _exists(value):
        return NOTHING
    return "< 0.001" if (value or 0.0) < 0.001 else f"{value:.3f}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f}"
