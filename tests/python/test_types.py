"""Steps, traces and generations, and traces on disk."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reset.types import COLUMNS, Generation, Interrupted, Step, Trace

if TYPE_CHECKING:
    from pathlib import Path

ENDINGS = [".npz", ".jsonl", ".csv"]


def columns(count: int, **changed: Any) -> dict[str, Any]:
    """Columns of a small trace with different numbers everywhere; every third token begins a step."""
    base: dict[str, Any] = {
        name: np.arange(count) * 0.5 + place for place, (name, dtype) in enumerate(COLUMNS.items()) if dtype is np.float64
    }
    base |= {"token_id": np.arange(count) + 100, "step_index": np.arange(count) // 3}
    base["boundary"] = (np.arange(count) % 3 == 0) & (np.arange(count) > 0)
    return base | changed


def trace(count: int, **changed: Any) -> Trace:
    return Trace(**columns(count, **changed))


def test_columns_are_the_fields_in_order() -> None:
    names = [field.name for field in dataclasses.fields(Trace)]
    assert names[: len(COLUMNS)] == list(COLUMNS)
    step_names = {field.name for field in dataclasses.fields(Step)}
    assert set(COLUMNS) <= step_names


def test_columns_get_their_dtypes_and_cannot_be_changed() -> None:
    given_columns = columns(4, entropy=np.float32([0.1, 0.2, 0.3, 0.4]), token_id=[1, 2, 3, 4], threshold=[1, 2, 3, 4])
    made = Trace(**given_columns)
    assert {name: column.dtype.type for name, column in made.columns.items()} == COLUMNS
    assert made.entropy.tolist() == np.float32([0.1, 0.2, 0.3, 0.4]).astype(float).tolist()
    with pytest.raises(ValueError, match="read-only"):
        made.entropy[0] = 1
    given_columns["logprob"][0] = 77  # the caller's arrays stay the caller's
    assert made.logprob[0] != 77
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.entropy = made.logprob  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"entropy": [1.0]}, r"one length, got .*'entropy': 1"),
        ({"tokens": ("a",)}, "'tokens': 1"),
        ({"entropy": np.zeros((3, 1))}, r"entropy must have one dimension, got shape \(3, 1\)"),
        ({"entropy": 1.0}, r"entropy must have one dimension, got shape \(\)"),
        ({"entropy": ["a", "b", "c"]}, "entropy must hold float64"),
        ({"entropy": np.zeros(3, dtype=complex)}, "entropy must hold float64, got complex128"),
        ({"token_id": [1.5, 2, 3]}, "token_id must hold int64, got float64"),
        ({"token_id": [None, 2, 3]}, "token_id must hold int64, got object"),
        ({"boundary": [0, 1, 2]}, "boundary must hold bool, got int64"),
    ],
)
def test_wrong_columns_are_named(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        trace(3, **changed)


def test_slices_masks_rows_and_columns() -> None:
    whole = trace(7, tokens=tuple("abcdefg"), metadata={"policy": "ReSET"})
    assert len(whole) == 7
    part = whole[2:5]
    assert part.token_id.tolist() == [102, 103, 104]
    assert part.tokens == ("c", "d", "e")
    assert part.metadata == {"policy": "ReSET"}
    assert whole[whole.boundary].tokens == ("d", "g")
    assert whole[[0, -1]].tokens == ("a", "g")
    assert len(whole[7:]) == 0
    row = whole[3]
    assert row == {**{name: column[3] for name, column in whole.columns.items()}, "token": "d"}
    assert type(row["token_id"]) is int
    assert type(row["boundary"]) is bool
    assert whole[-1]["token"] == "g"
    assert [r["token"] for r in whole] == list("abcdefg")
    with pytest.raises(IndexError):
        whole[7]


def test_equality_compares_values_with_nan() -> None:
    nan = np.full(3, np.nan)
    assert trace(3, threshold=nan) == trace(3, threshold=nan)
    assert trace(3, threshold=nan) != trace(3)
    assert trace(3, tokens=("a", "b", "c")) != trace(3)
    assert trace(3, metadata={"a": 1}) != trace(3)
    assert trace(3) != trace(4)
    assert trace(3) != "a trace"
    with pytest.raises(TypeError, match="unhashable"):
        hash(trace(3))


def test_uncertain_is_false_without_step_entropy() -> None:
    nan = np.full(3, np.nan)
    assert trace(3, step_entropy=[1.0, 2.0, 3.0], global_mean=[1.0, 1.5, 4.0]).uncertain.tolist() == [False, True, False]
    assert trace(3, step_entropy=nan, global_mean=nan).uncertain.tolist() == [False] * 3


def test_from_steps() -> None:
    steps = [
        Step("a", 5, -0.1, -0.2, 0.3, math.nan, math.nan, math.nan, 0.6, 0, False),
        Step("b", 6, -0.3, -0.4, 0.5, 0.1, 0.2, 0.3, 0.7, 1, True, "stop", 2),
    ]
    made = Trace.from_steps(steps, tokens=("a", "b"), metadata={"seed": 3})
    assert made == Trace(
        [5, 6], [-0.1, -0.3], [-0.2, -0.4], [0.3, 0.5], [math.nan, 0.1], [math.nan, 0.2], [math.nan, 0.3], [0.6, 0.7],
        [0, 1], [False, True], tokens=("a", "b"), metadata={"seed": 3},
    )  # type: ignore[arg-type]  # fmt: skip
    assert len(Trace.from_steps([])) == 0


def test_to_pandas() -> None:
    frame = trace(4, tokens=("a", "b", "c", "d"), metadata={"policy": {"name": "ReSET"}}).to_pandas()
    assert list(frame.columns) == ["token_id", "token", *list(COLUMNS)[1:]]
    assert frame["boundary"].dtype == bool
    assert frame["token_id"].tolist() == [100, 101, 102, 103]
    assert frame.attrs == {"policy": {"name": "ReSET"}}
    frame.loc[0, "entropy"] = 9.0  # the frame's own copy
    assert list(trace(2).to_pandas().columns) == list(COLUMNS)


FLOATS = st.floats(width=64)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    count = draw(st.integers(0, 6))
    of = {np.float64: FLOATS, np.int64: st.integers(-(2**63), 2**63 - 1), np.bool_: st.booleans()}
    made = {name: np.array(draw(st.lists(of[dtype], min_size=count, max_size=count)), dtype=dtype) for name, dtype in COLUMNS.items()}
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    tokens = draw(st.none() | st.lists(texts, min_size=count, max_size=count))
    metadata = draw(st.dictionaries(st.text(max_size=4), st.none() | st.integers(-9, 9) | st.lists(st.booleans()) | texts, max_size=3))
    return Trace(**made, tokens=None if tokens is None else tuple(tokens), metadata=metadata)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=traces())
def test_files_keep_every_value(tmp_path: Path, ending: str, made: Trace) -> None:
    file = tmp_path / f"trace{ending}"
    made.save(file)
    assert Trace.load(file) == made
    assert list(tmp_path.iterdir()) == [file]


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    made = trace(3, tokens=('say "hi",\n', "\r# ", "é"), threshold=np.full(3, np.nan), metadata={"seed": 1})
    for ending in ENDINGS:
        made.save(tmp_path / f"trace{ending}")
    with np.load(tmp_path / "trace.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {*COLUMNS, "header"}
    lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert lines[0]["metadata"] == {"seed": 1}
    assert lines[1]["threshold"] is None
    frame = pd.read_csv(tmp_path / "trace.csv", skiprows=1)
    assert frame["token_id"].tolist() == [100, 101, 102]


@pytest.mark.parametrize("name", ["trace", "trace.txt", "trace.npz.gz", ".npz"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    for action in (trace(1).save, Trace.load):
        with pytest.raises(ValueError, match=r"the name must end in \.npz, \.jsonl, \.csv"):
            action(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_missing_and_damaged_files_are_named(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"trace{ending}"
    with pytest.raises(FileNotFoundError):
        Trace.load(file)
    trace(5, tokens=tuple("abcde")).save(file)
    content = file.read_bytes()
    without_last_row = content[: content.rindex(b"\n", 0, -1) + 1]
    for damaged in (b"", b"nonsense", content[: len(content) // 2], without_last_row, content.replace(b"reset-trace-1", b"reset-trace-9")):
        if damaged == content:
            continue
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"trace\\{ending}: not a trace"):
            Trace.load(file)


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "trace.npz"
    trace(2).save(file)

    def disk_full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="disk full"):
        trace(3).save(file)
    assert list(tmp_path.iterdir()) == [file]
    assert len(Trace.load(file)) == 2
    with pytest.raises(FileNotFoundError):
        trace(3).save(tmp_path / "no folder" / "trace.npz")


def test_repr_is_a_short_table() -> None:
    assert repr(trace(0)) == "Trace: 0 tokens, 0 steps"
    small = repr(trace(2, tokens=("\n", "a very long token indeed"))).splitlines()
    assert small[0] == "Trace: 2 tokens, 1 step"
    assert len(small) == 4
    assert "'\\n'" in small[2]
    assert "'a very long to…" in small[3]
    large = repr(trace(50)).splitlines()
    assert large[0] == "Trace: 50 tokens, 17 steps"
    assert len(large) == 10
    assert large[-1].split()[:2] == ["49", "149"]
    assert large[5].split()[-1] == "yes"
    assert large[4].split()[-1] != "yes"


def generation(**changed: Any) -> Generation:
    base: dict[str, Any] = {"text": "So it is 4.", "token_ids": [1, 2, 3], "prompt_token_ids": [9], "trace": trace(3)}
    base |= {"finish_reason": "stop", "seed": 7, "seconds": 1.5}
    return Generation(**(base | changed))


def test_generation_prints_its_text() -> None:
    made = generation()
    assert str(made) == "So it is 4."
    assert repr(made) == "Generation('So it is 4.', 3 tokens after 1, 'stop', seed=7, 2.0 tokens/s)"
    assert len(repr(generation(text="x" * 10_000))) < 160
    assert made.tokens_per_second == 2.0
    assert math.isnan(generation(seconds=0.0).tokens_per_second)
    assert (made.stream_id, made.sample_index, made.stop, dict(made.metadata)) == (0, 0, None, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.seed = 1  # type: ignore[misc]


def test_interrupted_is_a_keyboard_interrupt_with_what_there_is() -> None:
    partial = [generation(), generation()]
    with pytest.raises(KeyboardInterrupt, match="after 6 tokens") as caught:
        raise Interrupted(partial)
    assert isinstance(caught.value, Interrupted)
    assert caught.value.partial is partial
    assert not isinstance(caught.value, Exception)
