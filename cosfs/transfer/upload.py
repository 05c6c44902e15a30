"""Local files to COS: one PUT, or parts many at once, verified either way."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import field
from pathlib import Path

import trio

from cosfs.client.body import Body, FileBody, digest
from cosfs.client.model import Headers
from cosfs.errors import COSError, IntegrityError, SourceChangedError, TransferError, UsageError
from cosfs.records import dataclass
from cosfs.transfer import parts
from cosfs.transfer.engine import SMALL, Engine
from cosfs.transfer.model import TransferResult, upload_result
from cosfs.transfer.multipart import MultipartUpload, as_damage, damaged_on_the_way
from cosfs.transfer.options import DEFAULTS, TransferOptions
from cosfs.transfer.preserve import with_attributes
from cosfs.transfer.reopen import as_state, begun_part_size, claim, held, open_upload, send_missing
from cosfs.transfer.resume import Record, State
from cosfs.transfer.stream import upload_stream
from cosfs.transfer.work import Meter, Progress, SharedFile, metered

__all__ = [
    "LargeFileError",
    "LocalFile",
    "MultipartUpload",
    "is_small",
    "open_regular",
    "send_file",
    "upload_file",
    "upload_stream",
]

log = logging.getLogger(__name__)

# Up to this a file is read into memory once instead of twice (checksums, then sending).
_IN_MEMORY = 1024 * 1024


class _AgainError(Exception):
    """The whole file is worth one more try; final is what to raise when that fails like this, too."""

    def __init__(self, final: COSError) -> None:
        super().__init__(str(final))
        self.final = final


class LargeFileError(Exception):
    """The file is too large for one request; upload_file sends it in parts."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """What is uploaded and where to; path is opened when its turn comes."""

    path: str
    bucket: str
    key: str
    headers: Headers = field(default_factory=Headers)
    forbid_overwrite: bool = False
    options: TransferOptions = DEFAULTS


def is_small(engine: Engine, size: int) -> bool:
    """Whether a file goes in one request."""
    return size < engine.settings.multipart_threshold and size <= parts.MAX_PART_SIZE


async def upload_file(
    engine: Engine,
    path: Path | str,
    bucket: str,
    key: str,
    *,
    headers: Headers | None = None,
    progress: Progress | None = None,
    forbid_overwrite: bool = False,
    options: TransferOptions = DEFAULTS,
) -> TransferResult:
    """Upload one regular file of any size; return once COS has it and the checksums agree.

    With options.preserve_symlinks path may be a link: then the link is uploaded. Cancelled or failed, it
    leaves no open upload. A file that changes while it is read is tried once more, then fails with
    TransferError.
    """
    file = LocalFile(os.fspath(path), bucket, key, headers or Headers(), forbid_overwrite, options)
    try:
        return await engine.run(send_file, engine, file, progress, kind=SMALL)
    except LargeFileError:
        pass
    for attempt in (1, 2):
        try:
            return await _send_parts(engine, file, progress, attempt)
        except _AgainError as error:
            _again(file, error, attempt)
    raise AssertionError("unreachable")


def _again(file: LocalFile, error: _AgainError, attempt: int) -> None:
    """Allow one more try, or raise why there is none."""
    if attempt > 1:
        raise error.final from error
    log.info("%r is uploaded again: %s", file.path, error.final)


def open_regular(path: str) -> int:
    """Open a regular file for reading; never wait for the other end of a pipe."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path}: is a directory", hint="Add --recursive to upload what is in it.")
    raise UsageError(f"{path}: is not a regular file", hint="Use - to upload what another program writes.")


def _check_unchanged(file: LocalFile, fd: int, before: os.stat_result) -> None:
    after = os.fstat(fd)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _AgainError(_changed(file))


def _changed(file: LocalFile) -> TransferError:
    return SourceChangedError(
        f"{file.path}: changed while it was uploaded",
        hint="Upload it again when nothing writes to it any more.",
    )


# --- one request ---


def send_file(engine: Engine, file: LocalFile, progress: Progress | None = None) -> TransferResult:
    """Upload a small file in one request; blocking, for worker threads.

    What upload_file does, for the many jobs of a recursive copy. Raises LargeFileError, before
    any request, for a file that does not fit.
    """
    meter = Meter(engine, progress)
    if file.options.preserve_symlinks and (status := os.lstat(file.path)) and stat.S_ISLNK(status.st_mode):
        return _put_link(engine, file, status, meter)
    for attempt in (1, 2):
        fd = open_regular(file.path)
        try:
            return _put(engine, file, fd, meter, attempt)
        except _AgainError as error:
            meter.rewind()
            _again(file, error, attempt)
        finally:
            os.close(fd)
            meter.flush()
    raise AssertionError("unreachable")


