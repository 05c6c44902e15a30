"""Files with holes: their zeros are made in COS and not sent."""

from __future__ import annotations

import errno
import os
from itertools import pairwise

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.errors import COSError, FilesystemError
from cosfs.fs import helpers
from cosfs.fs.extents import MAX_COPY, MAX_PARTS, Extents, plan_parts, plan_rest
from cosfs.fs.openfiles import FILE_MAX
from cosfs.units import GIB, MIB
from tests.fs.conftest import Filesystems, restarted
from tests.fs.support import Files, content, counted, until

PART = MIB  # as in support.fs_settings
SIZE = 40 * MIB + 123


async def is_clean(files: Files, *keys: str) -> None:
    """COS has these objects and nothing else, no upload either."""
    await files.removed()
    assert await files.keys() == sorted(keys)
    assert (await trio.to_thread.run_sync(files.client.list_uploads, files.bucket)).uploads == []


async def test_a_file_that_only_grew_is_made_in_cos(files: Files, emulator: Emulator) -> None:
    await files.list()
    with counted(emulator) as requests:
        fh = await files.create("f", flags=os.O_RDWR | os.O_CREAT)
        await files.truncate("f", SIZE)
        assert await files.read(fh, SIZE - 10, 100) == bytes(10)
        assert emulator.requests.total == 0
        await files.close(fh)
        await is_clean(files, "f")
    assert emulator.requests.bytes_received < PART + 50_000
    assert requests["UploadPart"] == 0
    assert requests["UploadPartCopy"] <= 16
    assert (await files.file("f")).size == SIZE
    assert await files.stored("f") == bytes(SIZE)
    assert await files.get("f") == bytes(SIZE)


async def test_what_is_written_between_holes_is_sent(files: Files, emulator: Emulator) -> None:
    data = bytearray(SIZE)
    await files.list()
    with counted(emulator) as requests:
        fh = await files.create("f")
        for number, position in enumerate((100, 9 * MIB - 3, 30 * MIB + 5, SIZE - 6)):
            data[position : position + 6] = b"written"[:6]
            await files.write(fh, b"written"[:6], position)
            assert number or not emulator.requests.total
        await files.close(fh)
    assert requests["UploadPart"] <= 4
    assert emulator.requests.bytes_received < 5 * PART + 50_000
    assert await files.stored("f") == bytes(data)
    await is_clean(files, "f")


async def test_an_object_that_grows_is_copied_and_its_hole_made(files: Files, emulator: Emulator) -> None:
    data = content(5 * MIB + 17)
    await files.upload("d/f", data)
    await files.stat("d/f")
    with counted(emulator):
        await files.truncate("d/f", SIZE)
        assert await files.get("d/f") == data + bytes(SIZE - len(data))
    assert emulator.requests.bytes_received < 3 * PART
    assert await files.stored("d/f") == data + bytes(SIZE - len(data))
    await is_clean(files, "d/f")


async def test_a_file_sent_while_it_was_written_gets_its_holes_too(files: Files, emulator: Emulator) -> None:
    data = content(6 * MIB)
    await files.list()
    with counted(emulator) as requests:
        fh = await files.create("f")
        await files.write(fh, data)
        await until(lambda: emulator.requests["UploadPart"] >= 6)
        await files.truncate("f", SIZE)
        await files.write(fh, b"again", 100)
        await files.write(fh, b"end", SIZE - 3)
        await files.close(fh)
    expected = data[:100] + b"again" + data[105:] + bytes(SIZE - len(data) - 3) + b"end"
    assert await files.stored("f") == expected
    assert emulator.requests.bytes_received < len(data) + 4 * PART
    assert requests["CreateMultipartUpload"] == 2  # of the file, and of the zeros
    await is_clean(files, "f")


async def test_preallocation_costs_nothing(files: Files, emulator: Emulator) -> None:
    """glibc's posix_fallocate() writes a zero into each page."""
    await files.list()
    with counted(emulator) as requests:
        fh = await files.create("f", flags=os.O_RDWR | os.O_CREAT)
        await files.write(fh, b"there", 4 * MIB)
        for offset in range(4095, 10 * MIB, 4096):
            if not 4 * MIB <= offset < 4 * MIB + 5:
                await files.fs.write(fh, offset, b"\0")
        assert (await files.file("f")).content.changed.total == 5  # type: ignore[union-attr]
        await files.close(fh)
    assert emulator.requests.bytes_received < 3 * PART
    assert requests["UploadPartCopy"]
    assert await files.stored("f") == bytes(4 * MIB) + b"there" + bytes(6 * MIB - 5)


async def test_a_zero_byte_is_written_where_there_was_something(files: Files) -> None:
    await files.upload("f", b"abcdef")
    async with files.opened("f") as fh:
        await files.write(fh, b"\0", 2)
        await files.write(fh, b"xyz", 8)
        await files.write(fh, b"\0", 9)
        await files.write(fh, b"\0", 12)
        assert await files.read(fh, 0, 100) == b"ab\0def\0\0x\0z\0\0"
    assert await files.stored("f") == b"ab\0def\0\0x\0z\0\0"


