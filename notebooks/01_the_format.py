# %% [markdown]
# # NVFP4, by hand
#
# NVFP4 stores a number in 4 bits. Sixteen such numbers share an 8-bit scale, and a tensor has one 32-bit scale more:
#
# $$\text{value} = \text{E2M1(code)} \cdot \text{E4M3(block scale)} \cdot \text{tensor scale}$$
#
# No model is needed here, only arrays.

# %%
import ml_dtypes
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import reset

# %% [markdown]
# ## Sixteen codes
#
# A code is a sign and three bits: two of exponent, one of mantissa. Two codes share a byte, the first in the low half. Here is a block that
# holds every code once; its scales are 1 (`0x38` is 1.0 in E4M3).

# %%
codes = np.arange(16, dtype=np.uint8)
every = reset.nvfp4.NVFP4Tensor(codes=codes[0::2] | codes[1::2] << 4, block_scales=np.array([0x38], np.uint8), tensor_scale=1.0)
pd.DataFrame({"code": [f"{code:04b}" for code in codes], "value": every.dequantize()}).set_index("code").T

# %% [markdown]
# ## A block, quantized
#
# The largest magnitude of the block becomes 6, the largest code, and the rest falls between eight magnitudes whose distances double. One
# outlier therefore costs its fifteen neighbours their precision; neighbours in other blocks are safe.

# %%
rng = np.random.default_rng(0)
x = rng.normal(size=32).astype(np.float32)
x[5] = 9.0
t = reset.nvfp4.quantize(x)
t

# %%
scales = t.block_scales.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
table = pd.DataFrame({"x": x, "block": np.arange(32) // 16, "step": (scales * t.tensor_scale).repeat(16), "quantized": t.dequantize()})
table["error"] = table.quantized - table.x
table.groupby("block").agg(
    largest=("x", lambda v: v.abs().max()), step=("step", "first"), rms_error=("error", lambda e: (e**2).mean() ** 0.5)
)

# %% [markdown]
# ## What rounding does
#
# A staircase: fine near zero, coarse near the maximum of the block. The distance to the diagonal is the error.

# %%
ramp = np.linspace(-6, 6, 15 * 161, dtype=np.float32)
blocks = np.concatenate([ramp.reshape(15, 161).T, np.full((161, 1), 6, np.float32)], axis=1)  # a 6 in each block of 16 fixes its scale
stairs = reset.nvfp4.quantize(blocks, tensor_scale=1.0).dequantize()[:, :15].T.ravel()
assert set(np.abs(stairs)) == {0, 0.5, 1, 1.5, 2, 3, 4, 6}

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.plot(ramp, ramp, color="0.7", label="x")
ax.plot(ramp, stairs, drawstyle="steps-mid", label="quantized")
ax.set(xlabel="x, where the largest magnitude of the block is 6", ylabel="value")
ax.legend()
plt.show()

# %% [markdown]
# ## Why two levels of scales
#
# E4M3 reaches from 2⁻⁹ to 448. The tensor scale moves the tensor's own range there, so the magnitude of the whole is free: the codes of a
# tensor and of its thousandth part are the same.

# %%
weights = rng.normal(size=(256, 512)).astype(np.float32)
large, small = reset.nvfp4.quantize(weights), reset.nvfp4.quantize(weights / 1024)
assert np.array_equal(large.codes, small.codes)
assert np.array_equal(large.block_scales, small.block_scales)
large.tensor_scale / small.tensor_scale

# %% [markdown]
# ## Three ways to choose the scales
#
# `nearest` makes the largest magnitude a 6. `four_over_six` lets it be a 4 where that errs less, because the gap between 4 and 6 is wide.
# `sweep` tries every one of the 126 scales. All three give the same format, so any engine reads them. Relative errors in percent:

# %%
heavy = rng.standard_t(df=4, size=weights.shape).astype(np.float32)  # more outliers than a normal distribution has


def relative_error(x, method):
    return np.linalg.norm(reset.nvfp4.quantize(x, method=method).dequantize() - x) / np.linalg.norm(x)


methods = ("nearest", "four_over_six", "sweep")
errors = pd.DataFrame(
    {name: [relative_error(x, method) for method in methods] for name, x in (("normal", weights), ("heavy tails", heavy))},
    index=methods,
)
(100 * errors).round(2)

# %% [markdown]
# ## Bytes
#
# Half a byte for the code, a sixteenth for the scale: 4.5 bits a number, where BF16 takes 16.

# %%
t = reset.nvfp4.quantize(weights)
t.nbytes * 8 / weights.size

# %% [markdown]
# ## A matrix product
#
# `linear` multiplies without writing the weights out. With `activations="nvfp4"` the inputs are quantized too, as hardware with 4-bit units
# does.

# %%
inputs = rng.normal(size=(8, 512)).astype(np.float32)
exact = inputs @ weights.T
for activations in ("float", "nvfp4"):
    y = reset.nvfp4.linear(inputs, t, activations=activations)
    print(f"activations {activations}: relative error {np.linalg.norm(y - exact) / np.linalg.norm(exact):.1%}")

# %% [markdown]
# Which byte means what, and which library rounds how: the document `docs/numerics.md`. The next notebook does this to a whole model.
