"""Makes the golden files of this folder; see README.md for what each holds.

python make.py libraries           runs the real libraries on random tensors of many kinds
python make.py cases VECTORS       copies what the tests need from a folder of published vectors
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def kinds(rng: np.random.Generator):
    """Random tensors that are hard to quantize alike."""
    n = (4, 64)
    yield "normal", rng.standard_normal(n)
    yield "weights", rng.standard_normal(n) * 0.02
    yield "small_weights", rng.standard_normal(n) * 0.001
    yield "heavy", rng.standard_t(2, n)
    yield "rows", rng.standard_normal(n) * 10.0 ** -rng.integers(0, 9, (4, 1))
    yield "wild", rng.standard_normal(n) * 10.0 ** rng.integers(-30, 30, n)
    yield "below_f16", rng.standard_normal(n) * 1e-7
    yield "f16_edge", np.clip(rng.standard_normal(n) * 3e4, -65504, 65504)
    yield "f32_edge", rng.standard_normal(n) * 8e37
    yield "f32_small", rng.standard_normal(n) * 1e-38
    yield "f32_subnormal", rng.standard_normal(n) * 1e-40
    yield "integers", rng.integers(-7, 8, n).astype(float)
    yield "halves", rng.integers(-12, 13, n) / 2
    yield "grid_rows", rng.integers(-24, 25, n) / 4 * 2.0 ** rng.integers(-6, 3, (4, 1))
    midpoints = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6]
    ties = rng.choice(midpoints, n) * rng.choice([448, 256, 240, 7, 1, 0.5, 0.0625], n) * rng.choice([-1, 1], n)
    yield "ties", np.concatenate([ties, np.full((1, 64), 2688.0)])
    sparse = np.where(rng.random(n) < 0.9, 0, rng.standard_normal(n))
    yield "sparse", np.where(rng.random(n) < 0.2, -0.0, sparse)
    single = np.zeros(n)
    single[0, 0] = 3e-5
    yield "single", single
    tiny = np.zeros(n)
    tiny[0, :2], tiny[1] = (1.0, -1e-45), -1e-30
    yield "tiny_negative", tiny


def modelopt(x: torch.Tensor, scale: torch.Tensor | None) -> dict[str, torch.Tensor]:
    from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor

    q, block_scales, found = NVFP4QTensor.quantize(x.clone(), 16, weights_scaling_factor_2=scale)
    return {"codes": q._quantized_data, "block_scales": block_scales.view(torch.uint8), "scale": found.reshape(1)}


def compressed_tensors(x: torch.Tensor, divisor: torch.Tensor | None) -> dict[str, torch.Tensor]:
    from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
    from compressed_tensors.quantization import QuantizationScheme
    from compressed_tensors.quantization.quant_scheme import NVFP4A16
    from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam

    if divisor is None:
        divisor = generate_gparam(x.amin().reshape(1), x.amax().reshape(1))
    blocks = x.unflatten(-1, (-1, 16))
    scales, _ = calculate_qparams(blocks.amin(-1), blocks.amax(-1), NVFP4A16["weights"], global_scale=divisor)
    scheme = QuantizationScheme(targets=["Linear"], weights=NVFP4A16["weights"])
    state = {"weight": x, "weight_scale": scales, "weight_global_scale": divisor}
    state = NVFP4PackedCompressor.compress(state, scheme)
    return {"codes": state["weight_packed"], "block_scales": state["weight_scale"].view(torch.uint8), "scale": divisor}


def libraries() -> None:
    out: dict[str, torch.Tensor] = {}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for kind, values in kinds(rng):
            for dtype, torch_dtype in DTYPES.items():
                x = torch.from_numpy(np.asarray(values, np.float32)).to(torch_dtype)
                x = torch.where(torch.isfinite(x), x, 0)
                given = torch.tensor([float(np.exp(rng.uniform(-12, 6)))])
                if not x.any():
                    continue
                name = f"{kind}.{seed}.{dtype}"
                out[f"{name}.input"] = x
                for library, run in (("modelopt", modelopt), ("ct", compressed_tensors)):
                    for how, scale in (("auto", None), ("given", given)):
                        out |= {f"{name}.{library}.{how}.{k}": v.clone() for k, v in run(x, scale).items()}
    save_file(out, HERE / "libraries.safetensors")


def cases(vectors: Path) -> None:
    wanted = ("input", "modelopt.", "ct.")
    out: dict[str, torch.Tensor] = {}
    for path in sorted(vectors.glob("*.safetensors")):
        tensors = load_file(path)
        if "input" in tensors and "modelopt.packed" in tensors:
            out |= {f"{path.stem}/{k}": v for k, v in tensors.items() if k.startswith(wanted)}
    out |= {f"fouroversix/{k}": v for k, v in load_file(vectors / "fouroversix.safetensors").items() if ".mse." in k}
    save_file(out, HERE / "cases.safetensors")
    save_file(load_file(vectors / "tables.safetensors"), HERE / "tables.safetensors")


if __name__ == "__main__":
    if sys.argv[1:] == ["libraries"]:
        libraries()
    elif len(sys.argv) == 3 and sys.argv[1] == "cases":
        cases(Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
