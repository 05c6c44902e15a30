"""Large blocks past the page cache: whatever the filesystem does, the file has the bytes."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from cosfs.client.crc64 import crc64
from cosfs.fs import blockfile, blockstore, directwriter
from cosfs.fs.blockfile import PIECE, DamagedBlock, read_block, read_part, write_block
from cosfs.fs.blockstore import BlockStore, NewBlock
from cosfs.fs.buffers import Buffers
from cosfs.fs.directwriter import LOOKED_AT, PAGE, DirectWriter
from cosfs.fs.reserve import Reserve
from cosfs.units import MIB

DIGEST, TAG = b"d" * 16, b"bucket\0key"
real_writev = os.writev


def block(number: int = 0, size: int = MIB) -> memoryview:
    data = Buffers(MIB).take(size)
    data[:] = bytes([number, 1, 2, 3]) * (size // 4)
    return data


def is_direct(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)


def can_be_direct(directory: Path) -> bool:
    try:
        os.close(os.open(directory / "probe", os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except OSError:
        return False
    return True


@pytest.fixture
def direct_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that each call past the page cache wrote."""
    calls: list[int] = []

    def writev(fd: int, pieces: Sequence[memoryview]) -> int:
        done = real_writev(fd, pieces)
        if is_direct(fd):
            calls.append(done)
        return done

    monkeypatch.setattr(os, "writev", writev)
    return calls


def test_whole_pages_go_past_the_page_cache(tmp_path: Path, direct_calls: list[int]) -> None:
    writer, data = DirectWriter(), block()
    write_block(str(tmp_path / "b"), DIGEST, TAG, data, writer)
    assert direct_calls == [PAGE + MIB] * can_be_direct(tmp_path)
    assert (tmp_path / "b").stat().st_size == PAGE + MIB
    assert read_block(str(tmp_path / "b"), DIGEST) == data


@pytest.mark.parametrize("size", [0, 8, PAGE, MIB - 4])
def test_what_is_short_or_ends_within_a_page_does_not(
    tmp_path: Path, direct_calls: list[int], size: int
) -> None:
    data = block(size=size)
    write_block(str(tmp_path / "b"), DIGEST, TAG, data, DirectWriter())
    assert direct_calls == []
    assert read_block(str(tmp_path / "b"), DIGEST) == data


def test_memory_that_begins_within_a_page_does_not(tmp_path: Path, direct_calls: list[int]) -> None:
    data = block()[1 : 1 + MIB // 2]
    write_block(str(tmp_path / "a"), DIGEST, TAG, data, DirectWriter())
    write_block(str(tmp_path / "b"), DIGEST, TAG, bytes(MIB), DirectWriter())
    assert direct_calls == []
    assert read_block(str(tmp_path / "a"), DIGEST) == data
    assert read_block(str(tmp_path / "b"), DIGEST) == bytes(MIB)


def test_a_long_tag_takes_pages_of_its_own(tmp_path: Path) -> None:
    data = block()
    write_block(str(tmp_path / "b"), DIGEST, b"t" * PAGE, data, DirectWriter())
    assert read_block(str(tmp_path / "b"), DIGEST) == data


def test_a_filesystem_that_refuses_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def writev(fd: int, pieces: Sequence[memoryview]) -> int:
        if is_direct(fd):
            tries.append(fd)
            raise OSError(errno.EINVAL, "not here")
        return real_writev(fd, pieces)

    monkeypatch.setattr(os, "writev", writev)
    writer = DirectWriter()
    for number in range(3):
        write_block(str(tmp_path / str(number)), DIGEST, TAG, block(number), writer)
        assert read_block(str(tmp_path / str(number)), DIGEST) == block(number)
    assert len(tries) == can_be_direct(tmp_path)


def test_a_write_that_stops_half_way_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def writev(fd: int, pieces: Sequence[memoryview]) -> int:
        return real_writev(fd, [*pieces[:1], pieces[1][: 16 * PAGE]] if is_direct(fd) else pieces)

    monkeypatch.setattr(os, "writev", writev)
    data = block()
    write_block(str(tmp_path / "b"), DIGEST, TAG, data, DirectWriter())
    assert read_block(str(tmp_path / "b"), DIGEST) == data


def test_trouble_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def writev(fd: int, pieces: Sequence[memoryview]) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "writev", writev)
    with pytest.raises(OSError, match="full"):
        write_block(str(tmp_path / "b"), DIGEST, TAG, block(), DirectWriter())


def test_a_slow_disk_is_left_to_the_kernel(
    tmp_path: Path, direct_calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directwriter, "FAST", 1 << 80)
    monkeypatch.setattr(directwriter, "OFF_SECONDS", 1e9)
    writer, data = DirectWriter(), block()
    for number in range(LOOKED_AT + 3):
        write_block(str(tmp_path / str(number)), DIGEST, TAG, data, writer)
    assert len(direct_calls) == LOOKED_AT * can_be_direct(tmp_path)
    assert read_block(str(tmp_path / str(LOOKED_AT + 2)), DIGEST) == data
    writer._off_until = 0.0  # later
    write_block(str(tmp_path / "later"), DIGEST, TAG, data, writer)
    assert len(direct_calls) == (LOOKED_AT + 1) * can_be_direct(tmp_path)


def test_a_file_that_was_written_in_one_piece_is_read(tmp_path: Path) -> None:
    data = block()
    head = blockfile._HEADER.pack(b"COSB", 2, MIB, crc64(data), DIGEST, len(TAG))
    (tmp_path / "b").write_bytes(head + TAG + data)
    assert read_block(str(tmp_path / "b"), DIGEST, Buffers(MIB)) == data
    (tmp_path / "b").write_bytes(head + TAG + bytes(MIB))
    with pytest.raises(DamagedBlock):
        read_block(str(tmp_path / "b"), DIGEST)


