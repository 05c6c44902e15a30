"""What was asked of an emulator: counts by operation."""

from __future__ import annotations

import threading
from collections import Counter


class Requests:
    """Counts of requests by operation, and of body bytes both ways; safe to read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.bytes_received = 0
        self.bytes_sent = 0
        self.errors: Counter[str] = Counter()  # by code

    def count(self, operation: str) -> None:
        """Count one request."""
        with self._lock:
            self._counts[operation] += 1

    def __getitem__(self, operation: str) -> int:
        """Return how many requests of an operation came since the last reset."""
        return self._counts[operation]

    @property
    def total(self) -> int:
        """Return how many requests came since the last reset."""
        return self._counts.total()

    def snapshot(self) -> dict[str, int]:
        """Return the counts that are not zero."""
        with self._lock:
            return {name: count for name, count in sorted(self._counts.items()) if count}

    def reset(self) -> None:
        """Begin again at zero."""
        with self._lock:
            self._counts.clear()
            self.errors.clear()
            self.bytes_received = self.bytes_sent = 0
