"""The loop of an evaluation: problems in, graded samples out, with sequences joining and leaving the batch."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reset import _core
from reset.evaluation.identity import SamplePolicies, describe_policy, sha256
from reset.evaluation.sample import Sample, ends_in_a_loop, outcome_of
from reset.evaluation.store import TRACES
from reset.model import PromptTooLong
from reset.policies import Policy
from reset.sampling import stream_of_evaluate
from reset.text import TextStream
from reset.types import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reset._options import Options
    from reset.model import Model
    from reset.scoring import Judge
    from reset.tasks import Problem, Task


@dataclass(frozen=True)
class Job:
    """Samples still to be made of one problem; ``position`` is its place in the split."""

    position: int
    problem: Problem
    samples: list[int]


@dataclass(frozen=True)
class _Prompt:
    token_ids: list[int]
    sha256: str
    thinking_open: bool  # it ends inside a thought, as some chat templates do


@dataclass
class _Live:
    """A sample in the making."""

    job: Job
    prompt: _Prompt
    sample_index: int
    stream: int
    policy: Policy
    started: float | None = None
    token_ids: list[int] = field(default_factory=list)
    entropy: float = 0.0  # sums in token order, so that they do not depend on the batch
    temperature: float = 0.0
    steps: int = 1
    high: int = 0
    uncertain: int = 0
    kept: list[_core.Step] = field(default_factory=list)

    def add(self, step: _core.Step) -> None:
        self.token_ids.append(step.token_id)
        self.entropy += step.entropy
        self.temperature += step.temperature
        self.steps += step.boundary
        self.high += step.entropy >= step.threshold  # false for NaN: policies without a threshold
        self.uncertain += step.step_entropy > step.global_mean


class Loop:
    """Runs jobs on one session of the core. Use once."""

    def __init__(
        self, model: Model, options: Options, task: Task, judge: Judge, policy: Policy | SamplePolicies, *, prompt: str, run: str,
        traces: Path | None,
    ) -> None:  # fmt: skip
        assert model.tokenizer is not None  # evaluate refuses such models
        self._model = model
        self._tokenizer = model.tokenizer
        self._options = options
        self._task = task
        self._judge = judge
        self._policy = policy
        self._style = prompt
        self._run = run
        self._traces = traces
        self._session = _core.Session(model.core, options.batch_size)
        self._live: dict[int, _Live] = {}
        self._described: tuple[Policy, dict[str, Any]] | None = None
        # Where the marks of a thought are special tokens, text without special tokens has lost them, and scoring needs them.
        self._marks_are_special = self._tokenizer.backend.token_to_id("</think>") in self._tokenizer.all_special_ids
        self._versions = _versions(model, judge)

    def samples(self, jobs: list[Job]) -> Iterator[Sample]:
        """Graded samples as they finish."""
        queue = deque(jobs)
        while queue or self._live:
            # Two batches are enough to keep the session full; the rest of a long evaluation need not lie in memory.
            while queue and len(self._live) < 2 * self._options.batch_size:
                yield from self._start(queue.popleft())
            before = time.perf_counter()
            for step in self._session.advance() if self._live else ():
                live = self._live[step.request]
                if live.started is None:
                    live.started = before
                live.add(step)
                if self._traces is not None:
                    live.kept.append(step)
                if step.finish_reason is not None:
                    del self._live[step.request]
                    yield self._finished(live, step.finish_reason)

    def _start(self, job: Job) -> Iterator[Sample]:
        """Queues the samples of a problem; one whose prompt does not fit the context is truncated before its first token."""
        options, problem = self._options, job.problem
        text = self._task.prompt(problem, self._style)
        if not isinstance(text, str):
            raise TypeError(f"the prompt of problem {problem.id!r}, task {self._task.name!r}, is {type(text).__name__}; expected str")
        try:
            ids = options.encode(text)
        except PromptTooLong as error:
            prompt = _Prompt(error.token_ids, _ids_sha256(error.token_ids), False)
            for index in job.samples:
                stream = stream_of_evaluate(self._task.name, problem.id, index)
                yield self._finished(_Live(job, prompt, index, stream, self._policy_of(problem, index)), "length")
            return
        except ValueError as error:
            raise ValueError(f"problem {problem.id!r} of task {self._task.name!r}: {error}") from error
        prompt = _Prompt(ids, _ids_sha256(ids), self._ends_in_a_thought(ids))
        live = [
            _Live(job, prompt, index, stream_of_evaluate(self._task.name, problem.id, index), self._policy_of(problem, index))
            for index in job.samples
        ]
        # One call per policy: samples that are added together share the work of reading the prompt.
        shared = [live] if isinstance(self._policy, Policy) else [[one] for one in live]
        for group in shared:
            numbers = options.submit(self._session, ids, [one.stream for one in group], group[0].policy)
            self._live.update(zip(numbers, group, strict=True))

    def _policy_of(self, problem: Problem, sample_index: int) -> Policy:
        if isinstance(self._policy, Policy):
            return self._policy
        return self._policy.for_sample(problem.id, sample_index)

    def _ends_in_a_thought(self, prompt_ids: list[int]) -> bool:
        text = self._tokenizer.decode(prompt_ids, skip_special_tokens=False)
        return text.rfind("<think>") > text.rfind("</think>")

    def _text(self, live: _Live, ids: list[int], *, special: bool) -> str:
        stream = TextStream(self._tokenizer, live.prompt.token_ids, skip_special_tokens=not special)
        return "".join([*map(stream.push, ids), stream.finish()])

    def _finished(self, live: _Live, finish_reason: str) -> Sample:
        problem, count = live.job.problem, len(live.token_ids)
        spoken = live.token_ids[:-1] if finish_reason == "stop" else live.token_ids  # the end token is no text
        text = self._text(live, spoken, special=False)
        graded = self._text(live, spoken, special=True) if self._marks_are_special else text
        score = self._judge.score(graded, problem.answer, thinking_open=live.prompt.thinking_open)
        truncated = finish_reason == "length"
        return Sample(
            problem_id=problem.id,
            sample_index=live.sample_index,
            seed=self._options.seed,
            stream=f"0x{live.stream:016x}",
            prompt_sha256=live.prompt.sha256,
            prompt_tokens=len(live.prompt.token_ids),
            token_ids=live.token_ids,
            tokens=count,
            text=text,
            finish_reason=finish_reason,
            seconds=0.0 if live.started is None else time.perf_counter() - live.started,
            reference=problem.answer,
            answer=score.answer,
            source=score.source,
            method=score.method,
            parsed=score.parsed,
            correct=score.correct,
            truncated=truncated,
            lenient_correct=score.lenient_correct,
            lenient_answer=score.lenient_answer,
            outcome=outcome_of(correct=score.correct, truncated=truncated, parsed=score.parsed),
            entropy_mean=live.entropy / count if count else math.nan,
            temperature_mean=live.temperature / count if count else math.nan,
            steps=live.steps,
            high_tokens=live.high,
            uncertain_tokens=live.uncertain,
            repetition=ends_in_a_loop(live.token_ids),
            trace=self._save_trace(live),
            options=self._options_of(live.policy),
            versions=self._versions,
            run=self._run,
        )

    def _options_of(self, policy: Policy) -> dict[str, Any]:
        # A policy's description reads its source file: once for each policy, not for each sample.
        if self._described is None or self._described[0] is not policy:
            self._described = policy, describe_policy(policy)
        options = self._options
        return {
            "policy": self._described[1], "top_k": options.top_k, "top_p": options.top_p, "min_p": options.min_p,
            "max_new_tokens": options.max_new_tokens, "prompt": self._style, "thinking": options.thinking,
        }  # fmt: skip

    def _save_trace(self, live: _Live) -> str | None:
        if self._traces is None:
            return None
        name = f"{TRACES}/{live.job.position:05d}-{live.sample_index:03d}.npz"
        metadata = {
            **self._model.describe(), **self._options.describe(), "policy": repr(live.policy), "task": self._task.name,
            "problem_id": live.job.problem.id, "sample_index": live.sample_index, "run": self._run,
        }  # fmt: skip
        tokens = tuple(self._tokenizer.token_texts(live.token_ids))
        Trace.from_steps(live.kept, tokens=tokens, metadata=metadata).save(self._traces / name)
        return name


def _ids_sha256(token_ids: list[int]) -> str:
    return sha256(" ".join(map(str, token_ids)))


def _versions(model: Model, judge: Judge) -> dict[str, Any]:
    import tokenizers

    described = model.describe()
    return {
        "reset": described["reset_version"], "scorer": judge.version, "tokenizers": tokenizers.__version__, "device": described["device"],
        "table": described["table"],
    }  # fmt: skip
