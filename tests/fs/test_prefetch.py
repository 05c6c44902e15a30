"""Files read at random: when the rest is fetched, when not, and when that ends."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import Any

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.fs import prefetch
from cosfs.fs.inodes import FileNode
from cosfs.fs.line import Line
from cosfs.fs.prefetch import Prefetcher
from cosfs.fs.readahead import Readahead
from cosfs.units import MIB
from tests.fs import support
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, content, until

BLOCK = 64 * 1024  # as in support.fs_settings
SIZE = 8 * MIB
DATA = content(SIZE)
MEASURED = Line.rate
BLOCKS = SIZE // BLOCK


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file of 8 MiB be large enough to be read at random."""
    monkeypatch.setattr(Readahead, "DISORDER", BLOCK)
    monkeypatch.setattr(prefetch, "PAUSED", 60.0)


@pytest.fixture
async def far(filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A filesystem with the object k, and a COS that answers after a while, on a line of a known rate."""
    monkeypatch.setattr(Line, "rate", 10 * MIB)
    files = await filesystem()
    await files.upload("k", DATA)
    await files.stat("k")
    emulator.faults.latency(0.03, "GetObject")
    emulator.requests.reset()
    return files


def places(count: int, seed: int = 0) -> list[int]:
    """Where to read: in that many blocks, no two of them in order."""
    found = random.Random(seed).sample(range(0, BLOCKS, 2), count)
    return [block * BLOCK + 100 for block in found if block]


async def read_at(files: Files, fh: int, offsets: list[int]) -> None:
    for offset in offsets:
        assert bytes(await files.fs.read(fh, offset, 1000)) == DATA[offset : offset + 1000]


def fetched(files: Files) -> int:
    return files.fs.prefetcher.fetched


async def test_the_rest_of_a_file_read_at_random_is_fetched_once(far: Files, emulator: Emulator) -> None:
    async with far.opened("k", os.O_RDONLY) as fh:
        await read_at(far, fh, places(prefetch.MISSES + 10))
        await until(lambda: far.fs.prefetcher.started and not far.fs.fetcher.in_flight)
        source = far.fs._source(await far.file("k"))
        await until(lambda: all(far.cache.has_on_disk(source.block(no)) for no in range(BLOCKS)))
        assert emulator.requests.bytes_sent < SIZE + 100_000  # no byte twice
        emulator.requests.reset()
        await read_at(far, fh, places(60, seed=1))
        assert emulator.requests.total == 0
    assert far.fs.prefetcher.started == 1
    assert 0 < fetched(far) <= SIZE - prefetch.NEAR_MISSES * BLOCK
    assert not far.fs.prefetcher._readings


async def test_a_few_reads_here_and_there_fetch_their_blocks(far: Files, emulator: Emulator) -> None:
    async with far.opened("k", os.O_RDONLY) as fh:
        await read_at(far, fh, places(prefetch.NEAR_MISSES - 1))
        assert emulator.requests.snapshot() == {"GetObject": len(places(prefetch.NEAR_MISSES - 1))}
    assert not far.fs.prefetcher.started


async def test_then_neighbours_are_fetched_for_as_long_as_was_waited(
    far: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "MISSES", 1000)
    monkeypatch.setattr(Prefetcher, "_run_blocks", lambda self: 4)
    source = far.fs._source(await far.file("k"))
    read: list[int] = []
    async with far.opened("k", os.O_RDONLY) as fh:
        for offset in places(40):
            await read_at(far, fh, [offset])
            read.append(offset // BLOCK)
            if fetched(far):
                break
        (reading,) = far.fs.prefetcher._readings.values()
        await until(lambda: not far.fs.fetcher.in_flight and not reading.is_near)
        assert reading.misses >= prefetch.NEAR_MISSES
        assert 0 < reading.fetched <= reading.idle * 10 * MIB
        here = [no for no in range(BLOCKS) if far.cache.has_on_disk(source.block(no))]
        assert len(here) > len(read)
        assert {no // 4 for no in here} == {no // 4 for no in read}
    assert not far.fs.prefetcher.started


async def test_what_is_on_disk_is_read_in_part(far: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once; who comes again has the block in memory."""
    source = far.fs._source(await far.file("k"))
    async with far.opened("k", os.O_RDONLY) as fh:
        await read_at(far, fh, [40 * BLOCK])
        await until(
            lambda: not far.cache._waits(source.block(40)) and far.cache.has_on_disk(source.block(40))
        )
        assert not far.cache.is_hot(source.block(40))
        far.cache._parted.clear()
        whole = far.cache.stats.hits_disk
        await read_at(far, fh, [10 * BLOCK, 40 * BLOCK + 500])
        assert (far.cache.stats.hits_disk - whole, far.cache.is_hot(source.block(40))) == (1, False)
        await read_at(far, fh, [20 * BLOCK, 40 * BLOCK + 2500])
        assert far.cache.is_hot(source.block(40))


async def test_on_a_slow_line_nothing_is_fetched_ahead(
    far: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the bytes cost the time, and they arrive as fast for who asks for one block."""
    missed = Prefetcher._missed

    def waited(self: Prefetcher, node: FileNode, reading: Any, block_no: int, seconds: float) -> None:
        missed(self, node, reading, block_no, min(seconds, 0.2))  # more is the machine that stands still

    monkeypatch.setattr(Prefetcher, "_missed", waited)
    monkeypatch.setattr(Line, "rate", MEASURED)
    emulator.faults.clear()
    emulator.faults.slow(MIB // 2, "GetObject")
    offsets = places(prefetch.MISSES + 8)
    async with far.opened("k", os.O_RDONLY) as fh:
        await read_at(far, fh, offsets)
    assert not far.fs.prefetcher.started
    assert emulator.requests.snapshot() == {"GetObject": len(offsets)}


@pytest.mark.parametrize(
    "changes",
    [
        {"prefetch": SIZE - 1},
        {"prefetch": 0},
        {"cache_size": 4 * SIZE - 1},
        {"cache_size": 0},
    ],
    ids=["larger than --prefetch", "off", "large for the cache", "no cache"],
)
async def test_where_only_blocks_are_fetched(
    filesystem: Filesystems, emulator: Emulator, changes: dict[str, int]
) -> None:
    files = await filesystem(**changes)
    await files.upload("k", DATA)
    await files.stat("k")
    emulator.faults.latency(0.03, "GetObject")
    emulator.requests.reset()
    offsets = places(prefetch.MISSES + 10)
    async with files.opened("k", os.O_RDONLY) as fh:
        await read_at(files, fh, offsets)
    assert emulator.requests.snapshot() == {"GetObject": len(offsets)}


async def test_an_object_of_a_terabyte_is_never_fetched(files: Files) -> None:
    assert files.fs.prefetcher._limit < 1 << 40
    assert (
        Prefetcher(files.fs.fetcher, files.fs.engine, files.fs.committer._background, 1 << 50)._limit
        < 1 << 40
    )


async def test_a_limited_bandwidth_has_nothing_fetched(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "TRANSFER", replace(support.TRANSFER, max_bandwidth=100 * MIB))
    files = await filesystem()
    assert files.fs.prefetcher._limit == 0


async def started(files: Files, emulator: Emulator) -> int:
    """Open k and read until the rest is being fetched; from then on each GET takes long."""
    fh = await files.open("k")
    for offset in places(60):
        await read_at(files, fh, [offset])
        if files.fs.prefetcher.started:
            break
    assert files.fs.prefetcher.started
    emulator.faults.latency(0.5, "GetObject")
    return fh


async def ended(files: Files, emulator: Emulator) -> None:
    """Nothing is fetched any more, though much is missing."""
    await until(lambda: not files.fs.fetcher.in_flight)
    before = emulator.requests.snapshot()["GetObject"]
    emulator.faults.clear()
    await trio.sleep(0.1)
    assert emulator.requests.snapshot()["GetObject"] == before
    assert fetched(files) < SIZE - 24 * BLOCK


async def test_it_ends_with_the_last_handle(far: Files, emulator: Emulator) -> None:
    fh = await started(far, emulator)
    await far.fs.release(fh)
    await ended(far, emulator)
    assert not far.fs.prefetcher._readings


async def test_it_ends_when_cos_asks_for_fewer_requests(far: Files, emulator: Emulator) -> None:
    fh = await started(far, emulator)
    for listener in far.client.slow_listeners:
        listener()
    await ended(far, emulator)
    await read_at(far, fh, places(10, seed=3))
    assert far.fs.prefetcher.started == 1
    await far.fs.release(fh)


async def test_it_ends_when_the_object_is_replaced(far: Files, emulator: Emulator) -> None:
    fh = await started(far, emulator)
    await far.upload("k", b"another")
    await ended(far, emulator)
    await far.fs.release(fh)


async def test_it_ends_when_nobody_reads_any_more(
    far: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fh = await started(far, emulator)
    monkeypatch.setattr(prefetch, "PAUSED", 0.0)
    await ended(far, emulator)
    monkeypatch.setattr(prefetch, "PAUSED", 60.0)
    emulator.faults.latency(0.03, "GetObject")
    await read_at(far, fh, places(40, seed=5))  # and goes on when somebody does
    await until(lambda: fetched(far) > SIZE // 2)
    await far.fs.release(fh)
