"""Tuning: which policy is best, searched where nothing is tested.

The best of several policies looks better than it is, because it was chosen for its luck as well (the winner's curse). So the search runs
on the ``tune`` split, the winner is named once, and another split says how good it is::

    grid(tau_0) ──► ReSET with T_low 0.1 … 0.6 ┐
                    fixed T, as many of them   ┴─► evaluate on "tune" ──► best ──► reset.study on "test"

A fixed temperature gets as many tries as ReSET's: comparing a searched policy with an unsearched baseline would compare efforts.

>>> from reset.tuning import grid
>>> list(grid(0.55, t_low=(0.1, 0.3), fixed=(0.6,)))
['reset t_low=0.1 tau_0=0.55', 'reset t_low=0.3 tau_0=0.55', 'T=0.6']
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reset._arms import check_names, folder_name, policy_name, summarize
from reset._checks import output_path
from reset._progress_bar import progress_bar
from reset.evaluation.identity import describe_policy
from reset.files import written_atomically
from reset.policies import FixedTemperature, Policy, ReSET
from reset.types import Interrupted

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes

    from reset.evaluation.result import EvalResult
    from reset.model import Model
    from reset.tasks import Task

__all__ = ["TunedArm", "Tuning", "grid", "tune"]

FORMAT = "reset-tuning-1"
T_LOW = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def grid(
    tau_0: float, *, t_low: Sequence[float] = T_LOW, fixed: Sequence[float] | None = None, t_high: float = 1.0, window: int = 32
) -> dict[str, Policy]:
    """ReSET policies over ``t_low``, and fixed temperatures with the same effort, by name.

    Args:
        tau_0: base threshold in nats; see :func:`reset.calibrate`.
        t_low: temperatures to try.
        fixed: fixed temperatures to try; None takes as many as ``t_low``, evenly spaced from its smallest value to ``t_high`` (two
            decimals). Give ``(0.6,)`` for the paper's baseline alone, and mind the unequal effort.
        t_high, window: of the ReSET policies.
    """
    if fixed is None:
        fixed = [round(float(t), 2) for t in np.linspace(min(t_low), t_high, len(t_low))] if len(t_low) else []
    policies: list[Policy] = [ReSET(t, tau_0, t_high, window) for t in t_low]
    policies += [FixedTemperature(t) for t in fixed]
    return {policy_name(policy): policy for policy in policies}


@dataclass(frozen=True)
class TunedArm:
    """One policy that was tried.

    Attributes:
        name: of the arm.
        policy: what ran.
        result: its samples on the tuning split.
    """

    name: str
    policy: Policy
    result: EvalResult

    @cached_property
    def row(self) -> dict[str, Any]:
        """Name, policy, accuracy, interval and what else describes the arm, as JSON values."""
        numbers = summarize(self.result)
        return {"name": self.name, "policy": describe_policy(self.policy), "ci95": [numbers["low"], numbers["high"]], **numbers}


@dataclass(frozen=True, repr=False)
class Tuning:
    """Policies tried on the tuning split. Made by :func:`tune`.

    Attributes:
        arms: every policy tried, in the order given.
    """

    arms: tuple[TunedArm, ...]

    @property
    def best(self) -> TunedArm:
        """The arm with the highest accuracy; of equals the one with fewer tokens per sample, then the one given first."""
        return _best(self.arms)

    @property
    def policy(self) -> Policy:
        """The policy of :attr:`best`."""
        return self.best.policy

    def best_of(self, kind: str) -> TunedArm:
        """The best arm of one kind of policy (``"reset"``, ``"fixed"`` …): the two that a study should compare.

        Raises:
            ValueError: no arm is of this kind; the message lists those there are.
        """
        arms = [arm for arm in self.arms if arm.row["policy"]["policy"] == kind]
        if not arms:
            known = sorted({arm.row["policy"]["policy"] for arm in self.arms})
            raise ValueError(f"no arm has a policy of kind {kind!r}: there are {', '.join(known)}")
        return _best(arms)

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row per arm, in the order given; see :attr:`TunedArm.row`."""
        return [arm.row for arm in self.arms]

    @cached_property
    def contenders(self) -> tuple[str, ...]:
        """Arms that the samples cannot tell from the best one (paired, same problems): with few problems, most of them."""
        from reset.statistics import paired

        best = self.best
        rivals = [arm for arm in self.arms if arm is not best]
        return tuple(r.name for r in rivals if paired(*r.result.outcomes(), *best.result.outcomes()).verdict == "undecided")

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples, as JSON values."""
        metadata = dict(self.arms[0].result.metadata)
        del metadata["policy"]
        return {
            "format": FORMAT, "best": self.best.name, "policy": self.best.row["policy"], "contenders": list(self.contenders),
            "metadata": metadata, "table": self.table,
        }  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the table as JSON, whole or not at all. The samples lie in ``output_dir``."""
        with written_atomically(path) as file:
            file.write(json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1).encode("utf-8", "surrogatepass") + b"\n")

    def to_pandas(self) -> Any:
        """One row per arm. Raises ``ImportError`` without pandas."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ImportError("Tuning.to_pandas needs pandas: pip install 'reset-nvfp4[pandas]'") from error
        return pandas.DataFrame(self.table)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Accuracy over the temperature searched; see :func:`reset.plots.plot_sweep`. Returns the axes."""
        from reset.plots import plot_sweep

        return plot_sweep(self.table, ax=ax)

    def __repr__(self) -> str:
        best = self.best
        low, high = best.result.ci95
        rivals = len(self.contenders)
        close = "" if not rivals else f"; {rivals} other{'s' * (rivals != 1)} cannot be told from it"
        return f"Tuning(best {best.name!r}: {best.result.accuracy:.1%} [{low:.1%}, {high:.1%}] of {len(self.arms)} arms{close})"


