"""Tasks: problems with reference answers, in splits that share nothing.

>>> from reset.tasks import TASKS, get_task
>>> sorted(TASKS)
['aime2022', 'aime2023', 'aime2024', 'aime2025', 'arithmetic', 'arithmetic-hard', 'gsm8k', 'math500', 'svamp']
>>> get_task("arithmetic").problems("test", limit=1)[0].id
'test-0'

``base`` defines :class:`Problem` and :class:`Task`, ``files`` reads rows, and every task has a module of its own: to add one, write
``<name>.py``, a line in :data:`TASKS` and one in ``_make``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reset.tasks.arithmetic.task import levels_named
from reset.tasks.base import INSTRUCTION, PROMPTS, Problem, Task, fingerprint, split_of

if TYPE_CHECKING:
    import os

__all__ = ["INSTRUCTION", "PROMPTS", "TASKS", "Problem", "Task", "fingerprint", "get_task", "split_of"]

TASKS: dict[str, str] = {
    "gsm8k": "grade-school word problems of several steps (1,319 to test; from files or the hub)",
    "math500": "competition problems of five levels (500 to test; from files or the hub)",
    "aime2022": "AIME I and II of 2022 (30, test only; from a file or the hub)",
    "aime2023": "AIME I and II of 2023 (30, test only; from a file or the hub)",
    "aime2024": "AIME I and II of 2024 (30, test only; from a file or the hub)",
    "aime2025": "AIME I and II of 2025 (30, test only; from a file or the hub)",
    "svamp": "one-step word problems with misleading surroundings (1,000, test only; from a file or the hub)",
    "arithmetic": "generated word problems of one to six steps with gold traces (built in; arithmetic-l1-3: levels 1 to 3 alone)",
    "arithmetic-hard": "generated word problems of five and six steps, more distractors (built in, needs no files)",
}
"""Built-in tasks: name → one sentence."""


def get_task(task: str | Task, *, data: str | os.PathLike[str] | None = None) -> Task:
    """A built-in task by its name; a :class:`Task` passes as it is.

    Args:
        task: a name in :data:`TASKS`, ``"arithmetic-l3"`` or ``"arithmetic-l1-3"`` for some levels alone, or a task.
        data: a file, or a folder with files of the known names; None takes them from the Hugging Face hub. Files are read when problems
            are asked for.

    Raises:
        ValueError: no such task (the message lists those there are), or ``data`` for a task that reads no files.
        FileNotFoundError: ``data`` does not exist.
    """
    if isinstance(task, Task):
        if data is not None:
            raise ValueError(f"data={data!r} belongs to a built-in task's name, but task is {task!r} already")
        return task
    if not isinstance(task, str):
        raise TypeError(f"task is {type(task).__name__}: give a name ({', '.join(TASKS)}) or a reset.Task")
    if task not in TASKS and levels_named(task) is None:
        raise ValueError(f"no task {task!r}: use one of {', '.join(TASKS)}, or make your own with reset.Task(name, rows)")
    return _make(task, data)


def _make(name: str, data: str | os.PathLike[str] | None) -> Task:
    from pathlib import Path

    if name.startswith("arithmetic"):
        if data is not None:
            raise ValueError(f"task {name!r} is generated and reads no files: leave data out")
        from reset.tasks.arithmetic import HARD, Arithmetic

        levels = levels_named(name)
        return Arithmetic(levels=levels) if levels else Arithmetic(**HARD) if name == "arithmetic-hard" else Arithmetic()
    if data is not None and not Path(data).expanduser().exists():
        raise FileNotFoundError(f"task {name!r}: data={data}: no such file or folder")
    if name.startswith("aime"):
        from reset.tasks.aime import AIME

        return AIME(int(name.removeprefix("aime")), data)
    if name == "gsm8k":
        from reset.tasks.gsm8k import GSM8K

        return GSM8K(data)
    if name == "math500":
        from reset.tasks.math500 import Math500

        return Math500(data)
    from reset.tasks.svamp import SVAMP

    return SVAMP(data)