def _put_link(engine: Engine, file: LocalFile, status: os.stat_result, meter: Meter) -> TransferResult:
    """Upload a symbolic link: an object whose content is the target."""
    body = os.readlink(os.fsencode(file.path))  # noqa: PTH115 - bytes, as they are
    headers = with_attributes(file.headers, status)
    result = engine.client.put_object(
        file.bucket,
        file.key,
        body,
        headers=headers,
        forbid_overwrite=file.forbid_overwrite,
        extra=file.options.body_headers,
    )
    meter.settle(len(body))
    meter.flush()
    return upload_result(len(body), result, result.crc64, 1)


def _headers(file: LocalFile, status: os.stat_result) -> Headers:
    """Return the headers of the object, with the attributes of the file if they are to be kept."""
    return with_attributes(file.headers, status) if file.options.preserve else file.headers


def _confirm(engine: Engine, file: LocalFile, size: int, crc: int | None) -> None:
    """Ask COS what it holds and compare that with what was sent."""
    stored = engine.client.head_object(file.bucket, file.key, headers=file.options.key_headers)
    assert stored is not None
    if stored.size != size or (None not in (crc, stored.crc64) and stored.crc64 != crc):
        raise IntegrityError(f"cos://{file.bucket}/{file.key}: COS does not hold what was uploaded")


def _put(engine: Engine, file: LocalFile, fd: int, meter: Meter, attempt: int) -> TransferResult:
    before = os.fstat(fd)
    if not is_small(engine, before.st_size):
        raise LargeFileError
    body = _read(file, fd, before.st_size)
    try:
        sums = digest(body)
        _check_unchanged(file, fd, before)
        result = engine.client.put_object(
            file.bucket,
            file.key,
            metered(body, meter),
            headers=_headers(file, before),
            content_md5=sums.md5,
            crc64=sums.crc64,
            forbid_overwrite=file.forbid_overwrite,
            extra=file.options.body_headers,
        )
        if file.options.verify == "full":
            _confirm(engine, file, sums.length, sums.crc64)
    except IntegrityError as error:
        _check_unchanged(file, fd, before)
        raise _AgainError(error) from error
    except COSError as error:
        meter.rewind()
        if not damaged_on_the_way(error):
            raise
        # Most likely it is the file that was not the same twice.
        _check_unchanged(file, fd, before)
        raise as_damage(error) from error
    if isinstance(body, FileBody):
        _check_unchanged(file, fd, before)
    meter.settle(sums.length)
    return upload_result(sums.length, result, sums.crc64, attempt)


def _read(file: LocalFile, fd: int, size: int) -> Body:
    """Return the file's bytes, or a window of it when they are many."""
    if size > _IN_MEMORY:
        return FileBody(fd, 0, size)
    # Up to its end, not its size: files of /proc say 0 and hold something.
    data = os.read(fd, size + 1)
    while len(data) <= _IN_MEMORY and (more := os.read(fd, _IN_MEMORY)):
        data += more
    if len(data) > _IN_MEMORY:
        raise _AgainError(_changed(file))
    return data


# --- many requests ---


async def _send_parts(
    engine: Engine, file: LocalFile, progress: Progress | None, attempt: int
) -> TransferResult:
    fd = await trio.to_thread.run_sync(open_regular, file.path)
    shared = SharedFile(fd)
    source = os.path.abspath(file.path)  # noqa: PTH100, ASYNC240 - a name; nothing is looked at
    record: Record | None = None
    sent = 0

    def count(moved: int) -> None:
        nonlocal sent
        sent += moved
        if progress is not None and moved:
            progress(moved)

    try:
        before = os.fstat(fd)
        configured = file.options.part_size or engine.part_size(file.options.traffic_limit)
        length = parts.part_size(before.st_size, configured)
        record = await claim(
            engine, "upload", source, f"cos://{file.bucket}/{file.key}", before.st_size, file.options
        )
        length = begun_part_size(record, before.st_size, length)
        headers = _headers(file, before)
        wanted = State("upload", source, "", before.st_size, length, file.bucket, file.key)
        wanted.file = [before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns]
        wanted.headers = as_state(headers, forbid_overwrite=file.forbid_overwrite)
        upload = await open_upload(
            engine, record, wanted, headers, file.options, forbid_overwrite=file.forbid_overwrite
        )
        count(sum(part.size for part in upload.parts.values()))
        async with upload, held(engine, record, upload):
            pieces = parts.part_ranges(before.st_size, length)
            try:
                await send_missing(upload, record, upload.sender(shared, count), pieces)
            except IntegrityError:
                _check_unchanged(file, fd, before)
                raise
            _check_unchanged(file, fd, before)
            try:
                result = await upload.complete()
            except IntegrityError as error:
                raise _AgainError(error) from error
        if file.options.verify == "full":
            await engine.run(_confirm, engine, file, before.st_size, upload.crc64())
        return upload_result(before.st_size, result, upload.crc64(), attempt)
    except (_AgainError, IntegrityError):
        if progress is not None and sent:
            progress(-sent)
        raise
    finally:
        shared.close()
        if record is not None:
            record.release()
