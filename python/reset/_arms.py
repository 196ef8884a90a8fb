"""Arms side by side: their names, their folders, and the numbers that describe one.

An arm is one way to run a model on a task. :mod:`reset.tuning` and :mod:`reset.studies` run several of them.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from reset.types import Trace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reset.evaluation.result import EvalResult
    from reset.policies import Policy

#: Policies with a threshold between high and low temperature, and those that know uncertain steps.
_WITH_THRESHOLD = ("reset", "entropy-threshold")
_WITHOUT_STEPS = ("fixed", "greedy", "entropy-threshold")

#: Regimes of a token: the step it belongs to, then its temperature.
REGIMES = ("confident-low", "confident-high", "uncertain-low", "uncertain-high")


def folder_name(name: str) -> str:
    """A folder name for an arm: as it is where that is portable, else its harmless characters and a digest of the whole name.

    >>> folder_name("nvfp4"), folder_name("T = 0.6")
    ('nvfp4', 'T-=-0.6-f2a4eb0e')
    """
    harmless = re.sub(r"[^A-Za-z0-9._=+-]+", "-", name).strip("-.")[:60]
    if name and harmless == name:
        return name
    return f"{harmless or 'arm'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def check_names(names: Iterable[str]) -> None:
    """ValueError or TypeError unless the names are texts that differ by more than upper and lower case (which some disks ignore)."""
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"arm {name!r} is named by {type(name).__name__}: give a str")
        if not name.strip():
            raise ValueError(f"arm {name!r} needs a name with a visible character")
        other = seen.setdefault(folder_name(name).casefold(), name)
        if other is not name:
            raise ValueError(f"arms {other!r} and {name!r} cannot be told apart by upper and lower case alone: rename one")


def policy_name(policy: Policy) -> str:
    """A short name: ``T=0.6``, ``reset t_low=0.3 tau_0=0.55``, or the repr of a policy written in Python."""
    from reset.policies import to_dict

    record = to_dict(policy)
    kind = record.pop("policy")
    if kind == "python":
        return str(record["repr"])
    if kind == "fixed":
        return f"T={record['t']:g}"
    defaults = {"t_high": 1.0, "window": 32, "include_current": False}
    shown = [f"{name}={value:g}" for name, value in record.items() if name not in defaults or defaults[name] != value]
    return " ".join([kind, *shown])


def summarize(result: EvalResult) -> dict[str, Any]:
    """What a table says about an arm, as JSON values; None where the policy has no such quantity.

    Shares are of samples (truncated, unparsed, repetition) or of tokens (high, uncertain, regimes); means of entropy and temperature are
    over tokens. ``regimes`` needs a trace of every sample.
    """
    samples, kind = result.samples, result.metadata["policy"].get("policy")
    count, tokens = len(samples), np.array([s.tokens for s in samples], np.int64)
    total = int(tokens.sum())

    def share(number: float, of: int) -> float | None:
        return number / of if of else None

    def token_mean(name: str) -> float | None:
        return share(math.fsum(getattr(s, name) * s.tokens for s in samples if s.tokens), total)

    low, high = result.ci95
    several = [] if result.partial else _powers(result.n_samples)
    return {
        "accuracy": result.accuracy, "low": low, "high": high, "problems": len(result.problem_ids), "n_samples": result.n_samples,
        "samples": count, "partial": result.partial, "lenient_accuracy": result.lenient_accuracy, **result.counts,
        "truncated_share": share(result.counts["truncated"], count), "unparsed_share": share(result.counts["unparsed"], count),
        "repetition_share": share(sum(s.repetition for s in samples), count),
        "tokens_mean": share(total, count), "tokens_median": float(np.median(tokens)) if count else None,
        "steps_mean": share(sum(s.steps for s in samples), count),
        "temperature_mean": token_mean("temperature_mean"), "entropy_mean": token_mean("entropy_mean"),
        "high_share": share(sum(s.high_tokens for s in samples), total) if kind in _WITH_THRESHOLD else None,
        "uncertain_share": None if kind in _WITHOUT_STEPS else share(sum(s.uncertain_tokens for s in samples), total),
        "regimes": regimes(result) if kind == "reset" else None,
        "pass_at": {str(k): result.pass_at(k) for k in several}, "majority_at": {str(k): result.majority_at(k) for k in several},
    }  # fmt: skip


def regimes(result: EvalResult) -> dict[str, float] | None:
    """Share of tokens in each of ``REGIMES``, from the traces; None unless every sample has one."""
    if result.directory is None or not result.samples or any(s.trace is None for s in result.samples):
        return None
    counts = dict.fromkeys(REGIMES, 0)
    for sample in result.samples:
        trace = Trace.load(result.directory / str(sample.trace))
        high, uncertain = trace.entropy >= trace.threshold, trace.uncertain
        for name, of in zip(REGIMES, (~uncertain & ~high, ~uncertain & high, uncertain & ~high, uncertain & high), strict=True):
            counts[name] += int(np.count_nonzero(of))
    total = sum(counts.values())
    return {name: number / total for name, number in counts.items()} if total else None


def _powers(most: int) -> list[int]:
    """2, 4, 8 … below ``most``, and ``most`` itself; nothing for 1, where these numbers are the accuracy."""
    return sorted({most, *(1 << i for i in range(1, most.bit_length()) if 1 << i <= most)}) if most > 1 else []
