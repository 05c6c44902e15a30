"""Small files that are read one after the other: the next ones are fetched while one is being read.

A small file costs two round trips, one for its attributes and one for its bytes, and `cat *`, `grep -r`,
`tar` and `cp -r` wait for each. A GET of the whole object answers both. So once files of a directory are
read in its order, those that follow are fetched by GETs, more and more of them, as long as they are read. In
the next directory of a tree that begins with the first file.
"""

from __future__ import annotations

import logging

import trio

from cosfs.client.model import ObjectInfo
from cosfs.errors import COSError, IntegrityError
from cosfs.fs import facts
from cosfs.fs.background import Background
from cosfs.fs.buffers import Block
from cosfs.fs.fetcher import Fetcher, Source, fill
from cosfs.fs.heads import Heads
from cosfs.fs.inodes import DirNode, FileNode
from cosfs.fs.listing import Entry, Listing
from cosfs.fs.remote import Remote
from cosfs.fs.settings import FsSettings
from cosfs.units import KIB, MIB

__all__ = ["SmallFiles"]

log = logging.getLogger(__name__)

SMALL = 128 * KIB
FILES_MAX = 128  # of one directory, fetched and not read yet
FIRST = 16  # of the next directory, when the files of one were just read
NEXT_WITHIN = 2.0  # seconds
BYTES_MAX = 32 * MIB  # on their way, of all directories

Item = tuple[bytes, Source]


class SmallFiles:
    """Fetches them. background runs the requests."""

    def __init__(
        self, remote: Remote, settings: FsSettings, background: Background, fetcher: Fetcher, heads: Heads
    ) -> None:
        self._remote = remote
        self._settings = settings
        self._background = background
        self._fetcher = fetcher
        self._heads = heads
        self._largest = min(SMALL, settings.block_size)
        self._on_their_way = 0
        self._next_until = 0.0  # whose names are asked for until then will be read, too
        self._was_right = True  # and so it was the last time
        heads.comes_with_bytes = self._comes_with_bytes

    def reading(self, node: FileNode) -> None:
        """Somebody begins to read a file."""
        parent = node.parent
        listing = parent.listing if parent is not None else None
        if parent is None or listing is None or not self._settings.head_ahead:
            return
        entry = listing.get(node.name)
        if entry is not None:
            ahead = listing.contents.passed(entry.index, FILES_MAX)
            if listing.contents.window:
                self._next_until, self._was_right = trio.current_time() + NEXT_WITHIN, True
            if ahead:
                listing.contents.cut(listing.count)
                self._fetch(parent, listing, ahead)

    def _comes_with_bytes(self, parent: DirNode, listing: Listing, entry: Entry) -> bool:
        """Whether an entry whose attributes are asked for has its bytes fetched; begins with that perhaps."""
        order = listing.contents
        if entry.index < order.reached:
            return True
        now = trio.current_time()
        if order.reached or entry.is_dir or now >= self._next_until or parent.read_until <= now:
            return False
        if not self._was_right:
            self._next_until = 0.0
            return False
        self._was_right = False
        ahead = order.passed(entry.index - 1, FILES_MAX, FIRST)
        order.cut(listing.count)
        self._fetch(parent, listing, ahead)
        return True

    def _fetch(self, parent: DirNode, listing: Listing, ahead: range) -> None:
        """Start with what is needed of some entries: whole objects, or only their attributes."""
        wanted: list[Item] = []
        unknown: list[Entry] = []
        for entry in listing.between(ahead.start, ahead.stop):
            if entry.is_dir or entry.removed or entry.info is None:
                continue
            source, known = self._state(parent, entry, entry.info)
            if source is None:
                if not known:
                    unknown.append(entry)
            elif self._on_their_way + source.size > BYTES_MAX:
                listing.contents.cut(entry.index)
                break
            else:
                self._on_their_way += source.size
                self._fetcher.expect(source)
                wanted.append((entry.name, source))
        self._heads.fetch(parent, unknown)
        if wanted:
            self._heads.expect(parent, [name for name, _ in wanted])
            self._background.start_soon(self._get_all, parent, wanted)

    def _state(self, parent: DirNode, entry: Entry, info: ObjectInfo) -> tuple[Source | None, bool]:
        """What to fetch of a file, None if nothing; and whether its attributes are known."""
        child = parent.children.get(entry.name)
        known = info.headers is not None
        if isinstance(child, FileNode):
            if facts.local(child) or child.info is None:
                return None, True
            info, known = child.info, child.known
        if not 0 < info.size <= self._largest or info.archived:
            return None, known
        source = Source(parent.bucket, info.key, info.etag, info.size)
        if not self._fetcher.wanted(source, 0):
            return None, known
        # On disk is only what was read before, and then its attributes are known as well.
        remembered = known or self._settings.attributes == "listing"
        if remembered and self._fetcher.cache.has_on_disk(source.block(0)):
            return None, known
        return source, known

    async def _get_all(self, parent: DirNode, wanted: list[Item]) -> None:
        since = trio.current_time()
        left = dict(wanted)

        def landed(item: Item, found: tuple[ObjectInfo, Block] | None, error: Exception | None) -> None:
            name, source = item
            del left[name]
            if found is None:
                log.debug("%s ahead of time: %s", source.key, error)
                self._give_up(parent, name, source)
                return
            self._on_their_way -= source.size
            self._fetcher.arrived(source, found[1])
            self._heads.told(parent, name, found[0], since)

        try:
            await self._remote.many(self._get, wanted, landed, bucket=parent.bucket)
        except COSError as exc:
            log.debug("files ahead of time: %s", exc)  # whoever reads them asks himself, and is told
        finally:
            for name, source in left.items():
                self._give_up(parent, name, source)

    def _give_up(self, parent: DirNode, name: bytes, source: Source) -> None:
        self._on_their_way -= source.size
        self._fetcher.give_up(source)
        self._heads.land(parent, name)

    def _get(self, item: Item) -> tuple[ObjectInfo, Block]:
        """Read an object that is still the one that was listed. Runs in a lane."""
        source = item[1]
        stream = self._remote.client.get_object(source.bucket, source.key, if_match=source.etag)
        with stream:
            if stream.info.size != source.size:
                raise IntegrityError(f"cos://{source.bucket}/{source.key} changed its size under way")
            data = self._fetcher.cache.buffers.take(source.size)
            fill(stream, data)
            return stream.info, data
