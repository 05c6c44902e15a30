"""What was asked of an emulator: counts by operation, and the last requests one by one."""

from __future__ import annotations

import threading
from collections import Counter, deque
from itertools import count
from typing import NamedTuple

_KEPT = 2000


class Entry(NamedTuple):
    """One request that has ended. A status of 0: it was never answered."""

    number: int
    time: float  # Unix seconds at which it began
    client: str
    method: str
    target: str  # as sent
    host: str
    operation: str
    bucket: str
    key: str
    status: int
    code: str  # of the error document, if it got one
    received: int  # bytes of the body
    sent: int
    ms: float
    request_id: str
    faults: str  # kinds that struck, with commas


class Requests:
    """Counts since the last reset, and the last entries; safe to read from any thread.

    A request is counted when its head has been read and has an entry when it has ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._entries: deque[Entry] = deque(maxlen=_KEPT)
        self._numbers = count(1)
        self._left_out: set[str] = set()  # names of buckets
        self.bytes_received = 0
        self.bytes_sent = 0
        self.errors: Counter[str] = Counter()  # by code

    def leave_out(self, bucket: str) -> None:
        """Count and record nothing more of a bucket, and let no fault strike it.

        For a test that has ended while a client of it may not have: it is not to be heard of in the next.
        """
        self._left_out.add(bucket)

    def leaves_out(self, bucket: str) -> bool:
        """Tell whether requests to a bucket are left out."""
        return bucket in self._left_out

    def count(self, operation: str) -> None:
        """Count one request."""
        with self._lock:
            self._counts[operation] += 1

    def next_number(self) -> int:
        """Return the number of the next entry; they go on after a reset."""
        return next(self._numbers)

    def record(self, entry: Entry) -> None:
        """Keep an entry; the oldest of very many goes."""
        if entry.bucket in self._left_out:
            return
        with self._lock:
            self._entries.append(entry)

    def log(self, *, since: int = 0, limit: int = _KEPT) -> list[Entry]:
        """Return the last entries with a number above since, oldest first."""
        with self._lock:
            found = [entry for entry in self._entries if entry.number > since]
        return found[-limit:] if limit else []

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
        """Begin again at zero, with an empty log."""
        with self._lock:
            self._counts.clear()
            self._entries.clear()
            self.errors.clear()
            self.bytes_received = self.bytes_sent = 0
