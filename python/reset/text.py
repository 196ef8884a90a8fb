"""Text in, text out: the tokenizer of a checkpoint.

Which files of a checkpoint folder it is read from: :mod:`reset.tokenizer_files`. The rules of tokenizer.json alone decide
about special tokens around a text, as in transformers 5: the old switches ``add_bos_token`` and
``clean_up_tokenization_spaces`` of tokenizer_config.json have no effect.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from reset.detokenize import Detokenizer, compile_decoder
from reset.errors import CheckpointError
from reset.stop import StopMatcher, validated_stops
from reset.tokenizer_files import (
    add_configured_tokens,
    chat_templates,
    eos_token_ids,
    read_backend,
    read_json_object,
    special_tokens,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt
    import tokenizers

    from reset.chat import ChatTemplate, Message
    from reset.detokenize import Stage

__all__ = ["TextStream", "Tokenizer", "eos_token_ids", "read_backend", "read_json_object"]


class Tokenizer:
    """A checkpoint's tokenizer and chat template. Made by :meth:`from_dir` or :meth:`from_backend`; immutable.

    Attributes:
        backend: the ``tokenizers.Tokenizer`` underneath. Change nothing on it: results are cached.
        special_tokens: role → token, such as ``{"eos_token": "<|im_end|>"}``; these names are variables of a chat template.
        eos_token_ids: the ids that end a text.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special_tokens: Mapping[str, str],
        chat_templates: Mapping[str, str],
        eos_token_ids: tuple[int, ...] | None = None,
        source: str = "tokenizer",
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.special_tokens = dict(special_tokens)
        self._chat_templates = dict(chat_templates)
        self._source = source
        decoder = None if backend.decoder is None else json.loads(backend.decoder.__getstate__())
        self._new_stages = compile_decoder(decoder)
        added = backend.get_added_tokens_decoder()
        self._tokens: dict[int, str] = {i: token for token, i in backend.get_vocab(with_added_tokens=False).items()}
        self._tokens.update((i, token.content) for i, token in added.items())
        special = {i for i, token in added.items() if token.special}
        self._visible_tokens = {i: token for i, token in self._tokens.items() if i not in special}
        self._special_ids = tuple(sorted(special))
        eos = self._role_id("eos_token")
        self.eos_token_ids = eos_token_ids if eos_token_ids is not None else () if eos is None else (eos,)
        self._compiled_templates: dict[str, ChatTemplate] = {}

    @classmethod
    def from_dir(cls, path: str | os.PathLike[str]) -> Tokenizer | None:
        """The tokenizer of a checkpoint folder, or None where the folder has no ``tokenizer.json``.

        Raises:
            FileNotFoundError: there is no such folder.
            reset.CheckpointError: a file is damaged; the message names it.
            reset.FormatError: a decoder that cannot be run token by token.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; expected a checkpoint folder with config.json and tokenizer.json")
        file = folder / "tokenizer.json"
        if not file.is_file():
            return None
        backend = read_backend(file)
        config = read_json_object(folder / "tokenizer_config.json") or {}
        roles = special_tokens(read_json_object(folder / "special_tokens_map.json") or {}, config, folder)
        add_configured_tokens(backend, config, roles, folder)
        return cls(backend, roles, chat_templates(config, folder), eos_token_ids(folder), source=str(folder))

    @classmethod
    def from_backend(cls, backend: tokenizers.Tokenizer, *, chat_template: str | None = None, **special_tokens: str) -> Tokenizer:
        """A tokenizer from a ``tokenizers.Tokenizer`` and tokens with a role (``eos_token="</s>"`` …)."""
        return cls(backend, special_tokens, {} if chat_template is None else {"default": chat_template})

    # Size

    def __len__(self) -> int:
        """Number of tokens, added ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def vocab_size(self) -> int:
        """Number of tokens of the model underneath, without added ones (as in transformers)."""
        return self.backend.get_vocab_size(with_added_tokens=False)

    def undecodable(self, width: int) -> npt.NDArray[np.int64]:
        """The ids in ``range(width)`` that stand for no token, in ascending order.

        Logits are often wider than the vocabulary (151,936 against 151,669 for Qwen3): padding ids that no text contains.
        """
        known = np.fromiter(self._tokens, dtype=np.int64, count=len(self._tokens))
        mask = np.ones(width, dtype=bool)
        mask[known[known < width]] = False
        return np.flatnonzero(mask).astype(np.int64)

    # Tokens with a role

    @property
    def bos_token(self) -> str | None:
        """The token before a text, or None."""
        return self.special_tokens.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        """The token after a text, or None. Generation ends at :attr:`eos_token_ids`, which may hold further ids."""
        return self.special_tokens.get("eos_token")

    @property
    def bos_token_id(self) -> int | None:
        """Id of :attr:`bos_token`."""
        return self._role_id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """Id of :attr:`eos_token`."""
        return self._role_id("eos_token")

    @property
    def all_special_ids(self) -> tuple[int, ...]:
        """Ids that ``skip_special_tokens`` leaves out, in ascending order."""
        return self._special_ids

    def _role_id(self, role: str) -> int | None:
        token = self.special_tokens.get(role)
        return None if token is None else self.backend.token_to_id(token)

    # Text and ids

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of ``text``; ``add_special_tokens`` puts around it what tokenizer.json says (often a bos token, or nothing)."""
        if not isinstance(text, str):
            raise TypeError(f"encode takes one str, got {type(text).__name__}")
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        """Text of token ids, any of which may be unknown (they give nothing). Negative ids: ValueError."""
        ids = [int(i) for i in token_ids]
        if ids and min(ids) < 0:
            raise ValueError(f"token id {min(ids)} is negative; ids are in 0..{max(self._tokens, default=0)}")
        return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def token_texts(self, token_ids: Iterable[int]) -> tuple[str, ...]:
        """The text of each token by itself, special tokens included: for tables and figures.

        Leading spaces are kept; bytes that are no whole character read U+FFFD. Joined, they need not be the text of all.
        """
        detokenizer = Detokenizer(self, skip_special_tokens=False)
        detokenizer.continue_text()
        return tuple(detokenizer.push(token_id) + detokenizer.finish() for token_id in token_ids)

    def token_strings(self, skip_special_tokens: bool = False) -> Callable[[int], str | None]:
        """A function from id to the token as the vocabulary writes it (``"Ġthe"``); None for ids without one."""
        return (self._visible_tokens if skip_special_tokens else self._tokens).get

    def decoder_stages(self, eager: bool = False) -> list[Stage]:
        """Fresh decoding stages; see :mod:`reset.detokenize`."""
        return self._new_stages(eager)

    # Chat

    @property
    def has_chat_template(self) -> bool:
        """Whether :meth:`apply_chat_template` works without a template of the caller's."""
        return bool(self._chat_templates)

    @property
    def chat_templates(self) -> dict[str, str]:
        """Chat templates by name; a single one is called ``"default"``."""
        return dict(self._chat_templates)

    @overload
    def apply_chat_template(
        self,
        messages: Sequence[Message],
        *,
        tokenize: Literal[True] = True,
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        **variables: object,
    ) -> list[int]: ...
    @overload
    def apply_chat_template(
        self,
        messages: Sequence[Message],
        *,
        tokenize: Literal[False],
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        **variables: object,
    ) -> str: ...
    def apply_chat_template(
        self,
        messages: Sequence[Message],
        *,
        tokenize: bool = True,
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        **variables: object,
    ) -> list[int] | str:
        """A chat as the model was trained to read it: token ids, or text with ``tokenize=False``.

        Args:
            messages: dicts with ``role`` and ``content`` (a str, or a list of ``{"type": "text", "text": …}``).
            add_generation_prompt: end with the beginning of the assistant's answer.
            enable_thinking: the template's variable of that name; None leaves it undefined, so the template decides.
            tools: JSON schemas of functions the model may call.
            documents: dicts with ``title`` and ``text``, for templates that know them.
            chat_template: the name of one of :attr:`chat_templates`, or the text of a template. None: ``"tool_use"`` where
                tools are given and there is one, else ``"default"``.
            variables: anything else the template reads.

        Raises:
            ValueError: no template; a malformed message; the template refuses the chat (the message quotes it).
            reset.CheckpointError: the checkpoint's template has a syntax error.
        """
        template = self._template(chat_template, has_tools=bool(tools))
        if enable_thinking is not None:
            variables["enable_thinking"] = enable_thinking
        text = template.render(
            messages,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            variables={**self.special_tokens, **variables},
        )
        return self.encode(text, add_special_tokens=False) if tokenize else text

    def _template(self, choice: str | None, *, has_tools: bool) -> ChatTemplate:
        from reset.chat import ChatTemplate

        names = self._chat_templates
        if choice is None:
            choice = "tool_use" if has_tools and "tool_use" in names else "default"
            if choice not in names:
                known = f"it has templates named {sorted(names)}: pass one as chat_template" if names else "it has none: pass chat_template"
                raise ValueError(f"{self._source}: no default chat template; {known}, or pass the prompt as a str")
        own = choice in names
        text = names[choice] if own else choice
        if text not in self._compiled_templates:
            where = f"{self._source}: chat template {choice!r}" if own else "chat_template"
            self._compiled_templates[text] = ChatTemplate(text, where=where, error=CheckpointError if own else ValueError)
        return self._compiled_templates[text]

    def __repr__(self) -> str:
        chat = "with a chat template" if self.has_chat_template else "no chat template"
        return f"Tokenizer({len(self):,} tokens, eos {list(self.eos_token_ids)}, {chat}, from {self._source})"


