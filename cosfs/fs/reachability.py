"""Whether COS can be reached, so that nobody waits for it in vain.

A call whose tries all failed, or one that waits for io_timeout while nothing at all is heard from COS, raises
a suspicion. Then one small request asks whether COS is there. If it is not, the mount is cut off: calls that
wait for a question fail, later ones fail at once, and one request now and then looks whether COS is back.

Who changes something waits longer than who asks: until the mount has been cut off for io_timeout. A read that
fails can be repeated; a close() that fails often ends a program.

What is cached goes on being served: that is for those who hold it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from cosfs.client.client import CosClient
from cosfs.errors import NetworkError, UnreachableError

__all__ = ["Reachability"]

log = logging.getLogger("cosfs.mount")

PERIOD = 1.0  # seconds between looks at who waits
PROBE_TIMEOUT = 5.0
PROBE_DELAYS = (0.5, 1.0, 2.0, 5.0, 10.0)


class Reachability:
    """Notes whether COS answers where a bucket is. That is asked for it, or the account if it is empty.

    Without run() nothing is ever found out, and every call is let through. All times are time.monotonic().
    """

    def __init__(
        self,
        client: CosClient,
        bucket: str = "",
        *,
        io_timeout: float = 60.0,
        on_return: Callable[[], None] = lambda: None,
    ) -> None:
        self.io_timeout = io_timeout
        self.lost_since = math.inf  # nothing was heard of COS since
        self.losses = 0
        self._on_return = on_return
        self._client = client
        self._bucket = bucket
        self._questions: dict[trio.CancelScope, float] = {}  # and when they began; oldest first
        self._changes: dict[object, float] = {}
        self._suspicion = trio.Event()
        self._returned = trio.Event()
        self._nursery: trio.Nursery | None = None

    @property
    def is_lost(self) -> bool:
        return self.lost_since < math.inf

    @property
    def lost_for(self) -> float:
        """Seconds for which nothing was heard of COS, 0 while it can be reached."""
        return max(0.0, time.monotonic() - self.lost_since)

    def check(self) -> None:
        """Fail at once while COS cannot be reached."""
        if self.is_lost:
            raise self.unreachable()

    def unreachable(self) -> UnreachableError:
        return UnreachableError(f"COS has not been reachable for {self.lost_for:.0f} s")

    # Calls under way

    @contextmanager
    def question(self) -> Iterator[None]:
        """Inside, wait for an answer of COS; it fails as soon as COS is found to be out of reach."""
        self.check()
        scope = trio.CancelScope()
        self._questions[scope] = began = time.monotonic()
        try:
            with scope:
                yield
        except NetworkError:
            self._suspect(began)
            raise
        finally:
            del self._questions[scope]
        if scope.cancelled_caught:
            self.check()
            raise UnreachableError("COS gave no answer")  # it has returned just now

    @contextmanager
    def change(self) -> Iterator[None]:
        """Inside, something is sent to COS and not given up halfway."""
        self.check()
        mark = object()
        self._changes[mark] = began = time.monotonic()
        try:
            yield
        except NetworkError:
            self._suspect(began)
            raise
        finally:
            del self._changes[mark]

    async def returns_in_time(self, losses: int) -> bool:
        """Wait for COS if it was lost a further time; False if it was not, or does not return."""
        if self._nursery is None:
            return False
        while not self.is_lost and self._suspicion.is_set():  # noqa: ASYNC110
            await trio.sleep(0.05)  # it is being found out
        if not self.is_lost:
            return self.losses > losses
        with trio.move_on_after(max(0.0, self.io_timeout - self.lost_for)):
            await self._returned.wait()
            return True
        return False

    # Finding out

    def _suspect(self, began: float) -> None:
        if self._client.last_heard(self._bucket) < began:
            self._suspicion.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    with trio.move_on_after(min(PERIOD, self.io_timeout / 4)):
                        await self._suspicion.wait()
                    if self._suspicion.is_set() or self._waits_too_long():
                        if not await self._answers():
                            await self._be_lost()
                        self._suspicion = trio.Event()
        finally:
            self._nursery = None

    def _waits_too_long(self) -> bool:
        """Whether the time is up for the oldest call, less what asking takes."""
        quiet_since = self._quiet_since()
        return time.monotonic() - quiet_since > self.io_timeout - self._probe_timeout

    def _quiet_since(self) -> float:
        """When the silence began that calls wait in; now if none does."""
        oldest = [next(iter(calls.values())) for calls in (self._questions, self._changes) if calls]
        return (
            max(min(oldest, default=math.inf), self._client.last_heard(self._bucket))
            if oldest
            else time.monotonic()
        )

    @property
    def _probe_timeout(self) -> float:
        return min(PROBE_TIMEOUT, self.io_timeout / 2)

    async def _answers(self) -> bool:
        """Ask COS for a sign of life."""
        with trio.move_on_after(self._probe_timeout):  # resolving a name knows no limit
            return await trio.to_thread.run_sync(
                self._client.is_reachable, self._bucket, self._probe_timeout, abandon_on_cancel=True
            )
        return False

    async def _be_lost(self) -> None:
        self.lost_since = self._quiet_since()
        self.losses += 1
        log.warning("COS cannot be reached; what is cached can be read, what is written is kept")
        for scope in list(self._questions):
            scope.cancel()
        tries = 0
        while True:
            await trio.sleep(PROBE_DELAYS[min(tries, len(PROBE_DELAYS) - 1)])
            tries += 1
            if await self._answers():
                break
        log.warning("COS can be reached again after %.0f s", self.lost_for)
        self.lost_since = math.inf
        self._returned.set()
        self._returned = trio.Event()
        self._on_return()
