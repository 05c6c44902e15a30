"""Other names for directories, and for everything below them."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio

from cosfs.client.model import Headers, PutResult
from cosfs.emulator import Emulator
from cosfs.errors import COSError, FilesystemError
from cosfs.fs import treemover
from cosfs.transfer.looker import Arguments
from cosfs.units import MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, content, counted, fails, until


async def test_a_directory_with_many_keys_is_moved_with_parallel_copies(
    files: Files, emulator: Emulator
) -> None:
    keys = ["", *[f"k{i:02}" for i in range(30)], "sub/", "sub/x", "//odd", "sub/deep/er"]
    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(files.upload, f"d/{key}", key.encode())
    await files.list("d")
    with counted(emulator) as requests:
        await files.rename("d", "e")
        await files.removed()
    assert await files.keys() == sorted(f"e/{key}" for key in keys)
    assert await files.get("e/sub/deep/er") == b"sub/deep/er"
    assert requests["CopyObject"] == len(keys)
    assert requests["ListObjects"] <= 2 and requests["DeleteObjects"] == 1
    assert files.journal.records() == []
    assert await files.list() == ["e"]


async def test_a_failing_copy_half_way_is_undone(files: Files, emulator: Emulator) -> None:
    keys = [f"d/k{i}" for i in range(10)]
    for key in keys:
        await files.upload(key, b"x")
    emulator.faults.error("CopyObject", "AccessDenied", 403, key="e/k7")
    await fails(errno.EACCES, files.rename("d", "e"))
    assert await files.keys() == keys
    assert await files.list() == ["d"]
    assert len(await files.list("d")) == 10
    assert files.journal.records() == []


class Aside:
    """What a mount's second process does, in a thread; the answers about some keys are lost."""

    is_usable = True

    def __init__(self, files: Files, *lost: str) -> None:
        self.made: list[str] = []
        self._client = files.client
        self._lost = lost

    async def change(
        self, bucket: str, method: str, calls: Sequence[Arguments], length: int
    ) -> list[PutResult | None]:
        assert calls
        return [await trio.to_thread.run_sync(self._make, method, *call) for call in calls]

    def _make(self, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PutResult | None:
        try:
            result: PutResult = getattr(self._client, method)(*args, **kwargs)
        except COSError:
            return None
        self.made.append(args[1])
        return None if args[1] in self._lost else result


async def test_copies_of_a_second_process_whose_answers_are_lost_are_found(files: Files) -> None:
    keys = [f"k{number:02}" for number in range(70)]
    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(files.upload, f"d/{key}", key.encode())
    aside = Aside(files, "e/k03", "e/k33", "e/k69")
    files.fs.remote.use_looker(aside)  # type: ignore[arg-type]
    await files.rename("d", "e")
    await files.removed()
    assert sorted(aside.made) == [f"e/{key}" for key in keys]
    assert await files.keys() == [f"e/{key}" for key in keys]
    assert await files.get("e/k33") == b"k33"
    assert files.journal.records() == []


async def test_a_directory_with_nothing_for_a_second_process_is_moved_without_it(files: Files) -> None:
    await files.mkdir("d")
    files.fs.remote.use_looker(Aside(files))  # type: ignore[arg-type]
    await files.rename("d", "e")
    await files.removed()
    assert await files.keys() == ["e/"]


async def test_copies_of_a_second_process_are_undone_with_the_others(
    files: Files, emulator: Emulator
) -> None:
    keys = [f"d/k{number}" for number in range(10)]
    for key in keys:
        await files.upload(key, b"x")
    aside = Aside(files, "e/k3")
    files.fs.remote.use_looker(aside)  # type: ignore[arg-type]
    emulator.faults.error("CopyObject", "AccessDenied", 403, key="e/k7", count=2)
    await fails(errno.EACCES, files.rename("d", "e"))
    assert len(aside.made) == 9
    await files.removed()
    assert await files.keys() == keys
    assert files.journal.records() == []


async def test_undoing_spares_the_empty_directory_that_was_there(files: Files, emulator: Emulator) -> None:
    await files.mkdir("e")
    await files.mkdir("d")
    await files.put("d/a", b"x")
    emulator.faults.error("CopyObject", "AccessDenied", 403, key="e/a")
    await fails(errno.EACCES, files.rename("d", "e"))
    assert await files.keys() == ["d/", "d/a", "e/"]


async def test_a_directory_replaces_an_empty_one(files: Files) -> None:
    await files.mkdir("d")
    await files.put("d/a", b"x")
    await files.mkdir("e")
    await files.rename("d", "e")
    await files.removed()
    assert await files.keys() == ["e/", "e/a"]
    assert await files.list("e") == ["a"]


async def test_a_directory_emptied_just_now_is_replaced_for_good(files: Files, emulator: Emulator) -> None:
    await files.mkdir("d")
    await files.put("d/a", b"x")
    await files.mkdir("e")
    await files.put("e/a", b"old")
    emulator.faults.latency(0.1, "Delete*")
    await files.unlink("e/a")
    await files.rename("d", "e")
    await files.removed()
    assert await files.keys() == ["e/", "e/a"]
    assert await files.stored("e/a") == b"x"


async def test_what_was_removed_below_does_not_come_along(files: Files, emulator: Emulator) -> None:
    await files.mkdir("d")
    for name in "abc":
        await files.put(f"d/{name}", b"x")
    emulator.faults.error("Delete*", "ServiceUnavailable", 503, count=3)
    await files.unlink("d/b")
    await files.rename("d", "e")
    await until(lambda: not files.fs.deleter.pending)
    assert await files.keys() == ["e/", "e/a", "e/c"]


async def test_an_object_that_others_put_in_the_way_is_not_overwritten(files: Files) -> None:
    await files.mkdir("d")
    await files.put("d/a", b"ours")
    await files.list()
    await files.upload("e/a", b"theirs")
    await fails(errno.ENOTEMPTY, files.rename("d", "e"))
    assert await files.stored("e/a") == b"theirs"
    assert await files.stored("d/a") == b"ours"


async def test_a_copy_that_is_there_already_is_no_obstacle(files: Files) -> None:
    await files.mkdir("d")
    await files.put("d/a", b"x")
    await files.upload("e/a", b"x")  # as a copy leaves it whose answer was lost and that is repeated
    await files.rename("d", "e")
    await files.removed()
    assert await files.keys() == ["e/", "e/a"]


async def test_open_files_below_a_moved_directory_go_on(files: Files) -> None:
    data = content(MIB)
    for name in ("read", "write", "idle"):
        await files.upload(f"d/{name}", data)
    reader = await files.open("d/read")
    await files.read(reader, 0, 10)
    writer = await files.open("d/write", os.O_RDWR)
    await files.write(writer, b"changed", 1000)
    idle = await files.open("d/idle", os.O_RDWR)
    new = await files.create("d/new", flags=os.O_RDWR | os.O_CREAT)
    await files.write(new, b"new")
    await files.rename("d", "e")
    await files.removed()
    assert await files.read(reader, 700_000, 100) == data[700_000:700_100]
    assert await files.read(writer, 700_000, 100) == data[700_000:700_100]
    await files.write(idle, b"too", 5)
    for fh in (reader, writer, idle, new):
        await files.close(fh)
    changed = data[:1000] + b"changed" + data[1007:]
    assert await files.stored("e/write") == changed
    assert await files.stored("e/idle") == data[:5] + b"too" + data[8:]
    assert await files.stored("e/new") == b"new"
    assert [key for key in await files.keys() if key.startswith("d/")] == []
    assert await files.get("e/write") == changed


async def test_large_open_file_below_a_moved_directory_keeps_its_untouched_parts(files: Files) -> None:
    data = content(5 * MIB)
    await files.mkdir("d")
    await files.put("d/big", data)  # in parts: the copy has another etag
    writer = await files.open("d/big", os.O_RDWR)
    await files.write(writer, b"changed", 2 * MIB)
    await files.rename("d", "e")
    await files.removed()
    await files.close(writer)
    assert await files.stored("e/big") == data[: 2 * MIB] + b"changed" + data[2 * MIB + 7 :]
    assert files.fs.committer.conflicts.count == 0


async def test_a_file_that_came_into_a_directory_on_its_way_to_cos_moves_with_it(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    await files.mkdir("d")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0, key="f")
    held = emulator.faults.latency(3600, "PutObject", key="*/f")
    await files.put("f", b"data")
    node = await files.file("f")

    def waiting() -> int:
        return len(node.lock._waiting or ())

    async with trio.open_nursery() as nursery:
        async with node.lock:
            others = waiting()
            nursery.start_soon(files.rename, "f", "d/f")
            await until(lambda: waiting() > others)
            # It waits for the lock while the file is in another directory.
            nursery.start_soon(files.fs.committer.flush, node)
            await until(lambda: waiting() > others + 1)
        await until(lambda: held.struck)
        nursery.start_soon(files.rename, "d", "e")
        await until(lambda: files.tree.moves.any)
        await trio.sleep(0.3)  # enough for a move that does not wait
        emulator.faults.release(held)
    await files.fs.drain()
    await files.removed()
    assert await files.keys() == ["e/", "e/f"]
    assert await files.stored("e/f") == b"data"


async def test_a_file_closed_while_its_directory_is_moved_lands_in_the_new_place(
    files: Files, emulator: Emulator
) -> None:
    await files.mkdir("d")
    await files.put("d/a", b"x")
    fh = await files.create("d/new")
    await files.write(fh, b"data")
    emulator.faults.latency(0.1, "CopyObject")
    emulator.requests.reset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.rename, "d", "e")
        await until(lambda: emulator.requests["CopyObject"])
        await files.close(fh)
        await files.mkdir("d2")
    await files.removed()
    assert await files.stored("e/new") == b"data"
    assert await files.keys("d/") == []


