"""Making COS hold what the mount holds, and what happens when that fails."""

from __future__ import annotations

import errno
import os
import stat

import pytest
import trio

from cosfs.client import retry
from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.fs.metadata import Change
from cosfs.units import MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, content, counted, nothing_staged, requests_sent, until

KIB = 1024


# --- what a file costs


async def test_chmod_chown_and_times_before_close_go_with_the_bytes(files: Files, emulator: Emulator) -> None:
    await files.list()
    with counted(emulator) as requests:
        fh = await files.create("a")
        await files.write(fh, b"data")
        ino = (await files.file("a")).ino
        await files.fs.setattr(ino, Change(mode=0o600))
        await files.fs.setattr(ino, Change(uid=7, gid=8))
        await files.fs.setattr(ino, Change(mtime_ns=1_500_000_000_123_456_789, atime_ns=1))
        await files.close(fh)
        await files.fs.drain()
    assert requests == {"PutObject": 1}
    stored = await files.metadata("a")
    assert stored["mode"] == str(stat.S_IFREG | 0o600)
    assert (stored["uid"], stored["gid"], stored["mtime"]) == ("7", "8", "1500000000")
    assert (await files.stat("a")).attrs.mtime_ns == 1_500_000_000_123_456_789


async def test_an_empty_file_is_sent_at_close_even_if_it_was_opened_for_reading(
    files: Files, emulator: Emulator
) -> None:
    await files.list()
    with counted(emulator) as requests:
        await files.close(await files.create("a"))
        await files.close(await files.create("b", flags=os.O_RDONLY | os.O_CREAT))
    assert requests == {"PutObject": 2}
    assert await files.keys() == ["a", "b"]


async def test_nothing_is_sent_before_close_and_nothing_twice(files: Files, emulator: Emulator) -> None:
    with counted(emulator) as requests:
        fh = await files.create("a")
        for i in range(10):
            await files.write(fh, b"x" * 1000, i * 1000)
        assert emulator.requests["PutObject"] == 0
        await files.fs.flush(fh)
        await files.fs.flush(fh)
        await files.fs.fsync(fh)
        await files.fs.release(fh)
        await files.fs.drain()
    assert requests["PutObject"] == 1


async def test_a_reader_sees_what_is_being_written(files: Files) -> None:
    fh = await files.create("a")
    await files.write(fh, b"hello")
    assert await files.get("a") == b"hello"
    assert (await files.stat("a")).size == 5  # type: ignore[attr-defined]
    assert await files.stored("a") is None
    await files.close(fh)
    assert await files.stored("a") == b"hello"


async def test_changing_an_object_costs_a_head_and_a_put(files: Files, emulator: Emulator) -> None:
    await files.put("a", b"hello world")
    with counted(emulator) as requests:
        async with files.opened("a") as fh:
            await files.write(fh, b"J")
    assert requests == {"HeadObject": 1, "PutObject": 1}
    assert await files.stored("a") == b"Jello world"


async def test_append(files: Files) -> None:
    await files.upload("a", b"one,")
    for word in (b"two,", b"three"):
        async with files.opened("a", os.O_WRONLY | os.O_APPEND) as fh:
            await files.fs.write(fh, 0, word)
    assert await files.stored("a") == b"one,two,three"


async def test_sparse_growth_is_zeros(files: Files) -> None:
    async with files.opened("a", os.O_RDWR | os.O_CREAT) as fh:
        await files.write(fh, b"x", 1000)
        assert await files.read(fh, 0, 2000) == bytes(1000) + b"x"
    await files.truncate("a", 1500)
    assert await files.stored("a") == bytes(1000) + b"x" + bytes(499)


async def test_truncate_of_a_closed_file_is_sent_at_once(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"0123456789")
    await files.truncate("a", 4)
    assert await files.stored("a") == b"0123"
    node = await files.file("a")
    assert node.content is None


