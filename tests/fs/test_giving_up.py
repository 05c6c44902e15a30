"""Removing and renaming a large file while it is on its way: nobody waits for gigabytes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from cosfs.client.client import CosClient
from cosfs.client.model import PutResult
from cosfs.emulator import Emulator
from cosfs.fs import openfiles
from cosfs.units import MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, content, until

DATA = content(4 * MIB)
SLOW = 3600.0  # what one part takes, far longer than anything here may wait


async def in_order(files: Files) -> int:
    """A new file, sent while it is written."""
    fh = await files.create("big")
    await files.write(fh, DATA)
    return fh


async def changed(files: Files) -> int:
    """A file of COS with changes, sent part by part when it is closed."""
    await files.upload("big", bytes(len(DATA)))
    fh = await files.open("big", 1)
    await files.write(fh, DATA[MIB:], MIB)
    await files.write(fh, DATA[:MIB])
    return fh


def answered(emulator: Emulator, operation: str) -> int:
    return sum(e.operation == operation and e.status == 200 for e in emulator.requests.log())


async def on_its_way(files: Files, emulator: Emulator) -> None:
    """Wait until close() sends the file."""
    node = await files.file("big")
    await until(lambda: node.being_sent and emulator.requests["UploadPart"] >= 2)


async def grown(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that nobody has open gets longer by its path, and the parts it gains take their time."""
    monkeypatch.setattr(openfiles, "CUT_WITHIN", 0.1)
    await files.upload("big", b"x" * 100)
    await files.truncate("big", len(DATA))


@pytest.fixture(params=[in_order, changed])
def begin(request: pytest.FixtureRequest) -> Callable[[Files], Awaitable[int]]:
    begin: Callable[[Files], Awaitable[int]] = request.param
    return begin


async def test_a_file_on_its_way_is_removed_without_waiting(
    files: Files, emulator: Emulator, client: CosClient, begin: Callable[[Files], Awaitable[int]]
) -> None:
    slow = emulator.faults.latency(SLOW, "UploadPart")
    emulator.requests.reset()
    fh = await begin(files)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.close, fh)
        await on_its_way(files, emulator)
        await files.unlink("big")
        assert answered(emulator, "UploadPart") == 0
        emulator.faults.release(slow)
    await files.removed()
    assert await files.keys() == []
    assert not await files.exists("big")
    uploads = await trio.to_thread.run_sync(client.list_uploads, files.bucket)
    assert list(uploads.uploads) == []


async def test_a_file_on_its_way_is_renamed_without_waiting(
    files: Files, emulator: Emulator, begin: Callable[[Files], Awaitable[int]]
) -> None:
    slow = emulator.faults.latency(SLOW, "UploadPart")
    emulator.requests.reset()
    fh = await begin(files)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.close, fh)
        await on_its_way(files, emulator)
        await files.rename("big", "other")
        assert answered(emulator, "UploadPart") == 0
        emulator.faults.release(slow)
    # close() returned when COS had the file, under the name it has by now.
    await files.removed()
    assert await files.keys() == ["other"]
    assert await files.stored("other") == DATA


async def test_a_file_on_its_way_is_replaced_without_waiting(
    files: Files, emulator: Emulator, begin: Callable[[Files], Awaitable[int]]
) -> None:
    slow = emulator.faults.latency(SLOW, "UploadPart")
    emulator.requests.reset()
    fh = await begin(files)
    await files.put("new", b"new")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.close, fh)
        await on_its_way(files, emulator)
        await files.rename("new", "big")
        assert answered(emulator, "UploadPart") == 0
        emulator.faults.release(slow)
    await files.removed()
    assert await files.keys() == ["big"]
    assert await files.stored("big") == b"new"


