r"""The probability that all digits of all results are right, at every temperature.

A trace is right only if every result in it is. On a gold trace, where every equation is true, the probability that a sampler writes the
digits of all results, given the true text before each, is a product:

.. math:: P(\text{all right}) = \prod_{i \in \text{result digits}} p_T(y_i \mid y_{<i})

Nothing is sampled, so it is exact for each trace, and far less noisy than an accuracy. What it is not: an accuracy. A sampled trace may
leave the gold text by another valid way, choose a wrong plan with right digits, or come to a right answer by two mistakes. Beside the
measured accuracy it says how much of the loss, and of its dependence on the temperature, is mis-sampled digits.

At forks (``3*38`` or ``38*3``) no digit is right or wrong; result digits at forks do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reset.analysis.comparison import check_same_texts, clustered_mean_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reset.analysis.grammar import Positions
    from reset.analysis.scoring import Scores


def result_digits(scores: Scores, where: Positions) -> list[dict[str, Any]]:
    """For every rule that was scored: how probable right digits are.

    Args:
        scores: of texts whose equations are true, such as gold traces, with rules.
        where: the positions of the same texts.

    Returns:
        One dict per rule: ``model``, ``rule``, ``temperature`` (mean over result digits), ``digit``, ``equation`` and ``trace``: the mean
        probability that a digit, that all digits of an equation, and that all of a trace are drawn right; ``hard``: that of equations
        whose operation is hard (None without any); ``trace_low``, ``trace_high``: 95 % interval over problems; ``traces``, ``equations``,
        ``digits``: how many.

    Raises:
        ValueError: positions of other texts, no rules, or texts without a true equation.
    """
    if len(where.code) != len(scores):
        raise ValueError(f"positions are of {len(where.code)} tokens, and the scores of {len(scores)}: read the same texts")
    if not scores.rule_logprob:
        raise ValueError(f"{scores.name!r} was scored without rules: give score(…, rules=reset.analysis.temperatures(0.3, 0.6, 1.0))")
    chosen = where.result
    if not chosen.any():
        raise ValueError("the texts hold no digit of a true equation: there is nothing that could be right")
    equations = np.unique(where.equation[chosen])
    hard = np.array([where.equations[index].hard is True for index in equations])
    texts, clusters = trace_probabilities(scores, where, next(iter(scores.rule_logprob)))[1:]
    rows = []
    for rule, logprob in scores.rule_logprob.items():
        whole = trace_probabilities(scores, where, rule)[0]
        found = clustered_mean_of(whole, clusters)
        by_equation = np.exp(_sums(logprob[chosen], where.equation[chosen]))
        rows.append(
            {
                "model": scores.name, "rule": rule, "temperature": float(scores.temperature[rule][chosen].mean()),
                "digit": float(np.exp(logprob[chosen]).mean()), "equation": float(by_equation.mean()),
                "hard": float(by_equation[hard].mean()) if hard.any() else None, "trace": found.mean,
                "trace_low": max(found.low, 0.0), "trace_high": min(found.high, 1.0), "traces": len(texts), "equations": len(equations),
                "digits": int(chosen.sum()),
            }
        )  # fmt: skip
    return rows


def digit_shift(a: Scores, b: Scores, where: Positions, rule: str) -> dict[str, float]:
    """By how much the probability that all result digits of a trace are right rises from model a to b: ``shift``, ``low``, ``high``."""
    check_same_texts(a, b)
    before, _, clusters = trace_probabilities(a, where, rule)
    found = clustered_mean_of(trace_probabilities(b, where, rule)[0] - before, clusters)
    return {"shift": found.mean, "shift_low": found.low, "shift_high": found.high}


def trace_probabilities(scores: Scores, where: Positions, rule: str) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Of every text that has result digits: the probability that all are drawn right, the text's index, its problem's number."""
    chosen = where.result
    of = scores.texts.text_of[chosen]
    texts = np.unique(of)
    return np.exp(_sums(scores.rule_logprob[rule][chosen], of)), texts, scores.texts.problem_of[texts]


def _sums(values: NDArray[np.float64], of: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of values by group, in the order of the groups' numbers. A sum with −inf is −inf."""
    _, index = np.unique(of, return_inverse=True)
    return np.asarray(np.bincount(index, values), np.float64)
