"""What readers will want next: windows that open where files are read in order, within one bound for all."""

from __future__ import annotations

from collections import OrderedDict

import trio

from cosfs.fs.fetcher import Fetcher, Source
from cosfs.units import KIB, MIB

__all__ = ["Readahead", "ReadaheadBudget"]

ACTIVE_SECONDS = 2.0  # a reader that paused for longer leaves its share to the others


class ReadaheadBudget:
    """The bytes that all sequential readers together may have ahead of them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._active: OrderedDict[Readahead, float] = OrderedDict()
        self._ahead: dict[Readahead, int] = {}
        self._total = 0

    def share(self, reader: Readahead) -> int:
        """Return what one of those who read just now may have.

        More would push out of memory what others have fetched and not read yet: it would be fetched twice.
        """
        now = trio.current_time()
        active = self._active
        active[reader] = now
        active.move_to_end(reader)
        while active[oldest := next(iter(active))] < now - ACTIVE_SECONDS:
            self.leave(oldest)
        return self.limit // len(active)

    def has_room(self, reader: Readahead, ahead: int) -> bool:
        """Whether a reader may have so many bytes ahead of it, here or on their way; notes it if so."""
        total = self._total - self._ahead.get(reader, 0) + ahead
        if total > self.limit:
            return False
        self._total = total
        self._ahead[reader] = ahead
        return True

    def leave(self, reader: Readahead) -> None:
        """A reader is done."""
        self._active.pop(reader, None)
        self._total -= self._ahead.pop(reader, 0)


class Readahead:
    """What one open file reads next: a window that doubles while reading is sequential.

    Nothing is fetched ahead until START bytes were read in order, so that looking at the head of
    a large file costs one block. Reads elsewhere close the window again: random, backward and
    widely spaced reads fetch what they ask for.
    """

    __slots__ = ("_ahead", "_begin", "_misses", "_next", "_progress", "_read", "_window")

    START = 256 * KIB
    INITIAL = 8 * MIB
    DISORDER = 8 * MIB  # the kernel's own readahead sends requests out of order

    def __init__(self) -> None:
        self._begin = 0  # where this run of reads in order began
        self._next = 0  # where a sequential reader would go on
        self._read = 0  # bytes read since _begin
        self._progress = 0  # of these, what went beyond everything before
        self._ahead = 0  # first block not yet asked for
        self._window = 0  # bytes to have ready beyond _next
        self._misses = 0

    def advance(
        self, fetcher: Fetcher, source: Source, offset: int, length: int, budget: ReadaheadBudget
    ) -> bool:
        """Note a read and start fetching what will follow it; whether it is out of any order."""
        if not self._next - self.DISORDER <= offset <= self._next + self.DISORDER:
            self._misses += 1
            self._restart(offset + length, keep_window=self._misses == 1)
            return True
        self._follow(fetcher, source, offset, length, budget)
        return False

    def _follow(
        self, fetcher: Fetcher, source: Source, offset: int, length: int, budget: ReadaheadBudget
    ) -> None:
        size = fetcher.block_size
        self._misses = 0
        self._read += length
        before, self._next = self._next, max(self._next, offset + length)
        self._progress += min(length, self._next - before)
        if self._next - self._begin > 2 * self._read + self.DISORDER:
            self._restart(self._next)  # it skips more than it reads
            return
        for passed in range((before - self.DISORDER) // size, (self._next - self.DISORDER) // size):
            if passed >= 0:
                fetcher.cache.done_with(source.block(passed))
        if self._progress < self.START:
            return
        share = budget.share(self)
        if share < size:
            return
        self._window = max(self._window, min(share, self.INITIAL))
        self._extend(fetcher, source, share, budget)

    def _restart(self, offset: int, *, keep_window: bool = False) -> None:
        self._begin = self._next = offset
        self._read = self._progress = self._ahead = 0
        if not keep_window:
            self._window = 0

    def _extend(self, fetcher: Fetcher, source: Source, share: int, budget: ReadaheadBudget) -> None:
        size = fetcher.block_size
        here = self._next // size
        blocks = (source.size + size - 1) // size
        # Whole aligned steps: a window that grows by a block with each read must not become a GET a block.
        step = max(1, min(fetcher.fetch_blocks, share // size))
        self._window = min(self._window, share)
        self._ahead = max(self._ahead, here)
        budget.has_room(self, (self._ahead - here) * size)
        while self._ahead < blocks:
            stop = min(blocks, (self._ahead // step + 1) * step)
            if (stop - here) * size > self._window and self._ahead > here + 1:
                return
            if not budget.has_room(self, (stop - here) * size):
                return
            fetcher.fetch(source, self._ahead, stop)
            self._ahead = stop
            self._window = min(share, self._window * 2)
