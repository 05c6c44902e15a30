"""What worker threads hand to the trio thread: callbacks with their values, delivered in batches."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import trio

__all__ = ["Inbox"]

log = logging.getLogger(__name__)

# Results of a stream of jobs are handed over after so many seconds or at so many.
_BATCH_TIME = 0.01
_BATCH = 64


class Inbox:
    """Takes callbacks from any thread and calls them in the trio thread, in order, once that is woken."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._token: trio.lowlevel.TrioToken | None = None
        self._woken = False
        self._last_wake = 0.0

    def open(self) -> None:
        """Have what comes in delivered in this thread."""
        self._token = trio.lowlevel.current_trio_token()

    def put(self, callback: Callable[[Any], None], value: Any) -> None:
        """Have callback(value) called at the next delivery."""
        self._waiting.append((callback, value))

    @property
    def is_full(self) -> bool:
        """Whether enough has come in to be worth a wake-up."""
        return len(self._waiting) >= _BATCH

    @property
    def is_due(self) -> bool:
        """Whether the last wake-up was long enough ago for the next."""
        return time.monotonic() - self._last_wake >= _BATCH_TIME

    def wake(self) -> None:
        """Have what has come in delivered soon."""
        self._last_wake = time.monotonic()
        if self._woken or self._token is None:
            return
        self._woken = True
        try:
            self._token.run_sync_soon(self.deliver)
        except trio.RunFinishedError:
            pass

    def deliver(self) -> None:
        """Call what waits to be called; in the trio thread."""
        # First, so that what comes in from now on wakes us again.
        self._woken = False
        waiting = self._waiting
        while waiting:
            callback, value = waiting.popleft()
            try:
                callback(value)
            except Exception:
                # Nobody is on the stack who could be told; a callback's bug must not end the run.
                log.exception("a progress callback failed")
