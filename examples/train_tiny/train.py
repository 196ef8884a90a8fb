"""Training: one loop that can be killed at any moment and goes on as if nothing had happened.

A run is a folder::

    run.json           recipe, seed, precision, versions: what decides the weights; a folder is continued with equal values only
    tokenizer/         made once
    state.pt           weights, optimizer, moving average and the step: replaced as a whole every few minutes
    log.csv            one row for every `LOG_EVERY` steps
    evaluations.csv    accuracy on the tune split while training went on
    loss.png
    model/             the checkpoint: moving average in BF16, tokenizer, generation_config.json, MODEL_CARD.md
"""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import time
from typing import TYPE_CHECKING, Any

import torch

from .data import Batches, pieces, tokenizer_texts
from .model import Qwen3, write_weights
from .muon import Muon
from .tokenizer import END, END_OF_TEXT, train_tokenizer, write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokenizers import Tokenizer
    from torch import Tensor

    from .data import Document
    from .recipe import Recipe

LOG_EVERY = 20
COLUMNS = ("step", "documents", "tokens", "loss", "gradient", "learning_rate", "seconds")


def precision_of(device: str, wanted: str = "auto") -> str:
    """ "bfloat16" where the device multiplies it fast (CUDA; CPUs with AMX or AVX-512 BF16), else "float32": elsewhere it is far slower."""
    if wanted != "auto":
        return wanted
    if device == "cpu":
        abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return "bfloat16" if abilities.get("amx_bf16") or abilities.get("avx512_bf16") else "float32"
    return "bfloat16"


