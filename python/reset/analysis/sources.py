"""Where an analysis gets its models and texts: from a study, or from a checkpoint.

A study's plan knows how each arm loads its model, and the fingerprint of the files, not their place. So the place is given, and what was
loaded is checked against what made the samples: another checkpoint, or the same one loaded otherwise, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reset.analysis.noise import noisy_checkpoint
from reset.analysis.scoring import Rule
from reset.errors import ConfigError
from reset.evaluation.identity import differences
from reset.evaluation.result import EvalResult
from reset.model import Model, load
from reset.policies import POLICIES, from_dict
from reset.studies.plan import LOAD_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from reset.studies.result import Study

#: How a checkpoint is loaded where no study says so.
WAYS: Mapping[str, Mapping[str, Any]] = {
    "bf16": {"weights": "bf16", "activations": "float"},
    "w4a16": {"weights": "nvfp4", "activations": "float"},
    "w4a4": {"weights": "nvfp4", "activations": "nvfp4"},
}


@dataclass
class Sources:
    """What :func:`reset.analysis.mechanisms` needs.

    Attributes:
        models: name → model, the reference first.
        samples: name of an arm → its samples.
        rules: policies of the study, and temperatures with filters, by the names of the first arms that draw so.
        accuracies: of every arm that runs one of the models.
    """

    models: dict[str, Model] = field(default_factory=dict)
    samples: dict[str, EvalResult] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    accuracies: list[dict[str, Any]] = field(default_factory=list)


def from_checkpoint(path: str | Path, *, ways: Sequence[str] = tuple(WAYS), threads: int | None = None) -> Sources:
    """One checkpoint, loaded in several ways: names of :data:`WAYS`, the reference first.

    Raises:
        ValueError: no such way.
    """
    for way in ways:
        if way not in WAYS:
            raise ValueError(f"there is no way {way!r} to load a checkpoint: use {', '.join(WAYS)}")
    return Sources({way: load(path, threads=threads, **WAYS[way]) for way in ways})


def from_study(
    study: Study, checkpoints: Mapping[str, str | Path], *, arms: Sequence[str] | None = None, threads: int | None = None
) -> Sources:
    """Models, samples, policies and accuracies of a study.

    Args:
        study: finished, at least in the arms that are named.
        checkpoints: arm → folder of its checkpoint; ``""`` stands for all arms that are not named.
        arms: whose models and samples to take, the reference first. None: the first arm of every way in which the study loads a model.
        threads: of the decode pool.

    Raises:
        ValueError: an arm there is not, no samples, or no folder for an arm.
        reset.ConfigError: what was loaded is not what made the samples; the message lists what differs.
    """
    results = {name: result for name, result in study.results.items() if isinstance(result, EvalResult)}
    if not results:
        raise ValueError(f"the study in {study.directory} holds no samples, counts at most: texts of its arms cannot be read from it")
    identities = {name: result.metadata["model"] for name, result in results.items()}
    if arms is None:
        arms = [name for name in identities if identities[name] not in [identities[other] for other in _before(name, identities)]]
    for name in arms:
        if name not in study.plan.record["arms"]:
            raise ValueError(f"the study has no arm {name!r}; its arms are {', '.join(study.plan.record['arms'])}")
        if name not in results or not results[name].samples:
            raise ValueError(f"arm {name!r} has no samples yet: run the study first")
    found = Sources(samples={name: results[name] for name in arms})
    model_of: list[tuple[Any, str]] = []
    for name in arms:
        if identities[name] not in [identity for identity, _ in model_of]:
            found.models[name] = _load(name, study, identities[name], checkpoints, threads)
            model_of.append((identities[name], name))
    for name, result in results.items():
        owner = next((model for identity, model in model_of if identity == identities[name]), None)
        rule = _rule(result)
        # Temperatures without filters are a grid of their own.
        if rule is not None and rule not in found.rules.values() and (rule.filtered or rule.policy.name not in ("fixed", "greedy")):
            found.rules[name] = rule
        tokens = sum(sample.tokens for sample in result.samples)
        if owner is not None and tokens:
            low, high = result.ci95
            mean = sum(sample.temperature_mean * sample.tokens for sample in result.samples if sample.tokens) / tokens
            found.accuracies.append(
                {"model": owner, "rule": name, "temperature": mean, "accuracy": result.accuracy, "low": low, "high": high}
            )  # fmt: skip
    return found


def add_noise(sources: Sources, folder: Path, *, seed: int = 0, name: str = "noise") -> None:
    """Adds the control as a model: the first model's checkpoint with noise of NVFP4's squared error, in ``folder`` (written if need be).

    The noise has the error of the recipe that the first quantized model was made with ("nearest" without one).

    Raises:
        reset.ConfigError: ``folder`` holds noise of another checkpoint, seed or recipe.
    """
    import json

    base = next(iter(sources.models.values()))
    recipes: list[Any] = [model.describe().get("method") for model in sources.models.values()]
    method: Any = next((recipe for recipe in recipes if recipe is not None), "nearest")
    record = folder / "noise.json"
    if record.is_file():
        kept = json.loads(record.read_text(encoding="utf-8"))
        wanted = {"source": base.fingerprint, "seed": seed, "method": method}
        lines = differences({key: kept.get(key) for key in wanted}, wanted)
        if lines:
            raise ConfigError(f"{folder} holds other noise; take another folder for the output. What differs: {'; '.join(lines)}")
    else:
        noisy_checkpoint(base.folder, folder, seed=seed, method=method)
    weights = "bf16" if base.weights == "bf16" else "auto"  # F32 and F16 are kept as they are
    sources.models[name] = load(folder, weights=weights, activations="float", kv=base.kv, threads=base.core.threads)


def _before(name: str, names: Mapping[str, Any]) -> list[str]:
    listed = list(names)
    return listed[: listed.index(name)]


def _load(name: str, study: Study, wanted: Mapping[str, Any], checkpoints: Mapping[str, str | Path], threads: int | None) -> Model:
    path = checkpoints.get(name, checkpoints.get(""))
    if path is None:
        raise ValueError(
            f"arm {name!r}: the study does not say where its checkpoint lies; name the folder (--model DIR or --model {name}=DIR)"
        )
    record = study.plan.record["arms"][name]
    options = {key: record[key] for key in LOAD_OPTIONS if record.get(key) is not None and key != "model"}
    if options.get("calibration") not in (None, "dynamic") and not isinstance(options.get("calibration"), list):
        options.pop("calibration")  # of a model that was loaded beforehand, where it says how scales were found and not from what
    model = load(path, threads=threads, **options)
    described = {"fingerprint": model.fingerprint, **model.describe()}
    lines = differences({key: described.get(key) for key in wanted}, wanted)
    if lines:
        raise ConfigError(f"arm {name!r}: {path} is not the model that made the samples. What differs: {'; '.join(lines)}")
    return model


def _rule(result: EvalResult) -> Rule | None:
    """How an arm draws; None for policies that no record can make again."""
    identity = result.metadata
    if identity["policy"].get("policy") not in POLICIES:
        return None
    return Rule(from_dict(identity["policy"]), identity["top_k"], identity["top_p"], identity["min_p"])