def test_a_file_without_sums_of_its_pieces_is_read(tmp_path: Path) -> None:
    data = block()
    head = blockfile._HEADER.pack(b"COSB", 3, MIB, crc64(data), DIGEST, len(TAG)) + TAG
    (tmp_path / "b").write_bytes(head.ljust(PAGE, b"\0") + data)
    assert read_block(str(tmp_path / "b"), DIGEST, Buffers(MIB)) == data
    assert read_part(str(tmp_path / "b"), DIGEST, 0, 100, MIB) is None


@pytest.mark.parametrize("tag", [TAG, b"t" * (PAGE - 48), b"t" * PAGE], ids=["short", "as a page", "long"])
def test_a_part_is_read_alone(tmp_path: Path, tag: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = str(tmp_path / "b"), Buffers(MIB).take(MIB)
    data[:] = os.urandom(MIB)
    write_block(path, DIGEST, tag, data, DirectWriter())
    asked: list[int] = []
    real_pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: asked.append(n) or real_pread(fd, n, at))
    for start, stop in (
        (0, 1),
        (PIECE - 1, PIECE),
        (PIECE - 1, PIECE + 1),
        (5 * PIECE + 7, 6 * PIECE),
        (MIB - 9, MIB),
    ):
        assert read_part(path, DIGEST, start, stop, MIB) == data[start:stop]
    assert max(asked) == 2 * PIECE
    assert read_part(path, DIGEST, 0, MIB, MIB) == data


def test_a_damaged_part_is_not_read(tmp_path: Path) -> None:
    path, data = tmp_path / "b", block()
    write_block(str(path), DIGEST, TAG, data)
    good = path.read_bytes()
    spoilt = bytearray(good)
    spoilt[PAGE + 3 * PIECE + 5] ^= 1
    path.write_bytes(spoilt)
    for start in (0, 2 * PIECE, 4 * PIECE):
        assert read_part(str(path), DIGEST, start, start + 10, MIB) == data[start : start + 10]
    with pytest.raises(DamagedBlock):
        read_part(str(path), DIGEST, 3 * PIECE, 3 * PIECE + 4, MIB)
    with pytest.raises(DamagedBlock):
        read_block(str(path), DIGEST)
    for wrong in (good[:-1], good[: PAGE // 2], b"", good.replace(DIGEST, b"e" * 16, 1)):
        path.write_bytes(wrong)
        with pytest.raises(DamagedBlock):
            read_part(str(path), DIGEST, 0, 10, MIB)
    path.write_bytes(good)
    with pytest.raises(DamagedBlock):
        read_part(str(path), DIGEST, 0, 10, MIB // 2)


def test_what_is_not_in_the_page_cache_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = str(tmp_path / "b"), block()
    write_block(path, DIGEST, TAG, data)
    real = os.preadv

    def preadv(fd: int, pieces: Sequence[bytearray], at: int, flags: int = 0) -> int:
        if flags:
            raise BlockingIOError(errno.EAGAIN, "it would wait")
        return real(fd, pieces, at)

    monkeypatch.setattr(os, "preadv", preadv)
    assert read_part(path, DIGEST, 0, 10, MIB, nowait=True) is None
    assert read_part(path, DIGEST, 0, 10, MIB) == data[:10]
    monkeypatch.setattr(os, "preadv", lambda fd, pieces, at, flags: 0)
    assert read_part(path, DIGEST, 0, 10, MIB, nowait=True) is None


def test_many_blocks_are_written_by_some_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a transaction, or nothing of it."""
    reserve = Reserve(0, 0)
    blocks = [NewBlock(bytes([number]) * 16, TAG, block(number)) for number in range(9)]
    store = BlockStore(tmp_path)

    def apply(new: list[NewBlock]) -> None:
        store.apply(tags=(), digests=(), touched=(), blocks=new, size_limit=64 * MIB, reserve=reserve)

    apply(blocks[:5])
    assert [read_block(store.find(each.digest), each.digest) == each.data for each in blocks[:5]] == [
        True
    ] * 5
    before = sorted(tmp_path.glob("??/*"))
    assert len(before) == 5
    threads, all_of_them = set(), threading.Barrier(blockstore.THREADS)

    def write(path: str, digest: bytes, *rest: object) -> None:
        if threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            all_of_them.wait(60)
        if digest == blocks[7].digest:
            raise OSError(errno.ENOSPC, "full")
        write_block(path, digest, *rest)

    monkeypatch.setattr(blockstore, "write_block", write)
    with pytest.raises(OSError, match="full"):
        apply(blocks)
    assert len(threads) == blockstore.THREADS
    assert store.helped > 0.0  # counted as work of the disk cache
    assert sorted(tmp_path.glob("??/*")) == before
    assert [bool(store.find(each.digest)) for each in blocks] == [True] * 5 + [False] * 4
    store.close()


def test_files_of_a_lost_index_are_known_again(tmp_path: Path) -> None:
    reserve = Reserve(0, 0)
    blocks = [NewBlock(bytes([number]) * 16, TAG, block(number)) for number in range(3)]
    store = BlockStore(tmp_path)
    assert not store.apply(
        tags=(), digests=(), touched=(), blocks=blocks, size_limit=64 * MIB, reserve=reserve
    )
    size = store.reset("size")
    store.close()
    for path in tmp_path.glob("cache.db*"):
        path.unlink()
    store = BlockStore(tmp_path)
    assert store.adopt() == 3
    assert store.reset("size") == size
    for each in blocks:
        assert read_block(store.find(each.digest), each.digest) == each.data
    store.close()
