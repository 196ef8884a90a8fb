"""Installs every extra alone into a clean environment and uses what it is for, on the model inside the wheel.

    python tools/check_extras.py dist/reset_nvfp4-*.whl                     all extras; torch and vLLM bring gigabytes
    python tools/check_extras.py WHEEL eval plot --python python3.12        these

First an environment without any extra: there each feature has to fail with the line that installs its extra, or its proof would
prove nothing. Then one environment for each extra, in which the same lines have to run. No proof needs a network of its own: what comes
from the Hugging Face hub is put into the place of its cache. The exit status is 1 if anything fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from wheel_smoke import Environment, Failure

#: Extra → a program that needs it, and prints what it saw.
PROOFS = {
    "cuda": """\
from reset import _core
from reset._cuda import nvrtc_candidates
import reset
compiler = _core.cuda(nvrtc_candidates())["compiler"]
if compiler is None:
    try:
        reset.load("tiny", device="cuda")
    except reset.DeviceError as error:
        raise SystemExit(f"no NVRTC, and {error}; pip install 'reset-nvfp4[cuda]'")
import site
assert any(str(compiler[1]).startswith(place) for place in site.getsitepackages()), compiler
print(f"NVRTC {compiler[0][0]}.{compiler[0][1]} of this environment")
""",
    "eval": r"""
import reset
answer = r"Hence \boxed{\frac{2}{\sqrt{2}}}."
right, wrong = (reset.score("math500", answer, reference) for reference in (r"\sqrt{2}", r"\sqrt{3}"))
assert right.correct and right.method == "math-verify" and not wrong.correct, (right, wrong)
print("2/√2 = √2 ≠ √3, by", right.method)
""",
    "plot": """\
import pathlib, reset
g = reset.generate("tiny", "Tom has 5 pens and buys 7. How many pens?", policy=reset.ReSET(0.3, 0.5), seed=0, max_new_tokens=48)
g.trace.plot().figure.savefig("trace.png")
size = pathlib.Path("trace.png").stat().st_size
assert size > 5000, size
print(f"a figure of {size // 1000} kB")
""",
    "pandas": """\
import reset
g = reset.generate("tiny", "Tom has 5 pens and buys 7. How many pens?", seed=0, max_new_tokens=32)
frame = g.trace.to_pandas()
assert frame.token_id.tolist() == g.token_ids
print(f"a trace as a frame of {frame.shape[0]} × {frame.shape[1]}")
""",
    "hub": """\
import pathlib, shutil, reset
from reset.models import shipped_folder
hub = pathlib.Path("hub").resolve()
model = hub / "models--someone--tiny"
commit = "0" * 40
(model / "refs").mkdir(parents=True)
(model / "refs" / "main").write_text(commit)
shutil.copytree(shipped_folder("tiny"), model / "snapshots" / commit)
from huggingface_hub import constants
constants.HF_HUB_CACHE = str(hub)
m = reset.load("someone/tiny", local_files_only=True)
assert (m.logits([1, 2, 3]) == reset.load("tiny").logits([1, 2, 3])).all()
print("a model by its hub id, from the hub's cache")
""",
    "datasets": """\
import pathlib, reset
rows = [{"question": f"Tom has {n} pens and buys 7. How many pens?", "answer": f"{n} + 7 = {n + 7}\\n#### {n + 7}"} for n in range(4)]
folder = pathlib.Path("hub").resolve() / "datasets--openai--gsm8k"
(folder / "refs").mkdir(parents=True)
(folder / "refs" / "main").write_text("0" * 40)
file = folder / "snapshots" / ("0" * 40) / "main" / "test-00000-of-00001.parquet"
file.parent.mkdir(parents=True)
from huggingface_hub import constants
constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE = str(folder.parent), True
try:
    import pyarrow, pyarrow.parquet
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
except ModuleNotFoundError:
    file.write_bytes(b"PAR1")  # not read: what would read it is asked for first
r = reset.evaluate("tiny", "gsm8k", policy=reset.Greedy(), max_new_tokens=48, progress=False)
assert sum(r.counts.values()) == 4, r.counts
print("GSM8K rows out of Parquet, from the hub's cache:", dict(r.counts))
""",
    "transformers": """\
