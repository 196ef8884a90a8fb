"""Sampling for a calibration, problem by problem kept: what :func:`reset.calibrate` runs.

Problems are decoded together, and each one's entropies are appended to ``<output>.partial.jsonl`` when it ends. The draws of a problem
depend on its prompt and the seed alone, so the ones that are missing after an interruption come out as they would have.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from reset._options import Options
from reset._processed import processed_entropy
from reset._progress_bar import progress_bar
from reset._sequences import Run
from reset.errors import ConfigError
from reset.policies import FixedTemperature
from reset.types import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from reset._sequences import Collector, Prompt
    from reset.model import Model
    from reset.types import Generation

FORMAT = "reset-calibration-partial-1"


class Measurement:
    """Token entropies of sampled outputs of some prompts."""

    def __init__(
        self, model: Model, prompts: list[Prompt], *, distribution: str, temperature: float, max_new_tokens: int, seed: int,
        top_p: float | None, top_k: int | None, min_p: float | None, thinking: bool | None, batch_size: int,
    ) -> None:  # fmt: skip
        if distribution == "processed" and not temperature > 1e-6:
            raise ValueError(f"temperature = {temperature} is greedy, and a single token has no entropy: use distribution='raw'")
        self.model = model
        self.distribution = distribution
        self.temperature = temperature
        self.options = Options.make(
            model, policy=FixedTemperature(temperature), max_new_tokens=max_new_tokens, n=1, seed=seed, top_p=top_p, top_k=top_k,
            min_p=min_p, stop=(), chat="auto", thinking=thinking, ignore_eos=False, boundary="ids", batch_size=batch_size,
        )  # fmt: skip
        self.prompts = [self.options.encode(prompt) for prompt in prompts]
        first: dict[tuple[int, ...], int] = {}
        for index, ids in enumerate(self.prompts):
            if first.setdefault(tuple(ids), index) != index:
                raise ValueError(f"prompts {first[tuple(ids)]} and {index} are the same: the same seed would draw the same output twice")
        self._tokens: dict[int, int] = {}
        self._reasons: dict[int, str | None] = {}

    def describe(self, source: dict[str, Any]) -> dict[str, Any]:
        """Model, options, problems, and what became of them, as JSON values."""
        outputs = [{"tokens": self._tokens[i], "finish_reason": self._reasons[i]} for i in sorted(self._tokens)]
        return {**self.identity(source), "outputs": outputs}

    def identity(self, source: dict[str, Any]) -> dict[str, Any]:
        """What decides the entropies."""
        options = self.options.describe()
        del options["stop"], options["boundary"], options["ignore_eos"]
        digest = hashlib.sha256(json.dumps(self.prompts).encode()).hexdigest()
        return {
            **self.model.describe(), "fingerprint": self.model.fingerprint, **options, "distribution": self.distribution, **source,
            "prompts_sha256": digest,
        }  # fmt: skip

    def run(self, output: Path | None, source: dict[str, Any], *, progress: bool) -> list[NDArray[np.float64]]:
        """Entropies in nats of each output; those found in the partial file of ``output`` are not made again."""
        partial = None if output is None else Partial(partial_file(output), self.identity(source))
        found: dict[int, NDArray[np.float64]] = {}
        for record in [] if partial is None else partial.records:
            self._keep(found, record)
        missing = [i for i in range(len(self.prompts)) if i not in found]
        if missing:
            run = Run(self.model, [self.prompts[i] for i in missing], self.options)
            collectors = run.collectors()
            try:
                for row in _finished(run, collectors, progress=progress, of=len(self.prompts)):
                    generation = collectors[row].generation()
                    entropies = self._entropies(generation).tolist()
                    record = {"problem": missing[row], "finish_reason": generation.finish_reason, "entropies": entropies}
                    self._keep(found, record)
                    if partial is not None:
                        partial.append(record)
            except KeyboardInterrupt as interrupt:
                message = f"interrupted with {len(found)} of {len(self.prompts)} problems finished"
                if partial is not None:
                    message += f"; they are kept in {partial.path}, and the same call goes on from there"
                raise Interrupted([c.generation() for c in collectors], message) from interrupt
        return [found[i] for i in range(len(self.prompts))]

    def _keep(self, found: dict[int, NDArray[np.float64]], record: dict[str, Any]) -> None:
        index = int(record["problem"])
        found[index] = np.array(record["entropies"], dtype=np.float64)
        self._tokens[index] = len(found[index])
        self._reasons[index] = record["finish_reason"]

    def _entropies(self, generation: Generation) -> NDArray[np.float64]:
        if self.distribution == "raw":
            return generation.trace.entropy
        prompt, produced, options = generation.prompt_token_ids, generation.token_ids, self.options
        # Row t of the logits is the distribution of token t + 1; the last produced token has no successor.
        logits = self.model.logits([*prompt, *produced[:-1]])[len(prompt) - 1 :]
        return processed_entropy(
            logits, self.temperature, top_k=options.top_k, top_p=options.top_p, min_p=options.min_p, banned=options.banned
        )

    def discard_partial(self, output: Path) -> None:
        """Removes what is no longer needed once ``output`` is written."""
        partial_file(output).unlink(missing_ok=True)


def _finished(run: Run, collectors: list[Collector], *, progress: bool, of: int) -> Iterator[int]:
    """Rows in the order in which they end, with a progress bar."""
    with progress_bar(show=progress, total=of, initial=of - len(collectors), unit="problem", desc="calibrate") as bar:
        for count, (row, step) in enumerate(run, start=1):
            collectors[row].add(step)
            if step.finish_reason is not None:
                yield row
                bar.update()
            if count % 16 == 0:
                bar.set_postfix_str(f"{count} tokens, {count / max(bar.format_dict['elapsed'], 1e-9):.1f} tokens/s")


def partial_file(output: Path) -> Path:
    """Where finished problems are kept until ``output`` is written."""
    return output.with_name(output.name + ".partial.jsonl")


class Partial:
    """Finished problems of a calibration that has not ended: a line with its identity, then a line for each problem."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        header = json.dumps({"format": FORMAT, "identity": identity}, ensure_ascii=False, sort_keys=True)
        content = path.read_bytes() if path.is_file() else b""
        # A killed process leaves a torn last line at worst: its problem was not finished.
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.decode("utf-8", "replace").splitlines()
        if lines and lines[0] != header:
            raise ConfigError(
                f"{path}: holds a calibration of another model, or with other problems or options, that was interrupted. Repeat that call "
                "to finish it, or give another output, or delete the file"
            )
        try:
            self.records = [json.loads(line) for line in lines[1:]]
        except ValueError as error:
            raise ConfigError(f"{path}: damaged ({error}); delete it to start over") from error
        with explained(path), path.open("r+b" if content else "wb") as file:
            file.truncate(len(whole))
            if not whole:
                file.write(header.encode() + b"\n")

    def append(self, record: dict[str, Any]) -> None:
        """Adds a finished problem."""
        with explained(self.path), self.path.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of writing, in words that say what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: the folder {path.absolute().parent} does not exist; make it, or name another output=") from error
    except PermissionError as error:
        raise PermissionError(f"{path}: this folder cannot be written; name a file of your own with output=") from error
    except OSError as error:
        raise OSError(error.errno, f"{path}: could not be written ({error.strerror}); name another file with output=") from error