async def test_opening_with_truncation_needs_none_of_the_old_bytes(files: Files, emulator: Emulator) -> None:
    await files.upload("a", content(200 * KIB))
    await files.stat("a")
    with counted(emulator) as requests:
        await files.put("a", b"new")
    assert requests == {"HeadObject": 1, "PutObject": 1}


# --- large files


async def test_a_change_in_the_middle_of_a_large_object_sends_only_that(
    files: Files, emulator: Emulator
) -> None:
    data = bytearray(content(8 * MIB))
    await files.upload("a", bytes(data))
    await files.stat("a")
    with counted(emulator) as requests:
        async with files.opened("a") as fh:
            await files.write(fh, b"X" * 4096, 4 * MIB)
    data[4 * MIB : 4 * MIB + 4096] = b"X" * 4096
    assert await files.stored("a") == bytes(data)
    assert requests["UploadPartCopy"] + requests["UploadPart"] <= 4
    assert requests["CreateMultipartUpload"] == requests["CompleteMultipartUpload"] == 1
    assert emulator.requests.bytes_received < 3 * MIB
    assert await files.get("a") == bytes(data)


async def test_a_small_change_fetches_the_block_it_is_in_unless_that_is_here(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(block_size=MIB)
    data = content(8 * MIB)
    await files.upload("f", data)
    for position, gets in ((3 * MIB + 1234, 1), (5 * MIB - 2, 1), (6 * MIB + 77, 0)):
        if not gets:
            async with files.opened("f", os.O_RDONLY) as fh:
                await files.fs.read(fh, position, 100)  # as programs do before they change something
        with counted(emulator) as requests:
            async with files.opened("f", os.O_RDWR) as fh:
                await files.write(fh, b"changed", position)
        data = data[:position] + b"changed" + data[position + 7 :]
        assert requests["GetObject"] == gets
        assert emulator.requests.bytes_sent < gets * MIB + 50_000
        assert emulator.requests.bytes_received < MIB + 50_000
    assert await files.stored("f") == data


async def test_append_to_a_large_object_downloads_nothing(files: Files, emulator: Emulator) -> None:
    data = content(5 * MIB)
    await files.upload("a", data)
    await files.stat("a")
    with counted(emulator) as requests:
        async with files.opened("a", os.O_WRONLY | os.O_APPEND) as fh:
            await files.fs.write(fh, 0, b"tail")
        assert emulator.requests.bytes_sent < 64 * KIB
    assert await files.stored("a") == data + b"tail"
    assert sum(requests.values()) <= 6


async def test_truncating_a_large_object_copies_what_stays(files: Files, emulator: Emulator) -> None:
    data = content(7 * MIB)
    await files.upload("a", data)
    await files.truncate("a", 5 * MIB + 17)
    assert await files.stored("a") == data[: 5 * MIB + 17]
    await files.truncate("a", 6 * MIB)
    assert await files.stored("a") == data[: 5 * MIB + 17] + bytes(MIB - 17)


async def test_a_failed_part_leaves_no_upload_behind(files: Files, emulator: Emulator) -> None:
    data = content(6 * MIB)
    await files.upload("a", data)
    emulator.faults.error("UploadPart", "AccessDenied", 403, count=0)
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"changed", 3 * MIB)
    with pytest.raises(COSError):
        await files.fs.flush(fh)
    uploads = await trio.to_thread.run_sync(files.client.list_uploads, files.bucket)
    assert uploads.uploads == []
    assert await files.stored("a") == data
    emulator.faults.clear()
    await files.close(fh)
    assert await files.stored("a") == data[: 3 * MIB] + b"changed" + data[3 * MIB + 7 :]


# --- failure


async def test_a_failed_close_tells_keeps_the_bytes_and_tries_again(files: Files, emulator: Emulator) -> None:
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=3)
    fh = await files.create("a")
    await files.write(fh, b"precious")
    with pytest.raises(COSError):
        await files.fs.flush(fh)
    [record] = files.journal.records()
    assert (record.kind, record.key) == ("file", "a")
    await files.fs.release(fh)
    node = await files.file("a")
    await until(lambda: not node.changed)
    assert await files.stored("a") == b"precious"
    assert files.journal.records() == []
    await nothing_staged(files)


