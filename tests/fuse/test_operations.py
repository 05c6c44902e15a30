"""What programs do with files, on a real mount."""

# The calls themselves are tested, so they are written as such.
# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH106, PTH108, PTH115, PTH116, PTH208, PTH211
from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import fails_with, make_tree, python, run, tree, until
from tests.mounting import Mounted

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

MIB = 1024 * 1024
Mount = Callable[..., Mounted]


def object_bytes(client: CosClient, bucket: str, key: str) -> bytes:
    """What COS holds, not asked through the mount."""
    info = client.head_object(bucket, key)
    assert info is not None
    return client.get_range(bucket, key, 0, info.size)[1] if info.size else b""


def keys(client: CosClient, bucket: str, prefix: str = "") -> list[str]:
    return [info.key for info in client.list_objects(bucket, prefix=prefix).objects]


# --- standard programs


def test_cp_recursive_then_diff(mountpoint: Path, tmp_path: Path) -> None:
    expected = make_tree(tmp_path / "source")
    run("cp", "-a", tmp_path / "source", mountpoint / "copy")
    assert tree(mountpoint / "copy") == expected
    run("diff", "-r", "--no-dereference", tmp_path / "source", mountpoint / "copy")
    run("cp", "-r", "--no-dereference", mountpoint / "copy", mountpoint / "second")
    assert tree(mountpoint / "second") == expected
    assert run(mountpoint / "copy" / "script") == "ran\n"


def test_cp_preserves_modes_and_times(mountpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"x" * 1000)
    source.chmod(0o640)
    os.utime(source, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))
    run("cp", "-p", source, mountpoint / "file")
    found = (mountpoint / "file").stat()
    assert found.st_mtime_ns == 1_500_000_000_987_654_321
    assert stat.S_IMODE(found.st_mode) == 0o640


def test_tar_in_and_out(mountpoint: Path, tmp_path: Path) -> None:
    expected = make_tree(tmp_path / "source")
    run("tar", "-cf", tmp_path / "a.tar", "-C", tmp_path / "source", ".")
    (mountpoint / "in").mkdir()
    run("tar", "-xpf", tmp_path / "a.tar", "-C", mountpoint / "in")
    assert tree(mountpoint / "in") == expected
    run("tar", "-czf", mountpoint / "b.tgz", "-C", mountpoint / "in", ".")
    (tmp_path / "out").mkdir()
    run("tar", "-xzf", mountpoint / "b.tgz", "-C", tmp_path / "out")
    assert tree(tmp_path / "out") == expected


def test_sed_in_place_and_shell_redirections(mountpoint: Path) -> None:
    path = mountpoint / "text"
    path.write_text("one\ntwo\nthree\n")
    path.chmod(0o600)
    run("sed", "-i", "s/two/2/", path)
    assert path.read_text() == "one\n2\nthree\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    run("sh", "-c", 'echo four >> "$1"; sort -o "$1" "$1"; wc -l < "$1"', "sh", path)
    assert path.read_text() == "2\nfour\none\nthree\n"
    assert os.listdir(mountpoint) == ["text"]


