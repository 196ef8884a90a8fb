"""``reset-nvfp4 generate MODEL PROMPT``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reset.cli._common import Json, check_file, emit_json, examples
from reset.cli._complete import a_model
from reset.cli._options import (
    MODEL,
    Activations,
    Device,
    Kv,
    LmHead,
    Method,
    MinP,
    Preset,
    Tau0,
    Temperature,
    THigh,
    Thinking,
    Threads,
    TLow,
    TopK,
    TopP,
    Weights,
    Window,
)

if TYPE_CHECKING:
    from reset.policies import Policy
    from reset.types import Generation, Trace


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "generate",
        epilog=examples(
            'generate tiny "Ben has 47 apples and buys 38 more. How many has he?" --t-low 0.3 --tau-0 0.5 --seed 1',
            'generate tiny "Ben has 47 apples and buys 38 more. How many has he?" --preset tiny --weights nvfp4 --trace trace.csv',
        ),
    )(generate)


def policy_of(
    t_low: float | None, tau_0: float | None, t_high: float | None, window: int | None, preset: str | None, temperature: float | None
) -> Policy | None:
    """The policy that the options describe; None leaves it to the checkpoint."""
    from reset.policies import FixedTemperature, ReSET

    reset_only = {"--t-high": t_high is not None, "--window": window is not None}
    if any(reset_only.values()) and (t_low is None or tau_0 is None):
        named = " and ".join(name for name, is_given in reset_only.items() if is_given)
        raise ValueError(f"{named} belong to ReSET: give --t-low and --tau-0 as well")
    if preset is not None and t_low is not None and tau_0 is None and temperature is None:
        return ReSET.preset(preset, t_low)  # a calibration measures tau_0 alone
    given = {
        "--t-low/--tau-0": t_low is not None or tau_0 is not None,
        "--preset": preset is not None,
        "--temperature": temperature is not None,
    }
    chosen = [name for name, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} exclude each other: give one way to set the temperature")
    if preset is not None:
        return ReSET.preset(preset)
    if temperature is not None:
        return FixedTemperature(temperature)
    if t_low is None and tau_0 is None:
        return None
    if t_low is None or tau_0 is None:
        raise ValueError("ReSET needs both --t-low and --tau-0 (`--preset` has the published values of some models)")
    return ReSET(t_low=t_low, tau_0=tau_0, t_high=1.0 if t_high is None else t_high, window=32 if window is None else window)


def generate(
    model: Annotated[str, typer.Argument(help=MODEL, autocompletion=a_model)],
    prompt: Annotated[str, typer.Argument(help="Text; '-' reads it from stdin.")],
    t_low: TLow = None,
    tau_0: Tau0 = None,
    t_high: THigh = None,
    window: Window = None,
    preset: Preset = None,
    temperature: Temperature = None,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens of a sample.")] = 512,
    n: Annotated[int, typer.Option("--n", "-n", help="Samples of the prompt.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed of the draws; drawn where left out.")] = None,
    top_p: TopP = None,
    top_k: TopK = None,
    min_p: MinP = None,
    stop: Annotated[list[str] | None, typer.Option(help="Stop string (repeatable).")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Take the prompt as it is, without the chat template.")] = False,
    thinking: Thinking = None,
    weights: Weights = "auto",
    activations: Activations = "auto",
    method: Method = "nearest",
    lm_head: LmHead = "auto",
    kv: Kv = "auto",
    device: Device = "auto",
    threads: Threads = None,
    trace: Annotated[Path | None, typer.Option(help="Save the trace (.npz, .jsonl or .csv by its suffix).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Save a plot of the trace (needs the extra `plot`).")] = None,
    as_json: Json = False,
) -> None:
    """Generate text, streaming, with a summary of entropy and temperature."""
    import sys

    import reset

    if prompt == "-":
        prompt = sys.stdin.read()
    if (trace is not None or plot is not None) and n > 1:
        raise ValueError("--trace and --plot save one sample: use them with n = 1")
    check_file("--trace", trace, (".npz", ".jsonl", ".csv"))
    check_file("--plot", plot, (".png", ".pdf", ".svg"))
    policy = policy_of(t_low, tau_0, t_high, window, preset, temperature)
    loaded = reset.load(
        model, weights=weights, activations=activations, method=method, lm_head=lm_head, kv=kv, device=device, threads=threads
    )
    options: dict[str, Any] = {
        "policy": policy, "max_new_tokens": max_new_tokens, "seed": seed, "top_p": top_p, "top_k": top_k, "min_p": min_p,
        "stop": tuple(stop or ()), "chat": False if raw else "auto", "thinking": thinking,
    }  # fmt: skip
    interrupted = False
    try:
        if n > 1 or as_json:
            made = reset.generate(loaded, prompt, n=n, progress=n > 1, **options)
            generations = made if isinstance(made, list) else [made]
        else:
            steps = reset.stream(loaded, prompt, **options)
            for step in steps:
                typer.echo(step.text, nl=False)
            typer.echo()
            generations = [steps.generation]
    except reset.Interrupted as stopped:
        # What was generated so far is printed and saved as usual; the exit code says that it is not all.
        generations, interrupted = stopped.partial, True
    if trace is not None:
        generations[0].trace.save(trace)
    if plot is not None:
        save_plot(generations[0], plot)
    if as_json:
        emit_json([_as_dict(g) for g in generations])
    elif n > 1:
        for index, generation in enumerate(generations):
            typer.echo(f"--- sample {index}")
            typer.echo(generation.text)
    for generation in generations:
        typer.echo(summary(generation), err=True)
    if interrupted:
        raise KeyboardInterrupt


def summary(generation: Generation) -> str:
    """One line about a generation."""
    import numpy as np

    trace = generation.trace
    if len(trace) == 0:
        return f"no token yet, seed {generation.seed}"
    low = float(np.mean(trace.temperature < np.nanmax(trace.temperature)))
    return (
        f"{len(generation.token_ids)} tokens, finish {generation.finish_reason}, {generation.tokens_per_second:.1f} tokens/s, "
        f"seed {generation.seed}; entropy {np.mean(trace.entropy):.3f} nats on average, temperature {np.mean(trace.temperature):.3f} "
        f"({low:.0%} of the tokens below its maximum), {int(trace.step_index[-1]) + 1} reasoning steps"
    )


def columns(trace: Trace) -> dict[str, Any]:
    """The columns of a trace as lists."""
    return {name: column.tolist() for name, column in trace.columns.items()}


def _as_dict(generation: Generation) -> dict[str, Any]:
    return {
        "text": generation.text,
        "token_ids": generation.token_ids,
        "prompt_token_ids": generation.prompt_token_ids,
        "finish_reason": generation.finish_reason,
        "seed": generation.seed,
        "seconds": generation.seconds,
        "tokens_per_second": generation.tokens_per_second,
        "trace": columns(generation.trace),
    }


def save_plot(generation: Generation, path: Path) -> None:
    """Writes the figure of a trace."""
    from reset.plots._style import new_figure

    figure = new_figure("a figure", 11, 4.5)
    generation.trace.plot(ax=figure.add_subplot())
    figure.savefig(path)
