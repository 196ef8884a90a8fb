"""Runs the study of ``test_study_run`` in a process that can be killed: ``python study_child.py MODEL FOLDER``."""

from __future__ import annotations

import sys
from typing import Any

import reset


def task() -> reset.Task:
    rows = [{"question": f"What is {i} + {j}?", "answer": i + j} for i in range(3) for j in range(4)]
    return reset.Task("sums", rows, scorer="number")


#: Placebos first, so that the order of running is not the order of the plan.
ARMS: dict[str, dict[str, Any]] = {
    "mean": {"weights": "nvfp4", "policy": {"policy": "mean-temperature", "arm": "reset"}},
    "bf16": {"policy": reset.FixedTemperature(0.6)},
    "reset": {"weights": "nvfp4", "policy": {"policy": "reset", "t_low": 0.3, "tau_0": 2.0, "window": 8}},
    "shuffled": {"weights": "nvfp4", "policy": {"policy": "replayed", "arm": "reset"}},
}
OPTIONS: dict[str, Any] = {
    "contrasts": [("bf16", "reset"), ("shuffled", "reset")], "exploratory": [("mean", "reset")],
    "interactions": [(("bf16", "reset"), ("bf16", "shuffled"))], "n_samples": 2, "max_new_tokens": 40, "progress": False,
}  # fmt: skip


if __name__ == "__main__":
    reset.study(sys.argv[1], task(), ARMS, output_dir=sys.argv[2], **OPTIONS)
