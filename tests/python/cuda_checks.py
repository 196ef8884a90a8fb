"""What a CUDA device must compute: the same as the CPU, within the rounding of sums taken in another order.

Each check is a function that raises AssertionError; ``python cuda_checks.py [--quick] [--nvrtc FILE] NAME …`` runs some. The tests run them
in a process whose driver runs the kernels' text on the CPU, and on a card (``pytest -m gpu``). Quick ones take fewer cases.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from random_checkpoint import write_random_checkpoint

import reset
from reset import _core, _cuda

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "models"
MODELS = ("llama_linear", "llama_llama3", "llama_yarn", "qwen2_r1", "qwen2_window", "qwen2_yarn", "qwen3_odd", "qwen3_tied")


@dataclass(frozen=True)
class Case:
    """A golden model in some formats, and how far logits may be from the CPU's, relative to the largest.

    Sums in another order leave 2⁻²³ times a few hundred terms. A key or value that rounds the other way moves logits by its format's step,
    an activation that does by a step of E2M1: the last two bounds.
    """

    model: str
    bound: float
    options: tuple[tuple[str, Any], ...] = ()

    def load(self, device: str) -> reset.Model:
        """The model on ``device``."""
        return reset.load(GOLDEN / self.model, device=device, threads=1, **dict(self.options))


def case(model: str, bound: float, **options: Any) -> Case:
    """A case by its options."""
    return Case(model, bound, tuple(options.items()))


NVFP4 = {"weights": "nvfp4", "lm_head": "bf16", "kv": "f32"}
CASES = (
    *(case(model, 2e-5, kv="f32") for model in MODELS),
    case("qwen3_tied", 1e-2, kv="bf16"),
    case("qwen2_r1", 5e-2, kv="fp8"),
    case("qwen3_tied", 1.5e-1, kv="nvfp4"),
    case("qwen3_tied", 2e-5, kv="f32", weights="bf16", lm_head="bf16"),
    case("qwen2_r1", 2e-5, **NVFP4),
    case("llama_llama3", 2e-5, weights="nvfp4", lm_head="nvfp4", kv="f32"),
    case("qwen3_tied", 3e-2, activations="nvfp4", **NVFP4),
    case("qwen2_window", 3e-2, activations="nvfp4", calibration="dynamic", **NVFP4),
)


@cache
def pair(which: Case) -> tuple[reset.Model, reset.Model]:
    """The model on the CPU and on the device."""
    return which.load("cpu"), which.load("cuda")


def ids(model: reset.Model, length: int, seed: int = 0) -> list[int]:
    """Random tokens."""
    return np.random.default_rng(seed).integers(0, model.vocab_size, length).tolist()


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


class Distances:
    """Distances as they are found. All are printed before one that is too large fails the check."""

    def __init__(self) -> None:
        self.beyond: list[str] = []

    def add(self, what: str, found: np.ndarray, expected: np.ndarray, bound: float) -> None:
        """One more: ``found`` has to be finite, and no further than ``bound`` from what is expected."""
        error = distance(found, expected)
        line = f"{what}: {error:.1e} of {bound:.0e}"
        print(line, flush=True)
        if not error <= bound:
            self.beyond.append(line)

    def close(self) -> None:
        """Fails if one was too large."""
        assert not self.beyond, f"on a processor with the inner loops {_core.cpu()['table']}: " + "; ".join(self.beyond)


def equal_generations(found: list[reset.Generation], expected: list[reset.Generation], entropy: float) -> None:
    """The same tokens, and traces within ``entropy`` nats; ten times as much for what was divided by a temperature."""
    assert len(found) == len(expected)
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours.token_ids == theirs.token_ids, f"sequence {number}: {ours.token_ids} is not {theirs.token_ids}"
        assert ours.finish_reason == theirs.finish_reason
        nats = (("entropy", entropy), ("logprob", entropy), ("sampling_logprob", 10 * entropy))
        for name, slack in (*nats, ("temperature", 0.0), ("step_index", 0.0)):
            a, b = (np.asarray(getattr(g.trace, name), np.float64) for g in (ours, theirs))
            difference = float(np.abs(a - b).max())
            assert difference <= slack, f"sequence {number}: {name} differs by {difference}"


def logits(quick: bool = False) -> None:
    """Whole passes: short prompts as a decode step computes them, long ones as prefill, across pages."""
    distances = Distances()
    for which in CASES[5:] if quick else CASES:
        cpu, cuda = pair(which)
        for length in (7, 150) if quick else (1, 7, 150):
            tokens = ids(cpu, length, seed=length)
            distances.add(f"{which.model} {dict(which.options)} {length}", cuda.logits(tokens), cpu.logits(tokens), which.bound)
    distances.close()


def greedy(quick: bool = False) -> None:
    """Greedy tokens, by the graph, for batches of one to eight rows."""
    for which in CASES[7::3] if quick else CASES:
        cpu, cuda = pair(which)
        prompts = [ids(cpu, length, seed=length) for length in (1, 3, 9, 17, 5)]
        options: dict[str, Any] = {"policy": reset.Greedy(), "max_new_tokens": 6 if quick else 12, "ignore_eos": True}
        expected = reset.generate(cpu, prompts, **options)
        for batch in (3,) if quick else (1, 3, 8):
            found = reset.generate(cuda, prompts, batch_size=batch, **options)
            if which.bound < 1e-3:
                equal_generations(found, expected, 1e-4)
            else:  # a code that rounds the other way may decide a close choice
                same = sum(a.token_ids[:4] == b.token_ids[:4] for a, b in zip(found, expected, strict=True))
                assert same >= len(prompts) - 1, f"{which}: {[g.token_ids for g in found]}"


def sampled(quick: bool = False) -> None:
    """Policies, filters and draws on the device give the CPU's tokens and traces."""
    cpu, cuda = pair(CASES[0])
    prompts = [ids(cpu, length, seed=length) for length in (2, 11, 30)]
    policies = (reset.ReSET(t_low=0.2, tau_0=3.0, t_high=1.1, window=4), reset.FixedTemperature(0.7), reset.EntropyThreshold(0.3, 4.0, 1.2))
    filters: tuple[dict[str, Any], ...] = ({}, {"top_p": 0.9}, {"top_k": 20}, {"top_k": 40, "top_p": 0.8, "min_p": 0.02})
    for policy in policies:
        for options in (filters[policies.index(policy) + 1],) if quick else filters:
            expected, found = (
                reset.generate(
                    m, prompts, policy=policy, n=2, seed=7, max_new_tokens=12 if quick else 24, ignore_eos=True, batch_size=4, **options
                )
                for m in (cpu, cuda)
            )
            equal_generations(found, expected, 1e-4)


