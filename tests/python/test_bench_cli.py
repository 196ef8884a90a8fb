"""``reset-nvfp4 bench``: every command's figures on a tiny model, and what is said of a machine that is not quiet."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from reset.cli.bench import _quiet
from reset.cli.bench._quiet import Quiet

if TYPE_CHECKING:
    from pathlib import Path


def bench(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, "-m", "reset", "bench", *arguments, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_batch_has_a_row_for_each_size() -> None:
    result = bench("batch", "--shape", "tiny", "--size", "1", "--size", "3", "--tokens", "3")
    assert [row["batch"] for row in result["rows"]] == [1, 3]
    for row in result["rows"]:
        assert row["tokens_per_second"] == pytest.approx(1e3 * row["batch"] / row["ms"])
        assert row["ms_p10"] <= row["ms"] <= row["ms_p90"]
    assert result["read_gb_per_s"] > 0
    assert "clean" in result


def test_context_tells_what_a_step_takes_beyond_its_bytes() -> None:
    result = bench("context", "--shape", "tiny", "--length", "0", "--length", "300", "--tokens", "3")
    short, long = result["rows"]
    assert (short["context"], long["context"]) == (0, 300)
    assert 1e6 * (long["mb"] - short["mb"]) == pytest.approx(
        300 * 2 * 2 * 2 * 32 * 2
    )  # positions · layers · (k, v) · heads · head_dim · bf16
    for row in result["rows"]:
        assert row["ms_beyond_bandwidth"] == pytest.approx(row["ms"] - row["mb"] / result["read_gb_per_s"])


def test_prefill_counts_the_tokens_of_the_prompt() -> None:
    (row,) = bench("prefill", "--shape", "tiny", "--length", "70")["rows"]
    assert row["tokens"] == 70
    assert row["tokens_per_second"] == pytest.approx(70 / row["ms"] * 1e3)
    assert row["ms_min"] <= row["ms"] <= row["ms_max"]


def test_load_times_a_checkpoint(demo_bf16: Path) -> None:
    result = bench("load", str(demo_bf16), "--runs", "2")
    assert 0 < result["seconds_min"] <= result["seconds"] <= result["seconds_max"]
    assert result["model_bytes"] > 100_000


def test_codec_times_every_method() -> None:
    result = bench("codec", "--size", "64", "--runs", "3")
    cases = {row["case"]: row for row in result["rows"]}
    assert {f"quantize, {method}" for method in ("nearest", "four_over_six", "sweep")} < set(cases)
    assert all(row["p10"] <= row["median"] <= row["p90"] for row in result["rows"])


def test_a_run_beside_a_busy_process_is_not_called_clean(capsys: pytest.CaptureFixture[str]) -> None:
    if not _quiet._busy_seconds():
        pytest.skip("what others do is known on Linux only")
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with Quiet() as quiet:
            time.sleep(1.0)
    finally:
        busy.kill()
        busy.wait()
    assert quiet.others is not None
    assert quiet.others > 0.1
    assert quiet.report()["clean"] is False
    quiet.echo()
    assert "NOT CLEAN" in capsys.readouterr().out


def test_own_work_does_not_count_as_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"wall": 0.0, "own": 5.0, "busy": 100.0}
    monkeypatch.setattr(_quiet.time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(_quiet, "_own_seconds", lambda: clock["own"])
    monkeypatch.setattr(_quiet, "_busy_seconds", lambda: clock["busy"])
    with Quiet() as quiet:
        clock.update(wall=10.0, own=24.0, busy=119.5)  # 19 of 19.5 seconds were ours
    assert quiet.others == pytest.approx(0.05)
    assert quiet.clean is True


def test_elsewhere_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(_quiet, "_busy_seconds", lambda: None)
    with Quiet() as quiet:
        pass
    assert quiet.report() == {"clean": None, "other_processors_used": None}
    quiet.echo()
    assert "not known" in capsys.readouterr().out
