"""What a client has done since its start: counters, and how long answers took."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["ClientStats", "Histogram", "percentile", "upper_bound"]

_SLOTS = 128  # four to a doubling, from 1 us up to more than an hour
_FINE = 8


class Histogram:
    """How long something took, in slots of at most a quarter of their value. Not thread-safe.

    add() takes 0.3 us: it is called for every request of the kernel.
    """

    __slots__ = ("count", "seconds", "slots")

    def __init__(self) -> None:
        self.slots = [0] * _SLOTS
        self.count = 0
        self.seconds = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count one that took so long, or several."""
        micros = int(seconds * 1e6)
        if micros >= _FINE:
            bits = micros.bit_length()
            micros = (bits << 2) - 8 + ((micros >> (bits - 3)) & 3)
        self.slots[micros if micros < _SLOTS else -1] += count
        self.count += count
        self.seconds += seconds * count

    def snapshot(self) -> dict[str, Any]:
        """Return count, seconds in all, and the slots that are not empty by number."""
        return {
            "count": self.count,
            "seconds": self.seconds,
            "slots": {str(number): count for number, count in enumerate(self.slots) if count},
        }


def upper_bound(slot: int) -> float:
    """Return the seconds that what is in a slot took at most."""
    if slot < _FINE:
        return (slot + 1) / 1e6
    bits, quarter = divmod(slot + 8, 4)
    return float((1 << (bits - 1)) + (quarter + 1) * (1 << (bits - 3))) / 1e6


def percentile(slots: Sequence[tuple[int, int]], share: float) -> float | None:
    """Return the seconds that this share of all took at most; slots are (number, count), ascending."""
    total = sum(count for _, count in slots)
    if not total:
        return None
    seen = 0
    for number, count in slots:
        seen += count
        if seen >= share * total:
            return upper_bound(number)
    return upper_bound(slots[-1][0])


class ClientStats:
    """Counters of a client since its start. Thread-safe."""

    __slots__ = (
        "_lock",
        "bytes_received",
        "bytes_sent",
        "errors",
        "latency",
        "requests",
        "retries",
        "statuses",
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()  # by operation, each try
        self.statuses: Counter[tuple[str, int]] = Counter()  # by operation and status; 0: no answer
        self.latency: dict[str, Histogram] = {}  # until the head of the answer, by operation
        self.retries = 0
        self.errors = 0  # answers that are errors and not just a "no", and requests without an answer
        self.bytes_sent = 0  # of bodies
        self.bytes_received = 0

    def add(
        self, *, request: str = "", retries: int = 0, errors: int = 0, sent: int = 0, received: int = 0
    ) -> None:
        """Count something."""
        with self._lock:
            if request:
                self.requests[request] += 1
            self.retries += retries
            self.errors += errors
            self.bytes_sent += sent
            self.bytes_received += received

    def answered(self, request: str, status: int, seconds: float, sent: int = 0, count: int = 1) -> None:
        """Count one try of a request, by its status; 0 if there was no answer, which is an error.

        Or as many tries as count; sent are the bytes of all bodies.
        """
        with self._lock:
            self.requests[request] += count
            self.statuses[request, status] += count
            self.bytes_sent += sent
            if not status:
                self.errors += count
                return
            latency = self.latency.get(request)
            if latency is None:
                latency = self.latency[request] = Histogram()
            latency.add(seconds, count)

    def snapshot(self) -> dict[str, Any]:
        """Return all counters as they are now."""
        with self._lock:
            return {
                "requests": dict(self.requests),
                "retries": self.retries,
                "errors": self.errors,
                "bytes_sent": self.bytes_sent,
                "bytes_received": self.bytes_received,
            }

    def by_status(self) -> Iterator[tuple[str, int, int]]:
        """Yield operation, status and count."""
        with self._lock:
            found = sorted(self.statuses.items())
        for (operation, status), count in found:
            yield operation, status, count

    def latencies(self) -> dict[str, dict[str, Any]]:
        """Return how long answers took, by operation, as Histogram.snapshot() has it."""
        with self._lock:
            return {operation: histogram.snapshot() for operation, histogram in self.latency.items()}
