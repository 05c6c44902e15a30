"""Memory that is used again, never while somebody looks at it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from cosfs.fs.blocks import BlockCache, BlockKey
from cosfs.fs.buffers import SMALLEST, Buffers
from cosfs.units import KIB, MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import ALL_OF_IT, content

SIZE = 1 * MIB


def test_a_buffer_comes_back_when_its_last_view_is_gone() -> None:
    buffers = Buffers(SIZE)
    first = buffers.take(SIZE)
    first[:4] = b"here"
    part = first[:4].toreadonly()
    del first
    others = [buffers.take(SIZE) for _ in range(20)]
    for other in others:
        other[:4] = b"gone"
    assert part == b"here"
    assert buffers.lent == 21
    del part, other, others
    assert buffers.lent == 0
    assert buffers.held == 21 * SIZE


def test_one_buffer_serves_one_block_after_the_other() -> None:
    buffers = Buffers(SIZE)
    for _ in range(100):
        data = buffers.take(SIZE)
        data[-1] = 1
        del data
    assert buffers.held == SIZE


def test_unused_memory_goes_back_and_what_is_in_use_stays() -> None:
    buffers = Buffers(SIZE)
    kept, free = buffers.take(SIZE), buffers.take(SIZE)
    kept[:] = b"k" * SIZE
    del free
    buffers.trim()
    assert buffers.held == 0
    assert kept == b"k" * SIZE
    assert len(buffers.take(SIZE)) == SIZE


def test_short_blocks_take_their_length_only() -> None:
    buffers = Buffers(SIZE)
    short = buffers.take(5000)
    assert len(short) == 5000
    assert buffers.lent == 0
    assert len(Buffers(SMALLEST // 2).take(SMALLEST // 2)) == SMALLEST // 2


def test_threads_never_share_a_buffer() -> None:
    buffers = Buffers(256 * KIB)
    wrong = []

    def work(number: int) -> None:
        for _ in range(200):
            data = buffers.take(256 * KIB)
            data[:8] = data[-8:] = number.to_bytes(8)
            held = data[:8]
            del data
            if int.from_bytes(held) != number:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert buffers.lent == 0
    assert buffers.held <= 16 * 256 * KIB


def _block(number: int) -> BlockKey:
    return BlockKey("b", "k", "e", number)


async def test_blocks_from_the_disk_use_them_as_well(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, size_limit=64 * MIB, block_size=SIZE, reserve=ALL_OF_IT)
    for number in range(4):
        cache.put(_block(number), bytes([number]) * SIZE)
    cache.close()
    cache = BlockCache(
        tmp_path, size_limit=64 * MIB, block_size=SIZE, memory_limit=2 * SIZE + 2000, reserve=ALL_OF_IT
    )
    for _ in range(3):
        for number in range(4):
            assert await cache.get(_block(number)) == bytes([number]) * SIZE
    assert cache.stats.hits_disk == 12
    assert cache.buffers.lent + cache.buffers.held // SIZE <= 4
    cache.close()


async def test_a_long_read_uses_few_buffers_and_gives_the_right_bytes(filesystem: Filesystems) -> None:
    size = SMALLEST
    files = await filesystem(block_size=size, fetch_size=4 * size, readahead=8 * size)
    data = content(64 * MIB)
    await files.upload("k", data)
    async with files.opened("k", os.O_RDONLY) as fh:
        held = []
        for offset in range(0, len(data), size):
            piece = await files.fs.read(fh, offset, size)
            held = [*held[-3:], (offset, piece)]  # as the kernel's readers hold answers for a while
            for begin, earlier in held:
                assert earlier == data[begin : begin + size]
    buffers = files.cache.buffers
    # What was passed not long ago, what waits for the disk, the window.
    assert buffers.lent * size + buffers.held < 8 * MIB + 16 * MIB + 4 * MIB
