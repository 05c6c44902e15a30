"""Parts of a growing file on their way while it is still written."""

from __future__ import annotations

import os

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.fs.metadata import Change
from cosfs.fs.stream import PARTS_PER_SIZE, part_range
from cosfs.units import MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, content, counted, until

PART = MIB  # threshold 3 MiB, as in support.fs_settings


async def uploads(files: Files) -> list[str]:
    page = await trio.to_thread.run_sync(files.client.list_uploads, files.bucket)
    return [upload.key for upload in page.uploads]


def test_part_sizes_double_so_that_ten_thousand_reach_far() -> None:
    assert part_range(1, 8) == (0, 8)
    assert part_range(2, 8) == (8, 16)
    assert part_range(PARTS_PER_SIZE + 1, 8) == (8 * PARTS_PER_SIZE, 8 * PARTS_PER_SIZE + 16)
    before = 0
    for number in range(1, 3 * PARTS_PER_SIZE):
        start, stop = part_range(number, 8)
        assert start == before
        before = stop
    assert part_range(10_000, 8 * MIB)[1] > 5 * 1024**4


async def test_parts_are_sent_while_the_file_is_written(files: Files, emulator: Emulator) -> None:
    data = content(6 * MIB + 100)
    await files.list()
    with counted(emulator) as requests:
        fh = await files.create("a")
        await files.write(fh, data[: 5 * MIB])
        await until(lambda: emulator.requests["UploadPart"] >= 5)
        assert await files.stored("a") is None
        await files.write(fh, data[5 * MIB :], 5 * MIB)
        await files.close(fh)
    del requests["GetObject"]
    assert requests == {"CreateMultipartUpload": 1, "UploadPart": 7, "CompleteMultipartUpload": 1}
    assert await files.stored("a") == data
    assert await files.get("a") == data


