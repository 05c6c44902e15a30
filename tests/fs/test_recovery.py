"""What a killed filesystem leaves, and what the next one makes of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from cosfs.errors import ConfigError, COSError
from cosfs.fs import commit, uploads
from cosfs.fs.place import lock_directory
from cosfs.fs.recovery import Recovery, recover
from cosfs.fs.scratch import MEMORY_MAX
from cosfs.fs.staging import Staging
from cosfs.units import MIB
from tests.fs.conftest import Filesystems, restarted
from tests.fs.support import Files, content, counted, kept_files, nothing_staged, until

LATER = 60.0


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
    await nothing_staged(second)


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


async def test_a_file_that_was_closed_is_sent_though_it_is_written_again(
    first: Files, filesystem: Filesystems, emulator: Emulator
) -> None:
    await first.put("a", b"acknowledged")
    fh = await first.open("a", os.O_RDWR)
    await first.write(fh, b" and more", 12)
    await trio.sleep(0.1)
    second = await restarted(filesystem, emulator, first)
    assert (await second.stored("a") or b"").startswith(b"acknowledged")


async def test_modes_set_a_moment_ago_are_not_lost(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", LATER)
    files = await filesystem("cache")
    await files.mkdir("d")
    await files.put("d/a", b"x")
    await files.upload("theirs", b"before")
    files.tree.forget_all()
    await files.chmod("d", 0o700)
    await files.chmod("d/a", 0o600)
    await files.chmod("theirs", 0o600)
    await filesystem.kill(files)
    await files.upload("theirs", b"replaced")
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", 0.01)
    second = await filesystem("cache")
    assert second.recovered.attributes == 3
    assert await second.mode("d") == 0o700
    assert await second.mode("d/a") == 0o600
    assert await second.mode("theirs") == 0o644
    await second.fs.drain()
    assert second.journal.records() == []
    assert "theirs" in (second.fs.settings.cache_dir / "recovered" / "LIST.txt").read_text()
    third = await filesystem("other")
    assert await third.mode("d") == 0o700
    assert await third.mode("d/a") == 0o600


async def test_modes_left_are_seen_before_they_are_sent(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", LATER)
    files = await filesystem("cache")
    await files.mkdir("d")
    for key in ("d/a", "d/b"):
        await files.put(key, b"x")
    for path in ("d", "d/a", "d/b"):
        await files.chmod(path, 0o700)
    await filesystem.kill(files)
    second = await filesystem("cache", recovering=False)
    recovery = Recovery(second.fs, second.journal.records())
    with counted(emulator) as requests:
        await recovery.begin(60.0)
        assert [await second.mode(path) for path in ("d", "d/a", "d/b")] == [0o700] * 3
    assert requests["CopyObject"] == requests["PutObject"] == 0
    await second.chmod("d/a", 0o600)
    await second.rename("d/b", "d/c")
    await recovery.run(once=True)
    assert second.journal.records() == []
    third = await filesystem("other")
    assert [await third.mode(path) for path in ("d", "d/a", "d/c")] == [0o700, 0o600, 0o700]


async def test_files_left_are_seen_before_they_are_sent(
    first: Files, filesystem: Filesystems, emulator: Emulator
) -> None:
    emulator.faults.clear()
    await first.mkdir("d")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await first.put("d/a", b"data")
    await filesystem.kill(first)
    second = await filesystem("cache", recovering=False, write_back="async")
    recovery = Recovery(second.fs, second.journal.records())
    await recovery.begin(1.0)
    assert await second.get("d/a") == b"data"
    assert await second.list("d") == ["a"]
    await second.rename("d/a", "d/b")
    emulator.faults.clear()
    await recovery.run()
    await second.fs.drain()
    assert await second.keys() == ["d/", "d/b"]


async def test_an_upload_whose_answer_was_lost_is_found(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem("cache", write_back="async")
    await files.list()
    client, bucket = files.client, files.bucket
    theirs = await trio.to_thread.run_sync(client.create_upload, bucket, "large-too")
    emulator.faults.reset("CreateMultipartUpload", after=True, count=1)
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    monkeypatched = files.fs.committer.uploads
    large = content(4 * MIB)
    fh = await files.create("large")
    await files.write(fh, large)
    await until(lambda: [r for r in files.journal.records() if r.kind == "upload"])
    await until(lambda: emulator.requests["CreateMultipartUpload"] >= 1)
    await filesystem.kill(files)
    emulator.faults.clear()
    assert monkeypatched is files.fs.committer.uploads
    second = await filesystem("cache", write_back="async")
    found = await trio.to_thread.run_sync(client.list_uploads, bucket)
    assert [upload.upload_id for upload in found.uploads] == [theirs.upload_id]
    assert second.journal.records() == []


async def test_an_unmount_leaves_no_upload_whose_answer_is_under_way(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LOOK_DELAYS", (0.3,))
    files = await filesystem("cache")
    await files.list()
    emulator.faults.latency(0.2, "CreateMultipartUpload")
    fh = await files.create("large")
    await files.write(fh, content(4 * MIB))
    await until(lambda: [r for r in files.journal.records() if r.kind == "upload"])
    await trio.sleep(0.1)
    await files.truncate("large", 0)  # what is on its way is given up
    await files.close(fh)
    await filesystem.end(files)
    found = await trio.to_thread.run_sync(files.client.list_uploads, files.bucket)
    assert found.uploads == []
    second = await filesystem("cache", recovering=False)
    assert second.journal.records() == []


async def test_a_bucket_that_is_gone_leaves_the_bytes_here(
    client: CosClient, filesystem: Filesystems, emulator: Emulator
) -> None:
    bucket = await trio.to_thread.run_sync(emulator.create_bucket, "vanishing")
    files = await filesystem("cache", bucket="", write_back="async")
    await files.list(bucket)
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.put(f"{bucket}/a", b"nowhere to go")
    await filesystem.kill(files)
    emulator.faults.clear()
    await trio.to_thread.run_sync(client.delete_bucket, bucket)
    second = await filesystem("cache", bucket="")
    assert second.recovered.kept == 1
    assert list(kept_files(second).values()) == [b"nowhere to go"]
    assert second.journal.records() == []


async def test_a_failed_close_is_made_good_by_the_next_mount(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache")
    emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    with pytest.raises(COSError):
        await files.put("a", b"precious")
    second = await restarted(filesystem, emulator, files)
    assert await second.stored("a") == b"precious"


@pytest.mark.usefixtures("unhurried")
async def test_somebody_was_faster_both_are_kept(
    first: Files, filesystem: Filesystems, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    await first.put("new", b"ours")
    await filesystem.kill(first)
    emulator.faults.clear()
    await first.upload("new", b"theirs")
    second = await filesystem("cache", write_back="async")
    assert await second.stored("new") == b"theirs"
    [other] = [key for key in await second.keys() if key != "new"]
    assert await second.stored(other) == b"ours"
    assert other in caplog.text
    assert second.journal.records() == []


async def test_an_object_that_is_gone_is_made_again_or_kept_in_part(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    # With a cache on disk the unchanged bytes of the part may still be there.
    files = await filesystem("cache", write_back="async", cache_size=0)
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


async def test_a_file_that_grew_just_before_it_was_sent_is_known_again(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.put("a", b"first")
    await files.fs.drain()
    sender, arrived, grown = files.fs.committer.sender, trio.Event(), trio.Event()
    put_whole, fill = sender.put_whole, Staging.fill

    async def put_and_die(*args: Any, **kwargs: Any) -> None:
        await put_whole(*args, **kwargs)
        arrived.set()
        await trio.sleep_forever()

    async def grow_and_fill(content: Staging, *args: Any) -> None:
        if not grown.is_set():
            grown.set()
            await files.write(fh, b" third", 12)
        await fill(content, *args)

    monkeypatch.setattr(sender, "put_whole", put_and_die)
    fh = await files.open("a", os.O_WRONLY)
    await files.write(fh, b" second", 5)
    monkeypatch.setattr(Staging, "fill", grow_and_fill)
    await files.fs.flush(fh)
    await arrived.wait()
    assert await files.stored("a") == b"first second third"
    await filesystem.kill(files)
    second = await filesystem("cache")
    assert await second.keys() == ["a"]
    assert (await second.stored("a")).startswith(b"first second")
    assert second.fs.committer.conflicts.count == 0


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
    name = next(r.body["content"]["path"] for r in first.journal.records() if r.key == "a")
    (first.journal.staging / name).unlink()
    second = await restarted(filesystem, emulator, first)
    assert await second.keys() == ["b"]
    assert "is missing" in caplog.text
    assert second.recovered.kept == 1
    assert "is missing" in (second.fs.settings.cache_dir / "recovered" / "LIST.txt").read_text()


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


async def test_an_answer_that_was_lost_makes_no_conflict_with_ourselves(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.upload("old", b"0123456789")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0, after=True)
    await files.put("new", b"first")
    async with files.opened("old") as fh:
        await files.write(fh, b"AB", 1)
    await until(lambda: emulator.requests.errors["ServiceUnavailable"] >= 2)
    emulator.faults.clear()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.chmod("new", 0o600)
    async with files.opened("old") as fh:
        await files.write(fh, b"XY", 4)
    second = await restarted(filesystem, emulator, files)
    await second.fs.drain()
    assert await second.keys() == ["new", "old"]
    assert await second.stored("old") == b"0AB3XY6789"
    third = await filesystem("other")
    assert await third.mode("new") == 0o600
    assert second.fs.committer.conflicts.count == 0


async def test_attributes_remembered_on_disk_are_not_older_than_those_set_in_the_same_second(
    filesystem: Filesystems,
) -> None:
    files = await filesystem("cache")
    await files.put("a", b"x")
    await trio.sleep(0.3)  # what is remembered is written to the disk after 0.2 s
    await files.chmod("a", 0o600)
    await files.fs.drain()
    store = files.tree.heads._store
    assert store is not None
    with store._queue_lock:
        store._queued.clear()  # as a kill does
    await filesystem.kill(files)
    second = await filesystem("cache")
    assert await second.mode("a") == 0o600


async def test_a_kill_after_a_file_on_its_way_was_emptied_leaves_the_old_bytes(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    data = content(MEMORY_MAX * 2)
    emulator.faults.latency(0.3, "PutObject", key="a", count=1)
    first = await filesystem("cache", write_back="async")
    await first.put("a", data)
    node = await first.file("a")
    await until(lambda: node.being_sent)
    await first.fs.open(node.ino, os.O_WRONLY | os.O_TRUNC)
    second = await restarted(filesystem, emulator, first)
    assert await second.get("a") == data
    await second.fs.drain()
    assert await second.stored("a") == data