async def test_changes_below_wait_until_the_directory_has_moved(files: Files, emulator: Emulator) -> None:
    await files.mkdir("d")
    for name in "ab":
        await files.put(f"d/{name}", b"x")
    directory = await files.node("d")
    emulator.faults.latency(0.1, "CopyObject")
    emulator.requests.reset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.rename, "d", "e")
        await until(lambda: emulator.requests["CopyObject"])
        nursery.start_soon(files.fs.unlink, directory.ino, b"a")
        nursery.start_soon(files.chmod, "d/b", 0o600)
    await files.fs.drain()
    assert await files.keys() == ["e/", "e/b"]
    assert await files.mode("e/b") == 0o600


async def test_a_rename_waits_for_changes_under_way_below(files: Files, emulator: Emulator) -> None:
    await files.mkdir("d")
    fh = await files.create("d/a")
    await files.write(fh, b"data")
    emulator.faults.latency(0.1, "PutObject")
    emulator.requests.reset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.close, fh)
        nursery.start_soon(files.mkdir, "d/sub")
        await until(lambda: emulator.requests["PutObject"] >= 2)
        await files.rename("d", "e")
    await files.removed()
    assert await files.keys() == ["e/", "e/a", "e/sub/"]
    assert await files.get("e/a") == b"data"


