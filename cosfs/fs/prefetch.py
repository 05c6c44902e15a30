"""Files that are read at random, fetched whole once that would have been the better choice.

Who reads here and there waits for a round trip at each miss. Nobody knows how often he will read; so it is
done as with hired skis: when the waiting has cost a share of what fetching all of the file would have cost,
the rest is fetched behind him, into the cache on disk. Before, the neighbours of what he misses are, as
many as the line brings in the time that he has waited: the next reads are likelier there than anywhere
else. What he waits for goes first. So little is fetched in vain of a file that is looked at in a few
places, never more than the file once, and a slow line or a huge file never comes to it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from functools import partial
from typing import TypeVarTuple

import trio

from cosfs.errors import COSError
from cosfs.fs.background import Background, together
from cosfs.fs.buffers import Block
from cosfs.fs.fetcher import Fetcher, Source
from cosfs.fs.inodes import FileNode
from cosfs.fs.warming import CacheFull, bring, missing_blocks, runs
from cosfs.transfer.engine import Engine

__all__ = ["Prefetcher"]

log = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")

SHARE = 0.25  # of the time that all of the file would take, spent in waiting
NEAR_MISSES = (
    8  # at least, before neighbours are fetched: formats with an index are read in a few places only
)
MISSES = 16  # at least, before all of a file is
PAUSED = 5.0  # seconds; who has not read at random for so long is not waited for
SLOW_FOR = 60.0  # seconds for which nothing is fetched after COS asked for fewer requests
CACHE_SHARE = 4  # a file of more than this part of the cache is not fetched
PARALLEL = 4  # requests of one file: the round trip of one passes while others bring bytes
FASTER = 2  # times as many bytes arrive in these together as in one alone, at least (measured: 2.5 to 4)
NEARBY = 0.002  # seconds; so much of a miss is our own work, and a closer COS is not worth a file
RUN_SECONDS = 0.05  # what one request brings, at most: a reader may have to wait for the end of it


class _Reading:
    """One state of a file that is read at random."""

    __slots__ = (
        "counted",
        "done",
        "fetched",
        "idle",
        "is_near",
        "is_whole",
        "last",
        "misses",
        "scopes",
        "source",
    )

    def __init__(self, source: Source) -> None:
        self.source = source
        self.misses = 0
        self.idle = 0.0  # seconds in which readers waited and the line had nothing to do for them
        self.counted = 0.0  # the waiting before this moment is in there
        self.last = 0.0
        self.fetched = 0  # bytes that nobody had asked for
        self.done = False  # nothing is left to fetch, or cannot be
        self.is_near = self.is_whole = False  # neighbours are being fetched, or the rest
        self.scopes: set[trio.CancelScope] = set()  # of what is fetched


class Prefetcher:
    """Watches reads at random. limit: bytes of the largest file that is fetched, 0 for none, None for any."""

    def __init__(self, fetcher: Fetcher, engine: Engine, background: Background, limit: int | None) -> None:
        self.started = 0
        self.fetched = 0  # bytes
        self._fetcher = fetcher
        self._engine = engine
        self._background = background
        self._limit = fetcher.cache.size_limit // CACHE_SHARE
        if limit is not None:
            self._limit = min(self._limit, limit)
        if engine.settings.max_bandwidth:
            self._limit = 0  # who limits the bandwidth does not want bytes that nobody asked for
        self._readings: dict[FileNode, _Reading] = {}
        self._halved = engine.halved
        self._slow_until = 0.0

    async def read(self, node: FileNode, source: Source, offset: int, length: int) -> Block:
        """Read at random: as Fetcher.read(), but what it costs counts."""
        if source.size > self._limit:
            return await self._fetcher.read_apart(source, offset, length)
        reading = self._readings.get(node)
        if reading is None or reading.source != source:
            self.closed(node)
            reading = self._readings[node] = _Reading(source)
        reading.last = trio.current_time()
        on_miss = partial(self._missed, node, reading, offset // self._fetcher.block_size)
        return await self._fetcher.read_apart(source, offset, length, on_miss)

    def closed(self, node: FileNode) -> None:
        """Nobody has a file open any more, or as it was."""
        reading = self._readings.pop(node, None)
        for scope in reading.scopes if reading is not None else ():
            scope.cancel()

    def _missed(self, node: FileNode, reading: _Reading, block_no: int, seconds: float) -> None:
        """Count a miss. Readers that wait at the same time count once, and so do bytes that do arrive."""
        now, rate = trio.current_time(), self._fetcher.line.rate
        waited = now - max(now - seconds, reading.counted)
        reading.counted = now
        if not rate:
            return
        size = self._fetcher.block_size
        reading.misses += 1
        reading.idle += max(0.0, waited - size / rate - NEARBY)
        rest = reading.source.size - reading.fetched - reading.misses * size
        if reading.is_whole or rest <= 0:
            return
        if reading.misses >= MISSES and reading.idle >= SHARE * rest / (FASTER * rate):
            if self._may_fetch(node, reading, rest):
                reading.is_whole = True
                self._background.start_soon(self._fetch, reading, self._fetch_rest, node)
        elif reading.misses >= NEAR_MISSES and not reading.is_near:
            near = self._neighbours(reading, block_no)
            length = len(near) * size
            if (
                near
                and reading.fetched + length <= reading.idle * rate
                and self._may_fetch(node, reading, length)
            ):
                reading.is_near = True
                self._background.start_soon(self._fetch, reading, self._fetch_near, node, near)

    def _may_fetch(self, node: FileNode, reading: _Reading, length: int) -> bool:
        """Whether nothing speaks against so many bytes more."""
        now = trio.current_time()
        if self._engine.halved != self._halved:
            self._halved = self._engine.halved
            self._slow_until = now + SLOW_FOR
        return (
            self._readings.get(node) is reading
            and not reading.done
            and node.content is None
            and now - reading.last < PAUSED
            and now >= self._slow_until
            and reading.fetched + length <= reading.source.size
            and length <= self._fetcher.cache.free()
        )

    async def _fetch(
        self, reading: _Reading, fetch: Callable[[_Reading, *Ts], Awaitable[None]], *args: *Ts
    ) -> None:
        with trio.CancelScope() as scope:
            reading.scopes.add(scope)
            try:
                await fetch(reading, *args)
            except (COSError, CacheFull) as exc:
                log.debug("%s is not fetched whole: %s", reading.source.key, exc)
                reading.done = True
            finally:
                reading.scopes.discard(scope)

    async def _fetch_rest(self, reading: _Reading, node: FileNode) -> None:
        """Bring what is missing, until something speaks against it."""
        self.started += 1
        try:
            todo = iter(runs(await missing_blocks(self._fetcher, reading.source), self._run_blocks()))
            with self._fetcher.cache.filling():
                async with together() as nursery:
                    for _ in range(PARALLEL):
                        nursery.start_soon(self._work, node, reading, todo)
            reading.done = next(todo, None) is None
        finally:
            reading.is_whole = False

    async def _fetch_near(self, reading: _Reading, node: FileNode, run: list[int]) -> None:
        try:
            await self._work(node, reading, iter(runs(run, len(run))))
        finally:
            reading.is_near = False

    def _neighbours(self, reading: _Reading, block_no: int) -> list[int]:
        """The blocks around one that are not here: of an even piece of the file, as long as a request is."""
        source, count = reading.source, self._run_blocks()
        first = block_no // count * count
        return self._absent(
            source, range(first, min(first + count, -(-source.size // self._fetcher.block_size)))
        )

    def _run_blocks(self) -> int:
        most = int(self._fetcher.line.rate * RUN_SECONDS) // self._fetcher.block_size
        return max(1, min(self._fetcher.fetch_blocks, most))

    async def _work(self, node: FileNode, reading: _Reading, todo: Iterator[list[int]]) -> None:
        for run in todo:
            if not await self._fetcher.cache.room_for_more():
                raise CacheFull
            for part in runs(self._absent(reading.source, run), len(run)):  # some came since, for readers
                if not self._may_fetch(node, reading, len(part) * self._fetcher.block_size):
                    return
                async with aclosing(bring(self._fetcher, reading.source, part, urgent=False)) as lengths:
                    async for length in lengths:
                        reading.fetched += length
                        self.fetched += length

    def _absent(self, source: Source, run: Iterable[int]) -> list[int]:
        fetcher = self._fetcher
        wanted = (source.block(number) for number in run if fetcher.wanted(source, number))
        return [key.block_no for key in fetcher.cache.missing(wanted)]
