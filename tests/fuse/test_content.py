"""Opening, reading and writing files, on a real mount."""

# The calls themselves are tested, so they are written as such.
from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuse.support import fails_with, python, run, until
from tests.mounting import Mounted
from tests.objects import keys, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

MIB = 1024 * 1024
Mount = Callable[..., Mounted]


def test_dd_and_checksum_of_a_large_file(mountpoint: Path, client: CosClient, tmp_path: Path) -> None:
    data = os.urandom(1 * MIB) * 33 + b"tail"
    (tmp_path / "large").write_bytes(data)
    run("dd", f"if={tmp_path / 'large'}", f"of={mountpoint / 'large'}", "bs=1M", "conv=fsync")
    assert hashlib.md5((mountpoint / "large").read_bytes()).digest() == hashlib.md5(data).digest()
    info = client.head_object(mountpoint.name, "large")
    assert info is not None and info.size == len(data)
    run("cmp", tmp_path / "large", mountpoint / "large")


def test_append(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "log"
    path.write_bytes(b"a" * 10)
    with path.open("ab") as first, path.open("ab") as second:
        for number in range(20):
            handle = (first, second)[number % 2]
            handle.write(b"%02d\n" % number)
            handle.flush()
    expected = b"a" * 10 + b"".join(b"%02d\n" % number for number in range(20))
    assert path.read_bytes() == expected
    assert stored(client, mountpoint.name, "log") == expected


def test_two_appending_processes_lose_nothing(mountpoint: Path) -> None:
    code = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)\n"
        "for n in range(200): os.write(fd, (sys.argv[2] * 9 + '\\n').encode())\n"
    )
    path = mountpoint / "log"
    path.touch()
    both = [subprocess.Popen([sys.executable, "-c", code, path, letter]) for letter in "xy"]
    assert [process.wait(150) for process in both] == [0, 0]
    lines = path.read_bytes().split()
    assert sorted(lines) == [b"x" * 9] * 200 + [b"y" * 9] * 200


