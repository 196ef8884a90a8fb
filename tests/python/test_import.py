"""``import reset`` is light: what it does not need is imported where it is used."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "IPython", "huggingface_hub", "jinja2", "matplotlib", "pandas", "rich", "safetensors", "scipy", "tokenizers", "torch", "tqdm",
    "transformers", "typer", "vllm",
}  # fmt: skip


def test_import_loads_numpy_and_the_core_only() -> None:
    code = "import sys, reset; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    loaded = set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())
    assert {"reset", "numpy"} <= loaded
    assert not loaded & HEAVY
