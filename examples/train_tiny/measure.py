"""What a checkpoint can do, measured with ``reset`` itself on the tune split: never on test.

The numbers decide about recipe, checkpoint and difficulty, all on BF16 weights at temperature 0.6 without filters:

- accuracy, by level, with truncated and unparsed samples apart;
- equations: of all that the model writes, how many are true, by operation and by whether it is hard (a carry, a long product);
- entropy: the 80th percentile is the threshold tau_0 of the step-aware policy; near 0 there would be nothing to steer;
- steps: how many, how long: a step shorter than the policy's window of 32 tokens has no mean of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

import reset
from reset.tasks.arithmetic import Arithmetic
from reset.tasks.arithmetic.computing import is_hard

if TYPE_CHECKING:
    from pathlib import Path

    from reset import EvalResult, Task, Trace

TEMPERATURE = 0.6
_EQUATION = re.compile(r"(\d+) ?([-+*/]) ?(\d+) ?= ?(\d+)")


def measure(
    model: Path, work: Path, problems: int, *, task: Task | None = None, threads: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Samples one answer to each of the first ``problems`` problems of the tune split; see the module for what is returned.

    Args:
        model: folder of the checkpoint.
        work: folder that receives samples and traces; a run that was stopped goes on from there.
    """
    chosen = Arithmetic() if task is None else task
    result = reset.evaluate(
        reset.load(model, threads=threads), chosen, policy=reset.FixedTemperature(TEMPERATURE), split="tune", limit=problems, seed=seed,
        output_dir=work, traces=True, progress=False,
    )  # fmt: skip
    levels = {problem.id: int(problem.metadata["level"]) for problem in chosen.problems("tune", limit=problems)}
    traces = [result.trace(*sample.key) for sample in result.samples if sample.tokens]
    low, high = result.ci95
    return {
        "task": chosen.name,
        "task_version": chosen.version,
        "split": "tune",
        "problems": len(result.problem_ids),
        "temperature": TEMPERATURE,
        "accuracy": result.accuracy,
        "ci95": [low, high],
        "counts": result.counts,
        "levels": by_level(result, levels),
        "equations": equations(sample.text for sample in result.samples),
        **entropies(traces),
        **step_lengths(traces),
        "tokens_mean": float(np.mean([sample.tokens for sample in result.samples])),
        "tokens_most": max(sample.tokens for sample in result.samples),
        "room": room(result),
    }


def by_level(result: EvalResult, levels: dict[str, int]) -> dict[str, dict[str, float]]:
    """Problems and accuracy of each level."""
    found: dict[int, list[bool]] = {}
    for sample in result.samples:
        found.setdefault(levels[sample.problem_id], []).append(sample.correct)
    return {str(level): {"problems": len(right), "accuracy": float(np.mean(right))} for level, right in sorted(found.items())}


def equations(texts: Any) -> dict[str, dict[str, float]]:
    """Written equations by kind, such as ``"+ hard"``: how many, and the share that is true."""
    found: dict[str, list[bool]] = {}
    for text in texts:
        for kind, true in judged(text):
            found.setdefault(kind, []).append(true)
    return {kind: {"written": len(true), "true": float(np.mean(true))} for kind, true in sorted(found.items())}


def judged(text: str) -> list[tuple[str, bool]]:
    """The equations of a text in order: kind, and whether each is true."""
    found = []
    for left, sign, right, value in _EQUATION.findall(text):
        a, b, c = int(left), int(right), int(value)
        true = {"+": a + b == c, "-": a - b == c, "*": a * b == c, "/": b != 0 and a == b * c}[sign]
        hard = (sign != "/" or b != 0) and a >= (b if sign == "-" else 0) and is_hard(sign, a, b)
        found.append((f"{sign} {'hard' if hard else 'easy'}", true))
    return found


def entropies(traces: list[Trace]) -> dict[str, Any]:
    """Percentiles of the raw token entropies in nats, and the share of tokens where a choice is left."""
    values = np.concatenate([trace.entropy for trace in traces])
    return {
        "entropy": {f"p{p}": float(np.percentile(values, p)) for p in (50, 75, 80, 90, 95)} | {"mean": float(values.mean())},
        "share_above_0.1": float(np.mean(values > 0.1)),
    }


def step_lengths(traces: list[Trace]) -> dict[str, Any]:
    """Steps of a trace, and tokens of a step, the closing answer after the thought not counted."""
    lengths, counts = [], []
    for trace in traces:
        _, sizes = np.unique(trace.step_index, return_counts=True)
        counts.append(len(sizes))
        lengths += sizes[:-1].tolist() if len(sizes) > 1 else sizes.tolist()
    return {
        "steps_median": float(np.median(counts)),
        "step_tokens": {f"p{p}": float(np.percentile(lengths, p)) for p in (10, 25, 50, 75, 90)},
    }


def room(result: EvalResult) -> int:
    """Most tokens of a prompt and its response together."""
    return max(sample.prompt_tokens + sample.tokens for sample in result.samples)


def summary(values: dict[str, Any]) -> str:
    """One line for the terminal."""
    levels = " ".join(f"{level}:{100 * entry['accuracy']:.0f}" for level, entry in values["levels"].items())
    truncated = 100 * values["counts"]["truncated"] / values["problems"]
    return (
        f"{values['task']} tune, {values['problems']} problems: {100 * values['accuracy']:.1f} % "
        f"[{100 * values['ci95'][0]:.1f}, {100 * values['ci95'][1]:.1f}], by level {levels}; truncated {truncated:.1f} %; "
        f"entropy p80 {values['entropy']['p80']:.3f} nats; {values['steps_median']:.0f} steps of {values['step_tokens']['p50']:.0f} tokens"
    )
