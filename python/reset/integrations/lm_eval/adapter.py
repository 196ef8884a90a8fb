"""``ResetLM``: what the harness asks of a model, answered by the engine here.

The harness knows three kinds of request::

    generate_until         (context, settings)       → text before a stop string
    loglikelihood          (context, continuation)   → Σ log p of the continuation, and whether greedy decoding would write it
    loglikelihood_rolling  (text,)                   → Σ log p of the whole text, in windows where it is too long

Tokens are split between context and continuation as the harness's ``hf`` model splits them, so that the numbers compare.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm.auto import tqdm

from reset._options import Options
from reset._sequences import Run
from reset.model import Model, load
from reset.policies import FixedTemperature, Greedy, Policy, ReSET

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Scored = tuple[Any, list[int], list[int]]

#: Settings of a generation request that are understood.
_FILTERS = ("top_k", "top_p", "min_p")
_SETTINGS = frozenset({"do_sample", "temperature", "until", "max_gen_toks", *_FILTERS})


@register_model("reset")
class ResetLM(TemplateLM):  # type: ignore[misc]
    """A model of this package for the harness.

    Args:
        pretrained: a :class:`reset.Model`, or a directory or hub id to load.
        policy: who sets the temperature of generated tokens, whatever the task says; ``t_low`` and ``tau_0`` (with ``t_high``,
            ``window``) or ``preset`` make a :class:`reset.ReSET`. Without one, the task's temperature is kept; most tasks are greedy.
        top_p, top_k, min_p: filters, where the task's own settings name none.
        seed: of the draws. Repeats of one request are samples 0, 1, 2 … of its prompt.
        max_gen_toks: tokens of an answer where the task says nothing.
        max_length: tokens that context and answer may have; the model's positions where left out. Longer contexts lose their beginning.
        batch_size: sequences decoded together; no answer depends on it.
        thinking: ``enable_thinking`` of the chat template.
        think_end_token: text that ends a thought, such as ``</think>``: answers keep what follows its last occurrence.
        add_bos_token: whether texts begin with the tokenizer's special tokens; None does as the tokenizer does.
        prefix_token_id: stands before texts without context; the bos token, else the eos token, where left out.
        max_batch_size: the harness passes it.
        device: as in :func:`reset.load`; None is the CPU.
        options: of :func:`reset.load`: ``weights``, ``activations``, ``method``, ``lm_head``, ``kv``, ``threads``, ``revision``.
    """

    backend = "causal"

    def __init__(
        self,
        pretrained: Model | str | Path,
        *,
        policy: Policy | None = None,
        t_low: float | None = None,
        tau_0: float | None = None,
        t_high: float | None = None,
        window: int | None = None,
        preset: str | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        seed: int = 0,
        max_gen_toks: int = 256,
        max_length: int | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        thinking: bool | None = None,
        think_end_token: str | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        device: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(pretrained, Model):
            if options:
                raise ValueError(f"{', '.join(options)}: how to load a model, and pretrained is one already")
            self.model = pretrained
        else:
            self.model = load(pretrained, device="cpu" if device is None else device, **options)
        if self.model.tokenizer is None:
            raise ValueError(f"{self.model.name} has no tokenizer.json: the harness works on text")
        self.tokenizer = self.model.tokenizer
        self.policy = _policy(policy, t_low, tau_0, t_high, window, preset)
        self.filters = {"top_p": top_p, "top_k": top_k, "min_p": min_p}
        self.seed, self.max_gen_toks = seed, max_gen_toks
        self.max_length = min(self.model.max_positions, max_length or self.model.max_positions)
        self.batch_size = 8 if batch_size in (None, "auto") else int(batch_size)
        self.thinking, self.think_end_token = thinking, think_end_token
        self.add_bos_token, self._prefix = add_bos_token, prefix_token_id

    # Tokens

    @property
    def eot_token_id(self) -> int:
        """The id that ends a text."""
        ids = self.model.eos_ids
        if not ids:
            raise ValueError(f"{self.model.name} has no end token; give prefix_token_id")
        return ids[0] if self.tokenizer.eos_token_id is None else self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The id before a text without context."""
        if self._prefix is not None:
            return self._prefix
        return self.eot_token_id if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids of a text, with special tokens around it unless it begins with the prefix already."""
        if add_special_tokens is None:
            add_special_tokens = self.add_bos_token is not False
            prefix = self.tokenizer.decode([self.prefix_token_id])
            add_special_tokens &= not (prefix and string.startswith(prefix))
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens)

    # Likelihoods

    def _loglikelihood_tokens(self, requests: Sequence[Scored], disable_tqdm: bool = False, **_: Any) -> list[tuple[float, bool]]:
        """Per request, Σ log p of its second list of ids after its first, and whether each was the most probable one."""
        read: dict[tuple[int, ...], list[int]] = {}  # what the model reads → the requests it answers
        for index, (_key, context, continuation) in enumerate(requests):
            if len(continuation) > self.max_length:
                raise ValueError(f"a continuation of {len(continuation)} tokens does not fit into {self.max_length} positions")
            whole = [*context, *continuation][-(self.max_length + 1) :]
            read.setdefault(tuple(whole[:-1]), []).append(index)
        answers: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        for ids, indices in tqdm(read.items(), desc="loglikelihood", disable=disable_tqdm or None):
            logits = self.model.logits(list(ids)) if ids else np.zeros((0, self.model.vocab_size), np.float32)
            for index in indices:
                key, _context, continuation = requests[index]
                answers[index] = _score(logits, continuation)
                if key is not None:  # the windows of a rolling request have none
                    self.cache_hook.add_partial("loglikelihood", key, answers[index])
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Per request, Σ log p of a whole text, each token once, with as much before it as fits."""
        answers = []
        for request in requests:
            (text,) = request.args
            tokens = self.tok_encode(text)
            pieces = get_rolling_token_windows(
                token_list=tokens, prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            )
            windows = [(None, *make_disjoint_window(piece)) for piece in pieces]
            answers.append(sum(value for value, _ in self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), answers[-1])
        return answers

    # Generation

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Per request, the text up to a stop string, an end token or the limit."""
        texts: list[str] = [""] * len(requests)
        with tqdm(total=len(requests), desc="generate", disable=disable_tqdm or None) as bar:
            for settings, members in self._groups(requests):
                for index, text in self._generate(settings, members):
                    texts[index] = text
                    # As soon as it is there, so that a cache has it if a later one fails.
                    self.cache_hook.add_partial("generate_until", requests[index].args, text)
                    bar.update()
        return texts

    def _groups(self, requests: Sequence[Any]) -> list[tuple[dict[str, Any], list[tuple[str, list[int]]]]]:
        """Requests that can share a run: equal settings, and contexts that are asked for equally often.

        Each group holds its settings and, per context, the indices of the requests: samples 0, 1, 2 … of that prompt.
        """
        asked: dict[tuple[str, str], list[int]] = {}
        settings: dict[str, dict[str, Any]] = {}
        for index, request in enumerate(requests):
            context, given = request.args
            spelt = repr(sorted(given.items()))
            settings[spelt] = given
            asked.setdefault((spelt, context), []).append(index)
        sizes = Counter((spelt, len(indices)) for (spelt, _), indices in asked.items())
        return [
            (settings[spelt], [(context, found) for (s, context), found in asked.items() if (s, len(found)) == (spelt, size)])
            for spelt, size in sizes
        ]

    def _generate(self, settings: dict[str, Any], members: list[tuple[str, list[int]]]) -> Iterator[tuple[int, str]]:
        given: dict[str, Any] = dict(normalize_gen_kwargs(settings, self.max_gen_toks))
        unknown = set(given) - _SETTINGS
        if unknown:
            raise ValueError(f"generation settings {sorted(unknown)} are not possible here; known are {sorted(_SETTINGS)}")
        length = given["max_gen_toks"]
        room = self.max_length - length
        if room < 1:
            raise ValueError(f"max_gen_toks = {length} leaves no room for a context in {self.max_length} positions; lower it")
        sampled = given["do_sample"] and given["temperature"] > 0
        policy = self.policy if self.policy is not None else FixedTemperature(given["temperature"]) if sampled else Greedy()
        filters: dict[str, Any] = {name: given[name] if given.get(name) is not None else self.filters[name] for name in _FILTERS}
        options = Options.make(
            self.model, policy=policy, max_new_tokens=length, n=len(members[0][1]), seed=self.seed, stop=[s for s in given["until"] if s],
            chat=False, thinking=None, ignore_eos=False, boundary="ids", batch_size=self.batch_size, **filters,
        )  # fmt: skip
        run = Run(self.model, [self.tok_encode(context)[-room:] for context, _ in members], options)
        indices = [index for _, found in members for index in found]
        pieces: list[list[str]] = [[] for _ in indices]
        for number, step in run:
            pieces[number].append(step.text)
            if step.finish_reason is not None:
                yield indices[number], self._answer("".join(pieces[number]))

    def _answer(self, text: str) -> str:
        return text if self.think_end_token is None else text.rpartition(self.think_end_token)[2].lstrip()

    # Chats

    @property
    def tokenizer_name(self) -> str:
        """A name for the harness's caches of requests."""
        return self.model.name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The text of the template that :meth:`apply_chat_template` uses; None where none is asked for.

        Raises:
            ValueError: the tokenizer has no template, or none of this name.
        """
        if chat_template is False or chat_template is None:
            return None
        templates = self.tokenizer.chat_templates
        name = "default" if chat_template is True else chat_template
        if name not in templates:
            raise ValueError(f"{self.model.name} has no chat template {name!r}; it has {sorted(templates) or 'none'}")
        self._template = name
        return templates[name]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A chat as text. Without the generation prompt the last message is one to go on with, and its end marks are cut off."""
        chosen = getattr(self, "_template", None)
        text = self.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=self.thinking, chat_template=chosen
        )
        if add_generation_prompt:
            return text
        last = chat_history[-1]["content"]
        start = text.rindex(last.strip())
        kept = last.lstrip()
        return text[: start + len(kept)] if text.startswith(kept, start) else text[: start + len(last.strip())]

    def get_model_info(self) -> dict[str, Any]:
        """What ran, for the harness's result files."""
        policy = "the task's temperature" if self.policy is None else repr(self.policy)
        return {**self.model.describe(), "fingerprint": self.model.fingerprint, "policy": policy, "seed": self.seed, **self.filters}


