"""The semantics: one coroutine per filesystem call. Knows no FUSE.

Errors are COSError (its errno is what the call fails with) or OSError. A handler waits for COS
only where it must; what it starts and does not wait for belongs to the nursery of `run()`.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from dataclasses import dataclass, replace

import trio

from cosfs.client.model import Headers, ObjectInfo
from cosfs.errors import (
    AlreadyExistsError,
    BucketNotEmptyError,
    COSError,
    FilesystemError,
    NotFoundError,
    PreconditionFailedError,
)
from cosfs.fs import names, xattrs
from cosfs.fs.commit import Committer
from cosfs.fs.deleter import Deleter
from cosfs.fs.fetcher import Fetcher, Readahead, Source
from cosfs.fs.inodes import DirNode, FileNode, Node, is_inside
from cosfs.fs.journal import Journal
from cosfs.fs.listing import Entry, Listing
from cosfs.fs.remote import Remote
from cosfs.fs.rename import Renamer
from cosfs.fs.settings import FsSettings
from cosfs.fs.staging import Staging
from cosfs.fs.tree import Tree
from cosfs.transfer import attributes
from cosfs.transfer.attributes import Attributes
from cosfs.transfer.engine import Engine

log = logging.getLogger(__name__)

RENAME_NOREPLACE = 1
ATTRIBUTES_WANTED = 5.0  # seconds for which a stat after a readdir makes us expect more of them
ASYNC_DELAY = 0.1  # a file renamed, changed or removed within this time is sent once or not at all
FILE_MAX = 10_000 * 5 * 1024**3  # COS's limit for one object


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the owner of what is created."""

    uid: int
    gid: int
    umask: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What setattr is to change; None leaves it."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None

    @property
    def attributes_only(self) -> bool:
        return self.size is None


@dataclass(eq=False, slots=True)
class FileHandle:
    """One open file. epoch is the node's when it was opened: a foreign change makes it stale."""

    node: FileNode
    flags: int
    readahead: Readahead
    epoch: int

    @property
    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


@dataclass(eq=False, slots=True)
class DirHandle:
    """One open directory: the listing as of opendir, or of the last rewind."""

    node: DirNode
    listing: Listing | None = None


