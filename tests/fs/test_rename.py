"""Other names for files."""

from __future__ import annotations

import errno
import os
import stat

import pytest
import trio

from cosfs.client import retry
from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.fs import rename
from cosfs.fs.entries import RENAME_NOREPLACE
from cosfs.units import MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, content, counted, fails, stored, until


async def test_rename_of_a_file_is_a_copy_and_a_removal_and_keeps_everything(
    files: Files, emulator: Emulator
) -> None:
    await files.upload(
        "a", b"data", headers=Headers(cache_control="x", metadata={"custom": "kept", "uid": "9"})
    )
    await files.stat("a")
    with counted(emulator) as requests:
        await files.rename("a", "b")
        await files.removed()
    assert requests == {"CopyObject": 1, "DeleteObject": 1}
    assert await files.list() == ["b"]
    node = await files.file("b")
    assert node.attrs.uid == 9
    assert node.info is not None and node.info.headers is not None
    assert (node.info.headers.cache_control, node.info.headers.metadata["custom"]) == ("x", "kept")
    assert await files.get("b") == b"data"


@pytest.mark.parametrize("changed", [False, True])
async def test_rename_keeps_encryption_and_storage_class(files: Files, changed: bool) -> None:
    encrypted = {"x-cos-server-side-encryption": "AES256"}
    await files.upload("a", b"data", headers=Headers(storage_class="STANDARD_IA", extra=encrypted))
    await files.stat("a")
    if changed:
        await files.chmod("a", 0o600)
    await files.rename("a", "b")
    await files.fs.drain()
    info = await files.head("b")
    assert info.headers is not None
    assert (info.storage_class, dict(info.headers.extra)) == ("STANDARD_IA", encrypted)


async def test_rename_keeps_the_inode(files: Files) -> None:
    await files.put("a", b"data")
    before = await files.file("a")
    await files.rename("a", "b")
    assert await files.file("b") is before


async def test_rename_over_an_existing_file(files: Files) -> None:
    await files.put("a", b"new")
    await files.put("b", b"old")
    await files.rename("a", "b")
    await files.removed()
    assert await files.keys() == ["b"]
    assert await files.get("b") == b"new"


async def test_rename_without_replacing(files: Files) -> None:
    await files.put("a", b"1")
    await files.put("b", b"2")
    await fails(errno.EEXIST, files.rename("a", "b", RENAME_NOREPLACE))
    await files.rename("a", "c", RENAME_NOREPLACE)
    await fails(errno.EINVAL, files.rename("c", "b", 2))
    await files.removed()
    assert await files.keys() == ["b", "c"]


async def test_rename_over_an_open_file_leaves_that_readable(files: Files) -> None:
    await files.upload("b", b"the old bytes")
    await files.put("a", b"new")
    fh = await files.open("b")
    await files.rename("a", "b")
    assert await files.read(fh, 0, 100) == b"the old bytes"
    await files.close(fh)
    await files.removed()
    assert await files.stored("b") == b"new"
    assert await files.keys() == ["b"]


async def test_failed_rename_over_an_open_file_changes_nothing(files: Files, emulator: Emulator) -> None:
    await files.upload("b", b"old")
    await files.put("a", b"new")
    fh = await files.open("b", os.O_RDWR)
    emulator.faults.error("CopyObject", "InternalError", 500)
    await fails(errno.EIO, files.rename("a", "b"))
    files.tree.forget_all()
    assert await files.list() == ["a", "b"]
    await files.write(fh, b"er", 3)
    await files.close(fh)
    assert await files.stored("b") == b"older"
    assert await files.stored("a") == b"new"


async def test_failed_rename_over_an_unsent_file_does_not_lose_it(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    await files.upload("a", b"new")
    await files.stat("a")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.put("b", b"not sent yet")
    emulator.faults.error("CopyObject", "InternalError", 500)
    await fails(errno.EIO, files.rename("a", "b"))
    emulator.faults.clear()
    await files.fs.drain()
    assert await files.stored("b") == b"not sent yet"


async def test_rename_of_a_new_open_file_costs_nothing(files: Files, emulator: Emulator) -> None:
    await files.list()
    fh = await files.create("a")
    await files.write(fh, b"data")
    with counted(emulator) as requests:
        await files.rename("a", "b")
    assert requests == {}
    await files.close(fh)
    assert await files.keys() == ["b"]
    assert await files.stored("b") == b"data"


async def test_rename_of_a_changed_file_takes_its_old_object_along(files: Files) -> None:
    await files.upload("a", b"0123456789")
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"XY", 3)
    await files.rename("a", "b")
    assert await files.list() == ["b"]
    assert await files.read(fh, 0, 10) == b"012XY56789"
    await files.close(fh)
    await files.removed()
    assert await files.keys() == ["b"]
    assert await files.stored("b") == b"012XY56789"


