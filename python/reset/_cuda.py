"""Where the CUDA compiler and compiled kernels lie.

The compiler is one library, NVRTC. It comes with the package ``nvidia-cuda-nvrtc`` (the extra ``cuda``; torch brings it too), with a
toolkit, or with conda, and none of these puts it where the loader looks. So this module lists the places, and the core opens the first
that fits the driver.
"""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: ``libnvrtc.so.13``, ``nvrtc64_130_0.dll``: the number orders versions. The variants called ``alt`` and ``builtins`` are not meant.
_FILE = re.compile(r"libnvrtc\.so\.(\d+)|nvrtc64_(\d+)_0\.dll")
#: Below the folder ``nvidia`` of an environment: packages for CUDA 13 on, and for CUDA 12; Linux and Windows.
_PACKAGES = ("cu*/lib", "cuda_nvrtc/lib", "cu*/bin/x86_64", "cu*/bin", "cuda_nvrtc/bin")
_TOOLKITS = (
    "/usr/local/cuda/lib64",
    "/usr/local/cuda-*/lib64",
    "/opt/cuda/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
)
#: What the loader itself may know.
_NAMES = ("nvrtc64_130_0.dll", "nvrtc64_120_0.dll") if sys.platform == "win32" else ("libnvrtc.so.13", "libnvrtc.so.12")


def nvrtc_candidates() -> list[Path]:
    """Files that may be NVRTC, best first: this environment's packages, the loader's own, conda's, a toolkit's."""
    spec = find_spec("nvidia")
    packages = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    found = [file for place in packages for pattern in _PACKAGES for file in _newest_first(place.glob(pattern))]
    found += [Path(name) for name in _NAMES]
    found += _newest_first([Path(sys.prefix) / "lib"])
    for pattern in _TOOLKITS:
        found += _newest_first(Path("/").glob(pattern[1:]))
    return list(dict.fromkeys(found))


def device_place(device: str, *, automatic: tuple[str, ...] = ()) -> tuple[int, list[Path], Path] | None:
    """What the core needs to open ``device``: its number, where NVRTC may be, where compiled kernels are kept. None for the CPU.

    Raises:
        ValueError: anything but "cpu", "cuda", "cuda:N" and the words in ``automatic``, which mean the CPU.
    """
    if device == "cpu" or device in automatic:
        return None
    match = re.fullmatch(r"cuda(?::(\d+))?", device) if isinstance(device, str) else None
    if match is None:
        allowed = ", ".join(repr(word) for word in (*automatic, "cpu", "cuda"))
        raise ValueError(f"device = {device!r} is not possible: use {allowed} or 'cuda:N'")
    return int(match[1] or 0), nvrtc_candidates(), cubin_folder()


def cubin_folder() -> Path:
    """Where compiled kernels are kept: in the user's cache."""
    from platformdirs import user_cache_path

    return user_cache_path("reset-nvfp4", appauthor=False) / "cubin"


def _newest_first(folders: Iterable[Path]) -> list[Path]:
    files = [(match, file) for folder in folders for file in _files(folder) if (match := _FILE.fullmatch(file.name))]
    files.sort(key=lambda pair: -int(pair[0][1] or pair[0][2]))
    return [file for _, file in files]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # absent, or not to be read: another place may do
        return []
