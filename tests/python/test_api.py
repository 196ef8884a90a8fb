"""The public surface: names, parameters and defaults that others write against."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import reset

REQUIRED = inspect.Parameter.empty

SIGNATURES: dict[str, dict[str, Any]] = {
    "load": {
        "weights": "auto", "activations": "auto", "method": "nearest", "lm_head": "auto", "kv": "auto", "calibration": None,
        "device": "auto", "threads": None, "revision": None, "local_files_only": False,
    },
    "quantize": {
        "src": REQUIRED, "dst": REQUIRED, "format": "modelopt", "method": "nearest", "activations": "nvfp4", "kv": None,
        "calibration": None, "ignore": ("lm_head",),
    },
    "generate": {
        "model": REQUIRED, "prompt": REQUIRED, "policy": None, "max_new_tokens": 512, "n": 1, "seed": None, "top_p": None, "top_k": None,
        "min_p": None, "stop": (), "chat": "auto", "thinking": None, "ignore_eos": False, "progress": False,
    },
    "evaluate": {
        "model": REQUIRED, "task": REQUIRED, "policy": None, "split": "test", "n_samples": 1, "limit": None, "seed": 0,
        "max_new_tokens": None, "top_p": None, "top_k": None, "min_p": None, "prompt": "boxed", "thinking": None, "batch_size": None,
        "output_dir": None, "resume": True, "progress": True, "traces": False, "data": None,
    },
    "compare": {"a": REQUIRED, "b": REQUIRED},
    "score": {"task": REQUIRED, "generated_text": REQUIRED, "reference": REQUIRED, "thinking_open": False},
    "calibrate": {
        "model": REQUIRED, "task": None, "prompts": None, "split": "calibration", "problems": 5, "max_new_tokens": 4096, "temperature": 0.6,
        "percentile": 80, "distribution": "raw", "seed": 42,
    },
    "tune": {"model": REQUIRED, "task": REQUIRED, "policies": REQUIRED, "split": "tune"},
    "study": {"model": REQUIRED, "task": REQUIRED, "arms": REQUIRED},
    "power": {"baseline": REQUIRED, "difference": None},  # None: the smallest one that is detected
    "score_trace": {"model": REQUIRED, "token_ids": REQUIRED},
}  # fmt: skip

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "Model": ("logits", "footprint"),
    "EvalResult": ("accuracy", "ci95", "pass_at", "majority_at", "counts", "to_pandas", "save", "load", "merge"),
    "Comparison": ("difference", "ci95", "p_value", "mde", "verdict"),
    "Trace": ("to_pandas", "plot", "save", "load"),
    "Controller": ("step", "snapshot", "restore", "reset"),
    "Generation": ("tokens_per_second",),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_and_defaults(name: str) -> None:
    parameters = inspect.signature(getattr(reset, name)).parameters
    for parameter, default in SIGNATURES[name].items():
        assert parameter in parameters, f"{name} has no {parameter}"
        assert parameters[parameter].default == default, parameter


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes(name: str) -> None:
    for attribute in ATTRIBUTES[name]:
        assert hasattr(getattr(reset, name), attribute), attribute


def test_every_public_name_exists_and_is_listed_once_in_order() -> None:
    assert all(getattr(reset, name) is not None for name in reset.__all__)
    assert sorted(set(reset.__all__)) == sorted(reset.__all__)
    assert set(reset.__all__) <= set(dir(reset))


def test_every_error_is_below_the_base() -> None:
    for name in ("CheckpointError", "FormatError", "DeviceError", "ConfigError", "ScoringError"):
        assert issubclass(getattr(reset, name), reset.Error)
    assert issubclass(reset.Interrupted, KeyboardInterrupt)


def test_importing_submodules_leaves_the_functions_in_place() -> None:
    import importlib
    import pkgutil

    missing: dict[str, str | None] = {}
    for module in pkgutil.walk_packages(reset.__path__, prefix="reset."):
        if not module.name.endswith("__main__") and "pytest" not in module.name and ".worker" not in module.name:
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                missing[module.name] = error.name
    for importer, package in missing.items():  # adapters for packages that need not be there
        assert importer.startswith("reset.integrations."), importer
        assert package in ("torch", "transformers", "vllm", "lm_eval"), importer
    for name in SIGNATURES:
        assert inspect.isfunction(getattr(reset, name)), f"reset.{name} was replaced by a module"