async def test_the_old_name_can_be_used_again_before_the_renamed_file_is_sent(files: Files) -> None:
    """As log rotation does: mv log log.1 while it is written, then a new log."""
    await files.upload("log", b"0123456789")
    fh = await files.open("log", os.O_WRONLY | os.O_APPEND)
    await files.fs.write(fh, 0, b"abc")
    await files.rename("log", "log.1")
    assert await files.list() == ["log.1"]
    await files.put("log", b"a new one")
    assert await files.stored("log") == b"a new one"
    await files.close(fh)
    await files.removed()
    assert await files.stored("log") == b"a new one"
    assert await files.stored("log.1") == b"0123456789abc"


async def test_the_old_name_is_taken_by_another_rename(files: Files) -> None:
    await files.upload("a", b"0123456789")
    await files.put("c", b"other")
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"XY", 3)
    await files.rename("a", "b")
    await files.rename("c", "a")
    await files.close(fh)
    await files.removed()
    assert await files.stored("a") == b"other"
    assert await files.stored("b") == b"012XY56789"
    assert await files.keys() == ["a", "b"]


async def test_there_and_back_again_while_changed(files: Files) -> None:
    await files.upload("a", b"0123456789")
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"XY", 3)
    await files.rename("a", "b")
    await files.rename("b", "a")
    await files.close(fh)
    await files.removed()
    assert await files.keys() == ["a"]
    assert await files.stored("a") == b"012XY56789"


async def test_two_changed_files_swap_their_names(files: Files) -> None:
    for name in "ab":
        await files.upload(name, name.encode() * 10)
    handles = {name: await files.open(name, os.O_RDWR) for name in "ab"}
    for name, fh in handles.items():
        await files.write(fh, b"-" + name.encode(), 4)
    await files.rename("a", "t")
    await files.rename("b", "a")
    await files.rename("t", "b")
    async with trio.open_nursery() as nursery:
        for fh in handles.values():
            nursery.start_soon(files.close, fh)
    await files.removed()
    assert await files.keys() == ["a", "b"]
    assert await files.stored("a") == b"bbbb-bbbbb"
    assert await files.stored("b") == b"aaaa-aaaaa"


async def test_unsent_file_renamed_over_another_and_removed_takes_both_away(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    await files.upload("a", b"old")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.put("tmp", b"new")
    await files.rename("tmp", "a")
    await files.unlink("a")
    emulator.faults.clear()
    await files.fs.drain()
    assert await files.keys() == []
    assert files.journal.records() == []


async def test_unsent_file_renamed_over_another_and_on_leaves_one(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    await files.upload("a", b"old")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.put("tmp", b"new")
    await files.rename("tmp", "a")
    await files.rename("a", "b")
    emulator.faults.clear()
    await files.fs.drain()
    assert await files.keys() == ["b"]
    assert await files.stored("b") == b"new"


async def test_a_file_open_for_writing_but_not_changed_goes_on_under_its_new_name(files: Files) -> None:
    data = content(MIB)
    await files.upload("a", data)
    fh = await files.open("a", os.O_RDWR)
    await files.rename("a", "b")
    await files.removed()
    assert await files.read(fh, 500_000, 100) == data[500_000:500_100]
    await files.write(fh, b"changed", 300_000)
    await files.close(fh)
    assert await files.stored("b") == data[:300_000] + b"changed" + data[300_007:]
    assert await files.keys() == ["b"]


async def test_a_reader_goes_on_under_the_new_name(files: Files) -> None:
    data = content(MIB)
    await files.upload("a", data)
    fh = await files.open("a")
    await files.read(fh, 0, 10)
    await files.rename("a", "b")
    await files.removed()
    assert await files.read(fh, 500_000, 100) == data[500_000:500_100]
    await files.close(fh)


async def test_a_write_while_the_file_is_copied_is_not_lost(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"0123456789")
    fh = await files.open("a", os.O_RDWR)
    emulator.faults.latency(0.1, "CopyObject", count=1)
    emulator.requests.reset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.rename, "a", "b")
        await until(lambda: emulator.requests["CopyObject"])
        await files.write(fh, b"XY", 3)
    await files.close(fh)
    await files.removed()
    assert await files.keys() == ["b"]
    assert await files.stored("b") == b"012XY56789"


async def test_rename_waits_for_a_commit_under_way(files: Files, emulator: Emulator) -> None:
    fh = await files.create("a")
    await files.write(fh, b"data")
    emulator.faults.latency(0.1, "PutObject", count=1)
    emulator.requests.reset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.close, fh)
        await until(lambda: emulator.requests["PutObject"])
        await files.rename("a", "b")
    await files.removed()
    assert await files.keys() == ["b"]
    assert await files.stored("b") == b"data"


