"""Removals: batched, taken back, repeated, refused."""

from __future__ import annotations

import errno
import os
import time

import pytest
import trio

from cosfs.client import retry
from cosfs.emulator import Emulator
from cosfs.errors import FilesystemError
from cosfs.fs import deleter
from cosfs.fs.deleter import Deleter
from cosfs.fs.inodes import ROOT_INO
from cosfs.fs.journal import Record
from tests.fs.conftest import NEVER, Filesystems
from tests.fs.support import Files, counted, until


@pytest.fixture
def subject(files: Files) -> Deleter:
    return files.fs.deleter


async def uploaded(files: Files, *keys: str) -> None:
    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(files.upload, key, b"x")


async def test_many_removals_are_one_request(files: Files, subject: Deleter, emulator: Emulator) -> None:
    keys = [f"k{i}" for i in range(20)]
    await uploaded(files, *keys)
    with counted(emulator) as requests:
        for key in keys:
            subject.schedule(files.bucket, key)
        assert subject.pending == 20
        assert await subject.drain()
    assert requests == {"DeleteObjects": 1}
    assert await files.keys() == [] and subject.pending == 0
    assert files.journal.records() == []


async def test_batches_are_cut_at_the_limit(
    files: Files, subject: Deleter, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "BATCH", 10)
    keys = [f"k{i:02}" for i in range(25)]
    await uploaded(files, *keys)
    with counted(emulator) as requests:
        subject.schedule_all(files.bucket, [(key, "") for key in keys])
        assert await subject.drain()
    assert requests == {"DeleteObjects": 3}
    assert await files.keys() == []


async def test_unlink_is_answered_before_cos_knows(files: Files, emulator: Emulator) -> None:
    await uploaded(files, "a", "b")
    await files.list()
    held = emulator.faults.latency(NEVER, "Delete*")
    await files.unlink("a")
    assert not await files.exists("a")
    assert [(r.kind, r.key) for r in files.journal.records()] == [("delete", "a")]
    assert await files.keys() == ["a", "b"]
    emulator.faults.release(held)
    await files.removed()
    assert await files.keys() == ["b"]


async def test_removing_a_tree_costs_few_requests(files: Files, emulator: Emulator) -> None:
    await files.mkdir("d")
    await uploaded(files, *[f"d/k{i}" for i in range(30)])
    files.tree.forget_all()
    names = await files.list("d")
    began = time.monotonic()
    with counted(emulator) as requests:
        for name in names:
            await files.unlink(f"d/{name}")
        await files.rmdir("d")
        await files.removed()
    assert await files.keys() == []
    # A batch each DELAY: more of them where the machine is slow.
    batches = (time.monotonic() - began) // deleter.DELAY
    assert requests["DeleteObjects"] + requests["DeleteObject"] <= 3 + batches
    assert requests["HeadObject"] <= 30


async def test_fsync_of_the_directory_waits(files: Files, emulator: Emulator) -> None:
    await uploaded(files, "d/a", "d/b")
    node = await files.node("d")
    fh = await files.fs.opendir(node.ino)
    emulator.faults.latency(0.1, "DeleteObject", count=1)
    await files.unlink("d/a")
    await files.fs.fsyncdir(fh)
    assert await files.keys() == ["d/b"]
    files.fs.releasedir(fh)


