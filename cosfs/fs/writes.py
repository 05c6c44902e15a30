"""When keys were last written here, though their nodes may be forgotten: what COS was asked before is older.

A node knows when it was sent, and its directory what was made in it; both go when nobody needs them. An
answer that was asked for before, or was kept for somebody, would otherwise undo what was written.
"""

from __future__ import annotations

from collections import OrderedDict

import trio

__all__ = ["Writes"]

KEPT = 5_000  # keys and prefixes; of what was written before these, everything counts as written


class Writes:
    """Remembers the last of them. Times are of the trio clock."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._keys: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._prefixes: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._everything = -1.0

    def note(self, bucket: str, key: str) -> None:
        """A key was written now; to be called when COS has answered."""
        now = trio.current_time()
        self._note(self._keys, (bucket, key), now)
        end = len(key)
        while (end := key.rfind("/", 0, end)) >= 0:
            self._note(self._prefixes, (bucket, key[: end + 1]), now)

    def note_everything(self) -> None:
        """Any key at all may have been written."""
        self._keys.clear()
        self._prefixes.clear()
        self._everything = trio.current_time()

    def wrote(self, bucket: str, key: str, since: float) -> bool:
        """Whether a key was written at since or later, as far as can be told."""
        return max(self._keys.get((bucket, key), -1.0), self._everything) >= since

    def wrote_below(self, bucket: str, prefix: str, since: float) -> bool:
        """Whether a directory, its object included, may have been written at since or later."""
        return max(self._prefixes.get((bucket, prefix), -1.0), self._everything) >= since

    def _note(self, times: OrderedDict[tuple[str, str], float], place: tuple[str, str], now: float) -> None:
        times[place] = now
        times.move_to_end(place)
        if len(times) > self._kept:
            self._everything = max(self._everything, times.popitem(last=False)[1])
