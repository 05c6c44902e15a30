"""Questions of one kind wait for their turn, and no longer than for an answer.

Only so many are with COS at once. If nothing comes of any of these, who waits behind them would wait for one
io_timeout after the other. So waiting counts: who has waited for io_timeout, in which nothing has come of
those before him, fails without having been sent; who is sent late has less time left for his answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from cosfs.client.movement import WAITED, Movement, Place
from cosfs.errors import NetworkTimeoutError, ServiceError

__all__ = ["Turn", "Turns"]

T = TypeVar("T")

PERIOD = 1.0  # seconds between looks at who waits
SHORT = 0.1  # seconds of waiting that are not worth counting


class Turn:
    """One question; begun is set by the thread that sends it."""

    __slots__ = ("_turns", "begun", "place", "scope", "since")

    def __init__(self, turns: Turns, place: Place) -> None:
        self._turns = turns
        self.place = place
        self.since = time.monotonic()
        self.begun = False
        self.scope = trio.CancelScope()

    def sends(self, fn: Callable[[], T]) -> Callable[[], T]:
        """What is to be run when it is its turn."""

        def run() -> T:
            self.begun = True
            waited = self._turns.quiet(self)
            if waited < SHORT:
                return fn()
            token = WAITED.set(waited)
            try:
                return fn()
            finally:
                WAITED.reset(token)

        return run


class Turns:
    """The questions of one kind, at most limit of them with COS. Without run() nobody is told to go.

    All times are time.monotonic().
    """

    def __init__(self, limit: int, movement: Movement, io_timeout: float) -> None:
        self.limiter = trio.CapacityLimiter(limit)
        self._movement = movement
        self._io_timeout = io_timeout
        self._turns: dict[Turn, None] = {}  # the oldest first
        self._moved_at = 0.0  # when something came of any of them
        self._full = trio.Event()

    @contextmanager
    def turn(self, place: Place) -> Iterator[Turn]:
        """Inside, wait for the limiter and ask."""
        turn = Turn(self, place)
        self._turns[turn] = None
        if not self.limiter.available_tokens:
            self._full.set()
        try:
            with turn.scope:
                yield turn
                self._moved_at = time.monotonic()
        except ServiceError:
            self._moved_at = time.monotonic()
            raise
        finally:
            del self._turns[turn]
        if turn.scope.cancelled_caught:
            waited = time.monotonic() - turn.since
            raise NetworkTimeoutError(
                f"{self.limiter.total_tokens} others wait for an answer of COS, and nothing has come of "
                f"them for {waited:.0f} s"
            )

    def quiet(self, turn: Turn) -> float:
        """Seconds for which a question has waited while nothing came of any other. May run in any thread."""
        return time.monotonic() - max(turn.since, self._moved_at)

    async def run(self) -> None:
        """Watch until cancelled."""
        period = min(PERIOD, self._io_timeout / 4)
        while True:
            await self._full.wait()
            self._full = trio.Event()
            while any(not turn.begun for turn in self._turns):
                places = {turn.place for turn in self._turns if turn.begun}
                with self._movement.watched(tuple(places), 0.0) as watch:
                    await trio.sleep(period)
                self._moved_at = max(self._moved_at, watch.moved_at)
                for turn in self._turns:
                    if not turn.begun and self.quiet(turn) >= self._io_timeout:
                        turn.scope.cancel()
