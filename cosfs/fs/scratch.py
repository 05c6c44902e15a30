"""Where the bytes of a changed file are: a file in the cache directory, or memory while they are few.

Most files are small, written once and sent at once. Making and removing a file for each of them
costs more than everything else that is done for them here.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from math import inf
from pathlib import Path
from time import monotonic

from cosfs.errors import FilesystemError
from cosfs.transfer.receive import WRITE_PIECE

__all__ = ["MEMORY_MAX", "Scratch", "pwrite_all", "pwrite_until", "remove_file"]

MEMORY_MAX = 64 * 1024  # bytes; what needs more goes into a file


def descriptors_at_hand() -> int:
    """How many descriptors this process may have open before those of files that wait are closed."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def remove_file(path: Path) -> None:
    path.unlink(missing_ok=True)


class Scratch:
    """Bytes by offset, zeros where nothing was written. The file is made when it is first needed."""

    __slots__ = ("_closed", "_directory", "_fd", "_memory", "_path")

    def __init__(self, directory: Path, path: Path | None = None) -> None:
        self._directory = directory
        self._path = path
        self._fd = -1
        self._closed = False
        self._memory: bytearray | None = bytearray() if path is None else None

    @property
    def path(self) -> Path | None:
        """The file, if there is one."""
        return self._path

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def memory(self) -> bytes | None:
        """The bytes, if they are in memory."""
        return bytes(self._memory) if self._memory is not None else None

    def fits(self, stop: int) -> bool:
        """Whether bytes up to stop can be put without touching the disk."""
        return self._memory is not None and stop <= MEMORY_MAX

    def fileno(self) -> int:
        """The file's descriptor; what was in memory is in the file from now on."""
        self._check_open()
        if self._fd >= 0:
            return self._fd
        if self._path is not None:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            return self._fd
        # Files of an earlier mount may be there, made by a process of the same number.
        path = self._directory / f"{os.urandom(8).hex()}.data"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if self._memory:
            try:
                pwrite_all(fd, self._memory, 0)
            except BaseException:
                os.close(fd)
                path.unlink(missing_ok=True)
                raise
        self._fd, self._path, self._memory = fd, path, None
        return fd

    def put(self, data: bytes | memoryview, offset: int) -> None:
        """Write; OSError leaves everything as it was."""
        self._check_open()
        stop = offset + len(data)
        memory = self._memory
        if memory is None or stop > MEMORY_MAX:
            pwrite_all(self.fileno(), data, offset)
            return
        if len(memory) < offset:
            memory.extend(bytes(offset - len(memory)))
        memory[offset:stop] = data

    def get(self, length: int, offset: int) -> bytes:
        """Read; beyond the end are zeros."""
        if self._memory is not None:
            self._check_open()
            data = bytes(self._memory[offset : offset + length])
        else:
            data = os.pread(self.fileno(), length, offset)
        return data if len(data) == length else data + bytes(length - len(data))

    def truncate(self, size: int) -> None:
        """Cut what is beyond size."""
        if self._memory is not None:
            del self._memory[size:]
        else:
            os.ftruncate(self.fileno(), size)

    def cut(self, size: int) -> None:
        """Cut what an earlier process has left beyond size, if anything is there at all."""
        if self._memory is not None:
            del self._memory[size:]
        elif self._path is not None and self._path.exists() and self._path.stat().st_size > size:
            os.truncate(self._path, size)

    def share(self) -> Scratch:
        """Return the same bytes under another owner: the same file, or a copy of the memory."""
        other = Scratch(self._directory, self._path)
        if self._memory is not None:
            other._memory = self._memory.copy()
        return other

    @property
    def is_one_of_many(self) -> bool:
        """Whether the file is open, and so many are that it should not be."""
        # The kernel gives the lowest number that is free, so the number says how many are open.
        return self._path is not None and self._fd >= descriptors_at_hand()

    def rest(self) -> None:
        """Close the descriptor if many are open; the next use opens the file again.

        Else it stays open: the bytes then get to COS even if somebody removes the directory.
        """
        if self.is_one_of_many:
            os.close(self._fd)
            self._fd = -1

    def close(self, *, keep: bool = False, remove: Callable[[Path], None] = remove_file) -> None:
        """Let go of everything; keep leaves the file on disk, else remove is called with it."""
        self._closed = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if not keep and self._path is not None:
            remove(self._path)
            self._path = None

    def _check_open(self) -> None:
        if self._closed:
            # A new file in its place would be full of zeros.
            raise FilesystemError(errno.ESTALE, "what was written here is no longer part of the file")


def pwrite_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all bytes at an offset."""
    pwrite_until(inf, fd, data, offset)


def pwrite_until(end: float, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
    """Write at an offset until all is written or it is time; return how many bytes were.

    They go in pieces for which the kernel has memory at hand.
    """
    view = memoryview(data)
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done : done + WRITE_PIECE], offset + done)
        if monotonic() > end:
            break
    return done
