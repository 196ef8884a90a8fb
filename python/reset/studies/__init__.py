"""Studies: several arms on the same problems, compared as announced.

    plan.json ──hashed before the first sample──► arms, one after the other ──► contrasts (Holm) ──► report.md, .csv, .tex, viewer.html

- :mod:`reset.studies.plan`: arms, contrasts, and the hash that holds a study to them.
- :mod:`reset.studies.run`: :func:`reset.study`.
- :mod:`reset.studies.contrasts`: differences, adjusted p-values, interactions.
- :mod:`reset.studies.result`: :class:`Study`.
- :mod:`reset.studies.report`, :mod:`reset.studies.viewer`: what is read afterwards.
- :mod:`reset.studies.published`: a study without its samples, for readers to check.
- :mod:`reset.studies.placebos`: the temperatures of another arm, shuffled or averaged.
- :mod:`reset.studies.toml_plan`: :func:`load_plan`, a study written as TOML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reset.studies.placebos import GivenTemperatures, ReplayedTemperatures, mean_temperature
    from reset.studies.plan import Plan
    from reset.studies.result import Study
    from reset.studies.run import prepare, study
    from reset.studies.toml_plan import load_plan

_LAZY = {
    "GivenTemperatures": "placebos", "Plan": "plan", "ReplayedTemperatures": "placebos", "Study": "result", "load_plan": "toml_plan",
    "mean_temperature": "placebos", "prepare": "run", "study": "run",
}  # fmt: skip

__all__ = ["GivenTemperatures", "Plan", "ReplayedTemperatures", "Study", "load_plan", "mean_temperature", "prepare", "study"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'reset.studies' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"reset.studies.{_LAZY[name]}"), name)
