"""The promises, call by call, and what each may cost."""

from __future__ import annotations

import errno
import os
import stat
import threading
from dataclasses import replace
from typing import Any

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.model import CustomerKey, Headers
from cosfs.client.waiting import sleep
from cosfs.emulator import Emulator
from cosfs.fs.calls import Caller
from cosfs.fs.inodes import ROOT_INO, FileNode
from cosfs.fs.metadata import Change
from cosfs.fs.remote import SMALL_CHANGES
from cosfs.units import MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import ME, Files, content, counted, fails, nothing_staged, until

# --- round trips


async def test_create_write_close_of_a_small_file_is_one_put(files: Files, emulator: Emulator) -> None:
    await files.list()
    with counted(emulator) as requests:
        await files.put("a", b"hello")
        assert await files.get("a") == b"hello"
        assert (await files.file("a")).size == 5
    assert requests == {"PutObject": 1}


async def test_stat_of_known_names_costs_nothing(files: Files, emulator: Emulator) -> None:
    await files.put("a", b"x")
    await files.stat("a")
    with counted(emulator) as requests:
        for _ in range(10):
            await files.stat("a")
            assert not await files.exists("b")
    assert requests == {}


async def test_small_file_cold_warm_and_in_the_next_mount(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    first = await filesystem("cache")
    await first.upload("a", b"hello")
    await first.list()
    costs = []
    for _ in range(2):
        with counted(emulator) as requests:
            await first.get("a")
        costs.append(requests["GetObject"])
    await filesystem.end(first)
    second = await filesystem("cache")
    await second.list()
    with counted(emulator) as requests:
        assert await second.get("a") == b"hello"
    assert [*costs, requests["GetObject"]] == [1, 0, 0]


async def test_mkdir_rmdir_symlink(files: Files, emulator: Emulator) -> None:
    await files.list()
    with counted(emulator) as requests:
        await files.mkdir("d")
        assert await files.list("d") == []
        await files.put("d/a", b"")
        await files.unlink("d/a")
        await files.removed()
        await files.rmdir("d")
        await files.removed()
        await files.symlink("l", b"target")
    assert requests["PutObject"] == 3 and requests["DeleteObject"] == 2
    assert sum(requests.values()) == 5


async def test_reading_a_directory_of_many(files: Files, emulator: Emulator) -> None:
    def fill() -> None:
        for i in range(1100):
            files.client.put_object(files.bucket, f"k{i:04}", b"")

    await trio.to_thread.run_sync(fill)
    with counted(emulator) as requests:
        assert len(await files.list()) == 1100
    assert requests == {"ListObjects": 2}


async def test_a_large_sequential_write_is_its_parts_and_two(files: Files, emulator: Emulator) -> None:
    await files.list()
    with counted(emulator) as requests:
        await files.put("a", content(6 * MIB))
        await files.fs.drain()
    assert requests == {"CreateMultipartUpload": 1, "UploadPart": 6, "CompleteMultipartUpload": 1}


# --- files


async def test_the_creator_owns_the_file_and_the_umask_is_obeyed(filesystem: Filesystems) -> None:
    files = await filesystem()
    fh, node = await files.fs.create(ROOT_INO, b"a", 0o666, os.O_WRONLY, Caller(7, 8, 0o027))
    assert (node.attrs.uid, node.attrs.gid, stat.S_IMODE(node.attrs.mode)) == (7, 8, 0o640)
    await files.close(fh)
    again = await (await filesystem()).stat("a")
    assert (again.attrs.uid, again.attrs.gid, again.attrs.mode) == (7, 8, stat.S_IFREG | 0o640)
    assert again.attrs.mtime_ns == node.attrs.mtime_ns


async def test_setgid_directories_hand_down_their_group(files: Files) -> None:
    node = await files.fs.mkdir(ROOT_INO, b"d", 0o2775, Caller(7, 8))
    node.nlookup += 1
    fh, made = await files.fs.create(node.ino, b"f", 0o644, os.O_WRONLY, Caller(1, 2))
    assert made.attrs.gid == 8
    await files.close(fh)
    below = await files.fs.mkdir(node.ino, b"e", 0o755, Caller(1, 2))
    assert below.attrs.gid == 8 and below.attrs.mode & stat.S_ISGID


async def test_exclusive_create(files: Files) -> None:
    await files.put("a", b"x")
    await files.mkdir("d")
    await fails(errno.EEXIST, files.create("a", flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    await fails(errno.EISDIR, files.create("d"))
    fh = await files.create("a", flags=os.O_RDWR | os.O_CREAT)
    assert await files.read(fh, 0, 10) == b"x"
    await files.close(fh)


async def test_two_handles_see_one_file(files: Files) -> None:
    one = await files.create("a", flags=os.O_RDWR | os.O_CREAT)
    two = await files.open("a", os.O_RDWR)
    await files.write(one, b"hello")
    assert await files.read(two, 0, 10) == b"hello"
    await files.write(two, b"J")
    assert await files.read(one, 0, 10) == b"Jello"
    await files.close(two)
    await files.write(one, b"!", 5)
    await files.close(one)
    assert await files.stored("a") == b"Jello!"


async def test_visible_to_others_when_close_returned(filesystem: Filesystems) -> None:
    one, two = await filesystem(), await filesystem(metadata_ttl=0)
    fh = await one.create("a")
    await one.write(fh, b"data")
    assert await two.list() == []
    await one.close(fh)
    assert await two.get("a") == b"data"


async def test_what_others_wrote_is_seen_when_the_file_is_opened_again(filesystem: Filesystems) -> None:
    files = await filesystem(metadata_ttl=0, cache_size=0)  # on disk blocks are dropped a little later
    await files.upload("a", b"one")
    old = await files.open("a")
    assert await files.read(old, 0, 10) == b"one"
    await files.upload("a", b"three")
    assert await files.get("a") == b"three"
    assert await files.read(old, 0, 10) == b"one", "what was read before, from the cache"
    files.cache.drop(files.bucket, "a")
    await fails(errno.ESTALE, files.read(old, 0, 10))
    await files.fs.release(old)


async def test_a_change_of_metadata_by_others_does_not_disturb_readers(filesystem: Filesystems) -> None:
    files = await filesystem(metadata_ttl=0)
    await files.upload("a", content(MIB))
    fh = await files.open("a")
    await files.read(fh, 0, 10)
    node = await files.file("a")
    assert node.info is not None
    files.tree.apply(node, replace(node.info, last_modified=node.info.last_modified + 100))
    assert len(await files.read(fh, 500_000, 10)) == 10
    await files.close(fh)


async def test_o_direct_asks_again(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"one")
    assert await files.get("a") == b"one"
    await files.upload("a", b"three")
    assert await files.get("a") == b"one"  # believed for as long as the time to live
    fh = await files.open("a", os.O_RDONLY | os.O_DIRECT)
    assert await files.read(fh, 0, 10) == b"three"
    await files.close(fh)


async def test_the_kernel_may_keep_pages_as_long_as_the_object_is_the_same(
    filesystem: Filesystems,
) -> None:
    files = await filesystem(grace=0)
    await files.put("a", b"x" * 100)
    kept = []
    for _ in range(2):
        fh = await files.open("a")
        kept.append(files.fs.keep_cache(fh))
        await files.close(fh)
    await files.upload("a", b"y" * 100)
    files.tree.forget_all()
    fh = await files.open("a")
    kept.append(files.fs.keep_cache(fh))
    await files.close(fh)
    assert kept == [True, True, False]


async def test_times_follow_changes(files: Files) -> None:
    await files.put("a", b"x")
    node = await files.file("a")
    before = node.attrs
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"y")
    assert node.attrs.mtime_ns > before.mtime_ns and node.attrs.ctime_ns > before.ctime_ns
    await files.close(fh)
    written = node.attrs
    await files.chmod("a", 0o600)
    assert node.attrs.mtime_ns == written.mtime_ns and node.attrs.ctime_ns > written.ctime_ns


async def test_parent_times_follow_entries(files: Files) -> None:
    node = await files.mkdir("d")
    for change in (files.put("d/a", b""), files.rename("d/a", "d/b"), files.unlink("d/b")):
        before = node.attrs.mtime_ns
        await change
        assert node.attrs.mtime_ns > before


async def test_access_time_alone_is_not_sent(files: Files, emulator: Emulator) -> None:
    await files.put("a", b"x")
    with counted(emulator) as requests:
        await files.fs.setattr((await files.file("a")).ino, Change(atime_ns=5))
        await files.fs.drain()
    assert (await files.file("a")).attrs.atime_ns == 5
    assert requests == {}


async def test_times_before_1970_and_nanoseconds_are_kept(filesystem: Filesystems) -> None:
    files = await filesystem()
    await files.put("a", b"x")
    await files.fs.setattr((await files.file("a")).ino, Change(mtime_ns=-1_234_567_890_123_456_789))
    await files.fs.drain()
    assert (await (await filesystem()).stat("a")).attrs.mtime_ns == -1_234_567_890_123_456_789


async def test_truncate_to_the_same_size_is_no_new_object(files: Files, emulator: Emulator) -> None:
    await files.put("a", b"abc")
    with counted(emulator) as requests:
        await files.truncate("a", 3)
        await files.fs.drain()
    assert requests["PutObject"] == 0
    assert (await files.file("a")).content is None


async def test_too_large_is_efbig(files: Files) -> None:
    fh = await files.create("a")
    await fails(errno.EFBIG, files.fs.write(fh, 1 << 60, b"x"))
    await fails(errno.EFBIG, files.truncate("a", 1 << 60))
    await files.close(fh)


# --- links and nodes


async def test_symlinks(filesystem: Filesystems) -> None:
    files = await filesystem()
    await files.symlink("l", b"../some/\xc3\xa4 target")
    node = await (await filesystem()).stat("l")
    assert stat.S_ISLNK(node.attrs.mode)
    other = await filesystem()
    assert await other.fs.readlink((await other.stat("l")).ino) == b"../some/\xc3\xa4 target"
    await files.put("a", b"")
    await fails(errno.EINVAL, files.fs.readlink((await files.file("a")).ino))
    await fails(errno.EEXIST, files.symlink("a", b"x"))


async def test_what_is_too_long_for_a_link_is_not_read_as_one(files: Files, emulator: Emulator) -> None:
    metadata = {"mode": str(stat.S_IFLNK | 0o777)}
    for key, size in (("longest", 4095), ("longer", 4096)):
        await files.upload(key, b"x" * size, headers=Headers(metadata=metadata))
    assert await files.fs.readlink((await files.stat("longest")).ino) == b"x" * 4095
    ino = (await files.stat("longer")).ino
    with counted(emulator) as requests:
        await fails(errno.ENAMETOOLONG, files.fs.readlink(ino))
    assert not requests


async def test_special_files(filesystem: Filesystems) -> None:
    files = await filesystem()
    await files.fs.mknod(ROOT_INO, b"fifo", stat.S_IFIFO | 0o644, 0, ME)
    await files.fs.mknod(ROOT_INO, b"device", stat.S_IFCHR | 0o600, os.makedev(1, 3), ME)
    other = await filesystem()
    assert stat.S_ISFIFO((await other.stat("fifo")).attrs.mode)
    device = (await other.stat("device")).attrs
    assert stat.S_ISCHR(device.mode) and device.rdev == os.makedev(1, 3)
    await fails(errno.EINVAL, files.truncate("fifo", 5))


# --- directories


async def test_an_implicit_directory_is_one(files: Files) -> None:
    await files.upload("d/e/f", b"x")
    assert (await files.stat("d")).is_dir
    assert await files.list("d/e") == ["f"]


async def test_a_new_directory_is_known_to_be_empty(files: Files, emulator: Emulator) -> None:
    await files.mkdir("d")
    with counted(emulator) as requests:
        assert await files.list("d") == []
        await files.put("d/a", b"x")
    assert requests == {"PutObject": 1}
    await fails(errno.EEXIST, files.mkdir("d"))
    await fails(errno.ENOTDIR, files.rmdir("d/a"))
    await fails(errno.EISDIR, files.unlink("d"))


async def test_what_is_made_while_a_directory_is_read_is_in_it(files: Files) -> None:
    for name in "abc":
        await files.put(name, b"")
    fh = await files.fs.opendir(ROOT_INO)
    reader = files.entries(fh)
    seen = [await anext(reader)]
    await files.put("d", b"")
    await files.unlink("b")
    seen += [name async for name in reader]
    assert seen == [b"a", b"c", b"d"]
    files.fs.releasedir(fh)


async def test_a_removed_directory_cannot_be_opened(files: Files) -> None:
    node = await files.mkdir("d")
    await files.rmdir("d")
    await fails(errno.ENOENT, files.fs.opendir(node.ino))


# --- names


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "with space",
        "ünïcode",
        "new\nline",
        "tab\there",
        "-dash",
        "#?&=%41",
        "a+b",
        "~",
        "'\"",
        "x" * 255,
    ],
)
async def test_any_name_goes_there_and_back(filesystem: Filesystems, name: str) -> None:
    files = await filesystem()
    await files.put(name, b"x")
    assert await files.keys() == [name]
    other = await filesystem()
    assert await other.list() == [name]
    assert await other.get(name) == b"x"
    await other.unlink(name)
    await other.removed()
    assert await files.keys() == []


