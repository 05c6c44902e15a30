"""Small programs of every day: find, du, touch, chmod, truncate, fallocate, dd, tail."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

import pytest

from tests.fuse.support import fails_with, make_tree, python, run
from tests.mounting import Mounted
from tests.programs.conftest import Place

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

pytestmark = pytest.mark.fuse

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def test_find_delete(place: Place) -> None:
    make_tree(place.path / "tree")
    assert len(run("find", place.path / "tree", "-name", "file-*", "-size", "+0").splitlines()) == 20
    run("find", place.path / "tree", "-name", "file-*", "-delete")
    assert run("find", place.path / "tree", "-type", "f").splitlines() == [f"{place.path}/tree/script"]
    run("find", place.path / "tree", "-mindepth", "1", "-delete")
    place.settle()
    assert list(place.stored()) == ["tree/"]


def test_du_counts_bytes(place: Place) -> None:
    (place.path / "dir").mkdir()
    (place.path / "dir" / "one").write_bytes(bytes(100 * KIB))
    (place.path / "dir" / "two").write_bytes(bytes(1))
    assert run("du", "-s", "--block-size=1", place.path / "dir").split()[0] == str(100 * KIB + 512)
    assert run("du", "-s", "--apparent-size", "--block-size=1", place.path / "dir").split()[0] == str(
        100 * KIB + 1
    )
    assert run("stat", "-c", "%s %b", place.path / "dir" / "one") == f"{100 * KIB} 200\n"


def test_touch_and_chmod(place: Place) -> None:
    make_tree(place.path / "tree")
    run("touch", "-d", "2001-02-03T04:05:06.123456789Z", place.path / "tree" / "script")
    assert (place.path / "tree" / "script").stat().st_mtime_ns == 981173106123456789
    run("touch", "-a", "-d", "@5", place.path / "tree" / "script")
    assert (place.path / "tree" / "script").stat().st_mtime_ns == 981173106123456789
    run("touch", "-h", "-d", "@7", place.path / "tree" / "dangling")
    assert (place.path / "tree" / "dangling").lstat().st_mtime == 7
    run("touch", "-r", place.path / "tree" / "script", place.path / "tree" / "new")
    assert (place.path / "tree" / "new").stat().st_mtime_ns == 981173106123456789
    run("chmod", "-R", "u=rwX,go=", place.path / "tree")
    modes = {stat.st_mode & 0o777 for path in (place.path / "tree").rglob("*") if (stat := path.lstat())}
    assert modes == {0o700, 0o600, 0o777}  # directories and the script, files, links
    run("chmod", "g+s,o+t", place.path / "tree")
    assert (place.path / "tree").stat().st_mode & 0o7777 == 0o3700


def test_truncate(place: Place) -> None:
    path = place.path / "file"
    run("truncate", "-s", "70000", path)
    place.arrives("file", bytes(70000))
    path.write_bytes(b"content")
    run("truncate", "-s", "+3", path)
    place.arrives("file", b"content\0\0\0")
    run("truncate", "-s", "4", path)
    place.arrives("file", b"cont")


def test_fallocate(place: Place) -> None:
    path = place.path / "file"
    path.write_bytes(b"content")
    # fallocate(1) falls back to writing zeros with -x, as posix_fallocate() does by itself.
    run("fallocate", "-x", "-l", "9000", path)
    assert path.read_bytes() == b"content" + bytes(8993)
    for options in (
        ["-l", "20000"],
        ["-n", "-l", "20000"],
        ["-p", "-o", "0", "-l", "3"],
        ["-c", "-l", "4096"],
    ):
        done = subprocess.run(["fallocate", *options, path], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "supported" in done.stderr
    assert path.read_bytes() == b"content" + bytes(8993)


ODD_CALLS = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for mode in (0, 1, 3, 8, 16):
    code = libc.fallocate(fd, mode, 0, 4096)
    print(mode, code, errno.errorcode[ctypes.get_errno()])
os.posix_fallocate(fd, 100, 50)
print(os.fstat(fd).st_size, os.lseek(fd, 0, os.SEEK_HOLE), os.lseek(fd, 0, os.SEEK_DATA))
"""


def test_fallocate_says_that_it_is_not_supported(place: Place) -> None:
    printed = python(ODD_CALLS, place.path / "file").splitlines()
    assert printed[:5] == [f"{mode} -1 ENOTSUP" for mode in (0, 1, 3, 8, 16)]
    assert printed[5] == "150 150 0"


DIRECT = """
import mmap, os, sys
block = mmap.mmap(-1, 8192)
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
for number in range(8):
    block[:] = bytes([65 + number]) * 8192
    assert os.pwrite(fd, block, number * 8192) == 8192
assert os.preadv(fd, [block], 3 * 8192) == 8192 and block[:2] == b"DD"
os.fsync(fd)
"""