async def test_a_failed_close_is_tried_again_though_a_reader_has_the_file_open(
    files: Files, emulator: Emulator
) -> None:
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=2)
    fh = await files.create("a")
    reader = await files.open("a")
    await files.write(fh, b"precious")
    with pytest.raises(COSError):
        await files.close(fh)
    node = await files.file("a")
    await until(lambda: not node.changed)
    assert await files.stored("a") == b"precious"
    await files.close(reader)


async def test_a_failed_truncate_is_told_and_tried_again(files: Files, emulator: Emulator) -> None:
    await files.upload("a", b"0123456789")
    await files.stat("a")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=2)
    with pytest.raises(COSError):
        await files.truncate("a", 3)
    node = await files.file("a")
    await until(lambda: not node.changed)
    assert await files.stored("a") == b"012"


async def test_denied_is_eacces(files: Files, emulator: Emulator) -> None:
    emulator.faults.error("PutObject", "AccessDenied", 403)
    fh = await files.create("a")
    with pytest.raises(COSError) as caught:
        await files.fs.flush(fh)
    assert caught.value.errno == errno.EACCES
    await files.close(fh)


async def test_a_full_disk_is_told_to_the_writer_and_nothing_incomplete_is_sent(
    files: Files, emulator: Emulator
) -> None:
    fh = await files.create("a")
    await files.write(fh, b"abc")
    node = await files.file("a")
    assert node.content is not None
    good, full = node.content.fileno(), os.open("/dev/full", os.O_RDWR)
    node.content._scratch._fd = full
    with pytest.raises(OSError, match="No space left"):
        await files.fs.write(fh, 3, b"def")
    node.content._scratch._fd = good
    os.close(full)
    await files.close(fh)
    assert await files.stored("a") == b"abc"


async def test_drain_sends_what_sending_left_to_do(files: Files, emulator: Emulator) -> None:
    fh = await files.create("big")
    await files.write(fh, content(4 * MIB))
    await files.chmod("big", 0o600)
    await files.fs.drain()
    assert (await files.metadata("big"))["mode"] == str(stat.S_IFREG | 0o600)
    assert files.fs.pending_files == []
    await files.close(fh)


# --- at the same time


async def test_a_write_while_the_file_is_sent_is_sent_after_it(files: Files, emulator: Emulator) -> None:
    fh = await files.create("a")
    await files.write(fh, b"0123456789")
    emulator.faults.latency(0.1, "PutObject", count=1)
    emulator.requests.reset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.fs.fsync, fh)
        await requests_sent(emulator, "PutObject")
        await files.write(fh, b"XYZ", 8)
    node = await files.file("a")
    assert node.info is not None and node.info.size == 10
    assert node.dirty and node.size == 11
    await files.close(fh)
    assert await files.stored("a") == b"01234567XYZ"
    assert await files.get("a") == b"01234567XYZ"


async def test_a_truncate_while_the_file_is_sent_is_sent_after_it(files: Files, emulator: Emulator) -> None:
    fh = await files.create("a")
    await files.write(fh, b"0123456789")
    emulator.faults.latency(0.1, "PutObject", count=1)
    emulator.requests.reset()
    ino = (await files.file("a")).ino
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.fs.fsync, fh)
        await requests_sent(emulator, "PutObject")
        await files.fs.setattr(ino, Change(size=4))
        await files.fs.setattr(ino, Change(size=6))
    await files.close(fh)
    assert await files.stored("a") == b"0123\0\0"


