"""``python -m train_tiny``: train, evaluate on the tune split, write the checkpoint with its card."""

from __future__ import annotations

import argparse
import ast
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .recipe import PRESETS, Recipe

if TYPE_CHECKING:
    from types import FrameType

    from .train import Trainer


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; 0 when the training is complete, 3 when it was stopped before and can go on."""
    parser = argparse.ArgumentParser(prog="python -m train_tiny", description=__doc__)
    parser.add_argument("output", type=Path, help="folder of the run; one that exists is continued")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="another value for a field of the recipe, such as steps=500"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None, help="cpu or cuda; by default cuda where there is one")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--threads", type=int, default=None, help="of torch; on a busy CPU one is the fastest")
    parser.add_argument("--workers", type=int, default=1, help="processes that make documents")
    parser.add_argument("--micro-tokens", type=int, default=None, help="ids computed at once (2,048 on a CPU, 65,536 on CUDA)")
    parser.add_argument("--save-minutes", type=float, default=2.0)
    parser.add_argument("--stop-after", type=float, default=None, metavar="MINUTES", help="stop then; the same command goes on")
    parser.add_argument("--evaluate-minutes", type=float, default=15.0, help="minutes between evaluations on tune; 0 for none")
    parser.add_argument("--evaluate-problems", type=int, default=60, help="problems of each evaluation while training")
    parser.add_argument("--final-problems", type=int, default=1000, help="problems of the evaluation at the end; 0 for none")
    parser.add_argument("--measure-only", action="store_true", help="train nothing: evaluate the exported model again and write its card")
    options = parser.parse_args(arguments)
    if options.measure_only:
        return _finish(options)
    recipe = PRESETS[options.preset].changed(**dict(_setting(text, parser) for text in options.set))

    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.threads:
        torch.set_num_threads(options.threads)
    from .train import Trainer

    micro = options.micro_tokens or (2_048 if device == "cpu" else 65_536)
    trainer = Trainer(
        options.output, recipe, options.seed, device=device, precision=options.precision, micro_tokens=micro, workers=options.workers
    )
    print(f"recipe {recipe.name} {recipe.digest()}, seed {options.seed}: {recipe.sizes.parameters():,} weights")
    print(f"{trainer.precision} on {trainer.device}, step {trainer.step:,} of {recipe.steps:,}", flush=True)
    return _train(trainer, options)


def _train(trainer: Trainer, options: argparse.Namespace) -> int:
    from .card import evaluate_now, plot

    began = evaluated = time.monotonic()
    asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            sys.exit(130)
        asked = True
        print("stopping after this row of the log; once more ends at once", flush=True)

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)

    def stop() -> bool:
        return asked or (options.stop_after is not None and time.monotonic() - began > 60 * options.stop_after)

    def every() -> None:
        nonlocal evaluated
        if options.evaluate_minutes and time.monotonic() - evaluated > 60 * options.evaluate_minutes:
            print(evaluate_now(trainer, options.evaluate_problems), flush=True)
            plot(trainer.directory)
            evaluated = time.monotonic()

    done = trainer.run(stop=stop, every=every, save_minutes=options.save_minutes)
    plot(trainer.directory)
    if not done:
        print(f"stopped at step {trainer.step:,} of {trainer.recipe.steps:,}; the same command goes on", flush=True)
        return 3
    trainer.export()
    return _finish(options)


def _finish(options: argparse.Namespace) -> int:
    from .card import finish

    finish(options.output, options.final_problems, options.threads)
    print(f"done: {options.output / 'model'}", flush=True)
    return 0


def _setting(text: str, parser: argparse.ArgumentParser) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    known = {*Recipe.__dataclass_fields__, *type(Recipe().sizes).__dataclass_fields__, *type(Recipe().curriculum).__dataclass_fields__}
    if not equals or name not in known - {"sizes", "curriculum"}:
        parser.error(f"--set {text}: give NAME=VALUE with one of {', '.join(sorted(known - {'sizes', 'curriculum'}))}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


if __name__ == "__main__":
    sys.exit(main())
