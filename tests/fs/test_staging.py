"""The local state of one file: which bytes are whose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
import trio.testing

from cosfs.errors import FilesystemError
from cosfs.fs import scratch
from cosfs.fs.fetcher import Fetcher, Source
from cosfs.fs.staging import Staging
from tests.fs.support import Files, content, open_below

KIB = 1024


@pytest.fixture
def fetcher(files: Files) -> Fetcher:
    return files.fs.fetcher


async def base_of(files: Files, data: bytes) -> Source:
    etag = await files.upload("base", data)
    return Source(files.bucket, "base", etag, len(data))


def in_use(directory: Path) -> int:
    """How many staging files there are."""
    return len(list(directory.iterdir()))


async def read_all(staging: Staging, fetcher: Fetcher) -> bytes:
    return bytes(await staging.read(fetcher, 0, staging.size + 100))


async def test_bytes_come_from_here_from_the_object_and_from_nowhere(
    files: Files, fetcher: Fetcher, tmp_path: Path
) -> None:
    staging = Staging(tmp_path, await base_of(files, b"abcdefghij"))
    await staging.write(2, b"XY")
    await staging.write(15, b"Z")
    assert await read_all(staging, fetcher) == b"abXYefghij\0\0\0\0\0Z"
    assert list(staging.changed) == [(2, 4), (15, 16)]


async def test_what_was_cut_off_stays_cut_off(files: Files, fetcher: Fetcher, tmp_path: Path) -> None:
    staging = Staging(tmp_path, await base_of(files, b"abcdefghij"))
    staging.truncate(4)
    staging.truncate(8)
    assert await read_all(staging, fetcher) == b"abcd\0\0\0\0"
    await staging.write(6, b"X")
    assert await read_all(staging, fetcher) == b"abcd\0\0X\0"


async def test_no_staging_file_before_the_first_write(tmp_path: Path) -> None:
    staging = Staging(tmp_path, None)
    staging.touch()
    assert staging.path is None and in_use(tmp_path) == 0
    assert staging.snapshot() == b""
    await staging.write(0, b"x")
    assert staging.path is not None and staging.path.stat().st_mode & 0o777 == 0o600
    staging.close()
    assert in_use(tmp_path) == 0


async def test_staging_files_of_an_earlier_process_are_not_in_the_way(tmp_path: Path) -> None:
    made = [Staging(tmp_path, None) for _ in range(50)]
    for staging in made:
        await staging.write(0, b"x")
        staging.fileno()
        staging.close(keep=True)
    assert in_use(tmp_path) == 50


async def test_fill_does_not_overwrite_what_is_being_written(
    files: Files, fetcher: Fetcher, tmp_path: Path
) -> None:
    staging = Staging(tmp_path, await base_of(files, b"o" * (300 * KIB)))
    data = content(200 * KIB)  # large enough to be written in a thread
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(staging.fill, fetcher)
            nursery.start_soon(staging.write, 0, data)
    assert await read_all(staging, fetcher) == data + b"o" * (100 * KIB)
    assert staging.valid.covers(0, 300 * KIB)


async def test_a_write_during_sending_is_all_that_is_sent_next(tmp_path: Path) -> None:
    staging = Staging(tmp_path, None)
    await staging.write(0, b"0123456789")
    version = staging.begin_send()
    await staging.write(3, b"x")
    staging.sent(Source("b", "k", "etag", 10), version)
    assert staging.dirty
    assert list(staging.changed) == [(3, 4)]
    assert staging.base_limit == 10


async def test_holes_of_a_partly_staged_file_stay_bytes_of_the_object(
    files: Files, fetcher: Fetcher, tmp_path: Path
) -> None:
    staging = Staging(tmp_path, await base_of(files, b"abcdefghij"))
    await staging.write(0, b"A")
    version = staging.begin_send()
    await staging.write(9, b"J")
    sent = await base_of(files, b"Abcdefghij")
    staging.sent(sent, version)
    assert await read_all(staging, fetcher) == b"AbcdefghiJ"


async def test_cut_during_sending_is_not_undone_by_it(files: Files, fetcher: Fetcher, tmp_path: Path) -> None:
    staging = Staging(tmp_path, await base_of(files, b"abcdefghij"))
    await staging.write(0, b"A")
    version = staging.begin_send()
    staging.truncate(2)
    staging.truncate(6)
    staging.sent(await base_of(files, b"Abcdefghij"), version)
    assert staging.dirty
    assert await read_all(staging, fetcher) == b"Ab\0\0\0\0"


async def test_what_was_cut_off_does_not_come_back_where_a_page_is_reserved(
    files: Files, fetcher: Fetcher, tmp_path: Path
) -> None:
    staging = Staging(tmp_path, None)
    await staging.write(0, b"a" * (100 * KIB))
    staging.promise()
    staging.truncate(10)
    await staging.write(20, b"\0")
    assert await read_all(staging, fetcher) == b"a" * 10 + bytes(11)
    assert b"".join(staging.body(0, 21).chunks()) == b"a" * 10 + bytes(11)


async def test_a_closed_staging_file_is_not_made_again_full_of_zeros(tmp_path: Path) -> None:
    staging = Staging(tmp_path, None)
    await staging.write(0, b"x")
    staging.close()
    with pytest.raises(FilesystemError):
        await staging.write(0, b"y")
    assert in_use(tmp_path) == 0


async def test_a_full_disk_leaves_the_file_as_it_was(files: Files, fetcher: Fetcher, tmp_path: Path) -> None:
    staging = Staging(tmp_path, None)
    await staging.write(0, b"abc")
    version = staging.version
    os.close(staging.fileno())
    staging.fileno()
    staging._scratch._fd = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(OSError, match="No space left"):
        await staging.write(3, b"d" * (100 * KIB))
    assert (staging.size, staging.version, list(staging.valid)) == (3, version, [(0, 3)])


async def test_the_journal_can_bring_it_back(files: Files, fetcher: Fetcher, tmp_path: Path) -> None:
    staging = Staging(tmp_path, await base_of(files, b"abcdefghij"))
    staging.truncate(6)
    await staging.write(1, b"BC")
    await staging.write(8, b"I")
    expected = await read_all(staging, fetcher)
    record = staging.to_json()
    await staging.make_durable()
    staging.close(keep=True)
    again = Staging.from_json(tmp_path, record)
    assert again.dirty
    assert await read_all(again, fetcher) == expected == b"aBCdef\0\0I"


async def test_a_descriptor_is_closed_only_where_all_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "descriptors_at_hand", lambda: 0)
    staging = Staging(tmp_path, None)

    def is_open() -> bool:
        staging.rest()
        return bool(open_below(tmp_path))

    data = content(100 * KIB)
    await staging.write(0, data)
    assert is_open()  # closed, it would not be forced to disk any more
    await staging.make_durable()
    assert not is_open()
    await staging.write(0, b"again")
    assert is_open()
    await staging.make_durable()
    assert not is_open()
    with staging.body(0, 10).with_own_file() as body:
        staging.rest()
        assert len(open_below(tmp_path)) == 1
        assert bytes(next(body.chunks())) == b"again" + data[5:10]
    assert not is_open()
    await staging.write(0, b"anew")
    await staging.rest_safely()
    assert not open_below(tmp_path)
    staging.close()


async def test_a_detached_file_can_be_brought_back_without_its_object(
    files: Files, fetcher: Fetcher, tmp_path: Path
) -> None:
    staging = Staging(tmp_path, await base_of(files, b"abcdefghij"))
    await staging.write(0, b"A")
    await staging.fill(fetcher)
    staging.detach()
    record = staging.to_json()
    staging.close(keep=True)
    assert await read_all(Staging.from_json(tmp_path, record), fetcher) == b"Abcdefghij"


async def test_reading_goes_on_with_the_new_object_when_the_old_one_was_replaced_here(
    files: Files, fetcher: Fetcher, tmp_path: Path
) -> None:
    old = await base_of(files, b"abcdefghij")
    staging = Staging(tmp_path, old)
    await staging.write(0, b"A")
    new = await base_of(files, b"Abcdefghij")
    async with trio.open_nursery() as nursery:
        # The read asks for the old object, which is gone; meanwhile the new one is noted.
        nursery.start_soon(_note_later, staging, new)
        assert await read_all(staging, fetcher) == b"Abcdefghij"


async def _note_later(staging: Staging, new: Source) -> None:
    staging.base = new


async def test_what_is_here_alone_can_be_sent_without_the_object(
    files: Files, fetcher: Fetcher, tmp_path: Path
) -> None:
    staging = Staging(tmp_path, await base_of(files, b"abcdefghij"))
    await staging.write(2, b"XY")
    part = staging.without_base()
    assert await read_all(part, fetcher) == b"\0\0XY\0\0\0\0\0\0"
    part.close(keep=True)
    assert await read_all(staging, fetcher) == b"abXYefghij"
    untouched = Staging(tmp_path, staging.base).without_base()
    assert await read_all(untouched, fetcher) == bytes(10)
    untouched.close()


async def test_everybody_who_waits_for_writes_to_end_goes_on(tmp_path: Path) -> None:
    staging = Staging(tmp_path, None)
    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(staging.write, 0, content(500 * KIB))
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(3):
                nursery.start_soon(staging.settled)
                await trio.lowlevel.checkpoint()
    assert staging.size == 500 * KIB


@pytest.mark.parametrize("size", [4 * KIB, 200 * KIB])
async def test_bytes_that_others_have_replaced_are_not_kept_for_readers(
    files: Files, tmp_path: Path, size: int
) -> None:
    staging = Staging(tmp_path, None)
    await staging.write(0, content(size))
    staging.close()  # written anew while these were sent
    source = Source(files.bucket, "k", "etag", size)
    await files.fs.committer.sender.keep(source, staging, staging.version)
