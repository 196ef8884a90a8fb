"""ReSET inside ``model.generate`` of transformers: decisions of our controller, tokens of our engine."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import reset

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch", reason="needs the extra test-torch")
transformers = pytest.importorskip("transformers", reason="needs the extra test-torch")

from reset.integrations.transformers import ReSETLogitsProcessor  # noqa: E402  (it needs both)
from reset.integrations.transformers.processor import TensorPolicies  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about themselves
torch.set_num_threads(1)  # on a busy machine its threads wait for each other

POLICY = reset.ReSET(0.3, 2.0, window=4)
NEWLINE, DOUBLE_NEWLINE = [7], [11, 12]
SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


class Cautious(reset.Policy):
    """A policy written in Python, with state of its own."""

    def __init__(self) -> None:
        self.seen = 0

    def temperature(self, signal: reset.policies.Signal) -> float:
        self.seen += 1
        return 0.2 if signal.entropy < signal.step_entropy else 0.9 + 0.01 * (self.seen % 3)


POLICIES = [
    POLICY,
    reset.ReSET(0.0, 2.0, window=3, include_current=True),
    reset.EntropyThreshold(0.2, 2.2),
    reset.FixedTemperature(0.7),
    reset.Greedy(),
    Cautious(),
]


def hf(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def model(demo_bf16: Path) -> Any:
    return hf(demo_bf16)


@pytest.fixture(scope="module")
def tokenizer(demo_bf16: Path) -> Any:
    made = transformers.AutoTokenizer.from_pretrained(demo_bf16)
    made.padding_side, made.pad_token = "left", made.eos_token
    return made


def random_calls(rows: int, steps: int, vocab: int = 40, seed: int = 0) -> list[tuple[Any, Any]]:
    """What ``generate`` would hand over: growing ids, and logits of changing sharpness."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocab, (rows, 5))
    calls = []
    for _ in range(steps):
        logits = rng.normal(0, rng.uniform(0, 3, (rows, 1)), (rows, vocab)).astype(np.float32)
        logits[:, :2] = -np.inf
        calls.append((torch.from_numpy(ids), torch.from_numpy(logits)))
        ids = np.concatenate([ids, rng.choice([7, 11, 12, 3, 4], (rows, 1))], 1)
    return calls


def by_controllers(policy: reset.Policy, calls: list[tuple[Any, Any]]) -> list[list[Any]]:
    controllers = [reset.Controller(policy, NEWLINE, DOUBLE_NEWLINE) for _ in calls[0][0]]
    return [
        [c.step(x.numpy(), last_token=int(row[-1]) if i else None) for c, row, x in zip(controllers, ids, logits, strict=True)]
        for i, (ids, logits) in enumerate(calls)
    ]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
def test_decisions_are_the_controllers_on_the_same_logits(policy: reset.Policy) -> None:
    calls = random_calls(3, 80)
    processor = ReSETLogitsProcessor(policy, NEWLINE, DOUBLE_NEWLINE)
    expected = by_controllers(policy, calls)
    for (ids, logits), decisions in zip(calls, expected, strict=True):
        before = logits.clone()
        scaled = processor(ids, logits)
        assert torch.equal(logits, before)
        for row, decision in enumerate(decisions):
            if decision.temperature <= 1e-6:
                kept = torch.isfinite(scaled[row]).nonzero().flatten().tolist()
                assert kept == [int(logits[row].argmax())]
            else:
                torch.testing.assert_close(scaled[row], logits[row] / decision.temperature, rtol=1e-6, atol=0)
    ids = torch.cat([calls[-1][0], torch.ones((3, 1), dtype=torch.int64)], 1)
    for row, trace in enumerate(processor.traces(ids)):
        for name in ("temperature", "entropy", "step_entropy", "global_mean", "threshold", "boundary", "step_index"):
            np.testing.assert_array_equal(getattr(trace, name), [getattr(d[row], name) for d in expected], name)


