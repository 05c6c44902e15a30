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
import stat
import time
from collections.abc import Iterable

import trio

from cosfs.client.model import ObjectInfo
from cosfs.errors import COSError, FilesystemError
from cosfs.fs import facts, names
from cosfs.fs.attrdb import AttributeStore
from cosfs.fs.background import Background, together
from cosfs.fs.heads import Heads
from cosfs.fs.inodes import ROOT_INO, DirNode, FileNode, InodeTable, Node
from cosfs.fs.kernelcache import KernelCache, NoKernel
from cosfs.fs.listing import KEPT, Entry, Listing
from cosfs.fs.listings import Listings
from cosfs.fs.moves import Moves
from cosfs.fs.remote import Remote
from cosfs.fs.settings import FsSettings
from cosfs.fs.sparing import SYMLINK_MAX, Sparing
from cosfs.transfer import attributes
from cosfs.transfer.attributes import Attributes

log = logging.getLogger(__name__)

NO_ETAG = "/"  # in the place of the etag of what was removed: no object has it
ABSENT_MAX = 1000  # names of a directory that the kernel was told are not there


class Tree:
    """Listings and their nodes. background runs what goes ahead of a reader."""

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
        self.sparing = Sparing()
        self.kernel: KernelCache = NoKernel()  # see use_kernel
        self.heads = Heads(remote, settings, background, store)
        self.listings = Listings(remote, settings, background, self.heads)
        self.listings.on_listed = self._listed
        self.listings.on_many = lambda: self.table.excess.set()
        defaults = settings.defaults
        attrs = attributes.decode(ObjectInfo("", 0, "", time.time()), defaults, is_dir=True)
        self.root = DirNode(ROOT_INO, None, b"", "", attrs, bucket=settings.bucket, prefix=settings.prefix)
        self.root.known = not settings.prefix
        self.root.nlookup = 1
        self.table.add(self.root)

    def use_kernel(self, kernel: KernelCache) -> None:
        """Tell the kernel from now on what it must forget."""
        self.kernel = self.heads.kernel = kernel

    # Looking up

    async def lookup(self, parent: DirNode, name: bytes, *, sparing: bool = False) -> Node:
        """Return the node of a name, with its attributes; ENOENT if there is none.

        sparing: without what is not known of them, if it is likely to be removed in a moment.
        """
        while True:
            node = parent.children.get(name)
            if node is None or not self.fresh(node):
                node = await self._resolve_or(node, parent, name)
            if not (sparing and self.sparing.may_spare(node)):
                await self.heads.ensure_known(node)
            if node.unlinked:
                raise FilesystemError(errno.ENOENT)
            if self.table.get(node.ino) is node:
                return node
            # While we waited somebody closed it, and nobody else seemed to need it.

    def fresh(self, node: Node) -> bool:
        """Whether COS need not be asked about this node now."""
        return facts.local(node) or node.expires > trio.current_time()

    async def _resolve_or(self, known: Node | None, parent: DirNode, name: bytes) -> Node:
        """Ask COS about a name; while it gives no answer, what we know of it is the best there is."""
        try:
            return await self._resolve(parent, name)
        except COSError as exc:
            if known is None or known.unlinked or not facts.tells_nothing(exc):
                raise
            return known

    async def _resolve(self, parent: DirNode, name: bytes) -> Node:
        listing = parent.listing
        entry = self.listings.fresh_entry(parent, name)
        if entry is None or listing is None:
            listing = await self.listings.listing(parent)
            entry = listing.find(name)
        if entry is None and parent.is_buckets:
            entry = await self.listings.bucket_entry(parent, listing, name)
        since = listing.asked(entry) if entry is not None else listing.started
        if entry is None and not listing.complete and 0 < listing.expected <= KEPT:
            entry = await listing.search(name)  # one request finds a thousand of its neighbours as well
        if entry is None and not listing.whole:
            since = trio.current_time()
            entry = await self._probe(parent, name)
            if entry is not None and self.listings.hidden(parent, entry, since):
                entry = None
        node = self._reconcile(parent, entry.name if entry is not None else name, entry, since)
        if node is None:
            raise FilesystemError(errno.ENOENT)
        self._believe(node, parent, since)
        return node

    def _believe(self, node: Node | None, parent: DirNode, since: float) -> None:
        """COS was asked about a node at since: need not be asked again for a while."""
        if node is not None and not facts.local(node):
            node.expires = max(node.expires, since + self.listings.ttl(parent))

    async def refresh(self, node: Node) -> None:
        """Ask COS again if what we know about node is too old; ESTALE if it is gone."""
        if self.fresh(node) or node.unlinked or node.parent is None:
            return
        if isinstance(node, FileNode) and node.opens:
            return  # an open file keeps the attributes it was opened with
        try:
            found = await self._resolve_or(node, node.parent, node.name)
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
            listing = await self.listings.from_start(parent)
            return await listing.search(name)  # a shortened name can only be found in the list of names
        text = component if component is not None else shadow
        assert text is not None
        found: dict[str, object] = {}

        async def head() -> None:
            if not text:  # the key of the directory itself
                found["file"] = None
                return
            found["file"] = await self.heads.ask(parent.bucket, parent.child_key(text))

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
        if component is not None and found["dir"]:
            return Entry(name, text, True, None)
        shown = name if found["dir"] else names.to_name(text)
        return Entry(shown, text, False, info) if info is not None else None

    def _reconcile(self, parent: DirNode, name: bytes, entry: Entry | None, since: float) -> Node | None:
        """Bring the live node of a name in line with what COS said about it when asked at since."""
        node = parent.children.get(name)
        if node is not None and (facts.local(node) or facts.sent_after(node, since)):
            return node
        is_dir = entry is not None and entry.is_dir and not entry.removed
        if isinstance(node, DirNode) and not is_dir and facts.holds_changes(node):
            self._keep_changed(parent, node)
            return node
        if entry is None or entry.removed:
            if node is not None:
                self.lose(node)
            return None
        if node is not None and node.is_dir != entry.is_dir:
            self.lose(node)
            node = parent.children.get(name)  # the file that was shown beside a directory, or nothing
        if node is None:
            return self._make(parent, entry)
        if isinstance(node, FileNode) and entry.info is not None and not self.take(node, entry.info):
            return self._make(parent, entry)
        return node

    def take(self, node: FileNode, info: ObjectInfo) -> bool:
        """Take over what COS said about an unchanged file; False if that needs another node.

        The kernel's pages belong to a node: an open file keeps it, and what was read of the old object, and
        whoever opens the new one gets a node and pages of his own.
        """
        if node.opens and facts.replaced(node, info):
            self.lose(node)
            return False
        if facts.apply(node, info, self.settings.defaults) and node.nlookup:
            self.kernel.forget_inode(node.ino)
        return True

    def _keep_changed(self, parent: DirNode, node: DirNode) -> None:
        """A directory that COS no longer has holds changes that are not sent yet: it stays for them."""
        if parent.listing is not None and parent.listing.get(node.name) is None:
            log.warning("%s was removed by somebody else; it is kept for changes made here", node.url)
            parent.listing.add(Entry(node.name, node.component, True, None))

    def _listed(self, parent: DirNode, listing: Listing, entries: Iterable[Entry]) -> None:
        """A page has arrived: what is known of its names, here and in the kernel, follows."""
        now = trio.current_time()
        children, ttl = parent.children, self.listings.ttl(parent)
        if children:
            for entry in entries:
                if entry.name in children and not entry.removed:
                    asked = listing.asked(entry)
                    node = self._reconcile(parent, entry.name, entry, asked)
                    if node is not None and not facts.local(node):
                        node.expires = max(node.expires, asked + ttl)
        for name, until in list(parent.absent.items()):
            appeared = listing.get(name) is not None
            if appeared:
                self.kernel.forget_name(parent.ino, name)
            if appeared or until < now:
                del parent.absent[name]
        if listing.whole:
            for name in [name for name in children if listing.get(name) is None]:
                self._reconcile(parent, name, None, listing.started)

    def note_absent(self, parent_ino: int, name: bytes, seconds: float) -> None:
        """The kernel will believe for a while that there is no such name."""
        parent = self.table.get(parent_ino)
        if isinstance(parent, DirNode):
            if len(parent.absent) >= ABSENT_MAX:
                parent.absent.clear()  # these are found a moment later, that is all
            parent.absent[name] = trio.current_time() + seconds

    async def ask(self, parent: DirNode, name: bytes) -> Node | None:
        """Ask COS about one name now, whatever is known; the node is only looked up, not referenced."""
        since = trio.current_time()
        if parent.is_buckets:
            parent.listing = None
            listing = await self.listings.listing(parent)
            entry = listing.get(name) or self.listings.entry_by_short_name(listing, name)
        else:
            entry = await self._probe(parent, name)
            if entry is not None and self.listings.hidden(parent, entry, since):
                entry = None
        if entry is not None and entry.info is not None:
            self.heads.remember(parent.bucket, [entry.info])
        if entry is not None and not parent.is_buckets and entry.name != name:
            self._show_as(parent, name, entry.name)
            name = entry.name
        listing_now = parent.listing
        if listing_now is not None and not parent.is_buckets:
            listing_now.remove(name)
            if entry is not None:
                listing_now.add(entry)
        node = self._reconcile(parent, name, entry, since)
        self._believe(node, parent, since)
        return node

    def node_for(self, parent: DirNode, entry: Entry, listing: Listing | None = None) -> Node:
        """The node of an entry of a listing; the caller counts the kernel's reference."""
        since = listing.asked(entry) if listing is not None else 0.0
        node = self._reconcile(parent, entry.name, entry, since)
        assert node is not None
        if listing is not None:
            self._believe(node, parent, since)
        return node

    def _make(self, parent: DirNode, entry: Entry) -> Node:
        node: Node
        defaults = self.settings.defaults
        if entry.is_dir:
            info = entry.info or ObjectInfo("", 0, "", time.time())
            attrs = attributes.decode(info, defaults, is_dir=True)
            node = self._new_dir(parent, entry.name, entry.component, attrs)
            node.known = node.is_bucket or entry.info is not None
            if not node.is_bucket:
                node.marker = entry.info
        else:
            assert entry.info is not None
            ino = self.table.number(parent.bucket, parent.child_key(entry.component))
            attrs = attributes.decode(entry.info, defaults, is_dir=False)
            node = FileNode(ino, parent, entry.name, entry.component, attrs)
            facts.set_info(node, entry.info, defaults)
        parent.children[entry.name] = node
        self.table.add(node)
        return node

    def _new_dir(self, parent: DirNode, name: bytes, component: str, attrs: Attributes) -> DirNode:
        if parent.is_buckets:
            ino = self.table.number(component, "")
            return DirNode(ino, parent, name, component, attrs, bucket=component, prefix="")
        ino = self.table.number(parent.bucket, parent.child_key(component) + "/")
        return DirNode(ino, parent, name, component, attrs)

    async def is_empty(self, node: DirNode) -> bool:
        """Whether a directory has no entries; asks COS unless a fresh listing tells."""
        await self.listings.listing(node)
        return not await self.has_others(node) and not any(facts.local(c) for c in node.children.values())

    async def has_others(self, node: DirNode, leaving: bytes = b"") -> bool:
        """Whether a directory has entries besides one; as much as that takes is read of its listing."""
        listing = node.listing
        if listing is None or (listing.first and len(listing.entries) <= (leaving in listing.entries)):
            listing = await self.listings.from_start(node)  # those that were dropped may have gone
        while (count := len(listing.entries)) <= (leaving in listing.entries) and not listing.complete:
            await listing.load_until(listing.count)
        return count > (leaving in listing.entries)

    def maybe_symlink(self, info: ObjectInfo | None) -> bool:
        """Whether an object whose attributes are not known could be a link or a device node."""
        return self.settings.attributes != "listing" and (info is None or info.size <= SYMLINK_MAX)

    # What its parts do

    @staticmethod
    def local(node: Node) -> bool:
        """Whether our own state of the node is the truth, whatever COS lists."""
        return facts.local(node)

    async def ensure_known(self, node: Node) -> None:
        """Fetch the attributes that a listing does not carry, if they are wanted."""
        await self.heads.ensure_known(node)

    async def ensure_stored(self, node: Node) -> None:
        """Fetch the attributes that COS has, wanted or not: what is not changed of them must stay.

        ESTALE if it is not of the kind that was shown: the kernel looks the name up again.
        """
        kind = stat.S_IFMT(node.attrs.mode)
        await self.heads.ensure_known(node, always=True)
        if not node.known and isinstance(node, FileNode) and node.info is not None:
            found = await self.heads.ask(node.bucket, node.key)  # it is being written
            if found is not None:
                self.learn(node, found)
        if stat.S_IFMT(node.attrs.mode) != kind:
            raise FilesystemError(errno.ESTALE, f"{node.url} is of another kind than was shown")

    async def listing(self, parent: DirNode) -> Listing:
        """A listing that is not too old, with at least its first page."""
        return await self.listings.listing(parent)

    def load_ahead(self, listing: Listing) -> None:
        """Fetch the next page while the last one is being read."""
        self.listings.load_ahead(listing)

    def entry_by_short_name(self, listing: Listing, name: bytes) -> Entry | None:
        """The bucket `name-<appid>` for `name`, if there is exactly one."""
        return self.listings.entry_by_short_name(listing, name)

    def apply(self, node: FileNode, info: ObjectInfo) -> None:
        """Take over what COS said about an unchanged file, for handles that are open as well."""
        facts.apply(node, info, self.settings.defaults)

    def learn(self, node: FileNode, info: ObjectInfo) -> None:
        """Take over attributes that a HEAD showed by the way."""
        facts.learn(node, info, self.settings.defaults)

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
        node = self._new_dir(parent, name, component, attrs)
        node.known = True
        self._attach(parent, node)
        node.listing = Listing.empty(self.remote, node.bucket, node.prefix)
        node.listing.made_here = True
        node.expires = node.marker_until = trio.current_time() + self.listings.ttl(parent)
        return node

    def _attach(self, parent: DirNode, node: Node) -> None:
        parent.children[node.name] = node
        parent.tombstones.pop(node.name, None)
        parent.absent.pop(node.name, None)  # the kernel knows: it has asked for this name to be made
        parent.recent[node.name] = trio.current_time() + self.settings.grace
        self.table.add(node)
        if parent.listing is not None:
            parent.listing.remove(node.name)
            info = node.info if isinstance(node, FileNode) else None
            parent.listing.add(Entry(node.name, node.component, node.is_dir, info))
        parent.touch()

    def committed(self, node: FileNode, info: ObjectInfo) -> None:
        """Note what COS holds now that we have written it, or copied it: maybe without the attributes."""
        node.info = info
        node.expected = info.etag
        node.known = node.known or info.headers is not None
        node.dated = False
        node.sent = trio.current_time()
        node.expires = node.sent + self.settings.metadata_ttl
        self.heads.remember(node.bucket, [info])
        self.heads.writes.note(node.bucket, info.key)
        parent = node.parent
        if parent is None or node.unlinked:
            return
        parent.recent[node.name] = trio.current_time() + self.settings.grace
        entry = parent.listing.get(node.name) if parent.listing is not None else None
        if entry is not None:
            entry.info = info

    def remove(self, node: Node) -> None:
        """A name was removed here: hide it even if COS still lists it for a while."""
        self._free_name(node)
        self.detach(node)

    def move(self, node: Node, parent: DirNode, name: bytes, component: str) -> None:
        """Give a node another place; what is below a directory moves with it."""
        old = node.parent
        assert old is not None
        if old.children.get(node.name) is node:
            del old.children[node.name]
        self._free_name(node)
        self._leave_to_file(old, node)
        node.parent, node.name, node.component = parent, name, component
        self._attach(parent, node)
        self.table.keep_number(node)

    def _free_name(self, node: Node) -> None:
        """Nothing is shown under the name of a node, though COS may list it for a while."""
        parent = node.parent
        assert parent is not None
        self.table.let_go_number(node)
        etag = node.info.etag if isinstance(node, FileNode) and node.info is not None else ""
        if isinstance(node, DirNode):
            # It hides no file of its name, but for one that was removed beside it.
            etag, _ = parent.tombstones.get(names.shadow_name(node.component), (NO_ETAG, 0.0))
        parent.tombstones[node.name] = (etag, trio.current_time() + self.settings.grace)
        parent.recent.pop(node.name, None)
        if parent.listing is not None:
            parent.listing.remove(node.name)
        parent.touch()

    def detach(self, node: Node) -> None:
        """Take a node out of its directory; it lives on as long as somebody holds it."""
        parent = node.parent
        if parent is not None and parent.children.get(node.name) is node:
            del parent.children[node.name]
            self._leave_to_file(parent, node)
        node.unlinked = True
        self.table.drop_if_idle(node)

    def _leave_to_file(self, parent: DirNode, node: Node) -> None:
        """A directory has left its name: the file of that name, if any, is shown under it from now on.

        Whoever has read the other name before finds it under that as well, see Listing.find().
        """
        listed = parent.listing.get(node.name) if parent.listing is not None else None
        if isinstance(node, DirNode) and not parent.is_buckets and (listed is None or not listed.is_dir):
            self._show_as(parent, names.shadow_name(node.component), node.name)

    def _show_as(self, parent: DirNode, old: bytes, new: bytes) -> None:
        """A file gets another name because there is, or no longer is, a directory of its name."""
        if parent.listing is not None:
            parent.listing.rename(old, new)
        if old in parent.recent:
            parent.recent[new] = parent.recent.pop(old)
        node = parent.children.pop(old, None)
        if node is not None:
            node.name = new
            parent.children[new] = node
            self.kernel.forget_name(parent.ino, old)

    # Changes made past the tree

    def removal_failed(self, bucket: str, key: str, reason: str) -> None:
        """COS kept what was removed here: show it again."""
        self.heads.writes.note(bucket, key)
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

    def lose(self, node: Node) -> None:
        """COS no longer has what the node stands for, and it was not removed here."""
        node.lost = True
        if node.parent is not None and node.nlookup:
            self.kernel.forget_name(node.parent.ino, node.name)
        self.detach(node)

    def ask_again(self, bucket: str, key: str) -> None:
        """An object was changed past its node: do not believe what is known about it."""
        self.heads.writes.note(bucket, key)
        for node in self._holders(bucket, key):
            node.listing = None
            for child in node.children.values():
                child.expires = 0.0

    def forget_all(self) -> None:
        """Much was changed past the tree: believe nothing that was listed."""
        self.heads.writes.note_everything()
        for node in self.table.nodes.values():
            node.expires = 0.0
            if isinstance(node, DirNode):
                node.listing = None

    def forget_below(self, node: DirNode) -> None:
        """Ask COS again about everything below a directory whose keys have changed."""
        self.heads.writes.note_everything()
        node.listing = None
        node.recent.clear()
        node.tombstones.clear()
        for child in node.children.values():
            child.expires = 0.0
            if isinstance(child, DirNode):
                self.forget_below(child)
