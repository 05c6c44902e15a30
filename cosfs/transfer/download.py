"""Objects to local files and streams: verified before they appear, in parallel when large."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import trio

from cosfs.client.crc64 import crc64, crc64_combine
from cosfs.client.model import ObjectInfo
from cosfs.client.stream import ObjectStream
from cosfs.errors import IntegrityError, NetworkError, PreconditionFailedError
from cosfs.transfer import parts
from cosfs.transfer.engine import LARGE, SMALL, Engine, Flow, Pending
from cosfs.transfer.model import TransferResult
from cosfs.transfer.paths import LocalTarget, plain_target
from cosfs.transfer.scheduler import Queue
from cosfs.transfer.temporary import TemporaryFile
from cosfs.transfer.work import CHUNK, Meter, Progress, SharedFile, checkpoint, new_buffer, on_abandon, pause

__all__ = [
    "DownloadOptions",
    "Source",
    "Writer",
    "download_file",
    "download_stream",
    "fetch_file",
    "is_small_object",
]

log = logging.getLogger(__name__)

# A body that breaks off is continued; given up after so many times without a single byte.
_FRUITLESS_TRIES = 5


@dataclass(frozen=True, slots=True)
class Source:
    """What is downloaded; info is what a listing or a HEAD said about it, None if nobody asked."""

    bucket: str
    key: str
    info: ObjectInfo | None = None
    version_id: str = ""

    def __str__(self) -> str:
        return f"cos://{self.bucket}/{self.key}"


class Writer(Protocol):
    """A blocking binary stream such as sys.stdout.buffer."""

    def write(self, data: memoryview, /) -> int | None: ...


@dataclass(slots=True)
class _Received:
    """What one GET brought: the object it came from, where it ended, the checksum of its bytes."""

    info: ObjectInfo
    start: int
    stop: int
    crc64: int


class _Buffer(threading.local):
    """The piece a thread reads into; one a thread is all the memory downloads to files need."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(CHUNK))


_buffer = _Buffer()
Sink = Callable[[memoryview, int], None]  # bytes and their offset in the object


def _receive(
    engine: Engine,
    source: Source,
    start: int,
    stop: int | None,
    sink: Sink,
    meter: Meter,
    *,
    if_match: str = "",
) -> _Received:
    """GET bytes [start, stop) in a worker thread; a body that breaks off is continued where it did.

    What comes after a break is the same object, by If-Match, or PreconditionFailedError.
    """
    position, crc, tries = start, 0, 0
    info: ObjectInfo | None = None
    while True:
        before = position
        try:
            with engine.client.get_object(
                source.bucket,
                source.key,
                start=position,
                stop=stop,
                if_match=if_match,
                version_id=source.version_id,
            ) as stream:
                if info is None:
                    info = stream.info
                    if_match = info.etag
                view = _buffer.view
                while count := _fill(stream, view):
                    meter.before(count)
                    piece = view[:count]
                    sink(piece, position)
                    crc = crc64(piece, crc)
                    position += count
                    meter.add(count)
            return _Received(info, start, position, crc)
        except NetworkError as error:
            # Without an ETag nobody could tell whether the rest is of the same object.
            if not error.retryable or info is None or not info.etag:
                raise
            tries = 0 if position > before else tries + 1
            if tries >= _FRUITLESS_TRIES:
                raise
            if position >= min(info.size, info.size if stop is None else stop):
                return _Received(info, start, position, crc)
            log.info("%s: continued at byte %d: %s", source, position, error)
            pause(0.2 * tries)


def _fill(stream: ObjectStream, view: memoryview) -> int:
    """Read until view is full or the body ends: sockets deliver small pieces, each costs the same."""
    count = stream.read_into(view)
    while 0 < count < len(view):
        checkpoint()
        more = stream.read_into(view[count:])
        if not more:
            break
        count += more
    return count


def _write_to(fd: int) -> Sink:
    def write(piece: memoryview, position: int) -> None:
        while piece:
            count = os.pwrite(fd, piece, position)
            piece, position = piece[count:], position + count

    return write


def _verify(source: Source, info: ObjectInfo, size: int, crc: int, md5: Callable[[], str]) -> str:
    """Compare what arrived with what COS says it holds; return by what."""
    if size != info.size:
        raise IntegrityError(f"{source}: {size} bytes arrived instead of {info.size}")
    if info.crc64 is not None:
        if crc != info.crc64:
            raise IntegrityError(f"{source}: the checksum of what arrived is {crc}, COS has {info.crc64}")
        return "crc64"
    # No dash: the ETag of an object that was not made of parts is its MD5.
    if len(info.etag) == 32 and "-" not in info.etag:
        if md5() != info.etag.lower():
            raise IntegrityError(f"{source}: the MD5 of what arrived differs from the ETag")
        return "md5"
    return "size"


