"""Installs a wheel into clean virtual environments, away from the sources, and uses it as a first-time user would.

    python tools/wheel_smoke.py dist/reset_nvfp4-*.whl                     with the oldest and the newest Python at hand
    python tools/wheel_smoke.py WHEEL --python python3.10 --python /opt/python3.14/bin/python3

In each environment: the command exists and `reset` (which belongs to ncurses) does not, `--version` names the wheel's version, `doctor`
finds a table of inner loops, `demo` solves problems with the model inside the wheel, and that model generates from Python without warnings.
One wheel serves all Pythons, so the tokens of a seed have to be the same in all. The exit status is 1 if anything fails.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OLDEST, NEWEST_TRIED = 10, 20
GENERATE = """\
import json, reset
model = reset.load("tiny", weights="nvfp4", activations="nvfp4")
question = "Ben has 47 apples. Mia has 38 apples more than Ben. How many apples does Mia have?"
g = reset.generate(model, question, policy=reset.ReSET(t_low=0.3, tau_0=0.5), seed=1, max_new_tokens=64)
found = {"version": reset.__version__, "file": reset.__file__, "tokens": g.token_ids}
print(json.dumps({**found, "temperatures": sorted(set(g.trace.temperature.tolist()))}))
"""


class Failure(Exception):
    """Something a user would stumble over."""


class Environment:
    """A virtual environment with what was installed into it, and an empty folder to work in."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.elsewhere = folder / "venv", folder / "elsewhere"
        self.elsewhere.mkdir()
        subprocess.run([python, "-m", "venv", str(self.folder)], check=True)
        self.scripts = self.folder / ("Scripts" if sys.platform == "win32" else "bin")

    def pip(self, *arguments: str) -> None:
        """Runs pip. Raises Failure with what it said."""
        self.python("-m", "pip", "--disable-pip-version-check", *arguments)

    def python(self, *arguments: str) -> str:
        """What Python prints for arguments."""
        return self.command("python", "-X", "utf8", *arguments)

    def command(self, name: str, *arguments: str) -> str:
        """What a command of the environment prints. Raises Failure with all it said if its status is not 0."""
        if (path := shutil.which(name, path=str(self.scripts))) is None:
            raise Failure(f"there is no command {name} in {self.scripts}")
        done = subprocess.run([path, *arguments], cwd=self.elsewhere, capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode:
            raise Failure(f"{name} {' '.join(arguments)[:200]}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout


def use(environment: Environment, version: str) -> list[int]:
    """Uses the installed wheel; the tokens it generated. Raises Failure."""
    if environment.command("reset-nvfp4", "--version").strip() != f"reset-nvfp4 {version}":
        raise Failure(f"reset-nvfp4 --version does not name {version}")
    if shutil.which("reset", path=str(environment.scripts)):
        raise Failure("the wheel installs a command `reset`, which belongs to ncurses")
    doctor = json.loads(environment.python("-m", "reset", "doctor", "--json"))
    if doctor["reset-nvfp4"] != version or doctor["cpu"]["table"] not in {name for name, _ in doctor["cpu"]["tables"]}:
        raise Failure(f"doctor says {doctor['reset-nvfp4']}, table {doctor['cpu']['table']}")
    demo = json.loads(environment.command("reset-nvfp4", "demo", "--json", "--problems", "4", "--no-plot"))
    if {name: arm["samples"] for name, arm in demo["arms"].items()} != {"bf16": 4, "nvfp4": 4, "reset": 4}:
        raise Failure(f"demo: arms {demo['arms']}")
    generated = json.loads(environment.python("-W", "error", "-c", GENERATE))
    if environment.folder not in Path(generated["file"]).parents:
        raise Failure(f"import reset found {generated['file']}, not the wheel's")
    if generated["version"] != version or not generated["tokens"] or generated["temperatures"] != [0.3, 1.0]:
        raise Failure(f"the model inside generated {generated}")
    tokens: list[int] = generated["tokens"]
    return tokens


def pythons() -> list[str]:
    """The oldest and the newest Python that are supported and at hand: on the path, or among pyenv's."""
    found: dict[int, str] = {}
    for minor in range(OLDEST, NEWEST_TRIED):
        installed = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3"))
        for candidate in (shutil.which(f"python3.{minor}"), *map(str, installed)):
            if candidate and _minor(candidate) == minor:
                found[minor] = candidate
    if not found:
        found[sys.version_info.minor] = sys.executable
    return [found[minor] for minor in sorted({min(found), max(found)})]


def _minor(python: str) -> int | None:
    """Of a Python 3, its second number; None for what does not run: pyenv leaves commands that only print an error."""
    done = subprocess.run([python, "-c", "import sys; print(sys.version_info.minor)"], capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else None


def main() -> int:
    """Prints a line for each Python."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", action="append", default=[], help="an interpreter; repeat for several")
    options = parser.parse_args()
    wheel = options.wheel.resolve(strict=True)
    version = wheel.name.split("-")[1]
    drawn: dict[str, list[int]] = {}
    failed = False
    for python in options.python or pythons():
        with tempfile.TemporaryDirectory(prefix="wheel-smoke-") as folder:
            started = time.perf_counter()
            environment = Environment(Path(folder).resolve(), python)
            label = environment.python("--version").strip()
            try:
                environment.pip("install", "--quiet", str(wheel))
                environment.pip("check")
                drawn[label] = use(environment, version)
                print(f"{label}: fine, {time.perf_counter() - started:.0f} s", flush=True)
            except Failure as failure:
                failed = True
                print(f"{label}: FAILED: {failure}", flush=True)
    if len({tuple(tokens) for tokens in drawn.values()}) > 1:
        failed = True
        print(f"FAILED: one seed, different tokens: {drawn}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
