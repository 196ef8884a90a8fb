"""ReSET in vLLM's processors, driven as its two model runners drive them: one controller per request says what is right.

The interface classes, and the builder of V1's batch updates, are those of the installed vLLM; the batch around that builder is restated
here from vLLM's own (`v1/worker/gpu_input_batch.py`), which imports the whole engine. Logits are random and on the CPU. No engine runs.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import reset

torch = pytest.importorskip("torch", reason="needs vLLM's Python parts and torch")
pytest.importorskip("vllm", reason="needs vLLM's Python parts")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the library, about itself

try:
    import vllm.tokenizers
    from vllm.sampling_params import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate, BatchUpdateBuilder, MoveDirectionality, _load_logitsprocs_by_fqcns
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
    from vllm.v1.worker.gpu.sample.logits_processor.loader import _load_v2_logitsprocs_by_fqcns
except ModuleNotFoundError as error:
    pytest.skip(f"needs {error.name}, which vLLM imports", allow_module_level=True)

from reset.integrations.vllm import (  # noqa: E402  (they need vLLM)
    ReSETLogitsProcessor,
    ReSETLogitsProcessorV1,
    ReSETLogitsProcessorV2,
    read_request,
)

torch.set_num_threads(1)
VOCAB, MOST = 40, 6
NEWLINE, DOUBLE_NEWLINE = [7], [11, 12]
CPU = torch.device("cpu")


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a processor reads of an engine's configuration, with a tokenizer whose boundaries are those above."""
    texts = {7: "\n", 11: "\n\n", 12: ".\n\n"}

    class Tokenizer:
        def __len__(self) -> int:
            return VOCAB

        def decode(self, ids: list[int]) -> str:
            return "".join(texts.get(i, "a") for i in ids)

    monkeypatch.setattr(vllm.tokenizers, "cached_tokenizer_from_config", lambda model_config: Tokenizer())
    return SimpleNamespace(model_config=None, speculative_config=None, scheduler_config=SimpleNamespace(max_num_seqs=MOST))


class Request:
    """A request with its controller: the oracle."""

    def __init__(self, name: str, rng: np.random.Generator, own_ids: bool = False) -> None:
        self.name = name
        self.steered = bool(rng.random() < 0.8)
        values = {"t_low": float(rng.choice([0.0, 0.3])), "tau_0": float(rng.uniform(1, 3)), "window": int(rng.integers(1, 6))}
        ids = {"reset_nl_ids": [3], "reset_dnl_ids": [int(rng.integers(13, 20))]} if own_ids else {}
        extra = {"reset": True, **values, **ids} if self.steered else None
        self.params = SamplingParams(temperature=1.0, extra_args=extra, max_tokens=1000)
        boundaries = (ids["reset_nl_ids"], ids["reset_dnl_ids"]) if ids else (NEWLINE, DOUBLE_NEWLINE)
        self.controller = reset.Controller(reset.ReSET(**values), *boundaries)
        self.prompt: list[int] = rng.integers(0, VOCAB, rng.integers(1, 9)).tolist()
        self.output: list[int] = []
        self.left = int(rng.integers(5, 60))
        self.read = 0  # tokens of the prompt that were read

    def expect(self, logits: Any, final: bool) -> float:
        """The temperature of a draw; one that is thrown away leaves no trace."""
        before = self.controller.snapshot()
        decision = self.controller.step(logits.numpy(), last_token=self.output[-1] if self.output else None)
        if not final:
            self.controller.restore(before)
        return decision.temperature if self.steered else 1.0


def some_logits(rows: int, rng: np.random.Generator) -> Any:
    logits = rng.normal(0, rng.uniform(0, 3, (rows, 1)), (rows, VOCAB)).astype(np.float32)
    logits[:, :2] = -np.inf
    return torch.from_numpy(logits)


def check(row: Any, logits: Any, temperature: float) -> None:
    if temperature > 1e-6:
        torch.testing.assert_close(row, logits / temperature, rtol=1e-6, atol=0)
    else:
        assert torch.isfinite(row).nonzero().flatten().tolist() == [int(logits.argmax())]


def draw(rng: np.random.Generator) -> int:
    return int(rng.choice([3, 7, 7, 11, 12, 13, 14, 20]))


# Model runner V1


class Batch:
    """V1's batch without holes, as far as processors hear of it."""

    def __init__(self) -> None:
        self.rows: list[Request | None] = []
        self.builder = BatchUpdateBuilder()

    def index(self, request: Request) -> int | None:
        return self.rows.index(request) if request in self.rows else None

    def remove(self, request: Request) -> None:
        index = self.rows.index(request)
        self.builder.removed_append(index)
        self.rows[index] = None

    def add(self, request: Request) -> None:
        index = self.builder.pop_removed()  # whoever fills a hole takes it out of the list of removals
        if index is None:
            index = len(self.rows)
            self.rows.append(None)
        self.builder.added.append((index, request.params, request.prompt, request.output))
        self.rows[index] = request

    def condense(self) -> None:
        last = len(self.rows) - 1
        while self.builder.removed:
            while last >= 0 and self.rows[last] is None:
                last -= 1
            empty = self.builder.peek_removed()
            if empty >= last:
                break
            self.builder.pop_removed()
            self.builder.moved.append((last, empty, MoveDirectionality.UNIDIRECTIONAL))
            self.rows[empty], self.rows[last] = self.rows[last], None
        self.rows = [request for request in self.rows if request is not None]

    def swap(self, a: int, b: int) -> None:
        self.builder.moved.append((a, b, MoveDirectionality.SWAP))
        self.rows[a], self.rows[b] = self.rows[b], self.rows[a]