async def test_a_large_file_is_not_changed_while_it_is_sent(files: Files, emulator: Emulator) -> None:
    data = content(6 * MIB)
    await files.upload("a", data)
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"first", 2 * MIB)
    emulator.faults.latency(0.1, "UploadPart", count=1)
    emulator.requests.reset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.fs.fsync, fh)
        await requests_sent(emulator, "UploadPart")
        await files.write(fh, b"second", 4 * MIB)
        await files.write(fh, b"third", 2 * MIB)
    await files.close(fh)
    expected = bytearray(data)
    expected[2 * MIB : 2 * MIB + 5] = b"third"
    expected[4 * MIB : 4 * MIB + 6] = b"second"
    assert await files.stored("a") == bytes(expected)


async def test_several_writers_of_a_large_file_go_on_when_it_is_sent(
    files: Files, emulator: Emulator
) -> None:
    """The kernel writes a mapping back with many writes at once."""
    data = content(6 * MIB)
    await files.upload("a", data)
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"first", 2 * MIB)
    emulator.faults.latency(0.1, "UploadPart", count=1)
    emulator.requests.reset()
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(files.fs.fsync, fh)
            await requests_sent(emulator, "UploadPart")
            for i in range(5):
                nursery.start_soon(files.write, fh, b"%d" % i, i * MIB)
    await files.close(fh)
    expected = bytearray(data)
    expected[2 * MIB : 2 * MIB + 5] = b"first"
    for i in range(5):
        expected[i * MIB : i * MIB + 1] = b"%d" % i
    assert await files.stored("a") == bytes(expected)


async def test_two_handles_closed_at_the_same_time_send_once(files: Files, emulator: Emulator) -> None:
    await files.list()
    with counted(emulator) as requests:
        one = await files.create("a")
        two = await files.open("a", os.O_RDWR)
        await files.write(one, b"one")
        await files.write(two, b"two", 3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(files.close, one)
            nursery.start_soon(files.close, two)
    assert await files.stored("a") == b"onetwo"
    assert requests["PutObject"] == 1


async def test_unlink_while_the_file_is_sent_removes_it(files: Files, emulator: Emulator) -> None:
    fh = await files.open("a", os.O_RDWR | os.O_CREAT)
    await files.write(fh, b"data")
    emulator.faults.latency(0.1, "PutObject", count=1)
    emulator.requests.reset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.fs.fsync, fh)
        await requests_sent(emulator, "PutObject")
        await files.unlink("a")
    assert await files.read(fh, 0, 10) == b"data"
    await files.close(fh)
    await files.removed()
    assert await files.keys() == []
    assert files.journal.records() == []


async def test_a_background_retry_and_a_close_do_not_get_in_each_others_way(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(write_back="async")
    for i in range(5):
        fh = await files.open("a", os.O_RDWR | os.O_CREAT)
        await files.write(fh, b"%d" % i, i)
        await files.close(fh)
        fh = await files.open("a", os.O_RDWR)
        await files.write(fh, b"x", 10 + i)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(files.fs.fsync, fh)
            nursery.start_soon(files.close, fh)
    await files.fs.drain()
    assert await files.stored("a") == b"01234" + bytes(5) + b"xxxxx"
    assert files.journal.records() == []


async def test_an_upload_that_cannot_be_given_up_now_is_given_up_later(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BASE_DELAY", 0.001)
    await files.upload("a", content(6 * MIB))
    emulator.faults.error("UploadPart", "AccessDenied", 403, count=0)
    refused = emulator.faults.error("AbortMultipartUpload", "ExpiredToken", 403, count=0)
    fh = await files.open("a", os.O_RDWR)
    await files.write(fh, b"changed", 3 * MIB)
    with pytest.raises(COSError):
        await files.fs.flush(fh)
    assert refused.struck
    assert [record.kind for record in files.journal.records() if record.kind == "upload"] == ["upload"]
    emulator.faults.clear()
    await until(lambda: "upload" not in [record.kind for record in files.journal.records()])
    uploads = await trio.to_thread.run_sync(files.client.list_uploads, files.bucket)
    assert uploads.uploads == []
    await files.close(fh)