import reset
from reset.integrations.transformers import ReSETLogitsProcessor, quantize_linears
from reset.models import shipped_folder
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = shipped_folder("tiny")
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
ids = tokenizer.apply_chat_template([{"role": "user", "content": "Tom has 5 pens and buys 7. How many pens?"}],
                                    add_generation_prompt=True, return_dict=False)
policy = reset.ReSET(0.3, 0.5)
def theirs():
    processor = ReSETLogitsProcessor(policy, tokenizer=tokenizer, seed=1)
    out = model.generate(torch.tensor([ids]), logits_processor=[processor], do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                         max_new_tokens=48)
    return out[0, len(ids):].tolist()
ours = reset.generate(reset.load("tiny", kv="f32"), list(ids), policy=policy, seed=1, max_new_tokens=48)
assert theirs() == ours.token_ids
done = quantize_linears(model)
assert len(theirs()) > 0
print(f"{len(ours.token_ids)} sampled tokens equal to reset.generate's, {len(done.replaced)} linear layers in NVFP4;",
      f"torch {torch.__version__}")
""",
    "vllm": """\
from reset.integrations.vllm import ReSETLogitsProcessor
import vllm
from vllm import SamplingParams
ReSETLogitsProcessor.validate_params(SamplingParams(temperature=1.0, extra_args={"reset": True, "t_low": 0.3, "tau_0": 0.5}))
print(f"the processor is a class of vLLM {vllm.__version__} and takes its parameters; no engine was run")
""",
    "lm-eval": """\
import json, pathlib
from reset.integrations.lm_eval import ResetLM, evaluate
rows = [{"question": f"Tom has {n} pens and buys 7. How many pens?", "answer": f"{n} + 7 = {n + 7}\\n#### {n + 7}"} for n in range(4)]
pathlib.Path("data").mkdir()
for part in ("train", "test"):
    pathlib.Path(f"data/gsm8k_{part}.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
lm = ResetLM("tiny", t_low=0.3, tau_0=0.5, seed=1)
found = evaluate(lm, "gsm8k", data="data", limit=2, num_fewshot=1, gen_kwargs={"max_gen_toks": 32})
scores = {name: float(value) for name, value in found["results"]["gsm8k_local"].items() if name.startswith("exact_match,")}
assert len(scores) == 2, found["results"]
print("the harness ran GSM8K rows:", scores)
""",
}
PROOFS["plots"] = PROOFS["plot"]

#: Extras that only ask for a new enough version of what is there anyway.
THERE_ANYWAY = {"hub": "tokenizers brings huggingface_hub"}


def without(environment: Environment, extra: str) -> None:
    """Raises Failure unless the proof of an extra fails, naming what to install; or runs, where all it needs is there anyway."""
    if extra in THERE_ANYWAY:
        environment.python("-c", PROOFS[extra])
        return
    try:
        environment.python("-c", PROOFS[extra])
    except Failure as failure:
        named = extra if extra != "plots" else "plot"
        if f"pip install 'reset-nvfp4[{named}]'" not in str(failure):
            raise Failure(f"without {extra} the error does not say what to install: {failure}") from None
    else:
        raise Failure(f"the proof of {extra} runs without it")


def prepared(folder: Path, python: str, requirement: str) -> Environment:
    """A new environment with the wheel and what an extra brings. Raises Failure."""
    folder.mkdir()
    environment = Environment(folder, python)
    environment.pip("install", "--quiet", "--no-compile", requirement)  # most of what comes along is not imported
    environment.pip("check")
    return environment


def main() -> int:
    """Prints a line for each extra."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help=f"of {', '.join(PROOFS)}; all where left out")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    extras = options.extras or list(PROOFS)
    if unknown := set(extras) - set(PROOFS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PROOFS)}")
    wheel = options.wheel.resolve(strict=True)
    failed = False
    with tempfile.TemporaryDirectory(prefix="extras-") as folder:
        bare = prepared(Path(folder).resolve() / "none", options.python, str(wheel))
        for extra in extras:
            started = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix="extra-") as own:
                try:
                    without(bare, extra)
                    environment = prepared(Path(own).resolve() / "own", options.python, f"{wheel}[{extra}]")
                    said = environment.python("-c", PROOFS[extra]).strip().splitlines()[-1]
                    print(f"{extra}: {said} ({time.perf_counter() - started:.0f} s)", flush=True)
                except Failure as failure:
                    failed = True
                    print(f"{extra}: FAILED: {failure}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
