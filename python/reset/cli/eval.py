"""``reset-nvfp4 eval MODEL TASK``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reset.cli._common import Json, emit_json, examples, table
from reset.cli._complete import a_model, a_task, one_of
from reset.cli._config import Config, one_way
from reset.cli._options import (
    MODEL,
    Activations,
    BatchSize,
    Data,
    Device,
    Kv,
    LmHead,
    Method,
    MinP,
    Preset,
    Prompt,
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
from reset.cli.generate import policy_of

if TYPE_CHECKING:
    from reset.evaluation.result import EvalResult


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "eval",
        epilog=examples(
            "eval tiny arithmetic --split tune --limit 12 --temperature 0.6 -o runs/fixed",
            "eval tiny arithmetic --split tune --limit 12 --preset tiny -o runs/reset --json",
            "eval --show runs/fixed",
            "eval --config eval.toml --seed 1",
        ),
    )(evaluate)


def evaluate(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help=MODEL, autocompletion=a_model)] = None,
    task: Annotated[
        str | None, typer.Argument(help="gsm8k, math500, aime2022 to aime2025, svamp, arithmetic …", autocompletion=a_task)
    ] = None,
    config: Config = None,
    data: Data = None,
    split: Annotated[
        str, typer.Option(help="test, tune, calibration or train.", autocompletion=one_of("test", "tune", "calibration", "train"))
    ] = "test",
    n_samples: Annotated[int, typer.Option("--n-samples", "-n", help="Samples of each problem.")] = 1,
    limit: Annotated[int | None, typer.Option(help="The first so many problems.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    t_low: TLow = None,
    tau_0: Tau0 = None,
    t_high: THigh = None,
    window: Window = None,
    preset: Preset = None,
    temperature: Temperature = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most tokens of a sample; the task's where left out.")] = None,
    top_p: TopP = None,
    top_k: TopK = None,
    min_p: MinP = None,
    prompt: Prompt = "boxed",
    thinking: Thinking = None,
    batch_size: BatchSize = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Folder that keeps every sample; the run resumes from it.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with what the folder holds.")] = True,
    traces: Annotated[bool, typer.Option("--traces", help="Keep a trace of every sample in the folder.")] = False,
    shard: Annotated[str | None, typer.Option(help="A share of the problems, such as 1/4; shards may share the folder.")] = None,
    harness: Annotated[str | None, typer.Option(help="lm-eval: run the task of that name with lm-evaluation-harness.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="With --harness: examples in the prompt; the task's where left out.")] = None,
    chat: Annotated[bool, typer.Option("--apply-chat-template", help="With --harness: prompts go through the chat template.")] = False,
    show: Annotated[list[Path] | None, typer.Option(help="Show (and merge) results that are there; nothing is run.")] = None,
    weights: Weights = "auto",
    activations: Activations = "auto",
    method: Method = "nearest",
    lm_head: LmHead = "auto",
    kv: Kv = "auto",
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Sample answers to a task's problems, grade them, keep every sample. A run that was stopped goes on with the same command."""
    import reset

    if show:
        if model is not None or config is not None:
            raise ValueError("--show reads results that are there: leave MODEL, TASK and --config out")
        first, *others = [reset.EvalResult.load(path) for path in show]
        _report(first.merge(*others) if others else first, as_json)
        return
    if model is None or task is None:
        raise typer.BadParameter("give MODEL and TASK, or --show DIR")
    policy = policy_of(**one_way(context, t_low=t_low, tau_0=tau_0, t_high=t_high, window=window, preset=preset, temperature=temperature))
    if harness is not None:
        unused = {
            "--n-samples": n_samples != 1,
            "--split": split != "test",
            "--shard": shard,
            "--traces": traces,
            "--prompt": prompt != "boxed",
        }
        if harness != "lm-eval" or any(unused.values()):
            named = [f"--harness {harness}"] if harness != "lm-eval" else [name for name, given in unused.items() if given]
            raise ValueError(f"{', '.join(named)}: --harness takes lm-eval, whose tasks bring their own split, prompt and repeats")
        emit_harness(
            model, task, data, limit=limit, num_fewshot=num_fewshot, apply_chat_template=chat, output_dir=output_dir, as_json=as_json,
            max_new_tokens=max_new_tokens, policy=policy, seed=seed, top_p=top_p, top_k=top_k, min_p=min_p, thinking=thinking,
            batch_size=batch_size, weights=weights, activations=activations, method=method, lm_head=lm_head, kv=kv, device=device,
            threads=threads,
        )  # fmt: skip
        return
    if num_fewshot is not None or chat:
        raise ValueError("--num-fewshot and --apply-chat-template belong to --harness lm-eval")
    shares = None if shard is None else _shard(shard)
    loaded = reset.load(
        model, weights=weights, activations=activations, method=method, lm_head=lm_head, kv=kv, device=device, threads=threads
    )
    interrupted = False
    try:
        result = reset.evaluate(
            loaded, task, policy=policy, split=split, n_samples=n_samples, limit=limit, seed=seed, max_new_tokens=max_new_tokens,
            top_p=top_p, top_k=top_k, min_p=min_p, prompt=prompt, thinking=thinking, batch_size=batch_size, output_dir=output_dir,
            resume=resume, traces=traces, data=data, shard=shares,
        )  # fmt: skip
    except reset.Interrupted as stopped:
        result, interrupted = stopped.partial, True
    _report(result, as_json)
    if interrupted:
        typer.echo("the same command goes on from here" if output_dir is not None else "nothing is kept without --output-dir", err=True)
        raise KeyboardInterrupt


