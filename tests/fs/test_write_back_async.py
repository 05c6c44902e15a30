"""close() returns when the local disk has a file; COS gets it behind."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from contextlib import suppress

import pytest
import trio
import trio.testing

from cosfs.emulator import Emulator
from cosfs.errors import COSError, FilesystemError
from cosfs.fs import commit, openfiles, scratch, staging
from cosfs.units import MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import content, counted, open_below, until

KIB = 1024


async def test_async_close_returns_when_the_journal_has_it(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    fault = emulator.faults.latency(3600.0, "PutObject")
    fh = await files.create("a")
    await files.write(fh, b"data")
    await files.fs.flush(fh)
    assert await files.stored("a") is None
    [record] = files.journal.records()
    assert (record.kind, record.key, record.body["content"]["size"]) == ("file", "a", 4)
    await files.fs.release(fh)
    emulator.faults.release(fault)
    await files.fs.drain()
    assert await files.stored("a") == b"data"
    assert files.journal.records() == []


@pytest.mark.parametrize("slow", ["the disk", "COS"])
async def test_async_close_of_a_large_file_returns_when_one_of_both_has_it(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    files = await filesystem(write_back="async", multipart_threshold=2 * MIB, part_size=MIB)
    go_on = threading.Event()
    joining = emulator.faults.latency(3600.0 if slow == "COS" else 0.0, "CompleteMultipartUpload", count=1)
    if slow == "the disk":
        monkeypatch.setattr(staging, "_sync", lambda fd, directory: (go_on.wait(150), os.close(fd)))
    data = content(4 * MIB)
    fh = await files.create("big")
    await files.write(fh, data)
    with trio.fail_after(90):
        await files.fs.flush(fh)
    in_cos = "big" in await files.keys()
    go_on.set()
    emulator.faults.release(joining)
    assert in_cos == (slow == "the disk")
    await files.close(fh)
    await files.fs.drain()
    assert await files.stored("big") == data


@pytest.mark.parametrize("how", ["flush_soon", "flush_and_hear"])
async def test_async_what_is_sent_behind_is_never_a_part_of_what_is_written_in_its_place(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Nobody was promised that part, and a crash must not leave it in the place of what was."""
    monkeypatch.setattr(openfiles, "SETTLED_WITHIN", 0.01)
    monkeypatch.setattr(openfiles, "ASYNC_DELAY", 60.0)
    monkeypatch.setattr(commit, "ASK_WITHIN", 0.01)
    files = await filesystem(write_back="async")
    await files.put("f", b"closed")
    node, committer = await files.file("f"), files.fs.committer
    sent: list[bool] = []
    async with node.lock:  # as if something else was being done with the file
        if how == "flush_soon":
            committer.flush_soon(node, lambda: sent.append(True))
        else:
            await committer.flush_and_hear(node)
        fh = await files.fs.open(node.ino, os.O_WRONLY | os.O_TRUNC)
        await files.write(fh, b"half of what")
    await trio.testing.wait_all_tasks_blocked()
    async with node.lock:
        pass
    await trio.testing.wait_all_tasks_blocked()
    assert await files.stored("f") is None and not sent
    await files.write(fh, b"half of what comes")
    await files.close(fh)
    await files.fs.drain()
    assert await files.stored("f") == b"half of what comes"


async def test_async_close_fails_where_the_cache_directory_was_removed(filesystem: Filesystems) -> None:
    files = await filesystem(write_back="async")
    shutil.rmtree(files.journal.directory)
    fh = await files.create("a")
    await files.write(fh, b"data")
    with pytest.raises(OSError) as caught:
        await files.fs.flush(fh)
    assert caught.value.errno == errno.EIO
    await files.fs.release(fh)
    await files.fs.drain()
    assert await files.stored("a") == b"data"


async def test_async_fsync_waits_for_cos(filesystem: Filesystems) -> None:
    files = await filesystem(write_back="async")
    fh = await files.create("a")
    await files.write(fh, b"data")
    await files.fs.fsync(fh)
    assert await files.stored("a") == b"data"
    await files.close(fh)