def _best(arms: Sequence[TunedArm]) -> TunedArm:
    # max keeps the first of equals
    return max(arms, key=lambda arm: (arm.result.accuracy, -(arm.row["tokens_mean"] or 0.0)))


def tune(
    model: Model | str | Path,
    task: str | Task,
    policies: Mapping[str, Policy] | Sequence[Policy],
    *,
    split: str = "tune",
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
    progress: bool = True,
    traces: bool = False,
    data: str | os.PathLike[str] | None = None,
) -> Tuning:
    """Evaluates policies on the tuning split and names the best.

    Args:
        model: A :class:`~reset.Model`, or a path or hub id.
        task: A name or a :class:`~reset.Task`, as in :func:`reset.evaluate`.
        policies: Name → policy, or a list of policies; :func:`reset.tuning.grid` makes them.
        split: "tune". "test" is refused: a policy chosen there has seen what it is tested on.
        n_samples, limit, max_new_tokens, top_p, top_k, min_p, prompt, thinking, batch_size, progress, traces, data: As in
            :func:`reset.evaluate`, the same for every arm.
        seed: Shared by all arms, which couples their draws and sharpens the comparison.
        output_dir: A folder with a subfolder for each arm; the same call goes on from there.

    Returns:
        A :class:`Tuning`: ``best``, ``policy``, ``table``, ``contenders``, ``.plot(ax)``, ``.save(path)``.

    Raises:
        reset.Interrupted: Ctrl-C; ``.partial`` is a Tuning of the arms finished (None without any). With ``output_dir``, nothing is lost.
        reset.ConfigError: ``output_dir`` holds results of other options.
        ValueError, TypeError: no policies, equal names, the test split, or options that make no sense.
    """
    from reset.evaluation.run import evaluate
    from reset.model import resolve_model
    from reset.tasks import get_task

    if split == "test":
        raise ValueError(
            "split = 'test' is refused: the best of several on the test problems is flattered by chance, and the test split could then "
            "not say how good it is. Tune on 'tune', then run reset.study (or reset.evaluate) on 'test'"
        )
    if output_dir is not None:
        output_path("output_dir", output_dir)
    arms = _named(policies)
    chosen = get_task(task, data=data)
    loaded = resolve_model(model)
    done: list[TunedArm] = []
    with progress_bar(show=progress, total=len(arms), unit="arm", desc="tune") as bar:
        for name, policy in arms.items():
            bar.set_postfix_str(name)
            try:
                result = evaluate(
                    loaded, chosen, policy=policy, split=split, n_samples=n_samples, limit=limit, seed=seed, max_new_tokens=max_new_tokens,
                    top_p=top_p, top_k=top_k, min_p=min_p, prompt=prompt, thinking=thinking, batch_size=batch_size,
                    output_dir=None if output_dir is None else Path(output_dir) / folder_name(name), progress=progress, traces=traces,
                )  # fmt: skip
            except Interrupted as interrupt:
                kept = "nothing is kept without output_dir" if output_dir is None else f"all samples are kept in {output_dir}"
                raise Interrupted(
                    Tuning(tuple(done)) if done else None,
                    f"interrupted in arm {name!r}, {len(done)} of {len(arms)} arms are finished; {kept}",
                ) from interrupt
            done.append(TunedArm(name, policy, result))
            bar.update()
    return Tuning(tuple(done))


def _named(policies: Mapping[str, Policy] | Sequence[Policy]) -> dict[str, Policy]:
    if isinstance(policies, Mapping):
        arms = dict(policies)
    elif isinstance(policies, Sequence) and not isinstance(policies, (str, bytes)):
        arms = {}
        for policy in policies:
            _check_policy(policy, f"policies[{len(arms)}]")
            if policy_name(policy) in arms:
                raise ValueError(f"two policies are called {policy_name(policy)!r}: give a dict with names of your own")
            arms[policy_name(policy)] = policy
    else:
        raise TypeError(f"policies is {type(policies).__name__}: give a dict from name to policy, or a list of policies")
    if not arms:
        raise ValueError("policies is empty: give at least one, such as reset.tuning.grid(tau_0)")
    check_names(arms)
    for name, policy in arms.items():
        _check_policy(policy, f"policy of arm {name!r}")
    return arms


def _check_policy(policy: object, what: str) -> None:
    if not isinstance(policy, Policy):
        raise TypeError(f"{what} is {type(policy).__name__}: give a reset.Policy")
