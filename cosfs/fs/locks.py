"""A lock that costs nothing while nobody else wants it.

trio's own has each task wait for its next turn, even if it is free: a round of the event loop for each file
that is sent or removed.
"""

from __future__ import annotations

from collections import deque

from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

__all__ = ["Lock"]


class Lock:
    """Held by one task at a time; those who wait get it in their order. For the trio thread only."""

    __slots__ = ("_held", "_waiting")

    def __init__(self) -> None:
        self._held = False
        self._waiting: deque[Task] | None = None

    def locked(self) -> bool:
        return self._held

    async def acquire(self) -> None:
        """Take the lock; no other task runs meanwhile if it is free."""
        if not self._held:
            self._held = True
            return
        task = current_task()
        if self._waiting is None:
            self._waiting = deque()
        waiting = self._waiting
        waiting.append(task)

        def abort(_: object) -> Abort:
            waiting.remove(task)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    def release(self) -> None:
        """Give the lock to who has waited longest."""
        assert self._held
        if self._waiting:
            reschedule(self._waiting.popleft())
        else:
            self._held = False

    async def __aenter__(self) -> None:
        if self._held:
            await self.acquire()
        else:
            self._held = True

    async def __aexit__(self, *_: object) -> None:
        self.release()
