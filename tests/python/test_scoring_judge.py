"""The judge and its worker process: deadlines, crashes, garbage, threads, forks, and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reset.errors import ScoringError
from reset.scoring import Judge
from reset.scoring.process import WORKER

pytest.importorskip("math_verify")
posix = pytest.mark.skipif(os.name != "posix", reason="signals and process groups of POSIX")

# Speaks the protocol; misbehaves where the answer says so.
MISCHIEF = """
import json, os, sys, time
def send(data): os.write(1, data)
open(sys.argv[0] + ".starts", "a").write("x")
send(b'{"ready": true}\\n')
for line in sys.stdin.buffer:
    r = json.loads(line)
    a = r["answer"]
    if "hang" in a: time.sleep(60)
    if "once" in a and not os.path.exists(sys.argv[0] + ".died"): open(sys.argv[0] + ".died", "w").close(); os._exit(3)
    if "crash" in a: os._exit(3)
    if "garbage" in a: send(b"Traceback: hello\\n"); continue
    if "bytes" in a: send(b"\\xff\\xfe\\xfa\\n"); continue
    if "list" in a: send(b"[1, 2]\\n"); continue
    if "flood" in a:
        while True: send(b"x" * 65536)
    if "other" in a: send(b'{"id": -1, "equal": true}\\n'); continue
    if "late" in a: time.sleep(0.7)
    if "digest" in a: send(json.dumps({"id": r["id"], "error": "RecursionError"}).encode() + b"\\n"); continue
    send(json.dumps({"id": r["id"], "equal": True}).encode() + b"\\n")
