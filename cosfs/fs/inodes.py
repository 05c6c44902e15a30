"""Inodes: files and directories the kernel or a pending change knows about.

Invariants:
- `InodeTable.nodes` holds every node with a lookup count above zero, and every node that is
  not `idle` (open, changed, or on its way to COS), whatever the kernel has forgotten.
- `DirNode.children` maps shown names to the live nodes below it, a subset of the above.
- A node's key is never stored: it follows from its parents, so that renaming a directory moves
  everything below it at once.
"""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NewType

import trio

from cosfs.client.model import ObjectInfo
from cosfs.fs.locks import Lock
from cosfs.transfer.attributes import Attributes

if TYPE_CHECKING:
    from cosfs.errors import COSError
    from cosfs.fs.listing import Listing
    from cosfs.fs.staging import Staging

Ino = NewType("Ino", int)
ROOT_INO = Ino(1)
RENAMED = 10_000  # so many renamed nodes keep their numbers when the kernel has forgotten them


class Node:
    """What files and directories share.

    known tells whether attrs came from COS (or from us) rather than from defaults. expires is
    the time (trio clock) up to which COS need not be asked again. unlinked means that no name
    leads here any more; lost that it was not removed here: COS no longer has it.
    """

    __slots__ = (
        "attrs",
        "component",
        "expires",
        "ino",
        "known",
        "lost",
        "name",
        "nlookup",
        "parent",
        "pending_id",
        "unlinked",
    )

    def __init__(
        self, ino: Ino, parent: DirNode | None, name: bytes, component: str, attrs: Attributes
    ) -> None:
        self.ino = ino
        self.parent = parent
        self.name = name
        self.component = component
        self.attrs = attrs
        self.known = False
        self.expires = 0.0
        self.nlookup = 0
        self.unlinked = False
        self.lost = False
        self.pending_id = 0  # row of the journal

    @property
    def bucket(self) -> str:
        assert self.parent is not None
        return self.parent.bucket

    @property
    def key(self) -> str:
        """The object key of a file, or of a directory's marker."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"cos://{self.bucket}/{self.key}" if self.bucket else "cos://"

    @property
    def idle(self) -> bool:
        """Whether nothing but the kernel's memory of it keeps this node alive."""
        raise NotImplementedError

    @property
    def is_dir(self) -> bool:
        return isinstance(self, DirNode)


class DirNode(Node):
    """A directory: a bucket, a prefix, or (with bucket "") the list of all buckets.

    marker is the object `prefix/` itself; None when COS has none (an implicit directory).
    tombstones maps names removed here to the etag they had and the time until which a listing
    may still show them; recent maps names made here to the time until which a listing may not.
    absent maps names that the kernel believes are not there to the time until which it does. distrusted
    has the next listing read without what was remembered of its objects.
    """

    __slots__ = (
        "_bucket",
        "_prefix",
        "absent",
        "attrs_dirty",
        "attrs_lock",
        "children",
        "distrusted",
        "listed",
        "listing",
        "marker",
        "marker_until",
        "opens",
        "read_until",
        "recent",
        "tombstones",
        "walk_failures",
        "walked_until",
    )

    def __init__(
        self,
        ino: Ino,
        parent: DirNode | None,
        name: bytes,
        component: str,
        attrs: Attributes,
        *,
        bucket: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(ino, parent, name, component, attrs)
        self._bucket = bucket
        self._prefix = prefix
        self.children: dict[bytes, Node] = {}
        self.listing: Listing | None = None
        self.marker: ObjectInfo | None = None
        self.marker_until = trio.current_time()  # COS need not be asked about it before
        self.tombstones: dict[bytes, tuple[str, float]] = {}
        self.recent: dict[bytes, float] = {}
        self.absent: dict[bytes, float] = {}
        self.distrusted = False
        self.opens = 0
        self.read_until = 0.0  # while it is being read, attributes are fetched ahead
        self.listed = False  # it was listed, and what was known then is not out of date by itself
        self.walked_until = 0.0  # a child was read while this was
        self.walk_failures = 0
        self.attrs_dirty = False
        self.attrs_lock = Lock()

    @property
    def bucket(self) -> str:
        if self._bucket is not None:
            return self._bucket
        assert self.parent is not None
        return self.parent.bucket

    @property
    def prefix(self) -> str:
        """Key prefix of everything inside: "" or text that ends with "/"."""
        if self._prefix is not None:
            return self._prefix
        assert self.parent is not None
        return f"{self.parent.prefix}{self.component}/"

    @property
    def key(self) -> str:
        return self.prefix

    @property
    def is_buckets(self) -> bool:
        """Whether this is the root of a mount of all buckets."""
        return self._bucket == ""

    @property
    def is_bucket(self) -> bool:
        """Whether this is a bucket inside a mount of all buckets."""
        return bool(self._bucket) and self.parent is not None

    @property
    def idle(self) -> bool:
        return not self.opens and not self.children and not self.attrs_dirty

    def child_key(self, component: str) -> str:
        return self.prefix + component

    def touch(self) -> None:
        """Note that an entry came or went: a directory's times follow."""
        now = time.time_ns()
        a = self.attrs
        self.attrs = Attributes(a.mode, a.uid, a.gid, now, a.atime_ns, now, a.rdev, a.xattrs)


class FileNode(Node):
    """Anything that is one object: a file, a symbolic link, a device node.

    info is what COS holds (None: nothing yet). content is the local state of a file that is
    open for writing or not yet sent. expected is the etag that COS must still have under our
    key when we write ("" = the key must be free, None = we do not know and do not care).
    sent is the time (trio clock) when we wrote it last: what COS was asked before is older.
    obsolete are objects under former names, removed once the new one is there.
    """

    __slots__ = (
        "_lock",
        "attrs_dirty",
        "cached_etag",
        "content",
        "dated",
        "epoch",
        "error",
        "expected",
        "info",
        "obsolete",
        "opens",
        "sent",
        "target",
        "writers",
    )

    def __init__(self, ino: Ino, parent: DirNode, name: bytes, component: str, attrs: Attributes) -> None:
        super().__init__(ino, parent, name, component, attrs)
        self.info: ObjectInfo | None = None
        self.content: Staging | None = None
        self.expected: str | None = ""
        self.attrs_dirty = False
        self.error: COSError | None = None
        self.epoch = 0  # grows when somebody else replaced the object
        self.obsolete: list[tuple[str, str, str]] = []  # bucket, key, etag
        self._lock: Lock | None = None
        self.opens = 0
        self.writers = 0
        self.cached_etag = ""  # the etag whose pages the kernel may still have
        self.dated = True  # info has the date that COS gives it, not the one of our own PUT
        self.target: bytes | None = None
        self.sent = 0.0

    @property
    def lock(self) -> Lock:
        """Held while this file is being sent to COS. Most files are only read and need none."""
        if self._lock is None:
            self._lock = Lock()
        return self._lock

    @property
    def being_sent(self) -> bool:
        return self._lock is not None and self._lock.locked()

    @property
    def key(self) -> str:
        assert self.parent is not None
        return self.parent.prefix + self.component

    @property
    def size(self) -> int:
        if self.content is not None:
            return self.content.size
        return self.info.size if self.info is not None else 0

    @property
    def dirty(self) -> bool:
        """Whether the bytes here are newer than those in COS."""
        return self.content is not None and self.content.dirty

    @property
    def changed(self) -> bool:
        return self.dirty or self.attrs_dirty

    @property
    def unsent(self) -> int:
        """The bytes to be sent, if attributes are not all that waits."""
        return self.size if self.dirty else 0

    @property
    def idle(self) -> bool:
        return not self.opens and self.content is None and not self.attrs_dirty

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.attrs.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.attrs.mode)


