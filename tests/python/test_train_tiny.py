"""The training recipe's parts that need no torch: tokenizer, chat template, recipe, documents."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import ROOT
from tokenizers import Tokenizer

import reset
from reset.chat import ChatTemplate
from reset.tasks.arithmetic import SHARES, Arithmetic, stream
from reset.tasks.base import split_of
from reset.text import Tokenizer as Reader

sys.path.insert(0, str(ROOT / "examples"))

from train_tiny import data, measure
from train_tiny.recipe import PRESETS, Curriculum, Recipe, Sizes
from train_tiny.tokenizer import END, train_tokenizer, user_turn, write_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = Recipe().changed(vocab=512, steps=40, batch=4, shard=8, tokenizer_documents=150)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(data.tokenizer_texts(RECIPE), RECIPE.sizes.vocab)


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(tokenizer, path, max_positions=1024)
    return path


def test_digits_stand_alone_and_blank_lines_stay_with_the_mark_before(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 512
    ids = tokenizer.encode("So Ben has 105.\n\nNext, 47 + 38 = 85:\n\n7\n\n").ids
    pieces = [tokenizer.decode([i]) for i in ids]
    assert all(len(piece.strip()) == 1 for piece in pieces if any(letter.isdigit() for letter in piece))
    assert ".\n\n" in pieces
    assert "\n\n" in pieces
    assert "".join(pieces) == "So Ben has 105.\n\nNext, 47 + 38 = 85:\n\n7\n\n"


def test_reset_finds_the_step_boundaries(folder: Path) -> None:
    loaded = Reader.from_dir(folder)
    assert loaded is not None
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    newline, double = reset.step_boundaries(loaded)
    assert newline == [backend.token_to_id("Ċ")]
    assert {backend.token_to_id(".ĊĊ"), backend.token_to_id("ĊĊ")} <= set(double)


def test_thoughts_stay_in_decoded_text_and_special_tokens_do_not(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(f"<think>\nyes\n</think>\n\nso{END}").ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>\nyes\n</think>\n\nso"
    assert ids[-1] == tokenizer.token_to_id(END)


def test_every_text_comes_back(tokenizer: Tokenizer) -> None:
    for problem in Arithmetic().problems("tune", 20):
        for text in (problem.question, str(problem.solution), "naïve – 好 \t x"):
            assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_chat_template_opens_a_thought(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = ChatTemplate(config["chat_template"])
    messages = [{"role": "user", "content": "How many?"}]
    prompt = template.render(messages, add_generation_prompt=True)
    assert prompt == user_turn("How many?") == "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n<think>\n"
    closed = template.render(messages, add_generation_prompt=True, variables={"enable_thinking": False})
    assert closed == prompt + "\n</think>\n\n"
    # A thought of an earlier turn is left out, as Qwen3's template does.
    later = [*messages, {"role": "assistant", "content": "<think>\nhm\n</think>\n\n12"}, {"role": "user", "content": "Sure?"}]
    assert "hm" not in template.render(later)
    assert "<|im_start|>assistant\n12<|im_end|>\n" in template.render(later)


def test_generation_config_ends_at_both_ends(folder: Path, tokenizer: Tokenizer) -> None:
    config = json.loads((folder / "generation_config.json").read_text())
    assert config["eos_token_id"] == [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    assert (config["do_sample"], config["temperature"], config["top_p"]) == (True, 0.6, 0.95)


def test_too_large_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller vocab_size"):
        train_tokenizer(["a few words only"], 512)


def test_recipes_survive_json_and_are_told_apart() -> None:
    for recipe in PRESETS.values():
        assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert RECIPE.digest() != RECIPE.changed(last_whole=0.4).digest()
    with pytest.raises(ValueError, match="multiple of 32"):
        Sizes(hidden=100)


def test_recipes_without_recall_keep_the_digest_that_they_had_before_there_was_any() -> None:
    assert PRESETS["tiny"].digest() == "ea5f24d173e0dbe5"  # of the shipped weights
    with_recall = PRESETS["tiny"].changed(first_recall=0.5)
    assert with_recall.digest() != PRESETS["tiny"].digest()
    assert Recipe.from_json(with_recall.to_json()) == with_recall


def test_the_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    recipe = Recipe(steps=1000, warmup=0.1, peak=1.0, floor=0.0)
    assert recipe.learning_rate(0) == pytest.approx(0.01)
    assert recipe.learning_rate(99) == 1.0
    assert recipe.learning_rate(550) == pytest.approx(0.5)
    assert recipe.learning_rate(999) < 1e-5


def test_the_curriculum_goes_from_its_first_values_to_its_last() -> None:
    curriculum = Curriculum(until=0.5, first_levels=(1, 0, 0, 0, 0, 0), last_levels=(1, 1, 1, 1, 1, 1), first_whole=0.0, last_whole=0.6)
    assert curriculum.at(0.0)["levels"] == (1,) * 48
    assert curriculum.at(0.5) == curriculum.at(1.0)
    assert [curriculum.at(1.0)["levels"].count(level) for level in range(1, 7)] == [8] * 6
    assert curriculum.at(0.25)["share_whole"] == pytest.approx(0.3)
    assert len(curriculum.at(0.13)["levels"]) == 48


def test_documents_are_a_function_of_recipe_seed_and_step(tokenizer: Tokenizer) -> None:
    whole = list(data.Batches(RECIPE, 3, tokenizer, workers=0))
    assert len(whole) == RECIPE.steps
    assert all(len(batch) == RECIPE.batch for batch in whole)
    rest = list(data.Batches(RECIPE, 3, tokenizer, start=21, workers=0))
    assert [[d.ids.tolist() for d in batch] for batch in rest] == [[d.ids.tolist() for d in batch] for batch in whole[21:]]
    other = next(iter(data.Batches(RECIPE, 4, tokenizer, workers=0)))
    assert [d.ids.tolist() for d in other] != [d.ids.tolist() for d in whole[0]]


def test_worker_processes_make_the_same_documents(tokenizer: Tokenizer) -> None:
    here = list(data.Batches(RECIPE, 0, tokenizer, start=9, workers=0))
    with data.Batches(RECIPE, 0, tokenizer, start=9, workers=1) as batches:
        there = list(batches)
    assert [[d.ids.tolist() for d in batch] for batch in there] == [[d.ids.tolist() for d in batch] for batch in here]


def test_documents_are_of_the_train_split_and_read_as_the_model_will_be_asked(tokenizer: Tokenizer) -> None:
    documents = data.make_shard(RECIPE, 0, 2, tokenizer)
    options = RECIPE.curriculum.at(2 * RECIPE.shard / RECIPE.steps)
    for document, problem in zip(documents, stream("train", 2, **options), strict=False):
        assert split_of(problem.key, SHARES) == "train"
        prompt, response = (
            tokenizer.decode(document.ids[: document.prompt].tolist()),
            tokenizer.decode(document.ids[document.prompt :].tolist()),
        )
        assert problem.question in prompt
        assert response.endswith(f"\\boxed{{{problem.answer}}}.")
        assert reset.score("arithmetic", response, problem.answer, thinking_open=True).correct
        asked = {Arithmetic().prompt(problem, style) for style in ("boxed", "plain")}
        assert document.ids[: document.prompt].tolist() in [tokenizer.encode(user_turn(text)).ids for text in asked]


def test_the_first_documents_say_facts_again_and_later_ones_do_not(tokenizer: Tokenizer) -> None:
    recipe = RECIPE.changed(first_recall=0.5, recall_until=0.4, batch=32)
    assert [recipe.curriculum.recall(progress) for progress in (0.0, 0.2, 0.4, 1.0)] == [0.5, 0.25, 0.0, 0.0]
    shares = []
    for index in (0, 1, 3):
        documents = data.make_shard(recipe, 0, index, tokenizer)
        problems = stream("train", index, **recipe.curriculum.at(index * recipe.shard / recipe.steps))
        repeated = 0
        for document, problem in zip(documents, problems, strict=False):
            prompt = tokenizer.decode(document.ids[: document.prompt].tolist())
            if data.RECALL not in prompt:
                continue
            repeated += 1
            assert problem.question in prompt
            response = tokenizer.decode(document.ids[document.prompt :].tolist())
            facts = response.split("\n</think>")[0]
            asked = problem.question[problem.question.rindex(". ") + 2 :]
            assert sorted(f"{facts} {asked}".split()) == sorted(problem.question.split())
        shares.append(repeated / len(documents))
    assert 0.4 < shares[0] < 0.6  # 256 documents: three standard deviations are 0.09
    assert 0.16 < shares[1] < 0.34
    assert shares[2] == 0.0


def test_pieces_hold_every_token_once_with_its_weight(tokenizer: Tokenizer) -> None:
    documents = data.make_shard(RECIPE, 0, 0, tokenizer)
    parts = list(data.pieces(documents, 900, 0.25))
    assert len(parts) > 1
    assert sum(len(ids) for ids, _ in parts) == len(documents)
    assert all(ids.size <= 900 or len(ids) == 1 for ids, _ in parts)
    assert sum(float(w.sum()) for _, w in parts) == sum(len(d.ids) - d.prompt + 0.25 * d.prompt for d in documents)
    rows = sorted(ids[row][weights[row] > 0].tolist() for ids, weights in parts for row in range(len(ids)))
    assert rows == sorted(d.ids.tolist() for d in documents)


def test_equations_are_read_and_judged() -> None:
    found = measure.equations(["So 40 + 38 = 78, then 47+38=84. 12 - 15 = 3. Then 12 * 14 = 168, 8 / 0 = 1", "47 + 38 = 85"])
    assert found == {
        "+ easy": {"written": 1, "true": 1.0},
        "+ hard": {"written": 2, "true": 0.5},
        "- easy": {"written": 1, "true": 0.0},
        "* hard": {"written": 1, "true": 1.0},
        "/ easy": {"written": 1, "true": 0.0},
    }


def test_mistakes_are_told_apart_by_whether_the_sums_are_true() -> None:
    import mistakes

    texts = [("38+47=85. So 9.", False), ("3+4=8. 2*3=6.", False), ("3+4=8.", True), ("3+4=7", True)]
    result = SimpleNamespace(samples=[SimpleNamespace(text=text, correct=correct) for text, correct in texts])
    assert dict(zip(mistakes.COLUMNS, mistakes.row("a", result), strict=True)) == {
        "arm": "a", "samples": 4, "easy_equations": 4, "easy_false": 2, "hard_equations": 1, "hard_false": 0,
        "wrong_with_false_equation": 1, "wrong_with_true_equations": 1,
    }  # fmt: skip


def test_step_lengths_leave_out_the_answer_after_the_thought() -> None:
    traces: list[Any] = [SimpleNamespace(step_index=np.repeat([0, 1, 2], [10, 40, 9])), SimpleNamespace(step_index=np.zeros(7, np.int64))]
    found = measure.step_lengths(traces)
    assert found["steps_median"] == 2.0
    assert found["step_tokens"]["p50"] == 10.0  # of 10, 40 and 7: a trace of one step is that step


def test_entropies_are_of_all_tokens() -> None:
    traces: list[Any] = [SimpleNamespace(entropy=np.array([0.0, 0.0, 0.2])), SimpleNamespace(entropy=np.array([1.0]))]
    found = measure.entropies(traces)
    assert found["share_above_0.1"] == 0.5
    assert found["entropy"]["mean"] == pytest.approx(0.3)