"""


@pytest.fixture
def mischief(tmp_path: Path) -> Judge:
    script = tmp_path / "mischief.py"
    script.write_text(MISCHIEF, encoding="utf-8")
    return with_script(script)


def with_script(script: Path, deadline_seconds: float = 0.5) -> Judge:
    judge = Judge("math", deadline_seconds=deadline_seconds)
    judge._script = script
    return judge


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # gone, or going while it is read
        if Path("/proc/self/stat").exists():
            return False
        return subprocess.run(["ps", "-p", str(pid)], capture_output=True).returncode == 0
    return state != "Z"


def ends(pid: int, seconds: float = 8.0) -> bool:
    limit = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < limit:
        time.sleep(0.02)
    return not alive(pid)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=90)


class TestMisbehaviour:
    @pytest.mark.parametrize("how", ["hang", "crash", "garbage", "bytes", "list", "flood", "other", "digest"])
    def test_it_costs_one_answer_and_not_the_next(self, mischief: Judge, how: str) -> None:
        with mischief:
            start = time.monotonic()
            bad = mischief.score(f"\\boxed{{x^2+{how}}}", "x^2")
            assert (bad.correct, bad.parsed, bad.method) == (False, True, None)
            assert time.monotonic() - start < 10
            good = mischief.score(r"\boxed{x^2+fine}", "x^2")
            assert (good.correct, good.method) == (True, "math-verify")

    def test_a_worker_that_runs_on_is_ended_and_replaced(self, mischief: Judge) -> None:
        with mischief:
            mischief.score(r"\boxed{x^2+fine}", "x^2")
            assert mischief._worker is not None
            first = mischief._worker.pid
            mischief.score(r"\boxed{x^2+hang}", "x^2")
            assert ends(first)
            mischief.score(r"\boxed{x^2+finetoo}", "x^2")
            assert mischief._worker.pid != first

    def test_an_answer_that_ran_past_the_deadline_is_not_tried_again(self, mischief: Judge) -> None:
        with mischief:
            mischief.score(r"\boxed{x^2+hang}", "x^2")
            assert mischief._script.with_name("mischief.py.starts").read_text(encoding="utf-8") == "x"
            start = time.monotonic()
            assert mischief.score(r"\boxed{x^2+hang}", "x^2").method is None
            assert time.monotonic() - start < 0.3

    def test_a_crash_that_was_not_the_answers_fault_is_forgiven(self, mischief: Judge) -> None:
        with mischief:
            assert mischief.score(r"\boxed{x^2+once}", "x^2").correct

    def test_a_worker_that_died_between_answers_is_replaced(self, mischief: Judge) -> None:
        with mischief:
            mischief.score(r"\boxed{x^2+fine}", "x^2")
            assert mischief._worker is not None
            os.kill(mischief._worker.pid, signal.SIGTERM)
            assert mischief.score(r"\boxed{x^2+finetoo}", "x^2").correct

    def test_a_reply_after_the_deadline_does_not_answer_the_next_question(self, mischief: Judge) -> None:
        with mischief:
            assert mischief.score(r"\boxed{x^2+late}", "x^2").method is None
            time.sleep(0.4)
            assert mischief.score(r"\boxed{x^2+digest}", "x^2").method is None

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ("import sys; sys.exit(7)", "ended while starting .*exit code 7"),
            ('print(\'{"ready": false, "error": "ImportError: no sympy"}\')', "ImportError: no sympy"),
            ("print('hello')", "ended while starting"),
            ("this is no Python", "ended while starting"),
        ],
    )
    def test_one_that_cannot_start_is_an_error_and_not_a_wrong_answer(self, tmp_path: Path, script: str, message: str) -> None:
        path = tmp_path / "broken.py"
        path.write_text(script, encoding="utf-8")
        with with_script(path) as judge, pytest.raises(ScoringError, match=message):
            judge.score(r"\boxed{x^2}", "x^3")


class TestRealWorker:
    def test_an_expression_without_end_is_undecided_and_the_next_is_scored(self) -> None:
        with Judge("math", deadline_seconds=1.0) as judge:
            assert judge.score(r"\boxed{x+1}", "1+x").correct  # started: the deadline is for comparing alone
            start = time.monotonic()
            endless = judge.score(r"\boxed{9^{9^{9^{9}}}}", "7")
            assert time.monotonic() - start < 8
            assert (endless.correct, endless.parsed, endless.method) == (False, True, None)
            assert judge.score(r"\boxed{x+2}", "2+x").correct

    @pytest.mark.parametrize(
        "answer", ["x" + "+1" * 2_000, "\\frac{" * 1_500 + "1" + "}{2}" * 1_500, "(" * 4_000 + ")" * 4_000, "\x00", "\ud800", "\\" * 999]
    )
    def test_deep_and_strange_expressions_are_survived(self, answer: str) -> None:
        with Judge("math", deadline_seconds=3.0) as judge:
            assert not judge.score(f"\\boxed{{{answer}}}", "x^2").correct
            assert judge.score(r"\boxed{x+2}", "2+x").correct

    def test_eight_threads_get_the_answers_of_one(self) -> None:
        cases = [(f"\\boxed{{{i}x + {j}}}", f"{j} + {i}x" if (i + j) % 2 else f"{j} + {i + 1}x") for i in range(2, 10) for j in range(1, 6)]
        with Judge("math") as judge, ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda case: judge.score(*case).correct, cases))
        assert found == [(i + j) % 2 == 1 for i in range(2, 10) for j in range(1, 6)]

    def test_what_libraries_print_stays_out_of_the_protocol(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "math_verify.py").write_text(
            "import os\nprint('loading')\nos.write(1, b'raw\\n')\nLatexExtractionConfig = lambda **k: None\n"
            "class parser: NormalizationConfig = LatexExtractionConfig\n"
            "def parse(text, targets, parsing_timeout): print('parsing'); return [text]\n"
            "def verify(a, b, **k): os.write(1, b'{\"id\": 0, \"equal\": true}'); return '0.5' in b[0] or 'y' in b[0]\n",
            encoding="utf-8",
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        with Judge("math") as judge:
            found = judge.score(r"\boxed{y+1}", "x+1")
        assert (found.correct, found.method) == (True, "math-verify")  # by the module above: the worker finds what this process finds

    def test_the_worker_loads_neither_this_package_nor_numpy(self) -> None:
        code = (
            "import runpy, sys, json; sys.argv = ['worker', json.dumps(sys.path)]; "
            f"runpy.run_path({str(WORKER)!r}, run_name='__main__'); print(*sys.modules, file=sys.stderr)"
        )
        found = subprocess.run([sys.executable, "-c", code], input="", capture_output=True, text=True, check=True)
        assert json.loads(found.stdout)["ready"] is True
        loaded = set(found.stderr.split())
        assert "sympy" in loaded
        assert not {"reset", "reset.scoring", "numpy", "torch"} & loaded


class TestLife:
    def test_no_worker_runs_where_none_is_needed(self) -> None:
        with Judge("math") as judge:
            assert judge.score(r"\boxed{18}", "18").correct
            assert judge.score(r"\boxed{\text{no}}", r"\text{yes}").method == "exact"
            assert judge._worker is None

    def test_close_ends_the_worker_and_a_later_score_starts_another(self, mischief: Judge) -> None:
        mischief.score(r"\boxed{x^2+fine}", "x^2")
        assert mischief._worker is not None
        pid = mischief._worker.pid
        mischief.close()
        mischief.close()
        assert ends(pid)
        assert mischief.score(r"\boxed{x^2+more}", "x^2").correct
        mischief.close()

    def test_a_judge_that_is_let_go_of_ends_its_worker(self, mischief: Judge, tmp_path: Path) -> None:
        judge = with_script(tmp_path / "mischief.py")
        judge.score(r"\boxed{x^2+fine}", "x^2")
        assert judge._worker is not None
        pid = judge._worker.pid
        del judge
        assert ends(pid)

    def test_a_program_that_forgets_to_close_leaves_no_process_and_runs_once(self, tmp_path: Path) -> None:
        program = tmp_path / "program.py"  # no `if __name__ == "__main__"`: a worker that imported it would run it again
        program.write_text(
            "print('side effect')\nfrom reset.scoring import judge_cache, score\n"
            "assert score('math', r'\\boxed{x+1}', '1+x').correct\nprint(judge_cache.get('math')._worker.pid)\n",
            encoding="utf-8",
        )
        start = time.monotonic()
        out = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60)
        assert (out.returncode, out.stderr) == (0, "")
        assert out.stdout.count("side effect") == 1
        assert ends(int(out.stdout.split()[-1]))
        assert time.monotonic() - start < 40

    @posix
    @pytest.mark.parametrize("busy", [False, True])
    def test_the_worker_of_a_killed_program_ends(self, busy: bool) -> None:
        code = """
            import sys, threading
            from reset.scoring import Judge
            judge = Judge("math", deadline_seconds=1.0)
            judge.score(r"\\boxed{x+1}", "1+x")
            if sys.argv[1] == "True":
                threading.Thread(target=judge.score, args=(r"\\boxed{9^{9^{9^{9}}}}", "7")).start()
            print(judge._worker.pid, flush=True)
            threading.Event().wait()
        """
        program = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(busy)], stdout=subprocess.PIPE, text=True)
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        assert alive(pid)
        time.sleep(0.2)
        program.kill()
        program.wait()
        program.stdout.close()
        assert ends(pid)

    @posix
    def test_ctrl_c_in_a_terminal_does_not_reach_the_worker(self, mischief: Judge) -> None:
        with mischief:
            mischief.score(r"\boxed{x^2+fine}", "x^2")
            assert mischief._worker is not None
            assert os.getsid(mischief._worker.pid) != os.getsid(0)

    @posix
    def test_ctrl_c_while_waiting_leaves_a_judge_that_works(self, tmp_path: Path) -> None:
        (tmp_path / "mischief.py").write_text(MISCHIEF, encoding="utf-8")
        out = run(
            """
            import os, signal, sys, threading
            from pathlib import Path
            from reset.scoring import Judge
            judge = Judge("math", deadline_seconds=4)
            judge._script = Path(sys.argv[1])
            judge.score(r"\\boxed{x^2+fine}", "x^2")
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                judge.score(r"\\boxed{x^2+hang}", "x^2")
            except KeyboardInterrupt:
                print("interrupted")
            print(judge.score(r"\\boxed{x^2+more}", "x^2").correct)
            """,
            str(tmp_path / "mischief.py"),
        )
        assert (out.stdout.split(), out.stderr) == (["interrupted", "True"], "")

    @posix
    def test_a_forked_child_starts_its_own_worker_and_leaves_the_parents_alone(self) -> None:
        out = run(
            """
            import os, sys, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from reset.scoring import Judge
            judge = Judge("math")
            assert judge.score(r"\\boxed{x+1}", "1+x").correct
            pid = judge._worker.pid
            child = os.fork()
            if child == 0:
                assert judge._worker is None
                assert judge.score(r"\\boxed{x+2}", "2+x").correct
                assert judge._worker.pid != pid
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert judge.score(r"\\boxed{x+3}", "3+x").correct and judge._worker.pid == pid
            print("fine")
            """
        )
        assert (out.stdout, out.stderr) == ("fine\n", "")

    @posix
    def test_a_fork_does_not_keep_the_worker_of_a_dead_parent_alive(self) -> None:
        code = """
            import os, time, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from reset.scoring import Judge
            judge = Judge("math")
            judge.score(r"\\boxed{x+1}", "1+x")
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(0)
            print(judge._worker.pid, child, flush=True)
            time.sleep(30)
        """
        program = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
        assert program.stdout is not None
        worker, child = map(int, program.stdout.readline().split())
        program.kill()
        program.wait()
        program.stdout.close()
        try:
            assert ends(worker)
        finally:
            os.kill(child, signal.SIGKILL)


class TestOptions:
    def test_versions_name_the_rules_and_the_library(self) -> None:
        from importlib.metadata import version

        assert Judge("number").version == "number-1"
        assert Judge("math").version == f"math-1+math-verify-{version('math-verify')}"

    @pytest.mark.parametrize("scorer", ["maths", "", None])
    def test_unknown_scorers_are_refused(self, scorer: str) -> None:
        with pytest.raises(ValueError, match="use one of 'number', 'math'"):
            Judge(scorer)

    @pytest.mark.parametrize("deadline", [0, -1.0, float("nan"), float("inf"), "10", True, None])
    def test_deadlines_are_positive_numbers(self, deadline: float) -> None:
        with pytest.raises(ValueError, match="deadline_seconds = "):
            Judge("number", deadline_seconds=deadline)

    def test_without_math_verify_the_extra_is_named_and_numbers_still_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "math_verify", None)
        with pytest.raises(ImportError, match=r"pip install 'reset-nvfp4\[eval\]'"):
            Judge("math")
        assert Judge("number").score(r"\boxed{18}", "18").correct
