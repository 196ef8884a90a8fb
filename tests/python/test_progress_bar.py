"""Work that shows no progress leaves the notebook's widgets alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from reset._progress_bar import progress_bar
with progress_bar(show={show}, total=2, unit="arm") as bar:
    bar.set_postfix_str("a")
    bar.update()
    assert bar.n == (1 if {show} and not bar.disable else 0)
print("tqdm.auto" in sys.modules)
"""


@pytest.mark.parametrize("show", [True, False])
def test_only_a_bar_that_is_shown_asks_for_widgets(show: bool) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(show=show)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{show}\n", "")
