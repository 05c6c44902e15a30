"""The line from COS to here: how fast bodies arrive on it, and who goes first."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cosfs.units import MIB

__all__ = ["Line"]

FORGET = 256 * MIB  # after so many bytes what was measured before counts half
YIELD = 0.1  # seconds; what nobody waits for goes on after that, whoever else receives


class Line:
    """Measures all bodies together, without the round trip before each. May be used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._receiving = 0  # bodies
        self._urgent = 0  # of these, what somebody waits for
        self._since = 0.0  # when the first of them began
        self._bytes = 0
        self._seconds = 0.0

    @property
    def rate(self) -> float:
        """Bytes a second while anything arrived, lately; 0 if nothing did yet."""
        with self._lock:
            under_way = time.monotonic() - self._since if self._receiving else 0.0
            seconds = self._seconds + under_way
            return self._bytes / seconds if seconds else 0.0

    @contextmanager
    def receiving(self, *, urgent: bool) -> Iterator[None]:
        """Around the body of an answer."""
        with self._lock:
            if not self._receiving:
                self._since = time.monotonic()
            self._receiving += 1
            self._urgent += urgent
        try:
            yield
        finally:
            with self._lock:
                self._receiving -= 1
                self._urgent -= urgent
                if not self._receiving:
                    self._seconds += time.monotonic() - self._since
                if urgent and not self._urgent:
                    self._lock.notify_all()

    def received(self, count: int) -> None:
        """Count bytes of a body."""
        with self._lock:
            self._bytes += count
            if self._bytes > FORGET:
                now = time.monotonic()
                self._seconds += now - self._since
                self._since = now
                self._bytes //= 2
                self._seconds /= 2

    def give_way(self) -> None:
        """Let what somebody waits for pass first. Blocks."""
        with self._lock:
            if self._urgent:
                self._lock.wait(YIELD)
