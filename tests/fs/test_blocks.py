from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cosfs.fs import blockfile, blocks
from cosfs.fs.blocks import BlockCache, BlockKey
from cosfs.fs.reserve import Reserve
from tests.fs.support import ALL_OF_IT

BLOCK = 8
LIMIT = 16 << 20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "GATHER_SECONDS", 0.002)


def block(number: int, *, key: str = "k", etag: str = "e") -> BlockKey:
    return BlockKey("b-1250000000", key, etag, number)


def data_of(number: int, size: int = BLOCK) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What a cache complained of: threads of tests that have ended may log as well."""
    return [
        each for each in caplog.records if each.name == blocks.__name__ and each.levelno >= logging.WARNING
    ]


@pytest.fixture
def no_warnings(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert said(caplog) == []


@asynccontextmanager
async def opened(
    directory: Path, size_limit: int = LIMIT, memory_limit: int = 0
) -> AsyncIterator[BlockCache]:
    """A running cache; without memory unless asked for, so that the disk is what is seen."""
    cache = BlockCache(
        directory, size_limit=size_limit, block_size=BLOCK, memory_limit=memory_limit, reserve=ALL_OF_IT
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.run)
        try:
            yield cache
        finally:
            nursery.cancel_scope.cancel()
    cache.close()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(150):
        while not condition():  # noqa: ASYNC110 (threads and files have no event)
            await trio.sleep(0.01)


async def written(cache: BlockCache) -> None:
    """Wait until nothing waits for the disk."""
    await until(lambda: not cache._queued and not cache._writing)


def indexes(directory: Path) -> list[Path]:
    return list(directory.glob("cache.db*"))


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("??/*"))


async def test_memory_serves_at_once_and_forgets_the_oldest(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, size_limit=0, block_size=BLOCK, memory_limit=3 * (BLOCK + 700))
    for number in range(3):
        cache.put(block(number), data_of(number))
    assert cache.get_hot(block(0)) == data_of(0)
    cache.put(block(3), data_of(3))
    assert [cache.get_hot(block(number)) for number in range(4)] == [data_of(0), None, data_of(2), data_of(3)]
    assert await cache.get(block(1)) is None
    assert await cache.get(block(2)) == data_of(2)
    assert (cache.stats.hits_memory, cache.stats.misses) == (5, 1)
    cache.close()
    assert not files(tmp_path)


async def test_another_etag_is_another_block(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as cache:
        cache.put(block(0), b"old")
        await written(cache)
        assert await cache.get(block(0, etag="f")) is None
        assert await cache.get(block(0)) == b"old"


async def test_blocks_are_found_before_they_are_written(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as cache:
        cache.put(block(0), b"x")
        assert cache.get_hot(block(0)) == b"x"
        assert files(directory) == []


async def test_disk_serves_after_reopening(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as cache:
        cache.put(block(0), b"")
        cache.put(block(1), b"\n" * 5)
        await written(cache)
        cache.put(block(2), b"written by close")
    async with opened(directory) as cache:
        assert await cache.get(block(0)) == b""
        assert await cache.get(block(1)) == b"\n" * 5
        assert await cache.get(block(2)) == b"written by close"
        assert (cache.stats.hits_disk, cache.stats.hits_memory, cache.stats.misses) == (3, 0, 0)


async def test_block_sizes_do_not_mix(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as cache:
        cache.put(block(1), data_of(1))
    other = BlockCache(directory, size_limit=LIMIT, block_size=BLOCK * 2, reserve=ALL_OF_IT)
    assert await other.get(block(1)) is None
    other.close()


async def test_disk_hits_go_to_memory(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as cache:
        cache.put(block(0), b"x")
    async with opened(directory, memory_limit=1 << 20) as cache:
        assert cache.get_hot(block(0)) is None
        assert await cache.get(block(0)) == b"x"
        assert cache.get_hot(block(0)) == b"x"


async def test_drop_forgets_one_object(directory: Path, no_warnings: None) -> None:
    async with opened(directory, memory_limit=1 << 20) as cache:
        for number in range(4):
            cache.put(block(number), b"x")
            cache.put(block(number, key="other"), b"y")
        await written(cache)
        cache.put(block(4), b"queued")
        cache.drop("b-1250000000", "k")
        assert all(cache.get_hot(block(number)) is None for number in range(5))
        cache.put(block(9), b"put after the drop")
        await written(cache)
        assert len(files(directory)) == 5
    async with opened(directory) as cache:
        assert [await cache.get(block(number)) for number in range(5)] == [None] * 5
        assert await cache.get(block(9)) == b"put after the drop"
        assert await cache.get(block(3, key="other")) == b"y"


async def test_disk_volume_stays_below_the_limit(directory: Path, no_warnings: None) -> None:
    limit = 2 << 20
    async with opened(directory, size_limit=limit) as cache:
        for number in range(100):
            cache.put(block(number), data_of(number, 100_000))
            if number % 4 == 3:
                await written(cache)
                assert cache.volume() <= limit
                assert sum(path.stat().st_blocks * 512 for path in files(directory)) <= limit
        assert cache.volume() > limit / 2
        assert await cache.get(block(99)) == data_of(99, 100_000)
        assert await cache.get(block(0)) is None
        assert cache.stats.dropped == 0


async def test_of_a_batch_that_does_not_fit_as_a_whole_the_last_are_written(
    directory: Path, monkeypatch: pytest.MonkeyPatch, no_warnings: None
) -> None:
    """As if they had come one by one: on a filesystem that is nearly full, where a batch can be too much."""
    async with opened(directory) as cache:
        before = cache.volume()
        monkeypatch.setattr(Reserve, "spare", lambda self, directory: before + 500_000 - cache.volume())
        for number in range(10):
            cache.put(block(number), data_of(number, 100_000))
        await written(cache)
        kept = [number for number in range(10) if await cache.get(block(number)) is not None]
        assert kept == [6, 7, 8, 9]
        assert cache.stats.dropped == 6
        assert cache.volume() <= before + 500_000


async def test_what_was_read_lately_is_kept(directory: Path, no_warnings: None) -> None:
    async with opened(directory, size_limit=2 << 20) as cache:
        for number in range(40):
            cache.put(block(number), data_of(number, 100_000))
            await written(cache)
            assert await cache.get(block(0)) == data_of(0, 100_000)


async def test_what_the_disk_cannot_take_in_time_is_dropped(directory: Path, no_warnings: None) -> None:
    cache = BlockCache(directory, size_limit=LIMIT, block_size=BLOCK, memory_limit=0, reserve=ALL_OF_IT)
    for number in range(20):  # nothing runs that would write
        cache.put(block(number), bytes(500_000))
    assert cache.stats.dropped == 12
    cache.close()
    assert len(files(directory)) == 8


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "header", "longer"])
async def test_damaged_block_is_a_miss(
    directory: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(directory) as cache:
        cache.put(block(0), b"0123456789")
    (path,) = files(directory)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    elif damage == "header":
        content[0] ^= 1
    elif damage == "longer":
        content += b"x"
    else:
        del content[-3 if damage == "cut" else 0 :]
    path.write_bytes(content)
    async with opened(directory) as cache:
        assert await cache.get(block(0)) is None
        assert cache.stats.damaged == 1
        await until(lambda: files(directory) == [])
        cache.put(block(0), b"0123456789")
        await written(cache)
        assert await cache.get(block(0)) == b"0123456789"
    assert [record.levelname for record in said(caplog)] == ["WARNING"]
    assert "damaged" in caplog.text


async def test_floods_of_damage_are_logged_by_count(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(directory) as cache:
        for number in range(25):
            cache.put(block(number), b"x")
    for path in files(directory):
        path.write_bytes(b"")
    async with opened(directory) as cache:
        for number in range(25):
            assert await cache.get(block(number)) is None
        assert cache.stats.damaged == 25
    assert len(said(caplog)) == 2


async def test_lost_file_is_a_quiet_miss(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as cache:
        cache.put(block(0), b"x")
    files(directory)[0].unlink()
    async with opened(directory) as cache:
        assert await cache.get(block(0)) is None


@pytest.mark.parametrize("content", [b"this is no database" * 1000, b"", b"SQLite format 3\0" + bytes(9000)])
async def test_damaged_index_is_made_anew_from_the_blocks(
    directory: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(directory) as cache:
        for number in range(20):
            cache.put(block(number), data_of(number))
    files(directory)[0].write_bytes(b"damaged as well")
    for path in indexes(directory):
        path.write_bytes(content)
    async with opened(directory) as cache:
        await until(lambda: cache._is_swept)
        found = [await cache.get(block(number)) for number in range(20)]
        assert sum(data == data_of(number) for number, data in enumerate(found)) == 19
        assert found.count(None) == 1
        assert len(files(directory)) == 19
        cache.put(block(20), b"y")
        await written(cache)
        assert await cache.get(block(20)) == b"y"
    assert all("damaged" in record.getMessage() for record in said(caplog))


async def test_removed_under_way_starts_empty(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as cache:
        cache.put(block(0), b"x")
        await written(cache)
        for path in [*files(directory), *indexes(directory)]:
            path.unlink()
        assert await cache.get(block(0)) is None
        for number in range(1, 4):
            cache.put(block(number), b"y")
            await written(cache)
        assert await cache.get(block(3)) == b"y"


async def test_index_damaged_under_way_is_made_anew(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(directory) as cache:
        for number in range(50):
            cache.put(block(number), b"x")
        await written(cache)
        for path in indexes(directory):
            path.write_bytes(b"\xff" * path.stat().st_size)
        for number in range(50, 55):
            await cache.get(block(number - 50))
            cache.put(block(number), b"y")
            await written(cache)
        assert await cache.get(block(54)) == b"y"
    assert 0 < len(said(caplog)) <= 3


async def test_unusable_directory_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with opened(tmp_path / "file" / "cache", memory_limit=1 << 20) as cache:
        cache.put(block(0), b"x")
        assert await cache.get(block(0)) == b"x"
        assert await cache.get(block(1)) is None
        assert cache.volume() == 0
        assert (cache.stats.errors, cache.stats.dropped) == (1, 1)
    assert [record.levelname for record in said(caplog)] == ["WARNING"]


async def test_full_disk_switches_the_disk_off(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(fd: int, pieces: tuple[bytes, ...]) -> None:
        raise OSError(28, "No space left on device")

    clock = [1000.0]
    monkeypatch.setattr(blocks, "_now", lambda: clock[0])
    async with opened(directory) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(blockfile, "_write_all", fail)
            for number in range(5):
                cache.put(block(number), b"x")
                await written(cache)
        assert (cache.stats.errors, cache.stats.dropped) == (3, 5)
        assert files(directory) == []
        cache.put(block(0), b"x")
        assert cache.stats.dropped == 6
        clock[0] += 61
        cache.put(block(0), b"x")
        await written(cache)
        assert await cache.get(block(0)) == b"x"
    assert len(said(caplog)) == 1


async def test_leaves_space_on_the_filesystem(
    directory: Path, monkeypatch: pytest.MonkeyPatch, no_warnings: None
) -> None:
    async with opened(directory) as cache:
        cache.put(block(0), data_of(0, 100_000))
        await written(cache)
        monkeypatch.setattr(Reserve, "spare", lambda self, directory: -(1 << 30))
        cache.put(block(1), data_of(1, 100_000))
        await written(cache)
        assert cache.stats.dropped == 1
        assert files(directory) == []


async def test_files_without_entry_are_removed_after_a_crash(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as cache:
        cache.put(block(0), b"x")
    (kept,) = files(directory)
    orphan = kept.with_name("f" * 30)
    orphan.write_bytes(b"left by a crash")
    async with opened(directory) as cache:
        assert orphan in files(directory)  # closed cleanly: not looked for
    (directory / "clean").unlink()
    async with opened(directory) as cache:
        await until(lambda: files(directory) == [kept])
        assert await cache.get(block(0)) == b"x"
    assert (directory / "clean").exists()


def test_a_killed_process_does_not_hold_the_directory(directory: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from cosfs.fs.blocks import BlockCache, BlockKey\n"
        "from cosfs.fs.reserve import Reserve\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "cache = BlockCache(path, size_limit=1 << 24, block_size=8, reserve=Reserve(0))\n"
        "cache.put(BlockKey('b', 'k', 'e', 0), b'x')\n"
        "cache._write(cache._take())\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, directory], timeout=90, check=False).returncode == -9
    cache = BlockCache(directory, size_limit=LIMIT, block_size=BLOCK, reserve=ALL_OF_IT)
    assert trio.run(cache.get, BlockKey("b", "k", "e", 0)) == b"x"
    cache.close()


def test_the_cache_is_private(directory: Path) -> None:
    cache = BlockCache(directory, size_limit=LIMIT, block_size=BLOCK, reserve=ALL_OF_IT)
    cache.put(block(0), b"x")
    cache.close()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert files(directory)[0].stat().st_mode & 0o777 == 0o600


async def test_real_sizes_keep_memory_and_disk_bounded(directory: Path, no_warnings: None) -> None:
    mib = 1 << 20
    async with opened(directory, size_limit=64 * mib, memory_limit=8 * mib) as cache:
        for number in range(200):
            cache.put(block(number), data_of(number, mib))
            await trio.sleep(0.002)
        await written(cache)
        assert cache._hot.total <= 8 * mib
        assert cache.volume() <= 64 * mib
        assert cache.stats.dropped < 200
        found = [number for number in range(200) if await cache.get(block(number)) == data_of(number, mib)]
        assert len(found) > 20


async def test_what_is_large_does_not_wait_for_more(
    directory: Path, monkeypatch: pytest.MonkeyPatch, no_warnings: None
) -> None:
    monkeypatch.setattr(blocks, "GATHER_SECONDS", 3600.0)
    mib = 1 << 20
    async with opened(directory, size_limit=64 * mib) as cache:
        for number in range(4):
            cache.put(block(number), data_of(number, mib))
        await written(cache)
        assert len(files(directory)) == 4


async def test_services_do_not_mix(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as cache:
        cache.put(block(0), b"x")
    other = BlockCache(
        directory, size_limit=LIMIT, block_size=BLOCK, realm="https://elsewhere", reserve=ALL_OF_IT
    )
    assert await other.get(block(0)) is None
    other.close()


async def test_two_caches_share_a_directory(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as one, opened(directory) as other:
        one.put(block(0), b"of one")
        other.put(block(1), b"of other")
        await written(one)
        await written(other)
        assert await other.get(block(0)) == b"of one"
        assert await one.get(block(1)) == b"of other"
        other.put(block(0), b"of one")  # both had fetched it
        await written(other)
        assert len(files(directory)) == 2
        one.drop("b-1250000000", "k")
        await written(one)
        assert await other.get(block(0)) is None


async def test_only_the_last_user_says_that_all_is_clean(directory: Path, no_warnings: None) -> None:
    async with opened(directory):
        async with opened(directory) as other:
            other.put(block(0), b"x")
        assert not (directory / "clean").exists()
    assert (directory / "clean").exists()


async def test_an_index_made_anew_by_another_mount_is_taken_over(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(directory) as one, opened(directory) as other:
        one.put(block(0), b"x")
        await written(one)
        for path in indexes(directory):
            path.write_bytes(b"\xff" * path.stat().st_size)
        for number in range(1, 5):
            for cache in (one, other):
                await cache.get(block(0))
                cache.put(block(number), b"y")
                await written(cache)
        await until(lambda: one._is_swept and other._is_swept)
        for cache in (one, other):
            assert await cache.get(block(0)) == b"x"
            assert await cache.get(block(4)) == b"y"
    assert "made anew" in caplog.text


def test_processes_that_write_at_once_lose_nothing(directory: Path) -> None:
    """Several processes fill one cache, one of them is killed under way; what is served is right."""
    script = (
        "import sys, pathlib, trio\n"
        "from cosfs.fs.blocks import BlockCache, BlockKey\n"
        "from cosfs.fs.reserve import Reserve\n"
        "async def main(cache, first):\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        nursery.start_soon(cache.run)\n"
        "        for number in range(first, first + 300):\n"
        "            assert await cache.room(4096)\n"
        "            cache.put(BlockKey('b', f'k{number}', 'e', 0), number.to_bytes(4, 'big') * 1024)\n"
        "            await trio.sleep(0.0005)\n"
        "        nursery.cancel_scope.cancel()\n"
        "    cache.close()\n"
        "    assert cache.stats.dropped == cache.stats.errors == 0, cache.stats\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "cache = BlockCache(path, size_limit=1 << 30, block_size=4096, memory_limit=0, reserve=Reserve(0))\n"
        "trio.run(main, cache, int(sys.argv[2]))\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, directory, str(first)])
        for first in (0, 200, 400, 10_000)
    ]
    try:
        while not files(directory):
            time.sleep(0.01)
        started[3].kill()
        assert [process.wait(150) for process in started[:3]] == [0, 0, 0]
    finally:
        for process in started:
            process.kill()
            process.wait()
    cache = BlockCache(directory, size_limit=1 << 30, block_size=4096, memory_limit=0, reserve=ALL_OF_IT)
    for number in range(700):
        data = trio.run(cache.get, BlockKey("b", f"k{number}", "e", 0))
        assert data == number.to_bytes(4, "big") * 1024
    cache.close()


async def test_a_filesystem_that_others_fill_is_given_room(
    directory: Path, monkeypatch: pytest.MonkeyPatch, no_warnings: None
) -> None:
    monkeypatch.setattr(blocks, "TRIM_SECONDS", 0.02)
    async with opened(directory) as cache:
        for number in range(10):
            cache.put(block(number), data_of(number, 100_000))
        await written(cache)
        volume = cache.volume()
        monkeypatch.setattr(Reserve, "spare", lambda self, directory: -500_000)
        await until(lambda: len(files(directory)) < 6)
        monkeypatch.undo()
        assert 0 < cache.volume() <= volume - 500_000


async def test_room_waits_for_the_disk(directory: Path, no_warnings: None) -> None:
    async with opened(directory) as cache:
        with trio.fail_after(150):
            for number in range(40):
                assert await cache.room(500_000)
                cache.put(block(number), data_of(number, 500_000))
        await written(cache)
        assert cache.stats.dropped == 0
    memory_only = BlockCache(directory, size_limit=0, block_size=BLOCK)
    assert not await memory_only.room(1)


async def test_the_disk_is_written_for_a_third_of_the_time_of_one_processor(
    directory: Path, no_warnings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep, clock = trio.sleep, itertools.count(step=50.0)

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(min(seconds, 0.01))

    monkeypatch.setattr(time, "thread_time", clock.__next__)
    monkeypatch.setattr(trio, "sleep", note)
    async with opened(directory) as cache:
        cache.put(block(0), data_of(0))
        await until(lambda: 100.0 in pauses)
        assert len(files(directory)) == 1


def test_of_a_stream_too_fast_for_the_disk_less_is_written() -> None:
    slow, fast = 300 << 20, 800 << 20  # bytes in a second
    assert blocks._pause(0.01, slow, 1.0) == pytest.approx(0.02)  # a third of one processor
    assert blocks._pause(0.01, fast, 1.0) == pytest.approx(0.07)  # an eighth
    assert blocks._pause(0.01, fast, 60.0) == pytest.approx(0.02)  # it began after a long rest
