"""What a killed filesystem leaves, and what the next one makes of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.errors import ConfigError, COSError
from cosfs.fs import deleter
from cosfs.fs.place import lock_directory
from cosfs.fs.recovery import recover
from cosfs.fs.scratch import MEMORY_MAX
from cosfs.units import MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, content, until

LATER = 60.0


@pytest.fixture
async def first(filesystem: Filesystems, emulator: Emulator) -> Files:
    """A filesystem whose PUTs fail, in async mode: what is closed stays in the journal."""
    files = await filesystem("cache", write_back="async")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    emulator.faults.error("*MultipartUpload", "ServiceUnavailable", 503, count=0)
    return files


async def restarted(filesystem: Filesystems, emulator: Emulator, files: Files) -> Files:
    """Kill a filesystem; COS is well again; mount anew."""
    await filesystem.kill(files)
    emulator.faults.clear()
    return await filesystem("cache", write_back="async")


async def test_unsent_files_are_sent_by_the_next_mount(
    first: Files, filesystem: Filesystems, emulator: Emulator
) -> None:
    large = content(4 * MIB)
    await first.put("small", b"data")
    await first.put("large", large)
    await first.put("empty", b"")
    await first.chmod("small", 0o600)
    second = await restarted(filesystem, emulator, first)
    assert second.recovered.sent == 3
    assert await second.stored("small") == b"data"
    assert await second.stored("large") == large
    assert await second.stored("empty") == b""
    assert await second.list() == ["empty", "large", "small"]
    assert stat.S_ISREG((await second.stat("small")).attrs.mode)
    assert second.journal.records() == []
    assert list(second.journal.staging.iterdir()) == []


async def test_a_change_of_a_large_object_is_put_together_again(
    filesystem: Filesystems, emulator: Emulator, first: Files
) -> None:
    data = content(6 * MIB)
    emulator.faults.clear()
    await first.upload("a", data)
    first.tree.forget_all()
    emulator.faults.error("CreateMultipartUpload", "ServiceUnavailable", 503, count=0)
    async with first.opened("a") as fh:
        await first.write(fh, b"changed", 3 * MIB)
    second = await restarted(filesystem, emulator, first)
    assert await second.stored("a") == data[: 3 * MIB] + b"changed" + data[3 * MIB + 7 :]


async def test_what_was_not_closed_was_not_promised(
    first: Files, filesystem: Filesystems, emulator: Emulator
) -> None:
    fh = await first.create("a")
    await first.write(fh, b"data")
    second = await restarted(filesystem, emulator, first)
    assert await second.keys() == []
    assert list(second.journal.staging.iterdir()) == []


async def test_a_failed_close_is_made_good_by_the_next_mount(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache")
    emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    with pytest.raises(COSError):
        await files.put("a", b"precious")
    second = await restarted(filesystem, emulator, files)
    assert await second.stored("a") == b"precious"


async def test_somebody_was_faster_both_are_kept(
    first: Files, filesystem: Filesystems, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    await first.put("new", b"ours")
    emulator.faults.clear()
    await first.upload("new", b"theirs")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    second = await restarted(filesystem, emulator, first)
    assert await second.stored("new") == b"theirs"
    [other] = [key for key in await second.keys() if key != "new"]
    assert await second.stored(other) == b"ours"
    assert other in caplog.text
    assert second.journal.records() == []


async def test_an_object_that_is_gone_is_made_again_or_kept_in_part(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.upload("whole", b"0123456789")
    await files.upload("part", b"0123456789")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.put("whole", b"new")
    async with files.opened("part") as fh:
        await files.write(fh, b"XY", 4)
    await until(lambda: emulator.requests.errors["ServiceUnavailable"] >= 2)
    await files.delete("whole")
    await files.delete("part")
    second = await restarted(filesystem, emulator, files)
    assert await second.stored("whole") == b"new"
    [other] = [key for key in await second.keys() if key != "whole"]
    assert other.startswith("part.conflict-")
    assert (await second.stored(other) or b"")[4:6] == b"XY"
    assert second.journal.records() == []


async def test_a_put_that_arrived_before_the_crash_is_no_conflict(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0, after=True)
    await files.put("a", b"arrived")
    await until(lambda: emulator.requests.errors["ServiceUnavailable"])
    second = await restarted(filesystem, emulator, files)
    assert await second.keys() == ["a"]
    assert await second.stored("a") == b"arrived"
    assert second.fs.committer.conflicts.count == 0


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


async def test_trouble_at_the_start_does_not_put_it_off_until_the_next_mount(
    first: Files, filesystem: Filesystems, emulator: Emulator
) -> None:
    await first.put("a", b"data")
    await filesystem.kill(first)
    emulator.faults.clear()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=2)
    second = await filesystem("cache")
    assert await second.stored("a") == b"data"
    assert (second.recovered.sent, second.recovered.left) == (1, 0)


async def test_what_is_refused_stays_for_the_next_time(
    first: Files, filesystem: Filesystems, emulator: Emulator
) -> None:
    await first.put("a", b"data")
    await filesystem.kill(first)
    emulator.faults.clear()
    emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    second = await filesystem("cache")
    assert (second.recovered.sent, second.recovered.left) == (0, 1)
    assert len(second.journal.records()) == 1
    third = await restarted(filesystem, emulator, second)
    assert await third.stored("a") == b"data"


async def test_a_lost_staging_file_does_not_stop_the_rest(
    first: Files, filesystem: Filesystems, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    await first.put("a", b"lost" * MEMORY_MAX)  # what is small is in the journal itself
    await first.put("b", b"kept")
    path = next(r.body["content"]["path"] for r in first.journal.records() if r.key == "a")
    await trio.Path(path).unlink()
    second = await restarted(filesystem, emulator, first)
    assert await second.keys() == ["b"]
    assert "is missing" in caplog.text


async def test_recovered_files_are_seen_by_those_who_have_listed_already(
    first: Files, filesystem: Filesystems, emulator: Emulator
) -> None:
    await first.put("a", b"data")
    records = first.journal.records()
    await filesystem.kill(first)
    emulator.faults.clear()
    second = await filesystem("cache", recovering=False)
    assert await second.list() == []
    await recover(second.fs, records)
    assert await second.list() == ["a"]
    assert await second.get("a") == b"data"


async def test_killed_in_the_middle_of_sending(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem("cache", write_back="async")
    await files.list()
    emulator.faults.latency(0.1, "PutObject", count=1)
    emulator.requests.reset()
    await files.put("a", b"data")
    await until(lambda: emulator.requests["PutObject"])
    second = await restarted(filesystem, emulator, files)
    assert await second.keys() == ["a"]
    assert await second.stored("a") == b"data"
    assert second.journal.records() == []


def test_journals_are_not_shared(tmp_path: Path) -> None:
    """Two filesystems of one journal would send each other's files."""
    held = lock_directory(tmp_path)
    with pytest.raises(ConfigError, match=rf"in use by another mount \(pid {os.getpid()}\).*--cache-dir"):
        lock_directory(tmp_path)
    os.close(held)
    os.close(lock_directory(tmp_path))


async def test_unmounting_keeps_what_cannot_be_sent(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem("cache")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    fh = await files.create("open")
    await files.write(fh, b"still open")
    with pytest.raises(COSError):
        await files.put("closed", b"close failed")
    await filesystem.end(files)
    emulator.faults.clear()
    second = await filesystem("cache")
    assert second.recovered.sent == 2
    assert await second.stored("open") == b"still open"
    assert await second.stored("closed") == b"close failed"


async def test_giving_up_draining_loses_nothing(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem("cache", write_back="async")
    await files.list()
    emulator.faults.latency(0.3, "PutObject", count=1)
    large = content(4 * MIB)
    await files.put("small", b"data")
    await files.put("large", large)
    with trio.move_on_after(0.05):
        await files.fs.drain()
    second = await restarted(filesystem, emulator, files)
    await second.fs.drain()
    assert await second.keys() == ["large", "small"]
    assert await second.stored("small") == b"data"
    assert await second.stored("large") == large
    uploads = await trio.to_thread.run_sync(second.client.list_uploads, second.bucket)
    assert uploads.uploads == [] and second.journal.records() == []
