"""The figures of an evaluation: accuracies, paired differences, entropies, sweeps. What is drawn is what was given."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import reset
from reset import plots
from reset.calibration import Calibration
from reset.plots import entropy

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes


def result(accuracy: float = 0.6, half: float = 0.04, partial: bool = False, **counts: int) -> Any:
    return SimpleNamespace(accuracy=accuracy, ci95=(accuracy - half, accuracy + half), counts=counts, partial=partial)


def comparison(difference: float, half: float = 0.02, **more: Any) -> Any:
    verdict = "better" if difference > half else "worse" if difference < -half else "undecided"
    return SimpleNamespace(difference=difference, ci95=(difference - half, difference + half), verdict=verdict, **more)


def trace(entropy: list[float]) -> reset.Trace:
    n = len(entropy)
    same = dict.fromkeys(("logprob", "sampling_logprob", "step_entropy", "global_mean", "threshold", "temperature"), np.ones(n))
    return reset.Trace(token_id=range(n), entropy=entropy, step_index=np.zeros(n, int), boundary=np.zeros(n, bool), **same)


def row(policy: Any, accuracy: float) -> dict[str, Any]:
    return {"policy": policy, "accuracy": accuracy, "ci95": (accuracy - 0.03, accuracy + 0.03)}


def png(ax: Axes) -> bytes:
    figure = ax.get_figure(root=True)
    assert figure is not None
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    return buffer.getvalue()


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for axes in ax.figure.axes for text in axes.texts]


def legend(ax: Axes) -> list[str]:
    shown = ax.get_legend()
    return [] if shown is None else [text.get_text() for text in shown.get_texts()]


def rows_of(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def points(ax: Axes) -> list[tuple[float, float]]:
    """Middles of error bars: (x, y)."""
    lines = [container[0] for container in ax.containers if type(container).__name__ == "ErrorbarContainer"]
    return [(float(x), float(y)) for line in lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def ends(ax: Axes) -> list[list[tuple[float, float]]]:
    """Both ends of every error bar."""
    bars = [container[2][0] for container in ax.containers if type(container).__name__ == "ErrorbarContainer"]
    return [[tuple(point) for point in segment.tolist()] for bar in bars for segment in bar.get_segments()]


FEW: dict[str, Callable[[Axes | None], Axes]] = {
    "accuracy": lambda ax: plots.plot_accuracy({"a": result(0.6, correct=6, truncated=2, unparsed=1, wrong=1), "b": result()}, ax),
    "differences": lambda ax: plots.plot_differences([comparison(0.03, mde=0.02, p_value=0.01), comparison(-0.01)], ax),
    "entropy": lambda ax: plots.plot_entropy({"a": np.array([0.0, 0.1, 1.0]), "b": trace([0.2, 0.3])}, ax, tau_0=0.5),
    "sweep": lambda ax: plots.plot_sweep([row(reset.ReSET(0.3, 0.5), 0.6), row(reset.FixedTemperature(0.6), 0.5)], ax),
}


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("size", [(3.3, 2.4), (7, 4), (12, 8)])
def test_draws_into_given_axes_of_any_size(name: str, size: tuple[float, float]) -> None:
    ax = Figure(figsize=size, layout="constrained").add_subplot()
    assert FEW[name](ax) is ax
    assert png(ax).startswith(b"\x89PNG")
    assert ax.get_xlabel()
    assert legend(ax)


@pytest.mark.parametrize("name", FEW)
def test_draws_without_axes_and_without_pyplot(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert png(FEW[name](None)).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FEW)
def test_missing_matplotlib_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install 'reset-nvfp4\[plot\]'"):
        FEW[name](None)


def test_importing_the_figures_imports_no_matplotlib() -> None:
    subprocess.run([sys.executable, "-c", "import sys, reset.plots; assert 'matplotlib' not in sys.modules"], check=True)


def test_accuracy_shows_points_intervals_and_shares() -> None:
    arms = {"a": result(0.5, 0.1, correct=5, truncated=3, unparsed=2, wrong=0), "b": result(0.25, 0.05)}
    ax = plots.plot_accuracy(arms)
    assert rows_of(ax) == ["a", "b"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first arm is on top"
    assert [x for x, _ in points(ax)] == [0.5, 0.25]
    np.testing.assert_allclose([[x for x, _ in bar] for bar in ends(ax)], [[0.4, 0.6], [0.2, 0.3]])
    assert "50.0% [40.0, 60.0]" in texts(ax)
    strip = [(bar.get_x(), bar.get_width()) for bar in ax.patches]
    np.testing.assert_allclose(strip, [(0, 0.5), (0.5, 0.3), (0.8, 0.2), (1.0, 0.0)])
    assert legend(ax) == ["correct", "truncated", "unparsed", "wrong"]
    hatches = [bar.get_hatch() for bar in ax.patches]
    assert len({*hatches[:3]}) == 3, "outcomes differ in more than colour"


def test_accuracy_of_one_result_without_strip() -> None:
    ax = plots.plot_accuracy(result(0.5, correct=1, wrong=1), counts=False)
    assert not ax.patches
    assert ax.get_legend() is None
    assert len(points(ax)) == 1


def test_accuracy_marks_partial_and_empty_arms() -> None:
    nan = float("nan")
    ax = plots.plot_accuracy({"part": result(1.0, 0.0, partial=True), "none": SimpleNamespace(accuracy=nan, ci95=(nan, nan), counts={})})
    assert "100.0% [100.0, 100.0], partial" in texts(ax)
    assert "no samples yet" in texts(ax)
    (container,) = [c for c in ax.containers if type(c).__name__ == "ErrorbarContainer"]
    assert container[0].get_markerfacecolor() == "white"
    png(ax)


def test_accuracy_keeps_outcomes_it_does_not_know() -> None:
    ax = plots.plot_accuracy({"a": result(0.5, correct=1, refused=1)})
    assert "refused" in legend(ax)
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 2, 12, 32])
@pytest.mark.parametrize("size", [None, (4.0, 3.0)])
def test_rows_do_not_cover_each_other(count: int, size: tuple[float, float] | None) -> None:
    """Numbers and names of one row end before the next row's begin."""
    arms = {f"arm {i} with quite a long name, T_low {i / 40}": result(0.4 + i / 100, correct=i, wrong=40) for i in range(count)}
    ax = plots.plot_accuracy(arms, Figure(figsize=size, dpi=150, layout="constrained").add_subplot() if size else None)
    png(ax)
    for artists in (ax.texts, ax.get_yticklabels()):
        boxes = sorted((box.y0, box.y1) for box in (artist.get_window_extent() for artist in artists))
        assert all(below[1] <= above[0] + 1 for below, above in pairwise(boxes))


