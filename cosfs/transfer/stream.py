"""Streams of unknown length to COS: what a pipe delivers, in parts that grow with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import IO, Protocol

import trio

from cosfs.client.body import Body, FileBody, digest
from cosfs.client.model import Headers
from cosfs.transfer.engine import SMALL, Engine, open_nursery
from cosfs.transfer.model import TransferResult, upload_result
from cosfs.transfer.multipart import MultipartUpload
from cosfs.transfer.options import DEFAULTS, TransferOptions
from cosfs.transfer.parts import stream_part_size
from cosfs.transfer.work import Meter, Progress, metered, new_buffer

__all__ = ["Reader", "upload_stream"]

# A part larger than this share of the budget waits on disk for its checksum, not in memory.
_SPOOL_SHARE = 2
# Parts on disk that are sent at once, and the pieces in which they get there.
_SPOOLED_AT_ONCE = 3
_COPY_SIZE = 1024 * 1024


class Reader(Protocol):
    """A blocking binary stream such as sys.stdin.buffer."""

    def read(self, size: int, /) -> bytes | None: ...


class _Source:
    """Fills buffers from a blocking reader, in a thread that is left alone when cancelled."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._readinto: Callable[[memoryview], int | None] | None = getattr(reader, "readinto", None)

    async def fill(self, view: memoryview) -> int:
        """Read until view is full or the stream ends; return the count."""
        # Nobody can interrupt a read from a pipe: cancelled, the thread keeps its buffer and waits.
        return await trio.to_thread.run_sync(self._fill, view, abandon_on_cancel=True)

    def _fill(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view):
            count = self._read(view[filled:])
            if not count:
                break
            filled += count
        return filled

    def _read(self, view: memoryview) -> int:
        if self._readinto is not None:
            return self._readinto(view) or 0
        data = self._reader.read(len(view)) or b""
        view[: len(data)] = data
        return len(data)


class _Piece:
    """The bytes of one part: in memory, or on disk when they are many."""

    def __init__(
        self, engine: Engine, buffer: memoryview | None, spool: IO[bytes] | None, length: int
    ) -> None:
        self._engine = engine
        self._buffer = buffer
        self._spool = spool
        self.length = length

    @property
    def on_disk(self) -> bool:
        return self._spool is not None

    @property
    def body(self) -> Body:
        if self._spool is not None:
            return FileBody(self._spool.fileno(), 0, self.length)
        assert self._buffer is not None
        return self._buffer[: self.length]

    def release(self) -> None:
        """Give memory and disk back; again is fine."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        if self._buffer is not None:
            self._engine.buffers.release(len(self._buffer))
            self._buffer = None


class _Pieces:
    """Cuts a stream into parts, each read when there is room for it."""

    def __init__(self, engine: Engine, source: _Source) -> None:
        self._engine = engine
        self._source = source

    async def read(self, length: int) -> _Piece:
        """Return the next length bytes, fewer at the end of the stream."""
        if length <= self._engine.buffers.limit // _SPOOL_SHARE:
            return await self._into_memory(length)
        return await self._into_file(length)

    async def _into_memory(self, length: int) -> _Piece:
        await self._engine.buffers.acquire(length)
        piece = _Piece(self._engine, new_buffer(length), None, 0)
        try:
            assert piece._buffer is not None
            piece.length = await self._source.fill(piece._buffer)
        except BaseException:
            piece.release()
            raise
        return piece

    async def _into_file(self, length: int) -> _Piece:
        from tempfile import TemporaryFile

        spool = await trio.to_thread.run_sync(TemporaryFile)
        piece = _Piece(self._engine, None, spool, 0)
        try:
            while piece.length < length:
                async with self._engine.buffers.hold(_COPY_SIZE):
                    view = new_buffer(min(_COPY_SIZE, length - piece.length))
                    count = await self._source.fill(view)
                    await trio.to_thread.run_sync(_write_all, spool.fileno(), view[:count])
                piece.length += count
                if count < len(view):
                    break
        except BaseException:
            piece.release()
            raise
        return piece


def _write_all(fd: int, view: memoryview) -> None:
    while view:
        view = view[os.write(fd, view) :]


async def upload_stream(
    engine: Engine,
    stream: Reader,
    bucket: str,
    key: str,
    *,
    headers: Headers | None = None,
    expected_size: int = 0,
    progress: Progress | None = None,
    forbid_overwrite: bool = False,
    options: TransferOptions = DEFAULTS,
) -> TransferResult:
    """Upload what a stream delivers until it ends; nothing appears in COS before that.

    One PUT if it ends within the first part. Memory stays within the engine's budget however
    long it gets: parts grow with the stream, large ones wait on disk (TMPDIR) until they are sent.
    """
    headers = headers or Headers()
    first = stream_part_size(1, options.part_size or engine.settings.multipart_chunksize, expected_size)
    pieces = _Pieces(engine, _Source(stream))
    piece = await pieces.read(first)
    try:
        if piece.length < first and not piece.on_disk:
            put = partial(_put, engine, bucket, key, piece.body, headers, progress, forbid_overwrite, options)
            result = await engine.run(put, kind=SMALL)
            piece.release()
            return result
        upload = await MultipartUpload.create(engine, bucket, key, headers, forbid_overwrite, options)
    except BaseException:
        piece.release()
        raise
    async with upload:
        size = await _send_pieces(upload, pieces, piece, first, expected_size, progress)
        stored = await upload.complete()
    return upload_result(size, stored, upload.crc64(), 1)


async def _send_pieces(
    upload: MultipartUpload,
    pieces: _Pieces,
    piece: _Piece,
    first: int,
    expected_size: int,
    progress: Progress | None,
) -> int:
    """Send the first piece and all that follow; return how many bytes they were."""
    # Parts on disk do not count as memory: this keeps the disk from filling up.
    spooled = trio.CapacityLimiter(_SPOOLED_AT_ONCE)
    size, number = 0, 1
    async with open_nursery() as nursery:
        while True:
            size += piece.length
            length = piece.length
            await nursery.start(_send_piece, upload, number, piece, spooled, progress)
            if length < stream_part_size(number, first, expected_size):
                return size
            number += 1
            piece = await pieces.read(stream_part_size(number, first, expected_size))
            if not piece.length:
                piece.release()
                return size


async def _send_piece(
    upload: MultipartUpload,
    number: int,
    piece: _Piece,
    spooled: trio.CapacityLimiter,
    progress: Progress | None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    try:
        if piece.on_disk:
            async with spooled:
                task_status.started()
                await upload.send(number, piece.body, progress)
        else:
            task_status.started()
            await upload.send(number, piece.body, progress)
    finally:
        piece.release()


def _put(
    engine: Engine,
    bucket: str,
    key: str,
    body: Body,
    headers: Headers,
    progress: Progress | None,
    forbid_overwrite: bool,
    options: TransferOptions,
) -> TransferResult:
    """Send the whole stream in one request; in a worker thread."""
    meter = Meter(engine, progress)
    sums = digest(body)
    result = engine.client.put_object(
        bucket,
        key,
        metered(body, meter),
        headers=headers,
        content_md5=sums.md5,
        crc64=sums.crc64,
        forbid_overwrite=forbid_overwrite,
        extra=options.body_headers,
    )
    meter.settle(sums.length)
    return upload_result(sums.length, result, sums.crc64, 1)
