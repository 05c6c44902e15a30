"""pyfuse3's view of the filesystem: types in, types out, errors to errno. No semantics here.

An exception other than FUSEError would end the whole mount, so every handler runs inside
`_answering`. FUSEError is raised nowhere else.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import stat
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import pyfuse3
import trio

from cosfs.errors import COSError, FilesystemError
from cosfs.fs import names
from cosfs.fs.callers import Callers
from cosfs.fs.calls import Caller, DirHandle
from cosfs.fs.directories import DOTS
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.inodes import DirNode, FileNode, Node
from cosfs.fs.listing import Entry, Listing
from cosfs.fs.metadata import Change
from cosfs.fuse.plain import make_plain

log = logging.getLogger(__name__)

BLOCK = 1024 * 1024  # st_blksize: programs copy in pieces of this size
ABSENT_TTL = 1.0  # seconds for which the kernel believes that a name is not there
# Seconds for which the kernel believes attributes at least: it asks for them right after it has looked up the
# name, in the same call of a program, and each answer is a list where --metadata-ttl is 0.
SAME_CALL = 0.05
# What a full machine says. Whatever else fails in the cache directory is not about the file of the caller.
OF_THE_MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
BY_HANDLE = frozenset({"readdir", "releasedir", "fsyncdir", "read", "write", "flush", "fsync", "release"})
QUIET = frozenset({errno.ENOENT, errno.ENODATA, errno.ENOTSUP, errno.EEXIST, errno.ENOTEMPTY})


def _caller(ctx: Any) -> Caller:
    return Caller(ctx.uid, ctx.gid, ctx.umask, ctx.pid)


class _Answering:
    """Around the work of one call; a class because contextlib's costs a microsecond more, each time."""

    __slots__ = ("_args", "_call", "_number", "_operations")

    def __init__(self, operations: Operations, call: str, number: int, args: Sequence[object]) -> None:
        self._operations = operations
        self._call = call
        self._number = number
        self._args = args

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: object) -> None:
        # Not trio.Cancelled and KeyboardInterrupt.
        if isinstance(exc, Exception) and not isinstance(exc, pyfuse3.FUSEError):
            raise self._operations.failed(exc, self._call, self._number, self._args) from exc


