"""``tools/gpu_check.sh`` where there is no card: it says so stage by stage; and with stand-ins for driver and compiler, it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_cuda import Fakes, build

from reset import _core
from reset._cuda import nvrtc_candidates

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "gpu_check.sh"


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Fakes:
    return build(tmp_path_factory.mktemp("fakes"))


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The script with this Python as `python3`, and a cache of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return ["env", f"PATH={path}", f"XDG_CACHE_HOME={tmp_path / 'cache'}", str(SCRIPT), "--installed", str(tmp_path / "out")]


def test_without_a_card_every_stage_is_skipped_with_its_reason(command: list[str], tmp_path: Path) -> None:
    missing = _core.cuda(nvrtc_candidates())["missing"]
    if not missing:
        pytest.skip("this machine has a card: run the script itself")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["device", "checks", "sanitize", "tests", "steps", "linears", "torch", "peers"]
    assert all(f"skipped: {missing[0][0]}" in line for line in lines)
    assert json.loads((tmp_path / "out" / "doctor.json").read_text())["cuda"]["missing"]
    assert "compiled kernels" in (tmp_path / "out" / "device.txt").read_text()


@pytest.mark.parametrize(("fault", "verdict"), [("", "device: passed"), ("lost", "device: FAILED: status 1")])
def test_a_stage_passes_or_fails_the_whole(fakes: Fakes, command: list[str], tmp_path: Path, fault: str, verdict: str) -> None:
    if not any(path.is_file() for path in nvrtc_candidates()):
        pytest.skip("needs NVRTC: pip install nvidia-cuda-nvrtc")
    done = fakes.process([*command, "device"], FAKE_CUDA=fault)
    assert done.returncode == (1 if fault else 0), done.stdout + done.stderr
    (device,) = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert device.startswith(verdict)
    if fault:
        assert "start it anew" in done.stdout
    else:
        figures = json.loads((tmp_path / "out" / "device.json").read_text())
        assert figures["card"] == "Fake 0"
        assert figures["overlapping_edges"] == 199
        assert "copy, bytes read and written" in done.stdout


def test_an_unknown_stage_is_refused(command: list[str]) -> None:
    done = subprocess.run([*command, "devise"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown stage devise; there are: device checks sanitize tests steps linears torch peers" in done.stderr
