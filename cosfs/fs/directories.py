"""Directories: reading, making and removing them; a bucket is one at the root of all buckets."""

from __future__ import annotations

import errno
import logging
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from cosfs.client.model import Headers, ObjectInfo
from cosfs.errors import (
    AlreadyExistsError,
    BucketNotEmptyError,
    COSError,
    FilesystemError,
    PermissionDeniedError,
)
from cosfs.fs import names
from cosfs.fs.calls import Caller, Calls, DirHandle
from cosfs.fs.inodes import DirNode, Node
from cosfs.fs.listing import Entry, Listing
from cosfs.fs.order import NEAR
from cosfs.fs.rights import Action
from cosfs.transfer import attributes
from cosfs.transfer.attributes import Attributes

log = logging.getLogger(__name__)

FIRST_SHOWN = 32  # names without attributes in the first reply; later ones have a thousand and more
DOTS = 2  # positions 0 and 1 of a directory are "." and ".."


class Directories(Calls):
    """Calls on directories and their handles."""

    async def opendir(self, ino: int, pid: int = 0) -> int:
        node = self._dir(ino)
        if node.unlinked:
            raise FilesystemError(errno.ENOENT)
        node.opens += 1
        return self._add_handle(self._dirs, DirHandle(node, pid))

    async def readdir(self, fh: int, start: int) -> tuple[DirHandle, Listing]:
        """The listing to read from position start; its first page is loaded."""
        handle = self._dirs[fh]
        if handle.listing is None or start == 0:
            handle.listing = await self.tree.listings.from_start(handle.node)
            handle.given, handle.looked_at = 0, False
        elif start - DOTS < handle.listing.first and start >= DOTS:
            handle.listing = handle.listing.from_page_of(start - DOTS)
        if handle.given and handle.listing.attributes.position >= handle.given - NEAR:
            handle.looked_at = True
        handle.node.read_until = trio.current_time() + 2 * self.settings.metadata_ttl
        return handle, handle.listing

    def is_enough(self, handle: DirHandle, index: int) -> bool:
        """Whether the first reply ends with this entry, to see if attributes are going to be asked for."""
        return index + 1 == handle.given == FIRST_SHOWN and self.settings.attributes != "listing"

    async def look_at(self, handle: DirHandle, listing: Listing, entry: Entry) -> None:
        """Have the attributes of an entry if they are going to be asked for; a name each would cost more."""
        if handle.looked_at and self.settings.attributes != "listing":
            await self.tree.heads.look_at(handle.node, listing, entry)

    def node_of_entry(self, directory: DirNode, listing: Listing, entry: Entry) -> Node | None:
        """The node for a listed entry if its attributes are known without a request."""
        node = directory.children.get(entry.name)
        if node is not None:
            return node if node.known or self.settings.attributes == "listing" else None
        if trio.current_time() > self._wanted_until:
            return None  # whoever reads names only shall not cost an inode each, here and in the kernel
        if directory.is_buckets or self.settings.attributes == "listing":
            return self.tree.node_for(directory, entry, listing)
        if entry.info is not None and entry.info.headers is not None:
            return self.tree.node_for(directory, entry, listing)
        return None

    def releasedir(self, fh: int) -> None:
        handle = self._dirs.pop(fh)
        handle.node.opens -= 1
        self.tree.table.drop_if_idle(handle.node)

    async def fsyncdir(self, fh: int) -> None:
        """Wait until what was removed or changed in a directory has reached COS, or the local disk."""
        node = self._dirs[fh].node
        await self.committer.flush_dir(node)
        if not await self.deleter.drain(node.bucket, node.prefix):
            raise FilesystemError(errno.EIO, f"what was removed from {node.url} is still in COS")
        self.rights.tell(node.bucket, node.prefix)
        # Files that wait under a new name have it in the journal alone.
        await trio.to_thread.run_sync(self.journal.sync)

    async def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> DirNode:
        self._writable()
        directory = self._dir(parent)
        component = names.check_new(name)
        if directory.is_buckets:
            return await self._make_bucket(directory, name, component)
        names.check_key(directory.child_key(component) + "/")
        async with self.tree.moves.change(directory):
            await self._check_absent(directory, name)
            attrs = self._new_attributes(directory, stat.S_IFDIR | (mode & 0o7777 & ~caller.umask), caller)
            return await self._make_directory(directory, name, component, attrs)

    async def _make_directory(
        self, directory: DirNode, name: bytes, component: str, attrs: Attributes
    ) -> DirNode:
        bucket, key = directory.bucket, directory.child_key(component) + "/"
        await self.deleter.claim(bucket, key)
        headers = attributes.encode(attrs, Headers(content_type=attributes.DIRECTORY_TYPE))
        put = self.remote.client.put_object
        with self.deleter.replacing(bucket, key):
            result = await self.remote.change(put, bucket, key, b"", headers=headers)
        await self.deleter.replaced_for_good(bucket, {key: result.etag})
        node = self.tree.add_dir(directory, name, component, attrs)
        self.tree.heads.writes.note(bucket, key)
        self.rights.may_write_in(bucket, key)
        node.marker = ObjectInfo(
            key, 0, result.etag, result.last_modified or time.time(), crc64=result.crc64, headers=headers
        )
        return node

    async def _make_bucket(self, directory: DirNode, name: bytes, component: str) -> DirNode:
        client = self.remote.client
        bucket = await self.remote.metadata(client.resolve_bucket, component)
        try:
            await self.remote.change(client.create_bucket, bucket)
        except AlreadyExistsError as exc:
            raise FilesystemError(errno.EEXIST, str(exc)) from exc
        directory.listing = None
        listing = await self.tree.listing(directory)
        entry = listing.get(name) or self.tree.entry_by_short_name(listing, name)
        if entry is None:
            raise FilesystemError(errno.EIO, f"bucket {bucket} was made but is not listed")
        node = self.tree.node_for(directory, entry)
        assert isinstance(node, DirNode)
        self.rights.worked(Action.WRITE, bucket, "")
        return node

    async def rmdir(self, parent: int, name: bytes) -> None:
        self._writable()
        directory = self._dir(parent)
        node = await self.tree.lookup(directory, name)
        if not isinstance(node, DirNode):
            raise FilesystemError(errno.ENOTDIR)
        if node.is_bucket:
            await self._remove_bucket(node)
            return
        # A marker on its way to COS must not come after its removal.
        async with self.tree.moves.change(directory), node.attrs_lock:
            if not await self.tree.is_empty(node):
                raise FilesystemError(errno.ENOTEMPTY)
            bucket, key = node.bucket, node.prefix
            await self._keep_directory(directory, name)
            etag = node.marker.etag if node.marker is not None else ""
            is_asked = not self.rights.is_trusted(Action.REMOVE, bucket, key)
            if is_asked:
                await self.deleter.ask(bucket, key, etag, directory=True)
            with self.journal.together():
                if not is_asked:
                    self.deleter.schedule(bucket, key, etag, directory=True)
                self._remove_folder(directory, name)
                node.attrs_dirty = False
                self.committer.record(node)
            self.tree.remove(node)

    def _remove_folder(self, directory: DirNode, name: bytes) -> bool:
        """Remove the object that stands for a directory in Hadoop's way, if there is one."""
        listing = directory.listing
        folder = listing.folders.pop(name, None) if listing is not None else None
        if folder is not None:
            self.deleter.schedule(directory.bucket, folder.key, folder.etag)
        return folder is not None

    async def _remove_bucket(self, node: DirNode) -> None:
        await self.deleter.drain(node.bucket)
        try:
            await self.remote.change(self.remote.client.delete_bucket, node.bucket)
        except BucketNotEmptyError as exc:
            raise FilesystemError(errno.ENOTEMPTY, str(exc)) from exc
        directory = node.parent
        assert directory is not None
        self.tree.remove(node)
        directory.tombstones.clear()  # a bucket of that name may be made again at once

    async def _keep_directory(self, directory: DirNode, leaving: bytes) -> None:
        """Give a directory that loses its last entry an object of its own, so that it stays."""
        if directory.marker is not None or not directory.prefix or directory.parent is None:
            return
        try:
            if await self.tree.has_others(directory, leaving):
                return
        except COSError as exc:
            log.debug(
                "%s: %s", directory.url, exc
            )  # COS cannot be asked now: what leaves it does so all the same
            return
        if not directory.known:
            await self.tree.ensure_known(directory)
        if directory.marker is None:
            try:
                await self.committer.put_marker(directory, directory.attrs)
            except PermissionDeniedError as exc:  # who may remove and not write can remove the last as well
                log.info("%s goes with its last entry: %s", directory.url, exc)

    async def _empty_marker(self, directory: DirNode) -> bool:
        """Take the bytes out of the object of a directory, which stays with its attributes.

        Returns whether COS allows that.
        """
        async with directory.attrs_lock:
            await self.tree.ensure_stored(directory)
            if directory.marker is None:
                return False
            try:
                await self._put_empty(directory, directory.marker)
            except PermissionDeniedError:
                return False
            return True

    async def _put_empty(self, directory: DirNode, marker: ObjectInfo) -> None:
        directory.marker = replace(marker, size=0)
        try:
            await self.committer.put_marker(directory, directory.attrs)
        except BaseException:
            directory.marker = directory.listing = None  # COS tells what is there
            raise

    @asynccontextmanager
    async def _staying(self, directory: DirNode, leaving: bytes) -> AsyncIterator[None]:
        """Around a file that loses its name: the directory stays, though it should be of its own bytes."""
        if leaving != names.CONTENT_NAME.encode():
            yield
            return
        await self.tree.ensure_stored(directory)
        yield
        bucket, key = directory.bucket, directory.prefix
        async with directory.attrs_lock:
            if directory.unlinked or directory.marker is None:
                return
            try:
                await self.committer.leavings.take(bucket, key)  # who has the file open may need the object
                with self.deleter.replacing(bucket, key):
                    await self._put_empty(directory, directory.marker)
            except COSError as exc:  # the file has gone, and that is what the caller is told
                log.info("%s goes with its own bytes: %s", directory.url, exc)