@pytest.mark.parametrize("name", ["$x^2$", "$x^{$", "_private", "數學 🙂", "a\nb\tc", "", "x" * 300])
def test_writes_any_name_without_a_warning(name: str) -> None:
    png(plots.plot_accuracy({name: result(0.5, correct=1, wrong=1)}))
    png(plots.plot_differences({name: comparison(0.01)}))
    entropy = plots.plot_entropy({name: np.array([0.1, 0.2]), "other": np.array([0.3])})
    png(entropy)
    assert len(legend(entropy)) == 2
    assert not any(label.startswith("_") for label in legend(entropy)), "older matplotlib hides these"
    sweep = plots.plot_sweep([row({"policy": "python", "repr": name}, 0.5), row(reset.Greedy(), 0.4)])
    png(sweep)
    assert len(legend(sweep)) == 2


def test_differences_show_interval_verdict_and_p() -> None:
    rows = {"up": comparison(0.05, p_value=0.0004), "down": comparison(-0.05, p_value=0.02), "level": comparison(0.01, p_value=0.4)}
    rows["holm"] = comparison(0.03, p_value=0.001, p_adjusted=0.004)
    ax = plots.plot_differences(rows)
    assert rows_of(ax) == list(rows)
    assert [x for x, _ in points(ax)] == [0.05, -0.05, 0.01, 0.03]
    np.testing.assert_allclose([[x for x, _ in bar] for bar in ends(ax)], [row.ci95 for row in rows.values()])
    assert [container[0].get_marker() for container in ax.containers] == [">", "<", "o", ">"]
    assert ax.containers[2][0].get_markerfacecolor() == "white"
    assert texts(ax) == [
        "+5.0 [+3.0, +7.0], p < 0.001", "−5.0 [−7.0, −3.0], p = 0.020", "+1.0 [−1.0, +3.0], p = 0.400",
        "+3.0 [+1.0, +5.0], adjusted p = 0.004",
    ]  # fmt: skip
    assert legend(ax) == ["better", "worse", "undecided"]
    assert [line.get_xdata() for line in ax.lines if line.get_linestyle() == "--"] == [[0, 0]]


