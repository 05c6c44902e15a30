"""Modes, owners, times, extended attributes."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounting import Mounted
from tests.semantics.conftest import Outside, settle

pytestmark = pytest.mark.fuse


def test_mode_owner_and_times_are_kept(
    mount_bucket: Callable[..., Path], mount: Callable[..., Mounted], bucket: str
) -> None:
    top = mount_bucket()
    (top / "file").write_bytes(b"x")
    (top / "dir").mkdir()
    for name in ("file", "dir"):
        (top / name).chmod(0o750)
        if os.geteuid() == 0:
            os.chown(top / name, 1234, 2345)
        os.utime(top / name, ns=(1_600_000_000_123_456_789, 1_600_000_000_987_654_321))
        settle(top / name)
    again = mount(f"cos://{bucket}").path
    for name in ("file", "dir"):
        found = (again / name).stat()
        assert stat.S_IMODE(found.st_mode) == 0o750
        assert found.st_mtime_ns == 1_600_000_000_987_654_321
        if os.geteuid() == 0:
            assert (found.st_uid, found.st_gid) == (1234, 2345)


def test_attributes_of_tencents_cosfs_are_understood(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    outside.put("file", b"x", mode=str(stat.S_IFREG | 0o604), uid="12", gid="34", mtime="1500000000")
    found = (mount_bucket() / "file").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime) == (0o604, 12, 34, 1.5e9)


def test_attributes_are_written_as_tencents_cosfs_reads_them(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    path = mount_bucket() / "file"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.fchmod(fd, 0o640)
    os.utime(fd, (1_500_000_000, 1_500_000_000))
    os.close(fd)
    info = outside.client.head_object(outside.bucket, "file")
    assert info is not None and info.headers is not None
    assert info.headers.metadata["mode"] == str(stat.S_IFREG | 0o640)
    assert info.headers.metadata["mtime"] == "1500000000"


def test_objects_without_attributes_have_those_of_the_mount(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    outside.put("dir/file", b"x")
    top = mount_bucket(
        "--uid", "11", "--gid", "22", "--file-mode", "0640", "--dir-mode", "0710", "--allow-other"
    )
    for path, mode in ((top / "dir" / "file", 0o640), (top / "dir", 0o710)):
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (11, 22, mode)


def test_umask_is_taken_off(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("file", b"x")
    assert stat.S_IMODE((mount_bucket("--umask", "077") / "file").stat().st_mode) == 0o600


def test_content_type_survives_chmod(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    from cosfs.client.model import Headers

    outside.client.put_object(
        outside.bucket, "page", b"x", headers=Headers(content_type="text/css", metadata={"mine": "kept"})
    )
    path = mount_bucket() / "page"
    path.chmod(0o600)
    settle(path)
    info = outside.client.head_object(outside.bucket, "page")
    assert info is not None and info.headers is not None
    assert info.headers.content_type == "text/css"
    assert info.headers.metadata["mine"] == "kept"


def test_extended_attributes_are_kept(
    mount_bucket: Callable[..., Path], mount: Callable[..., Mounted], bucket: str
) -> None:
    path = mount_bucket() / "file"
    path.write_bytes(b"x")
    os.setxattr(path, "user.colour", b"blue \0 green")
    settle(path)
    again = mount(f"cos://{bucket}").path / "file"
    assert os.getxattr(again, "user.colour") == b"blue \0 green"
    assert "user.colour" in os.listxattr(again)
    os.removexattr(again, "user.colour")
    with pytest.raises(OSError) as raised:
        os.getxattr(again, "user.colour")
    assert raised.value.errno == errno.ENODATA


def test_too_large_extended_attributes_are_refused(mount_bucket: Callable[..., Path]) -> None:
    path = mount_bucket() / "file"
    path.write_bytes(b"x")
    with pytest.raises(OSError) as raised:
        os.setxattr(path, "user.large", b"x" * 3000)
    assert raised.value.errno in (errno.ENOSPC, errno.E2BIG)


def test_what_cos_says_can_be_read(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("file", b"content")
    path = mount_bucket() / "file"
    info = outside.client.head_object(outside.bucket, "file")
    assert info is not None
    assert os.getxattr(path, "user.cos.etag").decode() == info.etag
    assert os.getxattr(path, "user.cos.url").decode() == f"cos://{outside.bucket}/file"
    with pytest.raises(PermissionError):
        os.setxattr(path, "user.cos.etag", b"x")


def test_set_user_id_bit_is_cleared_by_a_write(mount_bucket: Callable[..., Path]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can write as somebody else")
    top = mount_bucket("--allow-other")
    (top / "file").write_bytes(b"x")
    (top / "file").chmod(0o4777)
    command = ["sh", "-c", "echo changed > file"]
    subprocess.run(command, cwd=top, user=65534, group=65534, extra_groups=[], check=True)
    assert not (top / "file").stat().st_mode & stat.S_ISUID
