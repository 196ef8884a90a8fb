"""Our compressed-tensors output in the library that defines the format: transformers with compressed-tensors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from reset import _core

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch", reason="needs the extra test-torch")
transformers = pytest.importorskip("transformers", reason="needs the extra test-torch")
pytest.importorskip("compressed_tensors", reason="needs the extra test-torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about themselves


def quantize(source: Path, out: Path, **options: Any) -> Path:
    defaults: dict[str, Any] = {"format": "compressed-tensors", "method": "nearest", "activations": "float", "kv": None}
    rest: dict[str, Any] = {"ignore": ["lm_head"], "input_amax": None, "kv_amax": None, "max_shard_bytes": 10**9, "progress": None}
    _core.quantize_checkpoint(source, out, **{**defaults, **rest, **options})
    return out


def logits(model: Any, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(ids)).logits.float().numpy()


def load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    logits(model, np.zeros((1, 1), np.int64))  # the first call expands packed weights, to bfloat16
    return torch.nn.Module.float(model)  # the model's own method refuses quantized ones


def dequantized(source: Path, quantized: Path, rounded: bool = True) -> Any:
    """The source model with the weights that the quantized file stands for, from the definition of the format.

    compressed-tensors expands weights to bfloat16 whatever type is asked for: `rounded`.
    """
    from safetensors.torch import load_file

    model = load(source)
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    tensors = {name: t for file in quantized.glob("*.safetensors") for name, t in load_file(file).items()}
    state = model.state_dict()
    for name in [n.removesuffix("_packed") for n in tensors if n.endswith("_packed")]:
        packed = tensors[name + "_packed"].long()
        elements = values[torch.stack([packed & 15, packed >> 4], -1).flatten(1)]  # [rows, cols]
        scales = tensors[name + "_scale"].float() / tensors[name.removesuffix("weight") + "weight_global_scale"]
        exact = elements * scales.repeat_interleave(16, 1)
        state[name] = exact.bfloat16() if rounded else exact
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("method", ["nearest", "four_over_six", "sweep"])
def test_transformers_loads_our_weight_only_output_and_computes_what_it_means(golden: Path, tmp_path: Path, method: str) -> None:
    source = golden / "checkpoints" / "bf16_source"
    out = quantize(source, tmp_path / "out", method=method)
    ids = np.random.default_rng(1).integers(0, 256, (2, 24))
    theirs = logits(load(out), ids)
    ours = logits(dequantized(source, out), ids)
    assert np.abs(theirs - ours).max() < 1e-3
    engine = _core.Model.load(out, kv="f32")
    exact = logits(dequantized(source, out, rounded=False), ids)
    mine = np.stack([engine.logits(row) for row in ids])
    assert np.abs(mine - exact).max() < 1e-3
    errors = [np.abs(a - b).max() for a, b in [(theirs, ours), (mine, exact), (theirs, exact)]]
    print("{}: transformers {:.1e}, our engine {:.1e} from the definition; bfloat16 weights cost {:.1e}".format(method, *errors))
    assert np.abs(theirs - logits(load(source), ids)).max() > 1e-2, "the model loaded is the quantized one"


def test_transformers_loads_our_sharded_output_with_quantized_activations(golden: Path, tmp_path: Path) -> None:
    source = golden / "checkpoints" / "bf16_source"
    layers = [layer["name"] for layer in _core.inspect(source)["layers"]["linear"]]
    out = quantize(source, tmp_path / "out", activations="nvfp4", input_amax=dict.fromkeys(layers, 6.0), max_shard_bytes=30_000)
    assert len(list(out.glob("*.safetensors"))) > 3
    model = load(out)
    result = logits(model, np.arange(16)[None])
    assert np.isfinite(result).all()
    exact = logits(dequantized(source, out), np.arange(16)[None])
    assert 1e-4 < np.abs(result - exact).max() / np.abs(exact).max() < 0.3, "activations are rounded too"
