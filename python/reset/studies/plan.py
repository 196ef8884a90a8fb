"""The plan of a study: written down, hashed, and held to.

What is compared, on which problems, how often and with which seed is decided *before* the first test sample. :class:`Plan` is that
decision as JSON values; its SHA-256 stands in the report. A later run of the same folder has to have the same plan.

An arm is a dict. What it names of ``reset.load`` (weights, activations, kv …) and ``reset.evaluate`` (prompt, top_p …) overrides the
study's own options; ``policy`` is one of

    reset.ReSET(0.3, 0.55)                            a policy, or an object with for_sample and describe
    {policy = "reset", t_low = 0.3, tau_0 = 0.55}     what reset.policies.from_dict takes; tau_0 may name a calibration's file
    {policy = "preset", name = "Qwen/Qwen3-8B"}       what reset.ReSET.preset takes, with t_low if wanted
    {policy = "replayed", arm = "reset"}              temperatures of another arm, shuffled: see reset.studies.placebos
    {policy = "mean-temperature", arm = "reset"}      the mean temperature of another arm, fixed
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reset._arms import check_names
from reset._checks import integer, number
from reset.errors import ConfigError
from reset.evaluation.identity import SamplePolicies, describe_policy, differences
from reset.files import written_atomically
from reset.models import is_shipped, model_name
from reset.policies import POLICIES, Policy, ReSET, from_dict

if TYPE_CHECKING:
    from reset.model import Model
    from reset.tasks import Problem, Task

FORMAT = "reset-study-1"
PLAN_FILE = "plan.json"
LOAD_OPTIONS = (
    "model", "weights", "activations", "method", "lm_head", "kv", "calibration", "device", "threads", "revision", "local_files_only",
)  # fmt: skip
#: Options of the loading that change no token.
MACHINE = ("model", "device", "threads", "revision", "local_files_only")
EVALUATE_OPTIONS = ("n_samples", "max_new_tokens", "top_p", "top_k", "min_p", "prompt", "thinking")
#: Policies that need the samples of another arm.
FROM_ARM = ("replayed", "mean-temperature")

Contrast = tuple[str, str]


@dataclass(frozen=True)
class Arm:
    """One arm, with every option resolved.

    Attributes:
        name: of the arm.
        model: a loaded model, or a path or hub id.
        load: options of ``reset.load`` that the arm names.
        options: options of ``reset.evaluate``.
        policy: a policy, per-sample policies, None (the checkpoint's generation_config), or a dict that needs another arm.
        needs: the arm whose samples the policy needs, or None.
    """

    name: str
    model: Model | str | Path
    load: Mapping[str, Any]
    options: Mapping[str, Any]
    policy: Policy | SamplePolicies | Mapping[str, Any] | None
    needs: str | None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for arms that can share a loaded model."""
        named = model_name(self.model) if isinstance(self.model, (str, Path)) else id(self.model)
        return str(named), json.dumps(self.load, sort_keys=True, default=str)

    def describe(self, fingerprint: str) -> dict[str, Any]:
        """The arm as JSON values that decide about its samples."""
        policy: dict[str, Any]
        if self.policy is None:
            policy = {"policy": "generation_config"}
        elif isinstance(self.policy, Mapping):
            policy = dict(self.policy)
        else:
            policy = describe_policy(self.policy)
        if isinstance(self.model, (str, Path)):
            loaded = {name: _listed(value) for name, value in self.load.items() if name not in MACHINE}
        else:
            loaded = {name: value for name, value in self.model.describe().items() if name not in (*MACHINE, "table", "reset_version")}
        return {"model": fingerprint, **loaded, **self.options, "policy": policy}


@dataclass(frozen=True)
class Plan:
    """What a study will do, as JSON values.

    Attributes:
        record: task, split, problems, seed, arms, contrasts, versions.
    """

    record: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the record as JSON with sorted keys."""
        text = json.dumps(self.record, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def hold(self, folder: Path) -> None:
        """Writes the plan into ``folder``, or checks that the one there is the same.

        Raises:
            reset.ConfigError: another plan is there, listing what differs; or results without a plan.
        """
        path = folder / PLAN_FILE
        if path.is_file():
            found = Plan.read(folder)
            lines = differences(found.record, self.record)
            if lines:
                listed = "\n  ".join(lines)
                raise ConfigError(
                    f"{path} holds another plan, and samples may already have been seen under it. Restore the plan, or take another "
                    f"output_dir for a new study. What differs:\n  {listed}"
                )
            return
        if folder.is_dir() and any(folder.glob("arms/*/samples*.jsonl")):
            raise ConfigError(f"{folder} holds samples and no {PLAN_FILE}: nobody knows which plan they followed. Take another output_dir")
        folder.mkdir(parents=True, exist_ok=True)
        with written_atomically(path) as file:
            content = {"format": FORMAT, "sha256": self.sha256, "plan": self.record}
            file.write(json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass") + b"\n")

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan of a study's folder.

        Raises:
            FileNotFoundError: there is none.
            reset.ConfigError: it is damaged, or was changed after it was hashed.
        """
        path = folder / PLAN_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; give the output_dir of a study")
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise ConfigError(f"{path}: not readable as JSON ({error})") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("plan"), dict):
            raise ConfigError(f"{path}: not the plan of a study in the format {FORMAT!r}")
        plan = cls(content["plan"])
        if plan.sha256 != content.get("sha256"):
            raise ConfigError(
                f"{path}: the plan hashes to {plan.sha256[:16]}… and the file says {str(content.get('sha256'))[:16]}…: it was edited after "
                "it was written. Restore it, or start a new study in another output_dir"
            )
        return plan


