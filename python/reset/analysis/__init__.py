"""Mechanisms: what a change of weights does to a model's distributions, seen on texts that are given.

Accuracy says *whether* quantization hurts. This package asks *where*: all models read the same texts, token by token (teacher-forced), and
are compared position by position::

    texts ──► score (one model) ──► compare (two models, by class of position) ──► tables, figures
      │                                  ▲
      └── positions: the grammar of the text, or the MEAN of both models' entropies ──┘

- :mod:`~reset.analysis.texts`: gold traces, samples of an evaluation, texts of one's own.
- :mod:`~reset.analysis.forks`: where gold traces could have gone on otherwise.
- :mod:`~reset.analysis.spans`, :mod:`~reset.analysis.grammar`: which tokens are digits of a result, words, ends of steps.
- :mod:`~reset.analysis.scoring`: entropy, log-probability, rank, probability at temperatures; of two models also their divergence.
- :mod:`~reset.analysis.comparison`: differences by class, with intervals clustered by problem.
- :mod:`~reset.analysis.selection`: classes by entropy, and why never by one model's.
- :mod:`~reset.analysis.digits`: the probability that all digits of all results are right, at every temperature.
- :mod:`~reset.analysis.noise`: the control: a checkpoint with random noise of the same squared error as NVFP4.
- :mod:`~reset.analysis.run`, :mod:`~reset.analysis.result`: all of it, as one report; ``reset-nvfp4 analyze``.

``docs/analysis.md`` explains what each number means and what it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reset.analysis.comparison import class_shifts, clustered_mean_of
    from reset.analysis.digits import result_digits
    from reset.analysis.grammar import Positions, positions
    from reset.analysis.noise import noisy_checkpoint
    from reset.analysis.result import Mechanisms
    from reset.analysis.run import mechanisms
    from reset.analysis.scoring import Rule, Scores, score, temperatures
    from reset.analysis.selection import entropy_bins, entropy_shifts
    from reset.analysis.texts import Text, Texts, gold_texts, sample_texts

_LAZY = {
    "Mechanisms": "result", "Positions": "grammar", "Rule": "scoring", "Scores": "scoring", "Text": "texts", "Texts": "texts",
    "class_shifts": "comparison", "clustered_mean_of": "comparison", "entropy_bins": "selection", "entropy_shifts": "selection",
    "gold_texts": "texts", "mechanisms": "run", "noisy_checkpoint": "noise", "positions": "grammar", "result_digits": "digits",
    "sample_texts": "texts", "score": "scoring", "temperatures": "scoring",
}  # fmt: skip

__all__ = [
    "Mechanisms", "Positions", "Rule", "Scores", "Text", "Texts", "class_shifts", "clustered_mean_of", "entropy_bins", "entropy_shifts",
    "gold_texts", "mechanisms", "noisy_checkpoint", "positions", "result_digits", "sample_texts", "score", "temperatures",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'reset.analysis' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"reset.analysis.{_LAZY[name]}"), name)