class InodeTable:
    """Numbers, and the nodes that own them."""

    def __init__(self) -> None:
        self.nodes: dict[Ino, Node] = {}
        self.limit = 0  # nodes beyond which excess is set; 0 for none
        self.excess = trio.Event()
        self._renamed: dict[tuple[str, str], Ino] = {}  # numbers that do not follow from the key
        self._kept: set[Ino] = set()

    def number(self, bucket: str, key: str) -> Ino:
        """A free number; the same for the same key in every mount unless it is taken.

        Programs that compare inode numbers between runs (git, tar, rsync) then see no change.
        """
        kept = self._renamed.get((bucket, key))
        if kept is not None and kept not in self.nodes:
            return kept
        digest = hashlib.blake2b(f"{bucket}/{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little") & 0x7FFF_FFFF_FFFF_FFFF
        while number <= ROOT_INO or number in self.nodes or number in self._kept:
            number += 1
        return Ino(number)

    def keep_number(self, node: Node) -> None:
        """A renamed node has the number of its old key, also when the kernel has forgotten it."""
        if len(self._renamed) >= RENAMED:
            self._let_go(next(iter(self._renamed)))
        place = (node.bucket, node.key)
        self._let_go(place)
        self._renamed[place] = node.ino
        self._kept.add(node.ino)

    def let_go_number(self, node: Node) -> None:
        """A node loses its name: the next one of that name has a number of its own."""
        self._let_go((node.bucket, node.key))

    def _let_go(self, place: tuple[str, str]) -> None:
        ino = self._renamed.pop(place, None)
        if ino is not None:
            self._kept.discard(ino)

    def add(self, node: Node) -> None:
        self.nodes[node.ino] = node
        if self.limit and len(self.nodes) > self.limit:
            self.excess.set()

    def get(self, ino: int) -> Node | None:
        return self.nodes.get(Ino(ino))

    def forget(self, ino: int, nlookup: int) -> None:
        """The kernel gives up nlookup references."""
        node = self.nodes.get(Ino(ino))
        if node is None:
            return
        node.nlookup = max(0, node.nlookup - nlookup)
        self.drop_if_idle(node)

    def drop_if_idle(self, node: Node | None) -> None:
        """Let go of a node, and of parents that were only kept for it."""
        while node is not None and node.ino != ROOT_INO and node.nlookup == 0 and node.idle:
            # A removed file keeps its directory: it may be gone by now, and its number another one's.
            if self.nodes.get(node.ino) is node:
                del self.nodes[node.ino]
            parent = node.parent
            if parent is not None and parent.children.get(node.name) is node:
                del parent.children[node.name]
            node = parent

    def files(self) -> Iterator[FileNode]:
        for node in list(self.nodes.values()):
            if isinstance(node, FileNode):
                yield node