def test_exclusive_create(mountpoint: Path) -> None:
    path = mountpoint / "new"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    with fails_with(errno.EEXIST):
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    (mountpoint / "dir").mkdir()
    with fails_with(errno.EEXIST):
        os.open(mountpoint / "dir", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    (mountpoint / "dangling").symlink_to("target")
    with fails_with(errno.EEXIST):
        os.open(mountpoint / "dangling", os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def test_open_truncates(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "file"
    path.write_bytes(b"old and long")
    with path.open("wb") as file:
        assert path.stat().st_size == 0
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert stored(client, mountpoint.name, "file") == b"new"
    path.open("wb").close()
    assert stored(client, mountpoint.name, "file") == b""


def test_truncate_shrinks_grows_and_sets_the_time(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "file"
    path.write_bytes(b"0123456789")
    os.utime(path, (1, 1))
    os.truncate(path, 4)
    assert path.read_bytes() == b"0123"
    assert path.stat().st_mtime > 1
    os.truncate(path, 8)
    assert path.read_bytes() == b"0123\0\0\0\0"
    with path.open("r+b") as file:
        file.truncate(2)
        assert os.fstat(file.fileno()).st_size == 2
        file.seek(6)
        file.write(b"z")
    assert stored(client, mountpoint.name, "file") == b"01\0\0\0\0z"
    with fails_with(errno.EFBIG):
        os.truncate(path, 1 << 60)
    with fails_with(errno.EISDIR):
        os.truncate(mountpoint, 0)


def test_truncate_to_the_same_size_sets_the_time(mountpoint: Path) -> None:
    path = mountpoint / "file"
    path.write_bytes(b"0123456789")
    os.utime(path, (1, 1))
    os.truncate(path, 10)
    assert path.stat().st_mtime > 1
    path.open("wb").close()
    os.utime(path, (1, 1))
    path.open("wb").close()
    assert path.stat().st_mtime > 1


def test_sparse_file(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "sparse"
    with path.open("wb") as file:
        file.seek(3 * MIB)
        file.write(b"end")
    assert path.stat().st_size == 3 * MIB + 3
    assert path.read_bytes() == bytes(3 * MIB) + b"end"
    assert stored(client, mountpoint.name, "sparse") == bytes(3 * MIB) + b"end"


def test_reading_what_is_being_written(mountpoint: Path) -> None:
    path = mountpoint / "file"
    with path.open("wb", buffering=0) as writer, path.open("rb", buffering=0) as reader:
        for number in range(10):
            writer.write(b"%d" % number)
            assert reader.read() == b"%d" % number
            assert path.stat().st_size == number + 1


def test_small_change_in_a_large_file(mountpoint: Path, client: CosClient) -> None:
    data = bytearray(os.urandom(MIB) * 20)
    path = mountpoint / "large"
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.seek(9 * MIB + 5)
        file.write(b"changed")
        file.seek(0, os.SEEK_END)
        file.write(b"appended")
    data[9 * MIB + 5 : 9 * MIB + 12] = b"changed"
    data += b"appended"
    assert path.read_bytes() == data
    assert stored(client, mountpoint.name, "large") == data


def test_mmap_shared_write(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "mapped"
    path.write_bytes(bytes(100_000))
    code = (
        "import mmap, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "with mmap.mmap(fd, 0) as m:\n"
        "    m[5:10] = b'first'\n"
        "    m[90_000:90_004] = b'last'\n"
        "    m.flush()\n"
        "    m[50_000:50_006] = b'middle'\n"
        "os.close(fd)\n"
    )
    python(code, path)
    expected = bytearray(100_000)
    expected[5:10], expected[50_000:50_006], expected[90_000:90_004] = b"first", b"middle", b"last"
    assert path.read_bytes() == expected
    until(lambda: stored(client, mountpoint.name, "mapped") == expected, "the object has the changes")


def test_mmap_written_after_close(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "mapped"
    path.write_bytes(bytes(10_000))
    code = (
        "import mmap, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "m = mmap.mmap(fd, 0)\n"
        "os.close(fd)\n"
        "m[5:10] = b'first'\n"
        "m.close()\n"
    )
    python(code, path)
    expected = bytes(5) + b"first" + bytes(9_990)
    assert path.read_bytes() == expected
    until(lambda: stored(client, mountpoint.name, "mapped") == expected, "the object has the changes")


def test_running_a_program_from_the_mount(mountpoint: Path) -> None:
    path = mountpoint / "true"
    run("cp", "-L", "/bin/true", path)
    run(path)
    assert os.access(path, os.X_OK)


def test_direct_read(mountpoint: Path) -> None:
    data = os.urandom(3 * MIB)
    path = mountpoint / "file"
    path.write_bytes(data)
    run("dd", f"if={path}", f"of={mountpoint / 'copy'}", "bs=1M", "iflag=direct")
    assert (mountpoint / "copy").read_bytes() == data
    code = (
        "import mmap, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)\n"
        "page = mmap.mmap(-1, 4096)\n"
        "page.write(b'd' * 4096)\n"
        "assert os.pwrite(fd, page, 8192) == 4096\n"
        "assert os.preadv(fd, [page], 4096) == 4096\n"
        "sys.stdout.buffer.write(page[:3])\n"
        "os.close(fd)\n"
    )
    out = python(code, path)
    assert out.encode(errors="surrogateescape") == data[4096:4099]
    assert path.read_bytes() == data[:8192] + b"d" * 4096 + data[12288:]


def test_direct_read_sees_what_others_wrote(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "file"
    path.write_bytes(b"a" * 4096)
    assert path.read_bytes() == b"a" * 4096
    client.put_object(mountpoint.name, "file", b"b" * 5000)
    assert run("dd", f"if={path}", "iflag=direct", "bs=4096", "status=none") == "b" * 5000


def test_fallocate_and_locks(mountpoint: Path) -> None:
    code = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "os.posix_fallocate(fd, 0, 5000)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)\n"
        "other = os.open(sys.argv[1], os.O_RDWR)\n"
        "try:\n"
        "    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError:\n"
        "    print('locked', os.fstat(fd).st_size)\n"
    )
    assert python(code, mountpoint / "file") == "locked 5000\n"


def test_fsync_and_sync(mountpoint: Path, client: CosClient) -> None:
    with (mountpoint / "file").open("wb") as file:
        file.write(b"abc")
        file.flush()
        os.fsync(file.fileno())
        assert stored(client, mountpoint.name, "file") == b"abc"
        file.write(b"def")
        file.flush()
        os.fdatasync(file.fileno())
        assert stored(client, mountpoint.name, "file") == b"abcdef"
    fd = os.open(mountpoint, os.O_RDONLY)
    (mountpoint / "file").unlink()
    os.fsync(fd)
    os.close(fd)
    assert keys(client, mountpoint.name) == []
