"""Models of this package in EleutherAI's lm-evaluation-harness.

:class:`ResetLM` is a harness model, registered as ``reset`` when this module is imported (the harness finds no model by itself)::

    import lm_eval
    import reset.integrations.lm_eval

    lm_eval.simple_evaluate("reset", model_args="pretrained=DIR,weights=nvfp4,t_low=0.3,tau_0=0.5", tasks=["gsm8k"])

:func:`evaluate` does the same for loaded models and for tasks whose problems lie in local files; ``reset-nvfp4 eval --harness lm-eval``
is that function as a command. Needs lm-eval (``pip install 'reset-nvfp4[lm-eval]'``), and no torch.
"""

try:
    from reset.integrations.lm_eval.adapter import ResetLM
    from reset.integrations.lm_eval.harness import LOCAL_TASKS, LocalTask, evaluate, local_task
except ModuleNotFoundError as error:
    raise ImportError(f"reset.integrations.lm_eval needs {error.name}: pip install 'reset-nvfp4[lm-eval]'", name=error.name) from error

__all__ = ["LOCAL_TASKS", "LocalTask", "ResetLM", "evaluate", "local_task"]
