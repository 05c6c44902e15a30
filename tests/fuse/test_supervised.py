"""A mount started by mount(8), /etc/fstab or systemd, and what it logs."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import fails_with, until
from tests.fuse.users import User
from tests.mounting import Mounted, is_mounted

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Mount = Callable[..., Mounted]
MIB = 1024 * 1024

pytestmark = pytest.mark.fuse


def test_mount_8_and_fstab_options(user: User, bucket: str) -> None:
    source = f"cos://{bucket}/data"
    options = (
        f"rw,_netdev,nofail,x-systemd.automount,uid=12,umask=027,cache_dir={user.home}/c,write_back=async"
    )
    command = ["mount.cosfs", source, str(user.mountpoint), "-o", options]
    done = subprocess.run(command, env=user.environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (user.mountpoint / ".").stat().st_uid == 12
    assert user.one()["write_back"] == "async"
    assert user.cos("umount", user.mountpoint).returncode == 0
    done = subprocess.run([*command[:-1], "colour=red"], env=user.environment, capture_output=True, text=True)
    assert done.returncode == 1 and "colour" in done.stderr
    command[1] = "cos://missing-1250000000"
    done = subprocess.run(command, env=user.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 32 and "missing-1250000000" in done.stderr
    assert not is_mounted(user.mountpoint)


# mount(8) looks for helpers in /sbin only. Nobody else sees what is laid over it in a namespace of our own.
MOUNT_8 = """
set -e
mount -t overlay overlay -o "lowerdir=$1:$(realpath /sbin)" "$(realpath /sbin)"
mount -t cosfs -o _netdev,uid=12,noexec "$2" "$3"
stat -c %u "$3"
cat "$3/file"
umount "$3"
"""


def test_mount_8_finds_the_helper(user: User, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"text")
    helper = shutil.which("mount.cosfs", path=user.environment["PATH"])
    assert helper is not None
    (user.home / "sbin").mkdir()
    (user.home / "sbin/mount.cosfs").symlink_to(helper)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", MOUNT_8, "sh", user.home / "sbin", f"cos://{bucket}",
         user.mountpoint],
        env=user.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "12\ntext"), done.stderr


def test_read_only_from_fstab(user: User, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"x")
    command = ["mount.cosfs", f"cos://{bucket}", str(user.mountpoint), "-o", "ro,noexec"]
    subprocess.run(command, env=user.environment, check=True, timeout=60)
    with fails_with(errno.EROFS):
        (user.mountpoint / "file").write_text("y")
    assert os.statvfs(user.mountpoint).f_flag & (os.ST_RDONLY | os.ST_NOEXEC) == os.ST_RDONLY | os.ST_NOEXEC


def test_no_secret_is_ever_logged(user: User, bucket: str, client: CosClient, emulator: Emulator) -> None:
    client.put_object(bucket, "file", b"x")
    log = user.home / "debug.log"
    user.mount(f"cos://{bucket}", "--debug", "--log-file", log)
    emulator.faults.error("GetObject", "AccessDenied", 403, count=0)
    with fails_with(errno.EACCES):
        (user.mountpoint / "file").read_bytes()
    emulator.faults.error("PutObject", "SignatureDoesNotMatch", 403, count=0)
    with fails_with(errno.EACCES):
        (user.mountpoint / "new").write_bytes(b"1")
    emulator.faults.clear()
    assert user.cos("umount", user.mountpoint).returncode == 0
    text = log.read_text()
    assert f"cos://{bucket}/file" in text and "AccessDenied" in text
    assert " DEBUG " in text
    for secret in (emulator.secret_key, "q-signature="):
        assert secret not in text


def test_ordinary_work_leaves_no_warning(user: User, bucket: str) -> None:
    user.mount(f"cos://{bucket}")
    (user.mountpoint / "dir").mkdir()
    (user.mountpoint / "dir/file").write_text("x")
    (user.mountpoint / "dir/file").rename(user.mountpoint / "file")
    assert not (user.mountpoint / "missing").exists()
    with pytest.raises(FileExistsError):
        (user.mountpoint / "dir").mkdir()
    shutil.rmtree(user.mountpoint / "dir")
    assert user.cos("umount", user.mountpoint).returncode == 0
    lines = user.log().splitlines()
    assert lines and not [line for line in lines if " INFO " not in line]


def test_supervisor_sees_the_end(user: User, bucket: str) -> None:
    process = user.background("mount", f"cos://{bucket}", user.mountpoint, "--foreground")
    until(lambda: is_mounted(user.mountpoint), "it is mounted")
    until((user.mountpoint / ".").exists, "it answers")
    assert user.one()["pid"] == process.pid
    assert user.cos("umount", user.mountpoint).returncode == 0
    assert process.wait(20) == 0
    assert process.stderr is not None and b"is unmounted" in process.stderr.read()


def test_readiness_is_told_to_systemd(user: User, bucket: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        place = Path(user.environment["XDG_RUNTIME_DIR"]) / "notify"
        notify.bind(str(place))
        notify.settimeout(20)
        user.environment["NOTIFY_SOCKET"] = str(place)
        user.background("mount", f"cos://{bucket}", user.mountpoint, "--foreground")
        assert b"READY=1" in notify.recv(4096)
    assert is_mounted(user.mountpoint)
