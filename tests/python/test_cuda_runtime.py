"""CUDA without a card: what is missing is said, what is there is used, kernels are compiled once, and nothing panics.

The driver is a stand-in over the host's memory (``tests/fakes``), so that contexts, copies, launches, graphs and the ring run as they
would on a card; cubins come from a stand-in for NVRTC, or from NVRTC itself where it is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from fake_cuda import Fakes, build

import reset
from reset import _core
from reset._cuda import nvrtc_candidates

if TYPE_CHECKING:
    from pathlib import Path

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100a", "sm_120")
ELF = b"\x7fELF"


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Fakes:
    return build(tmp_path_factory.mktemp("fakes"))


@pytest.fixture(scope="module")
def nvrtc() -> list[Path]:
    """Where NVRTC is, for tests with the real one."""
    found = [path for path in nvrtc_candidates() if path.is_file()]
    if not found:
        pytest.skip("needs NVRTC: pip install nvidia-cuda-nvrtc")
    return found


# What is missing


def test_a_machine_without_driver_and_compiler_says_both() -> None:
    report = _core.cuda([])
    if report["driver_version"] is not None:
        pytest.skip("this machine has a driver")
    (driver, remedy), (compiler, pip) = report["missing"]
    assert "no NVIDIA driver" in driver
    assert "install one" in remedy
    assert "no run-time compiler" in compiler
    assert "pip install 'reset-nvfp4[cuda]'" in pip
    assert report["devices"] == []
    with pytest.raises(reset.DeviceError, match=r"device cuda:0: no NVIDIA driver .*install one"):
        _core.cuda_check(0, [])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("old", ("serves CUDA 11.4", "12.4 is the oldest", "update the NVIDIA driver (Linux: 550")),
        ("no_device", ("shows no device", "nvidia-smi")),
        ("mismatch", ("cuInit failed", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "reboot")),
        ("fork", ("CUDA_ERROR_NOT_INITIALIZED", "spawn")),
    ],
)
def test_a_driver_that_will_not_do_is_named_with_what_helps(fakes: Fakes, fault: str, words: tuple[str, ...]) -> None:
    report = fakes.report([fakes.nvrtc], FAKE_CUDA=fault)
    ((found, remedy),) = report["missing"]
    for word in words:
        assert word in f"{found}; {remedy}"
    assert report["devices"] == []
    assert "DeviceError: device cuda:0: " in fakes.check(ok=False, FAKE_CUDA=fault)


def test_a_driver_that_lacks_an_entry_is_refused_before_any_call(fakes: Fakes) -> None:
    ((found, remedy),) = fakes.report([fakes.nvrtc], driver=fakes.lacking)["missing"]
    assert found == "the NVIDIA driver says CUDA 13.0 but lacks cuGraphUpload"
    assert "update" in remedy


def test_a_library_that_is_no_driver_is_refused(fakes: Fakes, tmp_path: Path) -> None:
    (tmp_path / "libcuda.so").write_bytes(fakes.nvrtc.read_bytes())
    ((found, remedy),) = fakes.report([fakes.nvrtc], driver=tmp_path)["missing"]
    assert "lacks cuInit" in found
    assert "no NVIDIA driver" in remedy


def test_cards_that_are_not_there_or_too_old(fakes: Fakes) -> None:
    assert "DeviceError: device cuda:5: there are 2 devices; use 'cuda:0' to 'cuda:1'" in fakes.check(5, ok=False)
    assert "device cuda:1: Fake 1 has compute capability 7.5; 8.0 (Ampere) is the oldest" in fakes.check(1, ok=False)


def test_a_compiler_that_will_not_do_is_named_with_what_helps(fakes: Fakes, tmp_path: Path) -> None:
    text = tmp_path / "libnvrtc.so.13"
    text.write_text("no library")
    for path, words in ((text, str(text)), (fakes.driver / "libcuda.so", "lacks nvrtcVersion")):
        ((found, remedy),) = fakes.report([path])["missing"]
        assert words in found
        assert "pip install" in remedy
    assert "places looked at" in fakes.report([tmp_path / "absent.so"])["missing"][0][0]
    message = fakes.check(nvrtc=fakes.older, ok=False)
    assert "knows sm_80 at most, and the card is sm_90" in message
    assert "pip install --upgrade nvidia-cuda-nvrtc" in message


def test_a_compiler_no_newer_than_the_driver_is_preferred(fakes: Fakes) -> None:
    assert fakes.report([fakes.newer, fakes.nvrtc])["compiler"] == [[13, 0], str(fakes.nvrtc)]
    assert fakes.report([fakes.newer])["compiler"] == [[14, 0], str(fakes.newer)]


def test_doctor_shows_what_is_there_and_what_is_missing(fakes: Fakes) -> None:
    def doctor(*arguments: str, **variables: str) -> str:
        done = fakes.process([sys.executable, "-m", "reset", "doctor", *arguments], **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    report = json.loads(doctor("--json"))
    assert report["cuda"]["driver"] == "13.0"
    assert report["cuda"]["cubins"] == str(fakes.cache / "reset-nvfp4" / "cubin")
    assert "probe" in report["cuda"]["kernels"]
    assert any(d["device"] == "cuda:0" and "Fake 0, compute capability 9.0, 141.0 GiB" in d["state"] for d in report["devices"])
    (entry,) = json.loads(doctor("--json", FAKE_CUDA="old"))["cuda"]["missing"][:1]
    assert "CUDA 11.4" in entry["found"]
    text = doctor(FAKE_CUDA="old")
    assert "missing" in text
    assert "update the NVIDIA driver" in text


# What is there


def test_copies_graphs_and_the_ring_work_and_everything_is_freed(fakes: Fakes, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    figures = json.loads(fakes.check(FAKE_CUDA_ALIVE=str(alive)))
    assert figures["overlapping_edges"] == 16  # 17 nodes
    assert figures["bytes"] == 3_000_000  # whole elements of 16 bytes
    assert all(figures[name] > 0 for name in figures)
    assert alive.read_text() == "0\n"


def test_overlap_that_the_driver_drops_is_seen(fakes: Fakes) -> None:
    assert json.loads(fakes.check(FAKE_CUDA="no_overlap"))["overlapping_edges"] == 0


def test_what_a_graph_is_made_of_is_no_reason_to_fail(fakes: Fakes) -> None:
    message = fakes.check(ok=False, FAKE_CUDA="no_edges")
    assert "the card computed something else: 0 nodes from 17 launches" in message  # `bench device` says so; a graph runs without


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("hangs", "a record did not reach the host within ten seconds: a kernel hangs"),
        ("dies", "cuStreamQuery failed: some words (CUDA_ERROR_LAUNCH_FAILED); the device's context is lost to this process"),
        ("forgets", "a record did not reach the host although its kernel has run"),
    ],
)
def test_a_device_that_comes_to_no_end_is_not_waited_for(fakes: Fakes, fault: str, words: str) -> None:
    assert words in fakes.check(ok=False, FAKE_CUDA=fault, FAKE_CUDA_KERNEL="probe_ring", FAKE_CUDA_LAUNCHES="24")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("small", ("out of memory: cuMemAlloc of 2.9 MiB failed", "0.2 of 141.0 GiB are free", "smaller model")),
        (
            "image",
            ("loading probe for sm_90 failed: device kernel image is invalid", "update the driver, or pip install nvidia-cuda-nvrtc-cu12"),
        ),
        ("lost", ("launching probe_copy", "CUDA_ERROR_ILLEGAL_ADDRESS", "start it anew")),
    ],
)
def test_a_call_that_fails_on_the_way_says_which_and_frees_the_rest(
    fakes: Fakes, tmp_path: Path, fault: str, words: tuple[str, ...]
) -> None:
    message = fakes.check(ok=False, FAKE_CUDA=fault, FAKE_CUDA_ALIVE=str(tmp_path / "alive"))
    assert "DeviceError: device cuda:0: " in message
    for word in words:
        assert word in message
    assert (tmp_path / "alive").read_text() == "0\n"


# Kernels


def test_a_kernel_is_compiled_once(fakes: Fakes, tmp_path: Path) -> None:
    log, cache = tmp_path / "log", tmp_path / "a" / "b"
    for _ in range(2):
        fakes.check(cache=cache, FAKE_NVRTC_LOG=str(log))
    assert log.read_text().split() == ["fake", "--gpu-architecture=sm_90", "--std=c++17"]
    (kept,) = cache.iterdir()
    assert kept.name.startswith("probe-sm_90-")
    fakes.check(cache=None, FAKE_NVRTC_LOG=str(log))
    assert len(log.read_text().splitlines()) == 2


def test_a_kept_cubin_that_no_longer_loads_is_compiled_anew(fakes: Fakes, tmp_path: Path) -> None:
    log, cache = tmp_path / "log", tmp_path / "cache"
    fakes.check(cache=cache, FAKE_NVRTC_LOG=str(log))
    fakes.check(cache=cache, FAKE_NVRTC_LOG=str(log), FAKE_CUDA="image_once")
    assert len(log.read_text().splitlines()) == 2


def compiled(fakes: Fakes, cache: Path | None, architecture: str = "sm_90", nvrtc: Path | None = None) -> tuple[bytes, bool]:
    return _core.cuda_compile("probe", architecture, [nvrtc or fakes.nvrtc], cache)


@pytest.mark.parametrize("damage", ["cut", "short", "empty", "bit", "head", "text", "other"])
def test_a_damaged_file_is_compiled_anew_and_mended(fakes: Fakes, tmp_path: Path, damage: str) -> None:
    sound, cached = compiled(fakes, tmp_path)
    assert not cached
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    assert compiled(fakes, tmp_path) == (sound, True)
    if damage == "other":  # a sound file of another key under this name
        compiled(fakes, tmp_path, "sm_86")
        (second,) = set(tmp_path.iterdir()) - {file}
        second.replace(file)
    else:
        flipped = bytearray(whole)
        flipped[6] ^= 1
        file.write_bytes(
            {"cut": whole[:-1], "short": whole[:7], "empty": b"", "bit": bytes(flipped), "head": b"x" + whole[1:], "text": b"hello " * 40}[
                damage
            ]
        )
    assert compiled(fakes, tmp_path) == (sound, False)
    assert file.read_bytes() == whole
    assert compiled(fakes, tmp_path) == (sound, True)


def test_architecture_and_compiler_are_part_of_the_key(fakes: Fakes, tmp_path: Path) -> None:
    for architecture, library in (("sm_90", fakes.nvrtc), ("sm_86", fakes.nvrtc), ("sm_90", fakes.newer)):
        assert not compiled(fakes, tmp_path, architecture, library)[1]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_cannot_be_written_costs_the_compilation_and_nothing_else(fakes: Fakes, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for _ in range(2):
        cubin, cached = compiled(fakes, tmp_path / "file" / "cache")
        assert cubin.startswith(ELF)
        assert not cached


def test_processes_share_a_folder(fakes: Fakes, tmp_path: Path) -> None:
    code = (
        "import sys; from reset import _core\n"
        f"for _ in range(50): sys.stdout.buffer.write(_core.cuda_compile('probe', 'sm_90', [{str(fakes.nvrtc)!r}], {str(tmp_path)!r})[0])"
    )

    def one(_: int) -> bytes:
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(4)))) == 1
    assert [file.suffix for file in tmp_path.iterdir()] == [".cubin"]


def test_the_compilers_words_are_in_the_error(fakes: Fakes) -> None:
    with pytest.raises(reset.DeviceError, match=r"mine.cu does not compile with NVRTC 13.0: .*COMPILATION\nline 1: is BROKEN$"):
        _core.cuda_compile("mine", "sm_90", [fakes.nvrtc], None, "BROKEN")
    with pytest.raises(ValueError, match=r"name = absent is not possible: .*probe"):
        _core.cuda_compile("absent", "sm_90", [fakes.nvrtc])


# NVRTC itself


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_without_a_device_or_toolkit(nvrtc: list[Path], tmp_path: Path, architecture: str) -> None:
    cubin, cached = _core.cuda_compile("probe", architecture, nvrtc, tmp_path)
    assert cubin.startswith(ELF)
    assert int.from_bytes(cubin[18:20], "little") == 190  # ELF's number for CUDA
    assert not cached
    assert _core.cuda_compile("probe", architecture, nvrtc, tmp_path) == (cubin, True)
    for entry in (b"probe_copy", b"probe_read", b"probe_chain", b"probe_ring"):
        assert entry in cubin


def test_every_file_of_kernels_compiles_as_the_package_carries_it(nvrtc: list[Path], tmp_path: Path) -> None:
    """With its headers from memory, and several at once, as a first start does."""
    names = [name for name, _ in _core.cuda_kernels()]

    def cubin(name: str) -> bytes:
        return _core.cuda_compile(name, "sm_90", nvrtc, tmp_path)[0]

    with ThreadPoolExecutor(4) as pool:
        cubins = dict(zip(names, pool.map(cubin, names), strict=True))
    assert all(text.startswith(ELF) for text in cubins.values())
    assert len(list(tmp_path.iterdir())) == len(names)
    assert cubins["probe"] == _core.cuda_compile("probe", "sm_90", nvrtc)[0]


def test_nvrtcs_log_names_the_line(nvrtc: list[Path]) -> None:
    with pytest.raises(reset.DeviceError, match=r'mine\(2\): error: identifier "y" is undefined'):
        _core.cuda_compile("mine", "sm_90", nvrtc, None, 'extern "C" __global__ void f(int* x) {\n  *x = y;\n}')
    with pytest.raises(reset.DeviceError, match="invalid value for --gpu-architecture"):
        _core.cuda_compile("probe", "sm_1", nvrtc)


def test_the_package_is_looked_for_first_and_newest_first(tmp_path: Path) -> None:
    for name in (
        "cu13/lib/libnvrtc.so.13",
        "cu13/lib/libnvrtc.alt.so.13",
        "cu13/lib/libnvrtc-builtins.so.13.0",
        "cuda_nvrtc/lib/libnvrtc.so.12",
    ):
        file = tmp_path / "nvidia" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from reset._cuda import nvrtc_candidates\n"
        f"print(*[p.relative_to({str(tmp_path)!r}) for p in nvrtc_candidates() if p.is_relative_to({str(tmp_path)!r})])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.split() == ["nvidia/cu13/lib/libnvrtc.so.13", "nvidia/cuda_nvrtc/lib/libnvrtc.so.12"]
