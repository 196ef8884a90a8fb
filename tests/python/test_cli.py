"""The command: every subcommand's --help, --json, results and errors, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from random_checkpoint import PROMPT

import reset

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("demo", "generate", "quantize", "inspect", "calibrate", "tune", "eval", "compare", "power", "study", "bench", "doctor")


def run(*arguments: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "reset", *arguments], capture_output=True, text=True, check=False, input=stdin)
    assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


def test_help_lists_every_command() -> None:
    text = run("--help").stdout
    for command in COMMANDS:
        assert command in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    assert "Usage" in run(command, "--help").stdout


def test_version() -> None:
    assert reset.__version__ in run("--version").stdout


def test_inspect_names_layers(demo_nvfp4: Path) -> None:
    info = json.loads(run("inspect", str(demo_nvfp4), "--json").stdout)
    assert info["layers"]["nvfp4"] == 28
    assert "Qwen3ForCausalLM" in run("inspect", str(demo_nvfp4)).stdout


@pytest.mark.parametrize("format", ["modelopt", "compressed-tensors"])
def test_quantize_then_generate(demo_bf16: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    result = json.loads(run("quantize", str(demo_bf16), str(out), "--format", format, "--json").stdout)
    assert result["quantized"] == 28
    options = ("--t-low", "0.3", "--tau-0", "1.0", "--seed", "3", "--max-new-tokens", "16")
    made = json.loads(run("generate", str(out), PROMPT, *options, "--json").stdout)[0]
    streamed = run("generate", str(out), PROMPT, *options)
    assert streamed.stdout == made["text"] + "\n"
    assert f"{len(made['token_ids'])} tokens" in streamed.stderr
    g = reset.generate(str(out), PROMPT, policy=reset.ReSET(t_low=0.3, tau_0=1.0), seed=3, max_new_tokens=16)
    assert isinstance(g, reset.Generation)
    assert g.token_ids == made["token_ids"]


def test_generate_saves_trace_and_plot(demo_nvfp4: Path, tmp_path: Path) -> None:
    trace, plot = tmp_path / "t.npz", tmp_path / "t.png"
    run("generate", str(demo_nvfp4), "-", "--trace", str(trace), "--plot", str(plot), "--max-new-tokens", "8", stdin=PROMPT)
    assert len(reset.Trace.load(trace)) == 8
    assert plot.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "does-not-exist/at-all", "x"), "does-not-exist"),
        (("inspect", "/nonexistent"), "/nonexistent"),
        (("generate", "{model}", "x", "--t-low", "0.3"), "--tau-0"),
        (("generate", "{model}", "x", "--t-low", "0.3", "--tau-0", "1", "--temperature", "1"), "exclude"),
        (("generate", "{model}", "x", "--preset", "nobody/knows"), "Qwen/Qwen3-8B"),
        (("quantize", "{model}", "{model}-2"), "quantized already"),
        (("quantize", "{bf16}", "{model}"), "not empty"),
    ],
)
def test_errors_are_one_line_and_exit_code_one(demo_bf16: Path, demo_nvfp4: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run(*(a.format(model=demo_nvfp4, bf16=demo_bf16) for a in arguments), code=1)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_doctor_reports_the_table_and_bandwidth() -> None:
    report = json.loads(run("doctor", "--json").stdout)
    assert report["reset-nvfp4"] == reset.__version__
    assert report["cpu"]["table"] in [name for name, _ in report["cpu"]["tables"]]
    assert report["memory_bandwidth"]["read_gb_per_s"] > 0
    assert any(d["device"] == "cpu" for d in report["devices"])
    assert "chosen" in run("doctor").stdout


@pytest.mark.parametrize("policy", ["reset", "none"])
def test_bench_decode_prints_bytes_and_share(policy: str) -> None:
    result = json.loads(run("bench", "decode", "--shape", "tiny", "--tokens", "4", "--policy", policy, "--json").stdout)
    assert result["policy"] == policy
    for row in result["rows"]:
        assert row["tokens_per_second"] > 0
        assert row["share_of_bandwidth"] > 0


def test_the_package_installs_one_command_and_leaves_reset_alone() -> None:
    """`reset` is the terminal's: ncurses installs it."""
    from importlib.metadata import distribution

    scripts = [entry.name for entry in distribution("reset-nvfp4").entry_points if entry.group == "console_scripts"]
    assert scripts == ["reset-nvfp4"]


def test_ctrl_c_prints_what_was_generated(demo_nvfp4: Path) -> None:
    import signal
    import time

    arguments = ("generate", str(demo_nvfp4), PROMPT, "--temperature", "1", "--max-new-tokens", "900", "--n", "4096", "--json")
    process = subprocess.Popen([sys.executable, "-m", "reset", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(5)  # imports and loading take one; the samples would take minutes
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("this machine was done before the interrupt")
    assert process.returncode == 130, err
    assert "interrupted" in err
    if out:  # the signal may come before the model is loaded
        assert len(json.loads(out)) == 4096


@pytest.mark.parametrize(
    "options", [("--trace", "t.txt"), ("--plot", "p.xyz"), ("--trace", "nowhere/t.npz"), ("--t-high", "2"), ("--window", "8")], ids=str
)
def test_options_of_generate_are_checked_before_the_work(demo_nvfp4: Path, options: tuple[str, str]) -> None:
    done = run("generate", str(demo_nvfp4), PROMPT, *options, code=1)
    assert options[0] in done.stderr
    assert done.stdout == ""


def test_a_wrong_command_line_exits_with_two() -> None:
    assert "--nonsense" in run("generate", "--nonsense", code=2).stderr