async def test_a_file_cut_by_its_path_is_not_waited_for_long(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = emulator.faults.latency(SLOW, "UploadPart")
    emulator.requests.reset()
    await grown(files, monkeypatch)
    await on_its_way(files, emulator)
    await files.unlink("big")
    assert answered(emulator, "UploadPart") == 0
    emulator.faults.release(slow)
    await files.removed()
    assert await files.keys() == []


async def test_a_file_cut_by_its_path_is_sent_behind_even_after_a_kill(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await filesystem("cache")
    slow = emulator.faults.latency(SLOW, "UploadPart")
    await grown(files, monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(filesystem.kill, files)
        await trio.testing.wait_all_tasks_blocked(0.1)
        emulator.faults.release(slow)  # the threads that wait for an answer end as well
    emulator.faults.clear()
    again = await filesystem("cache")
    await again.fs.drain()
    assert await again.stored("big") == b"x" * 100 + bytes(len(DATA) - 100)


async def test_async_a_file_cut_by_its_path_does_not_wait_for_cos(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    before = answered(emulator, "PutObject")
    await files.upload("small", b"x" * 100)
    await until(lambda: answered(emulator, "PutObject") > before)  # it is counted when the answer is out
    slow = emulator.faults.latency(SLOW, "PutObject")
    emulator.requests.reset()
    await files.truncate("small", 10)
    assert answered(emulator, "PutObject") == 0
    emulator.faults.release(slow)
    await files.fs.drain()
    assert await files.stored("small") == b"x" * 10


async def test_what_is_sent_behind_the_back_is_given_up_too(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    slow = emulator.faults.latency(SLOW, "UploadPart")
    await files.close(await in_order(files))
    await until(lambda: emulator.requests["UploadPart"] >= 2)
    await files.rename("big", "other")
    await files.unlink("other")
    emulator.faults.release(slow)
    await files.fs.drain()
    assert await files.keys() == []
    assert files.journal.records() == []


async def whole(files: Files, data: bytes, name: str = "big") -> int:
    """A file that is sent in one request."""
    fh = await files.create(name)
    await files.write(fh, data)
    return fh


@pytest.mark.parametrize("new", ["", "other"])
async def test_one_long_request_is_given_up_as_well(
    filesystem: Filesystems, emulator: Emulator, new: str
) -> None:
    files = await filesystem(multipart_threshold=16 * MIB)
    data = content(MIB) * 15  # more than the buffers of a socket hold
    emulator.faults.bandwidth.limit(total=MIB)
    emulator.requests.reset()
    fh = await whole(files, data)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(files.close, fh)
            node = await files.file("big")
            await until(lambda: node.being_sent)
            await trio.sleep(0.5)  # the body has begun by now, and takes 15 s
            if new:
                await files.rename("big", new)
            else:
                await files.unlink("big")
            assert answered(emulator, "PutObject") == 0
            emulator.faults.bandwidth.limit(total=0)
    finally:
        emulator.faults.bandwidth.limit(total=0)
    await files.removed()
    assert await files.keys() == ([new] if new else [])
    assert not new or await files.stored(new) == data


@pytest.mark.parametrize("size", [100_000, 2 * MIB])
async def test_a_file_of_more_than_one_piece_is_not_sent_to_its_end(
    files: Files, emulator: Emulator, client: CosClient, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    put, asked = client.put_object, []

    def held(bucket: str, key: str, body: Any, **kwargs: Any) -> PutResult:
        asked.append(key)
        chunks = body.chunks(64 * 1024)
        next(chunks)
        end = time.monotonic() + 60
        while not body.revoked and time.monotonic() < end:
            time.sleep(0.005)
        for _ in chunks:
            raise AssertionError("it was sent to its end")
        return put(bucket, key, body, **kwargs)

    fh = await whole(files, content(size))
    monkeypatch.setattr(client, "put_object", held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.close, fh)
        await until(lambda: asked)
        await files.unlink("big")
    await files.removed()
    assert asked == ["big"]
    assert await files.keys() == []


async def test_async_a_file_on_its_way_that_is_removed_is_not_sent_anew(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    slow = emulator.faults.latency(SLOW, "UploadPart")
    fh = await in_order(files)
    emulator.requests.reset()
    await files.close(fh)
    node = await files.file("big")
    await until(lambda: node.being_sent)
    await trio.sleep(0.1)  # a second one waits to send it by now
    await files.unlink("big")
    assert answered(emulator, "UploadPart") == 0
    assert emulator.requests["InitiateMultipartUpload"] <= 1 and not emulator.requests["PutObject"]
    emulator.faults.release(slow)
    await files.removed()
    assert await files.keys() == []
