"""``tools/gpu_check.sh`` where there is no card: it says so stage by stage; and with stand-ins for driver and compiler, it runs."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from fake_cuda import Fakes, build

from reset import _core
from reset._cuda import nvrtc_candidates

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "gpu_check.sh"
ON_A_CARD = ["device", "checks", "memcheck", "steps", "linears", "torch", "tests", "racecheck", "peers"]


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Fakes:
    return build(tmp_path_factory.mktemp("fakes"))


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The script with this Python as `python3`, and a cache of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return ["env", f"PATH={path}", f"XDG_CACHE_HOME={tmp_path / 'cache'}", str(SCRIPT), "--installed"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_without_a_card_every_stage_is_skipped_with_its_reason(command: list[str], out: Path) -> None:
    missing = _core.cuda(nvrtc_candidates())["missing"]
    if not missing:
        pytest.skip("this machine has a card: run the script itself")
    done = subprocess.run([*command, str(out), *ON_A_CARD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (out / "summary.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ON_A_CARD
    assert all(f"skipped: {missing[0][0]}" in line for line in lines)
    assert json.loads((out / "doctor.json").read_text())["cuda"]["missing"]
    assert "compiled kernels" in (out / "device.txt").read_text()


@pytest.mark.parametrize(("fault", "verdict"), [("", "device: passed"), ("lost", "device: FAILED: status 1")])
def test_a_stage_passes_or_fails_the_whole(fakes: Fakes, command: list[str], out: Path, fault: str, verdict: str) -> None:
    if not any(path.is_file() for path in nvrtc_candidates()):
        pytest.skip("needs NVRTC: pip install nvidia-cuda-nvrtc")
    done = fakes.process([*command, str(out), "device"], FAKE_CUDA=fault)
    assert done.returncode == (1 if fault else 0), done.stdout + done.stderr
    (device,) = (out / "summary.txt").read_text().splitlines()
    assert device.startswith(verdict)
    if fault:
        assert "start it anew" in done.stdout
    else:
        figures = json.loads((out / "device.json").read_text())
        assert figures["card"] == "Fake 0"
        assert figures["overlapping_edges"] == 199
        assert "copy, bytes read and written" in done.stdout


def test_an_archive_holds_what_the_folder_would(command: list[str], out: Path) -> None:
    done = subprocess.run([*command, "--archive", str(out), "device", "torch"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["results.tar.gz", "summary.txt"]
    with tarfile.open(out / "results.tar.gz") as archive:
        held = {Path(name).name for name in archive.getnames()}
        summary = archive.extractfile("results/summary.txt")
        assert summary is not None
        assert summary.read() == (out / "summary.txt").read_bytes()
    assert held >= {"doctor.json", "device.txt", "torch.txt"}


def test_no_stage_begins_when_the_time_is_over(command: list[str], out: Path) -> None:
    done = subprocess.run([*command, "--seconds", "20", str(out), "device"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "summary.txt").read_text() == "device: left out: no time\n"


def test_what_hangs_is_stopped_and_says_where_it_is(fakes: Fakes, command: list[str], out: Path) -> None:
    """The driver never comes back from a launch: the stage has forty seconds, and Python says which line waits."""
    if not any(path.is_file() for path in nvrtc_candidates()):
        pytest.skip("needs NVRTC: pip install nvidia-cuda-nvrtc")
    done = fakes.process([*command, "--seconds", "40", str(out), "device"], FAKE_CUDA="stuck")
    assert done.returncode == 1, done.stdout + done.stderr
    assert (out / "summary.txt").read_text().startswith("device: FAILED: ")
    log = (out / "device.txt").read_text()
    assert "Fatal Python error: Aborted" in log
    assert "cli/bench/device.py" in log


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["out", "devise"], "unknown stage devise; there are: cpu device checks memcheck steps"),
        (["--archives", "out"], "unknown option --archives; there are: --installed --archive --seconds N"),
    ],
)
def test_unknown_words_are_refused(command: list[str], tmp_path: Path, arguments: list[str], says: str) -> None:
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
