"""The figure of a trace."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.figure import Figure

from reset.plots import plot_trace
from reset.types import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def trace(count: int, *, policy: bool = True, tokens: tuple[str, ...] | None = None) -> Trace:
    rng = np.random.default_rng(0)
    entropy = rng.exponential(0.5, count)
    nan = np.full(count, np.nan)
    mean = np.cumsum(entropy) / np.arange(1, count + 1) if policy else nan
    step = np.convolve(entropy, np.ones(4) / 4)[:count] if policy and count else nan
    threshold = np.where(step > mean, step, 0.6) if policy else nan
    boundary = (np.arange(count) % 10 == 0) & (np.arange(count) > 0) & policy
    return Trace(
        token_id=np.arange(count), logprob=-entropy, sampling_logprob=-entropy, entropy=entropy, step_entropy=step, global_mean=mean,
        threshold=threshold, temperature=np.where(entropy >= threshold, 1.0, 0.3) if policy else np.full(count, 0.6),
        step_index=np.cumsum(boundary), boundary=boundary, tokens=tokens,
    )  # fmt: skip


def png(ax: Axes) -> bytes:
    figure = ax.figure
    assert isinstance(figure, Figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    return buffer.getvalue()


def legend_of(ax: Axes) -> list[str]:
    for axes in ax.figure.axes:
        legend = axes.get_legend()
        if legend is not None:
            return [text.get_text() for text in legend.get_texts()]
    return []


EVERYTHING = {
    "token entropy",
    "token entropy, uncertain step",
    "threshold",
    "mean of all tokens",
    "step entropy",
    "step begins",
    "temperature",
}


@pytest.mark.parametrize("count", [0, 1, 2, 30, 81, 401, 5_000])
@pytest.mark.parametrize("policy", [True, False])
def test_draws_traces_of_any_length(count: int, policy: bool) -> None:
    made = trace(count, policy=policy)
    ax = plot_trace(made)
    assert png(ax).startswith(b"\x89PNG")
    if count >= 30:
        assert set(legend_of(ax)) == (EVERYTHING if policy else {"token entropy", "temperature"})


def test_shows_the_numbers_of_the_trace() -> None:
    made = trace(30)
    ax = plot_trace(made)
    lines = {line.get_label(): line for line in ax.lines}
    for label, column in (("threshold", made.threshold), ("mean of all tokens", made.global_mean), ("step entropy", made.step_entropy)):
        np.testing.assert_array_equal(np.asarray(lines[label].get_ydata()), column)
    (starts,) = [lines for lines in ax.collections if lines.get_label() == "step begins"]
    assert [path.vertices[0, 0] for path in starts.get_paths()] == (np.flatnonzero(made.boundary) - 0.5).tolist()  # type: ignore[index]
    (twin,) = [axes for axes in ax.figure.axes if axes is not ax]
    (temperature,) = [line for line in twin.lines if line.get_label() == "temperature"]
    np.testing.assert_array_equal(np.asarray(temperature.get_ydata()), made.temperature)
    bars = {patch.get_label(): patch for patch in ax.patches}
    heights = [np.asarray(bars[label].get_data().values)[::2] for label in ("token entropy", "token entropy, uncertain step")]  # type: ignore[attr-defined]
    np.testing.assert_allclose(heights[0] + heights[1], made.entropy)
    assert ((heights[1] > 0) == made.uncertain).all()


def test_curves_stay_below_the_temperature() -> None:
    made = trace(60)
    ax = plot_trace(made)
    (twin,) = [axes for axes in ax.figure.axes if axes is not ax]
    top_of_entropies = made.entropy.max() / ax.get_ylim()[1]
    low, high = twin.get_ylim()
    bottom_of_temperatures = (0 - low) / (high - low)
    assert top_of_entropies < bottom_of_temperatures


def test_draws_into_given_axes() -> None:
    figure = Figure()
    ax = figure.add_subplot()
    assert plot_trace(trace(5), ax=ax) is ax
    assert trace(5).plot(ax=ax) is ax


@pytest.mark.parametrize("tokens", [("a b", "\n", "$x$", "數學🙂", "\t", "a_very_long_token_indeed"), ("\\", "^_{", "%", "#", "&", "")])
def test_writes_any_token_without_a_warning(tokens: tuple[str, ...]) -> None:
    ax = plot_trace(trace(6, tokens=tokens))
    png(ax)
    assert len(ax.get_xticklabels()) == 6


def test_token_labels_make_white_space_visible() -> None:
    ax = plot_trace(trace(4), tokens=[" the", ".\n\n", "数", "$"])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["·the", ".⏎⏎", "□", r"\$"]
    long = plot_trace(trace(200), tokens=["a"] * 200)
    assert long.get_xlabel() == "token"


def test_wrong_number_of_tokens() -> None:
    with pytest.raises(ValueError, match="tokens has 2 texts for 3 tokens"):
        plot_trace(trace(3), tokens=["a", "b"])


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys, numpy as np; from reset.types import Trace; assert 'matplotlib' not in sys.modules; x = np.ones(3)\n"
        "Trace([1, 2, 3], x, x, x, x, x, x, x, [0, 0, 0], [False] * 3).plot(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'reset-nvfp4\[plot\]'"):
        plot_trace(trace(3))


def test_missing_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'reset-nvfp4\[pandas\]'"):
        trace(3).to_pandas()
