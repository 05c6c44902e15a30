"""Memory for blocks that is used again.

Memory fresh from the system costs more than the copy that fills it: a page fault and a cleared page for each
4 KiB. A block that is dropped leaves its buffer to the next one; huge pages make the first use cheap as well.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections import deque

__all__ = ["Block", "Buffers"]

ARENA = 8 << 20  # mapped at once, so that the kernel can use huge pages
SMALLEST = 128 * 1024  # below that malloc has its memory at hand
APART = 256 * 1024  # from here on malloc would keep what lives long between what is freed soon

Block = bytes | memoryview  # what a block is kept as; nobody changes it


class _Loan(weakref.ref[ctypes.Array[ctypes.c_char]]):
    """A buffer in use, and where its memory is."""

    __slots__ = ("place",)

    place: tuple[mmap.mmap, int]


class Buffers:
    """Buffers of one size. May be used by any thread.

    A buffer comes back by itself when the last view of it is gone, so nobody can see it change.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._pooled = size >= SMALLEST and size % mmap.PAGESIZE == 0
        self._kind = ctypes.c_char * size
        self._used: deque[tuple[mmap.mmap, int]] = deque()  # free, with memory behind it
        self._empty: deque[tuple[mmap.mmap, int]] = deque()  # free, without
        self._loans: dict[int, _Loan] = {}  # by id: a reference to what has no hash has none

    @property
    def lent(self) -> int:
        """How many pooled buffers are in use."""
        return len(self._loans)

    @property
    def held(self) -> int:
        """Bytes of memory kept for the next blocks."""
        return len(self._used) * self.size

    def take(self, length: int) -> memoryview:
        """Return writable memory of length bytes, at most the size; what is in it is undefined."""
        # What is shorter than a block would hold a whole buffer and be counted for its length.
        if length != self.size or not self._pooled:
            return memoryview(_mapped(length) if length >= APART else bytearray(length))
        place = self._place()
        memory = self._kind.from_buffer(*place)
        loan = _Loan(memory, self._returned)
        loan.place = place
        self._loans[id(loan)] = loan
        return memoryview(memory).cast("B")

    def trim(self) -> None:
        """Give the memory of free buffers back to the system."""
        try:
            while True:
                place = self._used.pop()
                place[0].madvise(mmap.MADV_DONTNEED, place[1], self.size)
                self._empty.append(place)
        except IndexError:
            pass

    def _returned(self, loan: weakref.ref[ctypes.Array[ctypes.c_char]]) -> None:
        assert isinstance(loan, _Loan)
        del self._loans[id(loan)]
        self._used.append(loan.place)

    def _place(self) -> tuple[mmap.mmap, int]:
        for free in (self._used, self._empty):  # the one used last is still in the processor's cache
            try:
                return free.pop()
            except IndexError:
                pass
        count = max(1, ARENA // self.size)
        arena = _mapped(count * self.size)
        try:
            arena.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            pass  # a kernel without huge pages
        self._empty.extend((arena, number * self.size) for number in range(1, count))
        return arena, 0


def _mapped(length: int) -> mmap.mmap:
    return mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