def batches(quick: bool = False) -> None:
    """A sequence's numbers are the same bits alone and among others, from the graph and from the host's session, forked and not."""
    for which in (CASES[-2],) if quick else (CASES[0], CASES[-1], CASES[-2], case("qwen2_r1", 2e-5, **NVFP4)):
        _, cuda = pair(which)
        policy = reset.ReSET(t_low=0.2, tau_0=3.0, t_high=1.1, window=4)
        prompt = ids(cuda, min(130, cuda.max_positions - 40), seed=3)
        options: dict[str, Any] = {"seed": 5, "max_new_tokens": 8 if quick else 20, "ignore_eos": True}
        alone = [reset.generate(cuda, prompt, policy=policy, n=3, batch_size=1, **options)]
        sizes = (4,) if quick else (2, 4, 8)
        alone += [reset.generate(cuda, prompt, policy=policy, n=3, batch_size=size, **options) for size in sizes]
        by_host = reset.generate(cuda, prompt, policy=ByHost(policy), n=3, batch_size=4, **options)
        for others in alone[1:]:
            equal_generations(others, alone[0], 0.0)
        # The host adds up the entropy of the same logits in another order.
        equal_generations(by_host, alone[0], 1e-6)


class ByHost(reset.Policy):
    """A policy of the package as one written in Python: it needs the host for each token."""

    def __init__(self, inner: Any) -> None:
        self.window = inner.window
        self.inner = inner

    def temperature(self, signal: Any) -> float:
        """As ReSET decides."""
        uncertain = signal.step_entropy > signal.global_mean
        threshold = signal.step_entropy if uncertain else self.inner.tau_0
        return self.inner.t_high if signal.entropy >= threshold else self.inner.t_low


