"""Renames that a crash left half done: finished, or undone if they cannot be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from cosfs.client.model import ObjectInfo
from cosfs.errors import COSError, NotFoundError
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.former import left_behind
from cosfs.fs.journal import Record
from cosfs.fs.salvage import Salvage
from cosfs.fs.treemover import Copied, TreeMover

log = logging.getLogger(__name__)

NODES = frozenset({"file", "open", "attributes"})  # records of what a name stands for


async def finish_file_rename(
    fs: Filesystem, record: Record, records: list[Record], salvage: Salvage
) -> list[Record]:
    """The copy may be there or not: if it is, the old object goes; if not, nothing has happened.

    Returns the other records: what was replaced has none any more, what was renamed has its new name.
    """
    others = [r for r in records if r.id != record.id]
    replaced: list[Record] = []
    target = record.body["to"]
    removed = await fs.deleter.claim(*target)  # which would take the copy along, were its bytes the same
    try:
        copy = await _find_copy(fs, record, salvage, removed=removed)
    except BaseException:
        fs.deleter.not_replaced(*target)
        raise
    if copy is None:
        fs.deleter.not_replaced(*target)
    else:
        await fs.deleter.replaced_for_good(target[0], {target[1]: copy.etag})
    with fs.journal.together():
        if copy is not None:
            fs.deleter.replaced(*target)
            fs.deleter.schedule(record.bucket, record.key, record.body["etag"], careful=True)
            replaced = [r for r in others if _is_replaced(r, record)]
            fs.journal.remove(*(r.id for r in replaced))
            others = [_follow_file(fs, r, record, copy) for r in others if r not in replaced]
        fs.journal.remove(record.id)
    if copy is not None:
        for gone in replaced:
            if name := Path(gone.body.get("content", {}).get("path", "")).name:
                fs.journal.retire(fs.journal.staging / name)
        fs.tree.ask_again(record.bucket, record.key)
        fs.tree.ask_again(*record.body["to"])
    return others


async def _find_copy(fs: Filesystem, record: Record, salvage: Salvage, *, removed: bool) -> ObjectInfo | None:
    """The object under the new name, if it is the copy. removed: another one was to be removed there."""
    bucket, key = record.body["to"]
    etag, before = record.body["etag"], record.body["there"]
    source = await _head(fs, record.bucket, record.key)
    if source is None or source.etag != etag:
        return None  # gone since, or somebody else's
    target = await _head(fs, bucket, key)
    another = removed or (target is not None and target.etag == before)
    if target is None or (another and not _same(source, target)):
        return None
    if not _same(source, target):
        salvage.note(
            record.bucket,
            record.key,
            f"was being renamed to cos://{bucket}/{key}, which somebody wrote since",
        )
        return None
    if another:
        # The same bytes as the file that it was to replace: the attributes may still be that one's.
        await fs.remote.change(
            fs.remote.client.copy_object,
            bucket, key, record.bucket, record.key,
            if_match=etag, storage_class=source.storage_class,
            extra=source.headers.extra if source.headers is not None else {},
        )  # fmt: skip
    return target


def _is_replaced(record: Record, rename: Record) -> bool:
    """Whether a record is of what had the new name before.

    It may have been closed, or changed in its mode, while it was being replaced.
    """
    if record.kind not in NODES or (record.bucket, record.key) != tuple(rename.body["to"]):
        return False
    return record.id < rename.id or bool(rename.body.get("over"))


def _follow_file(fs: Filesystem, record: Record, rename: Record, copy: ObjectInfo) -> Record:
    """A record of the file that was renamed, under its new name."""
    if record.kind not in NODES or (record.bucket, record.key) != (rename.bucket, rename.key):
        return record
    bucket, key = rename.body["to"]
    return _moved(fs, record, bucket, key, Copied(rename.body["etag"], copy.etag))


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
    others = [r for r in records if r.id != record.id]
    mover = TreeMover(fs.remote, fs.engine, fs.committer, resume=True, left=left_behind(others))
    try:
        await mover.copy_all(record.bucket, record.key, bucket, prefix)
        await fs.deleter.replaced_for_good(bucket, mover.etags)
    except COSError as exc:
        if exc.may_pass:
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
        replaced = [r for r in others if _is_replaced(r, record)]
        fs.journal.remove(*(r.id for r in replaced))
        moved = [_follow(fs, r, record, mover) for r in others if r not in replaced]
        for key in mover.made:
            fs.deleter.replaced(bucket, key)
        fs.deleter.emptied.written(bucket, prefix)
        fs.deleter.schedule_all(record.bucket, mover.moved(record.key))
        fs.journal.remove(record.id)
    for key in mover.stayed:
        salvage.note(
            record.bucket, key, f"was not renamed to below cos://{bucket}/{prefix}: there is another one"
        )
    fs.tree.forget_all()
    return moved


def _follow(fs: Filesystem, record: Record, rename: Record, mover: TreeMover) -> Record:
    """A record below the old name, under its new one."""
    if record.kind not in NODES or record.bucket != rename.bucket:
        return record
    if not record.key.startswith(rename.key):
        return record
    bucket, prefix = rename.body["to"]
    key = prefix + record.key[len(rename.key) :]
    return _moved(fs, record, bucket, key, mover.made.get(key))


def _moved(fs: Filesystem, record: Record, bucket: str, key: str, made: Copied | None) -> Record:
    """A record of a file under its new name, with what was made of its object."""
    body = _rebased(record.body, (record.bucket, record.key), (bucket, key), made)
    fs.journal.replace(record.id, record.kind, bucket, key, body)
    return Record(record.id, record.kind, bucket, key, body, record.written)


def _rebased(
    body: dict[str, Any], old: tuple[str, str], new: tuple[str, str], made: Copied | None
) -> dict[str, Any]:
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
