"""Renaming, which object storage does not have: copy, then remove.

A file that COS does not have yet only changes its name here. A directory is copied object by
object under a journal record; if this process dies half-way, the next mount finishes it. If a
copy is refused, what was copied so far is removed again and the old tree is as it was.
"""

from __future__ import annotations

import errno
import logging
import time
from dataclasses import replace

import trio

from cosfs.client.client import CosClient
from cosfs.client.model import Headers, ObjectId, ObjectInfo, PutResult
from cosfs.errors import COSError, FilesystemError, IntegrityError
from cosfs.fs import attributes
from cosfs.fs.commit import ONE_COPY_MAX, Committer
from cosfs.fs.deleter import Deleter
from cosfs.fs.inodes import DirNode, FileNode, Node
from cosfs.fs.journal import Journal
from cosfs.fs.remote import Remote
from cosfs.fs.tree import Tree
from cosfs.transfer.copy import copy_object
from cosfs.transfer.engine import Engine

log = logging.getLogger(__name__)

PARALLEL = 32


class Renamer:
    """Moves files and directories, within a bucket and between buckets."""

    def __init__(
        self,
        tree: Tree,
        remote: Remote,
        engine: Engine,
        committer: Committer,
        deleter: Deleter,
        journal: Journal,
    ) -> None:
        self._tree = tree
        self._remote = remote
        self._engine = engine
        self._committer = committer
        self._deleter = deleter
        self._journal = journal

    async def file(self, node: FileNode, parent: DirNode, name: bytes, component: str) -> None:
        """Give a file another name; an existing file of that name is replaced."""
        target = parent.children.get(name)
        old = (node.bucket, node.key)
        new = (parent.bucket, parent.child_key(component))
        if isinstance(target, FileNode):
            await self._committer.rescue(*new)
            await self._committer.drop(target)
        async with node.lock:
            there = target.info.etag if isinstance(target, FileNode) and target.info is not None else ""
            if node.dirty:
                # The bytes go to the new name when they are sent; the old object goes after that.
                if node.info is not None:
                    node.obsolete.append((*old, node.info.etag))
                node.expected = there
            else:
                assert node.info is not None
                await self._copy(node, *new)
                self._deleter.schedule(*old, node.info.etag)
        if isinstance(target, FileNode):
            self._tree.remove(target)
        self._tree.move(node, parent, name, component)
        if node.pending_id:
            self._committer.record(node)
        if not node.dirty and node.info is not None:
            info = replace(node.info, key=new[1])
            self._tree.committed(node, info)

    async def _copy(self, node: FileNode, bucket: str, key: str) -> None:
        """Copy the object; changed attributes that were not sent yet go along."""
        info = node.info
        assert info is not None
        headers = None
        attrs = node.attrs
        if node.attrs_dirty:
            if info.headers is None:
                head = await self._remote.metadata(self._remote.client.head_object, node.bucket, node.key)
                info = head if head is not None else info
            headers = attributes.encode(attrs, info.headers)
        await self._deleter.claim(bucket, key)
        result = await self._copy_any(node.bucket, info, bucket, key, headers)
        if result.crc64 is not None and info.crc64 is not None and result.crc64 != info.crc64:
            raise IntegrityError(f"cos://{bucket}/{key} is not the same after it was copied from {node.url}")
        node.info = replace(
            info,
            key=key,
            etag=result.etag or info.etag,
            last_modified=result.last_modified or time.time(),
            version_id=result.version_id,
            headers=headers or info.headers,
        )
        if node.cached_etag == info.etag:
            node.cached_etag = node.info.etag
        node.attrs_dirty = node.attrs_dirty and node.attrs != attrs

    async def _copy_any(
        self, from_bucket: str, info: ObjectInfo, bucket: str, key: str, headers: Headers | None
    ) -> PutResult:
        if info.size > ONE_COPY_MAX:
            done = await copy_object(
                self._engine, from_bucket, info.key, bucket, key,
                info=info, headers=headers, storage_class=info.storage_class,
            )  # fmt: skip
            return PutResult(done.etag, done.crc64, done.version_id)
        return await self._remote.change(
            self._remote.client.copy_object,
            bucket, key, from_bucket, info.key,
            if_match=info.etag, headers=headers, storage_class=info.storage_class,
        )  # fmt: skip

    async def directory(self, node: DirNode, parent: DirNode, name: bytes, component: str) -> None:
        """Move a directory and everything below it."""
        target = parent.children.get(name)
        if isinstance(target, DirNode) and not await self._tree.is_empty(target):
            raise FilesystemError(errno.ENOTEMPTY)
        bucket, prefix = node.bucket, node.prefix
        new_bucket, new_prefix = parent.bucket, parent.child_key(component) + "/"
        await self._settle(node)
        record = self._journal.add("rename", bucket, prefix, {"to": [new_bucket, new_prefix]})
        mover = TreeMover(self._remote, self._engine)
        try:
            await mover.copy_all(bucket, prefix, new_bucket, new_prefix)
        except BaseException:
            with trio.CancelScope(shield=True):
                await mover.undo(new_bucket)
            self._journal.remove(record)
            raise
        if isinstance(target, DirNode):
            self._tree.remove(target)
        open_files = [n for n in _below(node) if isinstance(n, FileNode) and n.dirty]
        for child in open_files:
            if child.info is not None:
                child.expected = None  # its copy under the new name may have another etag
        self._tree.move(node, parent, name, component)
        self._tree.forget_below(node)
        for key, etag in mover.copied:
            self._deleter.schedule(bucket, key, etag)
        # What was written below the old name while we copied has moved with its node, except
        # objects that reached COS in between.
        await self._deleter.drain(bucket, prefix)
        stragglers = TreeMover(self._remote, self._engine)
        await stragglers.copy_all(bucket, prefix, new_bucket, new_prefix)
        for key, etag in stragglers.copied:
            self._deleter.schedule(bucket, key, etag)
        self._journal.remove(record)

    async def _settle(self, node: DirNode) -> None:
        """Bring COS up to date below a directory before it is copied."""
        await self._deleter.drain(node.bucket, node.prefix)
        await self._committer.flush_dir(node)
        for child in _below(node):
            if isinstance(child, DirNode):
                await self._committer.flush_dir(child)
            elif isinstance(child, FileNode) and child.changed and not child.opens:
                await self._committer.flush(child)


