"""Files that are read at random, fetched whole once that would have been the better choice.

Who reads here and there waits for a round trip at each miss. Nobody knows how often he will read; so it is
done as with hired skis: when the waiting has cost a share of what fetching all of the file would have cost,
the rest is fetched behind him, into the cache on disk. What he waits for goes first. So little is
fetched in vain of a file that is looked at in a few places, never more than the file once, and a slow line
or a huge file never comes to it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import aclosing
from functools import partial

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

SHARE = 0.25  # of the time that all of the file would take, spent in waiting
MISSES = 16  # at least: formats with an index at their end are read in a few places only
PAUSED = 5.0  # seconds; who has not read at random for so long is not waited for
SLOW_FOR = 60.0  # seconds for which nothing is fetched after COS asked for fewer requests
CACHE_SHARE = 4  # a file of more than this part of the cache is not fetched
PARALLEL = 3  # requests of one file: the round trip of one passes while others bring bytes
FASTER = 2  # times as many bytes arrive in these together as in one alone, at least (measured: 2.5 to 4)
NEARBY = 0.002  # seconds; so much of a miss is our own work, and a closer COS is not worth a file
RUN_SECONDS = 0.05  # what one request brings, at most: a reader may have to wait for the end of it


class _Reading:
    """One state of a file that is read at random."""

    __slots__ = ("cancel", "counted", "done", "fetched", "idle", "last", "misses", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.misses = 0
        self.idle = 0.0  # seconds in which readers waited and the line had nothing to do for them
        self.counted = 0.0  # the waiting before this moment is in there
        self.last = 0.0
        self.fetched = 0  # bytes that nobody had asked for
        self.done = False  # nothing is left to fetch, or cannot be
        self.cancel: trio.CancelScope | None = None  # while the rest is fetched


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
            return await self._fetcher.read(source, offset, length)
        reading = self._readings.get(node)
        if reading is None or reading.source != source:
            self.closed(node)
            reading = self._readings[node] = _Reading(source)
        reading.last = trio.current_time()
        return await self._fetcher.read(source, offset, length, partial(self._missed, node, reading))

    def closed(self, node: FileNode) -> None:
        """Nobody has a file open any more, or as it was."""
        reading = self._readings.pop(node, None)
        if reading is not None and reading.cancel is not None:
            reading.cancel.cancel()

    def _missed(self, node: FileNode, reading: _Reading, seconds: float) -> None:
        """Count a miss. Readers that wait at the same time count once, and so do bytes that do arrive."""
        now, rate = trio.current_time(), self._fetcher.line.rate
        waited = now - max(now - seconds, reading.counted)
        reading.counted = now
        if not rate:
            return
        reading.misses += 1
        reading.idle += max(0.0, waited - self._fetcher.block_size / rate - NEARBY)
        rest = reading.source.size - reading.fetched - reading.misses * self._fetcher.block_size
        if (
            reading.misses >= MISSES
            and rest > 0
            and reading.idle >= SHARE * rest / (FASTER * rate)
            and reading.cancel is None
            and self._may_fetch(node, reading, rest)
        ):
            reading.cancel = trio.CancelScope()
            self._background.start_soon(self._fetch_rest, node, reading, reading.cancel)

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

    async def _fetch_rest(self, node: FileNode, reading: _Reading, scope: trio.CancelScope) -> None:
        """Bring what is missing, until something speaks against it."""
        source = reading.source
        self.started += 1
        try:
            with scope:
                todo = iter(runs(await missing_blocks(self._fetcher, source), self._run_blocks()))
                async with together() as nursery:
                    for _ in range(PARALLEL):
                        nursery.start_soon(self._work, node, reading, todo)
                reading.done = next(todo, None) is None
        except (COSError, CacheFull) as exc:
            log.debug("%s is not fetched whole: %s", source.key, exc)
            reading.done = True
        finally:
            reading.cancel = None

    def _run_blocks(self) -> int:
        most = int(self._fetcher.line.rate * RUN_SECONDS) // self._fetcher.block_size
        return max(1, min(self._fetcher.fetch_blocks, most))

    async def _work(self, node: FileNode, reading: _Reading, todo: Iterator[list[int]]) -> None:
        for run in todo:
            if not self._may_fetch(node, reading, len(run) * self._fetcher.block_size):
                return
            async with aclosing(bring(self._fetcher, reading.source, run, urgent=False)) as lengths:
                async for length in lengths:
                    reading.fetched += length
                    self.fetched += length
