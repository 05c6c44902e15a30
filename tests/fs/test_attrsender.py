"""Attributes alone: sent together, and onto whatever is there."""

from __future__ import annotations

import errno
import os
import stat

import pytest
import trio

from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.fs.metadata import Change
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, counted, fails, requests_sent, until


@pytest.mark.usefixtures("unhurried")
async def test_several_changes_of_attributes_are_one_copy(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"data", headers=Headers(content_type="text/x", metadata={"custom": "kept"}))
    ino = (await files.stat("a")).ino
    with counted(emulator) as requests:
        await files.fs.setattr(ino, Change(mode=0o600))
        await files.fs.setattr(ino, Change(uid=5, gid=6))
        await files.fs.setattr(ino, Change(mtime_ns=10**18 + 1))
        await files.fs.drain()
    assert requests == {"CopyObject": 1}
    info = await files.head("a")
    assert info.headers is not None and info.headers.content_type == "text/x"
    assert dict(info.headers.metadata) == {
        "custom": "kept",
        "mode": str(stat.S_IFREG | 0o600),
        "uid": "5",
        "gid": "6",
        "mtime": str(10**9),
        "mtime-ns": str(10**18 + 1),
        **{k: v for k, v in info.headers.metadata.items() if k in ("atime", "ctime")},
    }
    assert await files.get("a") == b"data"


async def test_metadata_of_foreign_objects_survives_chmod_and_writing(filesystem: Filesystems) -> None:
    for mode in ("full", "listing"):
        files = await filesystem(attributes=mode)
        await files.upload(
            mode,
            b"data",
            headers=Headers(
                cache_control="no-cache",
                metadata={"custom": "kept", "uid": "42", "mode": str(stat.S_IFREG | 0o604)},
            ),
        )
        await files.chmod(mode, 0o640)
        await files.fs.drain()
        async with files.opened(mode) as fh:
            await files.write(fh, b"more", 4)
        info = await files.head(mode)
        assert info.headers is not None and info.headers.cache_control == "no-cache"
        stored = info.headers.metadata
        assert (stored["custom"], stored["uid"]) == ("kept", "42")
        assert stored["mode"] == str(stat.S_IFREG | 0o640)
        assert await files.stored(mode) == b"datamore"


async def test_what_listings_do_not_tell_stays_when_attributes_change(filesystem: Filesystems) -> None:
    kept = {"uid": "42", "mtime": "1500000000", "custom": "kept"}
    kinds = {"file": stat.S_IFREG, "dir/": stat.S_IFDIR, "link": stat.S_IFLNK}
    files = await filesystem(attributes="listing")
    for key, kind in kinds.items():
        await files.upload(key, headers=Headers(metadata=kept | {"mode": str(kind | 0o600)}))
    shown = await files.mode("file")
    assert shown != 0o600
    await files.chmod("file", shown)  # to what it seemed to have
    await files.chmod("dir", 0o711)
    await fails(errno.ESTALE, files.chmod("link", 0o640))  # was shown as a file: it shall be looked up again
    await files.fs.drain()
    for key, permissions in (("file", shown), ("dir/", 0o711), ("link", 0o600)):
        stored = await files.metadata(key)
        assert stored.items() >= (kept | {"mode": str(kinds[key] | permissions)}).items()


@pytest.mark.parametrize("flags", [os.O_APPEND, os.O_TRUNC], ids=["appended to", "written anew"])
async def test_what_listings_do_not_tell_stays_when_a_file_is_written_and_renamed(
    filesystem: Filesystems, flags: int
) -> None:
    kept = {"mode": str(stat.S_IFREG | 0o755), "uid": "42", "custom": "kept"}
    files = await filesystem(attributes="listing", write_back="async")
    await files.upload("a", b"data", headers=Headers(metadata=kept))
    assert await files.list() == ["a"]
    async with files.opened("a", os.O_WRONLY | flags) as fh:
        await files.write(fh, b"more", 0 if flags & os.O_TRUNC else 4)
    await files.rename("a", "b")  # before it is sent
    await files.fs.drain()
    assert await files.stored("b") == (b"more" if flags & os.O_TRUNC else b"datamore")
    assert (await files.metadata("b")).items() >= kept.items()


