"""Linear layers of a torch model in NVFP4, on our kernels."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import reset

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch", reason="needs the extra test-torch")
transformers = pytest.importorskip("transformers", reason="needs the extra test-torch")

from reset.integrations.transformers import NVFP4Linear, quantize_linears  # noqa: E402  (it needs both)

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about themselves
torch.set_num_threads(1)  # on a busy machine its threads wait for each other


def hf(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


def neox(seed: int = 0) -> Any:
    """An architecture that the engine of this package does not have."""
    torch.manual_seed(seed)
    config = transformers.GPTNeoXConfig(
        vocab_size=96, hidden_size=64, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


@pytest.mark.parametrize("activations", ["float", "nvfp4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_is_the_function_of_this_package(activations: Any, dtype: Any) -> None:
    torch.manual_seed(1)
    weight, bias = torch.randn(33, 48), torch.randn(33)
    t = reset.nvfp4.quantize(weight)
    layer = NVFP4Linear(t, bias, activations=activations)
    x = torch.randn(2, 3, 48).to(dtype)
    expected = reset.nvfp4.linear(x.reshape(6, 48), t, activations=activations)
    with torch.no_grad():
        y = layer(x)
    assert y.dtype == dtype
    assert y.shape == (2, 3, 33)
    assert torch.equal(y, torch.from_numpy(expected).to(dtype).reshape(2, 3, 33) + bias.to(dtype))
    assert layer(x[:0]).shape == (0, 3, 33)


def test_large_products_use_the_shared_threads_and_give_the_same() -> None:
    torch.manual_seed(2)
    t = reset.nvfp4.quantize(torch.randn(512, 512))
    x = torch.randn(32, 512)
    assert 32 * 512 * 512 > 4 << 20
    several, one = (NVFP4Linear(t, threads=reset._core.Threads(n)) for n in (2, 1))
    assert torch.equal(several(x), one(x))
    assert torch.equal(one(x)[:1], one(x[:1]))


def test_a_whole_model_computes_what_our_engine_computes(demo_bf16: Path, tmp_path: Path) -> None:
    model = hf(demo_bf16)
    done = quantize_linears(model)
    assert len(done.replaced) == 4 * 7
    assert done.kept == {"lm_head": "ignored"}
    assert done.nbytes < done.nbytes_before / 6
    plain = hf(demo_bf16)
    for name in done.replaced:
        plain.get_submodule(name).weight.data = model.get_submodule(name).dequantized()
    plain.save_pretrained(tmp_path)
    ids = torch.arange(40)[None] % 384
    with torch.no_grad():
        found = model(ids).logits[0].numpy().astype(np.float64)
    expected = reset.load(tmp_path, kv="f32").logits(ids[0].tolist())
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-4


def test_an_architecture_of_transformers_alone() -> None:
    model = neox()
    plain = copy.deepcopy(model)
    done = quantize_linears(model, method="four_over_six")
    assert len(done.replaced) == 8
    for name in done.replaced:
        plain.get_submodule(name).weight.data = model.get_submodule(name).dequantized()
    ids = torch.arange(20)[None] % 96
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=1e-4, atol=1e-4)
    out = model.generate(ids, max_new_tokens=4, do_sample=False)
    assert out.shape == (1, 24)


def test_gradients_reach_the_inputs() -> None:
    torch.manual_seed(3)
    layer = NVFP4Linear(reset.nvfp4.quantize(torch.randn(24, 32)), torch.randn(24))
    x = torch.randn(5, 32, requires_grad=True)
    g = torch.randn(5, 24)
    layer(x).backward(g)
    torch.testing.assert_close(x.grad, g @ layer.dequantized())


def test_modules_are_copied_pickled_saved_and_moved() -> None:
    torch.manual_seed(4)
    layer = NVFP4Linear(reset.nvfp4.quantize(torch.randn(24, 32)), torch.randn(24))
    other = NVFP4Linear(reset.nvfp4.quantize(torch.randn(24, 32) * 3), torch.randn(24))
    x = torch.randn(2, 32)
    expected = layer(x)
    assert not torch.equal(other(x), expected)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), expected)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert half.codes.dtype == torch.uint8
    assert half.weight == layer.weight
    assert "in_features=32, out_features=24, bias=True" in repr(layer)


def test_layers_that_stay_are_named_with_their_reason() -> None:
    model = torch.nn.ModuleDict(
        {
            "embed": torch.nn.Embedding(10, 32), "odd": torch.nn.Linear(20, 8), "head": torch.nn.Linear(32, 10, bias=False),
            "gate": torch.nn.Linear(32, 4), "mlp": torch.nn.Linear(32, 16),
        }
    )  # fmt: skip
    model["head"].weight = model["embed"].weight
    done = quantize_linears(model, ignore=["gate"])
    assert done.replaced == ["mlp"]
    assert done.kept == {"odd": "20 inputs are no multiple of 16", "head": "tied to an embedding", "gate": "ignored"}
    with pytest.raises(ValueError, match="no linear layer is called gat"):
        quantize_linears(model, ignore=["gat"])


def test_a_weight_that_cannot_be_quantized_leaves_the_model_as_it_was() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(16, 4), torch.nn.Linear(16, 4))
    model[1].weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        quantize_linears(model)
    assert all(type(module) is torch.nn.Linear for module in model)


def test_wrong_options() -> None:
    t = reset.nvfp4.quantize(torch.randn(4, 16))
    with pytest.raises(ValueError, match='choose "float" or "nvfp4"'):
        NVFP4Linear(t, activations="fp8")
    with pytest.raises(ValueError, match="input_scale is the scale of quantized activations"):
        NVFP4Linear(t, input_scale=0.1)
    packed = reset._core.PackedLinear(t.codes.reshape(-1), t.block_scales.reshape(-1), (1.0, False), 16)
    with pytest.raises(ValueError, match="has 32 columns, and the weights 16"):
        packed.multiply(np.zeros((1, 32), np.float32), None, reset._core.Threads(1))


def test_weights_are_packed_on_a_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's device without memory stands in for a card: what counts is what is asked of the kernels."""
    placed: list[str] = []
    asked: list[tuple[Any, ...]] = []

    class Placed:
        def __init__(self, t: Any, device: str) -> None:
            assert t.shape == (33, 48)
            placed.append(device)

    def linear(x: Any, t: Any, **options: Any) -> Any:
        assert isinstance(t, Placed)
        asked.append((tuple(x.shape), *options.values()))
        return torch.empty(x.shape[0], 33, device=x.device)

    monkeypatch.setattr(reset.nvfp4, "CudaLinear", Placed)
    monkeypatch.setattr(reset.nvfp4, "linear", linear)
    layer = NVFP4Linear(reset.nvfp4.quantize(torch.randn(33, 48)), None, activations="nvfp4", input_scale=0.5)
    x = torch.empty(2, 3, 48, device="meta", dtype=torch.bfloat16)
    for _ in range(3):
        y = layer(x)
        assert (y.shape, y.dtype, y.device.type) == ((2, 3, 33), torch.bfloat16, "meta")
    assert placed == ["meta"]
    assert asked == [((6, 48), "nvfp4", 0.5, "meta")] * 3
    layer.load_state_dict(layer.state_dict())
    layer(x)
    assert placed == ["meta", "meta"], "other weights are packed again"
