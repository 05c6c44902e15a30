"""Room on the disk for what is written: what is sent or removed for it, and what is left of that."""

from __future__ import annotations

import errno
import os

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.fs import room
from cosfs.fs.inodes import FileNode
from tests.fs.conftest import Filesystems, restarted
from tests.fs.support import Files, content, counted, kept_files, until

KIB = 1024
SIZE = 200 * KIB  # more than stays in memory


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full, and small files are worth being sent for their room."""
    monkeypatch.setattr(room, "WORTH", 1)
    monkeypatch.setattr(room.Room, "_disk", lambda self: (0, 1 << 30))


async def make(files: Files, node: FileNode) -> bool:
    return await files.fs.room.make((node.bucket, node.key), 1)


def staged(files: Files) -> int:
    return sum(path.stat().st_blocks for path in files.journal.staging.iterdir())


async def written(files: Files, name: str, data: bytes) -> tuple[int, FileNode]:
    fh = await files.create(name, flags=os.O_RDWR | os.O_CREAT)
    await files.write(fh, data)
    return fh, await files.file(name)


@pytest.mark.usefixtures("cheap")
async def test_an_open_file_is_sent_and_read_from_cos_from_then_on(files: Files) -> None:
    data = content(SIZE)
    fh, node = await written(files, "a", data)
    assert staged(files)
    assert await make(files, node)
    assert not staged(files)
    assert await files.stored("a") == data
    assert await files.read(fh, 0, SIZE) == data
    await files.write(fh, b"end", SIZE)
    await files.write(fh, b"middle", 100 * KIB)
    expected = bytearray(data + b"end")
    expected[100 * KIB : 100 * KIB + 6] = b"middle"
    assert await files.read(fh, 0, 2 * SIZE) == expected
    await files.close(fh)
    assert await files.stored("a") == await files.get("a") == expected
    assert files.journal.records() == []


@pytest.mark.usefixtures("cheap")
async def test_what_is_done_with_such_a_file(files: Files) -> None:
    data = content(SIZE)
    handles = {}
    for name in ("renamed", "removed", "cut", "mode"):
        handles[name], node = await written(files, name, data)
        assert await make(files, node)
    await files.rename("renamed", "other")
    await files.unlink("removed")
    await files.truncate("cut", 150 * KIB)
    await files.chmod("mode", 0o600)
    for name, fh in handles.items():
        expected = data[: 150 * KIB] if name == "cut" else data
        assert await files.read(fh, 0, SIZE) == expected
        await files.write(fh, b"more", len(expected))
        assert await files.read(fh, 0, 2 * SIZE) == expected + b"more"
        await files.close(fh)
    await files.fs.drain()
    assert await files.keys() == ["cut", "mode", "other"]
    assert await files.stored("other") == await files.stored("mode") == data + b"more"
    assert await files.stored("cut") == data[: 150 * KIB] + b"more"
    assert await files.mode("mode") == 0o600


@pytest.mark.usefixtures("cheap")
async def test_a_killed_mount_leaves_it_as_it_was_sent(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem("cache")
    data = content(SIZE)
    fh, node = await written(files, "a", data)
    assert await make(files, node)
    await files.write(fh, b"X" * 100 * KIB, SIZE)
    await until(lambda: files.journal.records())
    second = await restarted(filesystem, emulator, files)
    assert await second.stored("a") == await second.get("a") == data
    assert list(kept_files(second).values()) == [data + b"X" * 100 * KIB]


@pytest.mark.usefixtures("cheap")
async def test_the_open_file_with_the_most_bytes_is_sent(files: Files, emulator: Emulator) -> None:
    for name, size in (("small", SIZE), ("large", 2 * SIZE), ("removed", 3 * SIZE)):
        await written(files, name, content(size))
    small = await files.file("small")
    await files.unlink("removed")
    assert await make(files, small)
    assert await files.keys() == ["large"]
    assert await make(files, small)
    assert await files.keys() == ["large", "small"]
    assert not await make(files, small), "the bytes of a removed file can go nowhere"


async def test_what_takes_little_room_is_not_sent(files: Files) -> None:
    fh, node = await written(files, "a", content(SIZE))
    assert not await make(files, node)
    assert await files.keys() == []
    await files.fs.fsync(fh)
    assert await make(files, node), "but what COS has need not be here as well"
    assert not staged(files)
    assert not await make(files, node)
    assert await files.read(fh, 0, SIZE) == content(SIZE)


async def test_a_disk_on_which_others_leave_little_room(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is not sent each time that a little more of it is there."""
    monkeypatch.setattr(room, "WORTH", 1)
    monkeypatch.setattr(room.Room, "_disk", lambda self: (SIZE, 1 << 40))
    fh, node = await written(files, "a", content(SIZE))
    assert files.fs.room.is_short(room.LOOK_EVERY)
    assert not await make(files, node)
    await files.write(fh, b"x" * KIB, SIZE)
    assert await make(files, node)
    assert await files.stored("a") == content(SIZE) + b"x" * KIB


@pytest.mark.usefixtures("cheap")
async def test_what_cos_refuses_stays(files: Files, emulator: Emulator) -> None:
    data = content(SIZE)
    fh, node = await written(files, "a", data)
    refused = emulator.faults.error("PutObject", "InvalidStorageClass", 400, count=0)
    assert not await make(files, node)
    assert refused.struck
    assert await files.read(fh, 0, SIZE) == data
    emulator.faults.clear()
    await files.close(fh)
    assert await files.stored("a") == data


@pytest.mark.usefixtures("cheap")
async def test_those_who_wait_share_what_is_made(files: Files, emulator: Emulator) -> None:
    _, node = await written(files, "a", content(SIZE))
    await written(files, "b", content(SIZE))
    slow = emulator.faults.latency(0.2, "PutObject")
    done: list[bool] = []

    async def wait() -> None:
        done.append(await make(files, node))

    with counted(emulator) as requests:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
    emulator.faults.remove(slow)
    assert done == [True] * 3
    assert requests["PutObject"] == 1


async def test_writers_wait_for_a_closed_file(filesystem: Filesystems) -> None:
    files = await filesystem(write_back="async")
    await files.put("before", b"")  # COS is known to let it write
    await files.fs.drain()
    fh, node = await written(files, "waits", content(SIZE))
    done: list[bool] = []

    async def wait() -> None:
        done.append(await make(files, node))

    await node.lock.acquire()
    await files.close(fh)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await until(lambda: files.fs.room._lock.locked())
        assert not done
        node.lock.release()
    assert done == [True]
    assert await files.stored("waits") == content(SIZE)


async def test_nobody_waits_for_what_cos_does_not_take(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem(write_back="async")
    fh, node = await written(files, "refused", content(SIZE))
    emulator.faults.error("PutObject", "InvalidStorageClass", 400, count=0)
    await files.close(fh)
    assert not await make(files, node)
    emulator.faults.clear()


@pytest.mark.usefixtures("cheap")
async def test_a_full_disk_makes_the_writer_send(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    data, step = content(SIZE), 50 * KIB
    fh, node = await written(files, "a", data)
    assert node.content is not None
    original = node.content.write

    async def write(offset: int, piece: bytes) -> None:
        assert node.content is not None
        if node.content.on_disk + len(piece) > SIZE:
            raise OSError(errno.ENOSPC, "no room")
        await original(offset, piece)

    monkeypatch.setattr(node.content, "write", write)
    for number in range(4):
        assert await files.fs.write(fh, SIZE + number * step, data[:step]) == step
    await files.close(fh)
    assert await files.stored("a") == data + 4 * data[:step]
