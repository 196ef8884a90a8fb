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


def surroundings(folder: Path) -> dict[str, str]:
    """Where a process finds the checks and this package, and a cache of its own: what the stand-in "compiles" is no kernel."""
    return {"PYTHONPATH": os.pathsep.join(map(str, (Path(reset.__file__).parents[1], SCRIPT.parent))), "XDG_CACHE_HOME": str(folder)}


def run(device: Fakes, folder: Path, *names: str, **variables: str) -> None:
    """Some checks in a process that finds the stand-ins; a kernel that misbehaves ends it with a word."""
    command = [sys.executable, str(SCRIPT), "--nvrtc", str(device.nvrtc), *names]
    done = device.process(command, **surroundings(folder), **variables)
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


GENERATING = """
import sys
import reset
from cuda_checks import CASES, _cuda
from pathlib import Path
_cuda.nvrtc_candidates = lambda: [Path(sys.argv[1])]
model = CASES[0].load("cuda")
try:
    reset.generate(model, [1, 2, 3], policy=reset.Greedy(), max_new_tokens=30, ignore_eos=True)
except reset.DeviceError as error:
    print("DeviceError:", error)
del model
print("and it goes on")
"""
TIMING = """
import sys
from reset import DeviceError, _core
try:
    _core.bench_decode("tiny", lm_head="bf16", batches=[1], context=9, steps=4, cuda=(0, [sys.argv[1]], None))
except DeviceError as error:
    print("DeviceError:", error)
print("and it goes on")
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("code", [GENERATING, TIMING], ids=["generate", "time"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("hangs", "did not come back within ten seconds: a kernel hangs"),
        ("dies", "CUDA_ERROR_LAUNCH_FAILED); the device's context is lost to this process: start it anew"),
        ("forgets", "did not come back although every step has run"),
    ],
)
def test_a_step_that_does_not_come_back_is_an_error_and_not_waited_for(
    device: Fakes, tmp_path: Path, code: str, fault: str, words: str
) -> None:
    settings = {"FAKE_CUDA": fault, "FAKE_CUDA_KERNEL": "embed", "FAKE_CUDA_LAUNCHES": "3"}
    done = device.process([sys.executable, "-c", code, str(device.nvrtc)], **settings, **surroundings(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"DeviceError: device cuda:0: .*{re.escape(words)}", done.stdout), done.stdout + done.stderr
    assert done.stdout.endswith("and it goes on\n")


def test_a_host_session_computes_no_batch_as_a_prompt(device: Fakes, tmp_path: Path) -> None:
    """More than 16 rows at once would go through the prompt's kernel, which adds up in another order."""
    code = """
import sys
import reset
from cuda_checks import ByHost, NVFP4, _cuda, equal_generations, ids
from random_checkpoint import write_random_checkpoint
from pathlib import Path
_cuda.nvrtc_candidates = lambda: [Path(sys.argv[1])]
folder = Path(sys.argv[2])  # of layers whose columns several warps share: one warp alone adds up as a prompt's kernel does
write_random_checkpoint(folder, hidden_size=512, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
model = reset.load(folder, device="cuda", **NVFP4)
policy = ByHost(reset.ReSET(t_low=0.2, tau_0=3.0, t_high=1.1, window=4))
options = {"policy": policy, "seed": 5, "max_new_tokens": 3, "ignore_eos": True, "n": 17}
alone, together = (reset.generate(model, ids(model, 20), batch_size=size, **options) for size in (1, 32))
equal_generations(together, alone, 0.0)
print("the same")
"""
    done = device.process([sys.executable, "-c", code, str(device.nvrtc), str(tmp_path / "model")], **surroundings(tmp_path))
    assert done.stdout == "the same\n", done.stdout + done.stderr


def test_a_layer_takes_memory_of_the_device_in_the_order_of_a_stream(device: Fakes, tmp_path: Path) -> None:
    """The stand-in's memory is the host's, so numpy's addresses will do."""
    code = """
import sys
import numpy as np
import reset
from cuda_checks import _cuda, distance
from pathlib import Path
_cuda.nvrtc_candidates = lambda: [Path(sys.argv[1])]
rng = np.random.default_rng(0)
t = reset.nvfp4.quantize(rng.standard_normal((33, 144), np.float32))
kept = reset.nvfp4.CudaLinear(t)
room = np.zeros(3 * 144 + 8, np.float32)
first = -room.ctypes.data // 4 % 4
x, y = room[first : first + 3 * 144].reshape(3, 144), np.zeros((3, 33), np.float32)
x[...] = rng.standard_normal(x.shape, np.float32)
kept._core.device(x.ctypes.data, y.ctypes.data, 3, 0, None)
assert distance(y, reset.nvfp4.linear(x, t)) <= 1e-5
try:
    kept._core.device(x.ctypes.data + 4, y.ctypes.data, 2, 0, None)
except ValueError as error:
    print(error)
"""
    done = device.process([sys.executable, "-c", code, str(device.nvrtc)], **surroundings(tmp_path))
    assert re.fullmatch(r"x's address = 0x[0-9a-f]+ on cuda:0 is not possible: .*multiple of 16 bytes.*\n", done.stdout), (
        done.stdout + done.stderr
    )


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