async def test_names_that_cannot_be(files: Files) -> None:
    await fails(errno.ENAMETOOLONG, files.create("x" * 256))
    await fails(errno.ENAMETOOLONG, files.exists("x" * 256))
    await fails(errno.EILSEQ, files.create(os.fsdecode(b"\xff\xfe")))
    await fails(errno.EINVAL, files.create("reserved%=file"))
    for directory in ("d" * 255, "d" * 255 + "/" + "e" * 255, "/".join(["d" * 255, "e" * 255, "f" * 255])):
        await files.mkdir(directory)
    await fails(errno.ENAMETOOLONG, files.create("/".join(["d" * 255, "e" * 255, "f" * 255, "g" * 100])))


async def test_the_name_of_an_empty_component_is_for_directories_alone(files: Files) -> None:
    await files.mkdir("d")
    await files.put("f", b"x")
    for path in ("%=", "d/%="):
        await fails(errno.EINVAL, files.create(path))
        await fails(errno.EINVAL, files.symlink(path, b"target"))
        await fails(errno.EINVAL, files.rename("f", path))
    await files.mkdir("d/%=")
    await files.put("d/%=/g", b"y")
    await files.removed()
    assert await files.keys() == ["d/", "d//", "d//g", "f"]


# --- read-only, errors, unknown numbers


