"""Runs of the harness's own tasks, on problems from its data sets or from local files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import lm_eval.tasks
from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from reset.integrations.lm_eval.adapter import ResetLM
from reset.tasks import gsm8k, math500

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from reset.model import Model
    from reset.tasks.files import Source


@dataclass(frozen=True)
class LocalTask:
    """A task of the harness whose rows may come from files.

    Attributes:
        task: its name in the harness.
        definition: the harness's own file about it, below its folder of tasks.
        sources: split → the files that hold it.
    """

    task: str
    definition: str
    sources: Mapping[str, Source]


_MATH500 = LocalTask("hendrycks_math500", "hendrycks_math/hendrycks_math500.yaml", {"test": math500.MATH500})

#: By the names of this package's tasks and of the harness's. Prompts and scoring stay the harness's.
LOCAL_TASKS: dict[str, LocalTask] = {
    "gsm8k": LocalTask("gsm8k", "gsm8k/gsm8k.yaml", {"test": gsm8k.TEST, "train": gsm8k.TRAIN}),
    "math500": _MATH500,
    "hendrycks_math500": _MATH500,
    "minerva_math500": LocalTask("minerva_math500", "minerva_math/minerva_math500.yaml", {"test": math500.MATH500}),
}


def local_task(name: str, data: str | os.PathLike[str]) -> dict[str, Any]:
    """A task file of the harness, as a dict: its own task ``name``, with the rows in ``data``, a folder or the file of the test split.

    Written as YAML (or JSON) into a folder that a ``TaskManager`` includes, it is the task ``name_local``.

    Raises:
        ValueError: a task that is not in ``LOCAL_TASKS``.
        FileNotFoundError: none of the files that the task knows.
    """
    found = LOCAL_TASKS.get(name)
    if found is None:
        raise ValueError(f"{name!r} has no local files; {', '.join(LOCAL_TASKS)} have (a task file of your own: `dataset_path: json`)")
    files = {split: [str(path) for path in source.paths(_place(data, split), name)] for split, source in found.sources.items()}
    return {
        "include": str(Path(lm_eval.tasks.__file__).parent / found.definition),
        "task": f"{found.task}_local", "dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files},
    }  # fmt: skip


def _place(data: str | os.PathLike[str], split: str) -> Path:
    """A file is the test split's; what else a task needs lies beside it."""
    path = Path(data).expanduser()
    return path.parent if path.is_file() and split != "test" else path


def evaluate(
    model: Model | str | os.PathLike[str] | ResetLM,
    tasks: str | Sequence[str],
    *,
    data: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    apply_chat_template: bool | str = False,
    gen_kwargs: Mapping[str, Any] | None = None,
    use_cache: str | os.PathLike[str] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Runs tasks of the harness and returns its results: ``["results"][task]["exact_match,strict-match"]`` and so on.

    Args:
        model: a loaded model, a path or hub id, or a :class:`ResetLM`.
        tasks: names of tasks, the harness's or those of ``LOCAL_TASKS``.
        data: folder or file with the problems; the harness's own data sets (from the hub) where left out.
        limit: the first so many problems.
        num_fewshot: examples in the prompt; the task's where left out.
        apply_chat_template: render prompts with the model's chat template.
        gen_kwargs: over the task's settings: ``{"max_gen_toks": 1024}``.
        use_cache: path of the harness's cache of answers. It knows requests and not models: one file per model and policy.
        output_dir: folder for the harness's result files, every sample included.
        options: of :class:`ResetLM`.
    """
    lm = model if isinstance(model, ResetLM) else ResetLM(model, **options)  # type: ignore[arg-type]
    if isinstance(model, ResetLM) and options:
        raise ValueError(f"{', '.join(options)}: options of ResetLM, and model is one already")
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    tracker = None if output_dir is None else EvaluationTracker(output_path=str(output_dir))
    with TemporaryDirectory() as folder:
        if data is None:
            manager, chosen = None, [LOCAL_TASKS[name].task if name in LOCAL_TASKS else name for name in names]
        else:
            configurations = [local_task(name, data) for name in names]
            for configuration in configurations:
                path = Path(folder) / f"{configuration['task']}.yaml"
                path.write_text(json.dumps(configuration), encoding="utf-8")
            chosen = [str(configuration["task"]) for configuration in configurations]
            manager = TaskManager(include_path=folder, include_defaults=False)
        found: dict[str, Any] = simple_evaluate(
            lm, tasks=chosen, task_manager=manager, limit=limit, num_fewshot=num_fewshot, apply_chat_template=apply_chat_template,
            gen_kwargs=None if gen_kwargs is None else dict(gen_kwargs), use_cache=None if use_cache is None else str(use_cache),
            evaluation_tracker=tracker, log_samples=True, bootstrap_iters=1000,
        )  # fmt: skip
    if tracker is not None:
        samples = found["samples"]
        tracker.save_results_aggregated(results={k: v for k, v in found.items() if k != "samples"}, samples=samples)
        for name in samples:
            tracker.save_results_samples(task_name=name, samples=samples[name])
    return found
