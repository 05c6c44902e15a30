"""Bytes of a changed file in memory, and on disk once they are many."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cosfs.errors import FilesystemError
from cosfs.fs.scratch import MEMORY_MAX, Scratch, pwrite_all
from cosfs.transfer.receive import WRITE_PIECE


def test_a_small_file_never_touches_the_disk(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.put(b"abc", 0)
    scratch.put(b"xyz", 10)
    assert scratch.get(20, 0) == b"abc" + bytes(7) + b"xyz" + bytes(7)
    scratch.truncate(11)
    assert scratch.memory == b"abc" + bytes(7) + b"x"
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_what_grows_too_large_is_in_a_file_with_all_that_was_written_before(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.put(b"head", 0)
    scratch.put(b"tail", MEMORY_MAX)
    assert scratch.memory is None
    assert scratch.path is not None
    assert scratch.path.read_bytes() == b"head" + bytes(MEMORY_MAX - 4) + b"tail"
    assert scratch.get(4, 0) == b"head"
    scratch.close(keep=True)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_leaves_what_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = Scratch(tmp_path)
    scratch.put(b"abc", 0)
    full = os.open("/dev/full", os.O_RDWR)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", lambda *_: os.dup(full))
        with pytest.raises(OSError, match="No space left"):
            scratch.put(b"x", MEMORY_MAX)
    os.close(full)
    assert scratch.get(3, 0) == b"abc"
    scratch.put(b"x", MEMORY_MAX)
    assert scratch.get(3, 0) == b"abc"


def test_a_share_has_the_bytes_and_goes_its_own_way(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.put(b"abc", 0)
    other = scratch.share()
    other.put(b"X", 0)
    assert (scratch.get(3, 0), other.get(3, 0)) == (b"abc", b"Xbc")


def test_after_close_nothing_can_be_had(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.put(b"abc", 0)
    scratch.close()
    with pytest.raises(FilesystemError):
        scratch.get(3, 0)
    with pytest.raises(FilesystemError):
        scratch.fileno()


def test_a_long_write_goes_to_the_file_in_short_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    pwrite = os.pwrite

    def short(fd: int, data: memoryview, offset: int) -> int:
        lengths.append(len(data))
        return pwrite(fd, data[:10_000], offset)

    monkeypatch.setattr(os, "pwrite", short)
    data = os.urandom(3 * WRITE_PIECE + 5)
    with (tmp_path / "file").open("wb") as file:
        pwrite_all(file.fileno(), data, 7)
    assert (tmp_path / "file").read_bytes() == bytes(7) + data
    assert max(lengths) == WRITE_PIECE
