"""Renaming, which object storage does not have: copy, then remove.

A file that COS does not have yet only changes its name here. A directory is copied object by
object under a journal record; if this process dies half-way, the next mount finishes it. If a
copy is refused, what was copied so far is removed again and the old tree is as it was.
"""

from __future__ import annotations

import errno
import itertools
import logging
import time
from collections.abc import Mapping
from dataclasses import replace

import trio

from cosfs.client.model import Headers, ObjectInfo, PutResult
from cosfs.errors import (
    COSError,
    FilesystemError,
    IntegrityError,
    PermissionDeniedError,
    ServiceError,
)
from cosfs.fs.commit import Committer
from cosfs.fs.deleter import Deleter
from cosfs.fs.fetcher import Source
from cosfs.fs.helpers import PROBE
from cosfs.fs.inodes import DirNode, FileNode, Node
from cosfs.fs.journal import Journal
from cosfs.fs.remote import Remote
from cosfs.fs.rights import Action, Rights
from cosfs.fs.sender import ONE_COPY_MAX
from cosfs.fs.tree import Tree
from cosfs.fs.treemover import TreeMover
from cosfs.transfer import attributes
from cosfs.transfer.copy import copy_object
from cosfs.transfer.engine import Engine

log = logging.getLogger(__name__)

