"""Bringing the blocks of a file into the cache on disk, before anybody reads them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import trio

from cosfs.errors import NotFoundError, PreconditionFailedError
from cosfs.fs import facts
from cosfs.fs.background import together
from cosfs.fs.fetcher import Fetcher, Source
from cosfs.fs.inodes import FileNode

__all__ = ["CacheFull", "Warmed", "bring", "missing_blocks", "runs", "warm"]

TOGETHER = 64  # blocks looked for at once
PARALLEL = 4  # GETs of one file; many files are warmed at once


@dataclass(slots=True)
class Warmed:
    """What became of a file: bytes fetched and bytes that were there; state says why there are fewer.

    done; local: changed here and not in COS yet; changed: replaced meanwhile; full: the disk takes no more.
    """

    fetched: int = 0
    present: int = 0
    state: str = "done"


async def warm(fetcher: Fetcher, node: FileNode) -> Warmed:
    """Bring all blocks of a file into the cache. Nothing is fetched that is there."""
    if node.info is None or facts.local(node):
        return Warmed(state="local")
    source = Source(node.bucket, node.info.key, node.info.etag, node.info.size)
    missing = await missing_blocks(fetcher, source)
    absent = sum(_length(fetcher, source, block_no) for block_no in missing)
    done = Warmed(present=source.size - absent)
    limit = trio.CapacityLimiter(PARALLEL)

    async def fetch(run: list[int]) -> None:
        async with limit:
            if done.state == "done":
                try:
                    async with aclosing(bring(fetcher, source, run)) as lengths:
                        async for length in lengths:
                            done.fetched += length
                except CacheFull:
                    done.state = "full"

    try:
        async with together() as nursery:
            for run in runs(missing, fetcher.fetch_blocks):
                nursery.start_soon(fetch, run)
    except (NotFoundError, PreconditionFailedError):
        done.state = "changed"
    return done


async def missing_blocks(fetcher: Fetcher, source: Source) -> list[int]:
    """Return the numbers of the blocks that are not on disk."""
    missing: list[int] = []
    count = -(-source.size // fetcher.block_size)
    for first in range(0, count, TOGETHER):
        keys = map(source.block, range(first, min(first + TOGETHER, count)))
        missing += [key.block_no for key in fetcher.cache.missing(keys)]
        await trio.lowlevel.checkpoint()
    return missing


class CacheFull(Exception):
    """The disk takes no more blocks."""


async def bring(
    fetcher: Fetcher, source: Source, run: list[int], *, urgent: bool = True
) -> AsyncGenerator[int, None]:
    """Bring consecutive blocks into the cache on disk; yields the length of each that is there.

    CacheFull if the disk takes no more.
    """
    numbers = iter(run)
    async with aclosing(fetcher.blocks(source, run, urgent=urgent)) as blocks:
        async for data in blocks:
            key = source.block(next(numbers))
            if not fetcher.cache.has_on_disk(key):  # dropped, as the disk was busy
                if not await fetcher.cache.room(len(data)):
                    raise CacheFull
                fetcher.cache.put(key, data, used=urgent)
            yield len(data)


def _length(fetcher: Fetcher, source: Source, block_no: int) -> int:
    return min(fetcher.block_size, source.size - block_no * fetcher.block_size)


def runs(numbers: list[int], most: int) -> list[list[int]]:
    """Group consecutive numbers, at most so many together."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and pieces[-1][-1] == number - 1 and len(pieces[-1]) < most:
            pieces[-1].append(number)
        else:
            pieces.append([number])
    return pieces
