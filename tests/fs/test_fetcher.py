"""Bytes out of COS: each asked for once, never a mix of two objects."""

from __future__ import annotations

import errno
import os

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.errors import FilesystemError, IntegrityError, PreconditionFailedError
from cosfs.fs import readahead
from cosfs.fs.fetcher import Source
from cosfs.fs.readahead import Readahead
from cosfs.units import MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, content, counted, until

KIB = 1024
BLOCK = 64 * KIB  # as in support.fs_settings
FETCH = 256 * KIB


async def source_of(files: Files, data: bytes, key: str = "k") -> Source:
    return Source(files.bucket, key, await files.upload(key, data), len(data))


async def test_small_file_comes_whole_with_one_get(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"hello")
    await files.stat("a")
    with counted(emulator) as requests:
        assert await files.get("a") == b"hello"
        assert await files.get("a") == b"hello"
    assert requests == {"GetObject": 1}


async def test_an_empty_file_needs_no_get(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"")
    await files.stat("a")
    with counted(emulator) as requests:
        assert await files.get("a") == b""
    assert requests == {}


async def test_many_readers_of_one_block_share_one_fetch(files: Files, emulator: Emulator) -> None:
    data = content(BLOCK)
    source = await source_of(files, data)
    got = []

    async def read(offset: int) -> None:
        got.append(bytes(await files.fs.fetcher.read(source, offset, 100)))

    with counted(emulator) as requests:
        async with trio.open_nursery() as nursery:
            for i in range(20):
                nursery.start_soon(read, i * 1000)
    assert requests == {"GetObject": 1}
    assert sorted(got) == sorted(data[i * 1000 : i * 1000 + 100] for i in range(20))


async def test_a_random_read_fetches_one_block(files: Files, emulator: Emulator) -> None:
    data = content(MIB)
    await files.upload("a", data)
    async with files.opened("a", os.O_RDONLY) as fh:
        with counted(emulator) as requests:
            for offset in (900_000, 100_000, 500_000):
                assert await files.read(fh, offset, 4096) == data[offset : offset + 4096]
        assert requests == {"GetObject": 3}
        assert emulator.requests.bytes_sent < 3 * BLOCK + 20_000


