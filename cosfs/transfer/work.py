"""What functions that run in the engine's worker threads use: noticing that nobody waits, pacing, progress.

A cancelled call is abandoned: its caller goes on at once, the thread finds out at its next
`checkpoint` or when its request ends, which is not repeated. So whatever such a thread touches (a
descriptor, a temporary file) must stay its own until it is done.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from cosfs.client.body import Body, FileBody, body_length
from cosfs.client.crc64 import crc64
from cosfs.client.retry import GIVEN_UP
from cosfs.client.waiting import sleep

if TYPE_CHECKING:
    from cosfs.transfer.engine import Engine

__all__ = [
    "CHUNK",
    "Abandoned",
    "Meter",
    "MeteredFile",
    "Progress",
    "SharedFile",
    "checkpoint",
    "current",
    "metered",
    "new_buffer",
    "on_abandon",
    "pause",
]

# Bytes moved since the last call, always called in the trio thread; negative when a retry
# begins again from an earlier place.
Progress = Callable[[int], None]

CHUNK = 256 * 1024


class Abandoned(BaseException):
    """Nobody waits for this call any more; raised in worker threads only.

    Not an Exception, so that no handler on the way takes it for a failed request to repeat.
    """


class Current:
    """The call that is worked on here: each thread has its own, and each of many calls in one thread."""

    _undo: ContextVar[Callable[[Callable[[], None]], None] | None] = ContextVar("undo", default=None)

    @property
    def abandoned(self) -> Callable[[], bool] | None:
        return GIVEN_UP.get()

    @abandoned.setter
    def abandoned(self, value: Callable[[], bool] | None) -> None:
        GIVEN_UP.set(value)

    @property
    def undo(self) -> Callable[[Callable[[], None]], None] | None:
        return self._undo.get()

    @undo.setter
    def undo(self, value: Callable[[Callable[[], None]], None] | None) -> None:
        self._undo.set(value)


current = Current()


def checkpoint() -> None:
    """Raise Abandoned when the caller has given up."""
    abandoned = current.abandoned
    if abandoned is not None and abandoned():
        raise Abandoned


def on_abandon(undo: Callable[[], None]) -> None:
    """Have undo called at once, from the trio thread, when the caller gives up on this call.

    The process may end before this thread notices; undo is what must not wait for it. It must
    be quick, safe to call twice and beside the running call. Replaces the one given before.
    """
    setter = current.undo
    if setter is not None:
        setter(undo)


def pause(seconds: float) -> None:
    """Sleep in a worker thread; raise Abandoned when the caller gives up meanwhile."""
    end = time.monotonic() + seconds
    while (rest := end - time.monotonic()) > 0:
        checkpoint()
        sleep(min(rest, 0.1))


def new_buffer(size: int) -> memoryview:
    """Return memory that goes back to the system when the last view of it is gone.

    Not a bytearray: the C library keeps freed megabytes, for each of many threads.
    """
    return memoryview(mmap.mmap(-1, size)) if size else memoryview(bytearray())


class Meter:
    """Counts the bytes one call moves: keeps to the bandwidth, tells the progress.

    Used by one thread. Progress reaches the trio thread at most ten times a second.
    """

    __slots__ = ("_due", "_engine", "_pending", "_progress", "total")

    _INTERVAL = 0.1

    def __init__(self, engine: Engine, progress: Progress | None) -> None:
        self._engine = engine
        self._progress = progress
        self._pending = 0
        self._due = time.monotonic() + self._INTERVAL
        self.total = 0

    def before(self, count: int) -> None:
        """Wait until count bytes may be moved; raise Abandoned when nobody wants them any more."""
        wait = self._engine.bandwidth.take(count)
        if wait:
            pause(wait)
        else:
            checkpoint()

    def add(self, count: int) -> None:
        """Note that count bytes were moved."""
        self.total += count
        if self._progress is None:
            return
        self._pending += count
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._INTERVAL
            self.flush(wake=True)

    def rewind(self) -> None:
        """Take back all that was noted: it is moved again from the start."""
        if self.total:
            self.add(-self.total)

    def settle(self, count: int) -> None:
        """Note that all count bytes are moved, counted piece by piece or not."""
        self.add(count - self.total)
        self.flush()

    def flush(self, *, wake: bool = False) -> None:
        """Send what is noted on its way; without wake it arrives together with the call's result."""
        if self._pending and self._progress is not None:
            self._engine.post(self._progress, self._pending, wake=wake)
            self._pending = 0


class MeteredFile(FileBody):
    """A window of a file that counts its bytes while they are sent."""

    __slots__ = ("_meter",)

    def __init__(self, fd: int, offset: int, length: int, meter: Meter) -> None:
        super().__init__(fd, offset, length)
        self._meter = meter

    def windows(self, size: int) -> Iterator[tuple[int, int]] | None:
        """Cut the window into pieces; doing that again takes the progress back."""
        return self._windows(size)

    def _windows(self, size: int) -> Iterator[tuple[int, int]]:
        meter, end = self._meter, self.offset + self.length
        meter.rewind()
        for start in range(self.offset, end, size):
            count = min(size, end - start)
            meter.before(count)
            yield start, count
            meter.add(count)

    def chunks(self, size: int = CHUNK) -> Iterator[memoryview]:
        """Read the window from its start; reading it again takes the progress back."""
        meter = self._meter
        meter.rewind()
        for chunk in super().chunks(size):
            meter.before(len(chunk))
            yield chunk
            meter.add(len(chunk))


class SummedFile(MeteredFile):
    """A window of a file whose checksum is computed while it is sent."""

    __slots__ = ("_crc64",)

    def windows(self, size: int) -> None:
        """What is summed up has to be read."""

    def chunks(self, size: int = CHUNK) -> Iterator[memoryview]:
        """Read the window from its start, and sum it up anew."""
        self._crc64 = 0
        for chunk in super().chunks(size):
            self._crc64 = crc64(chunk, self._crc64)
            yield chunk

    def crc64(self) -> int:
        """Return the CRC-64/XZ of what was read last."""
        return self._crc64


def metered(body: Body, meter: Meter) -> Body:
    """Return body so that sending it is counted; what is in memory counts as one piece."""
    if isinstance(body, FileBody):
        return MeteredFile(body.fileno(), body.offset, body.length, meter)
    meter.before(body_length(body))
    return body


class SharedFile:
    """A descriptor used by several threads, closed when it is closed here and the last one is done.

    So no thread can touch a number that means another file by now.
    """

    __slots__ = ("_closing", "_fd", "_lock", "_users")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    def __enter__(self) -> int:
        with self._lock:
            if self._closing:
                raise Abandoned
            self._users += 1
            return self._fd

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            self._close_if_unused()

    def fileno(self) -> int:
        """Return the descriptor, for whoever is using it."""
        return self._fd

    def close(self) -> None:
        """Let nobody begin to use it; again is fine."""
        with self._lock:
            self._closing = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._closing and not self._users and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        # A job dropped from its queue never runs, and nobody else knows its descriptor.
        self.close()
