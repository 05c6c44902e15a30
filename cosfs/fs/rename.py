"""Renaming, which object storage does not have: copy, then remove.

A file that COS does not have yet only changes its name here. A directory is copied object by
object under a journal record; if this process dies half-way, the next mount finishes it. If a
copy is refused, what was copied so far is removed again and the old tree is as it was.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import trio

from cosfs.client.client import CosClient
from cosfs.client.model import Headers, ObjectId, ObjectInfo, PutResult
from cosfs.errors import COSError, FilesystemError, IntegrityError
from cosfs.fs import attributes, names
from cosfs.fs.background import together
from cosfs.fs.commit import ONE_COPY_MAX, Committer
from cosfs.fs.deleter import Deleter
from cosfs.fs.fetcher import Source
from cosfs.fs.inodes import DirNode, FileNode, Node
from cosfs.fs.journal import Journal
from cosfs.fs.remote import Remote
from cosfs.fs.tree import Tree
from cosfs.transfer.copy import copy_object
from cosfs.transfer.engine import Engine
from cosfs.transfer.model import TransferResult

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
        new = (parent.bucket, parent.child_key(component))
        if isinstance(target, FileNode):
            async with target.lock:  # a file on its way to COS is replaced when it has arrived
                await self._take_place(node, target, *new)
                await self._committer.drop(target)
                self._tree.remove(target)
                if not target.opens:
                    self._committer.abandon_former(target)
        else:
            await self._take_place(node, None, *new)
        self._tree.move(node, parent, name, component)
        if node.pending_id:
            self._committer.record(node)
        if not node.dirty and node.info is not None:
            info = replace(node.info, key=new[1])
            self._tree.committed(node, info)

    async def _take_place(self, node: FileNode, target: FileNode | None, bucket: str, key: str) -> None:
        """Bring a file's object under a new key; of a changed file only note what is to be done."""
        old = (node.bucket, node.key)
        async with node.lock:
            own = self._committer.came_back(node, bucket, key)
            held = await self._committer.rescue(bucket, key)
            if node.dirty:
                # The bytes go to the new name when they are sent; the old object goes after that.
                self._committer.left_behind(node, *old)
                there = target.info.etag if target is not None and target.info is not None else ""
                node.expected = own or there or (None if held else "")
                return
            assert node.info is not None
            await self._copy(node, bucket, key)
            self._deleter.schedule(*old, node.info.etag)
            node.expected = node.info.etag
            self._rebase(node, old, Source(bucket, key, node.info.etag, node.info.size))

    @staticmethod
    def _rebase(node: FileNode, old: tuple[str, str], new: Source) -> None:
        """An open file goes on with the bytes of the copy."""
        content = node.content
        if content is not None and content.base is not None:
            if (content.base.bucket, content.base.key) == old:
                content.base = new

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
        mover = TreeMover(self._remote, self._engine, lambda key: self._committer.is_former(bucket, key))
        try:
            await mover.copy_all(bucket, prefix, new_bucket, new_prefix)
        except BaseException:
            with trio.CancelScope(shield=True):
                await mover.undo(new_bucket)
            self._journal.remove(record)
            raise
        if isinstance(target, DirNode):
            self._tree.remove(target)
        self._tree.move(node, parent, name, component)
        for child in _below(node):
            if isinstance(child, FileNode):
                self._follow(child, mover, bucket, new_prefix + child.key[len(new_prefix) :])
        self._tree.forget_below(node)
        for key, etag in mover.copied:
            self._deleter.schedule(bucket, key, etag)
        # What was written below the old name while we copied has moved with its node, except
        # objects that reached COS in between.
        if not await self._deleter.drain(bucket, prefix):
            return  # the record stays: what is left under the old name moves with the next mount
        stragglers = TreeMover(self._remote, self._engine)
        await stragglers.copy_all(bucket, prefix, new_bucket, new_prefix)
        for key, etag in stragglers.copied:
            self._deleter.schedule(bucket, key, etag)
        self._journal.remove(record)

    def _follow(self, child: FileNode, mover: TreeMover, old_bucket: str, key: str) -> None:
        """Point a file below a moved directory at the copy of its object."""
        old_key = mover.sources.get(key, "")
        if not old_key or child.info is None or child.info.key != old_key:
            return
        etag = mover.etags[key]
        if child.cached_etag == child.info.etag:
            child.cached_etag = etag
        child.info = replace(child.info, key=key, etag=etag)
        child.expected = etag
        self._rebase(child, (old_bucket, old_key), Source(child.bucket, key, etag, child.info.size))

    async def _settle(self, node: DirNode) -> None:
        """Bring COS up to date below a directory before it is copied."""
        if not await self._deleter.drain(node.bucket, node.prefix):
            raise FilesystemError(errno.EIO, f"what was removed from {node.url} is still in COS")
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
    """Copies every object below one prefix to another; remembers what it did. leave(key) spares one."""

    def __init__(
        self, remote: Remote, engine: Engine, leave: Callable[[str], bool] = lambda key: False
    ) -> None:
        self._remote = remote
        self._engine = engine
        self._leave = leave
        self.copied: list[tuple[str, str]] = []  # source key, etag
        self.sources: dict[str, str] = {}  # by the new key
        self.etags: dict[str, str] = {}  # of the copies, by the new key

    async def copy_all(self, bucket: str, prefix: str, new_bucket: str, new_prefix: str) -> None:
        """Copy page by page; the first failure stops everything."""
        marker = ""
        slots = trio.CapacityLimiter(PARALLEL)
        while True:
            page = await self._remote.metadata(
                self._remote.client.list_objects, bucket, prefix=prefix, marker=marker
            )
            for info in page.objects:
                names.check_key(new_prefix + info.key[len(prefix) :])
            async with together() as nursery:
                for info in page.objects:
                    if self._leave(info.key):
                        continue
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
            made: TransferResult | PutResult
            if info.size > ONE_COPY_MAX:
                made = await copy_object(self._engine, bucket, info.key, new_bucket, new_key, info=None)
            else:
                made = await self._remote.change(
                    client.copy_object,
                    new_bucket, new_key, bucket, info.key,
                    if_match=info.etag, storage_class=info.storage_class,
                )  # fmt: skip
            self.sources[new_key] = info.key
            self.etags[new_key] = made.etag or info.etag
            self.copied.append((info.key, info.etag))

    async def undo(self, new_bucket: str) -> None:
        """Remove the copies made so far; the sources are still all there."""
        made = list(self.sources)
        for start in range(0, len(made), 1000):
            batch = [ObjectId(key) for key in made[start : start + 1000]]
            try:
                await self._remote.change(self._remote.client.delete_objects, new_bucket, batch)
            except COSError as exc:
                log.error("copies under a new name could not be removed again: %s", exc)
