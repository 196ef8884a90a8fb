"""The tokenizer: a small byte-level BPE that splits text exactly as Qwen3's does, and the chat template.

    "So Ben has 85.\\n\\nNext"   →   "So" " Ben" " has" " " "8" "5" ".\\n\\n" "Next"

What the project's experiments need of it:

- every digit is a token of its own, so a number is read and written digit by digit and each digit has an entropy of its own;
- ".\\n\\n" is one token: reasoning steps end inside a token, which is the case that the published boundary rule was made for;
- ``<think>`` and ``</think>`` are added tokens that are *not* special, as in Qwen3: they stay in decoded text.

Ids: 256 bytes, then merges, then the added tokens; the vocabulary is filled up to its size exactly, so no id is undecodable.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tokenizers import Tokenizer

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, START, END)
THINK = ("<think>", "</think>")

# The pre-tokenizer of Qwen2 and Qwen3: contractions, words with one leading sign or space, single digits, runs of punctuation
# together with the newlines after them, newlines, other white space.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)  # fmt: skip

CHAT_TEMPLATE = """\
{%- for message in messages %}
    {%- if message.role == 'assistant' and not loop.last and '</think>' in message.content %}
        {{- '<|im_start|>assistant\\n' + message.content.split('</think>')[-1].lstrip('\\n') + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n<think>\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
"""Qwen3's format; as in the thinking-only Qwen3 models, the opened thought is part of the prompt."""


def user_turn(text: str) -> str:
    """What the chat template makes of one user message: the prompt of a response."""
    return f"{START}user\n{text}{END}\n{START}assistant\n<think>\n"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE of exactly ``vocab_size`` ids, added tokens included.

    Raises:
        ValueError: the texts do not hold enough different pieces for so many merges.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = len(SPECIAL) + len(THINK)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - added, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size - added:
        raise ValueError(f"the texts give {tokenizer.get_vocab_size()} entries where {vocab_size - added} are wanted: a smaller vocab_size")
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in THINK])
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, directory: Path, *, max_positions: int) -> None:
    """tokenizer.json, tokenizer_config.json (chat template inside) and generation_config.json, as HF checkpoints have them."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    decoder = {
        str(i): {
            "content": token.content, "lstrip": token.lstrip, "normalized": token.normalized, "rstrip": token.rstrip,
            "single_word": token.single_word, "special": token.special,
        }
        for i, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }  # fmt: skip
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": decoder,
        "bos_token": None,
        "eos_token": END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_positions,
        "chat_template": CHAT_TEMPLATE,
    }
    _write_json(directory / "tokenizer_config.json", config)
    ends = [tokenizer.token_to_id(END), tokenizer.token_to_id(END_OF_TEXT)]
    _write_json(
        directory / "generation_config.json",
        {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "eos_token_id": ends, "pad_token_id": ends[1]},
    )


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
