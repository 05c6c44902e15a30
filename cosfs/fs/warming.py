"""Bringing the blocks of a file into the cache on disk, before anybody reads them."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from cosfs.errors import NotFoundError, PreconditionFailedError
from cosfs.fs import facts
from cosfs.fs.background import together
from cosfs.fs.fetcher import Fetcher, Source
from cosfs.fs.inodes import FileNode

__all__ = ["Warmed", "warm"]

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
    done = Warmed()
    missing: list[int] = []
    for block_no in range(-(-source.size // fetcher.block_size)):
        if fetcher.cache.has_on_disk(source.block(block_no)):
            done.present += _length(fetcher, source, block_no)
        else:
            missing.append(block_no)
        if block_no % 64 == 63:
            await trio.lowlevel.checkpoint()
    limit = trio.CapacityLimiter(PARALLEL)

    async def bring(run: list[int]) -> None:
        async with limit:
            if done.state == "done":
                await _bring(fetcher, source, run, done)

    try:
        async with together() as nursery:
            for run in _pieces(missing, fetcher.fetch_blocks):
                nursery.start_soon(bring, run)
    except (NotFoundError, PreconditionFailedError):
        done.state = "changed"
    return done


async def _bring(fetcher: Fetcher, source: Source, run: list[int], done: Warmed) -> None:
    fetcher.fetch(source, run[0], run[-1] + 1)
    for block_no in run:
        data = await fetcher.block(source, block_no)
        key = source.block(block_no)
        if not fetcher.cache.has_on_disk(key):  # dropped, as the disk was busy
            if not await fetcher.cache.room(len(data)):
                done.state = "full"
                return
            fetcher.cache.put(key, data)
        done.fetched += len(data)


def _length(fetcher: Fetcher, source: Source, block_no: int) -> int:
    return min(fetcher.block_size, source.size - block_no * fetcher.block_size)


def _pieces(numbers: list[int], most: int) -> list[list[int]]:
    """Consecutive numbers, at most so many together."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and pieces[-1][-1] == number - 1 and len(pieces[-1]) < most:
            pieces[-1].append(number)
        else:
            pieces.append([number])
    return pieces