def test_differences_show_what_could_have_been_detected() -> None:
    ax = plots.plot_differences([comparison(0.01, mde=0.04), comparison(0.01, mde=float("nan")), comparison(0.01, mde=None)])
    (bar,) = ax.patches
    np.testing.assert_allclose((bar.get_x(), bar.get_width()), (-0.04, 0.08))
    assert "smallest detectable" in legend(ax)
    assert ax.get_xlim()[1] > 0.04
    assert rows_of(ax) == ["comparison 1", "comparison 2", "comparison 3"]


def test_differences_take_one_comparison_and_its_label() -> None:
    assert rows_of(plots.plot_differences(comparison(0.0, label="b − a"))) == ["b − a"]
    assert rows_of(plots.plot_differences([comparison(0.0, label="b − a"), comparison(0.0, label="c − a")])) == ["b − a", "c − a"]


def test_no_difference_at_all_can_be_drawn() -> None:
    ax = plots.plot_differences(comparison(0.0, half=0.0))
    png(ax)
    assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]


def test_entropies_of_two_arms() -> None:
    rng = np.random.default_rng(0)
    arms = {"a": rng.exponential(0.5, 1_000), "b": np.where(rng.random(5_000) < 0.6, 1e-6, rng.exponential(1, 5_000))}
    ax = plots.plot_entropy(arms, tau_0=0.55)
    assert ax.get_xscale() == "symlog"
    (twin,) = [axes for axes in ax.figure.axes if axes is not ax]
    curves = {line.get_label(): line for line in twin.lines}
    for name, values in arms.items():
        x, y = (np.asarray(data) for data in (curves[name].get_xdata(), curves[name].get_ydata()))
        assert (np.diff(y) >= 0).all()
        probes = np.array([1e-4, 0.01, 0.3, 1.0, 2.0])
        drawn = y[np.searchsorted(x, probes, side="right") - 1]
        np.testing.assert_allclose(drawn, [(values <= probe).mean() for probe in probes], atol=1.1 / 2_000)
        expected = ", ".join(f"P{p} {np.percentile(values, p):.3g}" for p in (50, 80, 95))
        assert f"{name}: {len(values):,} tokens, {expected}" in legend(ax)
        assert curves[name].get_drawstyle() == "steps-post", "the share changes at a token, not before it"
    assert legend(ax)[-1] == "τ₀ = 0.55"
    marks = [line for line in twin.lines if line.get_linestyle() == "None"]
    np.testing.assert_allclose(marks[0].get_xdata(), np.percentile(arms["a"], [50, 80, 95]))
    np.testing.assert_allclose(marks[0].get_ydata(), [0.5, 0.8, 0.95])
    assert curves["a"].get_linestyle() != curves["b"].get_linestyle(), "arms differ in more than colour"


def test_the_last_bin_ends_at_the_largest_entropy() -> None:
    """Powers of a ratio end near it, half of the time below."""
    for top in np.random.default_rng(0).uniform(0.01, 12, 300):
        assert entropy._edges(top, 1e-3, True)[-1] == top


def test_no_token_falls_out_of_the_histogram() -> None:
    for values in ([0.0], [0.0, 12.5], [5.0, 5.0], list(np.geomspace(1e-12, 11.9, 997))):
        for scale in ("log", "linear", "auto"):
            ax = plots.plot_entropy(np.array(values), scale=scale)
            png(ax)
            assert sum(ax.patches[0].get_data().values) == pytest.approx(1)  # type: ignore[attr-defined]


def test_a_cut_bar_says_its_share() -> None:
    values = np.concatenate([np.zeros(900), np.linspace(0.01, 3, 100)])
    assert any("90%" in text for text in texts(plots.plot_entropy(values, scale="log")))
    assert not texts(plots.plot_entropy(np.linspace(2, 3, 100), scale="linear"))


def test_entropies_are_pooled_by_token() -> None:
    pooled = plots.plot_entropy({"a": [trace([0.1] * 3), trace([0.2])]})
    assert legend(pooled) == ["a: 4 tokens, P50 0.1, P80 0.14, P95 0.185"]
    assert legend(plots.plot_entropy([0.1, 0.1, 0.1, 0.2])) == ["4 tokens, P50 0.1, P80 0.14, P95 0.185"]
    assert legend(plots.plot_entropy(trace([0.1] * 3), percentiles=()))[0].startswith("3 tokens")