def test_git(mountpoint: Path, tmp_path: Path) -> None:
    work = mountpoint / "repository"
    make_tree(work)
    git = ["git", "-C", work, "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    run("git", "init", "--quiet", "--initial-branch=main", work)
    run(*git, "add", ".")
    run(*git, "commit", "--quiet", "-m", "first")
    (work / "script").write_text("#!/bin/sh\necho changed\n")
    run(*git, "commit", "--quiet", "-am", "second")
    assert run(*git, "status", "--porcelain") == ""
    run(*git, "gc", "--quiet")
    run(*git, "fsck", "--strict")
    run("git", "clone", "--quiet", "--no-hardlinks", work, tmp_path / "clone")
    run(*git, "checkout", "--quiet", "HEAD~1")
    assert (work / "script").read_text() == "#!/bin/sh\necho ran\n"


SQLITE = """
import sqlite3, sys
path, journal = sys.argv[1:]
db = sqlite3.connect(path)
assert db.execute(f"pragma journal_mode={journal}").fetchone()[0] == journal
db.execute("create table t (k integer primary key, v blob)")
for batch in range(5):
    with db:
        db.executemany("insert into t values (?, ?)", [(batch * 100 + i, bytes(500)) for i in range(100)])
try:
    with db:
        db.execute("delete from t")
        raise KeyError
except KeyError:
    pass
with db:
    db.execute("update t set v = zeroblob(700) where k % 3 = 0")
db.close()
db = sqlite3.connect(path)
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
assert db.execute("select count(*) from t").fetchone()[0] == 500
db.execute("vacuum")
db.close()
"""


@pytest.mark.parametrize("journal", ["wal", "delete", "truncate", "persist"])
def test_sqlite(mountpoint: Path, client: CosClient, tmp_path: Path, journal: str) -> None:
    path = mountpoint / "data.db"
    python(SQLITE, path, journal)
    (tmp_path / "copy.db").write_bytes(object_bytes(client, mountpoint.name, "data.db"))
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("pragma integrity_check").fetchone() == ("ok",)


RSYNC = """
import os, shutil, sys
source, target = sys.argv[1:]
for directory, names, files in os.walk(source):
    place = os.path.join(target, os.path.relpath(directory, source))
    os.makedirs(place, exist_ok=True)
    for name in files:
        mine, theirs = os.path.join(directory, name), os.path.join(place, name)
        info = os.lstat(mine)
        if os.path.islink(mine):
            os.symlink(os.readlink(mine), theirs)
            continue
        there = os.lstat(theirs) if os.path.lexists(theirs) else None
        if there and (there.st_size, there.st_mtime_ns) == (info.st_size, info.st_mtime_ns):
            continue
        temporary = os.path.join(place, f".{name}.aB3dE9")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with open(mine, "rb") as data:
            while chunk := data.read(32768):
                os.write(fd, chunk)
        os.close(fd)
        os.utime(temporary, ns=(info.st_atime_ns, info.st_mtime_ns))
        os.chmod(temporary, info.st_mode & 0o7777)
        os.rename(temporary, theirs)
        print(name)
    info = os.lstat(directory)
    os.utime(place, ns=(info.st_atime_ns, info.st_mtime_ns))
"""


def test_synchronising_as_rsync_does(mountpoint: Path, tmp_path: Path) -> None:
    expected = make_tree(tmp_path / "source")
    python(RSYNC, tmp_path / "source", mountpoint / "target")
    assert tree(mountpoint / "target") == expected
    (tmp_path / "source" / "dangling").unlink()
    (tmp_path / "source" / "link").unlink()
    assert python(RSYNC, tmp_path / "source", mountpoint / "target") == ""
    changed = tmp_path / "source" / "dir 0" / "ü" / "file-2.txt"
    changed.write_text("other text\n")
    assert python(RSYNC, tmp_path / "source", mountpoint / "target") == "file-2.txt\n"
    assert (mountpoint / "target/dir 0/ü/file-2.txt").read_text() == "other text\n"
    assert not [name for name in tree(mountpoint / "target") if name.endswith("aB3dE9")]


def test_dd_and_checksum_of_a_large_file(mountpoint: Path, client: CosClient, tmp_path: Path) -> None:
    data = os.urandom(1 * MIB) * 33 + b"tail"
    (tmp_path / "large").write_bytes(data)
    run("dd", f"if={tmp_path / 'large'}", f"of={mountpoint / 'large'}", "bs=1M", "conv=fsync")
    assert hashlib.md5((mountpoint / "large").read_bytes()).digest() == hashlib.md5(data).digest()
    info = client.head_object(mountpoint.name, "large")
    assert info is not None and info.size == len(data)
    run("cmp", tmp_path / "large", mountpoint / "large")


# --- opening and writing


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
    assert object_bytes(client, mountpoint.name, "log") == expected


def test_two_appending_processes_lose_nothing(mountpoint: Path) -> None:
    code = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)\n"
        "for n in range(200): os.write(fd, (sys.argv[2] * 9 + '\\n').encode())\n"
    )
    path = mountpoint / "log"
    path.touch()
    both = [subprocess.Popen([sys.executable, "-c", code, path, letter]) for letter in "xy"]
    assert [process.wait(60) for process in both] == [0, 0]
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
    assert object_bytes(client, mountpoint.name, "file") == b"new"
    path.open("wb").close()
    assert object_bytes(client, mountpoint.name, "file") == b""


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
    assert object_bytes(client, mountpoint.name, "file") == b"01\0\0\0\0z"
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
    assert object_bytes(client, mountpoint.name, "sparse") == bytes(3 * MIB) + b"end"


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
    assert object_bytes(client, mountpoint.name, "large") == data


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
    until(lambda: object_bytes(client, mountpoint.name, "mapped") == expected, "the object has the changes")


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
    until(lambda: object_bytes(client, mountpoint.name, "mapped") == expected, "the object has the changes")


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
        assert object_bytes(client, mountpoint.name, "file") == b"abc"
        file.write(b"def")
        file.flush()
        os.fdatasync(file.fileno())
        assert object_bytes(client, mountpoint.name, "file") == b"abcdef"
    fd = os.open(mountpoint, os.O_RDONLY)
    (mountpoint / "file").unlink()
    os.fsync(fd)
    os.close(fd)
    assert keys(client, mountpoint.name) == []


# --- names