def make_arms(
    model: Model | str | Path | None, arms: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any], folder: Path
) -> dict[str, Arm]:
    """Checks the arms and fills what they leave open.

    Args:
        model: what arms run that name no model.
        arms: name → options.
        defaults: the study's options of ``reset.evaluate``.
        folder: where files named by a policy are looked for.

    Raises:
        ValueError, TypeError: an unknown option, a policy that cannot be made, an arm that needs an arm there is not, or a circle of needs.
    """
    from reset.model import Model

    if not isinstance(arms, Mapping) or not arms:
        raise ValueError("arms has to be a dict with at least one arm: {'nvfp4': {'weights': 'nvfp4', 'policy': …}, …}")
    check_names(arms)
    made = {}
    for name, given in arms.items():
        if not isinstance(given, Mapping):
            raise TypeError(f"arm {name!r} is {type(given).__name__}: give a dict of options")
        known = ("policy", *LOAD_OPTIONS, *EVALUATE_OPTIONS)
        for option in given:
            if option not in known:
                shared = (
                    " (one seed and one task for all arms: it is an option of the study)" if option in ("seed", "task", "split") else ""
                )
                raise ValueError(f"arm {name!r}: unknown option {option!r}{shared}; an arm takes {', '.join(known)}")
        chosen = given.get("model", model)
        if chosen is None:
            raise ValueError(f"arm {name!r} has no model: give one to the study, or to the arm")
        load = {option: given[option] for option in LOAD_OPTIONS if option in given and option != "model"}
        if isinstance(chosen, Model) and load:
            raise ValueError(f"arm {name!r} names {', '.join(load)}, and the model is loaded already: give its path instead")
        policy, needs = _policy(name, given.get("policy"), folder)
        options = {option: _plain(option, given.get(option, defaults.get(option))) for option in EVALUATE_OPTIONS}
        made[name] = Arm(name, chosen, load, options, policy, needs)
    for arm in made.values():
        _check_needs(arm, made)
    return made


def _plain(option: str, value: Any) -> Any:
    """An option of an arm as the plan keeps it: numbers of numpy are no JSON values."""
    if value is None or option not in ("top_p", "min_p", "top_k", "n_samples", "max_new_tokens"):
        return value
    return number(option, value) if option in ("top_p", "min_p") else integer(option, value)


