"""Objects that are no files any more, and that files of other names, or of none, still need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.units import MIB
from tests.fs.conftest import Filesystems, restarted
from tests.fs.support import Files, content, until


async def remove(files: Files) -> None:
    await files.unlink("b")


async def replace(files: Files) -> None:
    await files.put("c", b"another")
    await files.rename("c", "b")


CALLS: dict[Callable[[Files], Awaitable[None]], list[str]] = {remove: [], replace: ["b"]}
calls = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)


async def opened_and_lost(files: Files, emulator: Emulator, call: Callable[[Files], Awaitable[None]]) -> int:
    """Change a file, rename it and take its last name away while it is open; return the handle."""
    await files.upload("a", b"0123456789")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    async with files.opened("a") as fh:
        await files.write(fh, b"XY", 4)
    await files.rename("a", "b")
    fh = await files.open("b")
    await call(files)
    assert await files.read(fh, 0, 10) == b"0123XY6789"
    return fh


@calls
async def test_a_changed_file_that_lost_its_last_name_while_open_is_not_under_a_former_one_after_a_crash(
    filesystem: Filesystems, emulator: Emulator, call: Callable[[Files], Awaitable[None]]
) -> None:
    files = await filesystem("cache", write_back="async")
    await opened_and_lost(files, emulator, call)
    second = await restarted(filesystem, emulator, files)
    assert await second.list() == CALLS[call]
    await second.fs.drain()
    assert await second.keys() == CALLS[call]
    assert second.journal.records() == []


@calls
async def test_what_a_changed_file_without_a_name_needs_goes_when_it_is_closed(
    filesystem: Filesystems, emulator: Emulator, call: Callable[[Files], Awaitable[None]]
) -> None:
    files = await filesystem("cache", write_back="async")
    fh = await opened_and_lost(files, emulator, call)
    await files.removed()
    assert "a" in await files.keys()
    await files.close(fh)
    emulator.faults.clear()
    await files.fs.drain()
    assert await files.keys() == CALLS[call]
    assert files.journal.records() == []


@calls
async def test_the_former_name_of_a_changed_file_without_a_name_may_be_used_again(
    filesystem: Filesystems, emulator: Emulator, call: Callable[[Files], Awaitable[None]]
) -> None:
    files = await filesystem("cache", write_back="async")
    fh = await opened_and_lost(files, emulator, call)
    emulator.faults.clear()
    await files.put("a", b"0123456789")  # with the etag of what it was
    await files.fs.drain()
    assert await files.read(fh, 0, 10) == b"0123XY6789"
    second = await restarted(filesystem, emulator, files)
    assert await second.keys() == ["a", *CALLS[call]]
    assert await second.get("a") == b"0123456789"
    assert second.journal.records() == []


async def test_a_rename_fails_while_what_another_file_has_left_there_cannot_be_fetched(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    before = content(4 * MIB)
    changed = before[:4] + b"XY" + before[6:]
    files = await filesystem(write_back="async")
    await files.upload("a", before)
    await files.upload("next", b"next")
    await files.list()
    emulator.faults.error("*MultipartUpload", "ServiceUnavailable", 503, count=0)
    async with files.opened("a") as fh:
        await files.write(fh, b"XY", 4)
    await files.rename("a", "away")
    trouble = emulator.faults.error("GetObject", "ServiceUnavailable", 503, count=0)
    with pytest.raises(COSError, match="ServiceUnavailable"):
        await files.rename("next", "a")
    assert trouble.struck
    assert sorted(await files.list()) == ["away", "next"]
    emulator.faults.clear()
    assert await files.get("away") == changed
    await files.rename("next", "a")
    await files.fs.drain()
    await files.removed()
    assert await files.keys() == ["a", "away"]
    assert sorted(await files.list()) == ["a", "away"]
    assert await files.stored("a") == b"next"
    assert await files.stored("away") == changed


async def test_a_rename_goes_on_when_the_file_that_needed_what_is_there_goes_meanwhile(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    for key, data in (("a", content(4 * MIB)), ("d/", b""), ("next", b"next")):
        await files.upload(key, data)
    await files.list("d")
    emulator.faults.error("*MultipartUpload", "ServiceUnavailable", 503, count=0)
    async with files.opened("a") as fh:
        await files.write(fh, b"XY", 4)
    await files.rename("a", "d/away")
    held = emulator.faults.latency(3600, "GetObject")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.rename, "next", "a")
        await until(lambda: held.struck)
        await files.unlink("d/away")
        emulator.faults.release(held)
    await files.fs.drain()
    await files.removed()
    assert await files.keys() == ["a", "d/"]
    assert await files.stored("a") == b"next"