def test_unlinked_file_stays_usable(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "file"
    path.write_bytes(b"content")
    with path.open("r+b") as file:
        path.unlink()
        assert not path.exists()
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == b"content"
        file.write(b" and more")
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == b"content and more"
        path.write_bytes(b"another")
        assert path.read_bytes() == b"another"
        file.seek(0)
        assert file.read() == b"content and more"
    assert path.read_bytes() == b"another"
    path.unlink()
    until(lambda: keys(client, mountpoint.name) == [], "nothing is left")


def test_unlinked_new_file_never_reaches_cos(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "file"
    with path.open("w+b") as file:
        path.unlink()
        file.write(b"x" * 1000)
        file.seek(0)
        assert file.read() == b"x" * 1000
    assert keys(client, mountpoint.name) == []
    assert os.listdir(mountpoint) == []


def test_rename_over_open_file(mountpoint: Path) -> None:
    (mountpoint / "old").write_bytes(b"old")
    (mountpoint / "new").write_bytes(b"new")
    with (mountpoint / "old").open("rb") as reader:
        (mountpoint / "new").rename(mountpoint / "old")
        assert reader.read() == b"old"
    assert (mountpoint / "old").read_bytes() == b"new"
    assert os.listdir(mountpoint) == ["old"]


def test_rename_while_open_for_writing(mountpoint: Path, client: CosClient) -> None:
    with (mountpoint / "a").open("wb") as file:
        file.write(b"before ")
        file.flush()
        (mountpoint / "a").rename(mountpoint / "b")
        file.write(b"after")
    assert (mountpoint / "b").read_bytes() == b"before after"
    assert not (mountpoint / "a").exists()
    assert keys(client, mountpoint.name) == ["b"]


@pytest.mark.parametrize("write_back", ["close", "async"])
def test_rotating_a_log_that_is_being_written(
    mount: Mount, bucket: str, client: CosClient, write_back: str
) -> None:
    path = mount(f"cos://{bucket}", "--write-back", write_back).path
    (path / "log").write_bytes(b"1" * 10)
    with (path / "log").open("ab", buffering=0) as old:
        old.write(b"2")
        (path / "log").rename(path / "log.1")
        (path / "log").write_bytes(b"new")
        old.write(b"3")
    assert tree(path) == {"log": b"new", "log.1": b"1" * 10 + b"23"}
    until(lambda: keys(client, bucket) == ["log", "log.1"], "COS has both")
    until(lambda: object_bytes(client, bucket, "log") == b"new", "COS has the new one")
    assert object_bytes(client, bucket, "log.1") == b"1" * 10 + b"23"


@pytest.mark.parametrize("write_back", ["close", "async"])
def test_renaming_a_changed_file_there_and_back(
    mount: Mount, bucket: str, client: CosClient, write_back: str
) -> None:
    mounted = mount(f"cos://{bucket}", "--write-back", write_back)
    path = mounted.path
    (path / "a").write_bytes(b"1")
    (path / "x").write_bytes(b"x")
    with (path / "a").open("ab", buffering=0) as file:
        file.write(b"2")
        (path / "a").rename(path / "b")
        (path / "b").rename(path / "c")
        (path / "x").rename(path / "b")
        (path / "c").rename(path / "a")
        file.write(b"3")
    assert tree(path) == {"a": b"123", "b": b"x"}
    assert mounted.unmount() == 0
    assert keys(client, bucket) == ["a", "b"]
    assert object_bytes(client, bucket, "a") == b"123"


def test_removing_a_renamed_changed_file(mountpoint: Path, client: CosClient) -> None:
    (mountpoint / "a").write_bytes(b"1" * (3 * MIB))
    with (mountpoint / "a").open("r+b", buffering=0) as file:
        file.write(b"2")
        (mountpoint / "a").rename(mountpoint / "b")
        (mountpoint / "b").unlink()
        assert os.pread(file.fileno(), 2, 0) == b"21"
        assert os.pread(file.fileno(), 2, 2 * MIB) == b"11"
        assert os.listdir(mountpoint) == []
    until(lambda: keys(client, mountpoint.name) == [], "nothing is left")


def test_renaming_over_a_renamed_changed_file(mountpoint: Path, client: CosClient) -> None:
    (mountpoint / "a").write_bytes(b"a")
    (mountpoint / "x").write_bytes(b"x")
    with (mountpoint / "a").open("r+b", buffering=0) as file:
        file.write(b"A")
        (mountpoint / "a").rename(mountpoint / "b")
        (mountpoint / "x").rename(mountpoint / "b")
        assert os.pread(file.fileno(), 2, 0) == b"A"
    assert tree(mountpoint) == {"b": b"x"}
    until(lambda: keys(client, mountpoint.name) == ["b"], "only the last one is left")


def test_open_files_follow_a_renamed_directory(mountpoint: Path, client: CosClient) -> None:
    data = os.urandom(20 * MIB)
    (mountpoint / "old").mkdir()
    for name in ("read", "write"):
        client.put_object(mountpoint.name, f"old/{name}", data)
    until(lambda: (mountpoint / "old/write").exists(), "the objects are found", within=8)
    with (mountpoint / "old/read").open("rb") as reading, (mountpoint / "old/write").open("r+b") as writing:
        writing.write(b"begin")
        writing.flush()
        (mountpoint / "old").rename(mountpoint / "new")
        until(lambda: not keys(client, mountpoint.name, "old"), "the old objects are gone")
        assert reading.read() == data
        writing.seek(-3, os.SEEK_END)
        writing.write(b"end")
    assert (mountpoint / "new/write").read_bytes() == b"begin" + data[5:-3] + b"end"
    assert sorted(os.listdir(mountpoint / "new")) == ["read", "write"]


def test_rename_keeps_attributes(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "a"
    path.write_bytes(b"x")
    path.chmod(0o604)
    os.utime(path, ns=(5, 1_234_567_890_123_456_789))
    os.setxattr(path, "user.note", b"kept")
    path.rename(mountpoint / "b")
    found = (mountpoint / "b").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o604, 1_234_567_890_123_456_789)
    assert os.getxattr(mountpoint / "b", "user.note") == b"kept"
    assert found.st_ino == (mountpoint / "b").stat().st_ino


def test_rename_errors(mountpoint: Path) -> None:
    (mountpoint / "dir/sub").mkdir(parents=True)
    (mountpoint / "full").mkdir()
    (mountpoint / "full/file").touch()
    (mountpoint / "file").touch()
    for source, target, code in (
        ("dir", "full", errno.ENOTEMPTY),
        ("dir", "file", errno.ENOTDIR),
        ("file", "dir", errno.EISDIR),
        ("dir", "dir/sub/x", errno.EINVAL),
        ("missing", "x", errno.ENOENT),
        ("file", "missing/x", errno.ENOENT),
        ("file", "file/x", errno.ENOTDIR),
    ):
        with fails_with(code):
            os.rename(mountpoint / source, mountpoint / target)
    os.rename(mountpoint / "file", mountpoint / "file")
    os.rename(mountpoint / "full", mountpoint / "dir/sub")
    assert sorted(tree(mountpoint)) == ["dir", "dir/sub", "dir/sub/file", "file"]


RENAMEAT2 = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
result = libc.renameat2(-100, os.fsencode(sys.argv[1]), -100, os.fsencode(sys.argv[2]), int(sys.argv[3]))
print(result and ctypes.get_errno())
"""


def test_rename_flags(mountpoint: Path) -> None:
    (mountpoint / "a").write_text("a")
    (mountpoint / "b").write_text("b")
    assert python(RENAMEAT2, mountpoint / "a", mountpoint / "b", "1") == f"{errno.EEXIST}\n"
    assert python(RENAMEAT2, mountpoint / "a", mountpoint / "b", "2") == f"{errno.EINVAL}\n"
    assert python(RENAMEAT2, mountpoint / "a", mountpoint / "c", "1") == "0\n"
    assert tree(mountpoint) == {"b": b"b", "c": b"a"}


def test_rename_directory(mountpoint: Path, client: CosClient) -> None:
    expected = make_tree(mountpoint / "old")
    with (mountpoint / "old/script").open("rb") as reader:
        (mountpoint / "old").rename(mountpoint / "new")
        assert reader.read().startswith(b"#!")
    assert tree(mountpoint / "new") == expected
    assert os.listdir(mountpoint) == ["new"]
    until(lambda: not keys(client, mountpoint.name, "old/"), "the old objects are gone")
    (mountpoint / "other").mkdir()
    (mountpoint / "new").rename(mountpoint / "other")
    assert tree(mountpoint / "other") == expected
    (mountpoint / "new").mkdir()
    assert os.listdir(mountpoint / "new") == []


def test_rename_directory_with_open_files(mountpoint: Path, client: CosClient) -> None:
    (mountpoint / "old").mkdir()
    (mountpoint / "old/kept").write_bytes(b"kept")
    with (mountpoint / "old/new").open("wb") as new, (mountpoint / "old/kept").open("r+b") as kept:
        new.write(b"new")
        new.flush()
        kept.write(b"KE")
        kept.flush()
        (mountpoint / "old").rename(mountpoint / "moved")
        new.write(b"er")
    assert tree(mountpoint) == {"moved": None, "moved/kept": b"KEpt", "moved/new": b"newer"}
    until(lambda: not keys(client, mountpoint.name, "old"), "nothing is left under the old name")
    assert object_bytes(client, mountpoint.name, "moved/new") == b"newer"
    assert object_bytes(client, mountpoint.name, "moved/kept") == b"KEpt"


def test_rename_across_buckets(mountpoint: Path, all_buckets: Mounted, client: CosClient) -> None:
    other = all_buckets.path / f"other-{mountpoint.name}"
    other.mkdir()
    expected = make_tree(mountpoint / "dir")
    (mountpoint / "file").write_text("x")
    (mountpoint / "file").rename(other / "file")
    (mountpoint / "dir").rename(other / "dir")
    assert tree(other) == {"file": b"x", "dir": None} | {
        f"dir/{name}": data for name, data in expected.items()
    }
    assert os.listdir(mountpoint) == []
    until(lambda: keys(client, mountpoint.name) == [], "the first bucket is empty")


def test_directories(mountpoint: Path, client: CosClient) -> None:
    os.makedirs(mountpoint / "a/b/c")
    with fails_with(errno.ENOTEMPTY):
        os.rmdir(mountpoint / "a")
    with fails_with(errno.EEXIST):
        os.mkdir(mountpoint / "a/b")
    (mountpoint / "file").touch()
    with fails_with(errno.ENOTDIR):
        os.rmdir(mountpoint / "file")
    with fails_with(errno.ENOTDIR):
        os.mkdir(mountpoint / "file/x")
    with fails_with(errno.EISDIR):
        os.unlink(mountpoint / "a")
    with fails_with(errno.ENOENT):
        os.rmdir(mountpoint / "missing")
    os.removedirs(mountpoint / "a/b/c")
    assert os.listdir(mountpoint) == ["file"]
    until(lambda: keys(client, mountpoint.name) == ["file"], "markers are gone")


def test_emptied_directory_stays(mountpoint: Path, client: CosClient) -> None:
    client.put_object(mountpoint.name, "implicit/only", b"x")
    until(lambda: os.listdir(mountpoint) == ["implicit"], "the new object is listed", within=8)
    (mountpoint / "implicit/only").unlink()
    assert (mountpoint / "implicit").is_dir()
    until(lambda: keys(client, mountpoint.name) == ["implicit/"], "the directory has an object of its own")


def test_removing_a_tree(mountpoint: Path, client: CosClient) -> None:
    make_tree(mountpoint / "tree")
    run("rm", "-r", mountpoint / "tree")
    assert os.listdir(mountpoint) == []
    until(lambda: keys(client, mountpoint.name) == [], "nothing is left")


def test_symlinks(mountpoint: Path) -> None:
    (mountpoint / "dir").mkdir()
    (mountpoint / "dir/file").write_text("text")
    (mountpoint / "link").symlink_to("dir/file")
    (mountpoint / "up").symlink_to("dir")
    assert (mountpoint / "link").read_text() == "text"
    assert os.listdir(mountpoint / "up") == ["file"]
    assert os.readlink(mountpoint / "link") == "dir/file"
    assert (mountpoint / "link").lstat().st_size == len("dir/file")
    with fails_with(errno.EEXIST):
        (mountpoint / "link").symlink_to("else")
    with fails_with(errno.EINVAL):
        os.readlink(mountpoint / "dir/file")
    (mountpoint / "loop").symlink_to("loop")
    with fails_with(errno.ELOOP):
        (mountpoint / "loop").read_text()
    (mountpoint / "link").unlink()
    assert (mountpoint / "dir/file").exists()


def test_special_files(mountpoint: Path) -> None:
    os.mkfifo(mountpoint / "fifo", 0o620)
    os.mknod(mountpoint / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(mountpoint / "plain", stat.S_IFREG | 0o600)
    fifo, null = (mountpoint / "fifo").stat(), (mountpoint / "null").stat()
    assert stat.S_ISFIFO(fifo.st_mode)
    assert stat.S_ISCHR(null.st_mode) and null.st_rdev == os.makedev(1, 3)
    assert (mountpoint / "plain").read_bytes() == b""
    assert run("sh", "-c", 'echo through > "$1" & cat "$1"; wait', "sh", mountpoint / "fifo") == "through\n"


def test_hard_links_are_refused(mountpoint: Path) -> None:
    (mountpoint / "file").touch()
    with fails_with(errno.EPERM):
        os.link(mountpoint / "file", mountpoint / "second")
    assert os.listdir(mountpoint) == ["file"]


@pytest.mark.parametrize(
    "name", ["x" * 255, "é" * 127 + "x", "new\nline", "tab\t", " ", "a b", "%41", "+", "🦀", "-r"]
)
def test_names_that_work(mountpoint: Path, name: str) -> None:
    (mountpoint / name).write_text(name)
    assert os.listdir(mountpoint) == [name]
    assert (mountpoint / name).read_text() == name
    (mountpoint / name).rename(mountpoint / "other")
    (mountpoint / "other").rename(mountpoint / name)
    (mountpoint / name).unlink()
    (mountpoint / name).mkdir()
    (mountpoint / name / "below").touch()
    assert tree(mountpoint) == {name: None, f"{name}/below": b""}


def test_names_that_are_refused(mountpoint: Path) -> None:
    bad = os.fsencode(mountpoint) + b"/bad-\xff"
    for call in (
        lambda name: os.close(os.open(name, os.O_WRONLY | os.O_CREAT)),
        lambda name: os.mkdir(name),
        lambda name: os.symlink(b"target", name),
        lambda name: os.mkfifo(name),
    ):
        with fails_with(errno.EILSEQ):
            call(bad)
        with fails_with(errno.ENAMETOOLONG):
            call(os.fsencode(mountpoint / ("x" * 256)))
    (mountpoint / "file").touch()
    with fails_with(errno.EILSEQ):
        os.rename(os.fsencode(mountpoint / "file"), bad)
    with fails_with(errno.ENOENT):
        os.stat(bad)
    with fails_with(errno.ENAMETOOLONG):
        (mountpoint / ("x" * 256)).stat()
    assert os.listdir(mountpoint) == ["file"]


def test_keys_that_are_too_long(mountpoint: Path) -> None:
    deep = mountpoint / ("a" * 250) / ("b" * 250) / ("c" * 250)
    deep.mkdir(parents=True)
    (deep / ("d" * 97)).write_text("850 bytes")
    for call in (
        lambda path: path.touch(),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("x"),
        lambda path: (deep / ("d" * 97)).rename(path),
    ):
        with fails_with(errno.ENAMETOOLONG):
            call(deep / ("e" * 98))
    assert os.listdir(deep) == ["d" * 97]
    with fails_with(errno.ENAMETOOLONG):
        (mountpoint / ("a" * 250)).rename(mountpoint / ("a" * 251))
    assert (deep / ("d" * 97)).read_text() == "850 bytes"


def test_keys_no_path_can_hold(mount: Mount, bucket: str, client: CosClient) -> None:
    everything = {
        "a": b"file", "a/": b"", "a/b": b"below", "a//b": b"empty component", "/x": b"leading", "../x": b"up",
        "n" * 255: b"255", "m" * 800: b"800", "new\nline": b"nl", "ünï/🦀": b"unicode", "key/": b"content",
    }  # fmt: skip
    for key, data in everything.items():
        client.put_object(bucket, key, data)
    found = tree(mount(f"cos://{bucket}").path)
    contents = sorted(data for data in found.values() if isinstance(data, bytes))
    assert contents == sorted(data for data in everything.values() if data)
    assert found["a"] is None and found["a/b"] == b"below" and found["a%=file"] == b"file"


# --- attributes


def test_attributes_survive_a_remount(mount: Mount, bucket: str) -> None:
    first = mount(f"cos://{bucket}")
    path = first.path
    (path / "file").write_bytes(b"x")
    (path / "dir").mkdir(mode=0o711)
    (path / "link").symlink_to("file")
    os.mkfifo(path / "fifo", 0o640)
    os.mknod(path / "device", stat.S_IFBLK | 0o600, os.makedev(7, 300))
    for name in ("file", "dir"):
        os.chown(path / name, 1234, 2345)
        os.chmod(path / name, 0o4751 if name == "file" else 0o1751)
        os.setxattr(path / name, "user.note", b"\x00\xffbinary")
        os.utime(path / name, ns=(1_700_000_001_000_000_007, 1_600_000_000_123_456_789))
    os.utime(path / "link", ns=(5, 1_300_000_000_000_000_001), follow_symlinks=False)
    before = {name: (path / name).lstat() for name in os.listdir(path)}
    assert first.unmount() == 0
    again = mount(f"cos://{bucket}").path
    for name, old in before.items():
        new = (again / name).lstat()
        for field in ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_rdev", "st_ino"):
            assert getattr(new, field) == getattr(old, field), (name, field)
    assert os.getxattr(again / "file", "user.note") == b"\x00\xffbinary"
    assert os.getxattr(again / "dir", "user.note") == b"\x00\xffbinary"
    assert os.readlink(again / "link") == "file"
    assert (again / "file").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert stat.S_IMODE((again / "file").stat().st_mode) == 0o4751


def test_extended_attributes(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "file"
    path.write_bytes(b"x")
    os.setxattr(path, "user.one", b"1", os.XATTR_CREATE)
    os.setxattr(path, "user.empty", b"")
    with fails_with(errno.EEXIST):
        os.setxattr(path, "user.one", b"2", os.XATTR_CREATE)
    with fails_with(errno.ENODATA):
        os.setxattr(path, "user.two", b"2", os.XATTR_REPLACE)
    os.setxattr(path, "user.one", b"uno", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.one") == b"uno"
    assert os.getxattr(path, "user.empty") == b""
    assert {"user.one", "user.empty"} <= set(os.listxattr(path))
    os.removexattr(path, "user.empty")
    with fails_with(errno.ENODATA):
        os.getxattr(path, "user.empty")
    with fails_with(errno.ENODATA):
        os.removexattr(path, "user.empty")
    until(lambda: "xattr" in metadata(client, mountpoint.name, "file"), "the object has the attribute")


def metadata(client: CosClient, bucket: str, key: str) -> Mapping[str, str]:
    info = client.head_object(bucket, key)
    assert info is not None and info.headers is not None
    return info.headers.metadata


def test_extended_attributes_have_a_limit(mountpoint: Path) -> None:
    path = mountpoint / "file"
    path.write_bytes(b"x")
    os.setxattr(path, "user.small", b"x" * 500)
    with fails_with(errno.ENOSPC):
        os.setxattr(path, "user.large", b"x" * 2000)
    assert os.getxattr(path, "user.small") == b"x" * 500
    with fails_with(errno.ENODATA):
        os.getxattr(path, "user.large")
    with pytest.raises(OSError):
        os.setxattr(path, "user.huge", b"x" * 65536)
    path.write_bytes(b"still writable")
    path.rename(mountpoint / "renamed")
    assert (mountpoint / "renamed").read_bytes() == b"still writable"


def test_other_namespaces_are_not_supported(mountpoint: Path) -> None:
    path = mountpoint / "file"
    path.write_bytes(b"x")
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 4, 0xFFFFFFFF) for tag in (1, 4, 32))
    for name, value in (("trusted.x", b"1"), ("security.x", b"1"), ("system.posix_acl_access", acl)):
        with fails_with(errno.ENOTSUP):
            os.setxattr(path, name, value)


def test_attributes_of_cos(mountpoint: Path, client: CosClient) -> None:
    path = mountpoint / "file"
    path.write_bytes(b"content")
    info = client.head_object(mountpoint.name, "file")
    assert info is not None
    for name, value in (
        ("etag", info.etag),
        ("crc64", str(info.crc64)),
        ("storage-class", "STANDARD"),
        ("url", f"cos://{mountpoint.name}/file"),
    ):
        assert os.getxattr(path, f"user.cos.{name}").decode() == value
        assert f"user.cos.{name}" not in os.listxattr(path), "a copy would try to set it"
    assert os.getxattr(mountpoint, "user.cos.url").decode().startswith(f"cos://{mountpoint.name}")
    with fails_with(errno.EPERM):
        os.setxattr(path, "user.cos.etag", b"mine")
    with fails_with(errno.EPERM):
        os.removexattr(path, "user.cos.etag")
    with fails_with(errno.ENODATA):
        os.getxattr(path, "user.cos.nonsense")
    # Copies of programs that copy attributes must not stumble over them.
    run("cp", "-a", path, mountpoint / "copy")
    assert (mountpoint / "copy").read_bytes() == b"content"


def test_times_to_the_nanosecond(mountpoint: Path) -> None:
    for name in ("file", "dir"):
        path = mountpoint / name
        path.mkdir() if name == "dir" else path.touch()
        for moment in (
            0,
            1,
            999_999_999,
            1_600_000_000_123_456_789,
            4_102_444_800_000_000_001,
            -1_500_000_000,
        ):
            os.utime(path, ns=(moment, moment))
            assert path.stat().st_mtime_ns == moment
    before = (mountpoint / "file").stat()
    (mountpoint / "file").chmod(0o600)
    after = (mountpoint / "file").stat()
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_ctime_ns >= before.st_ctime_ns


def test_writing_sets_times_and_directories_follow(mountpoint: Path) -> None:
    (mountpoint / "dir").mkdir()
    os.utime(mountpoint / "dir", (1, 1))
    path = mountpoint / "dir/file"
    path.write_bytes(b"1")
    assert (mountpoint / "dir").stat().st_mtime > 1
    os.utime(path, (1, 1))
    with path.open("ab") as file:
        file.write(b"2")
    written = path.stat().st_mtime_ns
    assert written > 1_000_000_000
    assert path.stat().st_mtime_ns == written
    os.utime(mountpoint / "dir", (1, 1))
    path.unlink()
    assert (mountpoint / "dir").stat().st_mtime > 1


def test_permissions_hold_for_other_users(mount: Mount, bucket: str) -> None:
    path = mount(f"cos://{bucket}", "--allow-other").path
    (path / "private").write_text("secret")
    (path / "private").chmod(0o600)
    (path / "public").write_text("open")
    (path / "drop").mkdir()
    (path / "drop").chmod(0o1777)
    (path / "drop/mine").touch()
    assert as_nobody(path, "cat public") == "open"
    assert as_nobody(path, "cat private || echo no") == "no\n"
    assert as_nobody(path, "touch new || echo no") == "no\n"
    assert as_nobody(path, "rm -f drop/mine || echo no") == "no\n"
    assert as_nobody(path, "test -w private || echo no; test -r public && echo yes") == "no\nyes\n"
    assert as_nobody(path, "umask 027; echo mine > drop/theirs; cat drop/theirs") == "mine\n"
    assert as_nobody(path, "chown 0 drop/theirs || echo no") == "no\n"
    found = (path / "drop/theirs").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65534, 0o640)


def as_nobody(directory: Path, script: str) -> str:
    """What a shell script says that another user runs in a directory."""
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script]
    return subprocess.run(become, cwd=directory, capture_output=True, text=True, timeout=30).stdout


def test_a_mount_is_closed_to_others_by_default(mountpoint: Path) -> None:
    (mountpoint / "file").touch()
    assert as_nobody(mountpoint, "cat file || echo no") == "no\n"


def test_set_group_id_directories_and_set_user_id_files(mount: Mount, bucket: str) -> None:
    path = mount(f"cos://{bucket}", "--allow-other").path
    (path / "dir").mkdir()
    os.chown(path / "dir", -1, 4321)
    (path / "dir").chmod(0o2777)
    (path / "dir/file").touch()
    (path / "dir/sub").mkdir()
    assert (path / "dir/file").stat().st_gid == 4321
    assert (path / "dir/sub").stat().st_gid == 4321
    assert (path / "dir/sub").stat().st_mode & stat.S_ISGID
    (path / "dir/file").write_text("x")
    (path / "dir/file").chmod(0o6777)
    assert as_nobody(path, "echo more >> dir/file") == ""
    assert stat.S_IMODE((path / "dir/file").stat().st_mode) == 0o777


def test_statfs(mountpoint: Path) -> None:
    found = os.statvfs(mountpoint)
    assert found.f_namemax == 255
    assert found.f_bavail * found.f_frsize >= 1 << 50
    assert found.f_favail > 1 << 30
    run("df", mountpoint)


def test_access(mountpoint: Path) -> None:
    path = mountpoint / "file"
    path.touch()
    path.chmod(0o644)
    assert os.access(path, os.R_OK | os.W_OK)
    assert not os.access(path, os.X_OK)
    assert not os.access(mountpoint / "missing", os.F_OK)


def test_directories_of_many_entries_read_while_they_change(mountpoint: Path) -> None:
    for number in range(300):
        (mountpoint / f"{number:03}").touch()
    with os.scandir(mountpoint) as entries:
        seen = []
        for entry in entries:
            seen.append(entry.name)
            if len(seen) % 2:
                os.unlink(entry.path)
    assert sorted(seen) == [f"{number:03}" for number in range(300)]
    assert len(os.listdir(mountpoint)) == 150


# --- the root of all buckets


def test_buckets_are_made_and_removed(all_buckets: Mounted, client: CosClient) -> None:
    root = all_buckets.path
    (root / "short-name").mkdir()
    (root / "full-name-1250000000").mkdir()
    names = {bucket.name for bucket in client.list_buckets()}
    assert {"short-name-1250000000", "full-name-1250000000"} <= names
    assert {"short-name-1250000000", "full-name-1250000000"} <= set(os.listdir(root))
    (root / "short-name/file").write_text("x")
    assert (root / "short-name-1250000000/file").read_text() == "x"
    for name in ("short-name", "short-name-1250000000"):
        with fails_with(errno.EEXIST):
            (root / name).mkdir()
    with fails_with(errno.ENOTEMPTY):
        (root / "short-name-1250000000").rmdir()
    (root / "short-name-1250000000/file").unlink()
    (root / "short-name").rmdir()
    (root / "full-name-1250000000").rmdir()
    names = {bucket.name for bucket in client.list_buckets()}
    assert not {"short-name-1250000000", "full-name-1250000000"} & names
    assert not {"short-name-1250000000", "full-name-1250000000"} & set(os.listdir(root))
    (root / "full-name-1250000000").mkdir()
    (root / "full-name-1250000000").rmdir()


def test_only_buckets_live_at_the_root(all_buckets: Mounted, mountpoint: Path) -> None:
    root = all_buckets.path
    for call in (
        lambda: (root / "file").touch(),
        lambda: (root / "link").symlink_to("x"),
        lambda: os.mkfifo(root / "fifo"),
        lambda: mountpoint.rename(root / "renamed-1250000000"),
    ):
        with fails_with(errno.EPERM):
            call()
    with pytest.raises(OSError):
        (root / "Not_A_Bucket_Name").mkdir()
    assert mountpoint.is_dir()


def test_bucket_made_elsewhere_appears(mount: Mount, client: CosClient) -> None:
    path = mount("cos://", "--metadata-ttl", "0.2s").path
    assert not (path / "elsewhere-1250000000").exists()
    client.create_bucket("elsewhere-1250000000")
    until((path / "elsewhere").is_dir, "the new bucket is found", within=5)
    assert "elsewhere-1250000000" in os.listdir(path)


# --- options


def test_read_only(mount: Mount, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "dir/file", b"text")
    path = mount(f"cos://{bucket}", "--read-only").path
    assert (path / "dir/file").read_bytes() == b"text"
    for call in (
        lambda: (path / "new").touch(),
        lambda: (path / "new").mkdir(),
        lambda: (path / "dir/file").unlink(),
        lambda: (path / "dir/file").chmod(0o600),
        lambda: (path / "dir/file").open("ab"),
        lambda: (path / "dir").rename(path / "other"),
        lambda: os.setxattr(path / "dir/file", "user.x", b"1"),
    ):
        with fails_with(errno.EROFS):
            call()
    assert keys(client, bucket) == ["dir/file"]


def test_owner_and_modes_of_what_carries_none(mount: Mount, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "dir/file", b"text")

    def shown(*options: str) -> tuple[str, str, int, int]:
        mounted = mount(f"cos://{bucket}", *options)
        file, directory = (mounted.path / "dir/file").stat(), (mounted.path / "dir").stat()
        assert (directory.st_uid, directory.st_gid) == (file.st_uid, file.st_gid)
        mounted.unmount()
        return oct(file.st_mode & 0o7777), oct(directory.st_mode & 0o7777), file.st_uid, file.st_gid

    me = (os.geteuid(), os.getegid())
    assert shown() == ("0o644", "0o755", *me)
    assert shown("--umask", "027") == ("0o640", "0o750", *me)
    assert shown("--file-mode", "0600", "--dir-mode", "711") == ("0o600", "0o711", *me)
    assert shown("--uid", "12", "--gid", "34", "--umask", "0") == ("0o666", "0o777", 12, 34)
    assert shown("-o", "uid=0,gid=12,fmode=0444,dmode=0555") == ("0o444", "0o555", 0, 12)


def test_prefix_is_all_there_is(mount: Mount, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "data/in", b"in")
    client.put_object(bucket, "out", b"out")
    path = mount(f"cos://{bucket}/data").path
    assert tree(path) == {"in": b"in"}
    (path / "new").write_text("new")
    (path / "dir").mkdir()
    assert keys(client, bucket) == ["data/dir/", "data/in", "data/new", "out"]


# --- what others do


def test_changes_of_others_are_seen(mount: Mount, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"first")
    client.put_object(bucket, "gone", b"x")
    path = mount(f"cos://{bucket}", "--metadata-ttl", "0.2s").path
    assert (path / "file").read_bytes() == b"first"
    client.put_object(bucket, "file", b"second version")
    client.put_object(bucket, "new", b"new")
    client.delete_object(bucket, "gone")
    until(lambda: (path / "file").read_bytes() == b"second version", "the new content is read")
    until(lambda: sorted(os.listdir(path)) == ["file", "new"], "the listing follows")
    assert not (path / "gone").exists()
    assert (path / "new").read_bytes() == b"new"


def test_object_replaced_under_an_open_handle(mount: Mount, bucket: str, client: CosClient) -> None:
    old, new = b"a" * (3 * MIB), b"b" * (3 * MIB)
    client.put_object(bucket, "file", old)
    path = mount(f"cos://{bucket}", "--metadata-ttl", "0.1s", "--readahead", "0").path / "file"
    with path.open("rb", buffering=0) as file:
        got = file.read(100)
        client.put_object(bucket, "file", new)
        try:
            while piece := file.read(256 * 1024):
                got += piece
        except OSError as error:
            assert error.errno == errno.ESTALE
        assert got == old[: len(got)]
    until(lambda: path.read_bytes() == new, "reopened, the file is the new one")


def test_conflict_keeps_both(mount: Mount, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"base")
    path = mount(f"cos://{bucket}").path
    file = (path / "file").open("r+b", buffering=0)
    file.write(b"MINE")
    client.put_object(bucket, "file", b"theirs")
    with fails_with(errno.ESTALE):
        file.close()
    assert object_bytes(client, bucket, "file") == b"theirs"
    (other,) = [key for key in keys(client, bucket) if key != "file"]
    assert other.startswith("file.conflict-") and object_bytes(client, bucket, other) == b"MINE"
