"""Attributes that a listing does not carry: asked for by HEAD, many at a time, and remembered.

They are fetched only for what somebody asks about, and ahead of whoever walks a directory.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import trio

from cosfs.client.model import Headers, ListPage, ObjectInfo
from cosfs.errors import COSError, FilesystemError, NotFoundError, PermissionDeniedError
from cosfs.fs import facts
from cosfs.fs.attrdb import AttributeStore
from cosfs.fs.background import Background
from cosfs.fs.inodes import DirNode, FileNode, Ino, Node
from cosfs.fs.kernelcache import KernelCache, NoKernel
from cosfs.fs.listing import Entry, Listing
from cosfs.fs.remote import Remote
from cosfs.fs.settings import FsSettings
from cosfs.fs.walks import Walks
from cosfs.transfer import attributes

log = logging.getLogger(__name__)

_NO_HEADERS = Headers()


class Heads:
    """Fetches attributes. background runs the requests that go ahead of a reader."""

    def __init__(
        self,
        remote: Remote,
        settings: FsSettings,
        background: Background,
        store: AttributeStore | None = None,
    ) -> None:
        self._remote = remote
        self._settings = settings
        self._background = background
        self._store = store
        self._flights: dict[tuple[Ino, bytes], trio.Event] = {}
        self._denied = False
        self.kernel: KernelCache = NoKernel()
        self.walks: Walks | None = None  # may know of a directory's object already

    async def ensure_known(self, node: Node) -> None:
        """Fetch the attributes that a listing does not carry, if they are wanted."""
        if self._settings.attributes == "listing" or facts.local(node):
            return
        parent = node.parent
        if node.known:
            if isinstance(node, DirNode):
                self._check_again(node)
            elif parent is not None and parent.listing is not None and parent.listing.walk:
                self._walk_on(parent, parent.listing, node.name)
            return
        if parent is None:
            await self._know_marker(node)
            return
        entry = parent.listing.get(node.name) if parent.listing is not None else None
        if entry is not None and parent.listing is not None:
            most = self._settings.head_ahead
            being_read = parent.read_until > trio.current_time()
            self._head_ahead(
                parent, parent.listing, entry, parent.listing.walked(entry.index, being_read, most)
            )
        await self._know(parent, node.name)

    def _walk_on(self, parent: DirNode, listing: Listing, name: bytes) -> None:
        """Have the next attributes ready before who asks for one after the other gets there."""
        entry = listing.get(name)
        if entry is not None:
            self._head_ahead(parent, listing, entry, listing.walk)

    def _head_ahead(self, parent: DirNode, listing: Listing, entry: Entry, ahead: int) -> None:
        """Start the HEADs of the entries that a walker of the directory will ask for next."""
        if not ahead or entry.index + ahead // 2 < listing.head_index:
            return
        start = max(entry.index + 1, listing.head_index)
        stop = min(entry.index + 1 + ahead, listing.count)
        for other in listing.between(start, stop):
            child = parent.children.get(other.name)
            known = (
                child.known
                if child is not None
                else other.info is not None and other.info.headers is not None
            )
            if not known and not other.removed:
                self._background.start_soon(self._know_quietly, parent, other.name)
        listing.head_index = max(listing.head_index, stop)

    def _check_again(self, node: DirNode) -> None:
        """See, without letting anybody wait, whether a directory's attributes are still those of its marker.

        A listing of its parent says nothing of them, and one of its own does: so nothing is asked while the
        parent is being walked.
        """
        now, parent = trio.current_time(), node.parent
        if now < node.marker_until or parent is None or parent.is_buckets or parent.read_until > now:
            return
        node.marker_until = now + self._settings.metadata_ttl
        if not node.attrs_dirty:
            self._background.start_soon(self._look_at_marker, node)

    async def _look_at_marker(self, node: DirNode) -> None:
        before, key = node.marker, node.key
        try:
            info = await self.ask(node.bucket, key)
        except COSError as exc:
            log.debug("attributes of %s: %s", node.url, exc)
            return
        unchanged = info is None if before is None else info is not None and facts.same(before, info)
        if unchanged or node.marker is not before or node.unlinked or node.attrs_dirty or node.key != key:
            return
        self._apply_marker(node, info)
        self.kernel.forget_inode(node.ino)

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
        if is_dir and isinstance(node, DirNode) and self.walks is not None:
            told, marker = self.walks.marker(parent.bucket, key, self._settings.metadata_ttl)
            if told and (marker is None or marker.headers is not None):
                self._apply_marker(node, marker)
                return
        since = trio.current_time()
        try:
            info = await self.ask(parent.bucket, key)
        except PermissionDeniedError as exc:
            if not self._denied:
                log.warning("attributes cannot be read, defaults are shown: %s", exc)
            self._denied = True
            self._give_up_knowing(parent, name)
            return
        node = parent.children.get(name)
        entry = parent.listing.get(name) if parent.listing is not None else None
        if is_dir:
            if isinstance(node, DirNode) and node.sent > since:
                return  # written meanwhile, and known from that
            marker = info or ObjectInfo(key, 0, "", time.time())
            if entry is not None and entry.is_dir:
                entry.info = replace(marker, headers=marker.headers or _NO_HEADERS)
            if isinstance(node, DirNode):
                self._apply_marker(node, info)
            return
        if info is None or (node is not None and facts.sent_after(node, since)):
            return  # gone meanwhile: the next lookup says so; or written, and known from that
        self.remember(parent.bucket, [info])
        if entry is not None and not entry.is_dir:
            entry.info = info
        if isinstance(node, FileNode) and not facts.local(node):
            facts.set_info(node, info, self._settings.defaults)

    def _give_up_knowing(self, parent: DirNode, name: bytes) -> None:
        node = parent.children.get(name)
        if node is not None:
            node.known = True

    async def _know_marker(self, node: Node) -> None:
        """Attributes of the root of a mounted prefix."""
        assert isinstance(node, DirNode)
        info = await self.ask(node.bucket, node.prefix) if node.prefix else None
        self._apply_marker(node, info)

    def _apply_marker(self, node: DirNode, info: ObjectInfo | None) -> None:
        node.marker = info
        node.marker_until = trio.current_time() + self._settings.metadata_ttl
        node.known = True
        if info is not None and not node.attrs_dirty:
            node.attrs = attributes.decode(info, self._settings.defaults, is_dir=True)

    async def ask(self, bucket: str, key: str) -> ObjectInfo | None:
        """HEAD an object; None if there is none."""
        try:
            return await self._remote.small_question(self._remote.client.head_object, bucket, key)
        except NotFoundError:
            return None

    # Across mounts

    def remember(self, bucket: str, infos: list[ObjectInfo]) -> None:
        """Keep attributes for later mounts (a small write to a local database)."""
        if self._store is not None:
            self._store.put_many([(bucket, info) for info in infos if info.headers is not None])

    def recall(self, bucket: str, page: ListPage) -> ListPage:
        """Add remembered attributes to a page of a listing. Runs in a worker thread."""
        if self._store is None or not page.objects:
            return page
        known = self._store.get_many(bucket, page.objects)
        return replace(page, objects=[known.get(info.key, info) for info in page.objects])