def _score(logits: NDArray[np.float32], continuation: list[int]) -> tuple[float, bool]:
    """Σ log p of ids that follow one another, in float64. The last row is what the model said before the last id."""
    rows = logits[len(logits) - len(continuation) :].astype(np.float64)
    ids = np.asarray(continuation, np.int64)
    best = rows.max(-1)
    totals = best + np.log(np.exp(rows - best[:, None]).sum(-1))
    chosen = rows[np.arange(len(ids)), ids]
    return float((chosen - totals).sum()), bool((rows.argmax(-1) == ids).all())


def _policy(
    policy: Policy | None, t_low: float | None, tau_0: float | None, t_high: float | None, window: int | None, preset: str | None
) -> Policy | None:
    named = {name: v for name, v in (("t_low", t_low), ("tau_0", tau_0), ("t_high", t_high), ("window", window)) if v is not None}
    if policy is not None:
        if named or preset is not None:
            raise ValueError("policy says it all: leave t_low, tau_0, t_high, window and preset out")
        return policy
    if preset is not None:
        if set(named) - {"t_low"}:
            raise ValueError("preset brings tau_0, t_high and window; t_low alone may be given with it")
        return ReSET.preset(preset, t_low=t_low)
    if not named:
        return None
    if t_low is None or tau_0 is None:
        raise ValueError("ReSET needs t_low and tau_0 (calibrate the second: reset.calibrate), or a preset")
    return ReSET(**named)  # type: ignore[arg-type]
