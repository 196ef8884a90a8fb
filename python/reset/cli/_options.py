"""Options that several commands share, each with one spelling, one help text and one shell completion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reset.cli._complete import a_preset, one_of

MODEL = "Checkpoint directory, hub id, or tiny: the small reasoning model inside the package."


# How a model is loaded: `reset.load`.
Weights = Annotated[str, typer.Option(help="auto, bf16 or nvfp4.", autocompletion=one_of("auto", "bf16", "nvfp4"))]
Activations = Annotated[str, typer.Option(help="auto, float or nvfp4.", autocompletion=one_of("auto", "float", "nvfp4"))]
METHODS = ("nearest", "four_over_six", "sweep")
Method = Annotated[str, typer.Option(help="For --weights nvfp4: nearest, four_over_six or sweep.", autocompletion=one_of(*METHODS))]
LmHead = Annotated[str, typer.Option(help="auto, bf16 or nvfp4.", autocompletion=one_of("auto", "bf16", "nvfp4"))]
Kv = Annotated[str, typer.Option(help="auto, f32, bf16, fp8 or nvfp4.", autocompletion=one_of("auto", "f32", "bf16", "fp8", "nvfp4"))]
Device = Annotated[str, typer.Option(help="auto (this machine's CPU), cpu, cuda or cuda:N.", autocompletion=one_of("auto", "cpu", "cuda"))]
Threads = Annotated[int | None, typer.Option(help="Threads of the decode pool; what the machine allows where left out.")]

# How tokens are drawn.
TLow = Annotated[float | None, typer.Option(help="ReSET: temperature of confident tokens.")]
Tau0 = Annotated[float | None, typer.Option(help="ReSET: base entropy threshold in nats.")]
THigh = Annotated[float | None, typer.Option(help="ReSET: temperature of uncertain tokens (1.0).")]
Window = Annotated[int | None, typer.Option(help="ReSET: tokens of the sliding window (32).")]
Preset = Annotated[
    str | None,
    typer.Option(
        help="ReSET as published for a model (Qwen/Qwen3-8B), or as calibrated: tiny, or a file of `calibrate`, with --t-low.",
        autocompletion=a_preset,
    ),
]
Temperature = Annotated[float | None, typer.Option(help="A fixed temperature; 0 is greedy.")]
TopP = Annotated[float | None, typer.Option(help="Keep the most probable tokens up to this mass (0 to 1).")]
TopK = Annotated[int | None, typer.Option(help="Keep so many most probable tokens.")]
MinP = Annotated[float | None, typer.Option(help="Keep tokens at least this probable relative to the best (0 to 1).")]
Thinking = Annotated[bool | None, typer.Option(help="The chat template's enable_thinking.")]

# What is asked, and how.
Data = Annotated[Path | None, typer.Option(help="File or folder of the task's problems; else the Hugging Face hub.")]
BatchSize = Annotated[int | None, typer.Option(help="Sequences decoded together (8). No sample depends on it.")]
Prompt = Annotated[
    str, typer.Option(help="boxed (with the instruction to box the answer) or plain.", autocompletion=one_of("boxed", "plain"))
]
