"""How long calls wait: no longer than io_timeout while nothing comes of what they wait for.

Each place that buckets are at (their host) has a verdict of its own whether it can be reached, so that a
region that is away does not take the others along. A request ends when nothing has come of it for
io_timeout; that is for the client. What is here is for changes, which may be many requests, or wait for
others: whoever waits is told after that time, and the change goes on without him. So it does when he is
killed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, TypeVarTuple

import trio

from cosfs.client.client import CosClient
from cosfs.client.movement import Place
from cosfs.errors import COSError, NetworkError, NetworkTimeoutError, UnreachableError
from cosfs.fs.callers import Callers
from cosfs.fs.locks import Lock
from cosfs.fs.reachability import PERIOD, Reachability

__all__ = ["Patience"]

log = logging.getLogger("cosfs.mount")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StalledError(NetworkTimeoutError):
    """Nothing has come of a change for too long. It goes on."""


class Patience:
    """Who waits for COS, and for how long. bucket is the one that is mounted, empty for all of them.

    Without run() nobody is told before a request ends by itself. All times are time.monotonic().
    """

    def __init__(self, client: CosClient, bucket: str = "", *, io_timeout: float = 60.0) -> None:
        self.io_timeout = io_timeout
        self.on_return: list[Callable[[], None]] = []
        self.callers = Callers()
        self._client = client
        self._bucket = bucket
        self._verdicts: dict[str, Reachability] = {}
        self._nursery: trio.Nursery | None = None
        self._others: list[Callable[[], Awaitable[None]]] = []
        self._only = self._verdict(bucket) if bucket else None

    # Verdicts

    def of(self, bucket: str) -> Reachability:
        """Whether a bucket can be reached, or the list of all if it is empty."""
        return self._only or self._verdicts.get(self._client.place_of(bucket)) or self._verdict(bucket)

    def _verdict(self, bucket: str) -> Reachability:
        made = Reachability(self._client, bucket, io_timeout=self.io_timeout, on_return=self._returned)
        self._verdicts[self._client.place_of(bucket)] = made
        if self._nursery is not None:
            self._nursery.start_soon(made.run)
        return made

    def _returned(self) -> None:
        for listener in self.on_return:
            listener()

    @property
    def lost_for(self) -> float:
        """Seconds for which nothing was heard of some place, 0 while all can be reached."""
        return max((each.lost_for for each in self._verdicts.values()), default=0.0)

    @property
    def losses(self) -> int:
        """How often a place was lost."""
        return sum(each.losses for each in self._verdicts.values())

    def keep_running(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Have fn() watch as well, as long as run() does."""
        self._others.append(fn)
        if self._nursery is not None:
            self._nursery.start_soon(fn)

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self.callers.run)
                for verdict in self._verdicts.values():
                    self._nursery.start_soon(verdict.run)
                for fn in self._others:
                    self._nursery.start_soon(fn)
                await trio.sleep_forever()
        finally:
            self._nursery = None

    # Waiting

    async def bounded(self, places: Sequence[Place], fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Run fn(*args), which changes something at places, but do not wait for it for ever.

        It goes on in the background then: what was begun may still reach COS, so it must not be forgotten
        while it does.
        """
        if self._nursery is None:
            return await fn(*args)
        work = _Work(fn, args)
        self._nursery.start_soon(work.run)
        try:
            await self.wait(places, work.done.wait)
        finally:
            work.given_up = True
        return work.answer()

    async def acquire(self, lock: Lock, *places: Place) -> None:
        """Take a lock that others hold while they send something; give up as bounded() does."""
        if lock.locked():
            await self.wait(places, lock.acquire)
        else:
            await lock.acquire()

    async def wait(self, places: Sequence[Place], wait: Callable[[], Awaitable[object]]) -> None:
        """Return when wait() does; raise NetworkTimeoutError when nothing happens at places for too long.

        wait() is given up and called again now and then. EINTR for a caller who is killed.
        """
        if self._nursery is None:
            await wait()
            return
        with self.callers.may_leave():
            await self._wait(places, wait)

    async def _wait(self, places: Sequence[Place], wait: Callable[[], Awaitable[object]]) -> None:
        verdicts = [self.of(bucket) for bucket in {bucket for bucket, _ in places}]
        began = time.monotonic()
        period = min(PERIOD, self.io_timeout / 4)
        with trio.move_on_after(period) as scope:
            await wait()
        if not scope.cancelled_caught:
            return
        with self._client.movement.watched(places, began) as watch:
            while True:
                with trio.move_on_after(period) as scope:
                    await wait()
                if not scope.cancelled_caught:
                    return
                for verdict in verdicts:
                    if verdict.lost_for >= self.io_timeout:
                        verdict.check()
                quiet = time.monotonic() - watch.moved_at
                if quiet >= self.io_timeout:
                    lost = [verdict.unreachable().message for verdict in verdicts if verdict.is_lost]
                    why = lost[0] if lost else f"nothing has come of it for {quiet:.0f} s"
                    raise StalledError(why, hint="It goes on in the background")

    async def patiently(self, places: Sequence[Place], fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Run fn(*args) and, if COS gets out of reach, again when it is back before io_timeout is over."""
        with self.callers.may_leave():
            return await self._patiently(self.of(places[0][0]), places, fn, *args)
        raise AssertionError("unreachable")  # may_leave() raises when it ended the wait

    async def _patiently(
        self, verdict: Reachability, places: Sequence[Place], fn: Callable[[*Ts], Awaitable[T]], *args: *Ts
    ) -> T:
        while True:
            losses = verdict.losses
            try:
                return await self.bounded(places, fn, *args)
            except StalledError:
                raise  # the time is up
            except NetworkError as exc:
                if await verdict.returns_in_time(losses):
                    continue
                if verdict.is_lost:
                    raise verdict.unreachable() from exc
                raise


class _Work(Generic[T]):
    """A change that goes on when nobody waits for it any longer."""

    def __init__(self, fn: Callable[..., Awaitable[T]], args: Sequence[object]) -> None:
        self.done = trio.Event()
        self.given_up = False
        self._fn, self._args = fn, args
        self._answers: list[T] = []
        self._error: Exception | None = None

    async def run(self) -> None:
        try:
            self._answers.append(await self._fn(*self._args))
        except Exception as exc:
            self._error = exc
            if self.given_up:
                log.log(logging.INFO if isinstance(exc, COSError) else logging.ERROR, "%s", exc)
        finally:
            self.done.set()

    def answer(self) -> T:
        """What came of it; raises what it raised."""
        if self._error is not None:
            raise self._error
        if not self._answers:
            raise UnreachableError("the mount ends")
        return self._answers[0]
