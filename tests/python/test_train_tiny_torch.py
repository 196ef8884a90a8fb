"""The training itself: the network against transformers and reset, and a run that is killed and goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import ROOT

import reset

torch = pytest.importorskip("torch", reason="needs the extra test-torch")

sys.path.insert(0, str(ROOT / "examples"))

from train_tiny import data  # noqa: E402
from train_tiny.card import evaluate_now, plot  # noqa: E402
from train_tiny.model import Qwen3, write_weights  # noqa: E402
from train_tiny.muon import orthogonalized  # noqa: E402
from train_tiny.recipe import Recipe, Sizes  # noqa: E402
from train_tiny.train import Trainer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about themselves

SMALL = {
    "vocab": 512, "hidden": 64, "intermediate": 96, "layers": 2, "heads": 4, "kv_heads": 2, "positions": 512,
    "steps": 80, "batch": 2, "shard": 10, "tokenizer_documents": 150,
}  # fmt: skip
RECIPE = Recipe().changed(**SMALL)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine two threads that wait for each other are many times slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_model(sizes: Sizes) -> Qwen3:
    """With weights of a width that no linear approximation of the network survives, rounded to BF16."""
    torch.manual_seed(5)
    model = Qwen3(sizes)
    for parameter in model.parameters():
        parameter.data = (parameter.data + 0.1 * torch.randn(parameter.shape)).bfloat16().float()
    return model.eval()


@pytest.mark.parametrize("heads", [(4, 2), (3, 3), (4, 1)])
def test_logits_agree_with_transformers_and_reset(tmp_path: Path, heads: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra test-torch")
    sizes = dataclasses.replace(RECIPE.sizes, heads=heads[0], kv_heads=heads[1])
    model = random_model(sizes)
    assert sum(p.numel() for p in model.parameters()) == sizes.parameters()
    write_weights(model.state_dict(), tmp_path, sizes.config(end_ids=(1, 0)))
    ids = torch.randint(sizes.vocab, (1, 200))
    with torch.no_grad():
        own = model(ids)[0].double().numpy()
        other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
        theirs = other.eval()(ids).logits[0].double().numpy()
    assert type(other).__name__ == "Qwen3ForCausalLM"
    scale = np.linalg.norm(theirs)
    assert scale > 100
    assert np.linalg.norm(own - theirs) / scale < 1e-5
    found = reset.load(tmp_path, kv="f32").logits(ids[0].tolist())
    assert np.linalg.norm(found - theirs) / scale < 1e-3


def test_padding_and_pieces_change_no_loss() -> None:
    model = random_model(RECIPE.sizes)
    tokens = np.random.default_rng(0).integers(1, 512, 300)
    documents = [data.Document(tokens[:n].astype(np.int16), n // 3, 1) for n in (40, 300, 120, 77)]

    def loss(micro: int) -> float:
        parts = data.pieces(documents, micro, 0.1)
        with torch.no_grad():
            return sum(float(model.loss_sum(torch.from_numpy(ids), torch.from_numpy(weights))) for ids, weights in parts)

    with torch.no_grad():
        expected = 0.0
        for document in documents:
            ids = torch.from_numpy(document.ids.astype(np.int64))
            logs = torch.log_softmax(model(ids[None])[0].double(), -1)[:-1].gather(1, ids[1:, None])[:, 0]
            weights = torch.where(torch.arange(1, len(ids)) < document.prompt, 0.1, 1.0)
            expected -= float((weights * logs).sum())
    assert loss(100) == pytest.approx(expected, rel=1e-5)
    assert loss(10_000) == pytest.approx(expected, rel=1e-5)


def test_orthogonalized_keeps_the_directions_and_evens_the_lengths() -> None:
    torch.manual_seed(0)
    for shape in ((3, 64, 160), (160, 64), (32, 32)):
        matrix = torch.randn(shape).double()
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        found = orthogonalized(matrix)
        values = torch.linalg.svdvals(found)
        assert 0.3 < float(values.min()) <= float(values.max()) < 1.3
        assert float((found * (u @ v)).sum() / (found.norm() * (u @ v).norm())) > 0.97


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_stopping_between_two_rows_of_the_log_changes_nothing(tmp_path: Path, optimizer: str) -> None:
    recipe = RECIPE.changed(optimizer=optimizer, steps=40)

    def trainer(name: str) -> Trainer:
        return Trainer(tmp_path / name, recipe, 2, workers=0, precision="float32")

    whole = trainer("whole")
    before = {name: value.clone() for name, value in whole.model.state_dict().items()}
    assert whole.run()
    assert not trainer("parts").run(stop=lambda: True)
    parts = trainer("parts")
    assert parts.step == 20
    assert parts.run()
    assert parts.tokens == whole.tokens
    for name, value in whole.average.items():
        assert torch.equal(value, parts.average[name]), name
        assert not torch.equal(value, before[name]), name
    with pytest.raises(ValueError, match="another recipe"):
        Trainer(tmp_path / "parts", recipe.changed(peak=1e-3), 2, workers=0, precision="float32")


def test_bfloat16_products_lead_to_nearly_the_same_weights(tmp_path: Path) -> None:
    recipe = RECIPE.changed(steps=20)
    losses = []
    for precision in ("float32", "bfloat16"):
        trainer = Trainer(tmp_path / precision, recipe, 0, workers=0, precision=precision)
        assert trainer.run()
        assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
        losses.append(float(rows(tmp_path / precision)[-1][3]))
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)


def test_evaluations_while_training_are_rows_that_a_resumed_run_keeps(tmp_path: Path) -> None:
    recipe = RECIPE.changed(steps=40)
    trainer = Trainer(tmp_path, recipe, 0, workers=0, precision="float32")
    said: list[str] = []
    assert trainer.run(every=lambda: said.append(evaluate_now(trainer, 6)))
    assert said[0].startswith("step 20: arithmetic tune, 6 problems: ")
    found = (tmp_path / "evaluations.csv").read_text().splitlines()
    assert found[0] == "step,problems,accuracy,truncated,entropy_p80,level_1,level_2,level_3,level_4,level_5,level_6"
    assert [row.split(",")[0] for row in found[1:]] == ["20", "40"]
    Trainer(tmp_path, recipe, 0, workers=0, precision="float32")
    assert (tmp_path / "evaluations.csv").read_text().splitlines() == found
    pytest.importorskip("matplotlib", reason="draws the loss curve")
    plot(tmp_path)
    assert (tmp_path / "loss.png").stat().st_size > 10_000


def command(output: Path, *options: str) -> list[str]:
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    return [
        sys.executable, "-m", "train_tiny", str(output), "--device=cpu", "--threads=1", "--evaluate-minutes=0", "--final-problems=0",
        "--save-minutes=0.001", *settings, *options,
    ]  # fmt: skip


def start(output: Path, *options: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(ROOT / "examples")])}  # noqa: TID251
    return subprocess.Popen(command(output, *options), env=environment, stderr=stderr)


def rows(output: Path) -> list[list[str]]:
    """The log without the column of seconds."""
    return [line.split(",")[:-1] for line in (output / "log.csv").read_text().splitlines()]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, "--final-problems=6").wait(300) == 0
    process = start(killed)
    deadline = time.monotonic() + 300
    while not (killed / "state.pt").exists() or len(rows(killed)) < 3:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(rows(killed)) < 5, "all rows were there: killed too late to prove anything"
    (killed / "log.csv").write_text((killed / "log.csv").read_text() + "60,12")  # a row that the kill cut short
    assert start(killed).wait(300) == 0
    assert rows(killed) == rows(whole)
    assert [row[0] for row in rows(whole)] == ["step", "20", "40", "60", "80"]
    assert float(rows(whole)[-1][3]) < float(rows(whole)[1][3]) - 1
    assert (killed / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()

    card = (whole / "model" / "MODEL_CARD.md").read_text()
    assert "$" not in card
    assert f"{RECIPE.sizes.parameters():,} weights" in card
    measured = json.loads((whole / "model" / "measured.json").read_text())
    assert measured["arithmetic"]["problems"] == 6
    assert set(measured["arithmetic-hard"]["levels"]) <= {"5", "6"}

    model = reset.load(whole / "model")
    generation = reset.generate(model, "How many?", seed=1, max_new_tokens=40)
    assert generation.prompt_token_ids[-2:] == [model.tokenizer.backend.token_to_id(t) for t in ("<think>", "Ċ")]
    assert len(generation.token_ids) > 0
    assert model.config["max_position_embeddings"] == 512

    other = start(whole, "--seed=1", stderr=subprocess.PIPE)
    assert b"another seed" in other.communicate(timeout=300)[1]
    assert other.returncode != 0
