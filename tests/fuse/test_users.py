"""Mounts of a user who is not root, and who else gets in.

The user runs in a namespace of mounts where /dev/fuse is open to all, as it is on most machines, and may
read what root may, as the program under test may be installed below root's home.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import fails_with, until
from tests.fuse.users import User, user_of
from tests.mounting import in_namespace, is_mounted
from tests.objects import keys

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

UID = 65534
NEEDED = "dac_read_search,dac_override,setuid,setgid,sys_admin,chown,fowner,setpcap"

PREPARE = f"""
set -e
mknod "$1/fuse" c 10 229
chmod 666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
export HOME=$1 XDG_RUNTIME_DIR=$1/run
as_user() {{
    setpriv --reuid {UID} --regid {UID} --clear-groups --inh-caps=+dac_read_search \\
        --ambient-caps=+dac_read_search --bounding-set=-all,+{NEEDED.replace(",", ",+")} "$@"
}}
somebody_else() {{ setpriv --reuid 12345 --regid 12345 --clear-groups "$@"; }}
cd "$1"
"""

pytestmark = pytest.mark.fuse


@dataclass(frozen=True)
class Nobody:
    """Runs shell scripts in which as_user is somebody who is not root, at home in the current directory."""

    home: Path
    environment: dict[str, str]

    def __call__(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            in_namespace("sh", "-c", PREPARE + script, "sh", self.home),
            env=self.environment, capture_output=True, text=True, timeout=150,
        )  # fmt: skip


@contextmanager
def home_open_to_others() -> Iterator[Path]:
    """The directories of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="cos-nobody-") as name:
        home = Path(name)
        home.chmod(0o755)
        yield home


@pytest.fixture
def nobody(user: User) -> Iterator[Nobody]:
    with home_open_to_others() as home:
        for name in ("mnt", "run"):
            (home / name).mkdir()
            os.chown(home / name, UID, UID)
        os.chown(home, UID, UID)
        yield Nobody(home, user.environment)


def test_life_of_a_mount(nobody: Nobody, bucket: str, client: CosClient) -> None:
    done = nobody(f"""
        as_user cos mount cos://{bucket} mnt
        as_user sh -c 'echo hello > mnt/file; stat -c "%u %a" mnt/file; cat mnt/file'
        somebody_else ls mnt 2>&1 || true
        ls mnt 2>&1 || true
        as_user cos status mnt | grep -c "^State.running"
        cos status mnt | grep "^State"
        as_user cos umount mnt
        mountpoint mnt || true
    """)
    assert done.returncode == 0, done.stderr
    mine, content, other, root, *rest = done.stdout.splitlines()
    assert (mine, content) == (f"{UID} 644", "hello")
    assert "Permission denied" in other and "Permission denied" in root
    assert rest == ["1", "State\trunning", "mnt is not a mountpoint"]
    assert keys(client, bucket) == ["file"]


def test_what_the_user_may_not(nobody: Nobody, bucket: str) -> None:
    done = nobody(f"""
        mkdir others
        as_user cos mount cos://{bucket} others || echo "code $?"
        as_user cos mount cos://{bucket} mnt --allow-other || echo "code $?"
        chmod 600 /dev/fuse
        as_user cos mount cos://{bucket} mnt || echo "code $?"
        mountpoint mnt || true
    """)
    assert done.stdout == "code 252\ncode 253\ncode 253\nmnt is not a mountpoint\n", done.stderr
    unwritable, allow_other, device = done.stderr.splitlines()
    assert "others cannot be written by you" in unwritable
    assert "user_allow_other" in allow_other and "/etc/fuse.conf" in allow_other
    assert "/dev/fuse cannot be opened" in device


def test_others_are_let_in(nobody: Nobody, bucket: str) -> None:
    done = nobody(f"""
        echo user_allow_other > fuse.conf
        mount --bind fuse.conf /etc/fuse.conf
        as_user cos mount cos://{bucket} mnt -o allow_other,umask=027
        as_user sh -c 'umask 0; echo x > mnt/file; chmod 644 mnt/file'
        cat mnt/file
        somebody_else ls mnt 2>&1 || true
        cos umount mnt
    """)
    assert done.returncode == 0, done.stderr
    shown, refused = done.stdout.splitlines()
    assert shown == "x" and "Permission denied" in refused  # by the mode 0750 of the root directory


def test_killed_mount_of_a_user(nobody: Nobody, bucket: str) -> None:
    done = nobody(f"""
        as_user cos mount cos://{bucket} mnt
        kill -9 $(as_user cos status mnt | sed -n 's/^Process.//p')
        as_user cos status 2>&1 | grep -o "dead\\|cos umount" | sort -u
        as_user cos umount mnt
        mountpoint mnt || true
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "cos umount\ndead\nmnt is not a mountpoint\n"


def test_root_lets_others_in(emulator: Emulator, bucket: str) -> None:
    with home_open_to_others() as home, user_of(emulator, home) as user:
        user.mount(
            f"cos://{bucket}", "--allow-other", "--uid", "12345", "--file-mode", "600", "--dir-mode", "755"
        )
        done = subprocess.run(
            ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups",
             "sh", "-c", 'echo x > "$1/new" && cat "$1/new"', "sh", str(user.mountpoint)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "x\n"), done.stderr


def test_auto_unmount(user: User, bucket: str) -> None:
    user.mount(f"cos://{bucket}", "-o", "auto_unmount")
    os.kill(user.one()["pid"], signal.SIGKILL)
    until(lambda: not is_mounted(user.mountpoint), "the dead mount goes by itself")
    assert user.status() == []


def test_a_mount_inside_a_mount(user: User, bucket: str) -> None:
    user.mount(f"cos://{bucket}")
    inside = user.mountpoint / "inside"
    inside.mkdir()
    done = user.cos("mount", f"cos://{bucket}", inside, "--cache-dir", "other")
    assert done.returncode == 0, done.stderr
    (inside / "file").write_text("x")
    done = user.cos("umount", user.mountpoint)
    assert done.returncode == 255 and f"{inside} is mounted inside it" in done.stderr
    assert user.cos("umount", inside, user.mountpoint).returncode == 0


def test_lazy_umount_goes_on_sending(user: User, bucket: str, client: CosClient) -> None:
    user.mount(f"cos://{bucket}")
    pid = user.one()["pid"]
    with (user.mountpoint / "file").open("wb", buffering=0) as file:
        file.write(b"before ")
        assert user.cos("umount", "--lazy", user.mountpoint).returncode == 0
        assert not is_mounted(user.mountpoint)
        file.write(b"and after")
    until(lambda: not Path(f"/proc/{pid}/cwd").exists(), "its process ends with the last file")
    assert client.get_range(bucket, "file", 0, 100)[1] == b"before and after"
    with fails_with(errno.ENOENT):
        (user.mountpoint / "file").stat()