SURE_DELAYS = (1.0, 2.0, 5.0, 10.0)  # until it is known whether a file was replaced
UNDO_WITHIN = 30.0  # seconds a failing rename waits until its copies are removed; then it goes on behind


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
        rights: Rights,
    ) -> None:
        self._tree = tree
        self._rights = rights
        self._remote = remote
        self._engine = engine
        self._committer = committer
        self._deleter = deleter
        self._journal = journal

    async def file(self, node: FileNode, parent: DirNode, name: bytes, component: str) -> None:
        """Give a file another name; an existing file of that name is replaced."""
        target = parent.children.get(name)
        if not isinstance(target, FileNode):
            with self._committer.about_to_go(node):
                async with node.lock:
                    await self._file(node, None, parent, name, component)
            return
        # A small file on its way to COS is replaced when it has arrived. Two renames into each other (the
        # kernel has given up the first after a timeout) take the locks in the same order.
        first, second = sorted((target, node), key=lambda each: each.ino)
        with self._committer.about_to_go(node), self._committer.about_to_go(target):
            async with first.lock, second.lock:
                await self._file(node, target, parent, name, component)

    async def _file(
        self, node: FileNode, target: FileNode | None, parent: DirNode, name: bytes, component: str
    ) -> None:
        if node.unlinked:
            raise FilesystemError(errno.ENOENT)  # while this waited
        bucket, key = parent.bucket, parent.child_key(component)
        old = (node.bucket, node.key)
        is_trusted = self._rights.is_trusted(Action.REMOVE, *old)
        if node.expected != "":
            await self._rights.ask_to_remove(*old)
        intent, before = 0, node.info
        if target is not None:
            await self._committer.stop(target)
        own = self._committer.leavings.came_back(node, bucket, key)
        held = not own and await self._committer.leavings.rescue(bucket, key)
        if not node.dirty:
            intent = await self._copy_with_intent(node, target, bucket, key)
            # Before the old object goes: there is no other copy then.
            await self._deleter.replaced_for_good(bucket, {key: node.info.etag if node.info else ""})
        place = node.parent, node.name, node.component
        with self._journal.together():
            if intent:
                assert before is not None
                self._arrived(node, old, before.etag, bucket)
                self._journal.remove(intent)
            else:
                self._leave(node, target, old, own=own, held=held)
            if target is not None:
                self._committer.drop(target)
                self._tree.remove(target)
                if target.opens:
                    self._committer.leavings.nameless(target)
                else:
                    self._committer.leavings.schedule_removal(target)
            self._tree.move(node, parent, name, component)
            self._committer.record(node)
            if intent and node.info is not None:
                self._tree.committed(node, node.info)
        if target is not None and not target.opens:
            self._committer.leavings.let_go_bytes(target)  # not before the journal leads to them no more
        if intent and not is_trusted:
            try:
                await self._deleter.heard(*old)
            except PermissionDeniedError as exc:
                if target is not None:
                    log.error("%s has replaced a file, and keeps its old name as well: %s", node.url, exc)
                self._return(node, *place, before, replaced=target is not None)
                raise

    def _return(
        self,
        node: FileNode,
        parent: DirNode | None,
        name: bytes,
        component: str,
        before: ObjectInfo | None,
        *,
        replaced: bool,
    ) -> None:
        """COS keeps the object of the old name: the file keeps that name, and its copy is to go.

        Not one that has replaced another file: with it the name would go as well.
        """
        copy, bucket, key, new_parent = node.info, node.bucket, node.key, node.parent
        assert parent is not None and new_parent is not None and before is not None and copy is not None
        with self._journal.together():
            if not replaced:
                self._deleter.schedule(bucket, key, copy.etag)
            new_name = node.name
            self._tree.move(node, parent, name, component)
            if replaced:
                new_parent.tombstones.pop(new_name, None)
                new_parent.listing = None
            node.expected = before.etag
            if node.cached_etag == copy.etag:
                node.cached_etag = before.etag
            self._rebase(node, (bucket, key), Source(node.bucket, before.key, before.etag, before.size))
            self._tree.committed(node, before)
            if copy.headers != before.headers:
                self._committer.attributes_changed(node)
            self._committer.record(node)

    def _arrived(self, node: FileNode, old: tuple[str, str], before: str, bucket: str) -> None:
        """The copy is there: the old object goes, and the file goes on with the new one."""
        info = node.info
        assert info is not None
        self._deleter.schedule(*old, before)
        self._deleter.replaced(bucket, info.key)
        node.expected = info.etag
        self._rebase(node, old, Source(bucket, info.key, info.etag, info.size))

    def _leave(
        self, node: FileNode, target: FileNode | None, old: tuple[str, str], *, own: str, held: bool
    ) -> None:
        """The bytes of a changed file go to the new name when they are sent; the old object after that."""
        if not self._committer.leavings.left_behind(node, *old):
            self._committer.leavings.remove_objects(node, *old)
        there = target.expected if target is not None else ""
        if target is not None and target.content is not None and node.content is not None:
            node.content.replacing += [*target.content.sending, *target.content.replacing]
        if own:
            node.expected = own
        elif there != "":
            node.expected = there
        else:
            node.expected = None if held else ""

    async def _copy_with_intent(self, node: FileNode, target: FileNode | None, bucket: str, key: str) -> int:
        """Copy a file's object; return the record of the journal that says it is being renamed."""
        assert node.info is not None
        etag = node.info.etag
        there = target.expected if target is not None else ""
        body = {"to": [bucket, key], "etag": etag, "there": there, "over": target is not None}
        intent = self._journal.add("move", node.bucket, node.key, body)
        try:
            await self._copy_surely(node, bucket, key, there)
        except trio.Cancelled:
            raise  # the mount ends; the next one sees whether the copy is there
        except BaseException as exc:
            with self._journal.together():
                if there == "" and getattr(exc, "retryable", False):
                    # The answer may be lost, and not the work.
                    self._deleter.schedule(bucket, key, etag, careful=True)
                self._journal.remove(intent)
            self._deleter.not_replaced(bucket, key)
            self._deleter.may_return((bucket, key))
            raise
        return intent

    async def _copy_surely(self, node: FileNode, bucket: str, key: str, there: str | None) -> None:
        """Copy the object; what replaces another one, of the etag there, goes on until it is known if it did.

        Otherwise the rename would have failed, and the file of the new name be gone all the same.
        """
        uncertain = False
        for delay in itertools.chain(SURE_DELAYS, itertools.repeat(SURE_DELAYS[-1])):
            try:
                await self._copy(node, bucket, key)
                return
            except COSError as exc:
                uncertain = uncertain or exc.uncertain
                if there == "" or not (uncertain and exc.may_pass):
                    raise
                if isinstance(exc, ServiceError) and await self._is_there(bucket, key, there):
                    raise
                log.info("whether cos://%s/%s was replaced is not known yet: %s", bucket, key, exc)
            await trio.sleep(delay)

    async def _is_there(self, bucket: str, key: str, etag: str | None) -> bool:
        """Whether an object surely is what it was."""
        try:
            found = await self._remote.metadata(self._remote.client.head_object, bucket, key)
        except COSError:
            return False
        return found is not None and found.etag == etag

    @staticmethod
    def _rebase(node: FileNode, old: tuple[str, str], new: Source) -> None:
        """An open file goes on with the bytes of the copy."""
        for content in (node.content, node.content.kept) if node.content is not None else ():
            if content.base is not None and (content.base.bucket, content.base.key) == old:
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
            async with self._committer.uploads.intent(bucket, key):
                done = await copy_object(
                    self._engine, from_bucket, info.key, bucket, key,
                    info=info, headers=headers, storage_class=info.storage_class,
                )  # fmt: skip
            return PutResult(done.etag, done.crc64, done.version_id)
        return await self._remote.small_change(
            self._remote.client.copy_object,
            bucket, key, from_bucket, info.key,
            if_match=info.etag, headers=headers, storage_class=info.storage_class, size=info.size,
            extra=_encryption(info, elsewhere=bucket != from_bucket),
        )  # fmt: skip

    async def directory(self, node: DirNode, parent: DirNode, name: bytes, component: str) -> None:
        """Move a directory and everything below it."""
        target = parent.children.get(name)
        if isinstance(target, DirNode) and not await self._tree.is_empty(target):
            raise FilesystemError(errno.ENOTEMPTY)
        bucket, prefix = node.bucket, node.prefix
        new_bucket, new_prefix = parent.bucket, parent.child_key(component) + "/"
        self._rights.check(Action.REMOVE, bucket, prefix)
        async with self._tree.moves.move(node):
            await self._rights.ask_to_remove(bucket, prefix + PROBE)
            if node.marker is None:
                # No object comes to stand for the new name: what is still to be removed there would hide it.
                await self._deleter.drain(new_bucket, new_prefix)
            body = {"to": [new_bucket, new_prefix], "over": target is not None}
            record = self._journal.add("rename", bucket, prefix, body)
            mover = TreeMover(self._remote, self._engine, self._committer)
            try:
                # Half of a directory under each name, and nobody who knows, is worse than some milliseconds.
                await trio.to_thread.run_sync(self._journal.sync)
                await mover.copy_all(bucket, prefix, new_bucket, new_prefix)
                await self._check_removal(bucket, mover)
                await self._deleter.replaced_for_good(new_bucket, mover.etags)
            except BaseException:
                with self._journal.together():
                    mover.undo(new_bucket, keep=new_prefix if target is not None else "")
                    self._journal.remove(record)
                with trio.move_on_after(UNDO_WITHIN, shield=True):
                    await self._deleter.drain(new_bucket, new_prefix)
                raise
            with self._journal.together():
                if isinstance(target, DirNode):
                    target.attrs_dirty = False
                    self._committer.record(target)
                    self._tree.remove(target)
                self._tree.move(node, parent, name, component)
                if isinstance(target, DirNode) and new_prefix not in mover.made:
                    self._committer.attributes_changed(node)  # COS still has those of the other there
                self._committer.record(node)
                for child in _below(node):
                    if isinstance(child, FileNode):
                        self._follow(child, mover, (bucket, prefix + child.key[len(new_prefix) :]))
                    elif isinstance(child, DirNode):
                        self._committer.record(child)
                self._tree.forget_below(node)
                for key in mover.made:
                    self._deleter.replaced(new_bucket, key)
                self._deleter.emptied.written(new_bucket, new_prefix)
                self._deleter.schedule_all(bucket, mover.moved(prefix))
                self._journal.remove(record)

    async def _check_removal(self, bucket: str, mover: TreeMover) -> None:
        """Have the first of the old objects removed before a directory is renamed, if that may be refused."""
        if mover.copied and not self._rights.is_trusted(Action.REMOVE, bucket, mover.copied[0][0]):
            await self._deleter.ask(bucket, *mover.copied[0])

    def _follow(self, child: FileNode, mover: TreeMover, old: tuple[str, str]) -> None:
        """Point a file below a moved directory at the copy of its object."""
        made = mover.made.get(child.key)
        if made is not None and child.expected == made.source_etag:
            child.expected = made.etag
            if child.info is not None and child.info.etag == made.source_etag:
                if child.cached_etag == child.info.etag:
                    child.cached_etag = made.etag
                child.info = replace(child.info, key=child.key, etag=made.etag)
                self._rebase(child, old, Source(child.bucket, child.key, made.etag, child.info.size))
        self._committer.record(child)


def _below(node: DirNode) -> list[Node]:
    found: list[Node] = []
    for child in node.children.values():
        found.append(child)
        if isinstance(child, DirNode):
            found.extend(_below(child))
    return found


def _encryption(info: ObjectInfo, *, elsewhere: bool) -> Mapping[str, str]:
    """What has COS encrypt a copy as the object is, where that is known: it does not do so by itself."""
    extra = info.headers.extra if info.headers is not None else {}
    # A key of KMS belongs to a region; without one COS takes that of the other.
    return {name: value for name, value in extra.items() if not (elsewhere and name.endswith("-kms-key-id"))}
