"""Renames that a crash left half done: finished, or undone if they cannot be."""

from __future__ import annotations

import logging
from typing import Any

from cosfs.client.model import ObjectInfo
from cosfs.errors import COSError, NotFoundError
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.journal import Record
from cosfs.fs.rename import TreeMover
from cosfs.fs.salvage import Salvage

log = logging.getLogger(__name__)


async def finish_file_rename(fs: Filesystem, record: Record, salvage: Salvage) -> None:
    """The copy may be there or not: if it is, the old object goes; if not, nothing has happened."""
    bucket, key = record.body["to"]
    etag, before = record.body["etag"], record.body["there"]
    source = await _head(fs, record.bucket, record.key)
    if source is None or source.etag != etag:
        return  # gone since, or somebody else's
    target = await _head(fs, bucket, key)
    if target is None or (target.etag == before and not _same(source, target)):
        return
    if not _same(source, target):
        salvage.note(
            record.bucket,
            record.key,
            f"was being renamed to cos://{bucket}/{key}, which somebody wrote since",
        )
        return
    if target.etag == before:
        # The same bytes as the file that it was to replace: the attributes may still be that one's.
        await fs.remote.change(
            fs.remote.client.copy_object,
            bucket, key, record.bucket, record.key,
            if_match=etag, storage_class=source.storage_class,
        )  # fmt: skip
    fs.deleter.schedule(record.bucket, record.key, etag, careful=True)
    fs.tree.ask_again(record.bucket, record.key)
    fs.tree.ask_again(bucket, key)


async def _head(fs: Filesystem, bucket: str, key: str) -> ObjectInfo | None:
    try:
        return await fs.remote.metadata(fs.remote.client.head_object, bucket, key)
    except NotFoundError:
        return None


def _same(one: ObjectInfo, other: ObjectInfo) -> bool:
    if one.crc64 is None or other.crc64 is None:
        return one.etag == other.etag and one.size == other.size
    return (one.size, one.crc64) == (other.size, other.crc64)


async def finish_tree_rename(
    fs: Filesystem, record: Record, records: list[Record], salvage: Salvage
) -> list[Record]:
    """Move the rest of a directory; returns the other records, those below it under their new keys.

    If COS refuses to, what was copied is removed again, and the old directory is as it was.
    """
    bucket, prefix = record.body["to"]
    mover = TreeMover(fs.remote, fs.engine, fs.committer, resume=True)
    others = [r for r in records if r.id != record.id]
    try:
        await mover.copy_all(record.bucket, record.key, bucket, prefix)
    except COSError as exc:
        if exc.retryable:
            raise
        await mover.find_copies(record.bucket, record.key, bucket, prefix)
        with fs.journal.together():
            mover.undo(bucket)
            fs.journal.remove(record.id)
        why = f"could not be renamed to cos://{bucket}/{prefix} as it was begun, and keeps its name: {exc}"
        salvage.note(record.bucket, record.key, why)
        fs.tree.forget_all()
        return others
    with fs.journal.together():
        moved = [_follow(fs, r, record, mover) for r in others]
        for key in mover.made:
            fs.deleter.replaced(bucket, key)
        fs.deleter.schedule_all(record.bucket, mover.copied)
        fs.journal.remove(record.id)
    for key in mover.stayed:
        salvage.note(
            record.bucket, key, f"was not renamed to below cos://{bucket}/{prefix}: there is another one"
        )
    fs.tree.forget_all()
    return moved


def _follow(fs: Filesystem, record: Record, rename: Record, mover: TreeMover) -> Record:
    """A record below the old name, under its new one."""
    if record.kind not in ("file", "open", "attributes") or record.bucket != rename.bucket:
        return record
    if not record.key.startswith(rename.key):
        return record
    bucket, prefix = rename.body["to"]
    key = prefix + record.key[len(rename.key) :]
    body = _rebased(record.body, (record.bucket, record.key), (bucket, key), mover)
    fs.journal.replace(record.id, record.kind, bucket, key, body)
    return Record(record.id, record.kind, bucket, key, body, record.written)


def _rebased(
    body: dict[str, Any], old: tuple[str, str], new: tuple[str, str], mover: TreeMover
) -> dict[str, Any]:
    made = mover.made.get(new[1])
    if made is None:
        return body
    body = dict(body)
    for name in ("expected", "etag"):
        if body.get(name) == made.source_etag:
            body[name] = made.etag
    content = body.get("content")
    if content is not None and content["base"] is not None and tuple(content["base"][:2]) == old:
        base = [*new, made.etag, content["base"][3]]
        body["content"] = {**content, "base": base}
    return body