async def test_what_listings_do_not_tell_stays_when_a_renamed_file_gets_attributes(
    filesystem: Filesystems,
) -> None:
    kept = {"mode": str(stat.S_IFREG | 0o755), "uid": "42", "custom": "kept"}
    files = await filesystem(attributes="listing")
    await files.upload("a", b"data", headers=Headers(metadata=kept))
    assert await files.list() == ["a"]
    await files.rename("a", "b")
    await files.fs.setxattr((await files.stat("b")).ino, b"user.one", b"1")
    await files.fs.drain()
    assert (await files.metadata("b")).items() >= kept.items()


async def test_chmod_is_sent_though_it_fails_at_first(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"data")
    emulator.faults.error("CopyObject", "InternalError", 500, count=2)
    await files.chmod("a", 0o611)
    node = await files.file("a")
    await until(lambda: not node.attrs_dirty)
    assert (await files.metadata("a"))["mode"] == str(stat.S_IFREG | 0o611)


async def test_chmod_of_an_object_that_others_replaced_goes_to_theirs(files: Files) -> None:
    await files.upload("a", b"ours", headers=Headers(metadata={"custom": "old"}))
    await files.stat("a")
    await files.upload("a", b"theirs", headers=Headers(metadata={"custom": "new"}))
    await files.chmod("a", 0o611)
    await files.fs.drain()
    assert await files.stored("a") == b"theirs"
    stored = await files.metadata("a")
    assert (stored["custom"], stored["mode"]) == ("new", str(stat.S_IFREG | 0o611))
    assert await files.get("a") == b"theirs"


async def test_directory_attributes_are_kept_in_its_marker(filesystem: Filesystems) -> None:
    files = await filesystem()
    await files.mkdir("d", 0o755)
    await files.chmod("d", 0o700)
    await files.fs.drain()
    assert (await files.metadata("d/"))["mode"] == str(stat.S_IFDIR | 0o700)
    assert await (await filesystem()).mode("d") == 0o700


async def test_attributes_changed_while_the_bytes_are_sent_follow(files: Files, emulator: Emulator) -> None:
    fh = await files.create("a")
    await files.write(fh, b"data")
    emulator.faults.latency(0.1, "PutObject", count=1)
    emulator.requests.reset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.fs.flush, fh)
        await requests_sent(emulator, "PutObject")
        await files.chmod("a", 0o611)
    await files.close(fh)
    node = await files.file("a")
    await until(lambda: not node.changed)
    assert (await files.metadata("a"))["mode"] == str(stat.S_IFREG | 0o611)


async def test_a_mode_set_before_a_file_is_written_goes_with_its_bytes(
    files: Files, emulator: Emulator
) -> None:
    await files.upload("a", b"0123456789")
    await files.stat("a")
    with counted(emulator) as requests:
        await files.chmod("a", 0o600)
        async with files.opened("a") as fh:
            await files.write(fh, b"XY", 4)
            await until(lambda: not files.fs.committer.outbox.waiting)
            assert await files.stored("a") == b"0123456789"
            await files.write(fh, b"Z", 6)
    assert requests["PutObject"] == 1
    assert requests["CopyObject"] == 0
    assert await files.stored("a") == b"0123XYZ789"
    assert (await files.metadata("a"))["mode"] == str(stat.S_IFREG | 0o600)


async def test_attributes_that_cos_does_not_take_now_are_told_as_such(
    files: Files, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    await files.upload("a", b"data")
    emulator.faults.error("CopyObject", "InternalError", 500, count=0)
    await files.chmod("a", 0o600)
    told = f"the attributes of cos://{files.bucket}/a are not in COS yet, next try in"
    await until(lambda: any(each.getMessage().startswith(told) for each in caplog.records))
    emulator.faults.clear()
    await files.fs.drain()
    info = await files.head("a")
    assert info.headers is not None and info.headers.metadata["mode"] == str(stat.S_IFREG | 0o600)