async def test_a_sequential_read_gets_large_ranges_and_no_byte_twice(
    files: Files, emulator: Emulator
) -> None:
    data = content(3 * MIB + 12345)
    await files.upload("a", data)
    async with files.opened("a", os.O_RDONLY) as fh:
        with counted(emulator) as requests:
            assert await files.read(fh, 0, len(data)) == data
        assert emulator.requests.bytes_sent < len(data) + 40 * KIB
    gets = -(-len(data) // FETCH)
    assert requests["GetObject"] <= gets + 6  # blocks of the beginning, before it counts as sequential
    with counted(emulator) as requests:
        assert await files.get("a") == data
    assert requests == {}


async def test_the_kernels_disorder_does_not_look_random(files: Files, emulator: Emulator) -> None:
    data = content(2 * MIB)
    await files.upload("a", data)
    pieces = [i * 128 * KIB for i in range(16)]
    for i in range(2, 15, 2):
        pieces[i], pieces[i + 1] = pieces[i + 1], pieces[i]
    async with files.opened("a", os.O_RDONLY) as fh:
        with counted(emulator) as requests:
            for offset in pieces:
                assert await files.read(fh, offset, 128 * KIB) == data[offset : offset + 128 * KIB]
        assert emulator.requests.bytes_sent < len(data) + 40 * KIB
    assert requests["GetObject"] <= 8 + 6


async def test_readahead_is_bounded(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem(readahead=512 * KIB)
    data = content(4 * MIB)
    await files.upload("a", data)
    emulator.faults.latency(0.1, "GetObject")
    emulator.requests.reset()
    async with files.opened("a", os.O_RDONLY) as fh:
        assert await files.read(fh, 0, 512 * KIB) == data[: 512 * KIB]
        assert files.fs.fetcher.in_flight <= 512 * KIB + FETCH
        emulator.faults.clear()
        await until(lambda: not files.fs.fetcher.in_flight)
    assert emulator.requests.bytes_sent < 2 * MIB


async def test_an_object_replaced_while_it_is_read_is_never_mixed(files: Files) -> None:
    old, new = content(4 * BLOCK, 1), content(4 * BLOCK, 2)
    await files.upload("a", old)
    fh = await files.open("a")
    assert await files.read(fh, 0, 10) == old[:10]
    await files.upload("a", new)
    with pytest.raises(FilesystemError) as caught:
        await files.read(fh, 2 * BLOCK, 10)
    assert caught.value.errno == errno.ESTALE
    await files.fs.release(fh)
    assert await files.get("a") == new


async def test_an_object_removed_while_it_is_read_is_stale(files: Files) -> None:
    await files.upload("a", content(4 * BLOCK))
    fh = await files.open("a")
    await files.read(fh, 0, 10)
    await files.delete("a")
    with pytest.raises(FilesystemError) as caught:
        await files.read(fh, 2 * BLOCK, 10)
    assert caught.value.errno == errno.ESTALE
    await files.fs.release(fh)


async def test_a_broken_body_is_resumed_behind_the_last_whole_block(files: Files, emulator: Emulator) -> None:
    data = content(4 * BLOCK)
    source = await source_of(files, data)
    emulator.faults.truncate("GetObject", offset=2 * BLOCK + 100)
    with counted(emulator) as requests:
        assert await files.fs.fetcher.read(source, 0, len(data)) == data
    assert requests == {"GetObject": 2}
    assert emulator.requests.bytes_sent < len(data) + BLOCK


async def test_an_error_is_told_to_all_who_wait_and_not_remembered(files: Files, emulator: Emulator) -> None:
    source = await source_of(files, b"x" * 1000)
    emulator.faults.error("GetObject", "AccessDenied", 403)
    errors = []

    async def read() -> None:
        try:
            await files.fs.fetcher.read(source, 0, 10)
        except Exception as exc:
            errors.append(type(exc).__name__)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(read)
    assert errors == ["PermissionDeniedError"] * 3
    assert await files.fs.fetcher.read(source, 0, 10) == b"x" * 10
    assert files.fs.fetcher.in_flight == 0


async def test_another_object_under_the_key_is_refused(files: Files) -> None:
    source = await source_of(files, b"old bytes")
    await files.upload("k", b"new bytes")
    with pytest.raises(PreconditionFailedError):
        await files.fs.fetcher.read(source, 0, 9)


async def test_a_size_that_does_not_agree_is_refused(files: Files) -> None:
    source = await source_of(files, b"123456789")
    wrong = Source(source.bucket, source.key, source.etag, 5)
    with pytest.raises(IntegrityError):
        await files.fs.fetcher.read(wrong, 0, 5)


async def test_a_cancelled_reader_does_not_stop_the_others(files: Files, emulator: Emulator) -> None:
    source = await source_of(files, b"y" * 1000)
    emulator.faults.latency(0.1, "GetObject", count=1)
    with counted(emulator) as requests:
        with trio.move_on_after(0.02):
            await files.fs.fetcher.read(source, 0, 10)
        assert await files.fs.fetcher.read(source, 0, 10) == b"y" * 10
    assert requests == {"GetObject": 1}


async def test_blocks_are_there_for_the_next_mount(filesystem: Filesystems, emulator: Emulator) -> None:
    data = content(5 * BLOCK)
    first = await filesystem("cache")
    await first.upload("a", data)
    assert await first.get("a") == data
    await filesystem.end(first)
    second = await filesystem("cache")
    await second.stat("a")
    with counted(emulator) as requests:
        assert await second.get("a") == data
    assert requests == {}


async def test_our_own_bytes_are_read_back_without_a_request(files: Files, emulator: Emulator) -> None:
    data = content(3 * BLOCK + 5)
    await files.put("a", data)
    with counted(emulator) as requests:
        assert await files.get("a") == data
    assert requests == {}


# Ways of reading


@pytest.fixture
async def large(filesystem: Filesystems) -> Files:
    """A filesystem with the object k of 16 MiB, and no disk cache to hide what is fetched again."""
    files = await filesystem(cache_size=0, readahead=4 * MIB)
    await files.upload("k", LARGE)
    await files.stat("k")
    return files


LARGE = content(16 * MIB)


class Received:
    """Bytes and GETs since it was made."""

    def __init__(self, files: Files) -> None:
        self._stats = files.client.stats
        self._bytes = self._stats.bytes_received
        self._gets = self._stats.requests["GetObject"]

    @property
    def bytes(self) -> int:
        return self._stats.bytes_received - self._bytes

    async def settled(self, least: int) -> int:
        """The bytes, once all of them are counted: a request is counted a moment after its last byte."""
        await until(lambda: self.bytes >= least)
        return self.bytes

    @property
    def gets(self) -> int:
        return self._stats.requests["GetObject"] - self._gets


async def test_two_readers_at_different_places_fetch_no_byte_twice(large: Files) -> None:
    received = Received(large)
    half = len(LARGE) // 2

    async def read(start: int) -> None:
        async with large.opened("k", os.O_RDONLY) as fh:
            assert await large.read(fh, start, half) == LARGE[start : start + half]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, 0)
        nursery.start_soon(read, half)
    assert (
        await received.settled(len(LARGE)) <= len(LARGE) + 4 * MIB
    )  # the first runs into the second's half once


async def test_reading_backwards_fetches_no_byte_twice(large: Files) -> None:
    received = Received(large)
    async with large.opened("k", os.O_RDONLY) as fh:
        for offset in range(len(LARGE) - 128 * KIB, -1, -128 * KIB):
            assert await large.fs.read(fh, offset, 128 * KIB) == LARGE[offset : offset + 128 * KIB]
    assert await received.settled(len(LARGE)) == len(LARGE)


async def test_widely_spaced_reads_fetch_their_blocks_only(
    large: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Readahead, "DISORDER", MIB)
    received = Received(large)
    async with large.opened("k", os.O_RDONLY) as fh:
        for offset in range(0, len(LARGE), MIB // 2):
            assert await large.fs.read(fh, offset, 32 * KIB) == LARGE[offset : offset + 32 * KIB]
    assert (await received.settled(32 * BLOCK), received.gets) == (32 * BLOCK, 32)


async def test_many_sequential_readers_share_the_readahead_and_fetch_no_byte_twice(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readahead, "ACTIVE_SECONDS", 3600.0)  # should the machine stand still
    files = await filesystem(cache_size=0, readahead=2 * MIB)
    data = content(2 * MIB)
    for number in range(12):
        await files.upload(f"f{number}", data)
    for number in range(12):
        await files.stat(f"f{number}")
    received = Received(files)
    most = 0

    async def read(number: int) -> None:
        nonlocal most
        async with files.opened(f"f{number}", os.O_RDONLY) as fh:
            for offset in range(0, len(data), 128 * KIB):
                assert await files.fs.read(fh, offset, 128 * KIB) == data[offset : offset + 128 * KIB]
                most = max(most, files.fs.fetcher.in_flight)

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(read, number)
    assert await received.settled(12 * len(data)) == 12 * len(data)
    assert most <= 2 * MIB + 12 * 2 * BLOCK  # and what each reader waits for itself


async def test_a_thousand_readers_of_one_file(large: Files) -> None:
    received = Received(large)

    async def read(number: int) -> None:
        async with large.opened("k", os.O_RDONLY) as fh:
            offset = number * 4096
            assert await large.fs.read(fh, offset, 4096) == LARGE[offset : offset + 4096]

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(read, number)
    blocks = -(-1000 * 4096 // BLOCK)
    assert (await received.settled(blocks * BLOCK), received.gets) == (blocks * BLOCK, blocks)
    assert large.fs.open_handles == (0, 0, 0)
    assert large.fs.fetcher.in_flight == 0


async def test_opening_many_times_leaves_nothing_behind(large: Files) -> None:
    for _ in range(2000):
        async with large.opened("k", os.O_RDONLY) as fh:
            await large.fs.read(fh, 0, 10)
    assert large.fs.open_handles == (0, 0, 0)
    assert len(large.fs.readahead._active) == 0


async def test_a_short_block_of_the_cache_is_fetched_again(files: Files) -> None:
    data = content(3 * BLOCK)
    source = await source_of(files, data)
    cache = files.fs.fetcher.cache
    cache.put(source.block(1), data[BLOCK : BLOCK + 100])
    await until(lambda: not cache._queued and not cache._writing)
    cache._hot.remove_object(source.bucket, source.key)
    assert await cache.get(source.block(1)) == data[BLOCK : BLOCK + 100]
    cache._hot.remove_object(source.bucket, source.key)
    assert bytes(await files.fs.fetcher.read(source, 0, len(data))) == data


async def test_nobody_waits_for_a_block_that_goes_ahead_when_it_does_not_come(files: Files) -> None:
    source = await source_of(files, b"small")
    files.fs.remote.patience.io_timeout = 0.1
    files.fs.fetcher.expect(source)  # where COS is slow, questions of others go first for ever
    with trio.fail_after(100):
        assert await files.fs.fetcher.read(source, 0, 100) == b"small"
    files.fs.fetcher.give_up(source)  # or it arrives late
    assert files.fs.fetcher.in_flight == 0
