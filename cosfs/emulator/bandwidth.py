"""Bytes that pass at a limited rate: on one connection, over all connections, or of one answer."""

from __future__ import annotations

import time
from collections.abc import Iterable
from weakref import WeakKeyDictionary

_STEPS = 20  # a second


class Pacer:
    """Lets bytes pass at a rate: a ledger of the time at which the next byte may go."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._free = 0.0

    def book(self, size: int) -> float:
        """Take the time that so many bytes need; return how long to wait after sending them."""
        now = time.monotonic()
        self._free = max(self._free, now) + size / self.rate
        return self._free - now


class Bandwidth:
    """Limits in bytes per second for bodies both ways; 0 is no limit. They hold from the next body on."""

    def __init__(self) -> None:
        self.connection = 0
        self.total = 0
        self._shared: Pacer | None = None
        self._own: WeakKeyDictionary[object, Pacer] = WeakKeyDictionary()

    def limit(self, *, connection: int = 0, total: int = 0) -> None:
        """Set both limits."""
        if min(connection, total) < 0:
            raise ValueError("a bandwidth is a number of bytes per second, or 0 for no limit")
        self.connection, self.total = connection, total
        self._shared = Pacer(total) if total else None
        self._own = WeakKeyDictionary()

    def pacers(self, connection: object) -> list[Pacer]:
        """Return what the bodies on a connection have to keep to."""
        found = [self._shared] if self._shared is not None else []
        if self.connection:
            found.append(self._own.setdefault(connection, Pacer(self.connection)))
        return found


def step(pacers: Iterable[Pacer]) -> int:
    """Return how many bytes to send at once, so that they flow and do not come in gusts."""
    return max(min(pacer.rate for pacer in pacers) // _STEPS, 1)
