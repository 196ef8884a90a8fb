# %% [markdown]
# # Quantize a checkpoint, and see the error of every layer
#
# The small reasoning model inside the package is a BF16 checkpoint like any other: give a folder or a hub id instead of `"tiny"`.

# %%
import json
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import reset

SOURCE = "tiny"
model = reset.load(SOURCE)
model

# %% [markdown]
# ## Two dialects
#
# NVIDIA ModelOpt and compressed-tensors store the same numbers under different names; engines read one or the other, often both. Inputs of
# the layers are quantized as well (W4A4), so their scales are measured on a few texts while writing.

# %%
out = Path(tempfile.mkdtemp())
done = {dialect: reset.quantize(SOURCE, out / dialect, format=dialect) for dialect in ("modelopt", "compressed-tensors")}
pd.DataFrame(
    {
        name: {"layers in NVFP4": found["quantized"], "bytes before": found["source_bytes"], "bytes now": found["bytes"]}
        for name, found in done.items()
    }
)

# %% [markdown]
# What a checkpoint holds, one line per kind of layer:

# %%
layers = pd.DataFrame(reset.inspect(out / "modelopt")["layers"]["groups"])
layers[["pattern", "count", "rows", "cols", "format", "input_scales"]]

# %% [markdown]
# ## The error of every layer
#
# A safetensors file is a header in JSON and then bytes, so the weights are easily read. The error is that of the weights,
# $\lVert Q(W) - W \rVert / \lVert W \rVert$, for each method, in percent.


# %%
def tensors(folder):
    """Name and float32 array of every BF16 matrix of a checkpoint."""
    for file in sorted(Path(folder).glob("*.safetensors")):
        data = file.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8:start]).items():
            if name != "__metadata__" and entry["dtype"] == "BF16" and len(entry["shape"]) == 2:
                begin, end = entry["data_offsets"]
                yield name, np.frombuffer(data[start + begin : start + end], ml_dtypes.bfloat16).reshape(entry["shape"]).astype(np.float32)


def relative_error(w, method):
    return float(np.linalg.norm(reset.nvfp4.quantize(w, method=method).dequantize() - w) / np.linalg.norm(w))


methods = ("nearest", "four_over_six", "sweep")
rows = [
    {"layer": int(name.split(".")[2]), "part": name.split(".")[-2], **{method: relative_error(w, method) for method in methods}}
    for name, w in tensors(reset.inspect(SOURCE)["folder"])
    if "layers." in name
]
errors = pd.DataFrame(rows).set_index(["layer", "part"]).sort_index()
(100 * errors).round(2)

# %%
figure, ax = plt.subplots(figsize=(9, 3.5), layout="constrained")
place = np.arange(len(errors))
for number, method in enumerate(methods):
    ax.bar(place + (number - 1) * 0.27, 100 * errors[method], width=0.25, label=method)
ax.set_xticks(place, [f"{layer} {part.removesuffix('_proj')}" for layer, part in errors.index], rotation=90)
ax.set(ylabel="relative error (%)", ylim=(0, None))
ax.legend(ncols=3, loc="lower right")
plt.show()

# %% [markdown]
# Weights that are spread like a bell err alike everywhere; a layer that stands out has outliers.
#
# ## The error of the model
#
# Weights err by about a tenth, and what matters is what becomes of the next token. The same text is read by the model in BF16, with
# quantized weights, and with quantized weights and inputs: the Kullback–Leibler divergence of the distributions, the change of entropy that
# a temperature policy sees, and how often the most likely token stays.

# %%
task = reset.tasks.get_task("arithmetic")
prompts = [task.prompt(problem, "boxed") for problem in task.problems("tune", limit=8)]
read = [made.prompt_token_ids + made.token_ids for made in reset.generate(model, prompts, policy=reset.Greedy(), max_new_tokens=200)]


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def distributions(loaded):
    """Log-probabilities after every token of every text: [tokens, vocabulary]."""
    return np.concatenate([log_softmax(loaded.logits(ids)) for ids in read])


exact = distributions(model)
entropy = -(np.exp(exact) * exact).sum(axis=-1)
arms = {"weights": {"activations": "float"}, "weights and inputs": {}}
found = {}
for name, options in arms.items():
    arm = distributions(reset.load(out / "modelopt", **options))
    divergence = (np.exp(exact) * (exact - arm)).sum(axis=-1)
    change = -(np.exp(arm) * arm).sum(axis=-1) - entropy
    found[name] = {
        "divergence, mean (nats)": divergence.mean(),
        "divergence, 99th percentile": np.percentile(divergence, 99),
        "entropy, mean change (nats)": change.mean(),
        "same most likely token": (exact.argmax(-1) == arm.argmax(-1)).mean(),
    }
pd.DataFrame(found).round(4)

# %% [markdown]
# Most tokens hardly notice; the tail is where answers change. What that does to accuracy is measured in
# `04_calibrate_and_evaluate`. The folder written above loads in other engines as well: `docs/checkpoints.md`.