class TextStream:
    """Text of one growing sequence, with stop strings: what a generation loop needs between an id and the screen.

    ``push`` each id; the text returned is certain. When :attr:`stopped` is not None, end the loop. Always ``finish``.
    The joined text is ``decode(prompt + ids)`` without the prompt's part, cut before the stop string.

    Args:
        tokenizer: None for a model without one: every text is then ``""`` and stop strings are a ValueError.
        prompt_ids: the ids that came before; see :class:`reset.detokenize.Detokenizer`.
        stop: stop strings; see :class:`reset.stop.StopMatcher`.
        skip_special_tokens: leave out tokens such as ``<|im_end|>``.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        prompt_ids: Iterable[int] = (),
        *,
        stop: str | Iterable[str] = (),
        skip_special_tokens: bool = True,
    ) -> None:
        if tokenizer is None and validated_stops(stop):
            raise ValueError("stop strings need a tokenizer, and this model has none (no tokenizer.json in its folder)")
        self._detokenizer = None if tokenizer is None else Detokenizer(tokenizer, prompt_ids, skip_special_tokens=skip_special_tokens)
        self._matcher = StopMatcher(stop)
        self._checks_pending = bool(validated_stops(stop))

    @property
    def stopped(self) -> str | None:
        """The stop string that was found, or None so far."""
        return self._matcher.matched

    def push(self, token_id: int) -> str:
        """The text that this id makes certain; ``""`` after a stop string was found."""
        if self._detokenizer is None or self.stopped is not None:
            return ""
        text = self._matcher.feed(self._detokenizer.push(token_id))
        # Held-back bytes may already spell a stop string. To stop makes this the last token, and so makes them certain.
        if self._checks_pending and self.stopped is None:
            pending = self._detokenizer.pending
            if pending and self._matcher.would_match(pending):
                text += self._matcher.feed(self._detokenizer.finish())
        return text

    def finish(self) -> str:
        """The rest of the text, when no further id comes."""
        if self._detokenizer is None or self.stopped is not None:
            return ""
        return self._matcher.feed(self._detokenizer.finish()) + self._matcher.finish()
