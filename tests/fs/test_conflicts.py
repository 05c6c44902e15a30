"""What happens when somebody else was faster."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Any

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.errors import COSError, FilesystemError
from cosfs.fs import openfiles
from cosfs.units import MIB
from tests.fs.conftest import NEVER, Filesystems
from tests.fs.support import Files, content, until


async def test_a_conflict_keeps_both_and_tells(
    files: Files, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    await files.upload("a", b"base")
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"ours!")
    await files.upload("a", b"theirs")
    with pytest.raises(FilesystemError) as caught:
        await files.fs.flush(fh)
    assert caught.value.errno == errno.ESTALE
    await files.fs.release(fh)
    assert await files.stored("a") == b"theirs"
    [other] = [key for key in await files.keys() if key != "a"]
    assert other.startswith("a.conflict-")
    assert await files.stored(other) == b"ours!"
    assert other in caplog.text
    assert await files.get("a") == b"theirs"
    assert other in await files.list()
    assert files.journal.records() == []


async def test_what_was_written_to_a_part_of_a_removed_file_is_kept_and_told(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    await files.upload("a", b"base of it")
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"ours")
    await files.delete("a")
    with pytest.raises(FilesystemError, match="was removed by somebody else") as caught:
        await files.fs.flush(fh)
    assert caught.value.errno == errno.ESTALE
    await files.fs.release(fh)
    [other] = await files.keys()
    assert await files.stored(other) == b"ours" + bytes(6)
    told = f"what was written here (bytes 0-3, and zeros elsewhere) is kept as cos://{files.bucket}/{other}"
    assert told in caplog.text


@pytest.mark.parametrize("flags", [os.O_TRUNC, 0], ids=["anew", "in place"])
async def test_what_others_write_while_a_large_file_is_on_its_way_is_kept(
    files: Files, emulator: Emulator, flags: int
) -> None:
    ours = content(6 * MIB)
    await files.upload("a", b"base")
    fault = emulator.faults.latency(600.0, "UploadPart")
    fh = await files.open("a", os.O_WRONLY | flags)
    for start in range(0, len(ours), MIB):
        await files.write(fh, ours[start : start + MIB], start)
    emulator.requests.reset()
    errors: list[int] = []

    async def flush() -> None:
        try:
            await files.fs.flush(fh)
        except FilesystemError as exc:
            errors.append(exc.errno)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        await until(lambda: emulator.requests["HeadObject"])
        await files.upload("a", b"theirs")
        emulator.faults.release(fault)
    await files.fs.release(fh)
    assert errors == [errno.ESTALE]
    assert await files.stored("a") == b"theirs"
    [other] = [key for key in await files.keys() if key != "a"]
    assert await files.stored(other) == ours


@pytest.mark.parametrize("flags", [0, os.O_TRUNC], ids=["in place", "anew"])
async def test_what_is_written_while_our_version_is_put_aside_is_kept_too(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch, flags: int
) -> None:
    monkeypatch.setattr(openfiles, "ASYNC_DELAY", NEVER)
    monkeypatch.setattr(openfiles, "SETTLED_WITHIN", 0.0)
    files = await filesystem(write_back="async")
    await files.upload("a", b"base")
    await files.put("a", b"ours!")
    await files.upload("a", b"theirs")
    conflicts, opened = files.fs.committer.conflicts, list[int]()
    put_beside = conflicts._put_beside

    async def busy(*args: Any) -> str:
        done = await put_beside(*args)
        if not opened:
            opened.append(await files.fs.open((await files.node("a")).ino, os.O_WRONLY | flags))
            await files.write(opened[0], b"late")
        return done

    monkeypatch.setattr(conflicts, "_put_beside", busy)
    await files.fs.drain()
    with suppress(FilesystemError):
        await files.fs.flush(opened[0])
    await files.fs.release(opened[0])
    await files.fs.drain()
    assert await files.stored("a") == b"theirs"
    kept = {await files.stored(key) for key in await files.keys() if key != "a"}
    assert kept == ({b"ours!", b"late"} if flags else {b"late!"})
    assert files.journal.records() == []


async def test_after_a_conflict_the_writer_cannot_write_into_the_others_file(files: Files) -> None:
    await files.upload("a", b"base")
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"ours!")
    await files.upload("a", b"theirs")
    with pytest.raises(FilesystemError):
        await files.fs.fsync(fh)
    with pytest.raises(FilesystemError) as caught:
        await files.fs.write(fh, 5, b"more")
    assert caught.value.errno == errno.ESTALE
    await files.close(fh)
    assert await files.stored("a") == b"theirs"


async def test_a_conflict_whose_old_object_is_gone_keeps_what_was_written(files: Files) -> None:
    await files.upload("a", b"0123456789")
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"XY", 4)
    await files.upload("a", b"theirs")
    with pytest.raises(FilesystemError):
        await files.close(fh)
    [other] = [key for key in await files.keys() if key != "a"]
    assert await files.stored(other) == b"\0\0\0\0XY\0\0\0\0"
    assert files.fs.pending_files == []


async def test_a_changed_file_that_others_removed_is_kept_as_far_as_it_is_here(files: Files) -> None:
    await files.upload("whole", b"0123456789")
    await files.upload("part", b"0123456789")
    fh1, fh2 = await files.open("whole", os.O_RDWR), await files.open("part", os.O_RDWR)
    await files.write(fh1, b"abcdefghij")
    await files.write(fh2, b"XY", 4)
    await files.delete("whole")
    await files.delete("part")
    await files.close(fh1)
    assert await files.stored("whole") == b"abcdefghij"
    with pytest.raises(FilesystemError):
        await files.close(fh2)
    [other] = [key for key in await files.keys() if key != "whole"]
    assert other.startswith("part.conflict-")
    assert await files.stored(other) == b"\0\0\0\0XY\0\0\0\0"
    assert not await files.exists("part")


async def test_exclusive_creation_does_not_overwrite_what_others_made(files: Files) -> None:
    await files.list()
    fh = await files.create("a")
    await files.write(fh, b"ours")
    await files.upload("a", b"theirs")
    with pytest.raises(FilesystemError):
        await files.close(fh)
    assert await files.stored("a") == b"theirs"
    [other] = [key for key in await files.keys() if key != "a"]
    assert await files.stored(other) == b"ours"


async def test_an_answer_that_was_lost_is_no_conflict(files: Files, emulator: Emulator) -> None:
    await files.list()
    for round, data in enumerate((b"new file", b"changed file")):
        emulator.faults.error("PutObject", "InternalError", 500, after=True)
        fh = await files.open("a", os.O_RDWR | os.O_CREAT)
        await files.write(fh, data)
        with pytest.raises(COSError):
            await files.fs.flush(fh)
        await files.close(fh)
        assert await files.keys() == ["a"], round
        assert await files.stored("a") == data
    assert files.fs.committer.conflicts.count == 0


async def test_a_conflict_of_a_very_long_key_finds_a_name(files: Files) -> None:
    key = "/".join(["d" * 200] * 4) + "/" + "k" * 40
    await files.upload(key, b"base")
    fh = await files.open(key, os.O_RDWR | os.O_TRUNC)
    await files.write(fh, b"ours")
    await files.upload(key, b"theirs")
    with pytest.raises(FilesystemError):
        await files.close(fh)
    assert sorted([await files.stored(k) or b"" for k in await files.keys()]) == [b"ours", b"theirs"]
