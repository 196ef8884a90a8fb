"""Generation: prompts in, tokens, text and traces out. ``generate`` folds what ``stream`` yields."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from reset import _core
from reset._checks import flag, integer
from reset._options import Options
from reset._sequences import Collector, Run, as_prompts
from reset.model import Model, as_ids, resolve_model
from reset.policies import FixedTemperature, Policy
from reset.types import Interrupted, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

    from reset._sequences import Prompt, PromptLike
    from reset.types import Generation, Step

__all__ = ["Stream", "generate", "score_trace", "stream"]


def generate(
    model: Model | str | Path,
    prompt: PromptLike,
    *,
    policy: Policy | None = None,
    max_new_tokens: int = 512,
    n: int = 1,
    seed: int | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    stop: str | Sequence[str] = (),
    chat: bool | str = "auto",
    thinking: bool | None = None,
    ignore_eos: bool = False,
    boundary: str = "ids",
    batch_size: int = 8,
    progress: bool = False,
) -> Generation | list[Generation]:
    """Generates from one prompt or many, and returns text, tokens and a trace of entropy and temperature.

    Args:
        model: A :class:`~reset.Model`, or a path or hub id (loaded once and kept; ``reset.model_cache.clear()`` lets go).
        prompt: A string, a list of messages (dicts), token ids (a list of int), or a list of those.
        policy: Who sets the temperature (``reset.ReSET(…)``, ``reset.FixedTemperature(t)`` …). None follows the checkpoint's
            ``generation_config.json``, or is greedy where it says nothing.
        max_new_tokens: Most tokens to generate for each sample. A sequence also ends where the model's context ends.
        n: Samples of each prompt. They differ in their draws alone.
        seed: Seed of the draws, 0 ≤ seed < 2⁶⁴. None draws one, kept in ``Generation.seed``.
        top_p, top_k, min_p: Filters, applied after the temperature in the order top-k, top-p, min-p. None is off when a policy is given.
        stop: A string or several; the text ends before the first of them. Needs a tokenizer.
        chat: "auto" renders messages, and wraps a string as one user message where the tokenizer has a chat template; True insists,
            False takes strings as they are.
        thinking: ``enable_thinking`` of the chat template; None leaves it to the template.
        ignore_eos: Go on to ``max_new_tokens`` whatever is drawn.
        boundary: "ids" decides reasoning steps on token ids (the published rule), "text" on blank lines of the decoded text.
        batch_size: Sequences decoded together. Tokens do not depend on it.
        progress: Show a progress bar on stderr.

    Returns:
        One :class:`~reset.Generation` for one prompt and ``n == 1``; otherwise a flat list, prompt by prompt, sample by sample.

    Raises:
        reset.Interrupted: Ctrl-C between two tokens; ``.partial`` holds the generations so far, in the same order.
        ValueError, TypeError: Options or prompts that make no sense, ids outside the vocabulary, a prompt longer than the context.
    """
    single = n == 1
    progress = flag("progress", progress)
    loaded = resolve_model(model)
    prompts, many = as_prompts(prompt)
    options = Options.make(
        loaded, policy=policy, max_new_tokens=max_new_tokens, n=n, seed=seed, top_p=top_p, top_k=top_k, min_p=min_p, stop=stop, chat=chat,
        thinking=thinking, ignore_eos=ignore_eos, boundary=boundary, batch_size=batch_size,
    )  # fmt: skip
    run = Run(loaded, prompts, options)
    collectors = run.collectors()
    try:
        _fold(run, collectors, progress=progress)
    except KeyboardInterrupt as interrupt:
        raise Interrupted([c.generation() for c in collectors]) from interrupt
    generations = [c.generation() for c in collectors]
    return generations[0] if single and not many else generations


def _fold(run: Run, collectors: list[Collector], *, progress: bool) -> None:
    if not progress:
        for index, step in run:
            collectors[index].add(step)
        return
    from tqdm.auto import tqdm

    with tqdm(total=len(collectors), unit="sample", desc="generate", disable=None) as bar:
        started = time.perf_counter()
        for tokens, (index, step) in enumerate(run, start=1):
            collectors[index].add(step)
            if step.finish_reason is not None:
                bar.update()
            if tokens % 16 == 0 or step.finish_reason is not None:
                bar.set_postfix_str(f"{tokens} tokens, {tokens / (time.perf_counter() - started):.1f} tokens/s")


class Stream:
    """Steps of one sample as they are drawn: an iterator, and what it has gathered. Made by :func:`stream`."""

    def __init__(self, run: Run) -> None:
        self._collector = run.collectors()[0]
        self._steps = iter(run)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Step:
        try:
            _, step = next(self._steps)
        except KeyboardInterrupt as interrupt:
            raise Interrupted([self._collector.generation()]) from interrupt
        self._collector.add(step)
        return step

    @property
    def generation(self) -> Generation:
        """Everything drawn so far as a :class:`~reset.Generation`, trace included."""
        return self._collector.generation()


def stream(
    model: Model | str | Path,
    prompt: Prompt,
    *,
    policy: Policy | None = None,
    max_new_tokens: int = 512,
    seed: int | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    stop: str | Sequence[str] = (),
    chat: bool | str = "auto",
    thinking: bool | None = None,
    ignore_eos: bool = False,
    boundary: str = "ids",
) -> Stream:
    """Yields the steps of one sample as they are drawn; options as in :func:`generate`.

    ``step.text`` is the text that became certain with this token: never half a character, never the beginning of a stop string. The
    texts of all steps joined are the text of the same :func:`generate`. ``.generation`` of the returned iterator holds what came so far.

    Raises:
        reset.Interrupted: Ctrl-C between two tokens, as in :func:`generate`.
    """
    loaded = resolve_model(model)
    prompts, many = as_prompts(prompt)
    if many:
        raise TypeError("stream takes one prompt; for several, use generate")
    options = Options.make(
        loaded, policy=policy, max_new_tokens=max_new_tokens, n=1, seed=seed, top_p=top_p, top_k=top_k, min_p=min_p, stop=stop, chat=chat,
        thinking=thinking, ignore_eos=ignore_eos, boundary=boundary, batch_size=1,
    )  # fmt: skip
    return Stream(Run(loaded, prompts, options))  # prompts are checked here, before the first step is asked for


def score_trace(model: Model | str | Path, token_ids: ArrayLike, *, prompt_length: int = 1, policy: Policy | None = None) -> Trace:
    """The trace of given tokens, teacher-forced: what the model, and a policy, would have said about each.

    Args:
        model: A Model, or a path or hub id.
        token_ids: The whole sequence, prompt and answer, at least two ids.
        prompt_length: Tokens at the beginning that are read and not scored, at least 1. They count in no boundary and no mean.
        policy: Whose decisions fill temperature, threshold and the means; None is temperature 1.

    Returns:
        A trace with one row for each token from ``prompt_length`` on. ``sampling_logprob`` is taken after the temperature, without filters.
    """
    loaded = resolve_model(model)
    newline_ids, double_newline_ids = loaded.step_boundaries()
    ids = as_ids(token_ids, loaded)
    prompt_length = integer("prompt_length", prompt_length, high=1 << 32)
    chosen = FixedTemperature(1.0) if policy is None else policy
    steps = _core.score(loaded.core, ids, prompt_length, policy=chosen, newline_ids=newline_ids, double_newline_ids=double_newline_ids)
    tokens = None if loaded.tokenizer is None else tuple(loaded.tokenizer.token_texts(ids[prompt_length:]))
    return Trace.from_steps(steps, tokens=tokens, metadata={**loaded.describe(), "policy": repr(chosen), "teacher_forced": True})
