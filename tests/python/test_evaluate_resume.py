"""Runs that are killed, torn, starved of disk or interrupted go on to the identical result; results are never mixed."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from small_tasks import sums

import reset
from reset.evaluation import store
from reset.evaluation.sample import Sample

CHILD = Path(__file__).with_name("evaluate_child.py")
SUMS = sums()
RUN: dict[str, Any] = {"limit": 10, "n_samples": 3, "max_new_tokens": 48, "seed": 5}


@pytest.fixture(scope="module")
def model(demo_nvfp4: Path) -> reset.Model:
    return reset.load(demo_nvfp4)


def run(model: reset.Model, folder: Path | None, **options: Any) -> reset.EvalResult:
    options = {"policy": reset.ReSET(0.3, 2.0), "output_dir": folder, "progress": False, **RUN, **options}
    return reset.evaluate(model, SUMS, **options)


@pytest.fixture(scope="module")
def whole(model: reset.Model) -> reset.EvalResult:
    return run(model, None)


def same(a: reset.EvalResult, b: reset.EvalResult) -> bool:
    return len(a) == len(b) and all(x.same_as(y) for x, y in zip(a.samples, b.samples, strict=True))


def lines(folder: Path) -> int:
    path = folder / store.SAMPLES
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_until_done(checkpoint: Path, folder: Path, kills: int, rng: random.Random) -> int:
    """Runs the child again and again with changing batch and threads and kills it at random moments; then lets it finish."""
    killed = 0
    for attempt in range(kills + 1):
        arguments = [str(checkpoint), str(folder), str(rng.choice([1, 2, 3, 5, 8])), str(rng.choice([1, 2])), json.dumps(RUN)]
        child = subprocess.Popen([sys.executable, str(CHILD), *arguments], stderr=subprocess.PIPE)
        if attempt < kills:
            before, deadline = lines(folder), time.monotonic() + 30
            while lines(folder) == before and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.03))
            child.kill()
        _, errors = child.communicate(timeout=120)
        killed += child.returncode == -signal.SIGKILL
        assert child.returncode in (0, -signal.SIGKILL), errors.decode()
    return killed


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_resumes_to_the_identical_result(
    demo_nvfp4: Path, whole: reset.EvalResult, tmp_path: Path, kills: int
) -> None:
    rng = random.Random(kills)
    killed = 0
    # A run has 30 samples, so that one folder takes a few kills; further folders take the rest.
    for part in range(0, kills, 3):
        folder = tmp_path / str(part)
        killed += kill_until_done(demo_nvfp4, folder, min(3, kills - part), rng)
        assert same(reset.EvalResult.load(folder), whole)
    assert killed >= 0.6 * kills  # else the child was done before it was killed, and the test shows nothing


def test_batch_size_and_threads_change_no_sample(demo_nvfp4: Path, whole: reset.EvalResult, tmp_path: Path) -> None:
    other = run(reset.load(demo_nvfp4, threads=1), tmp_path / "run", batch_size=3)
    assert same(other, whole)
    assert not other.partial


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_torn_last_line_is_cut_off_and_its_sample_made_again(
    model: reset.Model, whole: reset.EvalResult, tmp_path: Path, cut: int
) -> None:
    folder = tmp_path / "run"
    run(model, folder)
    path = folder / store.SAMPLES
    path.write_bytes(path.read_bytes()[:-cut])
    torn = reset.EvalResult.load(folder)  # readers do not repair: the writer may be alive
    assert torn.partial
    assert len(torn) == len(whole) - 1
    assert same(run(model, folder), whole)
    assert all(Sample.from_json(line) for line in path.read_bytes().splitlines())


def test_a_damaged_line_in_the_middle_is_named(model: reset.Model, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(model, folder, limit=2)
    path = folder / store.SAMPLES
    content = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([content[0], content[1][:50], *content[2:]]) + b"\n")
    with pytest.raises(reset.ConfigError, match=r"samples\.jsonl, line 2.*Delete this line"):
        reset.EvalResult.load(folder)


def test_a_full_disk_loses_nothing_finished(demo_nvfp4: Path, whole: reset.EvalResult, model: reset.Model, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    limit = 14_000  # bytes a file may have: reached within a line

    def starve() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then the write fails with an error, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, str(CHILD), str(demo_nvfp4), str(folder), "4", "2", json.dumps(RUN)]
    child = subprocess.run(command, preexec_fn=starve, capture_output=True, text=True)
    assert child.returncode == 1
    assert "samples finished before are whole" in child.stderr
    kept = reset.EvalResult.load(folder)
    assert 0 < len(kept) < len(whole)
    assert (folder / store.SAMPLES).read_bytes().endswith(b"\n")
    assert same(run(model, folder), whole)


def test_ctrl_c_keeps_what_is_finished(model: reset.Model, whole: reset.EvalResult, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    stop = threading.Event()

    def interrupt() -> None:
        while lines(folder) < 4 and not stop.is_set():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(reset.Interrupted, match="the same call goes on") as caught:
            run(model, folder, n_samples=64)
    finally:
        stop.set()
        thread.join()
    partial = caught.value.partial
    assert isinstance(partial, reset.EvalResult)
    assert partial.partial
    assert len(partial) == lines(folder) >= 3  # a line in whose writing the interrupt fell is taken back
    assert same(run(model, folder), whole)


def test_a_second_writer_is_refused_and_readers_are_not(model: reset.Model, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(model, folder, limit=1)
    with store.Writer(folder, None):
        assert len(reset.EvalResult.load(folder)) == 3
        with pytest.raises(reset.ConfigError, match=r"another process is writing it.*shard"):
            run(model, folder)


def test_a_plan_may_grow_and_a_smaller_one_reads_its_part(model: reset.Model, whole: reset.EvalResult, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = run(model, folder, limit=4, n_samples=1)
    assert (len(first), first.partial) == (4, False)
    assert same(run(model, folder), whole)
    written = lines(folder)
    again = run(model, folder, limit=4, n_samples=1)
    assert same(again, first)
    assert lines(folder) == written
    assert len(reset.EvalResult.load(folder)) == len(whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 6}, "seed: 5 there, 6 here"),
        ({"policy": reset.FixedTemperature(0.6)}, r"policy\.policy: 'reset' there"),
        ({"policy": reset.ReSET(0.2, 2.0)}, r"policy\.t_low: 0\.3 there, 0\.2 here"),
        ({"top_p": 0.95}, "top_p: None there, 0.95 here"),
        ({"max_new_tokens": 47}, "max_new_tokens: 48 there, 47 here"),
        ({"prompt": "plain"}, "prompt: 'boxed' there, 'plain' here"),
        ({"split": "tune"}, "split: 'test' there, 'tune' here"),
    ],
)
def test_results_of_other_options_are_refused(model: reset.Model, tmp_path: Path, change: dict[str, Any], named: str) -> None:
    folder = tmp_path / "run"
    run(model, folder, limit=1)
    before = (folder / store.SAMPLES).read_bytes()
    with pytest.raises(reset.ConfigError, match=rf"(?s)never mixed.*{named}"):
        run(model, folder, **{"limit": 1, **change})
    assert (folder / store.SAMPLES).read_bytes() == before


def test_results_of_another_model_are_refused_wherever_it_lies(
    model: reset.Model, demo_nvfp4: Path, demo_bf16: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run(model, folder, limit=1)
    with pytest.raises(reset.ConfigError, match=r"model\.fingerprint"):
        run(reset.load(demo_bf16), folder, limit=1)
    with pytest.raises(reset.ConfigError, match=r"model\.kv: 'bf16' there, 'f32' here"):
        run(reset.load(demo_nvfp4, kv="f32"), folder, limit=1)
    moved = tmp_path / "moved"
    shutil.copytree(demo_nvfp4, moved)
    assert len(run(reset.load(moved), folder, limit=2)) == 6


def test_another_recipe_of_quantization_is_another_model(demo_bf16: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(reset.load(demo_bf16, weights="nvfp4"), folder, limit=1)
    with pytest.raises(reset.ConfigError, match=r"model\.method: 'nearest' there, 'sweep' here"):
        run(reset.load(demo_bf16, weights="nvfp4", method="sweep"), folder, limit=1)


def test_changed_problems_and_task_versions_are_refused(model: reset.Model, tmp_path: Path) -> None:
    rows = [{"question": f"What is {i} plus 1?", "answer": str(i + 1)} for i in range(4)]
    folder = tmp_path / "run"
    options: dict[str, Any] = {"policy": reset.Greedy(), "output_dir": folder, "max_new_tokens": 4, "progress": False}
    reset.evaluate(model, reset.Task("mine", rows), **options)
    changed = [*rows[:2], {"question": "What is 2 plus 2?", "answer": "4"}, rows[3]]
    with pytest.raises(reset.ConfigError, match="problem 'test-2' has another text"):
        reset.evaluate(model, reset.Task("mine", changed), **options)
    with pytest.raises(reset.ConfigError, match=r"number 1 is 'test-[01]'"):
        reset.evaluate(model, reset.Task("mine", [{**row, "id": f"test-{i + 1}"} for i, row in enumerate(rows)]), **options)
    with pytest.raises(reset.ConfigError, match="task_version: '1' there, '2' here"):
        reset.evaluate(model, reset.Task("mine", rows, version="2"), **options)


def test_resume_false_refuses_a_folder_with_results(model: reset.Model, tmp_path: Path) -> None:
    run(model, tmp_path / "run", limit=1)
    with pytest.raises(FileExistsError, match="resume=False"):
        run(model, tmp_path / "run", limit=1, resume=False)
    assert len(run(model, tmp_path / "new", limit=1, resume=False)) == 3


def test_a_folder_that_is_not_a_run_is_refused(model: reset.Model, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(NotADirectoryError, match="output_dir"):
        run(model, file, limit=1)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / store.RUN_FILE).write_text("{")
    with pytest.raises(reset.ConfigError, match=r"run\.json"):
        run(model, folder, limit=1)
    (folder / store.RUN_FILE).unlink()
    (folder / store.SAMPLES).write_text("")
    with pytest.raises(reset.ConfigError, match=r"no run\.json"):
        run(model, folder, limit=1)


def test_shards_share_a_folder_or_merge(model: reset.Model, whole: reset.EvalResult, tmp_path: Path) -> None:
    together = tmp_path / "together"
    parts = []
    for index in (1, 2, 3):
        part = run(model, together, shard=(index, 3))
        assert part.partial == (index < 3)
        parts.append(run(model, tmp_path / str(index), shard=(index, 3)))
        assert parts[-1].partial
    assert same(reset.EvalResult.load(together), whole)
    assert sum(map(len, parts)) == len(whole)
    merged = parts[2].merge(parts[0], parts[1])
    assert same(merged, whole)
    assert not merged.partial
    assert same(run(model, together), whole)  # and an unsharded run finds nothing left to do
    assert lines(together) == 0


def test_shards_that_start_at_once_agree_on_one_run(model: reset.Model, tmp_path: Path) -> None:
    """Two seeds at the same moment: one makes the folder its own, the other is refused, and the folder can be read."""
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        ready = threading.Barrier(2)
        outcomes: dict[int, object] = {}

        def start(index: int, folder: Path = folder, ready: threading.Barrier = ready, outcomes: dict[int, object] = outcomes) -> None:
            ready.wait()
            try:
                outcomes[index] = run(model, folder, shard=(index, 2), seed=index, limit=2, n_samples=1, max_new_tokens=2)
            except reset.ConfigError as error:
                outcomes[index] = error

        threads = [threading.Thread(target=start, args=(index,)) for index in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(isinstance(outcome, reset.ConfigError) for outcome in outcomes.values()) == [False, True]
        assert len(reset.EvalResult.load(folder)) == 1


def test_a_full_disk_while_a_trace_is_written_names_the_file(model: reset.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    folder = tmp_path / "run"
    run(model, folder, limit=2, n_samples=1, shard=(1, 2))
    monkeypatch.setattr("reset.files.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*traces/.*npz"):
        run(model, folder, limit=2, n_samples=1, traces=True)


def test_merge_refuses_other_runs_and_contradictions(model: reset.Model, whole: reset.EvalResult) -> None:
    with pytest.raises(reset.ConfigError, match="seed"):
        whole.merge(run(model, None, limit=1, seed=6))
    sample = whole.samples[0]
    changed = Sample(**{**vars(sample), "correct": not sample.correct})
    contradiction = reset.EvalResult([changed], identity=whole._identity, plan=whole._plan)
    with pytest.raises(reset.ConfigError, match="twice, with different content"):
        whole.merge(contradiction)
