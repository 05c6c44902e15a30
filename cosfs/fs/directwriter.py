"""Writing past the kernel's page cache (O_DIRECT).

The kernel has the pages of what was read already; a second copy of them costs a page of memory and a copy
each, and takes memory from everybody. A slow disk is better off with the kernel between: it takes what comes
in bursts.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import time

from cosfs.fs.buffers import APART, Block

__all__ = ["PAGE", "DirectWriter"]

PAGE = 4096
FAST = 300 << 20  # bytes a second; a disk that takes fewer is left to the kernel
LOOKED_AT = 8  # writes, of which the fastest tells: in others the interpreter's lock was waited for
OFF_SECONDS = 60.0


class DirectWriter:
    """Writes large blocks in page-aligned memory. For one thread at a time."""

    def __init__(self) -> None:
        self._flag = getattr(os, "O_DIRECT", 0)
        self._head = mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._off_until = 0.0
        self._count = 0
        self._best = 0.0  # bytes a second

    def write(self, fd: int, head: bytes, data: Block) -> bool:
        """Write an empty file: a page and whole pages; False if that is left to the caller."""
        if not self._takes(head, data):
            return False
        began = time.monotonic()
        try:
            fcntl.fcntl(fd, fcntl.F_SETFL, self._flag)
            self._head[:] = head
            done = os.writev(fd, (self._head, data))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._flag = 0  # this filesystem cannot do it
            done = 0
        else:
            self._note_speed(done, time.monotonic() - began)
        if done != len(head) + len(data):
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            return False
        return True

    def _takes(self, head: bytes, data: Block) -> bool:
        if not self._flag or len(head) != PAGE or len(data) < APART or len(data) % PAGE:
            return False
        if not isinstance(data, memoryview) or data.readonly or time.monotonic() < self._off_until:
            return False
        return ctypes.addressof(ctypes.c_char.from_buffer(data)) % PAGE == 0

    def _note_speed(self, length: int, seconds: float) -> None:
        self._best = max(self._best, length / max(seconds, 1e-6))
        self._count += 1
        if self._count == LOOKED_AT:
            if self._best < FAST:
                self._off_until = time.monotonic() + OFF_SECONDS
            self._count, self._best = 0, 0.0
