"""A downloaded file, whole in its temporary place: checked, then put where it belongs."""

from __future__ import annotations

import os
from functools import partial

from cosfs.client.model import ObjectInfo
from cosfs.errors import IntegrityError, TransferError
from cosfs.transfer.model import TransferResult
from cosfs.transfer.paths import LocalTarget
from cosfs.transfer.preserve import is_link, link_is_inside
from cosfs.transfer.receive import Sink, Source, crc_of, md5_of, verify, write_sparse_to, write_to
from cosfs.transfer.temporary import TemporaryFile

__all__ = ["check", "describe", "put_in_place", "sink_for"]


def sink_for(source: Source, fd: int) -> Sink:
    """Return what takes the bytes of an object on their way into a new file."""
    return write_sparse_to(fd) if source.options.sparse else write_to(fd)


def check(source: Source, info: ObjectInfo, size: int, crc: int, fd: int) -> str:
    """Verify what arrived and, if asked to, what is in the file; return by what."""
    verified = verify(source, info, size, crc, partial(md5_of, fd))
    if source.options.verify == "full" and crc_of(fd, 0, size + 1) != crc:
        raise IntegrityError(f"{source}: what is in the file is not what was written to it")
    return verified


def put_in_place(temporary: TemporaryFile, target: LocalTarget, source: Source, info: ObjectInfo) -> None:
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


def describe(source: Source, info: ObjectInfo, crc: int, verified: str, attempt: int) -> TransferResult:
    """Return the result of a download."""
    known = info.crc64 if source.options.verify == "none" else crc
    return TransferResult(info.size, info.etag, known, info.version_id, verified, attempt, info.last_modified)