def test_state_on_a_device_decides_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on an accelerator, here on the CPU: entropies in float32, state as tensors, nothing read back."""
    for policy in POLICIES[:-1]:
        calls = random_calls(4, 120, seed=3)
        processor = ReSETLogitsProcessor(policy, NEWLINE, DOUBLE_NEWLINE)
        monkeypatch.setattr(processor, "_on_host", processor._on_device)
        for i, (ids, logits) in enumerate(calls):
            if i:
                monkeypatch.setattr(torch.Tensor, "item", None)  # whoever asks for a number waits for the device
            processor(ids, logits)
            monkeypatch.undo()
            monkeypatch.setattr(processor, "_on_host", processor._on_device)
        assert isinstance(processor._tensors, TensorPolicies)
        traces = processor.traces(torch.cat([calls[-1][0], torch.ones((4, 1), dtype=torch.int64)], 1))
        for row, trace in enumerate(traces):
            decisions = [d[row] for d in by_controllers(policy, calls)]
            np.testing.assert_allclose(trace.entropy, [d.entropy for d in decisions], rtol=2e-6, atol=2e-6)
            np.testing.assert_array_equal(trace.temperature, [d.temperature for d in decisions])
            np.testing.assert_array_equal(trace.boundary, [d.boundary for d in decisions])


@pytest.mark.parametrize("options", [{}, {"top_p": 0.8}, {"top_k": 5, "min_p": 0.05}], ids=str)
def test_a_sampled_generation_is_that_of_our_engine(demo_bf16: Path, model: Any, tokenizer: Any, options: dict[str, Any]) -> None:
    text, n = ["Once upon a time", "12 + 30 ="], 2
    ours = reset.load(demo_bf16, kv="f32")
    expected = reset.generate(ours, text, policy=POLICY, seed=5, n=n, max_new_tokens=24, chat=False, **options)
    assert isinstance(expected, list)
    processor = ReSETLogitsProcessor(POLICY, tokenizer=tokenizer, seed=5, n=n, **options)
    inputs = tokenizer(text, return_tensors="pt", padding=True)
    assert (inputs.attention_mask == 0).any()  # the prompts differ in length: the shorter one is padded
    out = model.generate(**inputs, logits_processor=[processor], do_sample=True, num_return_sequences=n, max_new_tokens=24, top_k=0)
    for g, trace in zip(expected, processor.traces(out), strict=True):
        assert trace.token_id.tolist() == g.token_ids
        for name in ("temperature", "boundary", "step_index"):
            np.testing.assert_array_equal(getattr(trace, name), getattr(g.trace, name), name)
        for name in ("entropy", "step_entropy", "global_mean", "logprob", "sampling_logprob"):
            np.testing.assert_allclose(getattr(trace, name), getattr(g.trace, name), rtol=1e-3, atol=1e-3, err_msg=name)


def test_generate_draws_from_tempered_logits_and_the_trace_says_so(model: Any, tokenizer: Any) -> None:
    text = ["Tell me a story", "Hi"]
    inputs = tokenizer(text, return_tensors="pt", padding=True)
    processor = ReSETLogitsProcessor(POLICY, tokenizer=tokenizer)
    torch.manual_seed(0)
    out = model.generate(
        **inputs,
        logits_processor=[processor],
        max_new_tokens=20,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **SAMPLING,
    )
    traces = processor.traces(out)
    length = inputs.input_ids.shape[1]
    for row, trace in enumerate(traces):
        controller = reset.Controller(POLICY, *reset.step_boundaries(tokenizer))
        last = None
        for i in range(len(trace)):
            decision = controller.step(out.logits[i][row], last_token=last)
            last = int(out.sequences[row, length + i])
            assert (trace.temperature[i], trace.token_id[i]) == (decision.temperature, last)
            torch.testing.assert_close(out.scores[i][row], out.logits[i][row] / decision.temperature)
            assert trace.logprob[i] == pytest.approx(torch.log_softmax(out.logits[i][row].double(), -1)[last].item(), abs=1e-5)
        assert np.isnan(trace.sampling_logprob).all()


def test_rows_of_a_trace_end_at_the_end_token() -> None:
    calls = random_calls(2, 6)
    processor = ReSETLogitsProcessor(POLICY, NEWLINE, DOUBLE_NEWLINE, eos_token_id=[3, 4])
    for ids, logits in calls:
        processor(ids, logits)
    ids = torch.cat([calls[-1][0], torch.ones((2, 1), dtype=torch.int64)], 1)
    for row, trace in zip(ids[:, 5:].tolist(), processor.traces(ids), strict=True):
        ends = [i for i, token in enumerate(row) if token in (3, 4)]
        assert len(trace) == (ends[0] + 1 if ends else 6)


def test_it_streams(model: Any, tokenizer: Any) -> None:
    class Heard(transformers.TextStreamer):
        pieces: list[str] = []  # noqa: RUF012  (one test's)

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            self.pieces.append(text)

    inputs = tokenizer("Once", return_tensors="pt")
    processor = ReSETLogitsProcessor(POLICY, tokenizer=tokenizer, seed=1)
    streamer = Heard(tokenizer, skip_prompt=True)
    out = model.generate(**inputs, logits_processor=[processor], streamer=streamer, do_sample=True, max_new_tokens=12)
    assert "".join(streamer.pieces) == tokenizer.decode(out[0, inputs.input_ids.shape[1] :])


def test_one_processor_serves_one_call(model: Any, tokenizer: Any) -> None:
    inputs = tokenizer("Once", return_tensors="pt")
    processor = ReSETLogitsProcessor(POLICY, tokenizer=tokenizer, seed=1)
    first = model.generate(**inputs, logits_processor=[processor], do_sample=True, max_new_tokens=5)
    with pytest.raises(ValueError, match="reset\\(\\) between"):
        model.generate(**inputs, logits_processor=[processor], do_sample=True, max_new_tokens=5)
    processor.reset()
    assert torch.equal(first, model.generate(**inputs, logits_processor=[processor], do_sample=True, max_new_tokens=5))
    with pytest.raises(ValueError, match="expected \\(1, "):
        processor.traces(first[:, :-1])


def test_beam_search_is_refused(model: Any, tokenizer: Any) -> None:
    inputs = tokenizer("Once", return_tensors="pt")
    for sample in (False, True):
        with pytest.raises(ValueError, match="num_beams = 1"):
            model.generate(
                **inputs,
                logits_processor=[ReSETLogitsProcessor(POLICY, tokenizer=tokenizer)],
                num_beams=3,
                do_sample=sample,
                max_new_tokens=5,
            )
    calls = random_calls(2, 2)
    processor = ReSETLogitsProcessor(POLICY)
    processor(*calls[0])
    with pytest.raises(ValueError, match="beam search reorders"):
        processor(calls[1][0].flip(0), calls[1][1])


def test_wrong_options_say_what_would_work() -> None:
    with pytest.raises(TypeError, match=r"reset\.Policy"):
        ReSETLogitsProcessor(0.5)
    with pytest.raises(ValueError, match="top_p: options of the draw"):
        ReSETLogitsProcessor(POLICY, top_p=0.9)
    ids, logits = random_calls(3, 1)[0]
    with pytest.raises(ValueError, match="n = 2 does not divide the 3 rows"):
        ReSETLogitsProcessor(POLICY, seed=1, n=2)(ids, logits)
    with pytest.raises(ValueError, match="streams: 1 for a batch of 3"):
        ReSETLogitsProcessor(POLICY, seed=1, streams=[4])(ids, logits)
    with pytest.raises(ValueError, match="record = False"):
        ReSETLogitsProcessor(POLICY, record=False).traces(ids)