def emit_harness(
    model: str, task: str, data: Path | None, *, max_new_tokens: int | None, as_json: bool, **options: Any
) -> None:  # fmt: skip
    """Runs a task of lm-evaluation-harness and prints its metrics."""
    from reset.integrations import lm_eval

    settings = None if max_new_tokens is None else {"max_gen_toks": max_new_tokens}
    results = lm_eval.evaluate(model, task, data=data, gen_kwargs=settings, **options)["results"]
    if as_json:
        emit_json(results)
        return
    rows = [(name, metric, value) for name, metrics in results.items() for metric, value in metrics.items() if isinstance(value, float)]
    table(f"{task}, by lm-evaluation-harness", ("task", "metric", "value"), rows)


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise ValueError(f"--shard {text}: give index/count, such as 1/4 for the first of four")
    return int(index), int(count)


def summary(result: EvalResult) -> dict[str, Any]:
    """The numbers of a result, as JSON values."""
    samples = max(len(result.samples), 1)
    several = result.n_samples > 1 and not result.partial
    return {
        "accuracy": result.accuracy, "ci95": list(result.ci95), "counts": result.counts, "lenient_accuracy": result.lenient_accuracy,
        "problems": len(result.problem_ids), "n_samples": result.n_samples, "samples": len(result.samples), "partial": result.partial,
        "pass_at": {str(k): result.pass_at(k) for k in _powers(result.n_samples)} if several else {},
        "majority_at": {str(k): result.majority_at(k) for k in _powers(result.n_samples)} if several else {},
        "tokens_per_sample": sum(s.tokens for s in result.samples) / samples,
        "truncated": result.counts["truncated"] / samples, "unparsed": result.counts["unparsed"] / samples,
        "repetition": sum(s.repetition for s in result.samples) / samples,
        "too_long": result.too_long, "run": result.run, "metadata": result.metadata,
    }  # fmt: skip


def _powers(most: int) -> list[int]:
    """1, 2, 4 … and ``most`` itself."""
    return sorted({most, *(1 << i for i in range(most.bit_length()) if 1 << i <= most)})


def _report(result: EvalResult, as_json: bool) -> None:
    numbers = summary(result)
    if as_json:
        emit_json(numbers)
        return
    low, high = result.ci95
    metadata = result.metadata
    rows = [
        ("prompt", f"{metadata['prompt']}, thinking {metadata['thinking']}"),
        ("limits", f"at most {metadata['max_new_tokens']:,} tokens; top-k {metadata['top_k']}, top-p {metadata['top_p']}, "
                   f"min-p {metadata['min_p']}; seed {metadata['seed']}"),
        ("model", ", ".join(f"{name} {metadata['model'][name]}" for name in ("fingerprint", "weights", "activations", "lm_head", "kv"))),
        ("policy", ", ".join(str(value) if name == "policy" else f"{name} {value}" for name, value in metadata["policy"].items())),
        ("samples", f"{len(result.samples):,} of {result.planned:,}{' (PARTIAL)' if result.partial else ''}: "
                    f"{len(result.problem_ids):,} problems × {result.n_samples}"),
        ("accuracy", f"{result.accuracy:.2%}  (95 % interval {low:.2%} to {high:.2%})"),
        *((f"pass@{k}", f"{value:.2%}") for k, value in numbers["pass_at"].items() if k != "1"),
        *((f"majority@{k}", f"{value:.2%}") for k, value in numbers["majority_at"].items() if k != "1"),
        ("outcomes", ", ".join(f"{name} {count:,}" for name, count in result.counts.items())),
        ("lenient accuracy", f"{result.lenient_accuracy:.2%}  (a box in an unfinished thought counts)"),
        ("tokens per sample", f"{numbers['tokens_per_sample']:.1f}"),
        ("ending in a loop", f"{numbers['repetition']:.2%}"),
        *([("prompts too long", f"{result.too_long:,} samples (the context leaves no room): truncated")] if result.too_long else []),
    ]  # fmt: skip
    table(f"{metadata['task']} {metadata['split']}", ("", "value"), rows)


__all__ = ["evaluate", "register", "summary"]