async def test_read_only_refuses_every_change(filesystem: Filesystems, emulator: Emulator) -> None:
    await (await filesystem()).put("a", b"x")
    files = await filesystem(read_only=True)
    await files.stat("a")
    assert await files.get("a") == b"x"
    with counted(emulator) as requests:
        for call in (
            files.create("b"),
            files.mkdir("d"),
            files.unlink("a"),
            files.rename("a", "b"),
            files.chmod("a", 0o600),
            files.symlink("l", b"x"),
            files.open("a", os.O_WRONLY),
            files.truncate("a", 0),
        ):
            await fails(errno.EROFS, call)
    assert requests == {}


async def test_forgotten_numbers_are_stale(files: Files) -> None:
    await fails(errno.ESTALE, files.fs.getattr(12345))


async def test_trouble_on_the_way_is_eio_and_passes(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"data")
    emulator.faults.error("GetObject", "InternalError", 500, count=5)
    await files.stat("a")
    fh = await files.open("a")
    await fails(errno.EIO, files.read(fh, 0, 10))
    emulator.faults.clear()
    assert await files.read(fh, 0, 10) == b"data"
    await files.close(fh)


async def test_unmount_sends_what_is_still_open(
    filesystem: Filesystems, client: CosClient, bucket: str
) -> None:
    files = await filesystem()
    fh = await files.create("a")
    await files.write(fh, b"data")
    await files.chmod("a", 0o600)
    await filesystem.end(files)
    assert await (await filesystem()).get("a") == b"data"