def _md5_of(fd: int) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    view = _buffer.view
    position = 0
    while count := os.preadv(fd, [view], position):
        checkpoint()
        md5.update(view[:count])
        position += count
    return md5.hexdigest()


# --- to a file ---


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """How the file is left: mtime of the object, and durable before it replaces another."""

    set_mtime: bool = True
    sync: bool = False


_DEFAULTS = DownloadOptions()


async def download_file(
    engine: Engine,
    bucket: str,
    key: str,
    path: Path | str | LocalTarget,
    *,
    info: ObjectInfo | None = None,
    version_id: str = "",
    progress: Progress | None = None,
    set_mtime: bool = True,
    sync: bool = False,
    part_size: int = 0,
) -> TransferResult:
    """Download an object of any size to a file; it appears, whole and verified, or not at all.

    info, if known, saves finding out the size; a path that is a FIFO or a device is streamed to.
    Missing directories are created. An object replaced meanwhile is begun again once.
    sync makes the file durable before it replaces an existing one.
    """
    target = path if isinstance(path, LocalTarget) else plain_target(path)
    source = Source(bucket, key, info, version_id)
    if target.root is None and await trio.to_thread.run_sync(_is_special, target.path):
        return await _download_special(engine, source, target.path, progress)
    options = DownloadOptions(set_mtime, sync)
    if info is not None and is_small_object(engine, info.size):
        return await engine.run(fetch_file, engine, source, target, progress, options, kind=SMALL)
    for attempt in (1, 2):
        moved = _Moved(progress)
        try:
            return await _download_ranges(engine, source, target, moved, options, part_size, attempt)
        except (IntegrityError, PreconditionFailedError) as error:
            moved.take_back()
            if attempt == 2:
                raise
            log.info("%s is downloaded again: %s", source, error)
            source = Source(bucket, key, None, version_id)
    raise AssertionError("unreachable")