async def test_writing_the_key_again_takes_the_removal_back(
    files: Files, subject: Deleter, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.upload("a", b"old")
    await files.list()
    monkeypatch.setattr(deleter, "DELAY", NEVER)
    with counted(emulator) as requests:
        await files.unlink("a")
        await files.put("a", b"new")
        assert subject.pending == 0
        await files.removed()
    assert requests["DeleteObject"] == 0
    assert await files.stored("a") == b"new"


async def test_writing_the_key_again_waits_for_a_removal_under_way(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"old")
    await files.list()
    emulator.faults.latency(0.1, "DeleteObject", count=1)
    emulator.requests.reset()
    await files.unlink("a")
    await until(lambda: emulator.requests["DeleteObject"])
    await files.put("a", b"new")
    await files.removed()
    assert await files.stored("a") == b"new"


async def test_a_removal_waiting_to_be_repeated_can_be_taken_back(
    files: Files, subject: Deleter, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "RETRY_DELAYS", (NEVER,))
    await files.upload("a", b"old")
    await files.list()
    emulator.faults.error("DeleteObject", "ServiceUnavailable", 503)
    await files.unlink("a")
    assert not await subject.drain()
    with trio.fail_after(90):
        await files.put("a", b"new")
    assert await files.stored("a") == b"new"
    assert subject.pending == 0 and files.journal.records() == []


async def test_claim_waits_for_a_try_and_takes_it_back_when_it_fails(
    files: Files, subject: Deleter, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "RETRY_DELAYS", (NEVER,))
    await files.upload("a", b"old")
    emulator.faults.latency(0.1, "DeleteObject", count=1)
    emulator.faults.error("DeleteObject", "ServiceUnavailable", 503, after=True)
    emulator.requests.reset()
    subject.schedule(files.bucket, "a")
    await until(lambda: emulator.requests["DeleteObject"])
    with trio.fail_after(90):
        assert await subject.claim(files.bucket, "a")
    assert not await subject.claim(files.bucket, "a")


async def test_removals_are_repeated_until_cos_takes_them(
    files: Files, subject: Deleter, emulator: Emulator
) -> None:
    await uploaded(files, "a", "b", "c")
    emulator.faults.error("Delete*", "ServiceUnavailable", 503, count=3)
    for key in "abc":
        subject.schedule(files.bucket, key)
    await until(lambda: subject.pending == 0)
    assert await files.keys() == []
    assert files.journal.records() == []


async def test_draining_is_bounded_when_cos_does_not_answer(
    files: Files, subject: Deleter, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "RETRY_DELAYS", (NEVER,))
    await files.upload("a", b"x")
    emulator.faults.error("DeleteObject", "ServiceUnavailable", 503, count=0)
    subject.schedule(files.bucket, "a")
    with trio.fail_after(90):
        assert not await subject.drain()
        assert not await subject.drain()
    emulator.faults.clear()
    assert await subject.drain()
    assert await files.keys() == []


async def test_what_may_not_be_removed_is_shown_again(
    files: Files, subject: Deleter, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    await uploaded(files, "d/a", "d/b")
    await files.list("d")
    emulator.faults.error("DeleteObject", "AccessDenied", 403)
    await files.unlink("d/a")
    assert await files.list("d") == ["b"]
    await files.removed()
    assert await files.list("d") == ["a", "b"]
    assert await files.get("d/a") == b"x"
    assert subject.failures == 1
    assert "could not be removed" in caplog.text
    assert files.journal.records() == []


async def test_scheduled_twice_is_removed_once(files: Files, subject: Deleter, emulator: Emulator) -> None:
    await files.upload("a", b"x")
    with counted(emulator) as requests:
        subject.schedule(files.bucket, "a")
        subject.schedule(files.bucket, "a")
        assert await subject.drain()
    assert requests == {"DeleteObject": 1}
    assert files.journal.records() == []


async def test_removed_again_while_the_first_removal_fails_is_removed(
    files: Files, subject: Deleter, emulator: Emulator
) -> None:
    await files.upload("a", b"x")
    emulator.faults.latency(0.05, "DeleteObject", count=1)
    emulator.faults.error("DeleteObject", "ServiceUnavailable", 503, after=True)
    emulator.requests.reset()
    subject.schedule(files.bucket, "a")
    await until(lambda: emulator.requests["DeleteObject"])
    subject.schedule(files.bucket, "a")
    await until(lambda: subject.pending == 0)
    assert await files.keys() == []
    assert files.journal.records() == []


async def test_a_careful_removal_spares_what_was_written_since(
    files: Files, subject: Deleter, caplog: pytest.LogCaptureFixture
) -> None:
    old = await files.upload("changed", b"old")
    same = await files.upload("same", b"same")
    await files.upload("changed", b"new")
    subject.schedule(files.bucket, "changed", old, careful=True)
    subject.schedule(files.bucket, "same", same, careful=True)
    subject.schedule(files.bucket, "gone", "etag", careful=True)
    assert await subject.drain()
    assert await files.keys() == ["changed"]
    assert "it stays" in caplog.text


async def test_a_removal_of_an_earlier_mount_is_adopted_and_can_be_claimed(
    files: Files, subject: Deleter
) -> None:
    etag = await files.upload("a", b"x")
    number = files.journal.add("delete", files.bucket, "a", {"etag": etag})
    record = Record(number, "delete", files.bucket, "a", {"etag": etag}, 0.0)
    subject.adopt(record)
    assert await subject.claim(files.bucket, "a")
    assert [r.id for r in files.journal.records()] == [number]  # until the key is written
    subject.replaced(files.bucket, "a")
    assert files.journal.records() == []
    subject.adopt(Record(files.journal.add("delete", files.bucket, "a", {"etag": etag}), *_rest(record)))
    assert await subject.drain()
    assert await files.keys() == [] and files.journal.records() == []


def _rest(record: Record) -> tuple[str, str, str, dict[str, str], float]:
    return record.kind, record.bucket, record.key, record.body, record.written


# --- files that are still open


async def test_a_removed_file_stays_readable_and_writable_until_it_is_closed(files: Files) -> None:
    await files.upload("a", b"0123456789")
    fh = await files.open("a", os.O_RDWR)
    await files.unlink("a")
    assert not await files.exists("a")
    assert await files.read(fh, 0, 10) == b"0123456789"
    await files.write(fh, b"XY", 3)
    assert await files.read(fh, 0, 10) == b"012XY56789"
    node = await files.fs.getattr(files.fs._files[fh].node.ino)
    assert node.unlinked
    assert await files.list() == []
    await files.close(fh)
    await files.removed()
    assert await files.keys() == []


async def test_a_removed_open_file_can_be_read_after_its_name_was_used_again(files: Files) -> None:
    await files.upload("a", b"the old one")
    fh = await files.open("a")
    await files.unlink("a")
    await files.put("a", b"the new one!")
    assert await files.read(fh, 0, 100) == b"the old one"
    await files.close(fh)
    await files.removed()
    assert await files.stored("a") == b"the new one!"
    assert await files.get("a") == b"the new one!"


async def test_closing_a_removed_file_spares_what_others_put_in_its_place(files: Files) -> None:
    await files.upload("a", b"the old one")
    fh = await files.open("a")
    await files.unlink("a")
    await files.upload("a", b"theirs")
    await files.close(fh)
    await files.removed()
    assert await files.stored("a") == b"theirs"


async def test_a_removed_open_file_does_not_come_back_in_later_listings(files: Files) -> None:
    await files.upload("d/a", b"x")
    fh = await files.open("d/a")
    await files.unlink("d/a")
    directory = await files.node("d")
    directory.tombstones.clear()  # type: ignore[attr-defined]  # as time would do
    files.tree.forget_all()
    assert await files.list("d") == []
    assert not await files.exists("d/a")
    await files.rmdir("d")
    files.tree.root.tombstones[b"d"] = ("", 0.0)
    files.tree.forget_all()
    assert await files.list() == []
    await files.close(fh)
    await files.removed()
    assert await files.keys() == []


# --- directories


async def test_a_directory_emptied_by_its_last_unlink_stays(files: Files, emulator: Emulator) -> None:
    await files.upload("d/a", b"x")
    await files.list("d")
    with counted(emulator) as requests:
        await files.unlink("d/a")
        await files.removed()
    assert requests["PutObject"] == 1
    assert await files.keys() == ["d/"]
    files.tree.forget_all()
    assert await files.list("d") == []


async def test_rmdir_of_a_directory_with_something_in_it(files: Files) -> None:
    await files.upload("d/a", b"x")
    with pytest.raises(FilesystemError) as caught:
        await files.rmdir("d")
    assert caught.value.errno == errno.ENOTEMPTY
    await files.unlink("d/a")
    await files.rmdir("d")
    await files.removed()
    assert await files.keys() == []


async def test_rmdir_sees_what_others_removed(files: Files) -> None:
    await files.mkdir("d")
    await files.put("d/a", b"x")
    await files.file("d/a")
    await files.delete("d/a")
    files.tree.forget_all()
    node = await files.node("d")
    node.recent.clear()  # type: ignore[attr-defined]  # as time would do
    await files.rmdir("d")
    assert not await files.exists("d")


async def test_a_marker_on_its_way_does_not_come_after_its_removal(files: Files, emulator: Emulator) -> None:
    await files.mkdir("d")
    emulator.faults.latency(0.1, "PutObject", count=1)
    emulator.requests.reset()
    await files.chmod("d", 0o700)
    await until(lambda: emulator.requests["PutObject"])
    await files.rmdir("d")
    await files.removed()
    assert await files.keys() == []
    assert (await files.fs.lookup(ROOT_INO, b".")).is_dir


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "ServiceUnavailable"])
async def test_what_is_to_be_removed_outlives_keys_that_have_ended(
    files: Files, subject: Deleter, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(deleter, "RETRY_DELAYS", (0.02,))
    monkeypatch.setattr(retry, "BASE_DELAY", 0.001)
    await uploaded(files, "a", "b", "c")
    status = 503 if code == "ServiceUnavailable" else 403
    faults = [
        emulator.faults.error(each, code, status, count=8) for each in ("DeleteObjects", "DeleteObject")
    ]
    for key in ("a", "b"):
        subject.schedule(files.bucket, key)
    await until(lambda: faults[0].struck)
    subject.schedule(files.bucket, "c")
    await until(lambda: faults[1].struck or faults[0].struck > 1)
    assert subject.pending == 3
    emulator.faults.clear()
    await until(lambda: subject.pending == 0)
    assert await files.keys() == []
    assert files.journal.records() == []


@pytest.mark.parametrize("how", ["removed", "renamed", "removed while open"])
async def test_what_was_sent_without_an_answer_is_not_left_under_a_name_that_is_gone(
    filesystem: Filesystems, emulator: Emulator, how: str
) -> None:
    files = await filesystem(write_back="async")
    await files.list()
    lost = emulator.faults.reset("PutObject", after=True, count=0)
    await files.put("file", b"sent")
    await until(lambda: lost.struck)
    if how == "renamed":
        await files.rename("file", "other")
    elif how == "removed":
        await files.unlink("file")
    else:
        async with files.opened("file"):
            await files.unlink("file")
    emulator.faults.clear()
    await until(lambda: not files.journal.records())
    assert await files.keys() == (["other"] if how == "renamed" else [])


async def test_what_somebody_else_put_there_is_spared(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem("cache", write_back="async")
    await files.list()
    refused = emulator.faults.error("PutObject", "ServiceUnavailable", 503, key="file", count=0)
    await files.put("file", b"ours")
    await until(lambda: refused.struck)
    away = emulator.faults.error("Delete*", "ServiceUnavailable", 503, count=0)
    held = emulator.faults.error("HeadObject", "ServiceUnavailable", 503, key="file", count=0)
    await files.unlink("file")
    await until(lambda: held.struck)
    emulator.faults.remove(refused)
    await files.upload("file", b"theirs")
    await filesystem.kill(files)
    emulator.faults.clear()
    second = await filesystem("cache", write_back="async")
    await until(lambda: not second.journal.records())
    assert not away.struck
    assert await second.stored("file") == b"theirs"


async def test_what_waits_is_sent_at_once_when_cos_is_back(
    files: Files, subject: Deleter, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleter, "RETRY_DELAYS", (3600.0,))
    await uploaded(files, "a")
    refused = emulator.faults.error("DeleteObject", "ServiceUnavailable", 503)
    subject.schedule(files.bucket, "a")
    await until(lambda: refused.struck and not subject._sending)
    subject.hurry()
    await until(lambda: subject.pending == 0)
    assert await files.keys() == []
