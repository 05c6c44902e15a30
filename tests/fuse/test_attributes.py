"""Modes, owners, times and extended attributes, on a real mount."""

# The calls themselves are tested, so they are written as such.
# ruff: noqa: PTH101, PTH108, PTH115, PTH208
from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import fails_with, run, until
from tests.mounting import Mounted

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

MIB = 1024 * 1024
Mount = Callable[..., Mounted]


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
    return subprocess.run(become, cwd=directory, capture_output=True, text=True, timeout=90).stdout


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