async def test_what_was_summed_up_while_it_was_written_is_not_read_to_be_sent(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    preadv = os.preadv

    def counting(fd: int, buffers: list[memoryview], offset: int) -> int:
        counts.append(preadv(fd, buffers, offset))
        return counts[-1]

    monkeypatch.setattr(os, "preadv", counting)
    data = content(8 * MIB + 100)
    await files.put("a", data)
    assert sum(counts) == 3 * MIB + 100  # what was written before it began, and the end
    assert await files.stored("a") == data


async def test_attributes_set_before_the_end_need_one_copy(files: Files, emulator: Emulator) -> None:
    fh = await files.create("a", mode=0o644)
    await files.write(fh, content(4 * MIB))
    await files.chmod("a", 0o600)
    with counted(emulator) as requests:
        await files.close(fh)
        await files.fs.drain()
    assert requests["CopyObject"] == 1
    node = await files.file("a")
    assert node.info is not None and node.info.headers is not None
    assert node.info.headers.metadata["mode"] == str(0o100600)


async def test_without_such_attributes_no_copy_is_needed(files: Files, emulator: Emulator) -> None:
    with counted(emulator) as requests:
        await files.put("a", content(4 * MIB))
        await files.fs.drain()
    assert requests["CopyObject"] == 0
    assert await files.mode("a") == 0o644


async def test_a_part_that_is_written_again_is_sent_again(files: Files, emulator: Emulator) -> None:
    data = bytearray(content(5 * MIB))
    fh = await files.create("a")
    await files.write(fh, bytes(data))
    await until(lambda: emulator.requests["UploadPart"] >= 5)
    await files.write(fh, b"header", 10)
    data[10:16] = b"header"
    await files.write(fh, b"middle", 2 * PART - 3)  # across two parts
    data[2 * PART - 3 : 2 * PART + 3] = b"middle"
    await files.close(fh)
    assert await files.stored("a") == bytes(data)
    assert await files.get("a") == bytes(data)


async def test_a_part_written_while_it_is_sent_is_sent_again(files: Files, emulator: Emulator) -> None:
    data = bytearray(content(4 * MIB))
    emulator.faults.latency(0.1, "UploadPart")
    fh = await files.create("a")
    await files.write(fh, bytes(data))
    for i in range(20):
        offset = i * 200_000
        await files.write(fh, b"%06d" % i, offset)
        data[offset : offset + 6] = b"%06d" % i
    await files.close(fh)
    assert await files.stored("a") == bytes(data)


async def test_truncation_below_what_was_sent_gives_the_upload_up(files: Files, emulator: Emulator) -> None:
    data = content(5 * MIB)
    fh = await files.create("a")
    await files.write(fh, data)
    ino = (await files.file("a")).ino
    await files.fs.setattr(ino, Change(size=MIB + 5))
    assert await uploads(files) == []
    await files.write(fh, b"tail", MIB + 5)
    await files.close(fh)
    assert await files.stored("a") == data[: MIB + 5] + b"tail"
    assert await uploads(files) == []


async def test_truncation_and_growth_while_streaming(files: Files) -> None:
    data = content(4 * MIB)
    fh = await files.create("a")
    await files.write(fh, data)
    ino = (await files.file("a")).ino
    await files.fs.setattr(ino, Change(size=2 * MIB))
    await files.fs.setattr(ino, Change(size=5 * MIB))
    await files.write(fh, b"end", 5 * MIB)
    await files.close(fh)
    assert await files.stored("a") == data[: 2 * MIB] + bytes(3 * MIB) + b"end"


async def test_a_sparse_file_is_not_streamed_but_sent_whole(files: Files, emulator: Emulator) -> None:
    fh = await files.create("a")
    await files.write(fh, b"end", 4 * MIB)
    await files.close(fh)
    assert await files.stored("a") == bytes(4 * MIB) + b"end"


async def test_a_failed_part_is_sent_again_at_the_end(files: Files, emulator: Emulator) -> None:
    data = content(5 * MIB)
    emulator.faults.error("UploadPart", "InternalError", 500, count=2)
    fh = await files.create("a")
    await files.write(fh, data)
    await until(lambda: emulator.requests["UploadPart"] >= 5)
    await files.close(fh)
    assert await files.stored("a") == data


async def test_failure_at_the_end_leaves_nothing_and_is_set_right_later(
    files: Files, emulator: Emulator
) -> None:
    data = content(5 * MIB)
    fh = await files.create("a")
    await files.write(fh, data)
    emulator.faults.error("CompleteMultipartUpload", "InternalError", 500, count=2)
    with pytest.raises(COSError):
        await files.close(fh)
    node = await files.file("a")
    await until(lambda: not node.changed)
    assert await files.stored("a") == data
    assert await uploads(files) == []
    assert files.journal.records() == []


async def test_all_parts_refused_is_told_at_close(files: Files, emulator: Emulator) -> None:
    emulator.faults.error("UploadPart", "AccessDenied", 403, count=0)
    fh = await files.create("a")
    await files.write(fh, content(5 * MIB))
    with pytest.raises(COSError) as caught:
        await files.fs.flush(fh)
    assert caught.value.errno == 13
    assert await uploads(files) == []
    emulator.faults.clear()
    await files.close(fh)
    assert await uploads(files) == []


async def test_removal_while_streaming_gives_the_upload_up(files: Files) -> None:
    fh = await files.create("a")
    await files.write(fh, content(5 * MIB))
    await files.unlink("a")
    assert await uploads(files) == []
    await files.write(fh, b"more", 5 * MIB)
    await files.close(fh)
    assert await files.keys() == []
    assert await uploads(files) == []


async def test_rename_while_streaming_brings_the_bytes_to_the_new_name(files: Files) -> None:
    data = content(5 * MIB)
    fh = await files.create("a")
    await files.write(fh, data[: 4 * MIB])
    await files.rename("a", "b")
    await files.write(fh, data[4 * MIB :], 4 * MIB)
    await files.close(fh)
    assert await files.keys() == ["b"]
    assert await files.stored("b") == data
    assert await uploads(files) == []


async def test_a_conflict_of_a_streamed_file_leaves_no_upload(files: Files) -> None:
    data = content(4 * MIB)
    fh = await files.create("a")
    await files.write(fh, data)
    await files.upload("a", b"theirs")
    with pytest.raises(COSError):
        await files.close(fh)
    assert await files.stored("a") == b"theirs"
    [other] = [key for key in await files.keys() if key != "a"]
    assert await files.stored(other) == data
    assert await uploads(files) == []


async def test_a_file_cut_to_nothing_and_written_anew_is_streamed(files: Files, emulator: Emulator) -> None:
    await files.upload("a", content(4 * MIB, 1))
    new = content(4 * MIB, 2)
    fh = await files.open("a", os.O_RDWR | os.O_TRUNC)
    emulator.requests.reset()
    await files.write(fh, new)
    await until(lambda: emulator.requests["UploadPart"] >= 4)
    await files.close(fh)
    assert await files.stored("a") == new


async def test_an_upload_that_a_killed_mount_left_is_given_up_by_the_next(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache")
    fh = await files.create("a")
    emulator.requests.reset()
    await files.write(fh, content(4 * MIB))
    await until(lambda: emulator.requests["UploadPart"] >= 4)
    await filesystem.kill(files)
    assert await uploads(files) == ["a"]
    again = await filesystem("cache")
    assert await uploads(again) == []
    assert again.journal.records() == []


async def test_many_files_stream_side_by_side(files: Files) -> None:
    datas = {f"f{i}": content(4 * MIB, i) for i in range(4)}
    async with trio.open_nursery() as nursery:
        for name, data in datas.items():
            nursery.start_soon(files.put, name, data)
    for name, data in datas.items():
        assert await files.stored(name) == data
