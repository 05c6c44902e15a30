"""Streams of calls for the engine, and nurseries that raise one error."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from cosfs.transfer.job import Job
from cosfs.transfer.scheduler import PARTS, Queue

if TYPE_CHECKING:
    from cosfs.transfer.engine import Engine

__all__ = ["Flow", "open_nursery"]

I = TypeVar("I")  # noqa: E741 - the item a job was made for


class Flow:
    """A stream of calls, put in as fast as they are worked on; results come in any order.

    Leaving the with block waits for all of them; leaving it by an exception, or when on_result
    raises, gives up those that are not done.
    """

    def __init__(
        self,
        engine: Engine,
        kind: str,
        on_result: Callable[[Any, Any, Exception | None], None],
        backlog: int,
    ) -> None:
        self._engine = engine
        self._queue: Queue[Job] = Queue(kind)
        self._on_result = on_result
        self._backlog = backlog
        self._unfinished = 0
        self._wanted = -1
        self._changed = trio.Event()
        self._error: BaseException | None = None
        self._closed = False

    async def __aenter__(self) -> Flow:
        self._look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.join()
        finally:
            self._closed = True
            self._engine.abandon(self._queue)

    async def put(self, item: Any, fn: Callable[..., Any], *args: Any) -> None:
        """Add the call fn(*args) for item; wait while too many are waiting."""
        if self._error is not None:
            raise self._error
        self._unfinished += 1
        job = Job(self._queue, fn, args, lambda job: self._deliver(item, job), lazy=True)
        self._engine._add(job)
        if self._unfinished >= self._backlog:
            await self._until(self._backlog * 3 // 4)

    async def put_all(self, fn: Callable[[I], Any], items: Iterable[I] | AsyncIterable[I]) -> None:
        """Add the call fn(item) for every item."""
        if isinstance(items, AsyncIterable):
            async for item in items:
                await self.put(item, fn, item)
        else:
            for item in items:
                await self.put(item, fn, item)

    async def join(self) -> None:
        """Wait until all calls put in so far are delivered."""
        await self._until(0)

    async def _until(self, count: int) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._unfinished > count and self._error is None:
            self._wanted = count
            self._changed = trio.Event()
            # The last results of a batch may lie there without a wake-up.
            with trio.move_on_after(0.05):
                await self._changed.wait()
            self._engine.deliver()
            self._look()
            if self._unfinished > count:
                self._engine.check()
        self._wanted = -1
        if self._error is not None:
            raise self._error

    def _look(self) -> None:
        if self._queue.kind == PARTS:
            self._engine.look_at_parts()

    def _deliver(self, item: Any, job: Job) -> None:
        self._unfinished -= 1
        error = job.error
        job.error = None
        try:
            if error is not None and not isinstance(error, Exception):
                raise error
            if self._error is None and not self._closed:
                self._on_result(item, job.value, error)
        except BaseException as failure:
            self._error = self._error or failure
        if self._unfinished <= self._wanted or self._error is not None:
            self._changed.set()


@asynccontextmanager
async def open_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that raises the first failure itself, not a group around it."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        raise _first_failure(group) from None


def _first_failure(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception that is not only the cancellation which another one caused."""
    _, failures = group.split(trio.Cancelled)
    found: BaseException = failures if failures is not None else group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
