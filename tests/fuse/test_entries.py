"""Names of files and directories: making, removing, renaming, what may be one."""

# The calls themselves are tested, so they are written as such.
# ruff: noqa: PTH102, PTH103, PTH104, PTH106, PTH108, PTH115, PTH116, PTH208, PTH211
from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import fails_with, make_tree, python, run, tree, until
from tests.mounting import Mounted
from tests.objects import keys, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

MIB = 1024 * 1024
Mount = Callable[..., Mounted]


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
    until(lambda: stored(client, bucket, "log") == b"new", "COS has the new one")
    until(lambda: stored(client, bucket, "log.1") == b"1" * 10 + b"23", "and all of the old one")


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
    assert stored(client, bucket, "a") == b"123"


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


def test_open_files_follow_a_renamed_directory(
    mount: Callable[..., Mounted], bucket: str, client: CosClient
) -> None:
    data = os.urandom(20 * MIB)
    for name in ("read", "write"):
        client.put_object(bucket, f"old/{name}", data)
    mountpoint = mount(f"cos://{bucket}").path
    with (mountpoint / "old/read").open("rb") as reading, (mountpoint / "old/write").open("r+b") as writing:
        writing.write(b"begin")
        writing.flush()
        (mountpoint / "old").rename(mountpoint / "new")
        until(lambda: not keys(client, bucket, "old"), "the old objects are gone")
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
    assert stored(client, mountpoint.name, "moved/new") == b"newer"
    assert stored(client, mountpoint.name, "moved/kept") == b"KEpt"


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
    until(lambda: os.listdir(mountpoint) == ["implicit"], "the new object is listed")
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
