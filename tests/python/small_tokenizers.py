"""Tokenizers of a few hundred tokens, trained on a few sentences, so that most tests need no files."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from reset.text import Tokenizer as TextTokenizer

if TYPE_CHECKING:
    from pathlib import Path

SENTENCES = [
    "Let me think about this step by step.\n\nFirst, two and two make four.\n\nSo the answer is 4.",
    "Wait, is that right? Yes.\r\n\r\nThe end. \n \nÉté naïve: 数学は楽しい 🙂🙂👩‍👩‍👧 done.",
    "the cat sat on the mat, the dog sat on the log, and the frog sat on the bog.",
]


@lru_cache
def _byte_level_json() -> str:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator(SENTENCES * 4, trainer)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|begin|>", "<|end|>"])
    backend.add_tokens(
        [AddedToken("<think>", normalized=False), AddedToken("<｜分｜>", normalized=False), AddedToken("é\n\n", normalized=False)]
    )
    return backend.to_str()


def byte_level() -> Tokenizer:
    """As Qwen and Llama 3 write: every token is a string of bytes."""
    return Tokenizer.from_str(_byte_level_json())


@lru_cache
def _byte_fallback_json() -> str:
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    ascii_only = ["".join(c for c in sentence if c.isascii() and c != "\n" and c != "\r") for sentence in SENTENCES]
    backend.train_from_iterator(ascii_only * 4, trainers.BpeTrainer(vocab_size=120, show_progress=False))
    trained: dict[str, Any] = json.loads(backend.to_str())["model"]
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *trained["vocab"]]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in trained["merges"]]
    model = models.BPE(
        vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    whole = Tokenizer(model)
    whole.normalizer = backend.normalizer
    whole.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    whole.add_special_tokens(["<unk>", "<s>", "</s>"])
    whole.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return whole.to_str()


def byte_fallback() -> Tokenizer:
    """As Llama 2 and Mistral write: ``▁`` is a space, unknown characters are byte tokens, the first space goes away."""
    return Tokenizer.from_str(_byte_fallback_json())


def metaspace(scheme: str = "always") -> Tokenizer:
    """As T5 writes: ``▁`` marks the beginning of a word."""
    words = ["<unk>", "</s>", "▁the", "▁cat", "s", "▁", "▁▁", "a▁b", "\n", "▁sat", "é", "🙂"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    backend.add_special_tokens(["</s>"])
    return backend


def plain_words() -> Tokenizer:
    """No decoder: tokens are joined by spaces. Ids 3 to 9 stand for nothing."""
    return Tokenizer(models.WordLevel({"<unk>": 0, "yes": 1, "no": 2, "maybe": 10}, unk_token="<unk>"))


def per_token_strip() -> Tokenizer:
    """Strip before Fuse works on each token."""
    backend = plain_words()
    backend.decoder = decoders.Sequence([decoders.Strip("e", 1, 1), decoders.Replace("y", "é"), decoders.Fuse(), decoders.Strip("n", 2, 0)])
    return backend


BACKENDS = {
    "byte level": byte_level,
    "byte fallback": byte_fallback,
    "metaspace": metaspace,
    "metaspace first": lambda: metaspace("first"),
    "metaspace never": lambda: metaspace("never"),
    "plain words": plain_words,
    "strip per token": per_token_strip,
}


def write_arithmetic_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer of 384 entries, as the demo's weights have: single digits, ".\\n\\n", a chat template with a thought."""
    from reset.tasks.arithmetic import generate, trace

    added = [".\n\n", "<think>", "</think>"]
    special = ["<|im_start|>", "<|im_end|>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384 - len(added) - len(special), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    backend.train_from_iterator([trace(generate(seed, level=2), seed).text for seed in range(60)], trainer)
    backend.add_tokens([AddedToken(text, normalized=False) for text in added])
    backend.add_special_tokens(special)
    backend.save(str(folder / "tokenizer.json"))
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@lru_cache
def small(name: str) -> TextTokenizer:
    """One of :data:`BACKENDS` as the package's tokenizer."""
    return TextTokenizer.from_backend(BACKENDS[name]())