async def test_async_temporary_file_renamed_over_is_one_put(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openfiles, "ASYNC_DELAY", 30.0)
    files = await filesystem(write_back="async")
    await files.upload("a", b"old")
    await files.stat("a")
    with counted(emulator) as requests:
        for data in (b"new", b"newer"):
            await files.put("a.tmp", data)
            await files.chmod("a.tmp", 0o600)
            await files.rename("a.tmp", "a")
        assert await files.get("a") == b"newer"
        await files.fs.drain()
    assert await files.stored("a") == b"newer"
    assert await files.keys() == ["a"]
    assert requests == {"HeadObject": 1, "PutObject": 1}


async def test_async_file_removed_before_it_was_sent_costs_nothing(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await filesystem(write_back="async")
    await files.list()
    with counted(emulator) as requests:
        fh = await files.create("a")
        await files.write(fh, b"data")
        await files.unlink("a")
        await files.close(fh)
        await files.fs.drain()
    assert requests == {}
    assert files.journal.records() == []


async def test_async_conflict_is_told_at_the_next_chance(filesystem: Filesystems) -> None:
    files = await filesystem(write_back="async")
    await files.upload("a", b"base")
    fh, other = await files.open("a", os.O_RDWR), await files.open("a", os.O_RDWR)
    await files.write(fh, b"ours!")
    await files.upload("a", b"theirs")
    await files.fs.flush(fh)
    await files.fs.release(fh)
    node = await files.file("a")
    await until(lambda: not node.changed)
    assert await files.stored("a") == b"theirs"
    assert len(await files.keys()) == 2
    with pytest.raises(FilesystemError) as caught:
        await files.fs.flush(other)
    assert caught.value.errno == errno.ESTALE
    await files.fs.flush(other)  # told once
    await files.fs.release(other)


async def test_async_row_follows_a_file_that_is_written_again(filesystem: Filesystems) -> None:
    files = await filesystem(write_back="async")
    await files.put("a", b"0123456789")
    await files.truncate("a", 3)
    await files.fs.drain()
    assert await files.stored("a") == b"012"
    assert files.journal.records() == []


async def test_what_the_journal_has_no_room_for_is_sent_all_the_same(filesystem: Filesystems) -> None:
    files = await filesystem(write_back="async")
    database = files.journal._db
    pages = database.execute("pragma page_count").fetchone()[0]
    fh = await files.create("a")
    await files.write(fh, content(50_000))
    files.journal._reserve.unlink()
    database.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(FilesystemError) as failure:
        await files.fs.flush(fh)
    assert failure.value.errno == errno.ENOSPC
    await files.fs.release(fh)
    await until(lambda: not files.fs.pending_files)
    assert await files.stored("a") == content(50_000)


async def test_async_files_outlive_an_outage_and_keys_that_end_in_it(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await filesystem(write_back="async", multipart_threshold=2 * MIB, part_size=MIB)
    await files.list()
    wanted = {f"f{size}": content(size) for size in (0, 1, 100 * KIB, 5 * MIB)}
    away = emulator.faults.reset("*", count=0)
    for name, data in wanted.items():
        await files.put(name, data)
    await until(lambda: away.struck > len(wanted))
    emulator.faults.remove(away)
    ended = emulator.faults.error("*", "ExpiredToken", 403, count=0)
    await until(lambda: ended.struck > len(wanted))
    assert await files.get("f1") == wanted["f1"]
    emulator.faults.clear()
    await until(lambda: not files.journal.records())
    assert {key: await files.stored(key) for key in await files.keys()} == wanted
    uploads = await trio.to_thread.run_sync(files.client.list_uploads, files.bucket)
    assert not uploads.uploads


async def test_async_files_that_wait_in_an_outage_use_no_descriptors_when_few_are_left(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "descriptors_at_hand", lambda: 0)
    files = await filesystem(write_back="async")
    await files.list()
    wanted = {f"f{number}": content(100 * KIB + number) for number in range(5)}
    away = emulator.faults.reset("*", count=0)
    for name, data in wanted.items():
        await files.put(name, data)
    fh = await files.open("f3", os.O_RDWR)
    await files.write(fh, b"changed", 70 * KIB)
    await files.close(fh)
    wanted["f3"] = wanted["f3"][: 70 * KIB] + b"changed" + wanted["f3"][70 * KIB + 7 :]
    await until(lambda: away.struck > len(wanted))
    await until(lambda: open_below(files.journal.staging) == [])  # one may be tried again just now
    assert await files.get("f3") == wanted["f3"]
    emulator.faults.clear()
    await until(lambda: not files.journal.records())
    assert {key: await files.stored(key) for key in await files.keys()} == wanted


@pytest.mark.parametrize("write_back", ["close", "async"])
async def test_files_that_were_tried_in_vain_use_no_descriptors_when_few_are_left(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, write_back: str
) -> None:
    """However they were sent: from memory, from the staging file, in parts."""
    monkeypatch.setattr(scratch, "descriptors_at_hand", lambda: 0)
    files = await filesystem(write_back=write_back, multipart_threshold=6 * MIB, part_size=MIB)
    await files.list()
    wanted = {f"f{size}": content(size) for size in (100 * KIB, 2 * MIB, 5 * MIB, 8 * MIB)}
    refused = [
        emulator.faults.error(what, "InvalidRequest", 400, count=0) for what in ("PutObject", "*Upload*")
    ]
    for name, data in wanted.items():
        with suppress(COSError):
            await files.put(name, data)
    fh = await files.open("f5242880", os.O_RDWR)
    assert await files.read(fh, 0, 6 * MIB) == wanted["f5242880"]
    with suppress(COSError):
        await files.close(fh)
    await until(lambda: sum(fault.struck for fault in refused) > len(wanted))
    await until(lambda: open_below(files.journal.staging) == [])
    for name, data in wanted.items():
        assert await files.get(name) == data
    await until(lambda: open_below(files.journal.staging) == [])  # one may be tried again just now
    emulator.faults.clear()
    await files.fs.drain()
    assert {key: await files.stored(key) for key in await files.keys()} == wanted


async def test_async_rename_in_an_outage_sends_the_new_name_only(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    await files.list()
    away = emulator.faults.error("*", "ServiceUnavailable", 503, count=0)
    await files.put("first", b"data")
    await until(lambda: away.struck > 2)
    await files.rename("first", "second")
    await files.rename("second", "third")
    emulator.faults.clear()
    emulator.requests.reset()
    await until(lambda: not files.journal.records())
    sent = [(entry.operation, entry.key) for entry in emulator.requests.log() if entry.status == 200]
    assert [(operation, key) for operation, key in sent if operation != "HeadObject"] == [
        ("PutObject", "third")
    ]
    assert await files.keys() == ["third"]


async def test_writers_wait_while_too_much_is_pending_and_nothing_is_dropped(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    limit = 100 * KIB
    files = await filesystem(write_back="async", max_pending=limit)
    away = emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    wanted = {f"{number:02}": content(30 * KIB, number) for number in range(10)}
    closed: list[str] = []

    async def write() -> None:
        for name, data in wanted.items():
            await files.put(name, data)
            closed.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await until(lambda: sum(len(wanted[name]) for name in closed) > limit)
        tries = away.struck
        await until(lambda: away.struck > tries + 10)  # meanwhile nothing more is taken
        assert len(closed) == 4
        assert await files.keys() == []
        emulator.faults.clear()
    assert closed == list(wanted)
    await until(lambda: not files.journal.records())
    assert {key: await files.stored(key) for key in await files.keys()} == wanted


@pytest.mark.parametrize("there", [False, True], ids=["new", "changed"])
async def test_a_file_whose_answer_was_lost_is_replaced_without_a_conflict(
    filesystem: Filesystems, emulator: Emulator, there: bool
) -> None:
    files = await filesystem(write_back="async")
    if there:
        await files.upload("old", b"before")
    await files.list()
    lost = emulator.faults.reset("PutObject", after=True, key="old", count=0)
    refused = emulator.faults.error("PutObject", "ServiceUnavailable", 503, key="new", count=0)
    await files.put("old", b"old")
    await files.put("new", b"new")
    await until(lambda: lost.struck and refused.struck)
    await files.rename("new", "old")
    emulator.faults.clear()
    await until(lambda: not files.journal.records())
    assert await files.keys() == ["old"]
    assert await files.stored("old") == b"new"
