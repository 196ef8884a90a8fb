"""Results made of given outcomes, for tests of what is done with results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reset.evaluation.identity import identity_hash
from reset.evaluation.result import EvalResult
from reset.evaluation.sample import Sample, outcome_of
from reset.policies import FixedTemperature, Policy, to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def identity_of(policy: Policy | None = None, **changes: Any) -> dict[str, Any]:
    """An identity as evaluate writes it, without a model behind it."""
    return {
        "task": "sums", "task_version": "1", "split": "test", "prompt": "boxed", "thinking": None, "scorer": "number-1",
        "max_new_tokens": 64, "policy": to_dict(policy or FixedTemperature(0.6)), "top_k": None, "top_p": None, "min_p": None, "seed": 0,
        "model": {"fingerprint": "0" * 16, "weights": "nvfp4"}, "reset_version": "0", **changes,
    }  # fmt: skip


def make_result(
    outcomes: Mapping[str, Sequence[bool]],
    policy: Policy | None = None,
    *,
    tokens: int = 10,
    texts: Mapping[str, str] | None = None,
    answers: Mapping[str, str] | None = None,
    planned: int | None = None,
    temperature: float = 0.6,
    **identity: Any,
) -> EvalResult:
    """A result with the given samples: problem id → whether each sample is correct."""
    described = identity_of(policy, **identity)
    run = identity_hash(described)
    samples = [
        Sample(
            problem_id=id, sample_index=index, seed=0, stream="0x" + "0" * 16, prompt_sha256="0", prompt_tokens=4,
            token_ids=list(range(tokens)), tokens=tokens, text=(texts or {}).get(id, f"text of {id}"), finish_reason="stop", seconds=0.1,
            reference="1", answer=(answers or {}).get(id, "1" if right else "2"), source="boxed", method="exact", parsed=True,
            correct=right, truncated=False, lenient_correct=right, lenient_answer=None,
            outcome=outcome_of(correct=right, truncated=False, parsed=True), entropy_mean=0.5, temperature_mean=temperature, steps=2,
            high_tokens=3, uncertain_tokens=1, repetition=False, trace=None, options={}, versions={}, run=run,
        )
        for id, rights in outcomes.items() for index, right in enumerate(rights)
    ]  # fmt: skip
    count = max(map(len, outcomes.values())) if planned is None else planned
    return EvalResult(samples, identity=described, plan={"problems": [[id, "0"] for id in outcomes], "n_samples": count})
