"""Evaluation: a task's problems, samples of a model, graded answers, and what they say.

    task ──problems──► run ──one JSON line per sample──► store ──rows──► EvalResult ──► accuracy, intervals, comparisons
                        │
            session of the core (sequences join and leave) ──► text ──► scoring

- :mod:`reset.evaluation.identity`: what has to agree before two samples may lie in one result.
- :mod:`reset.evaluation.store`: the folder of a run; survives being killed at any moment.
- :mod:`reset.evaluation.run`: :func:`reset.evaluate`.
- :mod:`reset.evaluation.result`: rows and :class:`reset.EvalResult`.
- :mod:`reset.evaluation.comparison`: :func:`reset.compare`.
"""