async def test_uploads_do_not_make_lookups_wait(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    await files.upload("x", b"")
    may_go, waiting = threading.Event(), []
    put_object = CosClient.put_object

    def held(client: CosClient, bucket: str, key: str, *args: Any, **options: Any) -> Any:
        waiting.append(key)
        while not may_go.is_set():
            sleep(0.01)  # the others in this thread go on
        return put_object(client, bucket, key, *args, **options)

    monkeypatch.setattr(CosClient, "put_object", held)
    try:
        async with trio.open_nursery() as nursery:
            for i in range(40):
                nursery.start_soon(files.put, f"f{i}", b"x")
            await until(lambda: len(waiting) == SMALL_CHANGES)  # as many as may go at once
            await files.stat("x")  # would never end if it had to wait for one of them
            assert not may_go.is_set()
            may_go.set()
    finally:
        may_go.set()


async def test_handles_and_nodes_do_not_pile_up(files: Files) -> None:
    for i in range(20):
        await files.put(f"f{i}", b"x")
        await files.get(f"f{i}")
    for node in list(files.tree.table.nodes.values()):
        if node.ino != ROOT_INO:
            files.fs.forget(node.ino, node.nlookup)
    assert list(files.tree.table.nodes) == [ROOT_INO]
    assert files.fs._files == {} and files.fs._dirs == {}
    await nothing_staged(files)


async def test_a_mapping_written_after_close_is_sent_when_it_goes(files: Files) -> None:
    """The kernel writes pages of a mapping after flush, and releases the file after that."""
    fh = await files.create("a")
    await files.write(fh, b"one")
    await files.fs.flush(fh)
    await files.write(fh, b"two")
    await files.fs.release(fh)
    node = files.tree.root.children[b"a"]
    assert isinstance(node, FileNode)
    await until(lambda: not node.changed)
    assert await files.stored("a") == b"two"


async def test_objects_encrypted_with_a_key_of_the_customer_are_shown_and_can_be_removed(
    files: Files,
) -> None:
    key = CustomerKey(bytes(32))
    await files.upload("d/secret", b"12345", extra=key.headers())
    await files.upload("d/plain", b"123")
    assert await files.list("d") == ["plain", "secret"]
    node = await files.file("d/secret")
    assert (node.size, stat.S_IMODE(node.attrs.mode)) == (5, 0o644)
    await fails(errno.EIO, files.get("d/secret"))
    await fails(errno.EIO, files.rename("d/secret", "d/other"))
    await files.unlink("d/secret")
    await files.removed()
    assert await files.list("d") == ["plain"]
    assert await files.keys() == ["d/plain"]
