"""Training documents: generated problems with gold reasoning, as token ids, in an order that the recipe and the seed decide.

    stream of problems ──► prompt, response ──► ids ──► shard: the documents of `shard` consecutive steps

A shard is a pure function of recipe, seed and its index. So a run that was killed goes on with the very documents that come next, however
many worker processes there are, and a step can be made again alone.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import re
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reset.tasks.arithmetic import Arithmetic, stream

from .tokenizer import END, user_turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from reset.tasks import Problem

    from .recipe import Recipe

TASK = Arithmetic()

STREAMS = 1_000_000
"""Streams of problems for each seed: shard ``i`` of seed ``s`` reads stream ``s · STREAMS + i``."""


RECALL = "Please repeat the facts in any order."
"""What a prompt for :func:`recalled` ends with."""


class Document(NamedTuple):
    """One problem with one response."""

    ids: NDArray[np.int16]
    prompt: int  # the first so many ids are the prompt
    level: int


def texts(problem: Problem, *, plain: bool = False) -> tuple[str, str]:
    """Prompt and response of a problem, as the chat template and the model write them."""
    if problem.solution is None:
        raise ValueError(f"problem {problem.id!r} has no solution to train on")
    thinking, _, final = problem.solution.rpartition("\n\n")
    prompt = TASK.prompt(problem, "plain" if plain else "boxed")
    return user_turn(prompt), f"{thinking}\n</think>\n\n{final}{END}"


def recalled(problem: Problem, chance: random.Random) -> tuple[str, str]:
    """Prompt and response of a document that says the facts of a problem again, in any order: practice in looking up."""
    facts = re.split(r"(?<=\.) ", problem.question)[:-1]  # the last sentence asks
    chance.shuffle(facts)
    return user_turn(f"{problem.question}\n\n{RECALL}"), " ".join(facts) + f"\n</think>{END}"


def tokenizer_texts(recipe: Recipe) -> Iterator[str]:
    """What the tokenizer is trained on: problems of the train split as the end of the curriculum has them; the same for every seed."""
    problems = itertools.islice(stream("train", STREAMS - 1, **recipe.curriculum.at(1.0)), recipe.tokenizer_documents)
    chance = random.Random(0)
    for problem in problems:
        plain = chance.random() < recipe.plain
        thinking, _, final = str(problem.solution).rpartition("\n\n")
        # The added token </think> parts the thought from the blank line after it.
        yield from (TASK.prompt(problem, "plain" if plain else "boxed"), thinking + "\n", "\n\n" + final)


def make_shard(recipe: Recipe, seed: int, index: int, tokenizer: Tokenizer) -> list[Document]:
    """The documents of steps ``index · shard`` to ``(index + 1) · shard − 1``, in order."""
    if not 0 <= index < STREAMS - 1:
        raise ValueError(f"shard {index}: shards are counted from 0 to {STREAMS - 2}")
    progress = index * recipe.shard / recipe.steps
    options, recall = recipe.curriculum.at(progress), recipe.curriculum.recall(progress)
    problems = itertools.islice(stream("train", seed * STREAMS + index, **options), recipe.shard * recipe.batch)
    chance = random.Random(seed * STREAMS + index)
    found = []
    for problem in problems:
        plain = chance.random() < recipe.plain
        pair = recalled(problem, chance) if chance.random() < recall else texts(problem, plain=plain)
        prompt, response = (tokenizer.encode(text).ids for text in pair)
        ids = (prompt + response)[: recipe.sizes.positions]
        found.append(Document(np.array(ids, np.int16), len(prompt), int(problem.metadata["level"])))
    return found


@dataclass
class _Worker:
    recipe: Recipe
    seed: int
    tokenizer: Tokenizer


_worker: _Worker | None = None  # of this process, when it is one of the pool


def _start_worker(recipe: Recipe, seed: int, tokenizer: str) -> None:
    from tokenizers import Tokenizer

    global _worker
    _worker = _Worker(recipe, seed, Tokenizer.from_str(tokenizer))
    parent = multiprocessing.parent_process()
    if parent is not None:  # a killed parent tells nobody: end with it
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _work(index: int) -> list[Document]:
    assert _worker is not None
    return make_shard(_worker.recipe, _worker.seed, index, _worker.tokenizer)


class Batches:
    """Batches from a step on, made ahead by worker processes. A context manager.

    Args:
        start: the first step wanted.
        workers: processes; 0 makes the documents here.
    """

    def __init__(self, recipe: Recipe, seed: int, tokenizer: Tokenizer, *, start: int = 0, workers: int = 1) -> None:
        self.recipe, self.seed, self.tokenizer, self.start = recipe, seed, tokenizer, start
        self._pool = None
        self._workers = workers
        if workers:
            self._pool = ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"), _start_worker, (recipe, seed, tokenizer.to_str())
            )

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[list[Document]]:
        """Lists of ``batch`` documents, one for each step from ``start`` to the last."""
        size = self.recipe.shard
        for index, shard in self._shards(self.start // size, -(-self.recipe.steps // size)):
            for step in range(max(self.start, index * size), min(self.recipe.steps, (index + 1) * size)):
                at = (step - index * size) * self.recipe.batch
                yield shard[at : at + self.recipe.batch]

    def _shards(self, first: int, end: int) -> Iterator[tuple[int, list[Document]]]:
        if self._pool is None:
            for index in range(first, end):
                yield index, make_shard(self.recipe, self.seed, index, self.tokenizer)
            return
        ahead = 2 * self._workers + 1
        waiting = {index: self._pool.submit(_work, index) for index in range(first, min(end, first + ahead))}
        for index in range(first, end):
            if index + ahead < end:
                waiting[index + ahead] = self._pool.submit(_work, index + ahead)
            yield index, waiting.pop(index).result()


def pieces(documents: list[Document], tokens: int, prompt_weight: float) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """A batch in pieces of about ``tokens`` ids: rows of similar length, padded on the right, with the weight of each prediction.

    Returns:
        ids ``[rows, length]`` and weights ``[rows, length]``: 1 for the response, ``prompt_weight`` for the prompt, 0 for padding.
    """
    ordered = sorted(documents, key=lambda document: len(document.ids))
    while ordered:
        rows = 1
        while rows < len(ordered) and (rows + 1) * len(ordered[rows].ids) <= tokens:
            rows += 1
        taken, ordered = ordered[:rows], ordered[rows:]
        longest = len(taken[-1].ids)
        ids = np.zeros((rows, longest), np.int64)
        weights = np.zeros((rows, longest), np.float32)
        for row, document in enumerate(taken):
            ids[row, : len(document.ids)] = document.ids
            weights[row, : document.prompt] = prompt_weight
            weights[row, document.prompt : len(document.ids)] = 1.0
        yield ids, weights
