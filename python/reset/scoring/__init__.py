r"""Scoring: was the final answer of a generated text right?

>>> from reset.scoring import score
>>> s = score("number", "<think>16 - 7 = 9</think> 9 eggs at \\$2: \\boxed{18}", "9 * 2 = <<9*2=18>>18\n#### 18")
>>> s.correct, s.parsed, s.answer, s.source
(True, True, '18', 'boxed')

``extract`` finds the answer, ``exact`` compares numbers, ``judge`` decides and asks math-verify (in ``worker``, a process of its own,
see ``process``) where numbers do not suffice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reset.scoring.judge import SCORERS, Judge, Score

if TYPE_CHECKING:
    from reset.tasks import Task

__all__ = ["SCORERS", "Judge", "JudgeCache", "Score", "judge_cache", "score"]


class JudgeCache:
    """One judge per scorer for :func:`score`, made at first use and kept until :meth:`close`."""

    def __init__(self) -> None:
        self._judges: dict[str, Judge] = {}

    def get(self, scorer: str) -> Judge:
        """The judge of ``scorer``."""
        judge = self._judges.get(scorer)
        if judge is None:
            judge = self._judges.setdefault(scorer, Judge(scorer))
        return judge

    def close(self) -> None:
        """Ends the worker of every judge and lets go of them."""
        while self._judges:
            self._judges.popitem()[1].close()

    def __len__(self) -> int:
        return len(self._judges)


judge_cache = JudgeCache()


def score(task: str | Task, generated_text: str, reference: str, thinking_open: bool = False) -> Score:
    r"""Scores one generated text. In a loop the worker of the "math" scorer is kept (``reset.scoring.judge_cache.close()`` ends it).

    Args:
        task: A task or its name; only its scorer matters. Or a scorer: "number" or "math".
        generated_text: What the model wrote, thoughts included.
        reference: The expected answer: plain, in a box, or a whole GSM8K solution ("… #### 18").
        thinking_open: Whether the prompt ended inside a thought, so that the text begins in one.

    Raises:
        ValueError: an unknown task.
        ImportError: a task whose scorer is "math", without math-verify.
        ScoringError: a reference that the scorer cannot read.
    """
    return judge_cache.get(_scorer_of(task)).score(generated_text, reference, thinking_open)


def _scorer_of(task: str | Task) -> str:
    if isinstance(task, str):
        if task in SCORERS:
            return task
        from reset.tasks import get_task

        return get_task(task).scorer
    scorer = getattr(task, "scorer", None)
    if not isinstance(scorer, str):
        raise TypeError(f"task: expected a Task or its name, found {type(task).__name__}")
    return scorer