class _Moved:
    """Progress that can be taken back as a whole."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._total = 0
        self._open = True

    def __call__(self, count: int) -> None:
        if not self._open:
            # From a thread that was given up.
            return
        self._total += count
        if self._progress is not None:
            self._progress(count)

    def take_back(self) -> None:
        self(-self._total)
        self._open = False


def is_small_object(engine: Engine, size: int) -> bool:
    """Whether an object is fetched with one request."""
    return size < engine.settings.multipart_threshold


def _is_special(path: str) -> bool:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


async def _download_special(
    engine: Engine, source: Source, path: str, progress: Progress | None
) -> TransferResult:
    # A FIFO without a reader: the thread that opens it cannot be interrupted, only left.
    fd = await trio.to_thread.run_sync(os.open, path, os.O_WRONLY | os.O_CLOEXEC, abandon_on_cancel=True)
    sink = _Special(fd)
    try:
        return await download_stream(
            engine,
            source.bucket,
            source.key,
            sink,
            info=source.info,
            version_id=source.version_id,
            progress=progress,
        )
    finally:
        sink.close()


class _Special:
    """A FIFO or a device that is written to; a write that was given up keeps it open until it ends."""

    def __init__(self, fd: int) -> None:
        self._file = SharedFile(fd)

    def write(self, data: memoryview, /) -> int:
        with self._file as fd:
            return os.write(fd, data)

    def close(self) -> None:
        self._file.close()


def fetch_file(
    engine: Engine,
    source: Source,
    target: LocalTarget,
    progress: Progress | None = None,
    options: DownloadOptions = _DEFAULTS,
) -> TransferResult:
    """Download a small object with one GET; blocking, for worker threads.

    What download_file does, for the many jobs of a recursive copy.
    """
    meter = Meter(engine, progress)
    for attempt in (1, 2):
        with engine.not_left():
            checkpoint()
            temporary = TemporaryFile(target)
            on_abandon(temporary.discard)
        try:
            with temporary.file as fd:
                got = _receive(engine, source, 0, None, _write_to(fd), meter)
                verified = _verify(source, got.info, got.stop, got.crc64, partial(_md5_of, fd))
            _commit(temporary, got.info, options)
            return _result(got.info, got.crc64, verified, attempt)
        except (IntegrityError, PreconditionFailedError) as error:
            meter.rewind()
            if attempt == 2:
                raise
            log.info("%s is downloaded again: %s", source, error)
        finally:
            temporary.discard()
            meter.flush()
    raise AssertionError("unreachable")


def _commit(temporary: TemporaryFile, info: ObjectInfo, options: DownloadOptions) -> None:
    temporary.commit(mtime=info.last_modified if options.set_mtime else 0.0, sync=options.sync)


def _result(info: ObjectInfo, crc: int, verified: str, attempt: int) -> TransferResult:
    return TransferResult(info.size, info.etag, crc, info.version_id, verified, attempt, info.last_modified)


async def _download_ranges(
    engine: Engine,
    source: Source,
    target: LocalTarget,
    moved: _Moved,
    options: DownloadOptions,
    configured: int,
    attempt: int,
) -> TransferResult:
    """Download one version of the object in ranges, many at once."""
    # Not cancellable, so that nobody loses the file that was created.
    temporary = await trio.to_thread.run_sync(TemporaryFile, target)
    try:
        info, known = source.info, 0
        pieces: dict[int, tuple[int, int]] = {}  # start -> crc64, length
        length = configured or engine.settings.multipart_chunksize
        if info is None:
            # The first range tells what there is; most objects end in it.
            first = await engine.run(_fetch_first, engine, source, temporary.file, length, moved, kind=SMALL)
            info, known = first.info, first.stop
            pieces[0] = first.crc64, first.stop
        await trio.to_thread.run_sync(temporary.allocate, info.size)
        fetch = partial(_fetch_range, engine, source, temporary.file, info.etag, moved)

        def keep(piece: tuple[int, int], got: _Received | None, error: Exception | None) -> None:
            nonlocal info
            if error is not None:
                raise error
            assert got is not None
            pieces[got.start] = got.crc64, got.stop - got.start
            # A listing does not tell the checksum of the object; every GET does.
            info = got.info

        async with Flow(engine, LARGE, keep, 2 * engine.limit) as flow:
            await flow.put_all(fetch, _ranges(known, info.size, parts.part_size(info.size, length)))
        finish = partial(_finish, source, info, pieces, temporary, options)
        crc, verified = await trio.to_thread.run_sync(finish)
        return _result(info, crc, verified, attempt)
    finally:
        temporary.discard()


def _ranges(start: int, stop: int, length: int) -> Iterator[tuple[int, int]]:
    for begin in range(start, stop, length):
        yield begin, min(begin + length, stop)


def _fetch_first(
    engine: Engine, source: Source, file: SharedFile, length: int, progress: Progress
) -> _Received:
    """GET the first length bytes of an object nobody knows anything about."""
    meter = Meter(engine, progress)
    with file as fd:
        got = _receive(engine, source, 0, length, _write_to(fd), meter)
    meter.flush()
    return got


def _fetch_range(
    engine: Engine, source: Source, file: SharedFile, etag: str, progress: Progress, piece: tuple[int, int]
) -> _Received:
    """GET one range into its place in the file."""
    start, stop = piece
    meter = Meter(engine, progress)
    with file as fd:
        got = _receive(engine, source, start, stop, _write_to(fd), meter, if_match=etag)
    meter.flush()
    if got.stop != stop:
        raise IntegrityError(f"{source}: bytes {got.stop} to {stop} did not arrive")
    return got


def _finish(
    source: Source,
    info: ObjectInfo,
    pieces: dict[int, tuple[int, int]],
    temporary: TemporaryFile,
    options: DownloadOptions,
) -> tuple[int, str]:
    """Verify the whole file and put it in its place."""
    crc = parts.combine_crc64(pieces[start] for start in sorted(pieces))
    size = sum(length for _, length in pieces.values())
    with temporary.file as fd:
        verified = _verify(source, info, size, crc, partial(_md5_of, fd))
    _commit(temporary, info, options)
    return crc, verified


# --- to a stream ---


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
) -> TransferResult:
    """Write bytes [start, stop) of an object to a blocking stream, in order, reading ahead.

    What is read ahead stays within the engine's memory budget. A whole object is verified at its end:
    an IntegrityError then means that wrong bytes are out already, its message says so. An object
    that is replaced meanwhile raises PreconditionFailedError.
    """
    source = Source(bucket, key, info, version_id)
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
    got: _Received


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
            got = _receive(self._engine, self._source, start, stop, keep, meter, if_match=etag)
            if got.stop != stop:
                raise IntegrityError(f"{self._source}: bytes {got.stop} to {stop} did not arrive")
        else:
            got = _receive(self._engine, self._source, start, stop, keep, meter)
        meter.flush()
        return _Piece(view[: got.stop - start], stop - start, got)

    def result(self) -> TransferResult:
        """Verify, if it was the whole object."""
        info = self._info
        if info is None:
            return TransferResult(0, verified="size")
        verified = "size"
        if self._size == info.size and info.crc64 is not None:
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
