"""kill -9 at every moment of a call: a file is as before the call or as after it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.fs import openfiles
from cosfs.fs.inodes import FileNode
from cosfs.fs.scratch import MEMORY_MAX
from tests.fs.conftest import Filesystems
from tests.fs.moments import Moments
from tests.fs.support import Files, content, nothing_staged, until

LARGE = content(3 * MEMORY_MAX)
SMALL = content(100)
OTHER = content(3 * MEMORY_MAX, seed=1)


async def _cut(files: Files) -> None:
    await files.truncate("a", 10)


async def _grow(files: Files) -> None:
    await files.truncate("a", 4 * MEMORY_MAX)


async def _replace(files: Files, data: bytes) -> None:
    fh = await files.fs.open((await files.file("a")).ino, os.O_WRONLY | os.O_TRUNC)
    await files.write(fh, data)
    await files.close(fh)


async def _write_anew(files: Files) -> None:
    await _replace(files, OTHER)


async def _write_little(files: Files) -> None:
    await _replace(files, b"little")


async def _remove(files: Files) -> None:
    await files.unlink("a")


async def _move_over(files: Files) -> None:
    await files.rename("sent", "a")


async def _append(files: Files) -> None:
    async with files.opened("a") as fh:
        await files.write(fh, b"more", (await files.file("a")).size)


async def _save(files: Files) -> None:
    await files.put("t", OTHER)
    await files.rename("t", "a")


CALLS: dict[Callable[[Files], Awaitable[None]], Callable[[bytes], bytes | None]] = {
    _cut: lambda data: data[:10],
    _grow: lambda data: data + bytes(4 * MEMORY_MAX - len(data)),
    _write_anew: lambda data: OTHER,
    _write_little: lambda data: b"little",
    _append: lambda data: data + b"more",
    _save: lambda data: OTHER,
    _remove: lambda data: None,
    _move_over: lambda data: b"sent",
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__.strip("_"))
@pytest.mark.parametrize("before", [SMALL, LARGE], ids=["small", "large"])
async def test_a_file_that_waits_to_be_sent_is_as_before_a_call_or_as_after_it(
    filesystem: Filesystems,
    emulator: Emulator,
    tmp_path: Path,
    before: bytes,
    call: Callable[[Files], Awaitable[None]],
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.upload("sent", b"sent")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.put("a", before)
    with pytest.MonkeyPatch.context() as patch:
        moments = Moments(patch, files, tmp_path / "cache")
        with suppress(COSError):  # it tells that COS does not have it yet
            await call(files)
    await filesystem.kill(files)
    emulator.faults.clear()
    assert len(moments.taken) > 2
    after = CALLS[call](before)
    for moment in moments.taken:
        await moments.restore(moment)
        second = await filesystem(moment, write_back="async")
        await second.fs.drain()
        found = await second.stored("a")
        assert found in (before, after), (moment, len(found or b""))
        assert all(".conflict-" not in key for key in await second.keys()), moment
        await nothing_staged(second)
        await filesystem.end(second)


async def test_a_file_written_anew_while_it_is_sent_is_not_empty_after_a_crash(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.list()
    emulator.faults.latency(1.0, "PutObject")
    await files.put("a", SMALL)
    node = await files.file("a")
    await until(lambda: node.being_sent)
    fh = await files.fs.open(node.ino, os.O_WRONLY | os.O_TRUNC)
    await files.write(fh, b"new")
    await filesystem.kill(files)
    emulator.faults.clear()
    second = await filesystem("cache", write_back="async")
    await second.fs.drain()
    assert await second.stored("a") == SMALL
    assert await second.keys() == ["a"]


async def test_what_is_written_in_the_place_of_a_closed_file_is_not_sent_half(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openfiles, "ASYNC_DELAY", 0.1)
    files = await filesystem("cache", write_back="async")
    await files.list()
    await files.put("a", SMALL)
    fh = await files.fs.open((await files.file("a")).ino, os.O_WRONLY | os.O_TRUNC)
    await files.write(fh, b"half")
    await trio.sleep(0.3)
    assert await files.keys() == []
    await files.write(fh, b" and all", 4)
    await files.close(fh)
    await files.fs.drain()
    assert await files.stored("a") == b"half and all"


@pytest.mark.usefixtures("unhurried")
async def test_sending_everything_does_not_wait_for_who_writes_anew_what_was_closed(
    filesystem: Filesystems,
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.list()
    await files.put("a", SMALL)
    fh = await files.fs.open((await files.file("a")).ino, os.O_WRONLY | os.O_TRUNC)
    await files.write(fh, b"new")
    with trio.fail_after(100):
        await files.fs.drain()
    assert await files.keys() == []  # nothing in place of what was closed that may be half of the new bytes
    await files.close(fh)
    await files.fs.drain()
    assert await files.stored("a") == b"new"


async def test_killed_when_cos_has_what_came_in_the_place_of_a_closed_file(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openfiles, "ASYNC_DELAY", 60.0)
    files = await filesystem("cache", write_back="async")
    await files.list()
    await files.put("a", SMALL)
    fh = await files.fs.open((await files.file("a")).ino, os.O_WRONLY | os.O_TRUNC)
    await files.write(fh, b"new")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0, after=True)
    promises = []
    sent = files.fs.committer._send

    async def send(node: FileNode) -> None:
        # What the journal says at this moment is what a kill behind the request leaves.
        promises.extend(r.body["content"]["size"] for r in files.journal.records())
        await sent(node)

    monkeypatch.setattr(files.fs.committer, "_send", send)
    with pytest.raises(COSError):
        await files.fs.fsync(fh)
    assert promises == [3]
    await filesystem.kill(files)
    emulator.faults.clear()
    second = await filesystem("cache", write_back="async")
    await second.fs.drain()
    assert await second.keys() == ["a"]
    assert await second.stored("a") == b"new"


async def test_the_mode_of_a_file_that_others_changed_is_kept_when_it_is_written_anew(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async", metadata_ttl=0.0)
    await files.upload("a", b"one")
    node = await files.file("a")
    await files.upload("a", b"two", headers=Headers(metadata={"mode": str(0o100700)}))
    await trio.sleep(0.05)
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    fh = await files.fs.open(node.ino, os.O_WRONLY | os.O_TRUNC)  # the kernel knows its name
    await files.write(fh, b"new")
    await files.close(fh)
    await filesystem.kill(files)
    emulator.faults.clear()
    second = await filesystem("cache", write_back="async")
    await second.fs.drain()
    third = await filesystem("other")
    assert await third.get("a") == b"new"
    assert await third.mode("a") == 0o700
