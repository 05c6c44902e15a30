"""Listing many directories with one request, ahead of somebody who walks through them.

A directory costs a request, and `find`, `du` and `ls -R` read one after the other: with small directories
they wait for round trips. Listed without a delimiter, COS tells a thousand keys of a whole tree at once, in
the order in which such programs go through it. So when a second child of a directory is read that was read
itself, the keys from there on are listed, and each directory that they complete is kept until it is asked
for. It ends when that does not pay: the walker went elsewhere, or a directory is large itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from cosfs.client.model import ListPage, ObjectInfo
from cosfs.errors import COSError
from cosfs.fs.background import Background
from cosfs.fs.inodes import DirNode
from cosfs.fs.remote import Remote
from cosfs.fs.writes import Writes

log = logging.getLogger(__name__)

AHEAD = 4_000  # keys listed and not asked for yet
LARGE = 2_500  # keys directly in one directory
TRIES = 2  # requests for the directory that is asked for
BELIEVED = 5.0  # seconds: shorter than what was removed here is remembered
WALKS_MAX = 4
FAILURES_MAX = 2  # walks of the children of one directory that did not pay

PageHook = Callable[[str, ListPage], ListPage]


@dataclass(slots=True)
class Told:
    """A directory as COS told it when asked at started (trio clock)."""

    page: ListPage
    started: float


@dataclass(slots=True)
class _Open:
    """A directory of which more keys may come. partial: keys of it lie before the first that was listed."""

    prefix: str
    started: float
    partial: bool = False
    objects: list[ObjectInfo] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)


class Walk:
    """The keys below a prefix from a marker on, cut into directories."""

    def __init__(self, remote: Remote, bucket: str, top: str, marker: str, hook: PageHook) -> None:
        self.bucket = bucket
        self.top = top
        self.done = False
        self._remote = remote
        self._marker = marker
        self._hook = hook
        self._open = [_Open(top, trio.current_time(), partial=True)]
        self._ready: dict[str, Told] = {}
        self._waiting = 0  # keys in _ready
        self._fetching = trio.Lock()

    def covers(self, bucket: str, prefix: str) -> bool:
        """Whether the directory is among what was told, or still to come."""
        if bucket != self.bucket or not prefix.startswith(self.top):
            return False
        return prefix in self._ready or (not self.done and prefix > self._marker) or self._is_open(prefix)

    def _is_open(self, prefix: str) -> bool:
        return any(each.prefix == prefix and not each.partial for each in self._open)

    def peek(self, prefix: str) -> Told | None:
        return self._ready.get(prefix)

    async def take(self, prefix: str) -> Told | None:
        """Return a directory, listing on if need be; None if it is too large, or does not come soon."""
        tries = TRIES
        while prefix not in self._ready and self.covers(self.bucket, prefix) and tries:
            tries -= 1
            await self._fetch_if(lambda: prefix not in self._ready)
        told = self._ready.pop(prefix, None)
        if told is not None:
            self._waiting -= len(told.page.objects)
        return told

    async def run_ahead(self) -> None:
        """List on until enough is waiting to be asked for."""
        while await self._fetch_if(lambda: self._waiting < AHEAD):
            pass

    async def _fetch_if(self, wanted: Callable[[], bool]) -> bool:
        async with self._fetching:
            if self.done or not wanted():
                return False
            started = trio.current_time()
            page = await self._remote.metadata(self._list)
            for info in page.objects:
                self._feed(info, started)
            self._marker = page.next_marker
            if not page.next_marker:
                self._close_all_but(0)
                self.done = True
            elif len(self._open[-1].objects) > LARGE:
                self.done = True
                self._open.clear()
            return not self.done

    def _list(self) -> ListPage:
        page = self._remote.client.list_objects(self.bucket, prefix=self.top, marker=self._marker)
        return self._hook(self.bucket, page)

    def _feed(self, info: ObjectInfo, started: float) -> None:
        key = info.key
        while not key.startswith(self._open[-1].prefix):
            self._close_all_but(len(self._open) - 1)
        place = self._open[-1]
        while (slash := key.find("/", len(place.prefix))) >= 0:
            inner = _Open(key[: slash + 1], started)
            place.prefixes.append(inner.prefix)
            self._open.append(inner)
            place = inner
        if not place.partial:
            place.objects.append(info)

    def _close_all_but(self, count: int) -> None:
        while len(self._open) > count:
            place = self._open.pop()
            if not place.partial:
                self._ready[place.prefix] = Told(ListPage(place.objects, place.prefixes, ""), place.started)
                self._waiting += len(place.objects)


class Walks:
    """The walks that are under way. hook runs in a worker thread on each page."""

    def __init__(self, remote: Remote, background: Background, hook: PageHook, writes: Writes) -> None:
        self._remote = remote
        self._background = background
        self._hook = hook
        self._writes = writes
        self._walks: list[Walk] = []

    async def take(self, node: DirNode, ttl: float) -> Told | None:
        """A directory that is about to be read, if it is part of a walk; None to have it listed by itself."""
        parent = node.parent
        if parent is None or parent.is_buckets:
            return None
        bucket, prefix = node.bucket, node.prefix
        walk = self._find(bucket, prefix, ttl)
        if walk is None:
            if not self._pays(parent):
                return None
            walk = self._begin(Walk(self._remote, bucket, parent.prefix, prefix[:-1], self._hook))
        try:
            told = await walk.take(prefix)
        except COSError as exc:
            log.debug("walk of %s: %s", walk.top, exc)  # who asks for the directory itself is told
            told = None
        if told is None:
            self._end(walk)
            parent.walk_failures += 1
            return None
        if not walk.done:
            self._background.start_soon(self._ahead, walk)
        return None if self._writes.wrote_below(bucket, prefix, told.started) else told

    @staticmethod
    def _pays(parent: DirNode) -> bool:
        """Whether somebody who has read a directory goes through its children."""
        if parent.read_until <= trio.current_time():
            return False
        is_first = parent.walked_until <= trio.current_time()
        parent.walked_until = parent.read_until
        if is_first:
            parent.walk_failures = 0
        return not is_first and parent.walk_failures < FAILURES_MAX

    def marker(self, bucket: str, prefix: str, ttl: float) -> tuple[bool, ObjectInfo | None]:
        """Whether a walk has told lately of a directory's own object, and the object if it has one."""
        for walk in self._walks:
            told = walk.peek(prefix) if walk.bucket == bucket else None
            if told is None or self._writes.wrote_below(bucket, prefix, told.started):
                continue
            if told.started + min(ttl, BELIEVED) >= trio.current_time():
                objects = told.page.objects
                return True, objects[0] if objects and objects[0].key == prefix else None
        return False, None

    def _find(self, bucket: str, prefix: str, ttl: float) -> Walk | None:
        for walk in [walk for walk in self._walks if walk.covers(bucket, prefix)]:
            told = walk.peek(prefix)
            if told is None or told.started + min(ttl, BELIEVED) >= trio.current_time():
                return walk
            self._end(walk)  # the walker is slow: it begins anew from here
        return None

    def _begin(self, walk: Walk) -> Walk:
        del self._walks[: max(0, len(self._walks) + 1 - WALKS_MAX)]
        self._walks.append(walk)
        return walk

    def _end(self, walk: Walk) -> None:
        if walk in self._walks:
            self._walks.remove(walk)

    async def _ahead(self, walk: Walk) -> None:
        try:
            await walk.run_ahead()
        except COSError as exc:
            log.debug("walk of %s: %s", walk.top, exc)
            self._end(walk)
