"""Names: where they come from, how long they are believed, what asking costs."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import Any

import pytest
import trio
import trio.testing

from cosfs.client.client import CosClient
from cosfs.client.model import Headers
from cosfs.client.waiting import sleep
from cosfs.emulator import Emulator
from cosfs.errors import COSError, FilesystemError
from cosfs.fs.inodes import ROOT_INO, DirNode, FileNode
from cosfs.fs.listing import Listing
from cosfs.fs.names import shadow_name
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, counted


async def error_of(call: object) -> int:
    """The errno that a call fails with, 0 if it does not."""
    try:
        await call  # type: ignore[misc]
    except COSError as exc:
        return exc.errno
    return 0


# --- looking up


async def test_first_miss_lists_the_directory_and_the_rest_is_known(files: Files, emulator: Emulator) -> None:
    await files.upload("a")
    await files.upload("d/b")
    with counted(emulator) as requests:
        assert await files.exists("d")
        assert await error_of(files.fs.lookup(ROOT_INO, b"none")) == errno.ENOENT
        assert await error_of(files.fs.lookup(ROOT_INO, b"neither")) == errno.ENOENT
    assert requests["ListObjects"] == 1
    assert set(requests) <= {"ListObjects", "HeadObject"}


async def test_known_names_and_known_absences_cost_nothing(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(attributes="listing")
    await files.upload("a")
    await files.list()
    with counted(emulator) as requests:
        for _ in range(5):
            assert await files.exists("a")
            assert not await files.exists("none")
    assert requests == {}


async def test_what_others_do_is_seen_after_the_time_to_live(filesystem: Filesystems) -> None:
    files = await filesystem(metadata_ttl=0.05)
    await files.upload("a", b"1")
    assert await files.list() == ["a"]
    await files.upload("b", b"2")
    await files.upload("a", b"333")
    await trio.sleep(0.06)
    assert await files.list() == ["a", "b"]
    assert (await files.file("a")).size == 3
    await files.delete("a")
    await trio.sleep(0.06)
    assert await files.list() == ["b"]
    assert not await files.exists("a")


async def test_what_others_do_is_not_asked_for_before_that(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"1")
    await files.list()
    await files.upload("b", b"2")
    with counted(emulator) as requests:
        assert await files.list() == ["a"]
        assert not await files.exists("b")
    assert requests == {}


async def test_a_name_that_turns_from_file_to_directory_is_another_node(filesystem: Filesystems) -> None:
    files = await filesystem(metadata_ttl=0)
    await files.upload("x", b"file")
    before = await files.node("x")
    await files.delete("x")
    await files.upload("x/y", b"")
    after = await files.node("x")
    assert isinstance(before, FileNode) and isinstance(after, DirNode)
    assert before.unlinked and before.lost and before.ino != after.ino


async def test_one_name_of_a_huge_directory_is_asked_for_by_itself(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_pages(monkeypatch)
    for i in range(9):
        await files.upload(f"k{i}")
    await files.upload("sub/x")
    with counted(emulator) as requests:
        assert await files.exists("k8")
        assert (await files.node("sub")).is_dir
        assert not await files.exists("none")
    # One page, then a HEAD and a list of one key for each, side by side.
    assert requests["ListObjects"] <= 1 + 3
    assert requests["HeadObject"] <= 3 + 1


async def test_a_huge_directory_is_listed_page_by_page(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_pages(monkeypatch)
    for i in range(10):
        await files.upload(f"k{i}")
    with counted(emulator) as requests:
        assert await files.list() == [f"k{i}" for i in range(10)]
    assert requests == {"ListObjects": 4}


async def test_a_file_removed_from_a_huge_directory_does_not_come_back(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_pages(monkeypatch)
    for i in range(6):
        await files.upload(f"k{i}")
    fault = emulator.faults.latency(0.2, "DeleteObject")
    await files.unlink("k5")
    assert not await files.exists("k5")
    emulator.faults.remove(fault)


async def test_a_shortened_name_is_found_in_a_huge_directory(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_pages(monkeypatch)
    for i in range(5):
        await files.upload(f"k{i}")
    await files.upload("z" * 400, b"long")
    [name] = [name for name in await files.names() if name.startswith(b"%=z")]
    files.tree.root.listing = None
    node = await files.fs.lookup(ROOT_INO, name)
    assert isinstance(node, FileNode) and node.key == "z" * 400


def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of three keys: what is large is a matter of the page."""
    assert Listing.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Listing.__init__.__kwdefaults__, "page_size", 3)


