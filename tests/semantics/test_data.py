"""Reading and writing files."""

from __future__ import annotations

import errno
import mmap
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cosfs.emulator import Emulator
from tests.semantics.conftest import Counted, Outside, settle

MIB = 1 << 20


def test_write_is_in_cos_when_close_returns(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    (mount_bucket() / "file").write_bytes(b"content")
    assert outside.get("file") == b"content"


def test_write_is_in_cos_when_fsync_returns(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    with (mount_bucket() / "file").open("wb", buffering=0) as file:
        file.write(b"so far")
        os.fsync(file.fileno())
        assert outside.get("file") == b"so far"


def test_close_reports_a_refused_upload(
    mount_bucket: Callable[..., Path], emulator: Emulator, outside: Outside
) -> None:
    path = mount_bucket() / "file"
    fault = emulator.faults.error("PutObject", "AccessDenied", 403, count=0, key="file")
    try:
        fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"content")
        with pytest.raises(OSError, match="Permission denied"):
            os.close(fd)
    finally:
        emulator.faults.remove(fault)


def test_async_write_is_in_cos_when_fsync_returns(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    with (mount_bucket("--write-back", "async") / "file").open("wb", buffering=0) as file:
        file.write(b"content")
        os.fsync(file.fileno())
        assert outside.get("file") == b"content"


def test_async_close_does_not_wait_for_cos(
    mount_bucket: Callable[..., Path], emulator: Emulator, outside: Outside
) -> None:
    path = mount_bucket("--write-back", "async") / "file"
    fault = emulator.faults.latency(3600.0, "PutObject", key="file")
    try:
        path.write_bytes(b"content")
        assert path.read_bytes() == b"content"
        assert outside.listing() == []
    finally:
        emulator.faults.release(fault)


def test_async_sync_of_a_directory_or_of_the_mount_does_not_wait_for_files(
    mount_bucket: Callable[..., Path], emulator: Emulator, outside: Outside
) -> None:
    top = mount_bucket("--write-back", "async")
    fault = emulator.faults.latency(3600.0, "PutObject", key="file")
    try:
        (top / "file").write_bytes(b"content")
        subprocess.run(["sync", "-f", top], check=True, timeout=60)
        subprocess.run(["sync", top], check=True, timeout=60)
        assert outside.listing() == []
    finally:
        emulator.faults.release(fault)


def test_random_writes_equal_those_on_a_local_file(mount_bucket: Callable[..., Path], tmp_path: Path) -> None:
    chance = random.Random(7)
    here, there = tmp_path / "file", mount_bucket() / "file"
    for path in (here, there):
        path.write_bytes(random.Random(1).randbytes(3 * MIB))
    with here.open("r+b", buffering=0) as one, there.open("r+b", buffering=0) as two:
        for _ in range(100):
            offset, length = chance.randrange(4 * MIB), chance.randrange(1, 200_000)
            match chance.randrange(6):
                case 0:
                    assert os.pread(one.fileno(), length, offset) == os.pread(two.fileno(), length, offset)
                case 1:
                    one.truncate(offset), two.truncate(offset)
                case _:
                    data = chance.randbytes(length)
                    os.pwrite(one.fileno(), data, offset), os.pwrite(two.fileno(), data, offset)
    assert here.read_bytes() == there.read_bytes()


def test_append_adds_at_the_end(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("log", b"first\n")
    with (mount_bucket() / "log").open("ab") as file:
        file.write(b"second\n")
    assert outside.get("log") == b"first\nsecond\n"


def test_truncate_cuts_and_grows_with_zeros(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("file", b"0123456789")
    path = mount_bucket() / "file"
    os.truncate(path, 4)
    os.truncate(path, 6)
    assert path.read_bytes() == b"0123\0\0"
    assert outside.get("file") == b"0123\0\0"


def test_open_with_trunc_replaces(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("file", b"a long old content")
    (mount_bucket() / "file").write_bytes(b"new")
    assert outside.get("file") == b"new"


def test_holes_read_as_zeros(mount_bucket: Callable[..., Path]) -> None:
    path = mount_bucket() / "sparse"
    with path.open("wb") as file:
        file.seek(2 * MIB)
        file.write(b"end")
    assert path.read_bytes() == bytes(2 * MIB) + b"end"


def test_a_file_is_readable_while_it_is_written(mount_bucket: Callable[..., Path]) -> None:
    path = mount_bucket() / "file"
    with path.open("wb", buffering=0) as writer:
        writer.write(b"not closed yet")
        assert path.read_bytes() == b"not closed yet"
        assert path.stat().st_size == 14


def test_exclusive_create_fails_where_a_file_is(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("file", b"content")
    with pytest.raises(FileExistsError):
        (mount_bucket() / "file").open("x")
    assert outside.get("file") == b"content"


def test_removed_file_stays_readable_and_writable_while_open(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    outside.put("file", b"content")
    path = mount_bucket() / "file"
    with path.open("r+b", buffering=0) as file:
        path.unlink()
        assert not path.exists()
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == b"content"
        file.write(b" and more")
        assert os.pread(file.fileno(), 100, 0) == b"content and more"
    settle(path.parent)
    assert "file" not in outside.listing()


# In a process of its own: a page fault holds the interpreter, and the emulator runs in this one.
WRITE_MAPPED = """
import mmap, os, sys
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
    mapping[5_000:5_005] = b"hello"
    mapping.flush()
    os.fsync(file.fileno())
"""


def test_shared_mapping_is_written_back(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("file", bytes(10_000))
    subprocess.run([sys.executable, "-c", WRITE_MAPPED, mount_bucket() / "file"], check=True, timeout=90)
    assert outside.get("file") == bytes(5_000) + b"hello" + bytes(4_995)


def test_direct_io_reads_and_writes(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    path = mount_bucket() / "file"
    buffer = mmap.mmap(-1, 8192)  # aligned, as O_DIRECT wants it
    buffer.write(b"x" * 8192)
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    try:
        assert os.write(fd, buffer) == 8192
        assert os.pread(fd, 8192, 0) == b"x" * 8192
    finally:
        os.close(fd)
    assert outside.get("file") == b"x" * 8192


def test_locks_hold_between_processes_of_one_mount(mount_bucket: Callable[..., Path]) -> None:
    path = mount_bucket() / "file"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        second = subprocess.run(["flock", "--nonblock", str(path), "true"], check=False)
        assert second.returncode == 1


def test_preallocation_is_emulated(mount_bucket: Callable[..., Path]) -> None:
    path = mount_bucket() / "file"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100_000)
    assert path.stat().st_size == 100_000


def test_a_sparse_file_is_as_long_as_it_says_and_its_zeros_are_not_sent(
    mount_bucket: Callable[..., Path],
    outside: Outside,
    emulator: Emulator,
    counted: Callable[[], Counted],
) -> None:
    size = 100 * MIB
    path = mount_bucket() / "sparse"
    with counted() as seen:
        subprocess.run(["truncate", "-s", str(size), path], check=True)
        with path.open("r+b") as file:
            file.seek(size // 2)
            file.write(b"data")
            file.flush()
            file.seek(size // 2 - 3)
            assert file.read(10) == b"\0\0\0data\0\0\0"
    assert seen.counts["PutObject"] == 1  # of zeros, from which the rest is copied
    sent = [e for e in emulator.requests.log() if e.operation == "UploadPart" and e.bucket == outside.bucket]
    assert len({entry.target for entry in sent}) == 1, sent  # one part of one upload
    # The client may repeat a request that failed on its way, but what COS has taken is not sent again.
    assert [entry.status for entry in sent].count(200) == 1, sent
    assert path.stat().st_size == size
    assert path.stat().st_blocks == size // 512
    expected = bytes(size // 2) + b"data" + bytes(size // 2 - 4)
    assert path.read_bytes() == expected
    assert outside.get("sparse") == expected


def test_large_file_equals_what_was_written(
    mount_bucket: Callable[..., Path], outside: Outside, tmp_path: Path, counted: Callable[[], Counted]
) -> None:
    data = random.Random(3).randbytes(40 * MIB)
    (tmp_path / "large").write_bytes(data)
    path = mount_bucket() / "large"
    with counted() as seen:
        subprocess.run(["cp", tmp_path / "large", path], check=True)
    assert outside.get("large") == data
    assert path.read_bytes() == data
    assert seen.counts["UploadPart"] == 5  # of 8 MiB


def test_change_in_a_large_file_sends_only_what_changed(
    mount_bucket: Callable[..., Path],
    outside: Outside,
    emulator: Emulator,
    counted: Callable[[], Counted],
) -> None:
    data = bytearray(random.Random(4).randbytes(40 * MIB))
    outside.put("large", bytes(data))
    path = mount_bucket() / "large"
    path.stat()
    with counted() as seen, path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"changed", 20 * MIB + 5)
    received = emulator.requests.bytes_received
    data[20 * MIB + 5 : 20 * MIB + 12] = b"changed"
    assert outside.get("large") == bytes(data)
    assert seen.counts.get("UploadPartCopy", 0) >= 1
    assert received < 9 * MIB


def test_replaced_object_is_never_read_as_a_mixture(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    outside.put("file", b"a" * (4 * MIB))
    path = mount_bucket("--metadata-ttl", "0.1s", "--readahead", "1MiB")
    with (path / "file").open("rb", buffering=0) as file:
        start = file.read(1000)
        outside.put("file", b"b" * (4 * MIB))
        try:
            rest = os.pread(file.fileno(), MIB, 3 * MIB)
        except OSError as error:
            assert error.errno == errno.ESTALE
        else:
            assert set(start) == set(rest)
    time.sleep(0.2)
    assert set((path / "file").read_bytes()) == {ord("b")}


def test_conflict_keeps_both(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("file", b"old")
    path = mount_bucket() / "file"
    fd = os.open(path, os.O_RDWR)
    os.write(fd, b"ours")
    outside.put("file", b"theirs")
    with pytest.raises(OSError) as raised:
        os.close(fd)
    assert raised.value.errno == errno.ESTALE
    contents = {outside.get(key) for key in outside.listing()}
    assert contents == {b"ours", b"theirs"}
    assert outside.get("file") == b"theirs"