def ends(quick: bool = False) -> None:
    """Stop ids and lengths are noticed late and harm nobody: rows are given to the next request, and every sequence is the CPU's."""
    cpu, cuda = pair(CASES[0])
    prompts = [ids(cpu, 1 + number % 5, seed=number) for number in range(5 if quick else 9)]
    options: dict[str, Any] = {"policy": reset.FixedTemperature(1.0), "seed": 3, "max_new_tokens": 20 if quick else 30}
    whole = reset.generate(cpu, prompts, ignore_eos=True, **options)
    # A token that ends some sequences early, late and not at all.
    counts = np.bincount([t for g in whole for t in set(g.token_ids)], minlength=cpu.vocab_size)
    stop = int(np.argmin(np.abs(counts - len(prompts) / 2)))
    for model in (cpu, cuda):
        model.eos_ids = [stop]
    expected, found = (reset.generate(m, prompts, batch_size=2, **options) for m in (cpu, cuda))
    assert {g.finish_reason for g in expected} == {"stop", "length"}
    equal_generations(found, expected, 1e-4)
    for model in (cpu, cuda):
        model.eos_ids = []
    # The end of the context, beside sequences that go on.
    most = cpu.max_positions
    prompts = [ids(cpu, most - 3, seed=1), ids(cpu, 4, seed=2)]
    options["max_new_tokens"] = 10
    expected, found = (reset.generate(m, prompts, batch_size=2, **options) for m in (cpu, cuda))
    assert [len(g.token_ids) for g in expected] == [3, 10]
    equal_generations(found, expected, 1e-4)


def streams(quick: bool = False) -> None:
    """A stream that is left early, and another one after it."""
    _, cuda = pair(CASES[0])
    prompt = ids(cuda, 5)
    options: dict[str, Any] = {"policy": reset.Greedy(), "max_new_tokens": 8 if quick else 16, "ignore_eos": True}
    whole = [step.token_id for step in reset.stream(cuda, prompt, **options)]
    for _ in range(3):
        stream = reset.stream(cuda, prompt, **options)
        assert [next(stream).token_id for _ in range(2)] == whole[:2]
        del stream
    assert [step.token_id for step in reset.stream(cuda, prompt, **options)] == whole


def shapes(quick: bool = False) -> None:
    """The benchmark's model with random weights, in the formats that a card is measured with."""
    place = _cuda.device_place("cuda")
    for weights in ("nvfp4",) if quick else ("nvfp4", "bf16"):
        activations = "nvfp4" if weights == "nvfp4" else "float"
        result = _core.bench_decode(
            "tiny", weights=weights, activations=activations, lm_head="bf16", batches=[1, 4], context=130, steps=4, cuda=place
        )
        assert [len(entry["seconds"]) for entry in result["batches"].values()] == [4, 4]
    # Every replay gave the same numbers, or this is an error.
    timings = _core.cuda_linear_timings(place, [(33, 144, True, [1, 8], 2), (70, 400, False, [3], 1)], 2)
    assert [(len(seconds), nbytes) for seconds, nbytes in timings] == [(2, 2 * 2 * 2304 + 4 * 64), (1, 2 * 70 * 400)]


