"""Directories removed or renamed while COS keeps objects below them that files of other names need."""

from __future__ import annotations

import os

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.fs import deleter
from cosfs.fs.recovery import Recovery
from tests.fs.conftest import Filesystems, restarted
from tests.fs.support import Files, until


async def served(filesystem: Filesystems, **changes: object) -> Files:
    """A filesystem of the same cache in the moment in which it serves, whatever COS says."""
    files = await filesystem("cache", recovering=False, write_back="async", **changes)
    await Recovery(files.fs, files.journal.records()).begin(60.0)
    return files


async def left_one(filesystem: Filesystems, emulator: Emulator, **changes: object) -> Files:
    """A filesystem that cannot send a file that was changed in `d`, and is `away` now."""
    files = await filesystem("cache", write_back="async", **changes)
    for key in ("d/", "d/a"):
        await files.upload(key, b"0123456789" if key[-1] != "/" else b"")
    await files.list("d")
    for key in ("d/a", "away"):
        emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0, key=key)
    async with files.opened("d/a") as fh:
        await files.write(fh, b"XY", 4)
    await files.rename("d/a", "away")
    return files


async def sent(files: Files, emulator: Emulator) -> None:
    emulator.faults.clear()
    await files.fs.drain()
    await files.removed()
    assert await files.stored("away") == b"0123XY6789"
    assert files.journal.records() == []


