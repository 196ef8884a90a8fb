"""A trace as text in a terminal: colour says how unsure the model was of a token, brackets where it was drawn at the high temperature.

    What about ‹Mia?› Ben has 47 and Mia 38 more, ‹so› we ‹add.› 47+38=85.
               ╰─ drawn at T_high                              ╰─ a digit in red was a guess

Without colour (a pipe, a file, a terminal that has none) the brackets remain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.text import Text

    from reset.policies import ReSET
    from reset.types import Trace

OPEN, CLOSE = "‹", "›"


class Band(NamedTuple):
    """Tokens of an entropy below so many nats, and above those of the band before, have this look."""

    below: float
    style: str
    name: str


#: Fixed, so that traces can be compared.
BANDS = (
    Band(0.05, "", "below 0.05"),
    Band(0.3, "cyan", "below 0.3"),
    Band(0.7, "yellow", "below 0.7"),
    Band(float("inf"), "bold red", "0.7 and more"),
)


def style_of(entropy: float) -> str:
    """The look of a token of this entropy (nats).

    >>> style_of(0.0), style_of(0.3), style_of(2.0)
    ('', 'yellow', 'bold red')
    """
    return next(band.style for band in BANDS if entropy < band.below)


def coloured(trace: Trace, t_high: float) -> Text:
    """The tokens of ``trace``, coloured by entropy, with runs that were drawn at ``t_high`` in brackets.

    White space at the ends of a run stays outside, and a run ends where a line does; a line's end on its own shows as ¶.

    Raises:
        ValueError: a trace without the texts of its tokens.

    >>> import numpy as np
    >>> from reset.types import COLUMNS, Trace
    >>> columns = {name: np.zeros(4, dtype) for name, dtype in COLUMNS.items()} | {"temperature": np.array([0.3, 1.0, 1.0, 0.3])}
    >>> coloured(Trace(**columns, tokens=("Mia", " has", " just", " 85")), t_high=1.0).plain
    'Mia ‹has just› 85'
    """
    from rich.text import Text

    if trace.tokens is None:
        raise ValueError("this trace has no token texts: a model without tokenizer made it")
    text, inside = Text(), False
    hot = [*(trace.temperature >= t_high).tolist(), False]
    for index, (token, entropy) in enumerate(zip(trace.tokens, trace.entropy.tolist(), strict=True)):
        body = token.strip() or token.strip("\n")
        before, _, after = token.partition(body) if body else ("", "", token)
        text.append(before)
        if hot[index] and not inside:
            text.append(OPEN)
            inside = True
        text.append(body or "¶" * inside, style_of(entropy))
        if inside and (not hot[index + 1] or after.endswith("\n")):
            text.append(CLOSE)
            inside = False
        text.append(after)
    return text


def legend(policy: ReSET) -> Text:
    """What colours and brackets mean."""
    from rich.text import Text

    parts: list[str | tuple[str, str]] = ["entropy in nats: "]
    for band in BANDS:
        parts += [(band.name, band.style), ", "]
    drawn = (
        f"\n{OPEN}drawn at T = {policy.t_high:g}{CLOSE}: the entropy reached the threshold (τ₀ = {policy.tau_0:.2f} nats, or that of an "
        f"uncertain step); all else at T = {policy.t_low:g}"
    )
    return Text.assemble(*parts[:-1], drawn)


def show_trace(title: str, trace: Trace, policy: ReSET) -> None:
    """Prints title, trace and legend on stdout."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for text in (Text(title), coloured(trace, policy.t_high), legend(policy)):
        console.print(text, "", sep="\n", highlight=False, soft_wrap=not console.is_terminal)
