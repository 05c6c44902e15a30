"""Extended attributes: ours travel with the object, user.cos.* tell what COS knows."""

from __future__ import annotations

import errno
import json
import os
import stat

import pytest
import trio

from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.fs import xattrs
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, counted, fails


async def archived(files: Files, key: str) -> None:
    await files.upload(key, b"cold", headers=Headers(storage_class="ARCHIVE"))


@pytest.mark.usefixtures("unhurried")
async def test_attributes_are_kept_across_mounts_and_cost_one_copy(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem()
    await files.upload("a", b"x", headers=Headers(metadata={"custom": "kept"}))
    ino = (await files.stat("a")).ino
    with counted(emulator) as requests:
        await files.fs.setxattr(ino, b"user.one", b"\0binary\xff")
        await files.fs.setxattr(ino, b"user.two", b"")
        await files.fs.drain()
    assert requests == {"CopyObject": 1}
    other = await filesystem()
    ino = (await other.stat("a")).ino
    assert await other.fs.getxattr(ino, b"user.one") == b"\0binary\xff"
    assert await other.fs.getxattr(ino, b"user.two") == b""
    listed = await other.fs.listxattr(ino)
    assert sorted(listed) == [b"user.one", b"user.two"]
    info = await files.head("a")
    assert info is not None and info.headers is not None
    assert info.headers.metadata["custom"] == "kept"


async def test_removal(files: Files) -> None:
    await files.put("a", b"x")
    ino = (await files.stat("a")).ino
    await files.fs.setxattr(ino, b"user.one", b"1")
    await files.fs.removexattr(ino, b"user.one")
    await fails(errno.ENODATA, files.fs.getxattr(ino, b"user.one"))
    await fails(errno.ENODATA, files.fs.removexattr(ino, b"user.one"))


async def test_attributes_of_an_open_new_file_go_with_its_bytes(files: Files, emulator: Emulator) -> None:
    await files.list()
    with counted(emulator) as requests:
        fh = await files.create("a")
        await files.fs.setxattr((await files.file("a")).ino, b"user.one", b"1")
        await files.close(fh)
        await files.fs.drain()
    assert requests == {"PutObject": 1}


async def test_directories_have_attributes_too(filesystem: Filesystems) -> None:
    files = await filesystem()
    node = await files.mkdir("d")
    await files.fs.setxattr(node.ino, b"user.one", b"1")
    await files.fs.drain()
    other = await filesystem()
    assert await other.fs.getxattr((await other.node("d")).ino, b"user.one") == b"1"


async def test_too_much_is_refused_at_once_and_changes_nothing(files: Files) -> None:
    await files.put("a", b"x")
    ino = (await files.stat("a")).ino
    await files.fs.setxattr(ino, b"user.small", b"1")
    await fails(errno.ENOSPC, files.fs.setxattr(ino, b"user.large", b"x" * 3000))
    await fails(errno.ENODATA, files.fs.getxattr(ino, b"user.large"))
    assert await files.fs.getxattr(ino, b"user.small") == b"1"
    await files.fs.drain()
    assert files.fs.pending_files == []


async def test_only_the_user_namespace(files: Files) -> None:
    await files.put("a", b"x")
    ino = (await files.stat("a")).ino
    for name in (b"security.capability", b"system.posix_acl_access", b"trusted.x"):
        await fails(errno.ENOTSUP, files.fs.getxattr(ino, name))
        await fails(errno.ENOTSUP, files.fs.setxattr(ino, name, b"x"))
    await fails(errno.EILSEQ, files.fs.setxattr(ino, b"user.\xff", b"x"))
    await fails(errno.EINVAL, files.fs.setxattr(ino, b"user.", b"x"))
    await fails(errno.EINVAL, files.fs.getxattr(ino, b"user."))


async def test_what_cos_says_can_be_read_and_not_set(files: Files) -> None:
    await files.put("a", b"hello")
    node = await files.file("a")
    assert node.info is not None
    assert await files.fs.getxattr(node.ino, b"user.cos.url") == f"cos://{files.bucket}/a".encode()
    assert await files.fs.getxattr(node.ino, b"user.cos.etag") == node.info.etag.encode()
    assert await files.fs.getxattr(node.ino, b"user.cos.storage-class") == b"STANDARD"
    assert await files.fs.getxattr(node.ino, b"user.cos.crc64") == str(node.info.crc64).encode()
    await fails(errno.EPERM, files.fs.setxattr(node.ino, b"user.cos.etag", b"x"))
    await fails(errno.ENODATA, files.fs.getxattr(node.ino, b"user.cos.restore"))


async def test_archived_objects_are_listed_and_say_how_to_be_restored(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    await archived(files, "a")
    node = await files.file("a")
    assert node.size == 4
    await fails(errno.EIO, files.open("a"))
    assert "user.cos.restore" in caplog.text
    assert b"restore" in await files.fs.getxattr(node.ino, b"user.cos.restore")


@pytest.mark.parametrize("attributes", ["full", "listing"])
async def test_setting_the_attribute_restores(filesystem: Filesystems, attributes: str) -> None:
    files = await filesystem(attributes=attributes)
    await archived(files, "a")
    ino = (await files.stat("a")).ino
    await files.fs.setxattr(ino, b"user.cos.restore", b"3:bulk")
    assert await files.get("a") == b"cold"
    assert b"ongoing-request" in await files.fs.getxattr(ino, b"user.cos.restore")


@pytest.mark.parametrize("value", [b"", b"x", b"0", b"-1", b"3:Fast", b"1.5"])
async def test_nonsense_does_not_restore(files: Files, value: bytes) -> None:
    await archived(files, "a")
    ino = (await files.stat("a")).ino
    await fails(errno.EINVAL, files.fs.setxattr(ino, b"user.cos.restore", value))


def test_restore_values() -> None:
    assert xattrs.parse_restore(b"7") == (7, "Standard")
    assert xattrs.parse_restore(b" 2:EXPEDITED\n") == (2, "Expedited")


async def test_attributes_of_an_archived_object_are_refused_at_once(files: Files) -> None:
    await archived(files, "a")
    node = await files.file("a")
    await fails(errno.EIO, files.chmod("a", 0o600))
    await fails(errno.EIO, files.fs.setxattr(node.ino, b"user.k", b"v"))
    assert not node.changed
    await files.fs.setxattr(node.ino, b"user.cos.restore", b"1")
    await files.chmod("a", 0o600)
    await files.fs.drain()
    assert (await files.metadata("a"))["mode"] == str(stat.S_IFREG | 0o600)


async def test_an_archived_object_can_be_replaced(files: Files) -> None:
    await archived(files, "a")
    fh = await files.fs.open((await files.stat("a")).ino, os.O_WRONLY | os.O_TRUNC)
    await files.write(fh, b"warm")
    await files.close(fh)
    assert await files.stored("a") == b"warm"


async def test_read_only(filesystem: Filesystems) -> None:
    writable = await filesystem()
    await writable.put("a", b"x")
    files = await filesystem(read_only=True)
    ino = (await files.stat("a")).ino
    await fails(errno.EROFS, files.fs.setxattr(ino, b"user.x", b"1"))
    await fails(errno.EROFS, files.fs.setxattr(ino, b"user.cos.restore", b"1"))


async def keep_versions(files: Files) -> None:
    document = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    await trio.to_thread.run_sync(files.client.put_document, files.bucket, "versioning", document)


async def test_versions_of_an_object_are_told_with_those_it_was_removed_in(files: Files) -> None:
    await keep_versions(files)
    for text in (b"1", b"22"):
        await files.upload("dir/a", text)
    await files.delete("dir/a")
    newest = await files.upload("dir/a", b"333")
    await files.upload("dir/a-other", b"x")
    ino = (await files.stat("dir/a")).ino
    told = json.loads(await files.fs.getxattr(ino, b"user.cos.versions"))
    assert [(each["size"], each["removed"]) for each in told] == [
        (3, False),
        (0, True),
        (2, False),
        (1, False),
    ]
    assert [each["latest"] for each in told] == [True, False, False, False]
    assert told[0]["etag"] == newest and told[0]["time"].endswith("Z")
    assert told[0]["id"] == (await files.fs.getxattr(ino, b"user.cos.version-id")).decode()
    await fails(errno.EPERM, files.fs.setxattr(ino, b"user.cos.versions", b"[]"))


async def test_an_object_whose_newest_version_says_it_is_removed_is_not_there(files: Files) -> None:
    await keep_versions(files)
    await files.upload("a", b"1")
    await files.upload("b", b"1")
    await files.delete("a")
    assert await files.list() == ["b"]
    assert not await files.exists("a")
    await files.put("a", b"again")
    assert await files.get("a") == b"again"


async def test_what_a_listing_does_not_tell_is_asked_for(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem(attributes="listing")
    await files.upload("a", b"x")
    ino = (await files.stat("a")).ino
    with counted(emulator) as requests:
        crc64 = await files.fs.getxattr(ino, b"user.cos.crc64")
        await files.fs.getxattr(ino, b"user.cos.crc64")
        await files.fs.getxattr(ino, b"user.cos.etag")
    info = await files.head("a")
    assert info is not None and crc64.decode() == str(info.crc64)
    assert requests == {"HeadObject": 1}