def _below(node: DirNode) -> list[Node]:
    found: list[Node] = []
    for child in node.children.values():
        found.append(child)
        if isinstance(child, DirNode):
            found.extend(_below(child))
    return found


class TreeMover:
    """Copies every object below one prefix to another; remembers what it did."""

    def __init__(self, remote: Remote, engine: Engine) -> None:
        self._remote = remote
        self._engine = engine
        self.copied: list[tuple[str, str]] = []  # source key, etag
        self._made: list[str] = []

    async def copy_all(self, bucket: str, prefix: str, new_bucket: str, new_prefix: str) -> None:
        """Copy page by page; the first failure stops everything."""
        marker = ""
        slots = trio.CapacityLimiter(PARALLEL)
        while True:
            page = await self._remote.metadata(
                self._remote.client.list_objects, bucket, prefix=prefix, marker=marker
            )
            async with trio.open_nursery(strict_exception_groups=False) as nursery:
                for info in page.objects:
                    new_key = new_prefix + info.key[len(prefix) :]
                    nursery.start_soon(self._one, slots, bucket, info, new_bucket, new_key)
            marker = page.next_marker
            if not marker:
                return

    async def _one(
        self, slots: trio.CapacityLimiter, bucket: str, info: ObjectInfo, new_bucket: str, new_key: str
    ) -> None:
        async with slots:
            client: CosClient = self._remote.client
            if info.size > ONE_COPY_MAX:
                await copy_object(self._engine, bucket, info.key, new_bucket, new_key, info=None)
            else:
                await self._remote.change(
                    client.copy_object,
                    new_bucket, new_key, bucket, info.key,
                    if_match=info.etag, storage_class=info.storage_class,
                )  # fmt: skip
            self._made.append(new_key)
            self.copied.append((info.key, info.etag))

    async def undo(self, new_bucket: str) -> None:
        """Remove the copies made so far; the sources are still all there."""
        for start in range(0, len(self._made), 1000):
            batch = [ObjectId(key) for key in self._made[start : start + 1000]]
            try:
                await self._remote.change(self._remote.client.delete_objects, new_bucket, batch)
            except COSError as exc:
                log.error("copies under a new name could not be removed again: %s", exc)
