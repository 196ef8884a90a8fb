# %% [markdown]
# # Calibrate, evaluate, compare
#
# From a model to a sentence that a reviewer accepts: calibrate the policy's threshold, sample both arms on the same problems, compare them
# problem by problem. The model is the small one inside the package, in NVFP4; give `reset.load` a real one, and take `task = "gsm8k"`.

# %%
import tempfile
from pathlib import Path

from matplotlib import pyplot as plt

import reset
from reset import plots

model = reset.load("tiny", weights="nvfp4", activations="nvfp4")
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Calibrate
#
# `tau_0` is a percentile of the entropies of the *quantized* model, measured on problems that are neither tested nor tuned on. The interval
# says how far a few problems carry.

# %%
calibration = reset.calibrate(model, task="arithmetic", problems=5, progress=False)
calibration

# %% [markdown]
# ## A task
#
# Generated word problems of one to six operations. Any class with problems is a task, and rows are enough for a small one:
# `reset.Task("mine", [{"question": …, "answer": …}])`.

# %%
task = reset.tasks.get_task("arithmetic")
problem = task.problems("tune", limit=3)[2]
print(problem.question, "→", problem.answer)

# %% [markdown]
# ## Evaluate
#
# Both arms share the seed: their draws are coupled, which sharpens the comparison. Every sample is a line of `samples.jsonl`; run the cell
# again and nothing is computed twice. Sixteen problems decide nothing; they are quickly done.

# %%
options = {"split": "tune", "limit": 16, "n_samples": 2, "seed": 0, "traces": True, "progress": False}
arms = {"fixed T = 1": reset.FixedTemperature(1.0), "ReSET": calibration.policy(t_low=0.3)}
results = {
    name: reset.evaluate(model, task, policy=policy, output_dir=folder / f"arm-{number}", **options)
    for number, (name, policy) in enumerate(arms.items())
}
results["ReSET"]

# %%
figure, ax = plt.subplots(figsize=(8, 2.5), layout="constrained")
plots.plot_accuracy(results, ax=ax)
plt.show()

# %% [markdown]
# ## Compare
#
# The intervals above may overlap although the arms differ: both arms met the same problems, and the *paired* difference has less noise. The
# verdict is "better" or "worse" only where interval and test agree; the smallest detectable difference says what a study of this size could
# have seen at all.

# %%
comparison = reset.compare(results["fixed T = 1"], results["ReSET"], names=("fixed T = 1", "ReSET"))
comparison

# %%
figure, ax = plt.subplots(figsize=(8, 2), layout="constrained")
plots.plot_differences({"ReSET − fixed T = 1": comparison}, ax=ax)
plt.show()

# %% [markdown]
# How many problems would show a difference of three points?

# %%
reset.power(0.6, 0.03)

# %% [markdown]
# ## Look at a problem that only one arm solves
#
# Numbers say whether; texts say why. Every sample is kept, with its trace. Here are the two samples with the same draws of which one is
# right, the first such pair.

# %%
pairs = list(zip(*(result.samples for result in results.values()), strict=True))
assert all(a.key == b.key for a, b in pairs)
pair = next((pair for pair in pairs if pair[0].correct != pair[1].correct), pairs[0])
for name, sample in zip(results, pair, strict=True):
    print(f"{name}, {sample.outcome}: answer {sample.answer}, reference {sample.reference}")
    print("  …" + " ".join(sample.text.split())[-160:])

# %% [markdown]
# ## Where the entropies lie
#
# Half the mass of a reasoning model lies near zero, where this axis is logarithmic.

# %%
traces = {name: [result.trace(id) for id in result.problem_ids] for name, result in results.items()}
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
plots.plot_entropy(traces, ax=ax, tau_0=calibration.tau_0)
plt.show()

# %% [markdown]
# ## Back from disk
#
# A result is its folder: nothing has to be kept in memory.

# %%
again = reset.EvalResult.load(folder / "arm-1")
assert again.accuracy == results["ReSET"].accuracy