class Operations(pyfuse3.Operations):
    """One method per FUSE request; what each means is in fs/filesystem.py and its bases."""

    supports_dot_lookup = False
    enable_writeback_cache = False  # the kernel would lose the errors of close()
    enable_acl = False

    def __init__(self, fs: Filesystem) -> None:
        super().__init__()
        self._fs = fs
        self._ttl = fs.settings.metadata_ttl
        self._trusts_lists = fs.settings.attributes == "listing"
        self._bounded = fs.remote.patience.bounded
        self._told: WeakSet[COSError] = WeakSet()  # errors that many wait for are logged once

    @property
    def callers(self) -> Callers:
        """Those whose calls are being answered."""
        return self._fs.remote.patience.callers

    def caller_of(self, call: str, args: Sequence[Any]) -> int:
        """The process that calls, as far as is known: pyfuse3 tells it of calls by name only."""
        if call in BY_HANDLE:
            return self._fs.opener(args[0])
        return getattr(args[-1], "pid", 0)

    def _answering(self, call: str, number: int, *args: object) -> _Answering:
        """Turn every error into the errno of this call; number is the inode's, or the handle's."""
        return _Answering(self, call, number, args)

    def failed(self, exc: Exception, call: str, number: int, args: Sequence[object]) -> Exception:
        """Tell the log of an error of a call; return the one that the kernel is to be answered with."""
        if isinstance(exc, COSError):
            own = isinstance(exc, FilesystemError) and not exc.hint
            if exc.errno not in QUIET:
                known = own or exc.repeated or exc in self._told
                level = logging.DEBUG if known else logging.WARNING
                self._told.add(exc)
                log.log(level, "%s of %s failed: %s", call, self._shown(call, number, args), exc)
            return pyfuse3.FUSEError(exc.errno)
        where = self._shown(call, number, args)
        if isinstance(exc, OSError):
            log.warning("%s of %s failed: %s", call, where, exc)
            return pyfuse3.FUSEError(exc.errno if exc.errno in OF_THE_MACHINE else errno.EIO)
        if isinstance(exc, sqlite3.OperationalError):  # the journal cannot be written
            log.error("%s of %s failed: the cache directory cannot be written: %s", call, where, exc)
            full = exc.sqlite_errorcode == sqlite3.SQLITE_FULL
            return pyfuse3.FUSEError(errno.ENOSPC if full else errno.EIO)
        log.error("%s of %s failed", call, where, exc_info=exc)
        return pyfuse3.FUSEError(errno.EIO)

    def _shown(self, call: str, number: int, args: Sequence[object]) -> str:
        """What a call was about, for people."""
        text = self._fs.url_of(number, is_handle=call in BY_HANDLE)
        names = [os.fsdecode(arg) for arg in args if isinstance(arg, bytes)]
        if names:
            text = f"{text}{'' if text.endswith('/') else '/'}{' to '.join(names)}"
        numbers = [repr(arg) for arg in args if not isinstance(arg, bytes)]
        return ascii(text) + (f" ({', '.join(numbers)})" if numbers else "")

    # Entries

    def _entry(self, node: Node) -> Any:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = node.ino
        attrs = node.attrs
        entry.st_mode = attrs.mode
        entry.st_nlink = self._fs.links(node)
        entry.st_uid = attrs.uid
        entry.st_gid = attrs.gid
        entry.st_rdev = attrs.rdev
        entry.st_blksize = BLOCK
        if isinstance(node, FileNode):
            size = node.size
            entry.st_size = size
            entry.st_blocks = (size + 511) // 512
        entry.st_mtime_ns = attrs.mtime_ns
        entry.st_atime_ns = attrs.atime_ns
        entry.st_ctime_ns = attrs.ctime_ns
        left = self._ttl if self._fs.tree.local(node) else max(0.0, node.expires - trio.current_time())
        entry.entry_timeout = left
        entry.attr_timeout = max(left, SAME_CALL) if node.known or self._trusts_lists else 0.0
        return entry

    def _counted(self, node: Node) -> Any:
        node.nlookup += 1
        return self._entry(node)

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> Any:
        with self._answering("lookup", parent_inode, name):
            try:
                return self._counted(await self._fs.lookup(parent_inode, name))
            except FilesystemError as exc:
                if exc.errno != errno.ENOENT:
                    raise
                absent = pyfuse3.EntryAttributes()
                absent.st_ino = 0
                absent.entry_timeout = min(ABSENT_TTL, self._ttl)
                self._fs.tree.note_absent(parent_inode, name, absent.entry_timeout)
                return absent

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, nlookup in inode_list:
            self._fs.forget(inode, nlookup)

    async def getattr(self, inode: int, ctx: Any) -> Any:
        with self._answering("getattr", inode):
            return self._entry(await self._fs.getattr(inode))

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        with self._answering("setattr", inode):
            change = Change(
                mode=stat.S_IMODE(attr.st_mode) if fields.update_mode else None,
                uid=attr.st_uid if fields.update_uid else None,
                gid=attr.st_gid if fields.update_gid else None,
                size=attr.st_size if fields.update_size else None,
                atime_ns=attr.st_atime_ns if fields.update_atime else None,
                mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            )
            return self._entry(await self._fs.setattr(inode, change))

    # Directories

    async def opendir(self, inode: int, ctx: Any) -> int:
        with self._answering("opendir", inode):
            return await self._fs.opendir(inode, ctx.pid)

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        with self._answering("readdir", fh, start_id):
            handle, listing = await self._fs.readdir(fh, start_id)
            position = start_id
            if position < DOTS and not self._dots(handle.node, position, token):
                return
            position = max(position, DOTS)
            given = False
            while True:
                index = position - DOTS
                if index >= listing.count:
                    # With something to give, give it: the kernel comes back for the next page.
                    if given or not await listing.load_until(index):
                        return
                    self._fs.tree.load_ahead(listing)
                entry = listing.at(index)
                position += 1
                if entry.removed:
                    continue
                if handle.looked_at:
                    await self._fs.look_at(handle, listing, entry)
                    if entry.removed:
                        continue
                if not self._reply(token, handle, listing, entry, position):
                    return
                given = True
                if self._fs.is_enough(handle, entry.index):
                    return

    def _dots(self, node: DirNode, start: int, token: Any) -> bool:
        for position, (name, other) in enumerate(((b".", node), (b"..", node.parent or node))):
            if position >= start:
                entry = self._entry(other)
                make_plain(entry)
                if not pyfuse3.readdir_reply(token, name, entry, position + 1):
                    return False
        return True

    def _reply(self, token: Any, handle: DirHandle, listing: Listing, entry: Entry, next_id: int) -> bool:
        directory = handle.node
        node = self._fs.node_of_entry(directory, listing, entry)
        if node is None:
            if not pyfuse3.readdir_reply(token, entry.name, self._plain(directory, entry), next_id):
                return False
            handle.given = entry.index + 1
            return True
        if not pyfuse3.readdir_reply(token, entry.name, self._entry(node), next_id):
            self._fs.tree.table.drop_if_idle(node)
            return False
        node.nlookup += 1
        return True

    def _plain(self, directory: DirNode, entry: Entry) -> Any:
        """A name whose attributes would cost a request: the kernel asks if it wants them."""
        found = pyfuse3.EntryAttributes()
        key = directory.child_key(entry.component) + ("/" if entry.is_dir else "")
        found.st_ino = self._fs.tree.table.number(directory.bucket, key)
        if entry.is_dir:
            found.st_mode = stat.S_IFDIR
        elif self._fs.tree.maybe_symlink(entry.info):
            found.st_mode = 0  # DT_UNKNOWN: it could be a symbolic link
        else:
            found.st_mode = stat.S_IFREG
        make_plain(found)
        return found

    async def releasedir(self, fh: int) -> None:
        with self._answering("releasedir", fh):
            self._fs.releasedir(fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        with self._answering("fsyncdir", fh):
            await self._bounded(self._fs.places_of(fh), self._fs.fsyncdir, fh)

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> Any:
        with self._answering("mkdir", parent_inode, name):
            return self._counted(
                await self._bounded(
                    self._fs.places(parent_inode, name),
                    self._fs.mkdir,
                    parent_inode,
                    name,
                    mode,
                    _caller(ctx),
                )
            )

    async def rmdir(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        with self._answering("rmdir", parent_inode, name):
            await self._bounded(self._fs.places(parent_inode, name), self._fs.rmdir, parent_inode, name)

    # Names

    async def create(self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        with self._answering("create", parent_inode, name):
            fh, node = await self._fs.create(parent_inode, name, mode, flags, _caller(ctx))
            return self._file_info(fh), self._counted(node)

    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: Any) -> Any:
        with self._answering("mknod", parent_inode, name):
            return self._counted(
                await self._bounded(
                    self._fs.places(parent_inode, name),
                    self._fs.mknod,
                    parent_inode,
                    name,
                    mode,
                    rdev,
                    _caller(ctx),
                )
            )

    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: Any) -> Any:
        with self._answering("symlink", parent_inode, name):
            return self._counted(
                await self._bounded(
                    self._fs.places(parent_inode, name),
                    self._fs.symlink,
                    parent_inode,
                    name,
                    target,
                    _caller(ctx),
                )
            )

    async def readlink(self, inode: int, ctx: Any) -> bytes:
        with self._answering("readlink", inode):
            return await self._fs.readlink(inode)

    async def unlink(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        with self._answering("unlink", parent_inode, name):
            await self._fs.unlink(parent_inode, name)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: Any,
    ) -> None:
        with self._answering("rename", parent_inode_old, name_old, name_new):
            old = parent_inode_old, name_old
            new = parent_inode_new, name_new
            places = [*self._fs.places(*old), *self._fs.places(*new)]
            await self._bounded(places, self._fs.rename, *old, *new, flags)

    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: Any) -> Any:
        raise pyfuse3.FUSEError(errno.EPERM)  # COS has no second name for an object

    # Open files

    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        with self._answering("open", inode):
            return self._file_info(await self._fs.open(inode, flags, ctx.pid))

    def _file_info(self, fh: int) -> Any:
        return pyfuse3.FileInfo(
            fh=fh, keep_cache=self._fs.keep_cache(fh), direct_io=self._fs.bypasses_pages(fh)
        )

    async def read(self, fh: int, off: int, size: int) -> Any:
        with self._answering("read", fh, off, size):
            return await self._fs.read(fh, off, size)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        with self._answering("write", fh, off, len(buf)):
            return await self._fs.write(fh, off, buf)

    async def flush(self, fh: int) -> None:
        with self._answering("flush", fh):
            await self._fs.flush(fh)

    async def fsync(self, fh: int, datasync: bool) -> None:
        with self._answering("fsync", fh):
            await self._fs.fsync(fh)

    async def release(self, fh: int) -> None:
        with self._answering("release", fh):
            await self._fs.release(fh)

    # The rest

    async def statfs(self, ctx: Any) -> Any:
        data = pyfuse3.StatvfsData()
        data.f_bsize = BLOCK
        data.f_frsize = BLOCK
        data.f_blocks = data.f_bfree = data.f_bavail = 1 << 30  # 1 PiB: COS has no limit to tell
        data.f_files = data.f_ffree = data.f_favail = 1 << 40
        data.f_namemax = names.NAME_MAX
        return data

    async def access(self, inode: int, mode: int, ctx: Any) -> bool:
        return True  # default_permissions: the kernel has checked

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        if name.startswith(b"security."):  # the kernel asks at the first write to each file
            raise pyfuse3.FUSEError(errno.ENOTSUP)
        with self._answering("getxattr", inode, name):
            return await self._fs.getxattr(inode, name)

    async def listxattr(self, inode: int, ctx: Any) -> Sequence[bytes]:
        with self._answering("listxattr", inode):
            return await self._fs.listxattr(inode)

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        with self._answering("setxattr", inode, name):
            await self._fs.setxattr(inode, name, value)

    async def removexattr(self, inode: int, name: bytes, ctx: Any) -> None:
        with self._answering("removexattr", inode, name):
            await self._fs.removexattr(inode, name)

    def stacktrace(self) -> None:
        log.warning("stack trace asked for by uid %d", os.getuid())
