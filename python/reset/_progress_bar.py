"""Progress bars of work in several parts."""

from __future__ import annotations

from typing import Any

from reset._checks import flag


def progress_bar(*, show: bool, **options: Any) -> Any:
    """A tqdm bar; shown where stderr is a terminal or a notebook, if at all.

    One that is not shown comes without ``tqdm.auto``, which in a notebook warns of missing widgets as soon as it is imported.
    """
    if flag("progress", show):
        from tqdm.auto import tqdm as shown

        return shown(disable=None, **options)
    from tqdm import tqdm

    return tqdm(disable=True, **options)