async def test_rename_over_a_file_that_is_being_sent(files: Files, emulator: Emulator) -> None:
    await files.put("a", b"wins")
    fh = await files.create("b")
    await files.write(fh, b"loses")
    emulator.faults.latency(0.1, "PutObject", count=1)
    emulator.requests.reset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.close, fh)
        await until(lambda: emulator.requests["PutObject"])
        await files.rename("a", "b")
    await files.removed()
    assert await files.keys() == ["b"]
    assert await files.stored("b") == b"wins"


@pytest.mark.usefixtures("unhurried")
async def test_attributes_not_sent_yet_go_with_the_copy(files: Files, emulator: Emulator) -> None:
    await files.put("a", b"data")
    with counted(emulator) as requests:
        await files.chmod("a", 0o600)
        await files.rename("a", "b")
        await files.fs.drain()
    assert requests == {"CopyObject": 1, "DeleteObject": 1}
    info = await files.head("b")
    assert info is not None and info.headers is not None
    assert info.headers.metadata["mode"] == str(stat.S_IFREG | 0o600)


async def test_wrong_kinds(files: Files) -> None:
    await files.put("f", b"x")
    await files.mkdir("d")
    await files.mkdir("d/e")
    await fails(errno.EISDIR, files.rename("f", "d"))
    await fails(errno.ENOTDIR, files.rename("d", "f"))
    await fails(errno.EINVAL, files.rename("d", "d/e/x"))
    await fails(errno.ENOENT, files.rename("none", "x"))
    await files.mkdir("full")
    await files.put("full/x", b"")
    await fails(errno.ENOTEMPTY, files.rename("d", "full"))


async def test_the_directory_that_a_file_leaves_stays(files: Files) -> None:
    await files.upload("d/a", b"x")
    await files.list("d")
    await files.rename("d/a", "b")
    await files.removed()
    files.tree.forget_all()
    assert await files.list() == ["b", "d"]


async def test_across_buckets(filesystem: Filesystems, bucket: str) -> None:
    files = await filesystem(bucket="")
    other = f"other-{bucket}"
    await files.mkdir(other)
    await files.put(f"{bucket}/a", b"file")
    await files.mkdir(f"{bucket}/d")
    await files.put(f"{bucket}/d/x", b"below")
    fh = await files.open(f"{bucket}/d/x", os.O_RDWR)
    await files.write(fh, b"B")
    await files.rename(f"{bucket}/a", f"{other}/b")
    await files.rename(f"{bucket}/d", f"{other}/e")
    await files.close(fh)
    await files.removed()
    assert await files.keys() == []
    assert stored(files.client, other, "b") == b"file"
    assert await files.get(f"{other}/e/x") == b"Below"


async def test_a_changed_file_across_buckets(filesystem: Filesystems, bucket: str) -> None:
    files = await filesystem(bucket="")
    other = f"other-{bucket}"
    await files.mkdir(other)
    await files.upload("a", b"0123456789")
    fh = await files.open(f"{bucket}/a", os.O_RDWR)
    await files.write(fh, b"XY", 3)
    await files.rename(f"{bucket}/a", f"{other}/a")
    await files.close(fh)
    await files.removed()
    assert await files.keys() == []
    assert await files.get(f"{other}/a") == b"012XY56789"


async def test_a_replaced_file_whose_copy_was_not_answered_is_renamed_in_the_end(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BASE_DELAY", 0.001)
    monkeypatch.setattr(rename, "SURE_DELAYS", (0.02,))
    await files.put("old", b"old")
    await files.put("new", b"new")
    lost = emulator.faults.reset("CopyObject", after=True, count=6)  # with all repetitions of the client
    away = emulator.faults.error("CopyObject", "ExpiredToken", 403, skip=6, count=2)
    await files.rename("new", "old")
    await files.removed()
    assert lost.struck == 6 and away.struck == 2
    assert await files.keys() == ["old"]
    assert await files.get("old") == b"new"
    assert files.journal.records() == []


async def test_a_file_that_is_surely_not_replaced_keeps_its_name_at_once(
    files: Files, emulator: Emulator
) -> None:
    await files.put("old", b"old")
    await files.put("new", b"new")
    refused = emulator.faults.error("CopyObject", "ExpiredToken", 403, count=0)
    await fails(errno.EACCES, files.rename("new", "old"))
    assert refused.struck == 1
    emulator.faults.clear()
    assert await files.keys() == ["new", "old"]
    assert await files.get("old") == b"old"