async def test_a_failed_listing_is_not_remembered(files: Files, emulator: Emulator) -> None:
    await files.upload("a")
    emulator.faults.error("ListObjects", "InternalError", 500)
    assert await error_of(files.fs.lookup(ROOT_INO, b"a")) == errno.EIO
    assert await files.exists("a")


async def test_a_listing_older_than_our_own_change_is_not_believed(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(metadata_ttl=0, grace=0)
    await files.put("a", b"old")
    await files.list()
    emulator.faults.latency(0.2, "ListObjects", count=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.list)
        await files.put("a", b"newer")
    node = files.tree.root.children[b"a"]
    assert isinstance(node, FileNode) and node.size == 5
    assert await files.get("a") == b"newer"


async def test_a_removal_under_way_hides_the_name_from_new_listings(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(metadata_ttl=0, grace=0)
    await files.put("a", b"1")
    await files.put("b", b"2")
    emulator.faults.latency(0.2, "DeleteObject", count=1)
    await files.unlink("a")
    assert await files.list() == ["b"]
    assert not await files.exists("a")
    await files.removed()
    assert await files.list() == ["b"]


# --- keys that are hard to show


async def test_file_and_directory_of_one_name_are_both_reachable(files: Files) -> None:
    await files.upload("a", b"file")
    await files.upload("a/x", b"below")
    assert sorted(await files.list()) == ["a", "a%=file"]
    assert await files.get("a/x") == b"below"
    assert await files.get("a%=file") == b"file"
    await files.put("a%=file", b"changed")
    assert await files.stored("a") == b"changed"
    await files.unlink("a%=file")
    await files.removed()
    assert await files.keys() == ["a/x"]


async def test_the_shadow_of_a_file_in_a_huge_directory_is_found(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_pages(monkeypatch)
    for i in range(5):
        await files.upload(f"k{i}")
    await files.upload("x", b"file")
    await files.upload("x/y", b"below")
    node = await files.fs.lookup(ROOT_INO, shadow_name("x"))
    assert isinstance(node, FileNode) and node.key == "x"


async def test_the_own_object_of_a_huge_directory_is_no_file_in_it(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_pages(monkeypatch)
    for key in ("d/", "e/", "e//below", *(f"{name}/k{i}" for name in "de" for i in range(5))):
        await files.upload(key)
    assert not await files.exists("d/%=")
    assert (await files.node("e/%=")).is_dir
    assert not await files.exists("e/%=%=file")


@pytest.mark.parametrize("key", ["/lead", "a//b", "a/./b", "a/../b", "%=x", "n" * 260 + "/deep", "y%=file"])
async def test_hostile_keys_can_be_read_renamed_with_their_parent_and_removed(files: Files, key: str) -> None:
    await files.upload("top/" + key, b"data")
    await files.rename("top", "moved")
    await files.removed()
    assert await files.keys() == ["moved/" + key]

    async def visit(path: str) -> None:
        for name in await files.names(path):
            below = f"{path}/{os.fsdecode(name)}"
            if (await files.node(below)).is_dir:
                await visit(below)
            else:
                assert await files.get(below) == b"data"
                await files.unlink(below)

    await visit("moved")
    await files.removed()
    assert await files.keys() in ([], [k for k in await files.keys() if k.endswith("/")])


# --- attributes


async def test_attributes_are_asked_for_once(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"x", headers=Headers(metadata={"mode": str(stat.S_IFREG | 0o640), "uid": "7"}))
    with counted(emulator) as requests:
        for _ in range(3):
            node = await files.stat("a")
    assert requests == {"ListObjects": 1, "HeadObject": 1}
    assert (stat.S_IMODE(node.attrs.mode), node.attrs.uid) == (0o640, 7)


async def test_many_askers_share_one_head(files: Files, emulator: Emulator) -> None:
    await files.upload("a")
    with counted(emulator) as requests:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(files.stat, "a")
    assert requests["HeadObject"] == 1


async def test_walking_a_directory_fetches_attributes_ahead_at_most_one_head_each(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        await files.upload(f"k{i:02}")
    arrived: list[str] = []
    head_object = CosClient.head_object

    def held(client: CosClient, *args: Any) -> Any:
        arrived.append(args[1])
        while len(arrived) < 16:  # so many are under way at once
            sleep(0.005)
        return head_object(client, *args)

    monkeypatch.setattr(CosClient, "head_object", held)
    with counted(emulator) as requests:
        fh = await files.fs.opendir(ROOT_INO)
        names = [name async for name in files.entries(fh)]
        for name in names:
            await files.stat(os.fsdecode(name))
        files.fs.releasedir(fh)
    assert requests == {"ListObjects": 1, "HeadObject": 40}


@pytest.mark.parametrize(("in_order", "least", "most"), [(True, 16, 200), (False, 1, 2)])
async def test_names_asked_for_in_their_order_have_attributes_fetched_ahead(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, in_order: bool, least: int, most: int
) -> None:
    keys = [f"k{number:03}" for number in range(200)]
    emulator.put_objects(files.bucket, ((key, b"") for key in keys))
    head_object, lock = CosClient.head_object, threading.Lock()
    under_way = at_once = begun = 0

    def slow(client: CosClient, *args: Any) -> Any:
        nonlocal under_way, at_once, begun
        with lock:
            under_way += 1
            begun += 1
            at_once = max(at_once, under_way)
            # Somewhere in the middle so many have to be under way before one of them is answered.
            waits = in_order and 100 <= begun < 100 + least
        sleep(0.01)
        while waits and at_once < least:
            sleep(0.005)
        with lock:
            under_way -= 1
        return head_object(client, *args)

    monkeypatch.setattr(CosClient, "head_object", slow)
    asked = keys if in_order else [keys[number * 37 % 200] for number in range(20)]
    with counted(emulator) as requests:
        for key in asked:
            await files.stat(key)
    assert requests["HeadObject"] == len(asked)
    assert least <= at_once <= most


async def test_plain_listing_asks_for_no_attributes(files: Files, emulator: Emulator) -> None:
    for i in range(5):
        await files.upload(f"k{i}")
    with counted(emulator) as requests:
        await files.list()
    assert requests == {"ListObjects": 1}


async def test_attributes_are_remembered_across_mounts(filesystem: Filesystems, emulator: Emulator) -> None:
    first = await filesystem("cache")
    for i in range(3):
        await first.upload(f"k{i}", b"x", headers=Headers(metadata={"mode": str(stat.S_IFREG | 0o600)}))
    for i in range(3):
        assert await first.mode(f"k{i}") == 0o600
    await filesystem.end(first)
    second = await filesystem("cache")
    with counted(emulator) as requests:
        for i in range(3):
            assert await second.mode(f"k{i}") == 0o600
    assert requests == {"ListObjects": 1}


async def test_remembered_attributes_of_a_changed_object_are_not_used(filesystem: Filesystems) -> None:
    first = await filesystem("cache")
    await first.upload("a", b"1", headers=Headers(metadata={"mode": str(stat.S_IFREG | 0o600)}))
    assert await first.mode("a") == 0o600
    await filesystem.end(first)
    second = await filesystem("cache")
    await second.upload("a", b"2", headers=Headers(metadata={"mode": str(stat.S_IFREG | 0o666)}))
    assert await second.mode("a") == 0o666


async def test_attributes_listing_never_asks(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem(attributes="listing")
    await files.upload("a", b"xyz", headers=Headers(metadata={"mode": str(stat.S_IFREG | 0o600)}))
    with counted(emulator) as requests:
        node = await files.stat("a")
    assert requests == {"ListObjects": 1}
    assert stat.S_IMODE(node.attrs.mode) == 0o644


async def test_attributes_that_may_not_be_read_are_defaults(
    files: Files, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    await files.upload("a")
    emulator.faults.error("HeadObject", "AccessDenied", 403, count=0)
    assert await files.mode("a") == 0o644
    assert "attributes cannot be read" in caplog.text


async def test_a_slow_head_does_not_undo_what_was_written_meanwhile(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"old")
    emulator.faults.latency(0.2, "HeadObject", count=1)
    await files.list()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.stat, "a")
        await trio.testing.wait_all_tasks_blocked(0.02)
        node = files.tree.node_for(files.tree.root, files.tree.root.listing.entries[b"a"])  # type: ignore[union-attr]
        assert isinstance(node, FileNode)
        fh = await files.fs.open(node.ino, os.O_RDWR)
        await files.write(fh, b"longer than before")
        await files.close(fh)
    assert (await files.file("a")).size == 18
    assert await files.get("a") == b"longer than before"


async def test_attributes_from_before_a_change_are_not_believed_though_the_file_was_forgotten(
    files: Files,
) -> None:
    """The GET of a small file is answered after its mode was set, sent, and its node forgotten."""
    await files.upload("a", b"old")
    node = await files.file("a")
    since = trio.current_time()
    before = await files.head("a")
    await files.chmod("a", 0o600)
    await files.fs.drain()
    files.fs.forget(node.ino, node.nlookup)
    assert node.ino not in files.tree.table.nodes
    files.tree.heads.told(files.tree.root, b"a", before, since)
    assert await files.mode("a") == 0o600


# --- roots


async def test_all_buckets_at_the_root(filesystem: Filesystems, client: CosClient, bucket: str) -> None:
    files = await filesystem(bucket="")
    assert bucket in await files.list()
    await files.put(f"{bucket}/a", b"x")
    assert await files.stored("a") == b"x"
    assert await files.list(bucket) == ["a"]


async def test_a_bucket_is_found_by_its_short_name_and_when_it_is_new(
    filesystem: Filesystems, client: CosClient, bucket: str
) -> None:
    files = await filesystem(bucket="", metadata_ttl=0)
    await files.upload("a", b"x")
    assert await files.get(f"{bucket.removesuffix('-1250000000')}/a") == b"x"
    new = f"new-{bucket}"
    assert not await files.exists(new)
    await trio.to_thread.run_sync(client.create_bucket, new)
    assert await files.exists(new)


async def test_buckets_are_made_and_removed_as_directories(filesystem: Filesystems, bucket: str) -> None:
    files = await filesystem(bucket="")
    name = f"made-{bucket}"
    await files.mkdir(name)
    await files.put(f"{name}/a", b"x")
    assert await error_of(files.rmdir(name)) == errno.ENOTEMPTY
    await files.unlink(f"{name}/a")
    await files.rmdir(name)
    assert name not in await files.list()
    assert await error_of(files.create("file")) == errno.EPERM
    assert await error_of(files.rename(bucket, "other")) == errno.EPERM


async def test_a_mounted_prefix_sees_only_what_is_below_it(filesystem: Filesystems) -> None:
    files = await filesystem(prefix="p/")
    await files.upload("p/a", b"in")
    await files.upload("q", b"out")
    assert await files.list() == ["a"]
    await files.put("b", b"new")
    assert await files.stored("p/b") == b"new"
    assert (await files.fs.getattr(ROOT_INO)).is_dir


# --- life of nodes


async def test_forgotten_nodes_are_dropped(files: Files) -> None:
    await files.upload("d/a")
    node = await files.node("d/a")
    parent = node.parent
    assert parent is not None
    files.fs.forget(node.ino, 1)
    assert files.tree.table.get(node.ino) is None
    files.fs.forget(parent.ino, 1)
    assert files.tree.table.get(parent.ino) is None


async def test_a_forgotten_directory_stays_while_something_below_it_is_in_use(files: Files) -> None:
    await files.upload("d/a", b"x")
    fh = await files.open("d/a")
    node = await files.node("d/a")
    parent = node.parent
    assert parent is not None
    files.fs.forget(parent.ino, 10)
    files.fs.forget(node.ino, 10)
    assert files.tree.table.get(node.ino) is node
    assert await files.read(fh, 0, 10) == b"x"
    await files.close(fh)
    assert files.tree.table.get(node.ino) is None and files.tree.table.get(parent.ino) is None


async def test_inode_numbers_are_the_same_in_every_mount(filesystem: Filesystems) -> None:
    first, second = await filesystem(), await filesystem()
    await first.upload("d/a")
    assert (await first.node("d/a")).ino == (await second.node("d/a")).ino


async def test_a_changed_file_stays_though_the_kernel_forgot_it(files: Files) -> None:
    fh = await files.create("a")
    await files.write(fh, b"x")
    node = await files.file("a")
    files.fs.forget(node.ino, 10)
    assert files.tree.table.get(node.ino) is node
    await files.close(fh)
    assert await files.stored("a") == b"x"


async def test_a_file_that_others_removed_cannot_be_written_into_nowhere(filesystem: Filesystems) -> None:
    files = await filesystem(metadata_ttl=0)
    await files.upload("a", b"x")
    node = await files.file("a")
    await files.delete("a")
    await files.list()
    assert not await files.exists("a")
    # The kernel may still have the name for a moment; ESTALE makes it look again.
    with pytest.raises(FilesystemError) as caught:
        await files.fs.open(node.ino, os.O_WRONLY)
    assert caught.value.errno == errno.ESTALE


async def test_what_was_looked_for_and_then_made_here_is_not_taken_from_the_kernel(
    filesystem: Filesystems,
) -> None:
    """The kernel drops the directory that a process works in when it is told to forget its name."""

    class Kernel:
        def __init__(self) -> None:
            self.forgotten: list[bytes] = []

        def forget_name(self, parent: int, name: bytes) -> None:
            self.forgotten.append(name)

        def forget_inode(self, ino: int) -> None: ...

    files, kernel = await filesystem(metadata_ttl=0.05), Kernel()
    files.tree.use_kernel(kernel)
    for name in (b"dir", b"other"):
        assert await error_of(files.fs.lookup(ROOT_INO, name)) == errno.ENOENT
        files.tree.note_absent(ROOT_INO, name, 3600.0)
    await files.mkdir("dir")
    await files.upload("other")
    await trio.sleep(0.1)
    assert await files.list() == ["dir", "other"]
    assert kernel.forgotten == [b"other"]


@pytest.mark.parametrize(
    ("code", "status"), [("ServiceUnavailable", 503), ("ExpiredToken", 403), ("SlowDown", 503)]
)
async def test_what_is_known_and_cached_is_shown_while_cos_is_in_trouble(
    filesystem: Filesystems, emulator: Emulator, code: str, status: int
) -> None:
    files = await filesystem(metadata_ttl=0.0)
    await files.upload("d/cached", b"cached")
    assert await files.get("d/cached") == b"cached"
    assert await files.list("d") == ["cached"]
    trouble = emulator.faults.error("*", code, status, count=0)
    assert await files.get("d/cached") == b"cached"
    assert await files.list("d") == ["cached"]
    assert trouble.struck
    with pytest.raises(COSError):
        await files.stat("d/unknown")


async def test_nobody_waits_for_attributes_that_go_ahead_when_these_do_not_come(files: Files) -> None:
    await files.upload("d/a", b"x")
    await files.list("d")
    directory = await files.node("d")
    assert isinstance(directory, DirNode)
    files.fs.remote.patience.io_timeout = 0.1
    files.tree.heads.expect(directory, [b"a"])  # where COS is slow, questions of others go first for ever
    with trio.fail_after(100):
        assert (await files.stat("d/a")).known
