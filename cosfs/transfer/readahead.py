"""Objects to streams: ranges fetched ahead of whoever reads them, in order, within the memory budget."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import trio

from cosfs.client.crc64 import crc64_combine
from cosfs.client.model import ObjectInfo
from cosfs.errors import IntegrityError
from cosfs.records import dataclass
from cosfs.transfer.engine import LARGE, Engine, Pending
from cosfs.transfer.model import TransferResult
from cosfs.transfer.options import DEFAULTS, TransferOptions
from cosfs.transfer.receive import Received, Source, receive
from cosfs.transfer.scheduler import Queue
from cosfs.transfer.work import CHUNK, Meter, Progress, new_buffer

__all__ = ["Writer", "download_stream"]


class Writer(Protocol):
    """A blocking binary stream such as sys.stdout.buffer."""

    def write(self, data: memoryview, /) -> int | None: ...


async def download_stream(
    engine: Engine,
    bucket: str,
    key: str,
    sink: Writer,
    *,
    start: int = 0,
    stop: int | None = None,
    info: ObjectInfo | None = None,
    version_id: str = "",
    progress: Progress | None = None,
    options: TransferOptions = DEFAULTS,
) -> TransferResult:
    """Write bytes [start, stop) of an object to a blocking stream, in order, reading ahead.

    What is read ahead stays within the engine's memory budget. A whole object is verified at its end:
    an IntegrityError then means that wrong bytes are out already, its message says so. An object
    that is replaced meanwhile raises PreconditionFailedError.
    """
    source = Source(bucket, key, info, version_id, options)
    reader = _ReadAhead(engine, source, start, stop, progress)
    try:
        await reader.open()
        while (piece := await reader.next()) is not None:
            # A write to a full pipe cannot be interrupted, only left behind.
            await trio.to_thread.run_sync(_write_out, sink, piece.view, abandon_on_cancel=True)
            reader.release(piece)
        return reader.result()
    finally:
        reader.close()


def _write_out(sink: Writer, view: memoryview) -> None:
    while view:
        count = sink.write(view)
        view = view[len(view) if count is None else count :]


@dataclass(slots=True)
class _Piece:
    """Bytes of a stream on their way; reserved is what they count for in the memory budget."""

    view: memoryview
    reserved: int
    got: Received


class _ReadAhead:
    """Fetches the ranges of a stream before they are asked for, as far as memory allows."""

    # The first piece is small: it shows soon, and tells the size of the object.
    _FIRST = 1024 * 1024

    def __init__(
        self, engine: Engine, source: Source, start: int, stop: int | None, progress: Progress | None
    ) -> None:
        self._engine = engine
        self._source = source
        self._start = start
        self._stop = stop
        self._progress = progress
        self._length = max(CHUNK, min(engine.settings.multipart_chunksize, engine.buffers.limit // 8))
        self._queue: Queue[Any] = Queue(LARGE)
        self._ahead: deque[Pending[_Piece]] = deque()
        self._reserved = 0
        self._first: _Piece | None = None
        self._info: ObjectInfo | None = source.info
        self._next = start
        self._end = start
        self._crc = 0
        self._size = 0

    async def open(self) -> None:
        """Fetch the first piece, from which the size of the object is known."""
        stop = self._start + self._FIRST
        if self._stop is not None:
            stop = min(stop, self._stop)
        if stop <= self._start:
            return
        await self._reserve(stop - self._start)
        self._first = await self._begin(self._start, stop, "").wait()
        self._info = self._first.got.info
        size = self._info.size
        self._end = size if self._stop is None else min(self._stop, size)
        self._next = self._first.got.stop

    async def next(self) -> _Piece | None:
        """Return the next bytes, None at the end; to be given back with release."""
        piece, self._first = self._first, None
        if piece is None:
            if not self._ahead:
                if self._next >= self._end:
                    return None
                length = min(self._length, self._end - self._next)
                await self._reserve(length)
                self._append(length)
            self._fill()
            piece = await self._ahead[0].wait()
            self._ahead.popleft()
        self._fill()
        self._crc = crc64_combine(self._crc, piece.got.crc64, len(piece.view))
        self._size += len(piece.view)
        return piece

    def release(self, piece: _Piece) -> None:
        """Give back the memory of bytes that are written."""
        self._engine.buffers.release(piece.reserved)
        self._reserved -= piece.reserved

    def _fill(self) -> None:
        while self._next < self._end and len(self._ahead) < self._engine.limit:
            length = min(self._length, self._end - self._next)
            if not self._engine.buffers.acquire_nowait(length):
                return
            self._reserved += length
            self._append(length)

    async def _reserve(self, length: int) -> None:
        await self._engine.buffers.acquire(length)
        self._reserved += length

    def _append(self, length: int) -> None:
        assert self._info is not None
        self._ahead.append(self._begin(self._next, self._next + length, self._info.etag))
        self._next += length

    def _begin(self, start: int, stop: int, etag: str) -> Pending[_Piece]:
        return self._engine.start(self._fetch, start, stop, etag, queue=self._queue)

    def _fetch(self, start: int, stop: int, etag: str) -> _Piece:
        """GET one range into memory; in a worker thread."""
        view = new_buffer(stop - start)

        def keep(piece: memoryview, position: int) -> None:
            view[position - start : position - start + len(piece)] = piece

        meter = Meter(self._engine, self._progress)
        if etag:
            got = receive(self._engine, self._source, start, stop, keep, meter, if_match=etag)
            if got.stop != stop:
                raise IntegrityError(f"{self._source}: bytes {got.stop} to {stop} did not arrive")
        else:
            got = receive(self._engine, self._source, start, stop, keep, meter)
        meter.flush()
        return _Piece(view[: got.stop - start], stop - start, got)

    def result(self) -> TransferResult:
        """Verify, if it was the whole object."""
        info = self._info
        if info is None:
            return TransferResult(0, verified="size")
        verified = "size"
        if self._size == info.size and info.crc64 is not None and self._source.options.verify != "none":
            if self._crc != info.crc64:
                raise IntegrityError(
                    f"{self._source}: the checksum of what was written is {self._crc}, COS has {info.crc64}",
                    hint="What was written out is damaged.",
                )
            verified = "crc64"
        return TransferResult(
            self._size, info.etag, self._crc, info.version_id, verified, 1, info.last_modified
        )

    def close(self) -> None:
        """Give up what was read ahead and its memory."""
        self._engine.abandon(self._queue)
        self._engine.buffers.release(self._reserved)
        self._reserved = 0
