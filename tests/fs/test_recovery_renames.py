"""Renames and removals that a killed filesystem leaves, and what the next one makes of them."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.fs import deleter
from cosfs.fs.recovery import Recovery
from cosfs.fs.rename import Renamer
from cosfs.units import MIB
from tests.fs.conftest import Filesystems, restarted
from tests.fs.support import content, until

LATER = 60.0


async def test_a_file_half_renamed_is_renamed_or_keeps_its_name(filesystem: Filesystems) -> None:
    files = await filesystem("cache")
    copied = await files.upload("copied", b"same bytes")
    await files.upload("copied-new", b"same bytes")
    begun = await files.upload("begun", b"nothing copied")
    theirs = await files.upload("theirs", b"source")
    await files.upload("theirs-new", b"somebody's")
    over = await files.upload("over", b"new")
    target = await files.upload("over-new", b"old")
    for name, etag, there in (
        ("copied", copied, ""), ("begun", begun, ""), ("theirs", theirs, ""), ("over", over, target)
    ):  # fmt: skip
        body = {"to": [files.bucket, f"{name}-new"], "etag": etag, "there": there}
        files.journal.add("move", files.bucket, name, body)
    await filesystem.kill(files)
    second = await filesystem("cache")
    await second.removed()
    assert await second.keys() == ["begun", "copied-new", "over", "over-new", "theirs", "theirs-new"]
    assert await second.stored("over-new") == b"old"
    assert second.journal.records() == []
    assert "theirs-new" in (second.fs.settings.cache_dir / "recovered" / "LIST.txt").read_text()


async def test_a_file_closed_while_it_was_being_replaced_is_no_conflict(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.upload("a", b"replaces it")
    fh = await files.create("b")
    await files.write(fh, b"closed meanwhile")
    copy, copied = Renamer._copy, trio.Event()

    async def copy_and_wait(*args: Any) -> None:
        await copy(*args)
        copied.set()
        await trio.sleep_forever()

    with monkeypatch.context() as patch:
        patch.setattr(Renamer, "_copy", copy_and_wait)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(files.rename, "a", "b")
            await copied.wait()
            await files.close(fh)
            await filesystem.kill(files)
            nursery.cancel_scope.cancel()
    second = await filesystem("cache", write_back="async")
    await second.removed()
    assert await second.keys() == ["b"]
    assert await second.get("b") == b"replaces it"
    assert second.fs.committer.conflicts.count == 0
    assert second.journal.records() == []


async def test_files_below_a_directory_half_moved_follow_it(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    for key in ("d/", "d/changed", "d/other"):
        await files.upload(key, b"0123456789" if key != "d/" else b"")
    await files.list("d")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    async with files.opened("d/changed") as fh:
        await files.write(fh, b"XY", 4)
    await files.put("d/new", b"new")
    # As a crash half-way leaves it.
    files.journal.add("rename", files.bucket, "d/", {"to": [files.bucket, "e/"]})
    second = await restarted(filesystem, emulator, files)
    await second.removed()
    assert await second.keys() == ["e/", "e/changed", "e/new", "e/other"]
    assert await second.stored("e/changed") == b"0123XY6789"
    assert second.fs.committer.conflicts.count == 0
    assert second.journal.records() == []


async def test_a_move_that_cos_refuses_is_undone(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem("cache")
    for key in ("d/", "d/a", "d/b", "d/c"):
        await files.upload(key, key.encode() if not key.endswith("/") else b"")
    for key in ("e/", "e/a"):
        await files.upload(key, b"d/a" if key == "e/a" else b"")
    files.journal.add("rename", files.bucket, "d/", {"to": [files.bucket, "e/"]})
    await filesystem.kill(files)
    emulator.faults.error("CopyObject", "AccessDenied", 403, key="e/c", count=0)
    second = await filesystem("cache")
    await second.removed()
    assert await second.keys() == ["d/", "d/a", "d/b", "d/c"]
    assert second.journal.records() == []
    assert "keeps its name" in (second.fs.settings.cache_dir / "recovered" / "LIST.txt").read_text()


async def test_a_removal_is_not_lost_when_the_name_is_used_again(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "DELAY", LATER)
    files = await filesystem("cache")
    await files.upload("a", b"removed")
    await files.unlink("a")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    fh = await files.create("a")
    await files.write(fh, b"not acknowledged")
    with pytest.raises(COSError):
        await files.fs.fsync(fh)
    row = [r for r in files.journal.records() if r.kind == "file"]
    files.journal.remove(*(r.id for r in row))  # as if it had died before it could note the failure
    monkeypatch.setattr(deleter, "DELAY", 0.01)
    second = await restarted(filesystem, emulator, files)
    await second.removed()
    assert await second.keys() == []


async def test_a_removed_file_that_was_open_does_not_come_back(filesystem: Filesystems) -> None:
    files = await filesystem("cache")
    await files.upload("a", b"removed")
    fh = await files.open("a")
    await files.unlink("a")
    assert await files.read(fh, 0, 7) == b"removed"
    await filesystem.kill(files)
    assert await files.keys() == ["a"]
    second = await filesystem("cache")
    await second.removed()
    assert await second.keys() == []
    assert second.journal.records() == []


async def test_removals_are_finished(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "DELAY", LATER)
    files = await filesystem("cache")
    for name in "abc":
        await files.put(name, b"x")
    await files.unlink("a")
    await files.unlink("b")
    await filesystem.kill(files)
    assert await files.keys() == ["a", "b", "c"]
    monkeypatch.setattr(deleter, "DELAY", 0.01)
    second = await filesystem("cache")
    assert await second.list() == ["c"]
    await second.removed()
    assert await second.keys() == ["c"]
    assert second.journal.records() == []


async def test_removals_spare_what_was_written_since(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "DELAY", LATER)
    files = await filesystem("cache")
    await files.put("a", b"old")
    await files.unlink("a")
    await filesystem.kill(files)
    await files.upload("a", b"new")
    monkeypatch.setattr(deleter, "DELAY", 0.01)
    second = await filesystem("cache")
    await second.removed()
    assert await second.stored("a") == b"new"


async def test_removed_and_made_again_is_the_new_one(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "DELAY", LATER)
    files = await filesystem("cache", write_back="async")
    await files.upload("a", b"old")
    await files.unlink("a")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.put("a", b"new")
    monkeypatch.setattr(deleter, "DELAY", 0.01)
    second = await restarted(filesystem, emulator, files)
    await second.removed()
    assert await second.keys() == ["a"]
    assert await second.stored("a") == b"new"


async def test_a_key_written_by_the_new_mount_is_not_removed_for_the_old_one(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "DELAY", 0.2)
    files = await filesystem("cache")
    await files.put("a", b"old")
    await files.unlink("a")
    await filesystem.kill(files)
    second = await filesystem("cache")
    await second.put("a", b"old")  # the same bytes: the etag does not tell them apart
    await second.removed()
    assert await second.stored("a") == b"old"


async def test_a_renamed_unsent_file_arrives_under_its_new_name_and_leaves_the_old_one(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.upload("a", b"0123456789")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    async with files.opened("a") as fh:
        await files.write(fh, b"XY", 4)
    await files.rename("a", "b")
    second = await restarted(filesystem, emulator, files)
    await second.removed()
    assert await second.keys() == ["b"]
    assert await second.stored("b") == b"0123XY6789"


async def test_a_directory_half_moved_is_moved_to_the_end(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache")
    keys = [f"k{i}" for i in range(6)]
    for key in ("", *keys):
        await files.upload(f"d/{key}", key.encode())
    journal = files.journal
    await filesystem.kill(files)
    # As a crash half-way leaves it: the intent, some copies, all sources.
    second = await filesystem("other")
    for key in ("", *keys[:3]):
        await second.upload(f"e/{key}", key.encode())
    reopened = type(journal)(journal.directory)
    reopened.add("rename", files.bucket, "d/", {"to": [files.bucket, "e/"]})
    reopened.close()
    third = await filesystem("cache")
    await third.removed()
    assert third.recovered.moved == 1
    assert await third.keys() == ["e/", *[f"e/{key}" for key in keys]]
    assert await third.list() == ["e"]
    assert third.journal.records() == []


async def test_going_on_with_a_move_does_not_overwrite_what_changed_at_its_end(
    filesystem: Filesystems, caplog: pytest.LogCaptureFixture
) -> None:
    files = await filesystem("cache")
    await files.upload("d/a", b"old")
    await files.upload("d/b", b"moves")
    await files.upload("e/a", b"newer")
    files.journal.add("rename", files.bucket, "d/", {"to": [files.bucket, "e/"]})
    await filesystem.kill(files)
    second = await filesystem("cache")
    await second.removed()
    assert await second.stored("e/a") == b"newer"
    assert await second.stored("d/a") == b"old"
    assert await second.stored("e/b") == b"moves"
    assert "exists already" in caplog.text


async def test_what_a_file_has_left_in_a_directory_half_moved_is_no_file_there(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    for key in ("d/", "d/a", "d/b", "d/c"):
        await files.upload(key, b"0123456789" if key != "d/" else b"")
    await files.list("d")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    for key in ("d/a", "d/b"):
        async with files.opened(key) as fh:
            await files.write(fh, b"XY", 4)
    await files.rename("d/a", "away")
    await files.rename("d/b", "d/other")
    files.journal.add("rename", files.bucket, "d/", {"to": [files.bucket, "e/"]})
    second = await restarted(filesystem, emulator, files)
    assert await second.list("e") == ["c", "other"]
    await second.fs.drain()
    await second.removed()
    assert await second.keys() == ["away", "e/", "e/c", "e/other"]
    assert await second.stored("away") == await second.stored("e/other") == b"0123XY6789"
    assert second.journal.records() == []


async def test_a_directory_is_moved_to_the_end_over_what_a_file_has_left_there(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    for key in ("d/", "d/a", "d/b", "e/", "e/a", "e/b"):
        await files.upload(key, key[0].encode() * 10 if key[-1] != "/" else b"")
    await files.list("d")
    await files.list("e")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    for key in ("e/a", "e/b"):
        async with files.opened(key) as fh:
            await files.write(fh, b"XY", 4)
    await files.rename("e/a", "away")
    await files.rename("e/b", "d/other")
    files.journal.add("rename", files.bucket, "d/", {"to": [files.bucket, "e/"]})
    second = await restarted(filesystem, emulator, files)
    await second.fs.drain()
    await second.removed()
    assert await second.keys() == ["away", "e/", "e/a", "e/b", "e/other"]
    assert await second.stored("e/a") == await second.stored("e/b") == b"d" * 10
    assert await second.stored("away") == await second.stored("e/other") == b"eeeeXYeeee"
    assert second.journal.records() == []


async def test_what_a_file_has_left_stays_while_it_cannot_be_fetched(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    before = content(4 * MIB)
    changed = before[:4] + b"XY" + before[6:]
    files = await filesystem("cache", write_back="async")
    for key, data in (("d/", b""), ("d/a", b"moves"), ("e/", b""), ("e/a", before)):
        await files.upload(key, data)
    await files.list("e")
    emulator.faults.error("*MultipartUpload", "ServiceUnavailable", 503, count=0)
    async with files.opened("e/a") as fh:
        await files.write(fh, b"XY", 4)
    await files.rename("e/a", "away")
    files.journal.add("rename", files.bucket, "d/", {"to": [files.bucket, "e/"]})
    await filesystem.kill(files)
    emulator.faults.clear()
    trouble = emulator.faults.error("GetObject", "ServiceUnavailable", 503, count=0)
    second = await filesystem("cache", recovering=False)
    recovery = Recovery(second.fs, second.journal.records())
    await recovery.begin(60.0)
    assert trouble.struck
    emulator.faults.clear()
    assert await second.stored("e/a") == before
    assert await second.keys() == ["d/", "d/a", "e/", "e/a"]
    assert {"file", "rename"} <= {record.kind for record in second.journal.records()}
    await recovery.run(once=True)
    await second.removed()
    assert await second.keys() == ["away", "e/", "e/a"]
    assert await second.stored("e/a") == b"moves"
    assert await second.stored("away") == changed
    assert second.journal.records() == []


async def test_a_file_half_renamed_to_the_name_of_a_removed_one_with_the_same_bytes_is_not_removed(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await filesystem("cache")
    etag = await files.upload("a", b"same", headers=Headers(metadata={"mode": str(0o100600)}))
    assert await files.upload("b", b"same") == etag
    files.journal.add("delete", files.bucket, "b", {"etag": etag})
    files.journal.add("move", files.bucket, "a", {"to": [files.bucket, "b"], "etag": etag, "there": ""})
    await filesystem.kill(files)
    second = await filesystem("cache")
    await second.removed()
    (key,) = await second.keys()
    assert await second.mode(key) == 0o600
    assert second.journal.records() == []


async def test_a_removal_is_made_good_though_its_name_was_about_to_be_used(filesystem: Filesystems) -> None:
    files = await filesystem("cache")
    etag = await files.upload("a", b"source")
    removed = await files.upload("b", b"removed")
    files.journal.add("delete", files.bucket, "b", {"etag": removed})
    files.journal.add("move", files.bucket, "a", {"to": [files.bucket, "b"], "etag": etag, "there": ""})
    await filesystem.kill(files)
    second = await filesystem("cache")
    await second.removed()
    assert await second.keys() == ["a"]
    assert second.journal.records() == []


async def test_directories_removed_or_renamed_are_not_shown_until_they_are_removed(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "DELAY", LATER)
    files = await filesystem("cache")
    await files.upload("bare/a", b"y")  # without an object of its own
    for path in ("gone", "old", "old/inner", "stays"):
        await files.mkdir(path)
    await files.put("old/inner/a", b"x")
    await files.rmdir("gone")
    await files.rename("old", "new")
    await files.rename("bare", "stays/bare")
    await filesystem.kill(files)
    assert {"bare/a", "gone/", "old/", "old/inner/", "old/inner/a"} < set(await files.keys())
    second = await filesystem("cache", recovering=False)
    await Recovery(second.fs, second.journal.records()).begin(60.0)
    assert await second.list() == ["new", "stays"]
    assert await second.list("stays") == ["bare"]
    for name in ("gone", "old", "bare"):
        assert not await second.exists(name)
    monkeypatch.setattr(deleter, "DELAY", 0.01)
    await filesystem.kill(second)
    third = await filesystem("cache")
    await third.removed()
    assert await third.keys() == ["new/", "new/inner/", "new/inner/a", "stays/", "stays/bare/a"]
    assert third.journal.records() == []


async def test_a_directory_is_not_shown_while_anything_below_it_is_being_removed(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await filesystem("cache")
    await files.mkdir("d")
    for name in "abc":
        await files.put(f"d/{name}", b"x")
    monkeypatch.setattr(deleter, "DELAY", LATER)
    await files.rename("d", "e")
    await filesystem.kill(files)
    monkeypatch.setattr(deleter, "DELAY", 0.01)
    monkeypatch.setattr(deleter, "BATCH", 1)
    monkeypatch.setattr(deleter, "RETRY_DELAYS", (LATER,))
    emulator.faults.error("DeleteObject", "ServiceUnavailable", 503, key="*d/[bc]", count=0)
    second = await filesystem("cache", metadata_ttl=0.0)
    await until(lambda: second.fs.deleter.pending == 2)
    assert "d/" not in await second.keys()
    assert await second.list() == ["e"]
    emulator.faults.clear()
    await second.removed()
    assert await second.keys() == ["e/", "e/a", "e/b", "e/c"]
    assert await second.list() == ["e"]


async def test_a_directory_moved_to_a_name_removed_lately_is_shown(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "DELAY", 0.2)
    files = await filesystem("cache")
    await files.upload("bare/a", b"y")
    await files.mkdir("d", 0o700)
    await files.rmdir("d")
    await files.rename("bare", "d")
    await filesystem.kill(files)
    second = await filesystem("cache")
    assert await second.list() == ["d"]
    assert await second.mode("d") == 0o755
    await second.removed()
    assert await second.keys() == ["d/a"]


async def test_the_object_that_a_changed_file_has_left_does_not_come_back_when_its_name_was_about_to_be_used(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.upload("a", b"0123456789")
    etag = await files.upload("c", b"other")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    async with files.opened("a") as fh:
        await files.write(fh, b"XY", 4)
    await files.rename("a", "b")
    # A rename of c to a, until its copy.
    assert await files.fs.committer.leavings.rescue(files.bucket, "a")
    files.journal.add("move", files.bucket, "c", {"to": [files.bucket, "a"], "etag": etag, "there": ""})
    second = await restarted(filesystem, emulator, files)
    await second.fs.drain()
    await second.removed()
    assert await second.keys() == ["b", "c"]
    assert await second.stored("b") == b"0123XY6789"
    assert await second.stored("c") == b"other"
    assert second.journal.records() == []
