"""The model in the wheel, read by transformers: the same logits, the same greedy answer."""

from __future__ import annotations

import numpy as np
import pytest

import reset
from reset.models import shipped_folder
from reset.tasks.arithmetic import Arithmetic

torch = pytest.importorskip("torch", reason="needs the extra test-torch")
transformers = pytest.importorskip("transformers", reason="needs the extra test-torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about themselves


def test_transformers_computes_the_same_logits_and_greedy_tokens() -> None:
    try:
        folder = shipped_folder("tiny")
    except FileNotFoundError:
        pytest.skip("this source tree has no weights of tiny")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = reset.load("tiny", kv="f32")
    task = Arithmetic()
    question = task.prompt(task.problems("tune", limit=4)[3], "boxed")
    ids = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False)
    assert ours.encode_prompt(question) == list(ids)
    generation = reset.generate(ours, question, policy=reset.Greedy(), max_new_tokens=120)
    assert isinstance(generation, reset.Generation)
    whole = torch.tensor([[*ids, *generation.token_ids]])
    with torch.no_grad():
        expected = theirs(whole).logits[0].numpy().astype(np.float64)
    found = ours.logits(whole[0].tolist())
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5
    predicted = expected[len(ids) - 1 : -1].argmax(axis=1)
    assert predicted.tolist() == generation.token_ids
