"""Objects to local files: verified before they appear, in parallel when large."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import trio

from cosfs.client.model import ObjectInfo
from cosfs.errors import IntegrityError, PreconditionFailedError
from cosfs.transfer.engine import SMALL, Engine
from cosfs.transfer.landing import check, describe, put_in_place, sink_for
from cosfs.transfer.model import TransferResult
from cosfs.transfer.options import DEFAULTS, TransferOptions
from cosfs.transfer.paths import LocalTarget, plain_target
from cosfs.transfer.ranges import download_ranges
from cosfs.transfer.readahead import Writer, download_stream
from cosfs.transfer.receive import Source, receive
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
    return await download_ranges(engine, source, target, progress)


def is_small_object(engine: Engine, size: int) -> bool:
    """Whether an object is fetched with one request."""
    return size < engine.settings.multipart_threshold


# --- what is no regular file ---


def own_descriptor(path: str) -> int | None:
    """Return the open descriptor of this process that a path such as /dev/stdout stands for.

    What it leads to may be a regular file, but the name is a link of the system, not to be replaced.
    """
    ours = f"/proc/{os.getpid()}/fd/"
    for _ in range(8):  # links to links
        directory, name = os.path.split(path)
        place = os.path.join(os.path.realpath(directory), name)  # noqa: PTH118
        if place.startswith(ours) and name.isdecimal():
            return int(name)
        try:
            path = os.path.join(os.path.dirname(place), os.readlink(place))  # noqa: PTH115, PTH118, PTH120
        except OSError:
            return None
    return None


def _is_special(path: str) -> bool:
    if own_descriptor(path) is not None:
        return True
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


async def _download_special(
    engine: Engine, source: Source, path: str, progress: Progress | None
) -> TransferResult:
    own = own_descriptor(path)
    if own is not None:
        fd = os.dup(own)  # opened anew it would begin at the start of the file
    else:
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
            temporary = TemporaryFile(target, engine.traces)
            on_abandon(temporary.discard)
        try:
            with temporary.file as fd:
                got = receive(engine, source, 0, None, sink_for(source, fd), meter)
                if source.options.sparse:
                    os.ftruncate(fd, got.stop)  # a hole at the end
                verified = check(source, got.info, got.stop, got.crc64, fd)
            put_in_place(temporary, target, source, got.info)
            return describe(source, got.info, got.crc64, verified, attempt)
        except (IntegrityError, PreconditionFailedError) as error:
            meter.rewind()
            if attempt == 2:
                raise
            log.info("%s is downloaded again: %s", source, error)
        finally:
            temporary.discard()
            meter.flush()
    raise AssertionError("unreachable")
