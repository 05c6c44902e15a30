"""What transfers may use of the machine: bytes held in memory, bytes a second."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from cosfs.transfer.parts import MIN_PART_SIZE

__all__ = ["Bandwidth", "ByteBudget"]

# Bytes a second that one transfer gets at least when the bandwidth is limited.
_SLOWEST = 256 * 1024
# Seconds that parts in flight take together because the bandwidth is limited, and one of them alone.
_PARTS_TIME = 2.0
_PART_TIME = 1.0


class ByteBudget:
    """Bytes that may be held in memory at once, given out in the order they were asked for.

    Belongs to the trio thread. A request for more than everything is granted when nothing
    else is held: one part larger than the budget must still be possible.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._waiters: OrderedDict[trio.lowlevel.Task, int] = OrderedDict()

    def _fits(self, count: int) -> bool:
        return self.used == 0 or self.used + count <= self.limit

    def acquire_nowait(self, count: int) -> bool:
        """Take count bytes if they are free and nobody waits for some."""
        if self._waiters or not self._fits(count):
            return False
        self.used += count
        return True

    async def acquire(self, count: int) -> None:
        """Wait until count bytes are free and take them."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.acquire_nowait(count):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        task = trio.lowlevel.current_task()
        self._waiters[task] = count

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._waiters[task]
            # The one behind may have waited only for its turn.
            self._grant()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def release(self, count: int) -> None:
        """Give count bytes back."""
        self.used -= count
        self._grant()

    def _grant(self) -> None:
        while self._waiters:
            task, count = next(iter(self._waiters.items()))
            if not self._fits(count):
                return
            del self._waiters[task]
            self.used += count
            trio.lowlevel.reschedule(task)

    @asynccontextmanager
    async def hold(self, count: int) -> AsyncIterator[None]:
        """Hold count bytes for the length of a with block."""
        await self.acquire(count)
        try:
            yield
        finally:
            self.release(count)


class Bandwidth:
    """A token bucket for all transfers of the process, taken from by worker threads.

    rate is in bytes a second, 0 = no limit. The bucket may go into debt: whoever took the
    bytes waits until the debt is paid, so pieces larger than the bucket are possible.
    """

    _BURST = 0.1  # seconds' worth that may be saved up

    def __init__(self, rate: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    def take(self, count: int) -> float:
        """Take count bytes and return how many seconds to wait before moving them."""
        if not self.rate:
            return 0.0
        now = self._clock()
        with self._lock:
            start = max(self._free_at, now - self._BURST)
            self._free_at = start + count / self.rate
            return max(0.0, start - now)

    def most_transfers(self) -> int | None:
        """Return how many transfers may share the bandwidth; None = any number."""
        # So many that each is fast enough not to be taken for a dead connection.
        return max(1, self.rate // _SLOWEST) if self.rate else None

    def most_parts(self, size: int) -> int | None:
        """Return how many parts of a size may share the bandwidth; None = any number."""
        # What is done of a part is lost when it is interrupted, and if all crawl, none is ever done.
        return max(1, int(self.rate * _PARTS_TIME) // size) if self.rate else None

    def part_size(self, size: int, traffic_limit: int = 0) -> int:
        """Return the size parts should have, at most size: small where the bandwidth is.

        traffic_limit is what COS limits each request to.
        """
        rates = [rate for rate in (self.rate, traffic_limit) if rate]
        return min(size, max(MIN_PART_SIZE, int(min(rates) * _PART_TIME))) if rates else size
