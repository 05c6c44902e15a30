"""Finishing what an earlier mount of the same source left in the journal.

Runs behind a mount that already answers. A file is sent under the same rules as any other; if
somebody changed the object meanwhile both are kept. A removal is repeated only if the object is
still the one that was to be removed; a directory half moved goes on where it stopped.
"""

from __future__ import annotations

import errno
import itertools
import logging
from dataclasses import dataclass

import trio

from cosfs.client.model import Headers, ObjectInfo, Upload
from cosfs.errors import COSError, FilesystemError, NotFoundError, PreconditionFailedError
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.journal import Journal, Record
from cosfs.fs.records import headers_from_json
from cosfs.fs.rename import TreeMover
from cosfs.fs.sender import is_same
from cosfs.fs.staging import Staging

log = logging.getLogger(__name__)

RETRY_DELAYS = (2.0, 5.0, 15.0, 60.0)


@dataclass(slots=True)
class Recovered:
    """What recover() did with the records it found."""

    sent: int = 0
    removed: int = 0
    moved: int = 0
    left: int = 0


def left_over(journal: Journal) -> list[Record]:
    """The records of earlier mounts; staging files that none of them names are removed.

    To be called before anything is served: afterwards the journal has records of our own.
    """
    for path in journal.sweep():
        log.info("removed %s, a staging file of a file that nobody was promised", path)
    return journal.records()


async def recover(fs: Filesystem, records: list[Record]) -> Recovered:
    """Work off records of earlier mounts; what COS cannot take now is tried again until it can.

    What it refuses stays for the next time.
    """
    done = Recovered()
    for record in records:
        if record.kind == "delete":
            # All at once, before anybody can write these names anew.
            fs.deleter.adopt(record)
            done.removed += 1
    left = [record for record in records if record.kind != "delete"]
    for delay in itertools.chain(RETRY_DELAYS, itertools.repeat(RETRY_DELAYS[-1])):
        left = await _work_off(fs, left, done)
        if not left:
            break
        await trio.sleep(delay)
    if records:
        log.warning(
            "an earlier mount left work: %d files sent, %d objects removed, %d directories moved, %d left",
            done.sent, done.removed, done.moved, done.left,
        )  # fmt: skip
    return done


async def _work_off(fs: Filesystem, records: list[Record], done: Recovered) -> list[Record]:
    """Try each record once, in order; return those that are worth another try."""
    again = []
    for record in records:
        try:
            if record.kind == "file":
                await _send_file(fs, record)
                done.sent += 1
            elif record.kind == "upload":
                await _give_up(fs, record)
            elif record.kind == "rename":
                await _move(fs, record)
                done.moved += 1
        except (COSError, OSError) as exc:
            log.error(
                "cos://%s/%s of an earlier mount is still not in COS: %s", record.bucket, record.key, exc
            )
            if isinstance(exc, COSError) and exc.retryable:
                again.append(record)
            else:
                done.left += 1
    return again


async def _send_file(fs: Filesystem, record: Record) -> None:
    path = record.body["content"]["path"]
    if path and not await trio.Path(path).exists():
        raise FilesystemError(errno.EIO, f"its staging file {path} is missing")
    content = Staging.from_json(fs.journal.staging, record.body["content"])
    try:
        await _send(fs, record, content)
    except BaseException:
        content.close(keep=True)
        raise
    fs.journal.remove(record.id)  # first, or a crash here would leave a record without its bytes
    content.close()


async def _send(fs: Filesystem, record: Record, content: Staging) -> None:
    """Send a file that an earlier mount could not; both are kept if somebody was faster."""
    bucket, key, expected = record.bucket, record.key, record.body["expected"]
    headers = headers_from_json(record.body["headers"])
    if await fs.deleter.claim(bucket, key):
        expected = None  # removed before this was written
    found: ObjectInfo | None
    try:
        found = await fs.remote.metadata(fs.remote.client.head_object, bucket, key)
    except NotFoundError:
        found = None
    if found is not None and expected is not None and found.etag != expected:
        if not await is_same(content, headers, found):
            await fs.committer.conflicts.keep_recovered(bucket, key, content, headers)
    else:
        await _put(fs, bucket, key, content, headers)
    fs.tree.ask_again(bucket, key)
    for old_bucket, old_key, etag in record.body["obsolete"]:
        fs.deleter.schedule(old_bucket, old_key, etag, careful=True)


async def _put(fs: Filesystem, bucket: str, key: str, content: Staging, headers: Headers) -> None:
    sender = fs.committer.sender
    try:
        await sender.put_whole(bucket, key, content, headers, forbid=False)
    except (NotFoundError, PreconditionFailedError):
        if not await sender.is_gone(content.base):
            raise
        await fs.committer.conflicts.keep_recovered(bucket, key, content, headers)


async def _give_up(fs: Filesystem, record: Record) -> None:
    upload = Upload(record.bucket, record.key, record.body["upload_id"])
    await fs.remote.change(fs.remote.client.abort_upload, upload)
    fs.journal.remove(record.id)


async def _move(fs: Filesystem, record: Record) -> None:
    bucket, prefix = record.body["to"]
    mover = TreeMover(fs.remote, fs.engine, fs.committer, resume=True)
    await mover.copy_all(record.bucket, record.key, bucket, prefix)
    fs.deleter.schedule_all(record.bucket, mover.copied)
    fs.journal.remove(record.id)
    fs.tree.forget_all()
