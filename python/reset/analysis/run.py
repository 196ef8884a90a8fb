"""``reset.analysis.mechanisms``: every model reads every text, and the tables that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reset.analysis.comparison import class_shifts
from reset.analysis.digits import digit_shift, result_digits
from reset.analysis.grammar import positions
from reset.analysis.result import Mechanisms
from reset.analysis.scoring import identify, score, temperatures
from reset.analysis.selection import entropy_shifts

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from reset.analysis.scoring import Rules, Scores
    from reset.analysis.texts import Texts
    from reset.model import Model

#: Temperatures at which digits are scored unless others are named.
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def mechanisms(
    models: Mapping[str, Model],
    texts: Mapping[str, Texts],
    *,
    reference: str | None = None,
    gold: Sequence[str] = ("gold",),
    rules: Rules | None = None,
    bins: int = 10,
    accuracies: Iterable[Mapping[str, Any]] = (),
    test: bool = True,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Mechanisms:
    """Scores all texts with all models, and compares every model with the reference.

    Args:
        models: Name → model, all with the vocabulary and tokenizer of the first; held in memory together.
        texts: Name → texts: ``"gold"``, and each arm's own samples, so that every model reads every arm's.
        reference: Name of the model that the others are compared with; None is the first.
        gold: Names of the texts that no model wrote and whose equations are true: on these the probability of right digits is computed. A
            model's own text will not do: which of its equations are true, its own draws have decided.
        rules: What would draw, for the table of digits; None is temperatures from 0 to 1.
        bins: Classes by the mean of both models' entropies.
        accuracies: Measured ones to show beside the digits: dicts with ``model``, ``rule``, ``temperature``, ``accuracy``, ``low`` and
            ``high``.
        test: Compute p-values (a few seconds).
        cache: Folder of finished scores, see :func:`reset.analysis.score`.
        progress: Show progress bars on stderr.

    Returns:
        A :class:`~reset.analysis.Mechanisms`: rows, Markdown, CSV, figures.

    Raises:
        ValueError: no models or texts, a reference that is not among the models, models of different vocabularies.
    """
    if not models or not texts:
        raise ValueError("mechanisms needs at least one model and one set of texts")
    base = next(iter(models)) if reference is None else reference
    if base not in models:
        raise ValueError(f"reference = {base!r} is none of the models {', '.join(map(repr, models))}")
    tokenizer = models[base].tokenizer
    if tokenizer is None:
        raise ValueError(f"model {base!r} has no tokenizer.json: the grammar of its texts cannot be read")
    chosen = temperatures(*TEMPERATURES) if rules is None else rules
    made = Mechanisms(
        reference=base, models={name: identify(model) for name, model in models.items()},
        texts={name: {"texts": len(some), "tokens": some.tokens, "sha256": some.digest} for name, some in texts.items()},
        accuracies=[dict(row) for row in accuracies],
    )  # fmt: skip
    for source, some in texts.items():
        where = positions(some, tokenizer)
        groups = {"all": np.ones(some.tokens, np.bool_), **where.groups()}
        asked = chosen if source in gold else None
        first: Scores | None = None
        for name in [base, *(name for name in models if name != base)]:
            against = None if first is None else models[base]
            scores = score(models[name], some, rules=asked, reference=against, cache=cache, name=name, progress=progress)
            made.scores[source, name] = scores
            named = {"texts": source, "model": name}
            if first is None:
                first = scores
            else:
                made.classes += [{**named, **row} for row in class_shifts(first, scores, groups, test=test)]
                made.bins += [{**named, **row} for row in entropy_shifts(first, scores, bins=bins, test=test)]
            if asked and where.result.any():
                for row in result_digits(scores, where):
                    shift = digit_shift(first, scores, where, row["rule"]) if scores is not first else dict.fromkeys(_SHIFT)
                    made.digits.append({"texts": source, **row, **shift})
    return made


_SHIFT = ("shift", "shift_low", "shift_high")