def test_a_calibration_is_an_arm() -> None:
    calibration = Calibration.from_entropies([[0.1, 0.2], [0.3, 0.4, 0.5]])
    ax = plots.plot_entropy({"nvfp4": calibration}, tau_0=calibration.tau_0, percentiles=[80])
    assert legend(ax) == ["nvfp4: 5 tokens, P80 0.42", "τ₀ = 0.42"]


def test_spread_out_entropies_get_a_linear_axis() -> None:
    assert plots.plot_entropy(np.linspace(2, 5, 50)).get_xscale() == "linear"
    assert plots.plot_entropy(np.linspace(2, 5, 50), scale="log").get_xscale() == "symlog"


def test_sweep_draws_series_beside_each_other() -> None:
    table = [row(reset.ReSET(t, 0.5), 0.5 + t / 10) for t in (0.6, 0.1, 0.3)]
    table += [
        row(reset.FixedTemperature(0.6), 0.62),
        row(reset.Greedy(), 0.4),
        SimpleNamespace(**row({"policy": "python", "repr": "P()"}, 0.3)),
    ]
    ax = plots.plot_sweep(table)
    assert legend(ax) == ["ReSET (T_low)", "fixed (T)", "greedy (T = 0)", "P()", "best: 62.0%"]
    drawn = points(ax)
    np.testing.assert_allclose([x for x, _ in drawn], [0.1, 0.3, 0.6, 0.6, 0.0], atol=0.02)
    np.testing.assert_allclose([y for _, y in drawn], [0.51, 0.53, 0.56, 0.62, 0.4])
    assert drawn[2][0] != drawn[3][0], "equal temperatures stand side by side"
    (star,) = [line for line in ax.lines if line.get_marker() == "*" and len(line.get_xdata())]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == drawn[3]


def test_sweep_stars_all_that_are_equally_good_and_names_policies_by_their_rows() -> None:
    table = [row(reset.ReSET(t, 0.5), 0.6 if t > 0.15 else 0.5) for t in (0.1, 0.2, 0.3)]
    table += [{**row({"policy": "python", "class": "m.P", "attributes": {"x": x}}, 0.4 + x / 10), "name": f"mine {x}"} for x in (0, 1)]
    ax = plots.plot_sweep(table)
    (stars,) = [line for line in ax.lines if line.get_marker() == "*" and len(line.get_xdata())]
    assert list(stars.get_xdata()) == [0.2, 0.3]
    assert legend(ax) == ["ReSET (T_low)", "mine 0", "mine 1", "best: 60.0%"]
    assert sorted(line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) == [0, 1]) == [0.4, 0.5]


def test_sweep_separates_rows_that_differ_otherwise() -> None:
    table = [row(reset.ReSET(t, tau), 0.5) for tau in (0.4, 0.5) for t in (0.1, 0.2)]
    assert legend(plots.plot_sweep(table))[:2] == ["ReSET (T_low), τ₀ 0.4", "ReSET (T_low), τ₀ 0.5"]


WRONG: dict[str, tuple[Callable[[], Axes], str]] = {
    "no result": (lambda: plots.plot_accuracy({}), "at least one result"),
    "no comparison": (lambda: plots.plot_differences([]), "at least one comparison"),
    "verdict": (
        lambda: plots.plot_differences({"x": SimpleNamespace(difference=0, ci95=(0, 0), verdict="meh")}),
        "'x' has the verdict 'meh'",
    ),
    "no arm": (lambda: plots.plot_entropy({}), "at least one arm"),
    "no token": (lambda: plots.plot_entropy({"a": []}), "arm 'a': no token"),
    "negative": (lambda: plots.plot_entropy({"a": [-0.5]}), r"arm 'a': entropies are finite and 0 or more, got -0\.5"),
    "nan": (lambda: plots.plot_entropy(np.array([float("nan")])), "got nan"),
    "scale": (lambda: plots.plot_entropy([1.0], scale="sqrt"), "choose auto, log or linear"),
    "floor": (lambda: plots.plot_entropy([1.0], floor=0), "floor = 0"),
    "percentiles": (lambda: plots.plot_entropy([1.0], percentiles=[101]), "between 0 and 100"),
    "no row": (lambda: plots.plot_sweep([]), "at least one row"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_named(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_entropies_of_another_type() -> None:
    with pytest.raises(TypeError, match="a Trace, an array of entropies or a list of them, got float"):
        plots.plot_entropy({"a": 0.5})
