"""The guides of the integrations run, each where its engine is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("torch", "transformers", "vllm", "lm_eval")


def run_guide(name: str, replaced: dict[str, str]) -> dict[str, Any]:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    scope: dict[str, Any] = {}
    for block in blocks:
        for old, new in replaced.items():
            block = block.replace(old, new)
        exec(compile(block, name, "exec"), scope)
    return scope


@pytest.mark.filterwarnings("ignore")  # of the libraries, about themselves
def test_the_python_of_the_transformers_guide_runs(demo_bf16: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra transformers")
    pytest.importorskip("transformers", reason="needs the extra transformers")
    torch.set_num_threads(1)
    scope = run_guide("transformers.md", {'"OUT"': repr(str(demo_bf16))})
    assert len(scope["done"].replaced) == 28
    assert scope["out"].shape[0] == 4


@pytest.mark.filterwarnings("ignore")
def test_the_python_of_the_lm_eval_guide_runs(shared: Path) -> None:
    pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
    scope = run_guide("lm-eval.md", {'"OUT"': repr(str(shared / "models" / "stories260K")), '"DATA"': repr(str(shared / "data"))})
    assert scope["found"]["n-samples"]["gsm8k_local"]["effective"] == 2


def test_the_integrations_cost_nothing_until_they_are_asked_for() -> None:
    code = "import sys, reset.integrations, reset.cli; print(' '.join(name.partition('.')[0] for name in sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())
    assert not loaded & set(ENGINES)
