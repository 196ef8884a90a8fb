"""Options that several commands share, each with one spelling and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL = "Checkpoint directory, hub id, or tiny: the small reasoning model inside the package."

# How a model is loaded: `reset.load`.
Weights = Annotated[str, typer.Option(help="auto, bf16 or nvfp4.")]
Activations = Annotated[str, typer.Option(help="auto, float or nvfp4.")]
Method = Annotated[str, typer.Option(help="For --weights nvfp4: nearest, four_over_six or sweep.")]
LmHead = Annotated[str, typer.Option(help="auto, bf16 or nvfp4.")]
Kv = Annotated[str, typer.Option(help="auto, f32, bf16, fp8 or nvfp4.")]
Threads = Annotated[int | None, typer.Option(help="Threads of the decode pool; what the machine allows where left out.")]

# How tokens are drawn.
TopP = Annotated[float | None, typer.Option(help="Keep the most probable tokens up to this mass.")]
TopK = Annotated[int | None, typer.Option(help="Keep so many most probable tokens.")]
MinP = Annotated[float | None, typer.Option(help="Keep tokens at least this probable relative to the best.")]
Thinking = Annotated[bool | None, typer.Option(help="The chat template's enable_thinking.")]

# What is asked, and how.
Data = Annotated[Path | None, typer.Option(help="File or folder of the task's problems; else the Hugging Face hub.")]
BatchSize = Annotated[int | None, typer.Option(help="Sequences decoded together (8). No sample depends on it.")]
