"""Who reads the next request of the kernel.

pyfuse3 gives its lock to another task with each request: two tasks and three rounds of trio, though most
requests are answered without waiting for anything. Here the task that has read one reads the next as well,
unless what it handles has to wait: then another one takes its turn.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pyfuse3
import trio
from trio.lowlevel import Abort, Task, current_task

__all__ = ["Reader"]

IN_A_ROW = 16  # requests read without looking whether other tasks have something to do


class Reader:
    """The lock that pyfuse3's tasks take before they read; for the trio thread only."""

    def __init__(self) -> None:
        self._holder: Task | None = None
        self._waiting: deque[Task] = deque()

    def use(self) -> None:
        """Have pyfuse3 take this lock from now on; its module for asyncio does the same to its trio."""
        vars(pyfuse3)["trio"] = _Trio(self)

    async def __aenter__(self) -> None:
        task = current_task()
        if self._holder is task:
            return
        if self._holder is None:
            self._holder = task
            return

        def abort(_: object) -> Abort:
            self._waiting.remove(task)
            return Abort.SUCCEEDED

        self._waiting.append(task)
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def __aexit__(self, *_: object) -> None:
        """Stay the one who reads: what is read now may be answered without waiting."""

    def yield_turn(self) -> None:
        """Let another task read: the one that is running, if it is its turn, is about to wait."""
        if self._holder is current_task():
            self._holder = self._waiting.popleft() if self._waiting else None
            if self._holder is not None:
                trio.lowlevel.reschedule(self._holder)

    async def _run(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        try:
            await task(*args)
        finally:
            self.yield_turn()

    @asynccontextmanager
    async def open_nursery(self) -> AsyncIterator[_Nursery]:
        async with trio.open_nursery() as nursery:
            yield _Nursery(nursery, self._run)


class _Nursery:
    """What pyfuse3 starts its tasks in."""

    def __init__(self, nursery: trio.Nursery, run: Callable[..., Awaitable[None]]) -> None:
        self._nursery = nursery
        self._run = run

    def start_soon(self, task: Callable[..., Awaitable[None]], *args: object, name: object = None) -> None:
        self._nursery.start_soon(self._run, task, *args, name=name)


class _Trio:
    """trio as pyfuse3 sees it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.open_nursery = reader.open_nursery
        self.lowlevel = _Lowlevel()

    def Lock(self) -> Reader:
        return self._reader

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)


class _Lowlevel:
    """trio.lowlevel as pyfuse3 sees it."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._polled = -1
        self._taken = 0

    async def wait_readable(self, fd: int) -> None:
        """Wait for the next request, without a round of trio if it is there already.

        Who has been answered often asks the next thing before we are back here. Other tasks have their turn
        after some of these.
        """
        if fd != self._polled:
            self._poll.register(fd, select.POLLIN)
            self._polled = fd
        if self._taken < IN_A_ROW and self._poll.poll(0):
            self._taken += 1
            return
        self._taken = 0
        await trio.lowlevel.wait_readable(fd)

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)
