"""Reasoning language models in NVFP4: codec, checkpoints, a decode engine, and the ReSET temperature policy.

>>> import reset
>>> model = reset.load("tiny")  # the small reasoning model inside this package; else a folder or a hub id
>>> question = "Ben has 47 apples. Mia has 38 apples more than Ben. How many apples does Mia have?"
>>> g = reset.generate(model, question, policy=reset.ReSET(t_low=0.3, tau_0=0.5), seed=0)
>>> len(g.token_ids) == len(g.trace.entropy) == len(g.trace.temperature), sorted(set(g.trace.temperature.tolist()))
(True, [0.3, 1.0])

Importing this package loads numpy and the Rust core only; tokenizers, templates and plots are loaded by what needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reset import _clash

_clash.check()

from reset import nvfp4, policies, sampling  # noqa: E402  (a foreign package under our name must be named before anything else fails)
from reset._core import __version__  # noqa: E402
from reset.errors import CheckpointError, ConfigError, DeviceError, Error, FormatError, ScoringError  # noqa: E402
from reset.policies import (  # noqa: E402
    BatchController,
    Controller,
    EntropyThreshold,
    FixedTemperature,
    Greedy,
    Policy,
    ReSET,
)
from reset.types import Generation, Interrupted, Step, Trace  # noqa: E402

if TYPE_CHECKING:
    from reset.boundaries import step_boundaries
    from reset.calibration import Calibration, calibrate
    from reset.checkpoint import inspect, quantize
    from reset.evaluation.comparison import Comparison, compare
    from reset.evaluation.result import EvalResult
    from reset.evaluation.run import evaluate
    from reset.generation import generate, score_trace, stream
    from reset.model import Model, load, model_cache
    from reset.scoring import Judge, Score, score
    from reset.statistics import power
    from reset.studies.result import Study
    from reset.studies.run import study
    from reset.tasks import Problem, Task
    from reset.tuning import Tuning, tune

_LAZY = {
    "Comparison": "reset.evaluation.comparison",
    "Calibration": "reset.calibration",
    "EvalResult": "reset.evaluation.result",
    "Judge": "reset.scoring",
    "Model": "reset.model",
    "Problem": "reset.tasks",
    "Score": "reset.scoring",
    "Study": "reset.studies.result",
    "Task": "reset.tasks",
    "Tuning": "reset.tuning",
    "calibrate": "reset.calibration",
    "compare": "reset.evaluation.comparison",
    "evaluate": "reset.evaluation.run",
    "generate": "reset.generation",
    "inspect": "reset.checkpoint",
    "load": "reset.model",
    "model_cache": "reset.model",
    "power": "reset.statistics",
    "quantize": "reset.checkpoint",
    "score": "reset.scoring",
    "score_trace": "reset.generation",
    "step_boundaries": "reset.boundaries",
    "stream": "reset.generation",
    "study": "reset.studies.run",
    "tune": "reset.tuning",
}

__all__ = [
    "BatchController",
    "Calibration",
    "CheckpointError",
    "Comparison",
    "ConfigError",
    "Controller",
    "DeviceError",
    "EntropyThreshold",
    "Error",
    "EvalResult",
    "FixedTemperature",
    "FormatError",
    "Generation",
    "Greedy",
    "Interrupted",
    "Judge",
    "Model",
    "Policy",
    "Problem",
    "ReSET",
    "Score",
    "ScoringError",
    "Step",
    "Study",
    "Task",
    "Trace",
    "Tuning",
    "__version__",
    "calibrate",
    "compare",
    "evaluate",
    "generate",
    "inspect",
    "load",
    "model_cache",
    "nvfp4",
    "policies",
    "power",
    "quantize",
    "sampling",
    "score",
    "score_trace",
    "step_boundaries",
    "stream",
    "study",
    "tune",
]


#: Subpackages that come into being when first named: ``reset.tasks.get_task`` works after ``import reset``.
_SUBPACKAGES = ("analysis", "calibration", "evaluation", "plots", "scoring", "statistics", "studies", "tasks", "tuning")


def __getattr__(name: str) -> Any:
    import importlib

    if name in _SUBPACKAGES:
        return importlib.import_module(f"reset.{name}")
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'reset' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_LAZY) | set(_SUBPACKAGES))