def test_direct_io(place: Place) -> None:
    python(DIRECT, place.path / "file")
    place.arrives("file", b"".join(bytes([65 + number]) * 8192 for number in range(8)))


def make_huge(client: CosClient, bucket: str, key: str, size: int) -> None:
    """An object of zeros, put together from one small one inside the server."""
    piece = 16 * MIB
    client.put_object(bucket, f"{key}.piece", bytes(piece))
    upload = client.create_upload(bucket, key)
    parts = [
        client.upload_part_copy(upload, number, bucket, f"{key}.piece", 0, piece)
        for number in range(1, size // piece + 1)
    ]
    client.complete_upload(upload, parts)
    client.delete_object(bucket, f"{key}.piece")


@pytest.mark.parametrize("place", ["close"], indirect=True)
def test_dd_inside_a_huge_object(place: Place, emulator: Emulator) -> None:
    """As much as needs several copies, and no more: the emulator reads and writes all of what it copies."""
    size, block = 5 * GIB // 4, 200_001
    make_huge(place.client, place.bucket, "huge", size)
    path = place.path / "huge"
    assert path.stat().st_size == size
    emulator.requests.reset()
    command = ("dd", f"of={path}", "bs=4K", f"seek={block}", "conv=notrunc,fsync", "status=none")
    run(*command, input=b"changed " * 512)
    counts = emulator.requests.snapshot()
    assert emulator.requests.bytes_received < 3 * MIB
    assert emulator.requests.bytes_sent < 3 * MIB
    assert counts["UploadPartCopy"] >= 2 and sum(counts.values()) <= 4 + 3 + 2, counts
    info = place.client.head_object(place.bucket, "huge")
    assert info is not None and info.size == size
    where = block * 4096
    assert (
        place.client.get_range(place.bucket, "huge", where - 8, where + 16)[1] == bytes(8) + b"changed " * 2
    )


def test_tail_f_of_a_file_that_grows_here(place: Place) -> None:
    path = place.path / "log"
    path.write_text("start\n")
    command = ["tail", "-f", "-s", "0.05", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as follower:
        try:
            assert follower.stdout is not None
            assert follower.stdout.readline() == b"start\n"
            for number in range(3):
                with path.open("a") as log:
                    log.write(f"line {number}\n")
                assert follower.stdout.readline() == b"line %d\n" % number
        finally:
            follower.kill()


def test_errors_have_the_usual_numbers(place: Place) -> None:
    (place.path / "file").write_text("x")
    (place.path / "dir").mkdir()
    with fails_with(errno.EISDIR):
        os.open(place.path / "dir", os.O_WRONLY)
    with fails_with(errno.ENOTDIR):
        list((place.path / "file").iterdir())
    with fails_with(errno.ENAMETOOLONG):
        (place.path / ("n" * 256)).touch()
    (place.path / ("n" * 255)).touch()
    with fails_with(errno.EFBIG):
        os.truncate(place.path / "file", 2**63 - 1)
    with fails_with(errno.ENOTEMPTY):
        (place.path).rmdir()


def lines_until(stream: IO[bytes], wanted: bytes, most: int) -> list[bytes]:
    """Read lines up to one that is waited for, but no more than so many."""
    found: list[bytes] = []
    while len(found) < most and wanted not in found:
        found.append(stream.readline().strip())
    return found


def test_tail_of_an_object_that_others_make_grow(
    mount: Callable[..., Mounted], client: CosClient, bucket: str
) -> None:
    """An open file keeps the state it was opened with; who follows the name gets the new one."""
    client.put_object(bucket, "log", b"one\n")
    path = mount(f"cos://{bucket}", "--metadata-ttl", "0.2s").path / "log"
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    with (
        subprocess.Popen(["tail", "-f", "-s", "0.05", path], stdout=pipe) as by_descriptor,
        subprocess.Popen(["tail", "-F", "-s", "0.05", path], stdout=pipe, stderr=quiet) as by_name,
    ):
        try:
            assert by_descriptor.stdout is not None and by_name.stdout is not None
            assert by_descriptor.stdout.readline() == by_name.stdout.readline() == b"one\n"
            client.put_object(bucket, "log", b"one\ntwo\n")
            assert b"two" in lines_until(by_name.stdout, b"two", 3)
            client.put_object(bucket, "log", b"one\ntwo\nthree\n")
            assert b"three" in lines_until(by_name.stdout, b"three", 4)
        finally:
            by_descriptor.kill()
            by_name.kill()
        assert by_descriptor.stdout.read() == b""
