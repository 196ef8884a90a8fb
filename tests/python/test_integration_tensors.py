"""Policies as tensors decide what one controller per sequence decides, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import reset

torch = pytest.importorskip("torch", reason="needs the extra test-torch")

from reset.integrations._logits import device_entropies, entropies, tempered  # noqa: E402  (they need torch)
from reset.integrations._tensor_policy import TensorPolicies  # noqa: E402

NEWLINE, DOUBLE_NEWLINE = [3], [5, 9]
FIELDS = ("temperature", "entropy", "step_entropy", "global_mean", "threshold", "boundary", "uncertain", "step_index")
POLICIES = [
    reset.ReSET(0.3, 1.0),
    reset.ReSET(0.1, 0.5, t_high=0.8, window=3),
    reset.ReSET(0.0, 1.2, window=5, include_current=True),
    reset.ReSET(0.4, 0.7, window=40, include_current=True),
    reset.EntropyThreshold(0.2, 0.9),
    reset.FixedTemperature(0.6),
    reset.Greedy(),
]


def policies(slots: int, chosen: list[reset.Policy]) -> TensorPolicies:
    tensors = TensorPolicies(slots, "cpu", window=2)
    tensors.set_boundaries(NEWLINE, DOUBLE_NEWLINE)
    tensors.set_policies(range(slots), chosen, [0] * slots)
    return tensors


def same(found: Any, row: int, expected: Any) -> None:
    for name in FIELDS:
        a, b = getattr(found, name)[row].item(), getattr(expected, name)
        assert a == b or (a != a and b != b), (name, a, b)


def test_every_policy_decides_as_its_controller_in_any_order_of_rows() -> None:
    rng = np.random.default_rng(1)
    tensors = policies(len(POLICIES), POLICIES)
    controllers = [reset.Controller(p, NEWLINE, DOUBLE_NEWLINE) for p in POLICIES]
    last = [-1] * len(POLICIES)
    for step in range(300):
        rows = rng.permutation(len(POLICIES))[: rng.integers(1, len(POLICIES) + 1)]  # some sequences pause
        values = rng.gamma(1.0, 1.0, len(rows)) if step % 7 else np.zeros(len(rows))
        tokens = torch.tensor([last[slot] for slot in rows])
        found = tensors.step(torch.from_numpy(values), torch.from_numpy(rows), tokens)
        for row, slot in enumerate(rows):
            previous = None if last[slot] < 0 else last[slot]
            same(found, row, controllers[slot].step(entropy=values[row], last_token=previous))
            last[slot] = int(rng.integers(0, 12))


def test_a_draw_that_was_thrown_away_leaves_no_trace() -> None:
    rng = np.random.default_rng(2)
    tensors = policies(1, POLICIES[:1])
    controller = reset.Controller(POLICIES[0], NEWLINE, DOUBLE_NEWLINE)
    slot, last = torch.tensor([0]), -1
    for _ in range(200):
        value, discarded = rng.exponential(), rng.random() < 0.4
        if discarded:  # this decision is made and then repeated
            before = controller.snapshot()
            same(tensors.step(torch.tensor([9.9]), slot, torch.tensor([last])), 0, controller.step(entropy=9.9, last_token=max(last, 0)))
            controller.restore(before)
        kept = torch.tensor([not discarded])
        found = tensors.step(torch.tensor([value]), slot, torch.tensor([last]), kept)
        same(found, 0, controller.step(entropy=value, last_token=max(last, 0)))
        last = int(rng.choice([3, 5, 1]))


def test_a_slot_can_be_given_away_and_windows_grow() -> None:
    tensors = policies(2, [POLICIES[1]] * 2)
    controllers = [reset.Controller(POLICIES[1], NEWLINE, DOUBLE_NEWLINE) for _ in range(2)]
    both = torch.tensor([0, 1])
    for value in (1.0, 2.0, 0.5, 0.25):
        found = tensors.step(torch.tensor([value, value]), both, torch.tensor([3, 3]))
        same(found, 1, [c.step(entropy=value, last_token=3) for c in controllers][1])
    wide = reset.ReSET(0.5, 1.0, window=64)
    tensors.set_policies([0], [wide], [0])  # another sequence in slot 0, and wider windows for all
    controllers[0] = reset.Controller(wide, NEWLINE, DOUBLE_NEWLINE)
    for value in (0.7, 0.1, 1.3, 0.2):
        found = tensors.step(torch.tensor([value, value]), both, torch.tensor([5, 5]))
        for row in range(2):
            same(found, row, controllers[row].step(entropy=value, last_token=5))


def test_boundary_tables_are_the_slots_own() -> None:
    tensors = policies(2, [POLICIES[1]] * 2)
    tensors.set_boundaries([], [100], table=2)
    tensors.set_policies([1], [POLICIES[1]], [2])
    both = torch.tensor([0, 1])
    tensors.step(torch.tensor([1.0, 1.0]), both, torch.tensor([-1, -1]))
    assert tensors.step(torch.tensor([1.0, 1.0]), both, torch.tensor([5, 5])).boundary.tolist() == [True, False]
    assert tensors.step(torch.tensor([1.0, 1.0]), both, torch.tensor([100, 100])).boundary.tolist() == [False, True]


def test_policies_in_python_are_refused() -> None:
    class Mine(reset.Policy):
        def temperature(self, signal: reset.policies.Signal) -> float:
            return 1.0

    with pytest.raises(TypeError, match="Mine is written in Python"):
        policies(1, [Mine()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_entropies_on_a_device_are_those_of_the_core(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(0, 4, (6, 1000)).astype(np.float32)).to(dtype)
    logits[1, 10:] = float("-inf")
    logits[2] = 0.0
    logits[3, 5] = 1e4
    exact = entropies(logits)
    x = logits.double()
    p = torch.softmax(x, -1)
    oracle = -(p * torch.log(p.clamp_min(1e-300))).sum(-1)
    assert torch.allclose(exact, oracle, rtol=1e-6, atol=1e-6)
    assert torch.allclose(device_entropies(logits), exact, rtol=2e-6, atol=2e-6)
    assert (device_entropies(logits) >= 0).all()


def test_a_cold_row_keeps_the_lowest_of_its_best_ids() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, float("-inf")], [1.0, 3.0, 3.0, 0.0]])
    found = tempered(logits, torch.tensor([0.0, 0.5], dtype=torch.float64), greedy=True)
    assert found[0].tolist() == [float("-inf"), 3.0, float("-inf"), float("-inf")]
    assert found[1].tolist() == [2.0, 6.0, 6.0, 0.0]
    assert logits[0, 0] == 1.0
