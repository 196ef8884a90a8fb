"""generate and stream: prompts of every form, batches, seeds, stops, traces, interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from random_checkpoint import PROMPT

import reset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_itimer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timer of processor time")

POLICY = reset.ReSET(t_low=0.3, tau_0=2.0)


@pytest.fixture(scope="module")
def model(demo_nvfp4: Path) -> reset.Model:
    return reset.load(demo_nvfp4)


def one(model: reset.Model, prompt: Any = PROMPT, **options: Any) -> reset.Generation:
    options = {"policy": POLICY, "max_new_tokens": 24, "seed": 7, **options}
    made = reset.generate(model, prompt, **options)
    assert isinstance(made, reset.Generation)
    return made


def many(model: reset.Model, prompt: Any, **options: Any) -> list[reset.Generation]:
    options = {"policy": POLICY, "max_new_tokens": 24, "seed": 7, **options}
    made = reset.generate(model, prompt, **options)
    assert isinstance(made, list)
    return made


def test_the_trace_has_one_row_for_each_token(model: reset.Model) -> None:
    g = one(model)
    trace = g.trace
    assert g.finish_reason == "length"
    assert len(trace) == len(g.token_ids) == 24
    assert trace.token_id.tolist() == g.token_ids
    assert np.all(trace.entropy >= 0)
    assert np.all(trace.logprob <= 0)
    assert np.all(trace.sampling_logprob <= 0)
    assert set(trace.temperature.tolist()) <= {0.3, 1.0}
    assert np.array_equal(np.cumsum(trace.boundary), trace.step_index)
    assert g.text == model.tokenizer.decode(g.token_ids)  # type: ignore[union-attr]
    assert g.seed == 7
    assert g.tokens_per_second > 0


def test_entropies_and_logprobs_are_those_of_the_raw_logits(model: reset.Model) -> None:
    g = one(model)
    ids = g.prompt_token_ids + g.token_ids
    logits = model.logits(ids).astype(np.float64)[len(g.prompt_token_ids) - 1 : -1]
    logp = logits - np.log(np.sum(np.exp(logits - logits.max(1, keepdims=True)), 1, keepdims=True)) - logits.max(1, keepdims=True)
    np.testing.assert_allclose(g.trace.entropy, -(np.exp(logp) * logp).sum(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(g.trace.logprob, logp[np.arange(len(g.token_ids)), g.token_ids], rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(model: reset.Model) -> None:
    assert one(model).token_ids == one(model).token_ids
    assert one(model).token_ids != one(model, seed=8).token_ids


def test_a_drawn_seed_is_kept_and_repeats_the_generation(model: reset.Model) -> None:
    g = one(model, seed=None)
    assert one(model, seed=g.seed).token_ids == g.token_ids


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_tokens_do_not_depend_on_the_batch(model: reset.Model, batch_size: int) -> None:
    prompts = [PROMPT, "Wait, check", "1. Read the question twice.\n", [5, 6, 7]]
    alone = [g for p in prompts for g in many(model, p, n=2, batch_size=1)]
    together = many(model, prompts, n=2, batch_size=batch_size)
    assert [g.token_ids for g in together] == [g.token_ids for g in alone]
    assert [g.trace.entropy.tolist() for g in together] == [g.trace.entropy.tolist() for g in alone]


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_tokens_do_not_depend_on_the_threads(demo_nvfp4: Path, model: reset.Model, threads: int) -> None:
    g = one(reset.load(demo_nvfp4, threads=threads))
    assert g.token_ids == one(model).token_ids
    assert np.array_equal(g.trace.entropy, one(model).trace.entropy)


def test_samples_of_one_prompt_differ_and_come_in_order(model: reset.Model) -> None:
    samples = many(model, PROMPT, n=4)
    assert len({tuple(g.token_ids) for g in samples}) == 4
    assert [g.sample_index for g in samples] == [0, 1, 2, 3]
    assert samples[0].token_ids == one(model).token_ids


def test_prompt_forms(model: reset.Model) -> None:
    assert model.tokenizer is not None
    ids = model.tokenizer.encode(PROMPT)
    assert one(model, ids).token_ids == one(model, PROMPT).token_ids == one(model, np.array(ids)).token_ids
    assert [g.prompt_token_ids for g in many(model, [PROMPT, ids, [1]])] == [ids, ids, [1]]
    assert len(many(model, [PROMPT])) == 1


@pytest.mark.parametrize(
    ("prompt", "error", "match"),
    [
        ([], ValueError, "empty"),
        ("", ValueError, "no tokens"),
        (3, TypeError, "int"),
        ([PROMPT, 3.5], TypeError, r"prompt\[1\]"),
        ([100_000], ValueError, "token id 100000"),
        ([-1], ValueError, "token id -1"),
        ([1] * 1024, ValueError, "1024 positions"),
        ([{"role": "user", "content": "x"}], ValueError, "chat template"),
    ],
)
def test_prompts_that_make_no_sense_are_refused(model: reset.Model, prompt: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        one(model, prompt)


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"n": 0},
        {"seed": -1},
        {"seed": 1 << 64},
        {"top_p": 1.5},
        {"top_p": float("nan")},
        {"top_k": -1},
        {"min_p": -0.1},
        {"stop": ""},
        {"chat": True},
        {"thinking": True},
        {"boundary": "words"},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(model: reset.Model, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        one(model, **options)


def test_stream_yields_what_generate_folds(model: reset.Model) -> None:
    steps = list(reset.stream(model, PROMPT, policy=POLICY, max_new_tokens=24, seed=7))
    g = one(model)
    assert [s.token_id for s in steps] == g.token_ids
    assert "".join(s.text for s in steps) == g.text
    assert [s.entropy for s in steps] == g.trace.entropy.tolist()
    assert [s.finish_reason for s in steps] == [None] * 23 + ["length"]


def test_a_stop_string_ends_the_text_before_it(model: reset.Model) -> None:
    whole = one(model).text
    stop = whole[10:13]
    g = one(model, stop=stop)
    assert g.finish_reason == "stop"
    assert g.text == whole[: whole.index(stop)]
    assert len(g.token_ids) < 24
    assert len(g.trace) == len(g.token_ids)


def test_a_stopped_sample_does_not_disturb_its_neighbours(model: reset.Model) -> None:
    free = many(model, PROMPT, n=3)
    stop = free[1].text[8:12]
    stopped = many(model, PROMPT, n=3, stop=stop)
    for a, b in zip(free, stopped, strict=True):
        assert b.token_ids == a.token_ids[: len(b.token_ids)]
        assert stop not in b.text


def test_end_ids_come_from_generation_config(demo_nvfp4: Path, tmp_path: Path, model: reset.Model) -> None:
    free = one(model, policy=reset.Greedy(), ignore_eos=True)
    target = free.token_ids[5]
    path = tmp_path / "m"
    shutil.copytree(demo_nvfp4, path)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [target]}))
    ending = reset.load(path)
    g = one(ending, policy=reset.Greedy())
    assert g.finish_reason == "stop"
    assert g.token_ids == free.token_ids[: free.token_ids.index(target) + 1]
    assert one(ending, policy=reset.Greedy(), ignore_eos=True).token_ids == free.token_ids


def test_without_a_policy_the_checkpoint_decides(demo_nvfp4: Path, tmp_path: Path, model: reset.Model) -> None:
    assert one(model, policy=None).token_ids == one(model, policy=reset.Greedy()).token_ids
    path = tmp_path / "m"
    shutil.copytree(demo_nvfp4, path)
    (path / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 0.7, "top_k": 5, "top_p": 0.9}))
    sampling = reset.load(path)
    expected = one(model, policy=reset.FixedTemperature(0.7), top_k=5, top_p=0.9)
    assert one(sampling, policy=None).token_ids == expected.token_ids
    assert one(sampling, policy=reset.FixedTemperature(0.7)).token_ids == one(model, policy=reset.FixedTemperature(0.7)).token_ids


def test_greedy_is_the_arg_max_of_the_logits(model: reset.Model) -> None:
    g = one(model, policy=reset.Greedy())
    logits = model.logits(g.prompt_token_ids + g.token_ids)[len(g.prompt_token_ids) - 1 : -1]
    assert logits.argmax(1).tolist() == g.token_ids
    assert np.all(g.trace.temperature == 0)
    assert np.all(np.isnan(g.trace.threshold))


def test_a_policy_written_in_python_takes_part(model: reset.Model) -> None:
    class Copy(reset.Policy):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def temperature(self, signal: Any) -> float:
            return 1.0 if signal.entropy >= 2.0 else 0.3

    assert one(model, policy=Copy()).token_ids == one(model, policy=reset.EntropyThreshold(0.3, 2.0)).token_ids


def test_an_error_in_a_python_policy_reaches_the_caller(model: reset.Model) -> None:
    class Broken(reset.Policy):
        def temperature(self, signal: Any) -> float:
            raise LookupError("no temperature today")

    with pytest.raises(LookupError, match="no temperature today"):
        one(model, policy=Broken())


def test_generation_ends_where_the_context_ends(model: reset.Model) -> None:
    g = one(model, [1] * 1020, max_new_tokens=100)
    assert g.finish_reason == "length"
    assert len(g.token_ids) == 4


@contextmanager
def ctrl_c_after(seconds: float) -> Iterator[None]:
    """Does what Ctrl-C does after so much of this process's own processor time, so that a busy machine moves nothing."""
    before = signal.signal(signal.SIGPROF, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@needs_itimer
def test_ctrl_c_keeps_what_was_generated(model: reset.Model) -> None:
    with pytest.raises(reset.Interrupted) as caught, ctrl_c_after(0.1):
        many(model, [PROMPT, "Wait"], max_new_tokens=900, n=8, batch_size=2)
    assert isinstance(caught.value, KeyboardInterrupt)
    partial = caught.value.partial
    assert len(partial) == 16
    assert 0 < sum(len(g.token_ids) for g in partial) < 16 * 900
    reference = many(model, [PROMPT, "Wait"], max_new_tokens=20, n=8)
    for g, r in zip(partial, reference, strict=True):
        assert len(g.trace) == len(g.token_ids)
        assert g.token_ids[:20] == r.token_ids[: len(g.token_ids)]


def test_without_a_tokenizer_ids_go_in_and_no_text_comes_out(demo_nvfp4: Path, tmp_path: Path, model: reset.Model) -> None:
    path = tmp_path / "m"
    shutil.copytree(demo_nvfp4, path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).unlink()
    bare = reset.load(path)
    g = one(bare, [5, 6, 7])
    assert bare.tokenizer is None
    assert g.text == ""
    assert not g.trace.boundary.any()
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        one(bare, "text")


def test_text_boundaries_see_blank_lines_whatever_the_tokens(model: reset.Model) -> None:
    g = one(model, max_new_tokens=400, boundary="text", policy=reset.FixedTemperature(1.5))
    assert model.tokenizer is not None
    text = ""
    for index, token in enumerate(g.token_ids[:-1]):
        text += model.tokenizer.decode([token])
        if "\n\n" in model.tokenizer.decode([token]):
            assert g.trace.boundary[index + 1]


def widen(source: Path, path: Path, extra: int, gain: float) -> None:
    """Writes ``source`` with ``extra`` ids more than its tokenizer has; their head rows are the first ones, repeated, times ``gain``."""
    from safetensors.numpy import load_file

    from reset import _core

    tensors = {k: v.astype(np.float32) for k, v in load_file(source / "model.safetensors").items()}
    config = json.loads((source / "config.json").read_text())
    config["vocab_size"] += extra
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = np.concatenate([tensors[name], gain * np.resize(tensors[name], (extra, tensors[name].shape[1]))])
    _core.write_checkpoint(str(path), json.dumps(config), tensors)
    shutil.copy(source / "tokenizer.json", path)


def test_ids_the_tokenizer_cannot_decode_are_never_drawn(demo_bf16: Path, tmp_path: Path) -> None:
    """Logits wider than the tokenizer, as Qwen has them: widen the head, make the padding the most probable."""
    widen(demo_bf16, tmp_path / "wide", 16, 5.0)
    wide = reset.load(tmp_path / "wide")
    for policy in (reset.Greedy(), reset.FixedTemperature(1.0)):
        g = one(wide, policy=policy, max_new_tokens=64)
        assert max(g.token_ids) < wide.config["vocab_size"] - 16


def test_a_large_vocabulary_draws_the_same_on_any_threads_and_in_any_batch(demo_bf16: Path, tmp_path: Path) -> None:
    """So large that threads share a draw, or the sequences of a batch."""
    widen(demo_bf16, tmp_path / "wide", 30_000, 0.9)
    options: dict[str, Any] = {"n": 5, "max_new_tokens": 24, "top_p": 0.95}
    expected = many(reset.load(tmp_path / "wide", threads=1), PROMPT, batch_size=1, **options)
    assert len({tuple(g.token_ids) for g in expected}) == 5
    for threads, batch_size in ((2, 1), (2, 5), (3, 2), (3, 4)):
        found = many(reset.load(tmp_path / "wide", threads=threads), PROMPT, batch_size=batch_size, **options)
        assert [g.token_ids for g in found] == [g.token_ids for g in expected]
        assert [g.trace.sampling_logprob.tolist() for g in found] == [g.trace.sampling_logprob.tolist() for g in expected]


def test_a_path_is_loaded_once(demo_nvfp4: Path) -> None:
    reset.model_cache.clear()
    one(demo_nvfp4)  # type: ignore[arg-type]
    one(str(demo_nvfp4))  # type: ignore[arg-type]
    assert len(reset.model_cache) == 1
    reset.model_cache.clear()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_worker_generates(model: reset.Model) -> None:
    expected = one(model).token_ids
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(one(model).token_ids).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert json.loads(pipe.read()) == expected
    os.waitpid(child, 0)


def test_generations_run_in_several_threads_at_once(model: reset.Model) -> None:
    expected = [one(model, seed=seed).token_ids for seed in range(4)]
    found: dict[int, list[int]] = {}
    threads = [threading.Thread(target=lambda s=seed: found.__setitem__(s, one(model, seed=s).token_ids)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in range(4)] == expected


def test_progress_goes_to_stderr(model: reset.Model, capfd: pytest.CaptureFixture[str]) -> None:
    many(model, PROMPT, n=2, progress=True)
    assert capfd.readouterr().out == ""


def test_numpy_integers_are_integers(model: reset.Model) -> None:
    made = reset.generate(
        model, PROMPT, policy=POLICY, seed=np.int64(7), max_new_tokens=np.int32(24), n=np.int64(1), top_k=np.int16(400)  # type: ignore[arg-type]
    )  # fmt: skip
    assert isinstance(made, reset.Generation)
    assert made.token_ids == one(model).token_ids


def test_messages_in_a_tuple_are_messages(model: reset.Model) -> None:
    with pytest.raises(ValueError, match="chat template"):
        one(model, ({"role": "user", "content": "x"},))


@pytest.mark.parametrize("options", [{"stop": 5}, {"stop": None}], ids=str)
def test_stops_of_another_type_are_refused(model: reset.Model, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="stop"):
        one(model, **options)


@pytest.mark.parametrize(
    "config",
    [{"temperature": "x"}, {"top_k": "a"}, {"top_k": 50.0}, {"top_k": -1}, {"top_p": 1.5}, {"min_p": True}, {"do_sample": "yes"}],
    ids=str,
)
def test_a_wrong_generation_config_is_named(demo_nvfp4: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    path = tmp_path / "m"
    shutil.copytree(demo_nvfp4, path)
    (path / "generation_config.json").write_text(json.dumps({"do_sample": True, **config}))
    with pytest.raises(reset.CheckpointError, match=rf"generation_config\.json[\s\S]*{next(iter(config))}"):
        one(reset.load(path), policy=None)


def test_half_a_surrogate_pair_is_refused(model: reset.Model) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        one(model, "a\ud800b")


@needs_itimer
def test_ctrl_c_in_a_stream_keeps_what_was_streamed(model: reset.Model) -> None:
    steps = reset.stream(model, PROMPT, policy=POLICY, max_new_tokens=900, seed=7, ignore_eos=True)
    seen = [next(steps).token_id for _ in range(5)]
    with pytest.raises(reset.Interrupted) as caught, ctrl_c_after(0.02):
        seen.extend(step.token_id for step in steps)
    assert len(seen) > 5
    assert caught.value.partial[0].token_ids[: len(seen)] == seen


@needs_itimer
def test_ctrl_c_is_answered_during_a_long_prompt(demo_nvfp4: Path) -> None:
    """The prompt takes many chunks; the interrupt must not wait for the last one, and a later call goes on."""
    model = reset.load(demo_nvfp4, threads=1)
    prompts = [[1 + i] * 900 for i in range(16)]
    with pytest.raises(reset.Interrupted) as caught, ctrl_c_after(0.05):
        many(model, prompts, max_new_tokens=1, batch_size=16)
    assert [g.token_ids for g in caught.value.partial] == [[]] * 16
    assert [g.finish_reason for g in caught.value.partial] == [None] * 16


def test_an_interruption_can_be_pickled(model: reset.Model) -> None:
    import pickle

    partial = [one(model)]
    copied = pickle.loads(pickle.dumps(reset.Interrupted(partial)))
    assert copied.partial[0].token_ids == partial[0].token_ids