class Trainer:
    """A run in its folder: made new, or loaded from where it stopped.

    Args:
        directory: of the run.
        device: "cpu" or "cuda".
        precision: of the matrix products: "auto", "float32" or "bfloat16" (autocast; weights and optimizer stay float32).
        micro_tokens: ids computed at once; gradients of the pieces of a step are summed. Small pieces fit a core's cache.
        workers: processes that make documents.

    Raises:
        ValueError: the folder holds a run of another recipe or seed.
    """

    def __init__(
        self,
        directory: Path,
        recipe: Recipe,
        seed: int,
        *,
        device: str = "cpu",
        precision: str = "auto",
        micro_tokens: int = 2048,
        workers: int = 1,
    ) -> None:
        self.directory, self.recipe, self.seed = directory, recipe, seed
        self.device, self.micro_tokens, self.workers = device, micro_tokens, workers
        self.precision = precision_of(device, precision)
        self._claim()
        self.tokenizer = self._read_tokenizer()
        torch.manual_seed(seed)
        self.model = Qwen3(recipe.sizes).to(device)
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.optimizers = _optimizers(self.model, recipe)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        if self.state_file.exists():
            self._load()
        self._trim_log()

    @property
    def state_file(self) -> Path:
        return self.directory / "state.pt"

    def _claim(self) -> None:
        file = self.directory / "run.json"
        value = {"recipe": self.recipe.to_json(), "digest": self.recipe.digest(), "seed": self.seed, "precision": self.precision}
        if file.exists():
            found = json.loads(file.read_text(encoding="utf-8"))
            for key in value:
                if found[key] != value[key]:
                    raise ValueError(
                        f"{self.directory} holds a run with another {key}: {found[key]} there, {value[key]} here; use a new folder"
                    )
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        replace_text(file, json.dumps({**value, "torch": torch.__version__, "device": self._device_name()}, indent=2) + "\n")

    def _read_tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        folder = self.directory / "tokenizer"
        if not (folder / "generation_config.json").exists():  # the file that is written last
            made = train_tokenizer(tokenizer_texts(self.recipe), self.recipe.sizes.vocab)
            write_tokenizer(made, folder, max_positions=self.recipe.sizes.positions)
        return Tokenizer.from_file(str(folder / "tokenizer.json"))

    def run(self, *, stop: Callable[[], bool] = lambda: False, every: Callable[[], None] = lambda: None, save_minutes: float = 2.0) -> bool:
        """Trains to the last step, or until ``stop`` says so; ``every`` is called after each row of the log. True when done."""
        saved = time.perf_counter()
        with (
            Batches(self.recipe, self.seed, self.tokenizer, start=self.step, workers=self.workers) as batches,
            (self.directory / "log.csv").open("a", encoding="utf-8", newline="") as log,
        ):
            rows = csv.writer(log)
            if self.step == 0:
                rows.writerow(COLUMNS)
            losses: list[Tensor] = []  # read at the rows of the log only: reading waits for the device
            gradients: list[Tensor] = []
            began = time.perf_counter()
            for documents in batches:
                loss, gradient = self._one(documents)
                losses.append(loss)
                gradients.append(gradient)
                if self.step % LOG_EVERY and self.step < self.recipe.steps:
                    continue
                now = time.perf_counter()
                self.seconds += now - began
                rate = self.recipe.learning_rate(self.step - 1)
                mean, norm = (float(torch.stack(values).double().mean()) for values in (losses, gradients))
                rows.writerow(
                    (
                        self.step,
                        self.step * self.recipe.batch,
                        self.tokens,
                        f"{mean:.6f}",
                        f"{norm:.4f}",
                        f"{rate:.3e}",
                        f"{self.seconds:.1f}",
                    )
                )
                log.flush()
                if not math.isfinite(mean):
                    raise FloatingPointError(f"the loss is {mean} at step {self.step}: lower peak = {self.recipe.peak}")
                losses, gradients = [], []
                ending = stop() or self.step == self.recipe.steps
                if ending or now - saved > 60 * save_minutes:
                    self.save()
                    saved = now
                every()
                if ending:
                    break
                began = time.perf_counter()
        return self.step == self.recipe.steps

    def _one(self, documents: list[Document]) -> tuple[Tensor, Tensor]:
        """One optimizer step; loss in nats a counted token, and the norm of the gradient."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate(self.step)
        parts = list(pieces(documents, self.micro_tokens, self.recipe.prompt_weight))
        total = float(sum(weights[:, 1:].sum() for _, weights in parts))
        loss = torch.zeros((), device=self.device)
        for ids, weights in parts:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bfloat16"):
                part = self.model.loss_sum(torch.from_numpy(ids).to(self.device), torch.from_numpy(weights).to(self.device)) / total
            part.backward()
            loss += part.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += sum(len(document.ids) for document in documents)
        decay = min(self.recipe.average, self.step / (self.step + 10))  # early weights are forgotten fast
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.model.state_dict().values()), 1 - decay)
        return loss, norm.detach()

    def _device_name(self) -> str:
        """What computes, in words."""
        if self.device != "cpu":
            return torch.cuda.get_device_name()
        name = torch.cpu.get_capabilities().get("cpu_name") if hasattr(torch.cpu, "get_capabilities") else None
        return f"{name or platform.machine()} CPU, threads: {torch.get_num_threads()}"

    def save(self) -> None:
        """Replaces ``state.pt`` as a whole: a kill leaves the old one or the new one."""
        state = {
            "step": self.step, "tokens": self.tokens, "seconds": self.seconds, "model": self.model.state_dict(),
            "average": self.average, "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }  # fmt: skip
        partial = self.state_file.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.state_file)

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self.state_file, map_location=self.device, weights_only=True)
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)

    def _trim_log(self) -> None:
        """Drops rows of steps that the loaded state has not made: they come again."""
        for name in ("log.csv", "evaluations.csv"):
            file = self.directory / name
            if not file.exists():
                continue
            head, *rows = file.read_text(encoding="utf-8").splitlines(keepends=True) or [""]  # empty: killed before the first row
            kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= self.step]
            replace_text(file, "".join([head, *kept]) if self.step else "")

    def export(self, directory: Path | None = None, *, weights: dict[str, Tensor] | None = None) -> Path:
        """Writes the moving average as an HF checkpoint and returns its folder, ``model/`` by default."""
        folder = self.directory / "model" if directory is None else directory
        end_ids = self.tokenizer.token_to_id(END), self.tokenizer.token_to_id(END_OF_TEXT)
        write_weights(self.average if weights is None else weights, folder, self.recipe.sizes.config(end_ids=end_ids))
        write_tokenizer(self.tokenizer, folder, max_positions=self.recipe.sizes.positions)
        replace_text(folder / "recipe.json", (self.directory / "run.json").read_text(encoding="utf-8"))
        return folder


def _optimizers(model: Qwen3, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or for embedding and norms only, with Muon for the matrices between them.

    Muon's update has the root mean square that AdamW's typically has, so both share one learning rate.
    """
    inner = [p for name, p in model.named_parameters() if p.ndim > 1 and not name.startswith("embed")]
    embedding = [model.embed_tokens.weight]
    norms = [p for p in model.parameters() if p.ndim < 2]
    found: list[torch.optim.Optimizer] = []
    if recipe.optimizer == "muon":
        found.append(Muon(inner, recipe.peak, weight_decay=recipe.weight_decay))
        inner = []
    groups = [{"params": inner + embedding, "weight_decay": recipe.weight_decay}, {"params": norms, "weight_decay": 0.0}]
    return [*found, torch.optim.AdamW(groups, lr=recipe.peak, betas=(recipe.beta1, recipe.beta2), fused=True)]


def replace_text(file: Path, text: str) -> None:
    """Writes a file as a whole."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="")
    partial.replace(file)
