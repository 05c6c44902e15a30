"""Names of files: making, linking, removing and renaming what a directory holds."""

from __future__ import annotations

import errno
import os
import stat
import time

from cosfs.client.model import Headers, ObjectInfo
from cosfs.errors import FilesystemError
from cosfs.fs import names
from cosfs.fs.calls import Caller
from cosfs.fs.directories import Directories
from cosfs.fs.inodes import DirNode, FileNode, Node
from cosfs.fs.moves import is_inside
from cosfs.fs.openfiles import OpenFiles
from cosfs.fs.rights import Action
from cosfs.fs.sparing import SYMLINK_MAX
from cosfs.fs.staging import Staging
from cosfs.transfer import attributes
from cosfs.transfer.attributes import Attributes

RENAME_NOREPLACE = 1


class Entries(Directories, OpenFiles):
    """Calls that change what a name leads to."""

    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[int, FileNode]:
        """Make and open a file. Nothing is sent to COS before it is closed or grows large."""
        self._writable()
        directory = self._dir(parent)
        component = self._check_new_name(directory, name)
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
            return await self.open(node.ino, flags, caller.pid), node
        key = directory.child_key(component)
        if not self.settings.bucket and not self.rights.is_known(Action.WRITE, directory.bucket):
            await self.rights.ask_to_write(directory.bucket, key)
        await self.rights.check_write(directory.bucket, key)
        attrs = self._new_attributes(directory, stat.S_IFREG | (mode & 0o7777 & ~caller.umask), caller)
        node = self.tree.add_file(directory, name, component, attrs)
        node.content = Staging(self.journal.staging, None, remove=self.journal.retire)
        node.content.touch()
        return self._open_handle(node, flags, caller.pid), node

    def _check_new_name(self, directory: DirNode, name: bytes, *, is_dir: bool = False) -> str:
        component = names.check_new(name)
        if not component and not is_dir:
            # Its key would be that of the directory's own object.
            raise FilesystemError(errno.EINVAL, f"only a directory can have the name {names.LEAD!r}")
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
        component = self._check_new_name(directory, name)
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
        put = self.remote.client.put_object
        with self.deleter.replacing(bucket, key):
            result = await self.remote.change(
                put, bucket, key, body, headers=headers, forbid_overwrite=not there
            )
        await self.deleter.replaced_for_good(bucket, {key: result.etag})
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
            if node.info.size > SYMLINK_MAX:
                raise FilesystemError(
                    errno.ENAMETOOLONG,
                    f"{node.url} says that it is a symbolic link, and has {node.info.size} bytes; "
                    f"links have {SYMLINK_MAX} at most",
                    hint=f"Read it as an object: cos cat {node.url}",
                )
            data = await self.fetcher.read(self._source(node), 0, node.info.size)
            node.target = bytes(data)
        return node.target

    async def unlink(self, parent: int, name: bytes) -> None:
        self._writable()
        directory = self._dir(parent)
        node = await self.tree.lookup(directory, name, sparing=True)
        if not isinstance(node, FileNode):
            raise FilesystemError(errno.EISDIR)
        self.tree.sparing.removed()
        if node.lock.locked() or self.tree.moves.any:
            places = [(node.bucket, node.key)]
            await self.remote.patience.bounded(places, self._unlink, directory, name, node)
        else:
            await self._unlink(directory, name, node)

    async def _unlink(self, directory: DirNode, name: bytes, node: FileNode) -> None:
        # A small file on its way to COS is removed when it has arrived.
        with self.committer.about_to_go(node):
            async with self.tree.moves.change(directory), node.lock:
                await self._remove_file(directory, name, node)

    async def _remove_file(self, directory: DirNode, name: bytes, node: FileNode) -> None:
        is_own = node.name == names.CONTENT_NAME.encode()  # the bytes of the directory's own object
        if not is_own:
            await self._keep_directory(directory, node.name)
        await self.committer.stop(node)
        if is_own and node.opens:
            async with self._staying(directory, node.name):
                await self._take_away(node, is_done=False)
        else:
            await self._take_away(node, is_done=is_own and await self._empty_marker(directory))
        if not node.opens:
            self.committer.leavings.let_go_bytes(node)  # not before the journal leads to them no more

    async def _take_away(self, node: FileNode, *, is_done: bool) -> None:
        """Remove a name, and the object, unless that is done already."""
        is_asked = is_done or await self._ask_to_remove(node)
        with self.journal.together():
            self._vanish(node, is_asked=is_asked)

    async def _ask_to_remove(self, node: FileNode) -> bool:
        """Have COS remove an object before its name is taken away, if that is not trusted to work.

        Returns whether it was asked to: not for what is open or is not in COS as it is here. Of these it is
        asked whether they may be removed.
        """
        if self.rights.is_trusted(Action.REMOVE, node.bucket, node.key):
            return False
        if node.opens or node.changed or node.obsolete or not node.expected:
            if node.expected != "":
                await self.rights.ask_to_remove(node.bucket, node.key)
            return False
        await self.deleter.ask(node.bucket, node.key, node.expected)
        return True

    def _vanish(self, node: FileNode, *, is_asked: bool) -> None:
        """Take a name away; the object goes too, unless somebody still reads it or COS was asked already."""
        bucket, key = node.bucket, node.key
        self.committer.drop(node)
        if node.opens:
            self.committer.leavings.orphan(node, removed=True)
        else:
            self.committer.leavings.abandon_former(node)
            if not is_asked:
                self.committer.leavings.remove_objects(node, bucket, key)
        self.tree.remove(node)

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
        component = self._check_new_name(destination, new_name, is_dir=isinstance(node, DirNode))
        target = await self._rename_target(destination, new_name)
        if target is node:
            return
        if target is not None and flags & RENAME_NOREPLACE:
            raise FilesystemError(errno.EEXIST)
        if isinstance(node, FileNode):
            if isinstance(target, DirNode):
                raise FilesystemError(errno.EISDIR)
            async with self.tree.moves.change(source, destination):
                await self._keep_directory(source, node.name)
                async with self._staying(source, node.name):
                    await self._rename_file(node, target, destination, new_name, component)
        else:
            assert isinstance(node, DirNode)
            if isinstance(target, FileNode):
                raise FilesystemError(errno.ENOTDIR)
            if is_inside(destination, node):
                raise FilesystemError(errno.EINVAL)
            async with self.tree.moves.change(source, destination):
                await self._keep_directory(source, name)
                await self._make_ours(source, name, node)
                await self._renamer.directory(node, destination, new_name, component)

    async def _make_ours(self, directory: DirNode, name: bytes, node: DirNode) -> None:
        """Have a directory that is one in Hadoop's way only be one by a marker of its own."""
        if directory.listing is not None and name in directory.listing.folders:
            if node.marker is None:
                await self.committer.put_marker(node, node.attrs)
            self._remove_folder(directory, name)

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
