"""Models of this package in lm-evaluation-harness: local tasks, likelihoods equal to the harness's own ``hf`` model."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import reset

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the library, about itself

from reset.integrations.lm_eval import ResetLM, evaluate, local_task  # noqa: E402  (it needs the harness)

PAIRS = [
    ("Once upon a time", " there was a little girl"), ("The cat ", "sat"), ("", "Once upon a time"), ("One day", ", a boy"),
    ("One day", ", a girl"), ("a " * 400, "long story"),
]  # fmt: skip


def asked(*args: Any) -> Any:
    return SimpleNamespace(args=args)


@pytest.fixture(scope="module")
def stories(shared: Path) -> Any:
    return reset.load(shared / "models" / "stories260K", kv="f32")


def test_likelihoods_are_those_of_the_hf_model(stories: Any, shared: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs torch for the harness's hf model")
    hf_models = pytest.importorskip("lm_eval.models.huggingface", reason="needs transformers")
    torch.set_num_threads(1)
    hf = hf_models.HFLM(pretrained=str(shared / "models" / "stories260K"), device="cpu", dtype="float32", batch_size=2)
    lm = ResetLM(stories)
    requests = [asked(*pair) for pair in PAIRS]
    for (value, greedy), (expected, expected_greedy) in zip(lm.loglikelihood(requests), hf.loglikelihood(requests), strict=True):
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-3)
        assert greedy == expected_greedy
    texts = [asked("Once upon a time there was a cat."), asked("A dog. " * 250)]
    assert len(lm.tok_encode(texts[1].args[0])) > lm.max_length  # more than one window
    assert lm.loglikelihood_rolling(texts) == pytest.approx(hf.loglikelihood_rolling(texts), rel=1e-4)


def test_greedy_is_what_greedy_decoding_writes(stories: Any) -> None:
    lm = ResetLM(stories)
    text = lm.generate_until([asked("Once upon a time", {"until": ["."], "max_gen_toks": 30})])[0]
    good, bad = lm.loglikelihood([asked("Once upon a time", text), asked("Once upon a time", text[:-1] + "x")])
    assert good[1]
    assert not bad[1]
    assert good[0] > bad[0]


def test_generations_are_those_of_the_package(stories: Any) -> None:
    policy = reset.ReSET(0.3, 1.0)
    lm = ResetLM(stories, policy=policy, seed=3, batch_size=3)
    settings = {"until": ["\n"], "do_sample": True, "temperature": 0.7, "max_gen_toks": 16}
    prompts = ["Once upon a time", "Lily", "Once upon a time", "Tom"]
    found = lm.generate_until([asked(prompt, settings) for prompt in prompts])
    once = reset.generate(stories, prompts[0], policy=policy, seed=3, n=2, max_new_tokens=16, stop="\n")
    assert isinstance(once, list)
    assert [found[0], found[2]] == [g.text for g in once]  # two requests of one prompt are its samples 0 and 1
    for index in (1, 3):
        assert found[index] == reset.generate(stories, prompts[index], policy=policy, seed=3, max_new_tokens=16, stop="\n").text
    plain = ResetLM(stories, seed=3).generate_until([asked("Tom", settings)])[0]
    assert plain == reset.generate(stories, "Tom", policy=reset.FixedTemperature(0.7), seed=3, max_new_tokens=16, stop="\n").text
    greedy = ResetLM(stories).generate_until([asked("Tom", {"until": [], "do_sample": False, "temperature": 0.7, "max_gen_toks": 16})])[0]
    assert greedy == reset.generate(stories, "Tom", policy=reset.Greedy(), max_new_tokens=16).text


def test_every_answer_reaches_the_cache_as_soon_as_it_is_there(stories: Any) -> None:
    lm = ResetLM(stories)
    kept: list[Any] = []
    lm.cache_hook = SimpleNamespace(add_partial=lambda *entry: kept.append(entry))
    settings = {"until": [], "max_gen_toks": 4}
    texts = lm.generate_until([asked("Tom", settings), asked("Lily", settings)])
    assert sorted(kept) == sorted(
        [("generate_until", ("Tom", settings), texts[0]), ("generate_until", ("Lily", settings), texts[1])], key=str
    )
    kept.clear()
    scores = lm.loglikelihood([asked("Tom", " ran")])
    assert kept == [("loglikelihood", ("Tom", " ran"), scores[0])]
    kept.clear()
    total = lm.loglikelihood_rolling([asked("Tom ran")])
    assert kept == [("loglikelihood_rolling", ("Tom ran",), total[0])]


@pytest.mark.parametrize(("task", "metric"), [("gsm8k", "exact_match,flexible-extract"), ("math500", "exact_match,none")])
def test_local_tasks_run_offline(stories: Any, shared: Path, tmp_path: Path, task: str, metric: str) -> None:
    name = {"gsm8k": "gsm8k_local", "math500": "hendrycks_math500_local"}[task]
    found = evaluate(
        stories, task, data=shared / "data", limit=2, gen_kwargs={"max_gen_toks": 8}, max_gen_toks=8, output_dir=tmp_path,
        policy=reset.ReSET(0.3, 1.0),
    )  # fmt: skip
    assert found["results"][name][metric] in (0.0, 0.5, 1.0)
    assert found["n-samples"][name]["effective"] == 2
    first = found["samples"][name][0]
    source = json.loads((shared / "data" / {"gsm8k": "gsm8k_test.jsonl", "math500": "math500.jsonl"}[task]).read_text().splitlines()[0])
    field = "question" if task == "gsm8k" else "problem"
    assert first["doc"][field] == source[field]
    asked_first = str(first["arguments"])
    assert source[field].split()[0] in asked_first
    assert "'max_gen_toks': 8" in asked_first
    assert list(tmp_path.rglob(f"samples_{name}_*.jsonl"))
    assert list(tmp_path.rglob("results_*.json"))


def test_the_command_runs_the_harness(shared: Path) -> None:
    command = [sys.executable, "-m", "reset", "eval", str(shared / "models" / "stories260K"), "gsm8k", "--harness", "lm-eval"]
    options = ["--data", str(shared / "data"), "--limit", "1", "--max-new-tokens", "4", "--num-fewshot", "1", "--json"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["gsm8k_local"]["exact_match,strict-match"] == 0.0
    refused = subprocess.run([*command, "--traces"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "--traces" in refused.stderr


def test_chats_are_rendered_and_prefilled_answers_stay_open(demo_bf16: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "chat"
    shutil.copytree(demo_bf16, folder)
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
    lm = ResetLM(folder)
    assert lm.chat_template(True) == template
    assert lm.chat_template(False) is None
    with pytest.raises(ValueError, match="no chat template 'rag'"):
        lm.chat_template("rag")
    chat = [{"role": "user", "content": "Hi"}]
    assert lm.apply_chat_template(chat) == "<user>Hi<end>\n<assistant>"
    chat.append({"role": "assistant", "content": "The answer is "})
    assert lm.apply_chat_template(chat, add_generation_prompt=False) == "<user>Hi<end>\n<assistant>The answer is "
    assert "/" not in lm.tokenizer_name


def test_thoughts_are_left_out_of_answers(stories: Any) -> None:
    lm = ResetLM(stories, think_end_token="</think>")
    assert [lm._answer(text) for text in ("so </think>\n 5", "no end", "a</think>b</think> c")] == ["5", "no end", "c"]


def test_wrong_options_say_what_would_work(stories: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ReSET needs t_low and tau_0"):
        ResetLM(stories, t_low=0.3)
    with pytest.raises(ValueError, match="policy says it all"):
        ResetLM(stories, policy=reset.Greedy(), t_low=0.3)
    with pytest.raises(ValueError, match="weights: how to load a model"):
        ResetLM(stories, weights="nvfp4")
    with pytest.raises(ValueError, match=r"generation settings \['num_beams'\]"):
        ResetLM(stories).generate_until([asked("Tom", {"num_beams": 4})])
    with pytest.raises(ValueError, match="leaves no room"):
        ResetLM(stories).generate_until([asked("Tom", {"max_gen_toks": 512})])
    with pytest.raises(ValueError, match="'hellaswag' has no local files"):
        local_task("hellaswag", tmp_path)
    with pytest.raises(FileNotFoundError):
        local_task("gsm8k", tmp_path)
