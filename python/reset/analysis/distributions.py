r"""Arithmetic on rows of logits: what one distribution says about one token, and how two distributions differ.

With logits ``x`` of one position and ``p = softmax(x)``, for the token ``y`` that stands there:

==============  ===========================================================================================
entropy         :math:`-\sum p \ln p`, nats
logprob         :math:`\ln p(y)`; its negative is the *surprisal*
rank            how many tokens are more probable than ``y``: 0 is what greedy decoding takes
margin          :math:`x_y - \max_{z \ne y} x_z`, nats: above 0 exactly where the rank is 0 and nothing ties
top             the most probable token, the lowest id of equals
divergence      :math:`D(p \| q) = \sum p \ln (p/q)`, nats
==============  ===========================================================================================

Everything is computed in float64 from float32 logits, but the entropy, which is the core's: what a policy sees, bit for bit.

>>> import numpy as np
>>> found = statistics(np.log([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]).astype(np.float32), np.array([1, 1]))
>>> [round(float(v), 6) for v in np.exp(found["logprob"])], found["rank"].tolist(), found["top"].tolist()
([0.25, 0.75], [1, 0], [0, 1])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reset._processed import _lowest_kept
from reset.sampling import entropy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GREEDY = 1e-6
"""Temperatures up to here take the most probable token, as the sampler does."""


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """``ln softmax`` along the last dimension, in float64; −inf stays −inf."""
    x = logits.astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def statistics(logits: NDArray[np.float32], token_ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """The table of the module for logits ``[T, vocab]`` and the tokens ``[T]`` that stand there: entropy, logprob, rank, margin, top."""
    rows = np.arange(len(token_ids))
    actual = logits[rows, token_ids]
    others = logits.copy()
    others[rows, token_ids] = -np.inf
    return {
        "entropy": entropy(logits),
        "logprob": log_softmax(logits)[rows, token_ids],
        "rank": (logits > actual[:, None]).sum(axis=-1).astype(np.int64),
        "margin": actual.astype(np.float64) - others.max(axis=-1).astype(np.float64),
        "top": logits.argmax(axis=-1).astype(np.int64),
    }


def logprob_at(
    logits: NDArray[np.float32], token_ids: NDArray[np.int64], temperatures: NDArray[np.float64], *, top_k: int | None = None,
    top_p: float | None = None, min_p: float | None = None, banned: Sequence[int] = (),
) -> NDArray[np.float64]:  # fmt: skip
    """Log-probability with which a sampler draws each token, float64 ``[T]``; −inf for tokens that it never draws.

    Args:
        logits: raw, ``[T, vocab]``.
        token_ids: the tokens, ``[T]``.
        temperatures: one per position, ``[T]``; up to 1e-6 the most probable token is certain.
        top_k, top_p, min_p, banned: as in :func:`reset.sampling.draw`.
    """
    rows = np.arange(len(token_ids))
    allowed = logits.copy()
    allowed[:, list(banned)] = -np.inf
    greedy = temperatures <= GREEDY
    scaled = allowed.astype(np.float64) / np.where(greedy, 1.0, temperatures)[:, None]
    if any(option is not None for option in (top_k, top_p, min_p)):
        for t in np.flatnonzero(~greedy):
            scaled[t, scaled[t] < _lowest_kept(scaled[t], top_k, top_p, min_p)] = -np.inf
    found = log_softmax(scaled)[rows, token_ids]
    return np.where(greedy, np.where(allowed.argmax(axis=-1) == token_ids, 0.0, -np.inf), found)


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """D(p ‖ q) of rows of log-probabilities ``[T, vocab]``, nats, ``[T]``; infinite where q excludes what p has."""
    mass = np.exp(p)
    with np.errstate(invalid="ignore"):
        terms = mass * (p - q)
    # Rounding may leave −1e-17 where p equals q.
    return np.asarray(np.maximum(np.where(mass > 0, terms, 0.0).sum(axis=-1), 0.0))