def _policy(arm: str, given: Any, folder: Path) -> tuple[Policy | SamplePolicies | Mapping[str, Any] | None, str | None]:
    """The policy that an arm names, and the arm it needs."""
    if given is None or isinstance(given, Policy):
        return given, None
    if isinstance(given, str):
        given = {"policy": "preset", "name": given}
    if not isinstance(given, Mapping):
        if callable(getattr(given, "for_sample", None)) and callable(getattr(given, "describe", None)):
            return given, None
        raise TypeError(f"policy of arm {arm!r} is {type(given).__name__}: give a reset.Policy, a dict, or the name of a preset")
    record = dict(given)
    kind = record.pop("policy", None)
    try:
        if kind in FROM_ARM:
            needs = record.pop("arm", None)
            allowed = {"shuffle_seed"} if kind == "replayed" else set()
            if not isinstance(needs, str) or set(record) - allowed:
                raise ValueError(f"{kind!r} takes arm{', shuffle_seed' * (kind == 'replayed')}, and got {', '.join(given)}")
            seed = {"shuffle_seed": int(record.get("shuffle_seed", 0))} if kind == "replayed" else {}
            return {"policy": kind, "arm": needs, **seed}, needs
        if kind == "preset":
            name = str(record.pop("name", ""))
            beside = folder / name
            return ReSET.preset(beside if name and not is_shipped(name) and beside.exists() else name, **record), None
        if isinstance(record.get("tau_0"), str):
            from reset.calibration import Calibration

            record["tau_0"] = Calibration.load(record["tau_0"] if is_shipped(record["tau_0"]) else folder / record["tau_0"]).tau_0
        if kind not in POLICIES:
            raise ValueError(f"policy = {kind!r} is not possible: use one of {', '.join([*POLICIES, 'preset', *FROM_ARM])}")
        return from_dict({"policy": kind, **record}), None
    except (ValueError, TypeError) as error:
        raise ValueError(f"policy of arm {arm!r}: {error}") from error


def _check_needs(arm: Arm, arms: Mapping[str, Arm]) -> None:
    path, current = [arm.name], arm
    while current.needs is not None:
        if current.needs not in arms:
            raise ValueError(f"arm {current.name!r} takes temperatures of arm {current.needs!r}, and there is no such arm")
        path.append(current.needs)
        if path.count(current.needs) > 1:
            raise ValueError(f"arms need each other in a circle: {' → '.join(path)}")
        current = arms[current.needs]


def check_contrasts(contrasts: Sequence[Sequence[str]], arms: Mapping[str, Arm], what: str) -> list[Contrast]:
    """Contrasts ``(a, b)`` of known arms, as tuples."""
    found: list[Contrast] = []
    if isinstance(contrasts, str) or not isinstance(contrasts, Iterable):
        raise TypeError(f"{what} = {contrasts!r} is not possible: give a list of pairs of arms, such as [['bf16', 'nvfp4']]")
    for given in contrasts:
        pair = tuple(given) if isinstance(given, (list, tuple)) else ()
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ValueError(f"{what}: {given!r} is not possible: give two different arms (a, b); the difference is b − a")
        for name in pair:
            if name not in arms:
                raise ValueError(f"{what}: there is no arm {name!r} in {given!r}; the arms are {', '.join(arms)}")
        if pair in found or pair[::-1] in found:
            raise ValueError(f"{what}: {pair[0]!r} and {pair[1]!r} are compared twice")
        found.append((pair[0], pair[1]))
    return found


def make_plan(
    task: Task, problems: Sequence[Problem], arms: Mapping[str, Arm], fingerprints: Mapping[str, str], *, split: str, seed: int,
    primary: Sequence[Contrast], exploratory: Sequence[Contrast], interactions: Sequence[tuple[Contrast, Contrast]],
) -> Plan:  # fmt: skip
    """The plan as JSON values."""
    from reset import __version__
    from reset.scoring import Judge
    from reset.tasks import fingerprint

    with Judge(task.scorer) as judge:
        scorer = judge.version
    record = {
        "task": task.name, "task_version": str(task.version), "split": split, "problems": len(problems),
        "problems_sha256": fingerprint(problems), "seed": seed,
        "arms": {name: arm.describe(fingerprints[name]) for name, arm in arms.items()},
        "primary": [list(pair) for pair in primary], "exploratory": [list(pair) for pair in exploratory],
        "interactions": [[list(first), list(second)] for first, second in interactions],
        "versions": {"reset": __version__, "scorer": scorer},
    }  # fmt: skip
    return Plan(json.loads(json.dumps(record)))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