class Filesystem:
    """Everything a mount does, by inode numbers and handles."""

    def __init__(
        self,
        settings: FsSettings,
        remote: Remote,
        engine: Engine,
        tree: Tree,
        fetcher: Fetcher,
        committer: Committer,
        deleter: Deleter,
        renamer: Renamer,
        journal: Journal,
    ) -> None:
        self.settings = settings
        self.tree = tree
        self.fetcher = fetcher
        self.committer = committer
        self.deleter = deleter
        self.journal = journal
        self.remote = remote
        self.engine = engine
        self._renamer = renamer
        self._files: dict[int, FileHandle] = {}
        self._dirs: dict[int, DirHandle] = {}
        self._next_handle = 1
        self._wanted_until = 0.0  # readdir gives attributes along until then

    # Nodes

    def _node(self, ino: int) -> Node:
        node = self.tree.table.get(ino)
        if node is None:
            raise FilesystemError(errno.ESTALE)
        return node

    def _present(self, ino: int) -> Node:
        """A node that is to be changed. What COS has lost cannot be: the kernel looks it up again."""
        node = self._node(ino)
        if node.lost:
            raise FilesystemError(errno.ESTALE)
        return node

    def _dir(self, ino: int) -> DirNode:
        node = self._node(ino)
        if not isinstance(node, DirNode):
            raise FilesystemError(errno.ENOTDIR)
        return node

    def _file(self, ino: int) -> FileNode:
        node = self._node(ino)
        if not isinstance(node, FileNode):
            raise FilesystemError(errno.EISDIR)
        return node

    def _writable(self) -> None:
        if self.settings.read_only:
            raise FilesystemError(errno.EROFS)

    async def lookup(self, parent: int, name: bytes) -> Node:
        """Return the node of a name; the caller counts the kernel's reference."""
        directory = self._dir(parent)
        now = trio.current_time()
        if directory.read_until > now:
            self._wanted_until = now + ATTRIBUTES_WANTED  # as `ls -l` and `find -size` do
        if name == b".":
            return directory
        if name == b"..":
            return directory.parent or directory
        if len(name) > names.NAME_MAX:
            raise FilesystemError(errno.ENAMETOOLONG)
        return await self.tree.lookup(directory, name)

    async def getattr(self, ino: int) -> Node:
        node = self._node(ino)
        await self.tree.refresh(node)
        await self.tree.ensure_known(node)
        return node

    def forget(self, ino: int, nlookup: int) -> None:
        self.tree.table.forget(ino, nlookup)

    # Directories

    async def opendir(self, ino: int) -> int:
        node = self._dir(ino)
        if node.unlinked:
            raise FilesystemError(errno.ENOENT)
        node.opens += 1
        return self._add_handle(self._dirs, DirHandle(node))

    async def readdir(self, fh: int, start: int) -> tuple[DirHandle, Listing]:
        """The listing to read from position start; its first page is loaded."""
        handle = self._dirs[fh]
        if handle.listing is None or start == 0:
            handle.listing = await self.tree.listing(handle.node)
        handle.node.read_until = trio.current_time() + 2 * self.settings.metadata_ttl
        return handle, handle.listing

    def node_of_entry(self, directory: DirNode, entry: Entry) -> Node | None:
        """The node for a listed entry if its attributes are known without a request."""
        node = directory.children.get(entry.name)
        if node is not None:
            return node if node.known or self.settings.attributes == "listing" else None
        if trio.current_time() > self._wanted_until:
            return None  # whoever reads names only shall not cost an inode each, here and in the kernel
        if directory.is_buckets or self.settings.attributes == "listing":
            return self.tree.node_for(directory, entry)
        if entry.info is not None and entry.info.headers is not None:
            return self.tree.node_for(directory, entry)
        return None

    def releasedir(self, fh: int) -> None:
        handle = self._dirs.pop(fh)
        handle.node.opens -= 1
        self.tree.table.drop_if_idle(handle.node)

    async def fsyncdir(self, fh: int) -> None:
        """Wait until what was removed or changed in a directory has reached COS."""
        node = self._dirs[fh].node
        await self.committer.flush_dir(node)
        if not await self.deleter.drain(node.bucket, node.prefix):
            raise FilesystemError(errno.EIO, f"what was removed from {node.url} is still in COS")

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
        result = await self.remote.change(self.remote.client.put_object, bucket, key, b"", headers=headers)
        node = self.tree.add_dir(directory, name, component, attrs)
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
        return node

    async def _check_absent(self, directory: DirNode, name: bytes) -> None:
        try:
            node = await self.tree.lookup(directory, name)
        except FilesystemError as exc:
            if exc.errno == errno.ENOENT:
                return
            raise
        self.tree.table.drop_if_idle(node)
        raise FilesystemError(errno.EEXIST)

    def _new_attributes(self, directory: DirNode, mode: int, caller: Caller, rdev: int = 0) -> Attributes:
        now = time.time_ns()
        gid = caller.gid
        if directory.attrs.mode & stat.S_ISGID:
            gid = directory.attrs.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        return Attributes(mode, caller.uid, gid, now, now, now, rdev, {})

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
            self.deleter.schedule(bucket, key, node.marker.etag if node.marker is not None else "")
            self.tree.remove(node)

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
        listing = directory.listing
        if directory.marker is not None or not directory.prefix or directory.parent is None:
            return
        if listing is None or not listing.complete or any(n != leaving for n in listing.entries):
            return
        if not directory.known:
            await self.tree.ensure_known(directory)
        if directory.marker is None:
            await self.committer.put_marker(directory, directory.attrs)

    # Names

    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[int, FileNode]:
        """Make and open a file. Nothing is sent to COS before it is closed or grows large."""
        self._writable()
        directory = self._dir(parent)
        component = self._check_file_name(directory, name)
        try:
            found = await self.tree.lookup(directory, name)
        except FilesystemError as exc:
            if exc.errno != errno.ENOENT:
                raise
        else:
            if flags & os.O_EXCL:
                raise FilesystemError(errno.EEXIST)
            node = found
            if not isinstance(node, FileNode):
                raise FilesystemError(errno.EISDIR)
            return await self.open(node.ino, flags), node
        attrs = self._new_attributes(directory, stat.S_IFREG | (mode & 0o7777 & ~caller.umask), caller)
        node = self.tree.add_file(directory, name, component, attrs)
        node.content = Staging(self.journal.staging, None)
        node.content.touch()
        return self._open_handle(node, flags), node

    def _check_file_name(self, directory: DirNode, name: bytes) -> str:
        component = names.check_new(name)
        if directory.is_buckets:
            raise FilesystemError(errno.EPERM, "only buckets can be made here")
        names.check_key(directory.child_key(component))
        return component

    async def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> FileNode:
        attrs_mode = stat.S_IFLNK | 0o777
        return await self._make_object(parent, name, attrs_mode, caller, body=target)

    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> FileNode:
        return await self._make_object(parent, name, mode & ~caller.umask, caller, rdev=rdev)

    async def _make_object(
        self, parent: int, name: bytes, mode: int, caller: Caller, *, body: bytes = b"", rdev: int = 0
    ) -> FileNode:
        """Make an object whose content is known: a link, a device node, an empty file."""
        self._writable()
        directory = self._dir(parent)
        component = self._check_file_name(directory, name)
        async with self.tree.moves.change(directory):
            await self._check_absent(directory, name)
            attrs = self._new_attributes(directory, mode, caller, rdev)
            node = await self._put_new(directory, name, component, attrs, body)
        if stat.S_ISLNK(mode):
            node.target = body
        return node

    async def _put_new(
        self, directory: DirNode, name: bytes, component: str, attrs: Attributes, body: bytes
    ) -> FileNode:
        bucket, key = directory.bucket, directory.child_key(component)
        kind = attributes.content_type(component, attrs.mode)
        headers = attributes.encode(attrs, Headers(content_type=kind, extra=self.settings.extra))
        there = await self.committer.leavings.take(bucket, key)
        result = await self.remote.change(
            self.remote.client.put_object, bucket, key, body, headers=headers, forbid_overwrite=not there
        )
        node = self.tree.add_file(directory, name, component, attrs)
        info = ObjectInfo(
            key,
            len(body),
            result.etag,
            result.last_modified or time.time(),
            crc64=result.crc64,
            headers=headers,
        )
        self.tree.committed(node, info)
        return node

    async def readlink(self, ino: int) -> bytes:
        node = self._file(ino)
        if not node.is_symlink:
            raise FilesystemError(errno.EINVAL)
        if node.target is None:
            assert node.info is not None
            data = await self.fetcher.read(self._source(node), 0, node.info.size)
            node.target = bytes(data)
        return node.target

    async def unlink(self, parent: int, name: bytes) -> None:
        self._writable()
        directory = self._dir(parent)
        node = await self.tree.lookup(directory, name)
        if not isinstance(node, FileNode):
            raise FilesystemError(errno.EISDIR)
        # A file on its way to COS is removed when it has arrived.
        async with self.tree.moves.change(directory), node.lock:
            await self._keep_directory(directory, name)
            await self.committer.drop(node)
            self._vanish(node)

    def _vanish(self, node: FileNode) -> None:
        """Take a name away; the object goes too, unless somebody still reads it."""
        bucket, key = node.bucket, node.key
        if node.opens:
            self.committer.leavings.orphan(node)
        else:
            self.committer.leavings.abandon_former(node)
            if node.expected != "":
                self.deleter.schedule(bucket, key, node.expected or "")
        self.tree.remove(node)
        if not node.opens and node.content is not None:
            node.content.close()
            node.content = None
            self.tree.table.drop_if_idle(node)

    async def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0
    ) -> None:
        self._writable()
        if flags & ~RENAME_NOREPLACE:
            raise FilesystemError(errno.EINVAL, "names cannot be exchanged")
        source, destination = self._dir(parent), self._dir(new_parent)
        node = await self.tree.lookup(source, name)
        if source.is_buckets or destination.is_buckets:
            raise FilesystemError(errno.EPERM, "buckets cannot be renamed")
        component = self._check_file_name(destination, new_name)
        target = await self._rename_target(destination, new_name)
        if target is node:
            return
        if target is not None and flags & RENAME_NOREPLACE:
            raise FilesystemError(errno.EEXIST)
        if isinstance(node, FileNode):
            if isinstance(target, DirNode):
                raise FilesystemError(errno.EISDIR)
            async with self.tree.moves.change(source, destination):
                await self._keep_directory(source, name)
                await self._rename_file(node, target, destination, new_name, component)
        else:
            assert isinstance(node, DirNode)
            if isinstance(target, FileNode):
                raise FilesystemError(errno.ENOTDIR)
            if is_inside(destination, node):
                raise FilesystemError(errno.EINVAL)
            async with self.tree.moves.change(source, destination):
                await self._keep_directory(source, name)
                await self._renamer.directory(node, destination, new_name, component)

    async def _rename_file(
        self, node: FileNode, target: Node | None, directory: DirNode, name: bytes, component: str
    ) -> None:
        if not isinstance(target, FileNode) or not target.opens:
            await self._renamer.file(node, directory, name, component)
            return
        self.committer.leavings.orphan(target)
        try:
            await self._renamer.file(node, directory, name, component)
        except BaseException:
            self.committer.leavings.keep(target)
            raise

    async def _rename_target(self, directory: DirNode, name: bytes) -> Node | None:
        try:
            return await self.tree.lookup(directory, name)
        except FilesystemError as exc:
            if exc.errno == errno.ENOENT:
                return None
            raise

    # Attributes

    async def setattr(self, ino: int, change: Change) -> Node:
        self._writable()
        node = self._present(ino)
        await self.tree.ensure_known(node)
        if change.size is not None:
            await self._truncate(self._file(ino), change.size)
        self._change_attributes(node, change)
        return node

    def _change_attributes(self, node: Node, change: Change) -> None:
        before = node.attrs
        mode = before.mode if change.mode is None else stat.S_IFMT(before.mode) | (change.mode & 0o7777)
        after = replace(
            before,
            mode=mode,
            uid=before.uid if change.uid is None else change.uid,
            gid=before.gid if change.gid is None else change.gid,
            mtime_ns=before.mtime_ns if change.mtime_ns is None else change.mtime_ns,
            atime_ns=before.atime_ns if change.atime_ns is None else change.atime_ns,
        )
        if after == before and change.mode is None and change.uid is None and change.gid is None:
            return
        only_atime = replace(after, atime_ns=before.atime_ns) == before and change.atime_ns is not None
        node.attrs = replace(after, ctime_ns=time.time_ns())
        if node.unlinked or only_atime:
            return  # the time of reading is not worth a request
        if isinstance(node, FileNode):
            if node.dirty:
                self._goes_with_bytes(node)
            else:
                self.committer.attributes_changed(node)
        elif isinstance(node, DirNode) and node.parent is not None and not node.is_bucket:
            self.committer.attributes_changed(node)

    def _goes_with_bytes(self, node: FileNode) -> None:
        """The attributes of a changed file have changed too; what the journal has of it follows."""
        node.attrs_dirty = True
        if node.pending_id:
            self.committer.record(node)

    async def _truncate(self, node: FileNode, size: int) -> None:
        if not node.is_regular:
            raise FilesystemError(errno.EINVAL)
        if size > FILE_MAX:
            raise FilesystemError(errno.EFBIG)
        await self._wait_for_commit(node)
        content = self._content(node)
        if content.size == size and not content.dirty and node.info is not None:
            self._wrote(node)  # the same bytes, but POSIX wants a new time
            if not node.unlinked:
                self.committer.attributes_changed(node)
            return
        content.truncate(size)
        self._wrote(node)
        if node.pending_id:
            self.committer.record(node)  # what it says of the old size must not come back
        await self.committer.truncated(node)
        if not node.writers and not node.unlinked:
            await self._flush_or_try_later(node)

    async def _flush_or_try_later(self, node: FileNode) -> None:
        """Send a file that nobody has open; what fails is told, and tried again."""
        try:
            await self.committer.flush(node)
        except (COSError, OSError):
            if node.dirty:
                self.committer.record(node)
                self.committer.send_later(node)
            raise

    def _content(self, node: FileNode) -> Staging:
        """The file's local state, made when it is first needed."""
        if node.content is None:
            node.content = Staging(
                self.journal.staging, self._source(node) if node.info is not None else None
            )
        return node.content

    def _source(self, node: FileNode) -> Source:
        assert node.info is not None
        return Source(node.bucket, node.info.key, node.info.etag, node.info.size)

    @staticmethod
    def _wrote(node: FileNode) -> None:
        now = time.time_ns()
        a = node.attrs
        node.attrs = Attributes(a.mode, a.uid, a.gid, now, a.atime_ns, now, a.rdev, a.xattrs)

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        text = xattrs.check_name(name)
        node = self._node(ino)
        found: bytes | None
        if text.startswith(xattrs.COS):
            await self.tree.ensure_known(node)
            found = xattrs.virtual(node).get(text)
        else:
            await self.tree.ensure_known(node)
            found = node.attrs.xattrs.get(text)
        if found is None:
            raise FilesystemError(errno.ENODATA)
        return found

    async def listxattr(self, ino: int) -> list[bytes]:
        node = self._node(ino)
        await self.tree.ensure_known(node)
        # What COS says is not listed: `cp -a` and `rsync -X` would try to set it on the copy.
        return [n.encode() for n in node.attrs.xattrs]

    async def setxattr(self, ino: int, name: bytes, value: bytes) -> None:
        node = self._present(ino)
        if name == xattrs.RESTORE.encode() and isinstance(node, FileNode):
            self._writable()
            await self._restore(node, value)
            return
        await self._change_xattrs(ino, name, value)

    async def removexattr(self, ino: int, name: bytes) -> None:
        await self._change_xattrs(ino, name, None)

    async def _change_xattrs(self, ino: int, name: bytes, value: bytes | None) -> None:
        self._writable()
        text = xattrs.check_name(name)
        xattrs.check_writable(text)
        node = self._present(ino)
        await self.tree.ensure_known(node)
        found = dict(node.attrs.xattrs)
        if value is None:
            if text not in found:
                raise FilesystemError(errno.ENODATA)
            del found[text]
        else:
            found[text] = value
        attrs = replace(node.attrs, xattrs=found, ctime_ns=time.time_ns())
        info = node.info if isinstance(node, FileNode) else node.marker if isinstance(node, DirNode) else None
        attributes.encode(attrs, info.headers if info is not None else None)  # ENOSPC now, not later
        node.attrs = attrs
        if isinstance(node, FileNode) and node.dirty:
            self._goes_with_bytes(node)
        elif isinstance(node, FileNode) or (isinstance(node, DirNode) and node.parent is not None):
            self.committer.attributes_changed(node)

    # Open files

    async def open(self, ino: int, flags: int) -> int:
        node = self._file(ino)
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        if writing:
            self._writable()
        if not node.opens:
            await self.tree.refresh(node)
        self._present(ino)
        if flags & getattr(os, "O_DIRECT", 0) and not self.tree.local(node):
            await self._ask_again(node)
        if node.info is not None and node.info.archived and not (writing and flags & os.O_TRUNC):
            await self._check_restored(node)
        fh = self._open_handle(node, flags)
        if writing and flags & os.O_TRUNC:
            try:
                await self._truncate(node, 0)
            except BaseException:
                await self.release(fh)
                raise
        return fh

    async def _check_restored(self, node: FileNode) -> None:
        """Refuse to open an archived object, unless it was restored lately."""
        try:
            info = await self.remote.metadata(self.remote.client.head_object, node.bucket, node.key)
        except NotFoundError as exc:
            raise FilesystemError(errno.ESTALE) from exc
        if info is not None and node.info is not None and not self.tree.local(node):
            self.tree.apply(node, info)
            node.info = replace(node.info, restore=info.restore)
        if node.info is not None and node.info.archived:
            log.error(
                "%s is archived (%s): restore it first: setfattr -n %s -v DAYS FILE",
                node.url, node.info.storage_class, xattrs.RESTORE,
            )  # fmt: skip
            raise FilesystemError(errno.EIO, f"{node.url} is archived")

    async def _restore(self, node: FileNode, value: bytes) -> None:
        days, tier = xattrs.parse_restore(value)
        if node.info is None:
            raise FilesystemError(errno.EINVAL, f"{node.url} is not in COS yet")
        client = self.remote.client
        await self.remote.change(client.restore_object, node.bucket, node.key, days=days, tier=tier)

    async def _ask_again(self, node: FileNode) -> None:
        try:
            info = await self.remote.metadata(self.remote.client.head_object, node.bucket, node.key)
        except NotFoundError as exc:
            raise FilesystemError(errno.ESTALE) from exc
        if info is not None:
            self.tree.apply(node, info)

    def _open_handle(self, node: FileNode, flags: int) -> int:
        handle = FileHandle(node, flags, Readahead(), node.epoch)
        node.opens += 1
        if handle.writable:
            node.writers += 1
            self._content(node)
        return self._add_handle(self._files, handle)

    def keep_cache(self, fh: int) -> bool:
        """Whether the kernel's pages of the file are still its bytes; asked once per open."""
        node = self._files[fh].node
        if node.info is None or node.dirty:
            return True  # every byte went through the kernel
        same = node.cached_etag == node.info.etag
        node.cached_etag = node.info.etag
        return same

    def bypasses_pages(self, fh: int) -> bool:
        """Whether reads of this handle shall not be limited by the size the kernel remembers.

        O_DIRECT promises what COS has now; the kernel would stop at the size it saw last.
        """
        handle = self._files[fh]
        direct = handle.flags & getattr(os, "O_DIRECT", 0)
        return bool(direct) and not handle.writable and not self.tree.local(handle.node)

    def _add_handle(self, table: dict[int, FileHandle] | dict[int, DirHandle], handle: object) -> int:
        fh = self._next_handle
        self._next_handle += 1
        table[fh] = handle  # type: ignore[assignment]
        return fh

    async def read(self, fh: int, offset: int, length: int) -> bytes | memoryview:
        handle = self._files[fh]
        node = handle.node
        try:
            if node.content is not None:
                return await node.content.read(self.fetcher, offset, length)
            if node.info is None:
                return b""
            if handle.epoch != node.epoch:
                raise FilesystemError(errno.ESTALE)
            source = self._source(node)
            handle.readahead.advance(self.fetcher, source, offset, length, self.settings.readahead)
            return await self.fetcher.read(source, offset, length)
        except (PreconditionFailedError, NotFoundError) as exc:
            # Replaced or removed by somebody: what was read before and what comes now would
            # not belong together.
            node.expires = 0.0
            if node.parent is not None:
                node.parent.listing = None
            raise FilesystemError(errno.ESTALE, str(exc)) from exc

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        handle = self._files[fh]
        node = handle.node
        await self._wait_for_commit(node)
        if handle.epoch != node.epoch:
            raise FilesystemError(errno.ESTALE, f"{node.url} was changed by somebody else")
        content = self._content(node)
        if handle.flags & os.O_APPEND:
            offset = content.size
        if offset + len(data) > FILE_MAX:
            raise FilesystemError(errno.EFBIG)
        await content.write(offset, data)
        self._wrote(node)
        if not node.unlinked:
            self.committer.wrote(node, offset, offset + len(data))
        return len(data)

    async def _wait_for_commit(self, node: FileNode) -> None:
        """A large file is not changed while it is being read for sending."""
        while self.committer.reads_staging(node):
            async with node.lock:
                pass

    async def flush(self, fh: int) -> None:
        """close() of one descriptor: COS has the file, or (write-back async) the journal."""
        handle = self._files[fh]
        node = handle.node
        if node.unlinked:
            return
        if not handle.writable and (node.writers or not node.dirty or node.pending_id):
            return  # a reader; but a file made for reading only is sent as well
        self._tell(node)
        if self.settings.write_back == "async" and node.dirty:
            await self._keep_safe(node)
            return
        await self.committer.flush(node)

    @staticmethod
    def _tell(node: FileNode) -> None:
        """Raise what went wrong in the background and cannot be set right by trying again."""
        error, node.error = node.error, None
        if error is not None and not node.changed:
            raise error

    async def _keep_safe(self, node: FileNode) -> None:
        """Bring a changed file's bytes and the intent to send them onto the local disk."""
        while (content := node.content) is not None and content.dirty:
            version = content.version
            await content.make_durable()
            if node.content is content and content.version == version:
                self.committer.record(node)
                self.committer.send_later(node, ASYNC_DELAY)
                await trio.to_thread.run_sync(self.journal.sync)
                return

    async def fsync(self, fh: int) -> None:
        """Return when COS has the file."""
        node = self._files[fh].node
        if not node.unlinked:
            self._tell(node)
            await self.committer.flush(node)

    async def release(self, fh: int) -> None:
        """The last descriptor of one open is gone; errors can no longer be told to anybody."""
        handle = self._files.pop(fh)
        node = handle.node
        node.opens -= 1
        if handle.writable:
            node.writers -= 1
        if node.dirty and not node.writers and not node.unlinked:
            # Written through a mapping after close, or close failed: keep trying.
            self.committer.send_later(node, 0.0 if self.settings.write_back == "close" else ASYNC_DELAY)
            self.committer.record(node)
        if node.opens:
            return
        node.error = None  # there is nobody left to tell
        if node.unlinked:
            await self.committer.drop(node)
            if not node.opens:
                self.committer.leavings.bury(node)
            return
        self.committer.closed(node)

    async def drain(self) -> None:
        """Send everything that is pending."""
        await self.committer.drain()
        await self.deleter.drain()

    @property
    def pending_files(self) -> list[FileNode]:
        return [node for node in self.tree.table.files() if node.changed and not node.unlinked]
