"""``reset.evaluate``: samples of a model on a task, graded and kept one by one.

Sequences join the batch when others leave it, problem by problem in the task's order. What is drawn depends on seed, task, problem id and
sample index alone, so a run may be killed, resumed with another batch or on more threads, or split in shards, and holds the same samples.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reset._checks import flag, integer, output_path
from reset._options import Options
from reset.errors import ConfigError
from reset.evaluation import store
from reset.evaluation.identity import MACHINE, SamplePolicies, describe_policy, identity_hash, sha256
from reset.evaluation.loop import Job, Loop
from reset.evaluation.progress import Progress
from reset.evaluation.result import EvalResult, Plan, joined_plan
from reset.model import resolve_model
from reset.policies import Greedy, Policy
from reset.scoring import Judge
from reset.tasks import get_task
from reset.types import Interrupted

if TYPE_CHECKING:
    import os

    from reset.evaluation.sample import Sample
    from reset.model import Model
    from reset.tasks import Problem, Task

PROMPTS = ("boxed", "plain")
_DEFAULT_BATCH = 8


def evaluate(
    model: Model | str | Path,
    task: str | Task,
    *,
    policy: Policy | SamplePolicies | None = None,
    split: str = "test",
    n_samples: int = 1,
    limit: int | None = None,
    seed: int = 0,
    max_new_tokens: int | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    prompt: str = "boxed",
    thinking: bool | None = None,
    batch_size: int | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    resume: bool = True,
    progress: bool = True,
    traces: bool = False,
    data: str | os.PathLike[str] | None = None,
    shard: tuple[int, int] | None = None,
) -> EvalResult:
    """Samples answers to a task's problems, grades them, and keeps every sample.

    Args:
        model: A :class:`~reset.Model`, or a path or hub id.
        task: A name (``reset.tasks.TASKS``) or a :class:`~reset.Task`.
        policy: Who sets the temperature. None follows the checkpoint's ``generation_config.json``, or is greedy where it says nothing.
            Policies written in Python work; an object with ``for_sample`` and ``describe`` gives every sample its own.
        split: "test", or "tune", "calibration", "train" where the task has them. Choose nothing by looking at "test".
        n_samples: Samples of each problem.
        limit: The first so many problems.
        seed: Of the draws. Arms that share it are coupled, which sharpens paired comparisons.
        max_new_tokens: Limit of one sample; None is the task's. A sample that reaches it counts as truncated.
        top_p, top_k, min_p: Filters after the temperature. None is off when a policy is given.
        prompt: "boxed" adds the instruction to reason step by step and to box the answer; "plain" is the bare problem.
        thinking: ``enable_thinking`` of the chat template; None leaves it to the template.
        batch_size: Sequences decoded together (8). No sample depends on it.
        output_dir: A folder that receives every sample as it finishes, and from which a run goes on where it stopped.
        resume: Go on with what ``output_dir`` holds. False insists on a folder without results.
        progress: Show a progress bar on stderr: accuracy so far, tokens/s, time left.
        traces: Keep the trace of every sample in ``output_dir/traces``.
        data: File or folder of the task's problems; else the Hugging Face hub.
        shard: ``(index, count)``, index from 1: only this share of the problems. Shards may write to one folder at the same time; their
            results merge (``EvalResult.load(folder)`` or ``merge``).

    Returns:
        An :class:`~reset.EvalResult`; with ``output_dir``, of all planned samples in the folder: ``partial`` while shards are missing.

    Raises:
        reset.ConfigError: ``output_dir`` holds results of another model, task version or set of options, or is being written.
        reset.Interrupted: Ctrl-C; ``.partial`` is the result so far. The same call goes on from there.
        FileExistsError: ``resume=False`` and the folder holds results.
        ValueError, TypeError, FileNotFoundError, OSError: options that make no sense, missing data, a full disk.
    """
    loaded = resolve_model(model)
    if loaded.tokenizer is None:
        raise ValueError(f"{loaded.name} has no tokenizer.json: an evaluation reads text and cannot run without one")
    if prompt not in PROMPTS:
        raise ValueError(f"prompt = {prompt!r} is not possible: use one of {', '.join(map(repr, PROMPTS))}")
    resume, progress, traces = flag("resume", resume), flag("progress", progress), flag("traces", traces)
    if traces and output_dir is None:
        raise ValueError("traces=True needs output_dir: the traces are files in it")
    if output_dir is not None:
        output_path("output_dir", output_dir)
    if policy is not None:
        describe_policy(policy)  # anything but a policy is refused here, before data are read
    seed = integer("seed", seed, low=0, high=1 << 64)
    shard = _checked_shard(shard)
    n_samples = integer("n_samples", n_samples)
    limit = None if limit is None else integer("limit", limit)
    chosen = get_task(task, data=data)
    problems = list(chosen.problems(split, limit=limit))
    if not problems:
        raise ValueError(f"task {chosen.name!r} has no problems in split {split!r}")
    # A policy of its own for every sample is asked for later; any policy serves to check the other options.
    fixed = policy if policy is None or isinstance(policy, Policy) else Greedy()
    options = Options.make(
        loaded, policy=fixed, max_new_tokens=chosen.max_new_tokens if max_new_tokens is None else max_new_tokens, n=1, seed=seed,
        top_p=top_p, top_k=top_k, min_p=min_p, stop=(), chat="auto", thinking=thinking, ignore_eos=False, boundary="ids",
        batch_size=_DEFAULT_BATCH if batch_size is None else batch_size,
    )  # fmt: skip
    with ExitStack() as stack:
        judge = stack.enter_context(Judge(chosen.scorer))
        used = options.policy if policy is None else policy
        identity = _identity(loaded, chosen, options, used, split=split, prompt=prompt, scorer=judge.version)
        run = identity_hash(identity)
        plan: Plan = {"problems": [[p.id, _problem_digest(p)] for p in problems], "n_samples": n_samples}
        folder = None if output_dir is None else Path(output_dir)
        found: dict[tuple[str, int], Sample] = {}
        writer: Any = nullcontext()
        if folder is not None:
            _open(folder, identity, plan, resume=resume)
            writer = stack.enter_context(store.Writer(folder, shard))
            found = store.read_samples(folder, run)
            if traces:
                (folder / store.TRACES).mkdir(exist_ok=True)

        def result() -> EvalResult:
            return EvalResult(found.values(), identity=identity, plan=plan, directory=folder)

        mine = range(len(problems)) if shard is None else range(shard[0] - 1, len(problems), shard[1])
        jobs = [
            Job(index, problems[index], missing)
            for index in mine
            if (missing := [s for s in range(n_samples) if (problems[index].id, s) not in found])
        ]
        loop = Loop(loaded, options, chosen, judge, used, prompt=prompt, run=run, traces=folder if traces else None)
        planned = {(problems[index].id, s) for index in mine for s in range(n_samples)}
        done = [sample for key, sample in found.items() if key in planned]
        bar = stack.enter_context(Progress(chosen.name, len(planned), done, show=progress))
        try:
            for sample in loop.samples(jobs):
                if folder is not None:
                    writer.append(sample)
                found[sample.key] = sample
                bar.add(sample)
        except KeyboardInterrupt as interrupt:
            partial = result()
            kept = "" if folder is None else f" and kept in {folder}; the same call goes on from there"
            raise Interrupted(partial, f"interrupted; {len(partial)} of {partial.planned} samples are finished{kept}") from interrupt
    return result()


def _checked_shard(shard: tuple[int, int] | None) -> tuple[int, int] | None:
    if shard is None:
        return None
    if not isinstance(shard, (tuple, list)) or len(shard) != 2:
        raise ValueError(f"shard = {shard!r} is not possible: give (index, count), such as (1, 4) for the first of four")
    count = integer("shard count", shard[1])
    return integer("shard index", shard[0], high=count + 1), count


def _problem_digest(problem: Problem) -> str:
    return sha256(f"{len(problem.question)} {problem.question}{problem.answer}")[:16]


def _identity(
    model: Model, task: Task, options: Options, policy: Policy | SamplePolicies, *, split: str, prompt: str, scorer: str
) -> dict[str, Any]:
    described = {name: value for name, value in model.describe().items() if name not in MACHINE}
    version = described.pop("reset_version")
    return {
        "task": task.name, "task_version": str(task.version), "split": split, "prompt": prompt, "thinking": options.thinking,
        "scorer": scorer, "max_new_tokens": options.max_new_tokens, "policy": describe_policy(policy), "top_k": options.top_k,
        "top_p": options.top_p, "min_p": options.min_p, "seed": options.seed, "model": {"fingerprint": model.fingerprint, **described},
        "reset_version": version,
    }  # fmt: skip


def _open(folder: Path, identity: dict[str, Any], plan: Plan, *, resume: bool) -> None:
    """Makes the folder ready: a new ``run.json``, or the same identity in the one that is there, with the longer of both plans."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output_dir {folder} is a file; give a folder, or one that does not exist yet")
    folder.mkdir(parents=True, exist_ok=True)
    with store.exclusive(folder):  # shards may start at the same moment
        _open_locked(folder, identity, plan, resume=resume)


def _open_locked(folder: Path, identity: dict[str, Any], plan: Plan, *, resume: bool) -> None:
    before = store.read_run(folder)
    has_samples = any(folder.glob("samples*.jsonl"))
    if before is None and has_samples:
        raise ConfigError(f"{folder} holds samples and no {store.RUN_FILE}, so nobody knows what they are; give another output_dir")
    if before is not None:
        if not resume:
            raise FileExistsError(f"output_dir {folder} already holds results and resume=False; give another folder, or let it resume")
        store.refuse_other(before["identity"], identity, folder)
        wider = joined_plan(before["plan"], plan, folder)
        if wider != before["plan"]:
            store.write_run(folder, identity, wider)
        return
    store.write_run(folder, identity, plan)
