"""Finishing what an earlier mount of the same source left in the journal.

Runs behind a mount that already answers. A file is sent under the same rules as any other; if
somebody changed the object meanwhile both are kept. A removal is repeated only if the object is
still the one that was to be removed.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass

import trio

from cosfs.errors import COSError, FilesystemError, NotFoundError
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.journal import Journal, Record
from cosfs.fs.rename import TreeMover
from cosfs.fs.staging import Staging

log = logging.getLogger(__name__)


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
    """Work off records of earlier mounts; what fails stays for the next time."""
    done = Recovered()
    for record in records:
        try:
            await _one(fs, record, done)
        except (COSError, OSError) as exc:
            done.left += 1
            log.error(
                "cos://%s/%s of an earlier mount is still not in COS: %s", record.bucket, record.key, exc
            )
    if records:
        log.warning(
            "an earlier mount left work: %d files sent, %d objects removed, %d directories moved, %d left",
            done.sent, done.removed, done.moved, done.left,
        )  # fmt: skip
    return done


async def _one(fs: Filesystem, record: Record, done: Recovered) -> None:
    if record.kind == "file":
        await _send_file(fs, record)
        done.sent += 1
    elif record.kind == "delete":
        await _remove(fs, record)
        done.removed += 1
    elif record.kind == "rename":
        await _move(fs, record)
        done.moved += 1
    fs.journal.remove(record.id)


async def _send_file(fs: Filesystem, record: Record) -> None:
    path = record.body["content"]["path"]
    if path and not await trio.Path(path).exists():
        raise FilesystemError(errno.EIO, f"its staging file {path} is missing")
    content = Staging.from_json(fs.journal.staging, record.body["content"])
    try:
        await fs.committer.send_recovered(record, content)
    except BaseException:
        content.close(keep=True)
        raise
    content.close()


async def _remove(fs: Filesystem, record: Record) -> None:
    client = fs.remote.client
    try:
        info = await fs.remote.metadata(client.head_object, record.bucket, record.key)
    except NotFoundError:
        return
    etag = record.body.get("etag", "")
    if info is not None and etag and info.etag != etag:
        log.warning("cos://%s/%s was written again since it was removed; it stays", record.bucket, record.key)
        return
    await fs.remote.change(client.delete_object, record.bucket, record.key)


async def _move(fs: Filesystem, record: Record) -> None:
    bucket, prefix = record.body["to"]
    mover = TreeMover(fs.remote, fs.engine)
    await mover.copy_all(record.bucket, record.key, bucket, prefix)
    for key, etag in mover.copied:
        fs.deleter.schedule(record.bucket, key, etag)
