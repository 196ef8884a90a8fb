# %% [markdown]
# # Your own policy
#
# A policy turns what is known of the next token into a temperature. The built-in ones run in the core; one of your own is a Python class
# with one method, and works in `generate`, `stream`, `evaluate` and `Controller` alike.

# %%
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import reset

# %% [markdown]
# ## The method
#
# `signal` carries the entropy of the token about to be drawn, the estimate for the current reasoning step, the mean of all tokens so far
# (nats), and where we are. This policy moves smoothly instead of jumping: the temperature grows with the entropy, and starts each
# reasoning step a little colder.


# %%
class Smooth(reset.Policy):
    """From `cold` at no entropy towards `hot`, half-way at `middle` nats; the first tokens of a step are colder."""

    def __init__(self, cold=0.2, hot=1.0, middle=0.7, settle=4):
        self.cold, self.hot, self.middle, self.settle = cold, hot, middle, settle

    def temperature(self, signal):
        share = signal.entropy / (signal.entropy + self.middle)
        settled = min(1.0, (1 + signal.step_position) / self.settle)
        return self.cold + (self.hot - self.cold) * share * settled

    def __repr__(self):
        return f"Smooth(cold={self.cold}, hot={self.hot}, middle={self.middle}, settle={self.settle})"


# %% [markdown]
# ## Without a model
#
# A `Controller` runs any policy over entropies, so a policy can be tested like any function. `boundary=True` begins a reasoning step.

# %%
controller = reset.Controller(Smooth())
entropies = [0.1, 2.0, 2.0, 0.1, 2.0, 2.0, 2.0, 2.0]
decisions = [controller.step(entropy=value, boundary=place == 4) for place, value in enumerate(entropies)]
pd.DataFrame({"entropy": entropies, "temperature": [d.temperature for d in decisions], "step": [d.step_index for d in decisions]}).T.round(
    2
)

# %% [markdown]
# ## With a model
#
# The view underlines in two strengths, since the temperatures now fill a range.

# %%
model = reset.load("tiny", weights="nvfp4", activations="nvfp4")
question = (
    "Ben has 47 apples. Mia has 38 apples more than Ben. Tom has half as many apples as Mia and Ben together. How many does Tom have?"
)
g = reset.generate(model, question, policy=Smooth(), seed=4)
g

# %% [markdown]
# ## Streaming
#
# `stream` yields a step for each token, with everything the policy saw; leaving the loop ends the generation. Here hot tokens come in
# brackets, and two reasoning steps are enough.

# %%
for step in reset.stream(model, question, policy=Smooth(), seed=4):
    if step.step_index == 2:
        break
    print(f"[{step.text}]" if step.temperature > 0.6 else step.text, end="", flush=True)

# %% [markdown]
# ## State
#
# Each sequence gets a copy of the policy of its own, so it may remember. This one counts the reasoning steps that the engine reports: hot
# for the first two, greedy afterwards. (It could read `signal.step_index`; counting shows that state is safe in a batch.)


# %%
class Settling(reset.Policy):
    """Hot for the first `steps` reasoning steps, cold afterwards."""

    def __init__(self, steps=2, cold=0.0, hot=1.0):
        self.steps, self.cold, self.hot = steps, cold, hot
        self.begun = 1

    def temperature(self, signal):
        self.begun += signal.boundary
        return self.hot if self.begun <= self.steps else self.cold

    def reset(self):
        self.begun = 1


rows = []
for made in reset.generate(model, question, policy=Settling(), n=3, seed=0):
    hot = made.trace.temperature > 0
    assert np.array_equal(hot, made.trace.step_index < 2)
    rows.append({"steps": made.trace.step_index.max() + 1, "tokens": len(hot), "hot": hot.sum(), "ends with": made.text[-24:]})
pd.DataFrame(rows)

# %% [markdown]
# ## Against the published policy
#
# Temperature against entropy, token by token: `ReSET` takes one of two temperatures, by a threshold that moves with the step.

# %%
figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, policy in (("Smooth", Smooth()), ("ReSET", reset.ReSET(t_low=0.3, tau_0=0.5))):
    trace = reset.generate(model, question, policy=policy, seed=4).trace
    ax.scatter(np.maximum(trace.entropy, 1e-3), trace.temperature, s=12, alpha=0.6, label=name)
ax.set(xscale="log", xlabel="entropy (nats)", ylabel="temperature")
ax.legend()
plt.show()

# %% [markdown]
# Whether a policy *helps* is a question for many problems and a paired test: `04_calibrate_and_evaluate`, with
# `policy=Smooth()` for one arm.