async def test_removed_open_files_are_left_behind_and_stay_readable(files: Files) -> None:
    data = content(MIB)
    await files.upload("d/", b"")
    await files.upload("d/gone", data)
    fh = await files.open("d/gone")
    await files.unlink("d/gone")
    await files.rename("d", "e")
    await files.removed()
    assert await files.list("e") == []
    assert await files.read(fh, 700_000, 100) == data[700_000:700_100]
    await files.close(fh)
    await files.removed()
    assert await files.keys() == ["e/"]


async def test_unsent_files_below_a_moved_directory_are_in_the_journal_under_their_new_names(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.mkdir("d")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.put("d/a", b"data")
    await files.rename("d", "e")
    assert [r.key for r in files.journal.records() if r.kind == "file"] == ["e/a"]
    await filesystem.kill(files)
    emulator.faults.clear()
    again = await filesystem("cache", write_back="async")
    await again.removed()
    assert await again.keys() == ["e/", "e/a"]


async def test_a_name_too_long_for_cos_fails_before_anything_is_copied(
    files: Files, emulator: Emulator
) -> None:
    key = "d/" + "x" * 200 + "/" + "y" * 200 + "/" + "z" * 200 + "/" + "w" * 200
    await files.upload(key, b"x")
    with counted(emulator) as requests, pytest.raises(FilesystemError) as caught:
        await files.rename("d", "e" * 100)
    assert caught.value.errno == errno.ENAMETOOLONG
    assert requests["CopyObject"] == 0
    assert await files.keys() == [key]


async def test_a_directory_whose_copy_was_made_without_an_answer_is_not_left_behind(
    files: Files, emulator: Emulator
) -> None:
    await files.mkdir("old")
    await files.put("old/file", b"x")
    emulator.faults.reset("CopyObject", after=True, count=0)
    await fails(errno.EIO, files.rename("old", "new"))
    emulator.faults.clear()
    await files.removed()
    assert await files.keys() == ["old/", "old/file"]
    assert await files.list() == ["old"]


async def test_a_failed_move_leaves_the_directory_it_was_to_replace(files: Files, emulator: Emulator) -> None:
    await files.mkdir("old")
    await files.put("old/file", b"x")
    await files.mkdir("new")
    emulator.faults.reset("CopyObject", after=True, count=0)
    await fails(errno.EIO, files.rename("old", "new"))
    emulator.faults.clear()
    await files.removed()
    assert await files.keys() == ["new/", "old/", "old/file"]


async def test_a_failed_move_to_where_something_was_just_removed_leaves_no_removal_behind(
    files: Files, emulator: Emulator
) -> None:
    await files.mkdir("f")
    await files.put("f/file", b"x")
    emulator.faults.error("Delete*", "ServiceUnavailable", 503, count=0)
    await files.rename("f", "g")
    emulator.faults.error("CopyObject", "AccessDenied", 403, count=0)
    await fails(errno.EACCES, files.rename("g", "f"))
    emulator.faults.clear()
    await until(lambda: not files.journal.records())
    assert await files.keys() == ["g/", "g/file"]


async def test_a_directory_without_an_object_does_not_take_over_the_mode_of_one_that_it_replaces(
    files: Files, filesystem: Filesystems
) -> None:
    await files.upload("a/x", b"x")
    before = await files.mode("a")
    await files.mkdir("b", 0o700)
    assert before != 0o700
    await files.rename("a", "b")
    assert await files.mode("b") == before
    await files.fs.drain()
    other = await filesystem()
    assert await other.mode("b") == before
    assert await other.get("b/x") == b"x"


async def test_large_objects_of_a_directory_keep_their_storage_class(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(treemover, "ONE_COPY_MAX", 3)
    await files.upload("d/large", b"data", headers=Headers(storage_class="STANDARD_IA"))
    await files.upload("d/small", b"x", headers=Headers(storage_class="STANDARD_IA"))
    await files.rename("d", "e")
    assert [(await files.head(key)).storage_class for key in ("e/large", "e/small")] == ["STANDARD_IA"] * 2
