"""Stop strings on streamed text.

Text arrives in pieces of any size; a stop string may begin in one piece and end three pieces later. The matcher gives out
text as soon as it can no longer be part of a stop string::

    stop = "END"      pieces  "the E", "N", "gine"   →  "the ", "", "ENgine"
                      pieces  "the E", "N", "D of"   →  "the ", "", ""        matched "END", " of" is dropped

The match is the one that is complete first, and of those that are complete at the same character the longest. What matches
and where the text is cut depends on the text alone, not on how it was split into pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class StopMatcher:
    """Finds the first of several stop strings in a stream of text and cuts the text before it.

    Args:
        stop: one string or several. None at all is allowed: then text passes through.

    Raises:
        ValueError: for an empty stop string, which would match before the first character.
        TypeError: for anything that is not a string.

    >>> matcher = StopMatcher(["\\n\\n", "Q:"])
    >>> matcher.feed("42.\\n"), matcher.feed("\\nQ: what"), matcher.matched
    ('42.', '', '\\n\\n')
    """

    def __init__(self, stop: str | Iterable[str] = ()) -> None:
        self._stops = validated_stops(stop)
        self._longest = max(map(len, self._stops), default=1)
        self._held = ""
        self._matched: str | None = None

    @property
    def matched(self) -> str | None:
        """The stop string that was found, or None so far."""
        return self._matched

    @property
    def held(self) -> str:
        """Text that may be the beginning of a stop string."""
        return self._held

    def feed(self, text: str) -> str:
        """The text that has become certain. Once something matched, text is dropped and the result is ``""``."""
        if self._matched is not None:
            return ""
        if not self._stops:
            return text
        buffer = self._held + text
        found = self._first_match(buffer)
        if found is not None:
            start, self._matched = found
            self._held = ""
            return buffer[:start]
        keep = self._beginning_at_end(buffer)
        self._held = buffer[len(buffer) - keep :]
        return buffer[: len(buffer) - keep]

    def would_match(self, text: str) -> bool:
        """Whether :meth:`feed` with this text would find a stop string; nothing changes."""
        return self._matched is None and self._first_match(self._held + text) is not None

    def finish(self) -> str:
        """The held-back text, once nothing follows: it was no stop string after all."""
        rest, self._held = self._held, ""
        return rest

    def _first_match(self, buffer: str) -> tuple[int, str] | None:
        best: tuple[int, int, str] | None = None  # end, start, stop string: the least end, then the least start
        for stop in self._stops:
            start = buffer.find(stop)
            if start >= 0 and (best is None or (start + len(stop), start, stop) < best):
                best = (start + len(stop), start, stop)
        return None if best is None else best[1:]

    def _beginning_at_end(self, buffer: str) -> int:
        """Length of the longest end of ``buffer`` with which a stop string begins."""
        for length in range(min(self._longest - 1, len(buffer)), 0, -1):
            end = buffer[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0


def validated_stops(stop: str | Iterable[str]) -> tuple[str, ...]:
    """Stop strings as a tuple without repeats; refuses empty strings (ValueError) and other types (TypeError)."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    for one in stops:
        if not isinstance(one, str):
            raise TypeError(f"stop strings must be str, got {one!r} ({type(one).__name__})")
        if not one:
            raise ValueError("a stop string is empty; it would end every text before its first character. Leave it out.")
    return tuple(dict.fromkeys(stops))
