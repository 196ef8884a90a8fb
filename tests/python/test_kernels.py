"""CUDA kernels compile for every architecture without spills, and spend no more instructions than they should. No GPU is needed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

PROJECT = Path(__file__).resolve().parent.parent.parent


def tool(name: str) -> ModuleType:
    """A script of `tools/` as a module."""
    spec = importlib.util.spec_from_file_location(name, PROJECT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


nvrtc_compile = tool("nvrtc_compile")
sass_count = tool("sass_count")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory):
    """Resources of all kernels, and a folder with their machine code."""
    try:
        nvrtc = nvrtc_compile.Nvrtc()
    except OSError:
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc==13.0.88")
    if nvrtc.version != nvrtc_compile.VERSION:
        pytest.skip(f"the table is of NVRTC {nvrtc_compile.VERSION}, installed is {nvrtc.version}")
    folder = tmp_path_factory.mktemp("cubins")
    return nvrtc_compile.compile_all(nvrtc, folder), folder


def test_every_kernel_is_in_the_table():
    listed = {usage.file for usage in nvrtc_compile.read_table()}
    assert listed == {path.stem for path in (PROJECT / "kernels").glob("*.cu")}
    assert {u.architecture for u in nvrtc_compile.read_table()} == set(nvrtc_compile.ARCHITECTURES)


def test_the_table_admits_no_spill():
    assert [u for u in nvrtc_compile.read_table() if u.spilled_bytes] == []


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_every_kernel_compiles_to_what_the_table_says(compiled):
    usages, _ = compiled
    assert usages == nvrtc_compile.read_table(), "run tools/nvrtc_compile.py --write"


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_inner_loops_keep_to_their_budget(compiled):
    disassembler = sass_count.nvdisasm()
    if disassembler is None:
        pytest.skip("no nvdisasm: pip install nvidia-cuda-nvdisasm")
    for (kernel, architecture), limit in sass_count.LIMITS.items():
        (loop,) = sass_count.loops(compiled[1] / f"{kernel}.{architecture}.cubin", disassembler)
        assert 1.0 < loop.per_weight <= limit, loop


def test_the_log_of_the_assembler_is_read():
    log = """ptxas info    : Compiling entry function 'one' for 'sm_90'
ptxas info    : Function properties for one
    8 bytes stack frame, 12 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 384 bytes smem, 444 bytes cmem[0]
"""
    (usage,) = nvrtc_compile.usages("file", "sm_90", log)
    assert usage == nvrtc_compile.Usage("file", "one", "sm_90", 40, 384, 16, 8)
