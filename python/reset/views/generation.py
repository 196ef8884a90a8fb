"""A generated text, token by token.

What a reader should see, and how it is said twice:

=====================  ===========================================================  ============================================
quantity               to the eye                                                   without colour, or by keyboard
=====================  ===========================================================  ============================================
entropy                a layer of one colour, denser with more nats                 text on hover; the table of the step
temperature            an underline: dotted in the middle, solid when high          text on hover; the table of the step
reasoning step         a block of its own with a rule and a heading                 the heading, which the tab key reaches
=====================  ===========================================================  ============================================

The tab key stops at steps, not at thousands of tokens: Enter on a heading opens the table of the step's tokens. A notebook shows at most
:data:`SHOWN` tokens, the beginning and the end; a page shows all.
"""

from __future__ import annotations

import json
import math
from itertools import groupby, pairwise
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from reset.views._html import INK, OPACITIES, escape, page, table, view, visible
from reset.views.pieces import Piece, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from reset.types import Generation, Trace

SHOWN: Final = 2000
"""Tokens that a notebook shows of one generation; some 300 bytes each."""
TAIL: Final = 500
"""How many of them are from the end, where the answer is."""
LEVELS: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Entropies (nats) that part the levels of colour."""

_LAYERS = "".join(
    f"\n.reset-view .rs-e{level} {{ background-color: rgba({', '.join(map(str, INK))}, {opacity}); }}"
    for level, opacity in enumerate(OPACITIES)
    if opacity
)
_STYLE = (
    _LAYERS
    + """
.reset-view .rs-step { border-top: 1px solid rgba(128, 128, 128, .55); margin-top: .5em; padding-top: .2em; }
.reset-view .rs-step > details > summary, .reset-view .rs-facts { font-size: 12.5px; opacity: .8; }
.reset-view .rs-hi { text-decoration: underline solid 2px; text-underline-offset: 4px; text-decoration-skip-ink: none; }
.reset-view .rs-mid { text-decoration: underline dotted 2px; text-underline-offset: 4px; text-decoration-skip-ink: none; }
.reset-view .rs-end { white-space: normal; }
.reset-view i.rs-nl { font-style: normal; }
.reset-view i.rs-nl::before { content: "⏎"; opacity: .65; }
.reset-view .rs-mark::before { content: attr(data-token); font-size: 12px; border: 1px solid currentColor; border-radius: 4px;
  padding: 0 .3em; margin: 0 .15em; }