async def test_a_directory_removed_from_around_what_a_file_has_left_is_not_shown_after_a_crash(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await left_one(filesystem, emulator)
    await files.rmdir("d")
    await files.removed()
    assert await files.keys() == ["d/a"]
    await filesystem.kill(files)
    for _ in range(2):
        second = await served(filesystem)
        await second.removed()
        assert await second.list() == ["away"]
        assert not await second.exists("d")
        await filesystem.kill(second)
    third = await served(filesystem)
    await sent(third, emulator)
    assert await third.list() == await third.keys() == ["away"]


async def test_a_directory_removed_just_before_a_crash_is_not_shown_either(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await left_one(filesystem, emulator)
    monkeypatch.setattr(deleter, "DELAY", 60.0)
    await files.rmdir("d")
    await filesystem.kill(files)
    monkeypatch.setattr(deleter, "DELAY", 0.0)
    second = await served(filesystem, metadata_ttl=0.0)
    assert await second.list() == ["away"]
    await second.removed()
    assert await second.keys() == ["d/a"]
    assert await second.list() == ["away"]


async def test_a_directory_renamed_from_around_what_files_have_left_is_not_shown_after_a_crash(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await left_one(filesystem, emulator)
    for name in ("inner/b", "stays"):
        await files.upload(f"d/{name}", b"old")
    files.tree.forget_all()
    for key in ("d/inner/b", "b"):
        emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0, key=key)
    async with files.opened("d/inner/b") as fh:
        await files.write(fh, b"B", 1)
    await files.rename("d/inner/b", "b")
    await files.rename("d", "e")
    await files.removed()
    assert await files.keys() == ["d/a", "d/inner/b", "e/", "e/inner/", "e/stays"]
    await filesystem.kill(files)
    second = await served(filesystem)
    assert sorted(await second.list()) == ["away", "b", "e"]
    assert sorted(await second.list("e")) == ["inner", "stays"]
    assert await second.list("e/inner") == []
    await sent(second, emulator)
    assert await second.keys() == ["away", "b", "e/", "e/inner/", "e/stays"]


async def test_a_directory_is_not_shown_until_what_a_file_has_left_in_it_is_removed(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await left_one(filesystem, emulator)
    await files.rmdir("d")
    await files.removed()
    emulator.faults.clear()
    emulator.faults.error("Delete*", "ServiceUnavailable", 503, count=0)
    await files.fs.committer.drain()
    await filesystem.kill(files)
    assert await files.keys() == ["away", "d/a"]
    second = await served(filesystem, metadata_ttl=0.0, grace=0.0)
    assert await second.list() == ["away"]
    await sent(second, emulator)
    assert await second.keys() == await second.list() == ["away"]


@pytest.mark.parametrize("key", ["d/theirs", "d/"])
async def test_what_somebody_else_puts_below_a_removed_directory_is_shown(
    filesystem: Filesystems, emulator: Emulator, key: str
) -> None:
    files = await left_one(filesystem, emulator, metadata_ttl=0.0, grace=0.3)
    await files.rmdir("d")
    await files.removed()
    await trio.sleep(0.4)
    assert sorted(await files.list()) == ["away"]
    await files.upload(key, b"")
    assert sorted(await files.list()) == ["away", "d"]
    assert await files.list("d") == [name for name in [key.removeprefix("d/")] if name]
    await filesystem.kill(files)
    second = await served(filesystem)
    assert sorted(await second.list()) == ["away", "d"]
    await sent(second, emulator)
    assert await second.keys() == ["away", key]


async def test_what_somebody_else_put_below_a_removed_directory_while_nothing_was_mounted_is_shown(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await left_one(filesystem, emulator, grace=0.0)
    await files.rmdir("d")
    await files.removed()
    await filesystem.kill(files)
    emulator.faults.clear()
    await files.upload("d/", b"")  # with the etag that ours had
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    second = await served(filesystem, grace=0.0)
    assert await second.exists("d")
    await second.removed()
    assert await second.keys() == ["d/", "d/a"]
    await sent(second, emulator)
    assert await second.keys() == ["away", "d/"]


async def test_a_directory_made_again_is_shown_after_a_crash(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await left_one(filesystem, emulator)
    await files.rmdir("d")
    await files.removed()
    emulator.faults.clear()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0, key="away")
    await files.mkdir("d", 0o700)
    assert await files.list("d") == []
    await filesystem.kill(files)
    second = await served(filesystem)
    assert await second.mode("d") == 0o700
    assert await second.list("d") == []
    await sent(second, emulator)
    assert await second.keys() == ["away", "d/"]


async def test_a_directory_without_an_object_moved_to_a_removed_name_is_shown_after_a_crash(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await left_one(filesystem, emulator)
    await files.rmdir("d")
    await files.removed()
    await files.upload("bare/x", b"x")
    files.tree.forget_all()
    await files.rename("bare", "d")
    await files.removed()
    await filesystem.kill(files)
    second = await served(filesystem)
    assert sorted(await second.list()) == ["away", "d"]
    assert await second.list("d") == ["x"]
    await sent(second, emulator)
    assert await second.keys() == ["away", "d/x"]


async def test_a_directory_is_not_remembered_when_what_was_left_in_it_is_gone(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await left_one(filesystem, emulator)
    await files.rmdir("d")
    await files.removed()
    kinds = {record.kind for record in files.journal.records()}
    assert kinds == {"file", "emptied"}
    await files.unlink("away")
    await until(lambda: not files.journal.records())
    assert await files.keys() == []


async def test_a_file_never_closed_is_under_its_old_name_after_a_crash_its_removed_directory_as_well(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    for key in ("d/", "d/a"):
        await files.upload(key, b"0123456789" if key[-1] != "/" else b"")
    await files.list("d")
    fh = await files.open("d/a", 2)
    await files.write(fh, b"XY", 4)
    await files.rename("d/a", "away")
    await files.rmdir("d")
    await files.removed()
    second = await restarted(filesystem, emulator, files)
    assert await second.list() == ["d"]
    assert await second.get("d/a") == b"0123456789"
    assert second.journal.records() == []


@pytest.mark.parametrize("others", [[], ["d/a"]])
@pytest.mark.parametrize("ttl", [0.0, 60.0])
async def test_a_directory_whose_own_bytes_are_removed_stays(
    filesystem: Filesystems, others: list[str], ttl: float
) -> None:
    files = await filesystem(metadata_ttl=ttl)
    for key in ("d/", *others):
        await files.upload(key, b"bytes")
    assert await files.list("d") == ["%=content", *(key[2:] for key in others)]
    await files.unlink("d/%=content")
    for key in others:
        await files.removed()
        await files.unlink(key)
    await files.removed()  # before the directory is looked at again
    assert await files.list() == ["d"]
    assert await files.list("d") == []
    assert await files.stored("d/") == b""
    await files.rmdir("d")
    await files.removed()
    assert await files.keys() == []


async def test_a_directory_keeps_its_attributes_when_its_own_bytes_are_removed(
    filesystem: Filesystems,
) -> None:
    files = await filesystem()
    await files.upload("d/", b"bytes")
    await files.chmod("d", 0o700)
    await files.fs.drain()
    await files.unlink("d/%=content")
    second = await filesystem()
    assert await second.mode("d") & 0o777 == 0o700
    assert await second.list("d") == []


@pytest.mark.parametrize("others", [[], ["d/a"]])
async def test_a_directory_whose_own_bytes_are_read_stays_when_they_are_removed(
    filesystem: Filesystems, others: list[str]
) -> None:
    files = await filesystem(metadata_ttl=0.0)
    for key in ("d/", *others):
        await files.upload(key, b"bytes")
    async with files.opened("d/%=content") as fh:
        await files.unlink("d/%=content")
        assert await files.read(fh, 0, 10) == b"bytes"
        assert await files.list("d") == [key[2:] for key in others]
        assert await files.read(fh, 0, 10) == b"bytes"
    await files.removed()
    assert await files.list() == ["d"]
    assert await files.list("d") == [key[2:] for key in others]
    assert await files.stored("d/") == b""
    assert files.journal.records() == []


@pytest.mark.parametrize("new", ["new", "old", "d/new"])
@pytest.mark.parametrize("is_changed", [False, True])
async def test_a_directory_stays_when_its_own_bytes_get_another_name(
    filesystem: Filesystems, new: str, is_changed: bool
) -> None:
    files = await filesystem(metadata_ttl=0.0)
    await files.upload("d/", b"bytes")
    await files.upload("old", b"replaced")
    await files.chmod("d", 0o700)
    await files.fs.drain()
    fh = await files.open("d/%=content", os.O_RDWR)
    if is_changed:
        await files.write(fh, b"BY")
    await files.rename("d/%=content", new)
    await files.close(fh)
    await files.removed()
    assert await files.list("d") == (["new"] if new == "d/new" else [])
    assert await files.mode("d") == 0o700
    assert await files.stored(new) == (b"BYtes" if is_changed else b"bytes")
    assert await files.stored("d/") == b""
    assert files.journal.records() == []


async def test_own_bytes_of_a_directory_get_another_name_where_nothing_else_may_be_written(
    files: Files, emulator: Emulator
) -> None:
    await files.upload("d/", b"bytes")
    await files.upload("d/a", b"a")
    emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    await files.rename("d/%=content", "new")
    await files.removed()
    assert await files.list("d") == ["a"]
    assert await files.keys() == ["d/a", "new"]
    assert files.journal.records() == []


async def test_own_bytes_of_a_directory_are_removed_where_nothing_may_be_written(
    files: Files, emulator: Emulator
) -> None:
    await files.upload("d/", b"bytes")
    await files.upload("d/a", b"a")
    emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    await files.unlink("d/%=content")
    await files.removed()
    assert await files.list("d") == ["a"]
    assert await files.keys() == ["d/a"]
