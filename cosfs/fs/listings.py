"""What is in a directory: listings of COS corrected by what was changed here lately."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable

import trio

from cosfs.errors import COSError
from cosfs.fs import facts
from cosfs.fs.background import Background
from cosfs.fs.emptied import Emptied
from cosfs.fs.heads import Heads
from cosfs.fs.inodes import DirNode, FileNode
from cosfs.fs.listing import Entry, Listing
from cosfs.fs.remote import Remote
from cosfs.fs.settings import FsSettings
from cosfs.fs.walks import Walks

log = logging.getLogger(__name__)

ARRIVED_MAX = 50_000  # entries after which it is seen to how many are in memory
FULL_NAME = re.compile(r"-\d+$")
COUNTED = 256  # entries that are gone through at each stat of their directory


class Listings:
    """Listings of directories, each believed for a while."""

    def __init__(self, remote: Remote, settings: FsSettings, background: Background, heads: Heads) -> None:
        self._remote = remote
        self._settings = settings
        self._background = background
        self._heads = heads
        self._walks = Walks(remote, background, heads.recall, heads.writes)
        heads.walks = self._walks
        # Told by whoever removes: (bucket, key, etag) is no longer in the tree, though COS,
        # asked at a given time, still had it.
        self.is_leaving: Callable[[str, str, str, float], bool] = lambda bucket, key, etag, since: False
        # Told of each page: the directory, its listing, and the entries that the page brought.
        self.on_listed: Callable[[DirNode, Listing, Iterable[Entry]], None] = lambda parent, listing, new: (
            None
        )
        self.on_many: Callable[[], None] = lambda: None  # called when many entries have come into memory
        self.arrived = 0
        # The same of anything at all, which is usually not so.
        self.has_any_left: Callable[[], bool] = lambda: False
        self.emptied: Emptied | None = None  # directories that are no longer in the tree

    def ttl(self, parent: DirNode) -> float:
        """For how long what a directory holds is believed."""
        return self._settings.buckets_ttl if parent.is_buckets else self._settings.metadata_ttl

    async def listing(self, parent: DirNode) -> Listing:
        """A listing that is not too old, with at least its first page."""
        await self._reveal(parent)
        before = listing = parent.listing
        if not self._is_fresh(parent):
            listing = None
        try:
            if listing is None:
                listing = await self._buckets(parent) if parent.is_buckets else self._new_listing(parent)
                parent.listing = listing
                if parent.is_buckets:
                    self.on_listed(parent, listing, listing.between(0, listing.count))
            await listing.load_first()
        except BaseException as exc:
            if parent.listing is listing:
                parent.listing = before if before is not listing else None
            before = parent.listing  # somebody else who waited may have put it back
            if before is None or not before.started_reading or not facts.tells_nothing(exc):
                raise
            listing = before  # what was there is the best that can be told
        self._note_marker(parent, listing)
        return listing

    def fresh_entry(self, parent: DirNode, name: bytes) -> Entry | None:
        """A name of the current listing if its page is not too old, though an earlier one may be."""
        entry = parent.listing.get(name) if parent.listing is not None else None
        if entry is None or parent.listing is None:
            return None
        return entry if parent.listing.asked(entry) + self.ttl(parent) >= trio.current_time() else None

    async def from_start(self, parent: DirNode) -> Listing:
        """A listing that is not too old, of which nothing was dropped yet."""
        # A listing that was thrown away shall not come back from before.
        await self._reveal(parent)
        is_due = parent.listing is not None or not parent.listed
        if is_due and not self._is_fresh(parent) and not parent.is_buckets and not parent.distrusted:
            told = await self._walks.take(parent, self.ttl(parent))
            if told is not None and not self._is_fresh(parent):
                parent.listing = self._new_listing(parent)
                parent.listing.fill(told.page, told.started)
        listing = await self.listing(parent)
        if listing.first:
            parent.listing = None
            listing = await self.listing(parent)
        return listing

    async def _reveal(self, parent: DirNode) -> None:
        """Before a directory is listed: what was removed from it is there if somebody uses its name since."""
        if not self.emptied or parent.is_buckets or self._is_fresh(parent):
            return
        bucket = parent.bucket
        for key in self.emptied.inside(bucket, parent.prefix, older_than=self._settings.grace):
            try:
                if await self._is_used(bucket, key):
                    self.emptied.written(bucket, key)
            except COSError as exc:
                log.debug("cos://%s/%s: %s", bucket, key, exc)  # who lists the directory is told

    async def _is_used(self, bucket: str, prefix: str) -> bool:
        """Whether COS has anything below a prefix that is not only left over."""
        marker = ""
        while True:
            since = trio.current_time()
            page = await self._remote.metadata(
                self._remote.client.list_objects, bucket, prefix=prefix, marker=marker
            )
            if any(not self.is_leaving(bucket, info.key, info.etag, since) for info in page.objects):
                return True
            marker = page.next_marker
            if not marker:
                return False

    def _is_fresh(self, parent: DirNode) -> bool:
        listing = parent.listing
        return listing is not None and listing.started + self.ttl(parent) >= trio.current_time()

    def _arrived(self, parent: DirNode, listing: Listing, new: list[Entry]) -> None:
        self.arrived += len(new)
        if self.arrived >= ARRIVED_MAX:
            self.arrived = 0
            self.on_many()
        self.on_listed(parent, listing, new)

    def subdirectories(self, node: DirNode) -> int | None:
        """How many directories are in a directory; None unless a small, complete, fresh listing tells."""
        listing = node.listing
        if listing is None or not listing.whole or len(listing.entries) > COUNTED:
            return None
        if listing.started + self.ttl(node) < trio.current_time():
            return None
        return sum(entry.is_dir for entry in listing.entries.values())

    def load_ahead(self, listing: Listing) -> None:
        """Fetch the next page while the last one is being read."""

        async def load() -> None:
            try:
                await listing.load_until(listing.count)
            except COSError as exc:
                log.debug("next page ahead of time: %s", exc)  # the reader asks itself, and is told

        if not listing.complete:
            self._background.start_soon(load)

    def _note_marker(self, node: DirNode, listing: Listing) -> None:
        if listing.marker is not None or listing.complete:
            node.marker_until = max(node.marker_until, listing.started + self._settings.metadata_ttl)
        if listing.marker is None:
            if listing.complete and not node.attrs_dirty and not listing.made_here:
                node.marker = None
            return
        if node.marker is None or not facts.same(node.marker, listing.marker, exactly=False):
            node.marker = listing.marker
            node.known = listing.marker.headers is not None

    def _new_listing(self, parent: DirNode) -> Listing:
        now = trio.current_time()
        expired = [name for name, (_, until) in parent.tombstones.items() if until < now]
        for gone in expired:
            del parent.tombstones[gone]
        for old in [name for name, until in parent.recent.items() if until < now]:
            del parent.recent[old]
        bucket = parent.bucket
        parent.listed = True
        distrusted, parent.distrusted = parent.distrusted, False
        listing = Listing(
            self._remote,
            bucket,
            parent.prefix,
            hide=lambda entry: (
                (entry.name in parent.tombstones or self.has_any_left())
                and self.hidden(parent, entry, listing.started)
            ),
            page_hook=(lambda page: page) if distrusted else (lambda page: self._heads.recall(bucket, page)),
            on_page=lambda listing, new: self._arrived(parent, listing, new),
        )
        before = parent.listing
        if before is not None:
            listing.expected = len(before) if before.complete else before.expected
            listing.attributes, listing.contents = before.attributes, before.contents
        for name, node in parent.children.items():
            if name in parent.recent or facts.local(node):
                info = node.info if isinstance(node, FileNode) else None
                listing.add(Entry(name, node.component, node.is_dir, info))
        if before is not None:
            for name in parent.recent:
                entry = before.get(name)
                if entry is not None and name not in listing.entries:
                    listing.add(Entry(name, entry.component, entry.is_dir, entry.info))
        return listing

    def hidden(self, parent: DirNode, entry: Entry, since: float) -> bool:
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
            return False
        return entry.is_dir or entry.info is None or not etag or entry.info.etag == etag

    async def _buckets(self, parent: DirNode) -> Listing:
        found = await self._remote.metadata(self._remote.client.list_buckets)
        listing = Listing.empty(self._remote, "", "")
        for bucket in sorted(found, key=lambda b: b.name):
            listing.add(Entry(bucket.name.encode(), bucket.name, True, None))
        return listing

    # Buckets

    async def bucket_entry(self, parent: DirNode, listing: Listing, name: bytes) -> Entry | None:
        """Find a bucket by its short name, or one that was made since the buckets were listed."""
        entry = self.entry_by_short_name(listing, name)
        if entry is None and listing.started + self._settings.metadata_ttl < trio.current_time():
            parent.listing = None
            listing = await self.listing(parent)
            entry = listing.get(name) or self.entry_by_short_name(listing, name)
        return entry

    @staticmethod
    def entry_by_short_name(listing: Listing, name: bytes) -> Entry | None:
        """The bucket `name-<appid>` for `name`, if there is exactly one."""
        text = name.decode("utf-8", "replace")
        found = [e for e in listing.entries.values() if FULL_NAME.sub("", e.component) == text]
        return found[0] if len(found) == 1 else None
