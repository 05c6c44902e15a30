"""Threads that each run many small requests at once.

A small request is a hundred microseconds of work and a round trip of waiting. One thread each would be
hundreds of threads that wait for the interpreter lock; here a lane runs them all (see client/waiting).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from cosfs.client.waiting import Hub

__all__ = ["Lanes", "Window"]


class Window:
    """How many requests may be in flight: more while the threads still have time, fewer after trouble.

    Pure. A round is as many answers as the window is wide. It doubles from round to round, and once it had
    to be halved it grows by an eighth.
    """

    FIRST = 32
    _IDLE = 0.05  # share of the time; below it more requests would only queue up

    def __init__(self, most: int, first: int = FIRST) -> None:
        self.most = most
        self.size = min(first, most)
        self._narrowed = False
        self._done = 0
        self._since = 0.0
        self._idle = 0.0
        self._trouble = 0

    def answered(self, now: float, idle: float, trouble: int) -> None:
        """Count an answer; idle is for how long the thread had nothing to do, trouble how many requests were
        repeated, both since the beginning."""
        if not self._since:
            # What was waited for the first answer counts, or the first round would be none.
            self._since, self._trouble = now - idle, trouble
        self._done += 1
        if self._done < self.size:
            return
        if trouble > self._trouble:
            self._narrowed = True
            self.size = max(1, self.size // 2)
        elif idle - self._idle >= self._IDLE * (now - self._since):
            self.size = min(self.most, self.size + (self.size // 8 + 1 if self._narrowed else self.size))
        self._done, self._since, self._idle, self._trouble = 0, now, idle, trouble


class Lanes:
    """The threads; take returns the next call, or None while there is none or the window is full.

    on_failure hears of what ended a thread, and with it the calls that ran there.
    """

    def __init__(
        self,
        take: Callable[[], Callable[[], None] | None],
        on_failure: Callable[[BaseException], None],
        threads: int = 1,
    ) -> None:
        self._take = take
        self._on_failure = on_failure
        self._threads = threads
        self._hubs: list[Hub] = []
        self._closed = False

    def wake(self) -> None:
        """Have calls taken; to be called when there are more of them, by one thread at a time."""
        if len(self._hubs) < self._threads:
            hub = Hub()
            self._hubs.append(hub)
            # A daemon: a call that waits for a dead connection must not keep the process.
            threading.Thread(target=self._run, args=(hub,), name="cos-lane", daemon=True).start()
        for hub in self._hubs:
            hub.wake()

    @property
    def idle(self) -> float:
        """For how many seconds the threads had nothing to do."""
        return sum(hub.idle for hub in self._hubs)

    def _run(self, hub: Hub) -> None:
        try:
            hub.run(self._take, lambda: self._closed)
        except BaseException as error:
            self._on_failure(error)

    def close(self) -> None:
        """Let the threads end, each when its last call does."""
        self._closed = True
        for hub in self._hubs:
            hub.wake()
