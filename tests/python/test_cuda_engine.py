"""Models on a CUDA device against models on the CPU (``cuda_checks.py``): on a card, and everywhere with the kernels' text run on the CPU.

What that cannot show is what a card's instructions do that the stand-ins in ``tests/fakes`` do otherwise, and what its blocks do to each
other at the same time.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import cuda_checks
import numpy as np
import pytest
from fake_cuda import Fakes, build_device

import reset
from reset import _core
from reset._cuda import device_place, nvrtc_candidates

SCRIPT = Path(cuda_checks.__file__)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Fakes:
    return build_device(tmp_path_factory.mktemp("device"))


@pytest.fixture(scope="module")
def card() -> None:
    missing = _core.cuda(nvrtc_candidates())["missing"]
    if missing:
        pytest.skip("; ".join(found for found, _ in missing))


@pytest.mark.gpu
@pytest.mark.usefixtures("card")
def test_the_example_of_the_guide_runs_on_a_card() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cuda.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "cuda.md", "exec"), {})


@pytest.mark.gpu
@pytest.mark.parametrize("name", cuda_checks.CHECKS)
@pytest.mark.usefixtures("card")
def test_a_card_computes_what_the_cpu_does(name: str) -> None:
    cuda_checks.CHECKS[name](False)


def run(device: Fakes, folder: Path, *names: str, **variables: str) -> None:
    """Some checks in a process that finds the stand-ins; a kernel that misbehaves ends it with a word."""
    settings = {"PYTHONPATH": os.pathsep.join(map(str, (Path(reset.__file__).parents[1], SCRIPT.parent))), "XDG_CACHE_HOME": str(folder)}
    done = device.process([sys.executable, str(SCRIPT), "--nvrtc", str(device.nvrtc), *names], **settings, **variables)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert all(f"{name}: as it should be" in done.stdout for name in names if name in cuda_checks.CHECKS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", cuda_checks.CHECKS)
def test_the_kernels_text_computes_what_the_cpu_does(device: Fakes, tmp_path: Path, name: str) -> None:
    run(device, tmp_path, "--quick", name, FAKE_CUDA_ALIVE=str(tmp_path / "alive"))
    assert (tmp_path / "alive").read_text() == "0\n", "something made on the device was not freed"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", cuda_checks.CHECKS)
def test_the_kernels_text_computes_what_the_cpu_does_in_every_case(device: Fakes, tmp_path: Path, name: str) -> None:
    run(device, tmp_path, name)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("order", ["reverse", "late"])
def test_the_order_of_threads_and_copies_decides_nothing(device: Fakes, tmp_path: Path, order: str) -> None:
    run(device, tmp_path, "--quick", "linear", "batches", FAKE_CUDA_ORDER=order)


def test_a_device_is_named_as_it_should_be() -> None:
    assert device_place("cpu") is None
    assert device_place("auto", automatic=("auto",)) is None
    place = device_place("cuda:3")
    assert place is not None
    assert place[0] == 3
    for wrong in ("gpu", "cuda:", "cuda:x", "auto"):
        with pytest.raises(ValueError, match=r"device = .* is not possible: use 'cpu', 'cuda' or 'cuda:N'"):
            device_place(wrong)


def test_a_machine_without_a_card_says_so_at_load() -> None:
    if _core.cuda([])["driver_version"] is not None:
        pytest.skip("this machine has a driver")
    with pytest.raises(reset.DeviceError, match=r"device cuda:1: no NVIDIA driver"):
        reset.load(cuda_checks.GOLDEN / "qwen3_tied", device="cuda:1")
    weights = reset.nvfp4.quantize(np.ones((4, 16), np.float32))
    with pytest.raises(reset.DeviceError, match=r"device cuda:0: no NVIDIA driver"):
        reset.nvfp4.linear(np.ones((1, 16), np.float32), weights, device="cuda")
    with pytest.raises(ValueError, match="lie on 'cuda' or 'cuda:N'"):
        reset.nvfp4.CudaLinear(weights, "cpu")
