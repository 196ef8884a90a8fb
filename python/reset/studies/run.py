"""``reset.study``: arms of a plan, one after the other, and the report on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reset._checks import integer, output_path, path_like
from reset._progress_bar import progress_bar
from reset.evaluation.identity import describe_policy
from reset.evaluation.result import EvalResult
from reset.evaluation.run import evaluate
from reset.fingerprint import checkpoint_fingerprint
from reset.hub import resolve
from reset.model import Model, load
from reset.studies.placebos import ReplayedTemperatures, mean_temperature
from reset.studies.plan import Arm, check_contrasts, make_arms, make_plan
from reset.studies.result import Study, arm_folder, write_problems
from reset.tasks import get_task
from reset.types import Interrupted

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from reset.evaluation.identity import SamplePolicies
    from reset.policies import Policy
    from reset.studies.plan import Plan
    from reset.tasks import Problem, Task


def study(
    model: Model | str | Path | None,
    task: str | Task,
    arms: Mapping[str, Mapping[str, Any]],
    contrasts: Sequence[Sequence[str]] | None = None,
    *,
    exploratory: Sequence[Sequence[str]] = (),
    interactions: Sequence[Sequence[Sequence[str]]] = (),
    n_samples: int = 1,
    limit: int | None = None,
    split: str = "test",
    seed: int = 0,
    max_new_tokens: int | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    prompt: str = "boxed",
    thinking: bool | None = None,
    batch_size: int | None = None,
    data: str | os.PathLike[str] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    traces: bool = False,
    progress: bool = True,
    folder: str | os.PathLike[str] = ".",
) -> Study:
    """Runs arms on the same problems, and compares them as announced.

    The plan (arms, contrasts, problems, samples, seed, versions) is written to ``output_dir/plan.json`` and hashed before the first sample
    is drawn. The same call goes on where it stopped; a call with another plan is refused.

    Args:
        model: What arms run that name no ``model`` of their own: a path or hub id; or a loaded :class:`~reset.Model`, if no arm names
            options of the loading.
        task: A name or a :class:`~reset.Task`, as in :func:`reset.evaluate`.
        arms: Name → options of ``reset.load`` (weights, activations, method, lm_head, kv …), of ``reset.evaluate`` (n_samples,
            max_new_tokens, top_p, top_k, min_p, prompt, thinking), and ``policy``; :mod:`reset.studies.plan` lists what that may be.
        contrasts: Primary contrasts ``(a, b)``: differences b − a whose p-values are adjusted together. None compares every other arm
            with the first.
        exploratory: Further contrasts, reported with raw p-values and marked.
        interactions: Pairs of contrasts ``((a, b), (c, d))``: (b − a) − (d − c), with interval.
        n_samples, max_new_tokens, top_p, top_k, min_p, prompt, thinking: As in :func:`reset.evaluate`, for arms that do not say otherwise.
        limit, split, batch_size, data, progress: As in :func:`reset.evaluate`.
        seed: Shared by all arms. Random numbers depend on seed, problem and sample alone, so arms are coupled and pairs sharper.
        output_dir: The study's folder. None keeps all in memory: nothing resumes, and the plan is hashed but not written.
        traces: Keep the trace of every sample; arms whose temperatures another arm replays keep theirs anyway.
        folder: Where files named by policies are looked for (``tau_0 = "calibration.json"``).

    Returns:
        A :class:`~reset.studies.Study`: ``arms``, ``contrasts``, ``interactions``, ``.report()``. With ``output_dir``, the report is there.

    Raises:
        reset.ConfigError: ``output_dir`` holds another plan (the message lists what differs), or other results.
        reset.Interrupted: Ctrl-C; ``.partial`` is the study so far. The same call goes on from there.
        ValueError, TypeError, FileNotFoundError: options that make no sense, unknown arms, missing files.
    """
    root = None if output_dir is None else Path(output_path("output_dir", output_dir))
    ready = prepare(
        model, task, arms, contrasts, exploratory=exploratory, interactions=interactions, n_samples=n_samples, limit=limit, split=split,
        seed=seed, max_new_tokens=max_new_tokens, top_p=top_p, top_k=top_k, min_p=min_p, prompt=prompt, thinking=thinking, data=data,
        folder=folder,
    )  # fmt: skip
    plan, problems, made, needed = ready.plan, ready.problems, ready.arms, ready.needed
    if needed and root is None:
        raise ValueError(f"arms that take temperatures of others ({', '.join(sorted(needed))}) need output_dir: traces are files")
    if root is not None:
        plan.hold(root)
        write_problems(root, problems)
    results: dict[str, EvalResult] = {}
    loaded, key = None, None
    with progress_bar(show=progress, total=len(made), unit="arm", desc="study") as bar:
        for arm in in_order(made):
            bar.set_postfix_str(arm.name)
            policy = resolved_policy(arm, root)
            wanted = {**arm.options, "policy": policy, "split": split, "seed": seed}
            where = None if root is None else arm_folder(root, arm.name)
            found = None if where is None else _finished(where, plan, arm, wanted, len(problems))
            if found is None:
                if key != arm.key:
                    loaded = None  # let go of one model before the next is loaded
                    loaded, key = arm.model if isinstance(arm.model, Model) else load(arm.model, **arm.load), arm.key
                assert loaded is not None
                try:
                    found = evaluate(
                        loaded, ready.task, **wanted, limit=limit, batch_size=batch_size, output_dir=where, progress=progress,
                        traces=traces or arm.name in needed,
                    )  # fmt: skip
                except Interrupted as interrupt:
                    results[arm.name] = interrupt.partial
                    kept = (
                        "nothing is kept without output_dir" if root is None else f"all samples are kept in {root}; the same call goes on"
                    )
                    message = f"interrupted in arm {arm.name!r}, {len(results) - 1} of {len(made)} arms are finished; {kept}"
                    raise Interrupted(Study(plan, results, problems, directory=root), message) from interrupt
            results[arm.name] = found
            bar.update()
    done = Study(plan, results, problems, directory=root)
    if root is not None:
        done.report()
    return done


@dataclass(frozen=True)
class Prepared:
    """What a study needs before its first sample.

    Attributes:
        task: where the problems come from.
        problems: those of the split, up to the limit.
        arms: by name, resolved.
        plan: the decision.
        needed: arms whose temperatures other arms take.
    """

    task: Task
    problems: list[Problem]
    arms: dict[str, Arm]
    plan: Plan
    needed: frozenset[str]


def prepare(
    model: Model | str | Path | None,
    task: str | Task,
    arms: Mapping[str, Mapping[str, Any]],
    contrasts: Sequence[Sequence[str]] | None = None,
    *,
    exploratory: Sequence[Sequence[str]] = (),
    interactions: Sequence[Sequence[Sequence[str]]] = (),
    n_samples: int = 1,
    limit: int | None = None,
    split: str = "test",
    seed: int = 0,
    max_new_tokens: int | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    prompt: str = "boxed",
    thinking: bool | None = None,
    data: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] = ".",
    **_: object,
) -> Prepared:
    """Checks the arguments of :func:`study` and makes its plan, without loading a model or writing a file. Others are ignored."""
    chosen = get_task(task, data=data)
    problems = list(chosen.problems(split, limit=limit))
    defaults = {
        "n_samples": integer("n_samples", n_samples), "max_new_tokens": chosen.max_new_tokens if max_new_tokens is None else max_new_tokens,
        "top_p": top_p, "top_k": top_k, "min_p": min_p, "prompt": prompt, "thinking": thinking,
    }  # fmt: skip
    made = make_arms(model, arms, defaults, Path(path_like("folder", folder)))
    names = list(made)
    primary = check_contrasts([(names[0], name) for name in names[1:]] if contrasts is None else contrasts, made, "contrasts")
    further = check_contrasts(exploratory, made, "exploratory")
    twice = [pair for pair in further if pair in primary or pair[::-1] in primary]
    if twice:
        raise ValueError(f"exploratory: {twice[0]!r} is a primary contrast already")
    if isinstance(interactions, str) or not isinstance(interactions, Iterable):
        raise TypeError(f"interactions = {interactions!r} is not possible: give a list of two contrasts each, [[['a', 'b'], ['c', 'd']]]")
    crossed = [(pair[0], pair[1]) for pair in (_interaction(given, made) for given in interactions)]
    plan = make_plan(
        chosen, problems, made, {name: _fingerprint(arm) for name, arm in made.items()}, split=split,
        seed=integer("seed", seed, low=0, high=1 << 64), primary=primary, exploratory=further, interactions=crossed,
    )  # fmt: skip
    return Prepared(chosen, problems, made, plan, frozenset(arm.needs for arm in made.values() if arm.needs is not None))


def in_order(arms: Mapping[str, Arm]) -> Iterator[Arm]:
    """Arms after those they need; of those that can run, the ones that share the model loaded last come first."""
    waiting, done = dict(arms), set()
    key = None
    while waiting:
        ready = [arm for arm in waiting.values() if arm.needs is None or arm.needs in done]
        arm = next((arm for arm in ready if arm.key == key), ready[0])
        yield waiting.pop(arm.name)
        done.add(arm.name)
        key = arm.key


def resolved_policy(arm: Arm, root: Path | None) -> Policy | SamplePolicies | None:
    """The policy to run, where it needs the samples of another arm: those are finished by now."""
    if arm.needs is None or root is None:
        assert not isinstance(arm.policy, dict)
        return arm.policy  # type: ignore[return-value]
    assert isinstance(arm.policy, dict)
    source = arm_folder(root, arm.needs)
    if arm.policy["policy"] == "mean-temperature":
        return mean_temperature(source)
    return ReplayedTemperatures(source, arm.policy["shuffle_seed"])


def _interaction(given: Sequence[Sequence[str]], arms: Mapping[str, Arm]) -> list[tuple[str, str]]:
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        raise ValueError(f"interactions: {given!r} is not possible: give two contrasts ((a, b), (c, d)); the result is (b − a) − (d − c)")
    return [check_contrasts([pair], arms, "interactions")[0] for pair in given]


def _fingerprint(arm: Arm) -> str:
    if isinstance(arm.model, Model):
        return arm.model.fingerprint
    folder = resolve(arm.model, revision=arm.load.get("revision"), local_files_only=bool(arm.load.get("local_files_only", False)))
    return checkpoint_fingerprint(folder)


def _finished(where: Path, plan: Plan, arm: Arm, wanted: Mapping[str, Any], problems: int) -> EvalResult | None:
    """The whole result of an arm, which then needs no model to be loaded; None where samples are missing or anything is amiss."""
    if not (where / "run.json").is_file():
        return None
    found = EvalResult.load(where)
    identity = found.metadata
    policy = wanted["policy"]
    same = (
        not found.partial
        and (len(found.problem_ids), found.n_samples) == (problems, wanted["n_samples"])
        and identity["model"]["fingerprint"] == plan.record["arms"][arm.name]["model"]
        and (policy is None or identity["policy"] == describe_policy(policy))
        and all(identity[name] == wanted[name] for name in ("seed", "split", "max_new_tokens", "prompt", "thinking"))
        and (identity["reset_version"], identity["scorer"]) == (plan.record["versions"]["reset"], plan.record["versions"]["scorer"])
    )
    return found if same else None