def linear(quick: bool = False) -> None:
    """``reset.nvfp4.linear``: odd shapes, few rows and many, every way of activations; tensors of torch on their own stream."""
    rng, distances = np.random.default_rng(0), Distances()
    for n, k in ((33, 144), (70, 400)) if quick else ((1, 16), (33, 144), (70, 400), (256, 256)):
        t = reset.nvfp4.quantize(rng.normal(size=(n, k)).astype(np.float32))
        kept = reset.nvfp4.CudaLinear(t)
        assert kept.shape == (n, k)
        for m in (0, 1, 3, 8, 20):
            x = rng.normal(size=(m, k)).astype(np.float32)
            for options in ({}, {"activations": "nvfp4"}, {"activations": "nvfp4", "input_scale": 0.002}):
                expected = reset.nvfp4.linear(x, t, **options)
                found = reset.nvfp4.linear(x, kept, **options)
                assert found.dtype == np.float32
                assert found.shape == expected.shape
                if m > 0:  # products are exact on both sides; sums of k terms are not
                    distances.add(f"{n}×{k}, {m} rows, {options}", found, expected, 1e-5)
            rows = [reset.nvfp4.linear(x[i : i + 1], kept) for i in range(min(m, 8))]
            assert not rows or np.array_equal(np.concatenate(rows), reset.nvfp4.linear(x[: len(rows)], kept))
    distances.close()
    with_torch(kept, t)


def with_torch(kept: Any, t: reset.nvfp4.NVFP4Tensor) -> None:
    """The same layer on tensors of torch, where it is there and sees the card."""
    try:
        import torch
    except ImportError:
        return
    if not torch.cuda.is_available():
        return
    x = torch.randn(3, t.shape[1], device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())  # which makes x
    with torch.cuda.stream(stream):
        doubled = x * 2  # work that the layer has to wait for
        y = reset.nvfp4.linear(doubled, kept)
        again = y + 0  # and work that has to wait for the layer
    stream.synchronize()
    assert distance(again.cpu().numpy(), reset.nvfp4.linear((x * 2).cpu().numpy(), t)) <= 1e-5
    assert reset.nvfp4.linear(x.bfloat16(), kept).dtype == torch.float32
    rows = torch.randn(1 + 3 * t.shape[1], device="cuda")[1:].view(3, -1)  # four bytes off the alignment that kernels read with
    assert distance(reset.nvfp4.linear(rows, kept).cpu().numpy(), reset.nvfp4.linear(rows.cpu().numpy(), t)) <= 1e-5


#: Layers whose weights pass through each warp's ring several times, whose K is split over blocks, whose blocks have several groups of rows.
LARGE_LAYERS = ((6144, 4096), (24576, 4096), (4096, 12288), (5120, 25600))
#: The same on a device of four multiprocessors.
SMALLER_LAYERS = ((520, 2176), (1100, 4496), (300, 8992))