class EngineV1:
    """A scheduler that starts, pauses, ends and swaps requests at random."""

    def __init__(self, processor: Any, rng: np.random.Generator) -> None:
        self.processor, self.rng, self.batch = processor, rng, Batch()
        self.requests: list[Request] = []
        self.made = self.pauses = self.pieces = 0

    def step(self) -> None:
        rng, batch = self.rng, self.batch
        while len(self.requests) < MOST and rng.random() < 0.5:
            self.requests.append(Request(f"r{self.made}", rng, own_ids=rng.random() < 0.3))
            self.made += 1
        ended = [request for request in self.requests if request.left == 0]
        self.requests = [request for request in self.requests if request.left > 0]
        scheduled = [request for request in self.requests if rng.random() < 0.8]
        for request in [r for r in batch.rows if r not in scheduled]:
            batch.remove(request)
            self.pauses += request not in ended
        new = [request for request in scheduled if batch.index(request) is None]
        for i in rng.permutation(len(new)):
            batch.add(new[i])
        batch.condense()
        if len(batch.rows) > 1 and rng.random() < 0.4:
            batch.swap(*rng.choice(len(batch.rows), 2, replace=False).tolist())
        self.processor.update_state(batch.builder.get_and_reset(len(batch.rows)))
        if not batch.rows:
            return
        logits = some_logits(len(batch.rows), rng)
        found = self.processor.apply(logits.clone())
        for index, request in enumerate(batch.rows):
            request.read += 3
            final = request.read >= len(request.prompt)  # before that the prompt is read in pieces, and nothing stays
            self.pieces += not final
            check(found[index], logits[index], request.expect(logits[index], final))
            if final:
                request.output.append(draw(rng))
                request.left -= 1


@pytest.mark.parametrize("seed", range(4))
def test_v1_follows_additions_removals_moves_swaps_and_pauses(config: Any, seed: int) -> None:
    processor = ReSETLogitsProcessor(config, CPU, False)
    assert isinstance(processor, ReSETLogitsProcessorV1)
    assert not processor.is_argmax_invariant()
    engine = EngineV1(processor, np.random.default_rng(seed))
    for _ in range(250):
        engine.step()
    assert min(engine.made - MOST, engine.pauses, engine.pieces) > 10


def test_v1_takes_a_request_that_leaves_and_comes_back_elsewhere_in_one_update(config: Any) -> None:
    rng = np.random.default_rng(9)
    a, b = (Request(name, rng) for name in "ab")
    a.params = b.params = SamplingParams(temperature=1.0, extra_args={"reset": True, "t_low": 0.3, "tau_0": 2.0, "window": 2})
    a.steered = b.steered = True
    a.controller, b.controller = (reset.Controller(reset.ReSET(0.3, 2.0, window=2), NEWLINE, DOUBLE_NEWLINE) for _ in range(2))
    processor = ReSETLogitsProcessorV1(config, CPU, False)

    def step(order: list[Request]) -> None:
        logits = some_logits(len(order), rng)
        found = processor.apply(logits.clone())
        for index, request in enumerate(order):
            check(found[index], logits[index], request.expect(logits[index], True))
            request.output.append(draw(rng))

    processor.update_state(BatchUpdate(1, removed=[], added=[(0, a.params, a.prompt, a.output)], moved=[]))
    for _ in range(5):
        step([a])
    processor.update_state(
        BatchUpdate(2, removed=[], added=[(1, a.params, a.prompt, a.output), (0, b.params, b.prompt, b.output)], moved=[])
    )
    for _ in range(5):
        step([b, a])
    processor.update_state(BatchUpdate(2, removed=[], added=[], moved=[(0, 1, MoveDirectionality.SWAP)]))
    step([a, b])
    processor.update_state(BatchUpdate(1, removed=[0], added=[], moved=[(1, 0, MoveDirectionality.UNIDIRECTIONAL)]))
    step([b])


# Model runner V2