async def test_short_holes_are_sent(files: Files, emulator: Emulator) -> None:
    with counted(emulator) as requests:
        fh = await files.create("f")
        await files.truncate("f", 3 * PART + 5)
        await files.close(fh)
    assert (requests["PutObject"], requests["UploadPartCopy"]) == (0, 0)
    assert await files.stored("f") == bytes(3 * PART + 5)


async def test_the_zeros_are_not_shown_while_they_are_there(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(metadata_ttl=0.0)
    await files.mkdir("d")
    slow = emulator.faults.latency(3600.0, "UploadPartCopy")
    fh = await files.create("d/f")
    await files.truncate("d/f", SIZE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.close, fh)
        await until(lambda: emulator.requests["UploadPartCopy"])
        assert len(await files.keys("d/.cos-zeros")) == 1
        assert await files.list("d") == ["f"]
        emulator.faults.release(slow)
    assert await files.list("d") == ["f"]
    await is_clean(files, "d/", "d/f")


async def test_no_other_mount_shows_or_moves_the_zeros(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"d/.cos-zeros-{'0f' * 8}"
    files = await filesystem(metadata_ttl=0.0)
    await files.upload("d/file", b"x")
    await files.upload(key, bytes(10))
    await files.upload("d/.cos-zeros-of-mine", b"a name of somebody")
    assert sorted(await files.list("d")) == [".cos-zeros-of-mine", "file"]
    await files.rename("d", "e")
    await files.removed()
    assert await files.keys() == [key, "e/.cos-zeros-of-mine", "e/file"]
    monkeypatch.setattr(helpers, "SHOWN_AFTER", -60.0)  # what nobody has removed for a day is shown
    later = await filesystem()
    assert await later.list("d") == [key.removeprefix("d/")]


async def test_a_failure_is_told_and_leaves_nothing(files: Files, emulator: Emulator) -> None:
    emulator.faults.error("UploadPartCopy", "AccessDenied", 403, count=0)
    fh = await files.create("f")
    await files.truncate("f", SIZE)
    with pytest.raises(COSError):
        await files.fs.flush(fh)
    await is_clean(files)
    emulator.faults.clear()
    await files.close(fh)
    assert await files.stored("f") == bytes(SIZE)


async def test_nothing_stays_of_a_mount_that_was_killed(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem("cache", write_back="async")
    await files.list()
    emulator.faults.latency(30, "UploadPartCopy")
    fh = await files.create("f")
    await files.write(fh, b"x", SIZE)
    await files.close(fh)
    await until(lambda: emulator.requests["PutObject"])
    await until(lambda: emulator.requests["UploadPartCopy"])
    again = await restarted(filesystem, emulator, files)
    await again.fs.drain()
    await is_clean(again, "f")
    assert await again.stored("f") == bytes(SIZE) + b"x"


async def test_a_bucket_with_versioning_keeps_no_zeros(files: Files) -> None:
    document = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    await trio.to_thread.run_sync(files.client.put_document, files.bucket, "versioning", document)
    fh = await files.create("f")
    await files.truncate("f", SIZE)
    await files.close(fh)
    await files.removed()
    page = await trio.to_thread.run_sync(files.client.list_versions, files.bucket)
    assert {version.key for version in page.versions} == {"f"}


async def test_more_than_an_object_can_have_is_refused(files: Files, emulator: Emulator) -> None:
    fh = await files.create("f")
    for size in (FILE_MAX + 1, 1 << 60):
        with pytest.raises(FilesystemError) as caught:
            await files.truncate("f", size)
        assert caught.value.errno == errno.EFBIG
        with pytest.raises(FilesystemError) as caught:
            await files.fs.write(fh, size - 1, b"x")
        assert caught.value.errno == errno.EFBIG
    await files.close(fh)
    assert await files.stored("f") == b""


@pytest.mark.parametrize("size", [10 * GIB, 1024 * GIB, 20 * 1024 * GIB, FILE_MAX])
def test_plans_of_huge_holes_send_next_to_nothing(size: int) -> None:
    max_copy = min(MAX_COPY, max(GIB, -(-size // 8000)))
    dirty = Extents([(0, 512), (size // 2, size // 2 + 4096), (size - 512, size)])
    for plan in (
        plan_parts(size, dirty, 0, 8 * MIB, max_copy=max_copy, zeros=8 * MIB, align=MIB),
        plan_parts(size, dirty, 5 * GIB, 8 * MIB, max_copy=max_copy, zeros=8 * MIB, align=MIB),
        plan_rest(100, 99 * 8 * MIB, size, dirty, 8 * MIB, max_copy=max_copy, zeros=8 * MIB),
    ):
        assert [part.number for part in plan] == list(range(plan[0].number, plan[0].number + len(plan)))
        assert all(one.stop == other.start for one, other in pairwise(plan))
        assert plan[-1].stop == size
        assert sum(part.stop - part.start for part in plan if part.source == "send") < 8 * MIB
        assert max(part.stop - part.start for part in plan) <= MAX_COPY
        assert plan[-1].number <= MAX_PARTS
        zeros = [part.stop - part.start for part in plan if part.source == "zeros"]
        assert len(zeros) + max(zeros) / (8 * MIB) < max(100, 1.3 * size / GIB)  # requests
