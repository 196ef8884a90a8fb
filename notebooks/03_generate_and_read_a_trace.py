# %% [markdown]
# # Generate, and read the trace
#
# The small reasoning model inside the package, quantized to NVFP4 while it is loaded, solves a word problem; the ReSET policy sets the
# temperature of every token. Give `reset.load` a folder or a hub id for a model of your own.

# %%
import numpy as np
from matplotlib import pyplot as plt

import reset

model = reset.load("tiny", weights="nvfp4", activations="nvfp4")
model

# %% [markdown]
# ## One generation
#
# The policy sees the entropy of every token (nats, of the raw distribution) and sets the temperature of its draw: low where the model is
# sure, high where it is not. In a notebook the result shows it: the denser the colour, the more uncertain the token; underlined tokens were
# drawn at the high temperature; each block is a reasoning step. Hover a token for its numbers, or open a step for the table.

# %%
question = "Omar owns 85 marbles. Ida has 15 marbles more than Omar. Jan has 37 fewer marbles than Ida. How many marbles does Jan have?"
policy = reset.ReSET(t_low=0.3, tau_0=0.5)
g = reset.generate(model, question, policy=policy, seed=1)
g

# %% [markdown]
# `g.save_html("answer.html")` writes the same view as one file.
#
# ## The trace
#
# One row per token, as arrays; `g.trace.to_pandas()` gives a data frame. Where was the model unsure? Mostly where a sentence begins, which
# can be said in many ways.

# %%
table = g.trace.to_pandas()
table.nlargest(10, "entropy")[["token", "entropy", "threshold", "temperature", "step_index"]]

# %% [markdown]
# The same over time: bars are the tokens' entropies; the lines are the estimate for the current reasoning step, the mean so far, the
# threshold, and the temperature that followed.

# %%
figure, ax = plt.subplots(figsize=(11, 4), layout="constrained")
g.trace.plot(ax=ax)
plt.show()

# %% [markdown]
# ## What the policy did
#
# The rule is short: the temperature is high where the token's entropy reaches the threshold. The threshold is `tau_0`; in an
# uncertain step, one whose entropy is above the mean so far, it is the entropy of the step itself.

# %%
trace = g.trace
threshold = np.where(trace.uncertain, trace.step_entropy, policy.tau_0)
assert np.allclose(threshold, trace.threshold)
low = trace.temperature == policy.t_low
assert np.array_equal(low, trace.entropy < trace.threshold)
print(f"{low.mean():.0%} of the tokens were drawn at T = {policy.t_low}")
print(f"mean entropy: {trace.entropy[low].mean():.2f} nats where low, {trace.entropy[~low].mean():.2f} where high")

# %% [markdown]
# ## The same draws at another temperature
#
# Draws depend on the seed, the prompt and the position, so two policies share their noise: the texts are equal up to the first token where
# the temperatures differ enough.

# %%
fixed = reset.generate(model, question, policy=reset.FixedTemperature(1.0), seed=1)
same = next(
    (i for i, (a, b) in enumerate(zip(g.token_ids, fixed.token_ids, strict=False)) if a != b), min(len(g.token_ids), len(fixed.token_ids))
)
print(f"the first {same} tokens are equal; then one writes {g.trace.tokens[same : same + 5]}")
print(f"and the other {fixed.trace.tokens[same : same + 5]}")

# %% [markdown]
# ## What would another model have thought of it?
#
# `score_trace` reads given tokens instead of drawing them: here the unquantized model reads what the quantized one wrote.

# %%
reference = reset.score_trace(reset.load("tiny"), g.prompt_token_ids + g.token_ids)
reading = reference[-len(g.token_ids) :]
difference = trace.entropy - reading.entropy
print(f"entropy, quantized minus BF16: mean {difference.mean():+.3f} nats, largest {difference[np.abs(difference).argmax()]:+.2f}")

# %% [markdown]
# ## Streaming
#
# The same steps, one at a time; the text is the same.

# %%
streamed = "".join(step.text for step in reset.stream(model, question, policy=policy, seed=1))
assert streamed == g.text