.reset-view .rs-key { line-height: 2; }
.reset-view .rs-key > [class^="rs-e"] { padding: .1em .5em; }
@media print { .reset-view span { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
)


def generation_html(generation: Generation) -> str:
    """The view for a notebook."""
    return _html(generation, SHOWN)


def generation_page(generation: Generation) -> str:
    """The view of every token as a whole page."""
    return page(shorten(generation.text, 70, placeholder=" …") or "A generation without text", _html(generation, None))


def _html(generation: Generation, shown: int | None) -> str:
    marks = _Marks.of(generation.trace)
    parts = [f'<p class="rs-facts">{escape(_facts(generation))}</p>', _key(generation.trace, marks), *_steps(generation, marks, shown)]
    return view([*parts, _origin(generation.metadata)], style=_STYLE)


def _facts(generation: Generation) -> str:
    ended = {"stop": "stopped by itself", "length": "cut at its limit", None: "interrupted"}[generation.finish_reason]
    if generation.stop is not None:
        ended = f"stopped before “{visible(generation.stop)}”"
    count, steps = len(generation.trace), len(np.unique(generation.trace.step_index))
    facts = [_count(count, "token"), _count(steps, "step"), ended, f"seed {generation.seed}"]
    facts += [str(generation.metadata[name]) for name in ("policy", "model") if generation.metadata.get(name)]
    return " · ".join(facts)


class _Marks(NamedTuple):
    """Which temperatures are underlined: of the range that occurs, the middle third is dotted, the upper solid."""

    low: float
    high: float

    @classmethod
    def of(cls, trace: Trace) -> _Marks:
        finite = trace.temperature[np.isfinite(trace.temperature)]
        return cls(float(np.min(finite, initial=math.inf)), float(np.max(finite, initial=-math.inf)))

    @property
    def differ(self) -> bool:
        return self.high - self.low > 1e-9

    def of_temperature(self, temperature: float) -> str:
        """A class, or ``""``."""
        if not self.differ or not math.isfinite(temperature):
            return ""
        place = (temperature - self.low) / (self.high - self.low)
        return "rs-hi" if place >= 2 / 3 else "rs-mid" if place >= 1 / 3 else ""


def _key(trace: Trace, marks: _Marks) -> str:
    edges = [f"{edge:g}" for edge in LEVELS]
    labels = [f"below {edges[0]}", *(f"{a} to {b}" for a, b in pairwise(edges)), f"from {edges[-1]}"]
    key = "Entropy in nats: " + "".join(f'<span class="rs-e{level}">{label}</span>' for level, label in enumerate(labels))
    classes = np.array([marks.of_temperature(t) for t in trace.temperature.tolist()])
    for name, word in (("rs-hi", "underlined"), ("rs-mid", "dotted"), ("", "others" if marks.differ else "all")):
        if (classes == name).any():
            shown = f'<span class="{name}">{word}</span>' if name else word
            key += f" · {shown} drawn at T = {_span(trace.temperature[classes == name])}"
    return f'<p class="rs-facts rs-key">{key}</p>'


def _steps(generation: Generation, marks: _Marks, shown: int | None) -> Iterator[str]:
    trace, whole = generation.trace, pieces(generation)
    if not len(trace) and generation.text:
        yield f'<pre style="white-space: pre-wrap">{escape(generation.text)}</pre>'
    head, tail = whole, whole[:0]
    if shown is not None and len(trace) > shown:
        head = [piece for piece in whole if piece.last < shown - TAIL]
        tail = [piece for piece in whole if piece.first >= len(trace) - TAIL]
    yield from _blocks(trace, head, marks)
    if tail:
        left_out = tail[0].first - (head[-1].last + 1 if head else 0)
        yield (
            f"<p><strong>… {left_out:,} of {len(trace):,} tokens are left out here.</strong> "
            "<code>save_html(path)</code> writes all of them.</p>"
        )
        yield from _blocks(trace, tail, marks)


def _blocks(trace: Trace, shown: list[Piece], marks: _Marks) -> Iterator[str]:
    """Steps: the heading, which opens the table of the tokens, and the text."""
    steps = np.unique(trace.step_index).tolist()
    for step, group in groupby(shown, key=lambda piece: int(trace.step_index[piece.first])):
        part, rows = list(group), trace.step_index == step
        heading = (
            f"Step {steps.index(step) + 1} of {len(steps)}: {_count(int(rows.sum()), 'token')}, mean entropy "
            f"{trace.entropy[rows].mean():.2f} nats, T {_span(trace.temperature[rows])}"
        )
        yield (
            f'<section class="rs-step"><details><summary>{escape(heading)}</summary>'
            f'<div class="rs-scroll" role="region" aria-label="Tokens of this step" tabindex="0">{_table(trace, part)}</div></details>\n'
            # The attribute is for viewers that take style sheets away.
            f'<pre style="white-space: pre-wrap">{"".join(_token(trace, piece, marks) for piece in part)}</pre></section>'
        )


def _token(trace: Trace, piece: Piece, marks: _Marks) -> str:
    rows = range(piece.first, piece.last + 1)
    entropy = max(float(trace.entropy[i]) for i in rows)
    temperature = max(float(trace.temperature[i]) for i in rows)
    classes = [f"rs-e{int(np.searchsorted(LEVELS, entropy, side='right'))}", marks.of_temperature(temperature)]
    after = piece.last + 1
    if piece.text.endswith("\n") and after < len(trace) and trace.step_index[after] != trace.step_index[piece.first]:
        classes.append("rs-end")  # the block ends here: no empty line is needed
    named = ""
    if not piece.text:
        classes.append("rs-mark")
        named = f' data-token="{escape(_name(trace, piece.first))}"'
    title = "\n".join(_title(trace, i) for i in rows)
    # The end of a line may be as uncertain as a word: <i> shows it, and adds nothing to the text.
    text = escape(piece.text).replace("\n", '<i class="rs-nl"></i>\n')
    return f'<span class="{" ".join(filter(None, classes))}"{named} title="{escape(title)}">{text}</span>'


def _name(trace: Trace, i: int) -> str:
    own = "" if trace.tokens is None else trace.tokens[i]
    return visible(own) if own else f"#{trace.token_id[i]}"


def _title(trace: Trace, i: int) -> str:
    begins = f", begins step {trace.step_index[i] + 1}" if trace.boundary[i] else ""
    return (
        f"{_name(trace, i)}: entropy {trace.entropy[i]:.3f} nats, T {trace.temperature[i]:.2f}, "
        f"probability {math.exp(trace.logprob[i]):.1%}, token {i}{begins}"
    )


def _table(trace: Trace, part: list[Piece]) -> str:
    columns: dict[str, npt.NDArray[Any]] = {
        "entropy": trace.entropy, "step entropy": trace.step_entropy, "mean": trace.global_mean, "threshold": trace.threshold,
        "T": trace.temperature,
    }  # fmt: skip
    present = {name: column for name, column in columns.items() if np.isfinite(column).any()}
    first, last = part[0].first, part[-1].last
    rows = (
        (
            str(i), _name(trace, i), str(trace.token_id[i]), f"{math.exp(trace.logprob[i]):.4f}",
            *(f"{column[i]:.3f}" for column in present.values()),
        )
        for i in range(first, last + 1)
    )  # fmt: skip
    return table(f"Tokens {first} to {last}; entropies in nats", ("token", "text", "id", "probability", *present), rows, texts=(1,))


def _origin(metadata: Mapping[str, Any]) -> str:
    """Everything that made it, folded away."""
    if not metadata:
        return ""
    rows = (
        (str(name), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
        for name, value in metadata.items()
        if value is not None and value != []
    )
    content = table("As recorded", (), rows, texts=(1,))
    return f'<section class="rs-step"><details><summary>Model, policy and options</summary>{content}</details></section>'


def _span(values: npt.NDArray[Any]) -> str:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "–"
    low, high = f"{finite.min():.2f}", f"{finite.max():.2f}"
    return low if low == high else f"{low} to {high}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
