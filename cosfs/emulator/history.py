"""What listings showed some seconds ago: the state that the fault `stale` lets clients see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Row = tuple[Any, ...]


class History:
    """Changes of current objects, kept for as long as listings are to lag behind, and no longer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.window: Callable[[], float] = lambda: 0.0  # seconds by which listings lag
        self._changes: list[tuple[float, int, bytes, Row | None]] = []

    @property
    def kept(self) -> bool:
        """Tell whether changes have to be noted."""
        return self.window() > 0

    def note(self, bucket: int, key: bytes, before: Row | None) -> None:
        """Note how a listing showed a key before it changes; None if it did not."""
        since = self._clock() - self.window()
        self._changes = [change for change in self._changes if change[0] > since]
        self._changes.append((self._clock(), bucket, key, before))

    def shown(self, bucket: int, lag: float) -> dict[bytes, Row | None]:
        """Return the keys that a listing so many seconds ago showed otherwise: with a row, or not at all."""
        earliest: dict[bytes, Row | None] = {}
        if lag:
            since = self._clock() - lag
            for when, changed, key, before in self._changes:
                if changed == bucket and when > since:
                    earliest.setdefault(key, before)
        return earliest