def large(quick: bool = False) -> None:
    """What only the shapes of real models reach, time and again: a race moves."""
    distances = Distances()
    for n, k in SMALLER_LAYERS if quick else LARGE_LAYERS:
        large_layer(n, k, quick, distances)
    distances.close()
    with tempfile.TemporaryDirectory() as folder:
        # Quick: a head of several chunks, and attention over enough pages for a second graph.
        small = {"hidden_size": 64, "intermediate_size": 1200, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
        whole = {"hidden_size": 1024, "intermediate_size": 6144, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2}
        # More chunks of logits than a warp has lanes.
        sizes = small | {"vocab_size": 80_000} if quick else whole | {"head_dim": 128, "vocab_size": 80_000}
        write_random_checkpoint(Path(folder), max_position_embeddings=4096, **sizes)
        for file in Path(folder).glob("tokenizer*"):
            file.unlink()  # ids that its few words do not reach would never be drawn
        for options in ({"weights": "bf16", "lm_head": "bf16"},) if quick else ({"weights": "bf16", "lm_head": "bf16"}, NVFP4):
            large_model(folder, options | {"kv": "f32"}, quick)
        if not quick:
            quantized: dict[str, Any] = NVFP4 | {"activations": "nvfp4", "calibration": "dynamic"}
            cpu, cuda = (reset.load(folder, device=device, **quantized) for device in ("cpu", "cuda"))
            tokens = ids(cpu, 1300)
            distances.add("W4A4, 1300 tokens", cuda.logits(tokens), cpu.logits(tokens), 3e-2)
    distances.close()


def large_layer(n: int, k: int, quick: bool, distances: Distances) -> None:
    """One layer by both kernels: up to 16 rows as a decode step computes them, more as a prompt's."""
    rng = np.random.default_rng([n, k])
    codes, scales = rng.integers(0, 256, (n, k // 2), np.uint8), rng.integers(0x28, 0x40, (n, k // 16)).astype(np.uint8)
    t = reset.nvfp4.NVFP4Tensor(codes, scales, 0.01)
    kept = reset.nvfp4.CudaLinear(t)
    for m in (1, 8, 20) if quick else (1, 2, 8, 20):
        x = rng.standard_normal((m, k), np.float32)
        for options in ({}, {"activations": "nvfp4", "input_scale": 0.002}):
            what = f"{n}×{k}, {m} rows, {'W4A4' if options else 'W4A16'}"
            first = reset.nvfp4.linear(x, kept, **options)
            # A prompt's kernel adds up all of K in one chain, and tensor cores cut off what they add.
            distances.add(what, first, reset.nvfp4.linear(x, t, **options), 1e-5 if m <= 16 else 1e-4)
            for _ in range(1 if quick else 20):
                assert np.array_equal(reset.nvfp4.linear(x, kept, **options), first), f"{what}: other numbers when run again"


def large_model(folder: str, options: dict[str, Any], quick: bool) -> None:
    """A model of some size: whole passes, filters and draws over many chunks of logits, and tokens across the capture of a second graph."""
    cpu, cuda = (reset.load(folder, device=device, **options) for device in ("cpu", "cuda"))
    distances = Distances()
    if not quick:
        tokens = ids(cpu, 1300)
        distances.add(f"{options}, 1300 tokens", cuda.logits(tokens), cpu.logits(tokens), 1e-4)
    distances.close()
    slack = 1e-4 if quick else 1e-2
    prompts = [ids(cpu, length, seed=length) for length in (2, 5, 9, 14)]
    policy = reset.ReSET(t_low=0.2, tau_0=3.0, t_high=1.1, window=4)
    sampling: dict[str, Any] = {"policy": policy, "seed": 7, "max_new_tokens": 6 if quick else 24, "ignore_eos": True, "batch_size": 4}
    for filters in ({}, {"top_k": 50, "top_p": 0.8}) if quick else ({}, {"top_k": 50}, {"top_p": 0.9}, {"top_k": 50, "top_p": 0.8}):
        expected, found = (reset.generate(m, prompts, **sampling, **filters) for m in (cpu, cuda))
        equal_generations(found, expected, slack)
    # Attention's grid serves 2048 positions at first; a larger one is captured on the way.
    prompt = ids(cpu, 2040, seed=1)
    greedy_options: dict[str, Any] = {"policy": reset.Greedy(), "max_new_tokens": 12, "ignore_eos": True}
    expected, found = (reset.generate(m, prompt, **greedy_options) for m in (cpu, cuda))
    equal_generations([found], [expected], slack)
    if not quick:
        alone, together = (reset.generate(cuda, prompt, n=5, **(sampling | {"batch_size": size})) for size in (1, 8))
        equal_generations(together, alone, 0.0)
        by_host = reset.generate(cuda, prompt, n=5, **(sampling | {"batch_size": 8, "policy": ByHost(policy)}))
        equal_generations(by_host, alone, 1e-6)


CHECKS: dict[str, Callable[[bool], None]] = {
    check.__name__: check for check in (linear, logits, large, greedy, sampled, batches, ends, streams, shapes)
}


def main() -> int:
    """Runs the checks named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases")
    parser.add_argument("--nvrtc", type=Path, help="the only compiler to use")
    parser.add_argument("names", nargs="*", choices=[*CHECKS, []])
    arguments = parser.parse_args()
    if arguments.nvrtc is not None:
        _cuda.nvrtc_candidates = lambda: [arguments.nvrtc]  # type: ignore[assignment]
    for name in arguments.names or CHECKS:
        CHECKS[name](arguments.quick)
        print(f"{name}: as it should be", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
