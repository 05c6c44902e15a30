"""What all filesystem calls share: who calls, the handles, and how an inode number becomes a node."""

from __future__ import annotations

import errno
import os
import stat
import time
from dataclasses import dataclass

import trio

from cosfs.client.movement import Place
from cosfs.errors import FilesystemError
from cosfs.fs import names
from cosfs.fs.commit import Committer
from cosfs.fs.deleter import Deleter
from cosfs.fs.fetcher import Fetcher
from cosfs.fs.inodes import DirNode, FileNode, Node
from cosfs.fs.journal import Journal
from cosfs.fs.listing import Listing
from cosfs.fs.prefetch import Prefetcher
from cosfs.fs.readahead import Readahead, ReadaheadBudget
from cosfs.fs.remote import Remote
from cosfs.fs.rename import Renamer
from cosfs.fs.rights import Rights
from cosfs.fs.room import Room
from cosfs.fs.settings import FsSettings
from cosfs.fs.smallfiles import SmallFiles
from cosfs.fs.tree import Tree
from cosfs.transfer.attributes import Attributes
from cosfs.transfer.engine import Engine

ATTRIBUTES_WANTED = 5.0  # seconds for which a stat after a readdir makes us expect more of them


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the owner of what is created; pid 0 where the process cannot be seen from here."""

    uid: int
    gid: int
    umask: int = 0
    pid: int = 0


@dataclass(eq=False, slots=True)
class FileHandle:
    """One open file. epoch is the node's when it was opened: a foreign change makes it stale.

    pid is the process that opened it, or 0.
    """

    node: FileNode
    flags: int
    readahead: Readahead
    epoch: int
    pid: int = 0

    @property
    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


@dataclass(eq=False, slots=True)
class DirHandle:
    """One open directory: the listing as of opendir, or of the last rewind.

    given: the index behind the last entry that was shown without attributes. looked_at: whether who reads it
    has asked for the attributes of what it was shown, and will for the rest. pid as in FileHandle.
    """

    node: DirNode
    pid: int = 0
    listing: Listing | None = None
    given: int = 0
    looked_at: bool = False


class Calls:
    """The parts of a mounted filesystem, its nodes and its open files and directories.

    device is the number that the kernel gives it, "major:minor", empty before it is mounted.
    """

    def __init__(
        self,
        settings: FsSettings,
        remote: Remote,
        engine: Engine,
        tree: Tree,
        fetcher: Fetcher,
        small_files: SmallFiles,
        prefetcher: Prefetcher,
        committer: Committer,
        deleter: Deleter,
        renamer: Renamer,
        journal: Journal,
        rights: Rights,
    ) -> None:
        self.settings = settings
        self.tree = tree
        self.fetcher = fetcher
        self.small_files = small_files
        self.prefetcher = prefetcher
        self.committer = committer
        self.deleter = deleter
        self.journal = journal
        self.rights = rights
        self.remote = remote
        self.engine = engine
        self.device = ""
        self.readahead = ReadaheadBudget(settings.readahead)
        self.room = Room(tree.table, committer, fetcher, journal, remote.patience)
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

    async def _may_write(self, node: Node) -> None:
        """Raise what COS would refuse a change of a node with, as far as that is to be known now."""
        key = node.key if isinstance(node, FileNode) else node.prefix if isinstance(node, DirNode) else ""
        if key and not node.unlinked:
            await self.rights.check_write(node.bucket, key)

    def places(self, parent: int, name: bytes) -> list[Place]:
        """Where in COS a name of a directory is: as a file, or as a directory."""
        directory, component = self._dir(parent), names.from_name(name)
        if component is None:
            return [(directory.bucket, directory.prefix)]
        if directory.is_buckets:
            return [(component, "")]
        key = directory.child_key(component)
        return [(directory.bucket, key), (directory.bucket, f"{key}/")]

    def places_of(self, fh: int) -> list[Place]:
        """Where in COS an open directory is."""
        node = self._dirs[fh].node
        return [(node.bucket, node.prefix)]

    def opener(self, fh: int) -> int:
        """The process that opened a file or directory, or 0."""
        handle = self._files.get(fh) or self._dirs.get(fh)
        return handle.pid if handle is not None else 0

    def url_of(self, number: int, *, is_handle: bool) -> str:
        """What an inode or a handle is, for people."""
        if is_handle:
            handle = self._files.get(number) or self._dirs.get(number)
            return handle.node.url if handle is not None else f"handle {number}"
        node = self.tree.table.get(number)
        return node.url if node is not None else f"inode {number}"

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
        return await self.tree.lookup(directory, name, sparing=True)

    async def getattr(self, ino: int) -> Node:
        node = self._node(ino)
        if not node.known:
            self.tree.sparing.wanted()
        await self.tree.refresh(node)
        await self.tree.ensure_known(node)
        return node

    def links(self, node: Node) -> int:
        """How many names a node has. Of a directory whose subdirectories nobody counted: 1, as is usual."""
        if node.unlinked:
            return 0
        count = self.tree.listings.subdirectories(node) if isinstance(node, DirNode) else None
        return 1 if count is None else 2 + count

    def forget(self, ino: int, nlookup: int) -> None:
        self.tree.table.forget(ino, nlookup)

    def _add_handle(self, table: dict[int, FileHandle] | dict[int, DirHandle], handle: object) -> int:
        fh = self._next_handle
        self._next_handle += 1
        table[fh] = handle  # type: ignore[assignment]
        return fh

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