@pytest.mark.parametrize("seed", range(4))
def test_v2_follows_slots_rows_in_any_order_and_prompts_in_pieces(config: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    filled = torch.zeros(MOST, dtype=torch.int32)
    state = LogitsProcRequestState(
        device=CPU, max_num_reqs=MOST, vocab_size=VOCAB, all_token_ids=None, prompt_len=None, prefill_len=SimpleNamespace(gpu=filled),
        total_len=None,
    )  # fmt: skip
    processor = ReSETLogitsProcessor(config, state)
    assert isinstance(processor, ReSETLogitsProcessorV2)
    slots: dict[int, Request] = {}
    made = pieces = 0
    for _ in range(250):
        slots = {slot: request for slot, request in slots.items() if request.left > 0}
        for slot in set(range(MOST)) - set(slots):
            if rng.random() < 0.3:
                slots[slot] = Request(f"r{made}", rng, own_ids=rng.random() < 0.3)
                made += 1
                filled[slot] = len(slots[slot].prompt)
                assert processor.add_request(slot, slots[slot].params) == slots[slot].steered
        processor.apply_staged_writes()
        rows = [slot for slot in rng.permutation(list(slots)).astype(int).tolist() if rng.random() < 0.8]
        if not rows:
            continue
        fed, positions = [], []
        for slot in rows:
            request = slots[slot]
            request.read = min(request.read + 3, len(request.prompt))
            sequence = request.prompt[: request.read] + request.output
            fed.append(sequence[-1])
            positions.append(len(sequence) - 1)
        mapping = torch.tensor(rows, dtype=torch.int32)
        ctx = LogitsContext(
            expanded_idx_mapping=mapping, idx_mapping=mapping, idx_mapping_np=np.array(rows, np.int32),
            expanded_local_pos=torch.zeros_like(mapping), input_ids=torch.tensor(fed, dtype=torch.int32),
            pos=torch.tensor(positions), seq_lens_upper_bound_np=np.array(positions) + 1,
        )  # fmt: skip
        logits = some_logits(len(rows), rng)
        given = logits.clone()
        found = processor.apply(given, ctx)
        assert found is given  # in place
        for row, slot in enumerate(rows):
            request = slots[slot]
            final = request.read == len(request.prompt)
            pieces += not final
            check(found[row], logits[row], request.expect(logits[row], final))
            if final:
                request.output.append(draw(rng))
                request.left -= 1
    assert min(made - MOST, pieces) > 10


def test_both_loaders_take_the_name_that_is_documented() -> None:
    name = "reset.integrations.vllm:ReSETLogitsProcessor"
    assert _load_v2_logitsprocs_by_fqcns([name]) == _load_logitsprocs_by_fqcns([name]) == [ReSETLogitsProcessor]


def test_nothing_is_registered_for_engines_that_do_not_ask() -> None:
    from importlib.metadata import distributions

    ours = [d for d in distributions() if d.metadata["Name"] == "reset-nvfp4"]
    assert not [e for d in ours for e in d.entry_points if e.group.startswith("vllm")]


def params(temperature: float = 1.0, **extra: Any) -> Any:
    return SamplingParams(temperature=temperature, extra_args=extra)


def test_parameters_are_spelt_as_the_published_adapter_spells_them() -> None:
    assert read_request(params()) is None
    assert read_request(params(reset=False, t_low=5)) is None
    found = read_request(params(reset=True, t_low=0.3))
    assert found == (reset.ReSET(0.3, 0.6349, t_high=1.0, window=32), None)
    found = read_request(params(reset=1, t_low=0.1, h_threshold=0.5, saat_window=8, t_high=0.9, reset_nl_ids=[1], reset_dnl_ids=[2, 3]))
    assert found == (reset.ReSET(0.1, 0.5, t_high=0.9, window=8), ((1,), (2, 3)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "t_low'\\] is missing"),
        ({"reset": "false"}, "reset'\\] = 'false' is not possible"),
        ({"t_low": 0.3, "window": float("inf")}, "window'\\] = inf is not possible"),
        ({"t_low": 0.3, "window": float("nan")}, "window'\\] = nan is not possible"),
        ({"t_low": "warm"}, "t_low'\\] = 'warm' is not possible"),
        ({"t_low": 2.0}, "at most t_high"),
        ({"t_low": 0.3, "window": 2.5}, "a number of tokens"),
        ({"t_low": 0.3, "window": 0}, "window"),
        ({"t_low": 0.3, "reset_nl_ids": [1]}, "reset_dnl_ids'\\] is missing"),
        ({"t_low": 0.3, "reset_nl_ids": [-1], "reset_dnl_ids": []}, "reset_nl_ids'\\] is no list"),
        ({"t_low": 0.3, "temperature": 0.6}, "use temperature=1.0"),
    ],
)
def test_wrong_parameters_fail_the_request(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReSETLogitsProcessor.validate_params(params(**{"reset": True, **wrong}))


def test_what_an_engine_cannot_have_is_refused(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="speculative decoding"):
        ReSETLogitsProcessorV1(SimpleNamespace(**{**vars(config), "speculative_config": object()}), CPU, False)
    monkeypatch.setattr(vllm.tokenizers, "cached_tokenizer_from_config", lambda model_config: None)
    processor = ReSETLogitsProcessorV1(config, CPU, False)
    with pytest.raises(ValueError, match="no tokenizer"):
        processor.update_state(BatchUpdate(1, removed=[], added=[(0, params(reset=True, t_low=0.3), [1], [])], moved=[]))
