"""CUDA on a card: what the stand-ins cannot show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reset import _core
from reset._cuda import nvrtc_candidates

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def capability() -> tuple[int, int]:
    report = _core.cuda(nvrtc_candidates())
    if report["missing"]:
        pytest.skip("; ".join(found for found, _ in report["missing"]))
    return report["devices"][0][2]


def test_the_card_copies_counts_and_reports(capability: tuple[int, int], tmp_path: Path) -> None:
    figures = _core.cuda_check(0, nvrtc_candidates(), tmp_path, 1 << 30, 200, 20)
    assert all(figures[name] > 0 for name in figures if name != "overlapping_edges")
    assert figures["overlapping_edges"] == (199 if capability >= (9, 0) else 0)
    (kept,) = tmp_path.iterdir()
    assert kept.suffix == ".cubin"


@pytest.mark.parametrize("nbytes", [16, 48, 16 * 33, (4 << 20) + 16, 3_000_001])
def test_odd_sizes_are_copied_whole(capability: tuple[int, int], tmp_path: Path, nbytes: int) -> None:
    assert _core.cuda_check(0, nvrtc_candidates(), tmp_path, nbytes, 3, 1)["overlapping_edges"] in (0, 2)
    assert capability
