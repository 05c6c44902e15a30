"""The tree of names: who is where, what COS said about it, and for how long we believe that.

The kernel holds a directory locked while it waits for us, so the first miss in a directory
lists it and everything else is answered from memory. Attributes beyond size and date need a
HEAD each; they are fetched only for what somebody asks about, and ahead of whoever walks a
directory.

After every await the tree may have changed: methods look names up again instead of keeping
entries across awaits, and each change between two awaits leaves the tree consistent.
"""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace

import trio

from cosfs.client.model import Headers, ListPage, ObjectInfo
from cosfs.errors import COSError, FilesystemError, NotFoundError, PermissionDeniedError
from cosfs.fs import names
from cosfs.fs.attrdb import AttributeStore
from cosfs.fs.background import Background, together
from cosfs.fs.inodes import ROOT_INO, DirNode, FileNode, InodeTable, Moves, Node
from cosfs.fs.listing import Entry, Listing
from cosfs.fs.remote import Remote
from cosfs.fs.settings import FsSettings
from cosfs.transfer import attributes
from cosfs.transfer.attributes import Attributes

log = logging.getLogger(__name__)

SYMLINK_MAX = 4095  # a larger object cannot be a symbolic link
FULL_NAME = re.compile(r"-\d+$")


class Tree:
    """Directories and their nodes. background runs the HEADs that go ahead of a reader."""

    def __init__(
        self,
        remote: Remote,
        settings: FsSettings,
        background: Background,
        store: AttributeStore | None = None,
    ) -> None:
        self.remote = remote
        self.settings = settings
        self.table = InodeTable()
        self.moves = Moves()
        self._background = background
        self._store = store
        self._flights: dict[tuple[int, bytes], trio.Event] = {}
        self._denied = False
        # Told by whoever removes: (bucket, key, etag) is no longer in the tree, though COS,
        # asked at a given time, still had it.
        self.is_leaving: Callable[[str, str, str, float], bool] = lambda bucket, key, etag, since: False
        # The same of anything at all, which is usually not so; and of anything below a prefix.
        self.has_any_left: Callable[[], bool] = lambda: False
        self.has_left: Callable[[str, str, float], bool] = lambda bucket, prefix, since: False
        defaults = settings.defaults
        attrs = attributes.decode(ObjectInfo("", 0, "", time.time()), defaults, is_dir=True)
        self.root = DirNode(ROOT_INO, None, b"", "", attrs, bucket=settings.bucket, prefix=settings.prefix)
        self.root.known = not settings.prefix
        self.root.nlookup = 1
        self.table.add(self.root)

    # Looking up

    async def lookup(self, parent: DirNode, name: bytes) -> Node:
        """Return the node of a name, with its attributes; ENOENT if there is none."""
        while True:
            node = parent.children.get(name)
            if node is None or not self.fresh(node):
                node = await self._resolve(parent, name)
            await self.ensure_known(node)
            if node.unlinked:
                raise FilesystemError(errno.ENOENT)
            if self.table.get(node.ino) is node:
                return node
            # While we waited somebody closed it, and nobody else seemed to need it.

    def fresh(self, node: Node) -> bool:
        """Whether COS need not be asked about this node now."""
        return self.local(node) or node.expires > trio.current_time()

    @staticmethod
    def local(node: Node) -> bool:
        """Whether our own state of the node is the truth, whatever COS lists."""
        if isinstance(node, FileNode):
            return node.changed or node.info is None or node.writers > 0 or node.being_sent
        return node.parent is None

    async def _resolve(self, parent: DirNode, name: bytes) -> Node:
        listing = await self.listing(parent)
        entry = listing.get(name)
        if entry is None and parent.is_buckets:
            entry = await self._bucket_entry(parent, listing, name)
        since = listing.started
        if entry is None and not listing.complete:
            since = trio.current_time()
            entry = await self._probe(parent, name)
            if entry is not None and self._hidden(parent, entry, since):
                entry = None
        node = self._reconcile(parent, entry.name if entry is not None else name, entry, since)
        if node is None:
            raise FilesystemError(errno.ENOENT)
        if not self.local(node):
            node.expires = max(node.expires, since + self._ttl(parent))
        return node

    async def _bucket_entry(self, parent: DirNode, listing: Listing, name: bytes) -> Entry | None:
        """Find a bucket by its short name, or one that was made since the buckets were listed."""
        entry = self.entry_by_short_name(listing, name)
        if entry is None and listing.started + self.settings.metadata_ttl < trio.current_time():
            parent.listing = None
            listing = await self.listing(parent)
            entry = listing.get(name) or self.entry_by_short_name(listing, name)
        return entry

    def _ttl(self, parent: DirNode) -> float:
        return self.settings.buckets_ttl if parent.is_buckets else self.settings.metadata_ttl

    async def refresh(self, node: Node) -> None:
        """Ask COS again if what we know about node is too old; ESTALE if it is gone."""
        if self.fresh(node) or node.unlinked or node.parent is None:
            return
        if isinstance(node, FileNode) and node.opens:
            return  # an open file keeps the attributes it was opened with
        try:
            found = await self._resolve(node.parent, node.name)
        except FilesystemError as exc:
            raise FilesystemError(errno.ESTALE) from exc
        if found is not node:
            self.table.drop_if_idle(found)
            raise FilesystemError(errno.ESTALE)

    async def _probe(self, parent: DirNode, name: bytes) -> Entry | None:
        """Ask for one name of a directory too large to be listed for it."""
        component = names.from_name(name)
        shadow = names.from_shadow(name)
        if component is None and shadow is None:
            listing = parent.listing
            assert listing is not None
            await listing.load_all()  # a shortened name can only be found in the list of names
            return listing.get(name)
        text = component if component is not None else shadow
        assert text is not None
        found: dict[str, object] = {}

        async def head() -> None:
            found["file"] = await self._head(parent.bucket, parent.child_key(text))

        async def below() -> None:
            page = await self.remote.metadata(
                self.remote.client.list_objects,
                parent.bucket,
                prefix=parent.child_key(text) + "/",
                max_keys=1,
            )
            found["dir"] = bool(page.objects or page.prefixes)

        async with together() as nursery:
            nursery.start_soon(head)
            nursery.start_soon(below)
        info = found["file"]
        assert info is None or isinstance(info, ObjectInfo)
        if component is None:
            return Entry(name, text, False, info) if info is not None and found["dir"] else None
        if found["dir"]:
            return Entry(name, text, True, None)
        return Entry(name, text, False, info) if info is not None else None

    def _reconcile(self, parent: DirNode, name: bytes, entry: Entry | None, since: float) -> Node | None:
        """Bring the live node of a name in line with what COS said about it when asked at since."""
        node = parent.children.get(name)
        if node is not None and (self.local(node) or self._sent_after(node, since)):
            return node
        if entry is None or entry.removed:
            if node is not None:
                self.lose(node)
            return None
        if node is not None and node.is_dir != entry.is_dir:
            self.lose(node)
            node = None
        if node is None:
            return self._make(parent, entry)
        if isinstance(node, FileNode) and entry.info is not None:
            self.apply(node, entry.info)
        return node

    @staticmethod
    def _sent_after(node: Node, since: float) -> bool:
        return isinstance(node, FileNode) and node.sent > since

    def node_for(self, parent: DirNode, entry: Entry) -> Node:
        """The node of an entry of a listing; the caller counts the kernel's reference."""
        since = parent.listing.started if parent.listing is not None else 0.0
        node = self._reconcile(parent, entry.name, entry, since)
        assert node is not None
        if not self.local(node) and parent.listing is not None:
            node.expires = max(node.expires, parent.listing.started + self._ttl(parent))
        return node

    @staticmethod
    def entry_by_short_name(listing: Listing, name: bytes) -> Entry | None:
        """The bucket `name-<appid>` for `name`, if there is exactly one."""
        text = name.decode("utf-8", "replace")
        found = [e for e in listing.entries.values() if FULL_NAME.sub("", e.component) == text]
        return found[0] if len(found) == 1 else None

    def _make(self, parent: DirNode, entry: Entry) -> Node:
        node: Node
        defaults = self.settings.defaults
        if entry.is_dir:
            info = entry.info or ObjectInfo("", 0, "", time.time())
            attrs = attributes.decode(info, defaults, is_dir=True)
            if parent.is_buckets:
                ino = self.table.number(entry.component, "")
                node = DirNode(
                    ino, parent, entry.name, entry.component, attrs, bucket=entry.component, prefix=""
                )
                node.known = True
            else:
                ino = self.table.number(parent.bucket, parent.child_key(entry.component) + "/")
                node = DirNode(ino, parent, entry.name, entry.component, attrs)
                node.marker = entry.info
                node.known = entry.info is not None
        else:
            assert entry.info is not None
            ino = self.table.number(parent.bucket, parent.child_key(entry.component))
            attrs = attributes.decode(entry.info, defaults, is_dir=False)
            node = FileNode(ino, parent, entry.name, entry.component, attrs)
            self._set_info(node, entry.info)
        parent.children[entry.name] = node
        self.table.add(node)
        return node

    # What COS says about a node

    def apply(self, node: FileNode, info: ObjectInfo) -> None:
        """Take over what COS said about an unchanged file."""
        old = node.info
        if old is not None and _same(old, info):
            if info.headers is not None and not node.known:
                self._set_info(node, info)
            return
        if old is None or (old.etag, old.size) != (info.etag, info.size):
            node.epoch += 1  # handles opened before this must not go on with the new bytes
        self._set_info(node, info)

    def _set_info(self, node: FileNode, info: ObjectInfo) -> None:
        node.info = info
        node.expected = info.etag
        node.known = info.headers is not None
        node.target = None
        node.attrs = attributes.decode(info, self.settings.defaults, is_dir=False)

    async def ensure_known(self, node: Node) -> None:
        """Fetch the attributes that a listing does not carry, if they are wanted."""
        if node.known or self.settings.attributes == "listing" or self.local(node):
            return
        parent = node.parent
        if parent is None:
            await self._know_marker(node)
            return
        entry = parent.listing.get(node.name) if parent.listing is not None else None
        if entry is not None and parent.listing is not None and parent.read_until > trio.current_time():
            self._head_ahead(parent, parent.listing, entry)
        await self._know(parent, node.name)

    def _head_ahead(self, parent: DirNode, listing: Listing, entry: Entry) -> None:
        """Start the HEADs of the entries that a walker of the directory will ask for next."""
        ahead = self.settings.head_ahead
        if entry.index + ahead // 2 < listing.head_index:
            return
        start = max(entry.index + 1, listing.head_index)
        stop = min(entry.index + 1 + ahead, len(listing.order))
        for other in listing.order[start:stop]:
            child = parent.children.get(other.name)
            known = (
                child.known
                if child is not None
                else other.info is not None and other.info.headers is not None
            )
            if not known and not other.removed:
                self._background.start_soon(self._know_quietly, parent, other.name)
        listing.head_index = max(listing.head_index, stop)

    async def _know_quietly(self, parent: DirNode, name: bytes) -> None:
        try:
            await self._know(parent, name)
        except (COSError, FilesystemError) as exc:
            log.debug("attributes of %r ahead of time: %s", name, exc)

    async def _know(self, parent: DirNode, name: bytes) -> None:
        """HEAD one entry and note the answer; many askers share one request."""
        flight = self._flights.get((parent.ino, name))
        if flight is not None:
            await flight.wait()
            node = parent.children.get(name)
            if node is None or node.known:
                return
        self._flights[parent.ino, name] = event = trio.Event()
        try:
            await self._know_now(parent, name)
        finally:
            if self._flights.get((parent.ino, name)) is event:
                del self._flights[parent.ino, name]
            event.set()

    async def _know_now(self, parent: DirNode, name: bytes) -> None:
        node = parent.children.get(name)
        entry = parent.listing.get(name) if parent.listing is not None else None
        if node is not None:
            is_dir, component = node.is_dir, node.component
        elif entry is not None:
            is_dir, component = entry.is_dir, entry.component
        else:
            return
        key = parent.child_key(component) + ("/" if is_dir else "")
        since = trio.current_time()
        try:
            info = await self._head(parent.bucket, key)
        except PermissionDeniedError as exc:
            if not self._denied:
                log.warning("attributes cannot be read, defaults are shown: %s", exc)
            self._denied = True
            self._give_up_knowing(parent, name)
            return
        node = parent.children.get(name)
        entry = parent.listing.get(name) if parent.listing is not None else None
        if is_dir:
            marker = info or ObjectInfo(key, 0, "", time.time())
            if entry is not None and entry.is_dir:
                entry.info = replace(marker, headers=marker.headers or _NO_HEADERS)
            if isinstance(node, DirNode):
                self._apply_marker(node, info)
            return
        if info is None or (node is not None and self._sent_after(node, since)):
            return  # gone meanwhile: the next lookup says so; or written, and known from that
        self.remember(parent.bucket, [info])
        if entry is not None and not entry.is_dir:
            entry.info = info
        if isinstance(node, FileNode) and not self.local(node):
            self._set_info(node, info)

    def _give_up_knowing(self, parent: DirNode, name: bytes) -> None:
        node = parent.children.get(name)
        if node is not None:
            node.known = True

    async def _know_marker(self, node: Node) -> None:
        """Attributes of the root of a mounted prefix."""
        assert isinstance(node, DirNode)
        info = await self._head(node.bucket, node.prefix) if node.prefix else None
        self._apply_marker(node, info)

    def _apply_marker(self, node: DirNode, info: ObjectInfo | None) -> None:
        node.marker = info
        node.known = True
        if info is not None and not node.attrs_dirty:
            node.attrs = attributes.decode(info, self.settings.defaults, is_dir=True)

    async def _head(self, bucket: str, key: str) -> ObjectInfo | None:
        try:
            return await self.remote.metadata(self.remote.client.head_object, bucket, key)
        except NotFoundError:
            return None

    def remember(self, bucket: str, infos: list[ObjectInfo]) -> None:
        """Keep attributes for later mounts (a small write to a local database)."""
        if self._store is not None:
            self._store.put_many([(bucket, info) for info in infos if info.headers is not None])

    def _recall(self, bucket: str, page: ListPage) -> ListPage:
        """Add remembered attributes to a page of a listing. Runs in a worker thread."""
        if self._store is None or not page.objects:
            return page
        known = self._store.get_many(bucket, page.objects)
        return replace(page, objects=[known.get(info.key, info) for info in page.objects])

    # Listings

    async def listing(self, parent: DirNode) -> Listing:
        """A listing that is not too old, with at least its first page."""
        listing = parent.listing
        if listing is None or listing.started + self._ttl(parent) < trio.current_time():
            listing = await self._buckets(parent) if parent.is_buckets else self._new_listing(parent)
            parent.listing = listing
        try:
            await listing.load_first()
        except BaseException:
            if parent.listing is listing:
                parent.listing = None
            raise
        self._note_marker(parent, listing)
        return listing

    def load_ahead(self, listing: Listing) -> None:
        """Fetch the next page while the last one is being read."""

        async def load() -> None:
            try:
                await listing.load_until(len(listing.order))
            except COSError as exc:
                log.debug("next page ahead of time: %s", exc)  # the reader asks itself, and is told

        if not listing.complete:
            self._background.start_soon(load)

    def _note_marker(self, node: DirNode, listing: Listing) -> None:
        if listing.marker is None:
            if listing.complete and not node.attrs_dirty and not listing.made_here:
                node.marker = None
            return
        if node.marker is None or not _same(node.marker, listing.marker):
            node.marker = listing.marker
            node.known = listing.marker.headers is not None

    def _new_listing(self, parent: DirNode) -> Listing:
        now = trio.current_time()
        expired = [name for name, (_, until) in parent.tombstones.items() if until < now]
        if expired and not self.has_left(parent.bucket, parent.prefix, now):
            for gone in expired:
                del parent.tombstones[gone]
        for old in [name for name, until in parent.recent.items() if until < now]:
            del parent.recent[old]
        bucket = parent.bucket
        listing = Listing(
            self.remote,
            bucket,
            parent.prefix,
            hide=lambda entry: (
                (entry.name in parent.tombstones or self.has_any_left())
                and self._hidden(parent, entry, listing.started)
            ),
            page_hook=lambda page: self._recall(bucket, page),
        )
        before = parent.listing
        for name, node in parent.children.items():
            if name in parent.recent or self.local(node):
                info = node.info if isinstance(node, FileNode) else None
                listing.add(Entry(name, node.component, node.is_dir, info))
        if before is not None:
            for name in parent.recent:
                entry = before.get(name)
                if entry is not None and name not in listing.entries:
                    listing.add(Entry(name, entry.component, entry.is_dir, entry.info))
        return listing

    def _hidden(self, parent: DirNode, entry: Entry, since: float) -> bool:
        """Whether COS tells of something that was removed here."""
        key = parent.child_key(entry.component) + ("/" if entry.is_dir else "")
        told = entry.info.etag if entry.info is not None else ""
        if not parent.is_buckets and self.is_leaving(parent.bucket, key, told, since):
            return True
        tomb = parent.tombstones.get(entry.name)
        if tomb is None:
            return False
        etag, until = tomb
        if until < trio.current_time():
            return entry.is_dir and self.has_left(parent.bucket, key, since)
        return entry.is_dir or entry.info is None or not etag or entry.info.etag == etag

    async def _buckets(self, parent: DirNode) -> Listing:
        found = await self.remote.metadata(self.remote.client.list_buckets)
        listing = Listing.empty(self.remote, "", "")
        for bucket in sorted(found, key=lambda b: b.name):
            listing.add(Entry(bucket.name.encode(), bucket.name, True, None))
        return listing

    # Changes made here

    def add_file(self, parent: DirNode, name: bytes, component: str, attrs: Attributes) -> FileNode:
        """Put a file that is not in COS yet into the tree."""
        ino = self.table.number(parent.bucket, parent.child_key(component))
        node = FileNode(ino, parent, name, component, attrs)
        node.known = True
        self._attach(parent, node)
        return node

    def add_dir(self, parent: DirNode, name: bytes, component: str, attrs: Attributes) -> DirNode:
        """Put a directory that was made just now, and so is empty, into the tree."""
        if parent.is_buckets:
            ino = self.table.number(component, "")
            node = DirNode(ino, parent, name, component, attrs, bucket=component, prefix="")
        else:
            ino = self.table.number(parent.bucket, parent.child_key(component) + "/")
            node = DirNode(ino, parent, name, component, attrs)
        node.known = True
        self._attach(parent, node)
        node.listing = Listing.empty(self.remote, node.bucket, node.prefix)
        node.listing.made_here = True
        node.expires = trio.current_time() + self._ttl(parent)
        return node

    def _attach(self, parent: DirNode, node: Node) -> None:
        parent.children[node.name] = node
        parent.tombstones.pop(node.name, None)
        parent.recent[node.name] = trio.current_time() + self.settings.grace
        self.table.add(node)
        if parent.listing is not None:
            parent.listing.remove(node.name)
            info = node.info if isinstance(node, FileNode) else None
            parent.listing.add(Entry(node.name, node.component, node.is_dir, info))
        parent.touch()

    def committed(self, node: FileNode, info: ObjectInfo) -> None:
        """Note what COS holds now that we have written it."""
        node.info = info
        node.expected = info.etag
        node.known = True
        node.sent = trio.current_time()
        node.expires = node.sent + self.settings.metadata_ttl
        self.remember(node.bucket, [info])
        parent = node.parent
        if parent is None or node.unlinked:
            return
        parent.recent[node.name] = trio.current_time() + self.settings.grace
        entry = parent.listing.get(node.name) if parent.listing is not None else None
        if entry is not None:
            entry.info = info

    def remove(self, node: Node) -> None:
        """A name was removed here: hide it even if COS still lists it for a while."""
        parent = node.parent
        assert parent is not None
        etag = node.info.etag if isinstance(node, FileNode) and node.info is not None else ""
        parent.tombstones[node.name] = (etag, trio.current_time() + self.settings.grace)
        parent.recent.pop(node.name, None)
        if parent.listing is not None:
            parent.listing.remove(node.name)
        self.detach(node)
        parent.touch()

    def removal_failed(self, bucket: str, key: str, reason: str) -> None:
        """COS kept what was removed here: show it again."""
        for node in self._holders(bucket, key):
            node.tombstones.clear()
            node.listing = None

    def _holders(self, bucket: str, key: str) -> list[DirNode]:
        """The directory that a key is in, if anybody knows it."""
        found = []
        for node in self.table.nodes.values():
            if isinstance(node, DirNode) and not node.is_buckets and node.bucket == bucket:
                prefix = node.prefix
                if key.startswith(prefix) and "/" not in key[len(prefix) :].rstrip("/"):
                    found.append(node)
        return found

    def learn(self, node: FileNode, info: ObjectInfo) -> None:
        """Take over attributes that a HEAD showed by the way; what was set here since stays."""
        if node.known or info.headers is None or node.info is None or node.info.etag != info.etag:
            return
        shown = attributes.decode(node.info, self.settings.defaults, is_dir=False)
        found = attributes.decode(info, self.settings.defaults, is_dir=False)
        node.info = info
        node.known = True
        a = node.attrs
        node.attrs = replace(
            a,
            mode=found.mode if a.mode == shown.mode else a.mode,
            uid=found.uid if a.uid == shown.uid else a.uid,
            gid=found.gid if a.gid == shown.gid else a.gid,
            xattrs={**found.xattrs, **a.xattrs},
        )

    def lose(self, node: Node) -> None:
        """COS no longer has what the node stands for, and it was not removed here."""
        node.lost = True
        self.detach(node)

    def ask_again(self, bucket: str, key: str) -> None:
        """An object was changed past its node: do not believe what is known about it."""
        for node in self._holders(bucket, key):
            node.listing = None
            for child in node.children.values():
                child.expires = 0.0

    def detach(self, node: Node) -> None:
        """Take a node out of its directory; it lives on as long as somebody holds it."""
        parent = node.parent
        if parent is not None and parent.children.get(node.name) is node:
            del parent.children[node.name]
        node.unlinked = True
        self.table.drop_if_idle(node)

    def move(self, node: Node, parent: DirNode, name: bytes, component: str) -> None:
        """Give a node another place; what is below a directory moves with it."""
        old = node.parent
        assert old is not None
        if old.children.get(node.name) is node:
            del old.children[node.name]
        etag = node.info.etag if isinstance(node, FileNode) and node.info is not None else ""
        old.tombstones[node.name] = (etag, trio.current_time() + self.settings.grace)
        old.recent.pop(node.name, None)
        if old.listing is not None:
            old.listing.remove(node.name)
        old.touch()
        node.parent, node.name, node.component = parent, name, component
        self._attach(parent, node)

    def forget_all(self) -> None:
        """Much was changed past the tree: believe nothing that was listed."""
        for node in self.table.nodes.values():
            node.expires = 0.0
            if isinstance(node, DirNode):
                node.listing = None

    def forget_below(self, node: DirNode) -> None:
        """Ask COS again about everything below a directory whose keys have changed."""
        node.listing = None
        node.recent.clear()
        node.tombstones.clear()
        for child in node.children.values():
            child.expires = 0.0
            if isinstance(child, DirNode):
                self.forget_below(child)

    async def is_empty(self, node: DirNode) -> bool:
        """Whether a directory has no entries; asks COS unless a fresh listing tells."""
        listing = await self.listing(node)
        while not listing.live and not listing.complete:
            await listing.load_until(len(listing.order))
        return not listing.live and not any(self.local(child) for child in node.children.values())

    def maybe_symlink(self, info: ObjectInfo | None) -> bool:
        """Whether an object whose attributes are not known could be a link or a device node."""
        return self.settings.attributes != "listing" and (info is None or info.size <= SYMLINK_MAX)


_NO_HEADERS = Headers()


def _same(old: ObjectInfo, new: ObjectInfo) -> bool:
    """Whether both describe the same bytes and the same metadata.

    A metadata change keeps the etag but moves Last-Modified; a PUT's own date is only known to
    the second, and to within the time the request took.
    """
    return old.etag == new.etag and old.size == new.size and abs(old.last_modified - new.last_modified) < 2.0
