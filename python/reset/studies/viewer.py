"""A page of problems that only one of two arms solves: question, both answers, both texts side by side.

One HTML file without scripts or outside resources. Everything shown is text: what models and files wrote is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from reset.evaluation.result import EvalResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reset.evaluation.sample import Sample
    from reset.studies.published import PublishedArm
    from reset.studies.result import Study
    from reset.tasks import Problem

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --soft: #f2f2ef; --line: #c9c9c4; --good: #0b6b3a; --bad: #9c1c1c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e4; --paper: #161616; --soft: #232323; --line: #4a4a4a; --good: #6fd39b; --bad: #ff9a94; }
}
body { color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 90rem;
  padding: 0 1rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
pre { background: var(--soft); padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 40rem; overflow-y: auto; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
@media (max-width: 60rem) { .pair { grid-template-columns: 1fr; } }
.pair > div { min-width: 0; }
.right { color: var(--good); font-weight: 600; }
.wrong { color: var(--bad); font-weight: 600; }
code { overflow-wrap: anywhere; }
""".strip()


def html(study: Study) -> str:
    """The page of a study, with a section for every planned contrast."""
    record = study.plan.record
    title = f"{record['task']} {record['split']}: problems that only one arm solves"
    parts = [
        "<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>", f"<h1>{escape(title)}</h1>",
        f"<p>Plan <code>{study.plan.sha256}</code>. A problem is listed where one arm solves at least one of its samples and the other "
        "none. For chance alone, both lists would be about equally long.</p>",
    ]  # fmt: skip
    if study.partial:
        parts.append("<p><strong>PARTIAL: planned samples are missing; problems are listed when both arms are finished.</strong></p>")
    pairs = dict.fromkeys((a, b) for a, b in [*record["primary"], *record["exploratory"]])
    for a, b in pairs:
        if not {a, b} & {*study.unfinished}:
            parts += _contrast(study, a, b)
    return "\n".join([*parts, "</body></html>", ""])


def _contrast(study: Study, a: str, b: str) -> list[str]:
    lists = study.only_one_solves(a, b)
    problems = {problem.id: problem for problem in study.problems}
    samples = {name: _by_problem(study.results[name]) for name in (a, b)}
    parts = [f"<h2>{escape(b)} against {escape(a)}</h2>"]
    for solver, other in ((b, a), (a, b)):
        parts.append(f"<h3>Only {escape(solver)} solves: {len(lists[solver])}</h3>")
        parts += [_problem(problems[id], solver, samples[solver][id], other, samples[other][id]) for id in lists[solver]]
    return parts


def _by_problem(result: EvalResult | PublishedArm) -> dict[str, list[Sample]]:
    assert isinstance(result, EvalResult)  # Study.report refuses a study without samples
    found: dict[str, list[Sample]] = {}
    for sample in result.samples:
        found.setdefault(sample.problem_id, []).append(sample)
    return found


def _problem(problem: Problem, solver: str, solved: Sequence[Sample], other: str, missed: Sequence[Sample]) -> str:
    right = next(s for s in solved if s.correct)
    # The sample with the same random numbers, where there is one: the two texts part where the arms do.
    wrong = next((s for s in missed if s.sample_index == right.sample_index), missed[0])
    rate = f"{sum(s.correct for s in solved)} of {len(solved)} against 0 of {len(missed)}"
    return "\n".join(
        [
            f"<details><summary><code>{escape(problem.id)}</code> {escape(_short(problem.question))} ({rate})</summary>",
            f"<pre>{_text(problem.question)}</pre><p>Reference: <code>{_text(problem.answer)}</code></p>",
            '<div class="pair">', _sample(solver, right), _sample(other, wrong), "</div></details>",
        ]
    )  # fmt: skip


def _sample(arm: str, sample: Sample) -> str:
    mark = "right" if sample.correct else "wrong"
    answer = "no answer" if sample.answer is None else f"<code>{_text(sample.answer)}</code>"
    return (
        f'<div><h4>{escape(arm)}, sample {sample.sample_index}</h4><p><span class="{mark}">{escape(sample.outcome)}</span>: {answer}; '
        f"{sample.tokens:,} tokens, mean temperature {sample.temperature_mean:.2f}</p><pre>{_text(sample.text)}</pre></div>"
    )


def _text(text: str) -> str:
    """Escaped, and without characters that HTML does not allow."""
    shown = "".join(c if c in "\t\n" or (c >= " " and c != "\x7f" and not "\ud800" <= c <= "\udfff") else "�" for c in text)
    return escape(shown)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:99] + "…"
