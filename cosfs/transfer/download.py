"""Objects to local files: verified before they appear, in parallel when large."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trio

from cosfs.client.model import ObjectInfo
from cosfs.errors import IntegrityError, PreconditionFailedError, TransferError
from cosfs.transfer import parts
from cosfs.transfer.engine import LARGE, SMALL, Engine, Flow
from cosfs.transfer.model import TransferResult
from cosfs.transfer.options import DEFAULTS, TransferOptions
from cosfs.transfer.paths import LocalTarget, plain_target
from cosfs.transfer.preserve import is_link, link_is_inside
from cosfs.transfer.readahead import Writer, download_stream
from cosfs.transfer.receive import (
    Received,
    Sink,
    Source,
    crc_of,
    md5_of,
    receive,
    verify,
    write_sparse_to,
    write_to,
)
from cosfs.transfer.temporary import TemporaryFile
from cosfs.transfer.work import Meter, Progress, SharedFile, checkpoint, on_abandon

__all__ = [
    "Source",
    "Writer",
    "download_file",
    "download_stream",
    "fetch_file",
    "is_small_object",
]

log = logging.getLogger(__name__)


async def download_file(
    engine: Engine,
    bucket: str,
    key: str,
    path: Path | str | LocalTarget,
    *,
    info: ObjectInfo | None = None,
    version_id: str = "",
    progress: Progress | None = None,
    options: TransferOptions = DEFAULTS,
) -> TransferResult:
    """Download an object of any size to a file; it appears, whole and verified, or not at all.

    info, if known, saves finding out the size; a path that is a FIFO or a device is streamed to.
    Missing directories are created. An object replaced meanwhile is begun again once.
    """
    target = path if isinstance(path, LocalTarget) else plain_target(path)
    source = Source(bucket, key, info, version_id, options)
    if target.root is None and await trio.to_thread.run_sync(_is_special, target.path):
        return await _download_special(engine, source, target.path, progress)
    if info is not None and is_small_object(engine, info.size):
        return await engine.run(fetch_file, engine, source, target, progress, kind=SMALL)
    for attempt in (1, 2):
        moved = _Moved(progress)
        try:
            return await _download_ranges(engine, source, target, moved, attempt)
        except (IntegrityError, PreconditionFailedError) as error:
            moved.take_back()
            if attempt == 2:
                raise
            log.info("%s is downloaded again: %s", source, error)
            source = Source(bucket, key, None, version_id, options)
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


# --- what is no regular file ---


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
            options=source.options,
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


# --- one request ---


def fetch_file(
    engine: Engine, source: Source, target: LocalTarget, progress: Progress | None = None
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
                got = receive(engine, source, 0, None, _sink(source, fd), meter)
                verified = _check(source, got.info, got.stop, got.crc64, fd)
            _commit(temporary, target, source, got.info)
            return _result(source, got.info, got.crc64, verified, attempt)
        except (IntegrityError, PreconditionFailedError) as error:
            meter.rewind()
            if attempt == 2:
                raise
            log.info("%s is downloaded again: %s", source, error)
        finally:
            temporary.discard()
            meter.flush()
    raise AssertionError("unreachable")


def _sink(source: Source, fd: int) -> Sink:
    return write_sparse_to(fd) if source.options.sparse else write_to(fd)


def _check(source: Source, info: ObjectInfo, size: int, crc: int, fd: int) -> str:
    """Verify what arrived and, if asked to, what is in the file; return by what."""
    if source.options.sparse:
        os.ftruncate(fd, size)  # a hole at the end
    verified = verify(source, info, size, crc, partial(md5_of, fd))
    if source.options.verify == "full" and crc_of(fd, 0, size + 1) != crc:
        raise IntegrityError(f"{source}: what is in the file is not what was written to it")
    return verified


def _commit(temporary: TemporaryFile, target: LocalTarget, source: Source, info: ObjectInfo) -> None:
    """Put the file, or the link it stands for, in its place."""
    options = source.options
    if options.preserve_symlinks and is_link(info):
        with temporary.file as fd:
            link = os.pread(fd, info.size, 0)
        if not link_is_inside(max(0, len(target.components) - 1), link):
            raise TransferError(
                f"{target.path}: this link leads out of the destination, to {os.fsdecode(link)!r}",
                hint="Without --preserve-symlinks it becomes a file that holds the target.",
            )
        temporary.commit_link(link)
        return
    temporary.commit(info, options)


def _result(source: Source, info: ObjectInfo, crc: int, verified: str, attempt: int) -> TransferResult:
    known = info.crc64 if source.options.verify == "none" else crc
    return TransferResult(info.size, info.etag, known, info.version_id, verified, attempt, info.last_modified)


# --- many requests ---


async def _download_ranges(
    engine: Engine, source: Source, target: LocalTarget, moved: _Moved, attempt: int
) -> TransferResult:
    """Download one version of the object in ranges, many at once."""
    # Not cancellable, so that nobody loses the file that was created.
    temporary = await trio.to_thread.run_sync(TemporaryFile, target)
    try:
        info, known = source.info, 0
        pieces: dict[int, tuple[int, int]] = {}  # start -> crc64, length
        length = source.options.part_size or engine.settings.multipart_chunksize
        if info is None:
            # The first range tells what there is; most objects end in it.
            first = await engine.run(_fetch_first, engine, source, temporary.file, length, moved, kind=SMALL)
            info, known = first.info, first.stop
            pieces[0] = first.crc64, first.stop
        if not source.options.sparse:
            await trio.to_thread.run_sync(temporary.allocate, info.size)
        fetch = partial(_fetch_range, engine, source, temporary.file, info.etag, moved)

        def keep(piece: tuple[int, int], got: Received | None, error: Exception | None) -> None:
            nonlocal info
            if error is not None:
                raise error
            assert got is not None
            pieces[got.start] = got.crc64, got.stop - got.start
            # A listing does not tell the checksum of the object; every GET does.
            info = got.info

        async with Flow(engine, LARGE, keep, 2 * engine.limit) as flow:
            await flow.put_all(fetch, _ranges(known, info.size, parts.part_size(info.size, length)))
        finish = partial(_finish, source, info, pieces, temporary, target)
        crc, verified = await trio.to_thread.run_sync(finish)
        return _result(source, info, crc, verified, attempt)
    finally:
        temporary.discard()


def _ranges(start: int, stop: int, length: int) -> Iterator[tuple[int, int]]:
    for begin in range(start, stop, length):
        yield begin, min(begin + length, stop)


def _fetch_first(
    engine: Engine, source: Source, file: SharedFile, length: int, progress: Progress
) -> Received:
    """GET the first length bytes of an object nobody knows anything about."""
    meter = Meter(engine, progress)
    with file as fd:
        got = receive(engine, source, 0, length, _sink(source, fd), meter)
    meter.flush()
    return got


def _fetch_range(
    engine: Engine, source: Source, file: SharedFile, etag: str, progress: Progress, piece: tuple[int, int]
) -> Received:
    """GET one range into its place in the file."""
    start, stop = piece
    meter = Meter(engine, progress)
    with file as fd:
        got = receive(engine, source, start, stop, _sink(source, fd), meter, if_match=etag)
    meter.flush()
    if got.stop != stop:
        raise IntegrityError(f"{source}: bytes {got.stop} to {stop} did not arrive")
    return got


def _finish(
    source: Source,
    info: ObjectInfo,
    pieces: dict[int, tuple[int, int]],
    temporary: TemporaryFile,
    target: LocalTarget,
) -> tuple[int, str]:
    """Verify the whole file and put it in its place."""
    crc = parts.combine_crc64(pieces[start] for start in sorted(pieces))
    size = sum(length for _, length in pieces.values())
    with temporary.file as fd:
        verified = _check(source, info, size, crc, fd)
    _commit(temporary, target, source, info)
    return crc, verified
