"""Whether anything comes of what somebody waits for: bytes that move, requests that COS has answered well."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["COPIED", "SLOWEST", "WAITED", "Movement", "Watch"]

SLOWEST = 4 * 1024  # bytes a second: as slow as a line may be that counts as one; all requests share it
COPIED = 16 * 1024 * 1024  # bytes a second that COS copies or joins at least

WAITED: ContextVar[float] = ContextVar("waited", default=0.0)  # seconds before a request was sent

Place = tuple[str, str]  # bucket, key; a key that is empty or ends with "/" stands for all below it


class Watch:
    """When something last came of requests for some places (time.monotonic), or will have come of them."""

    __slots__ = ("moved_at", "places")

    def __init__(self, places: Sequence[Place], since: float) -> None:
        self.places = tuple(places)
        self.moved_at = since

    def _covers(self, bucket: str, key: str | None) -> bool:
        for place, prefix in self.places:
            if place == bucket and (
                key is None
                or key == prefix
                or ((not prefix or prefix.endswith("/")) and key.startswith(prefix))
            ):
                return True
        return False

    def note(self, bucket: str, key: str | None, at: float) -> None:
        if at > self.moved_at and self._covers(bucket, key):
            self.moved_at = at


class Movement:
    """Tells those who watch. Watches begin and end in one thread, requests run in any."""

    def __init__(self) -> None:
        # Replaced and never changed, so that other threads may go through it. Mostly it is empty: only calls
        # that take long are watched.
        self._watches: tuple[Watch, ...] = ()

    @contextmanager
    def watched(self, places: Sequence[Place], since: float) -> Iterator[Watch]:
        """Inside, note when something comes of requests for these places."""
        watch = Watch(places, since)
        self._watches = (*self._watches, watch)
        try:
            yield watch
        finally:
            self._watches = tuple(each for each in self._watches if each is not watch)

    def note(self, bucket: str, key: str | None, ahead: float = 0.0) -> None:
        """Something has come of a request, or cannot before so many seconds. None: for any key."""
        if self._watches:
            now = time.monotonic() + ahead
            for watch in self._watches:
                watch.note(bucket, key, now)
