"""A mount of a user who is not root: made by fusermount3, closed to everybody else."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fuse.support import environment, fails_with, until
from tests.fuse.users import detach
from tests.mounting import is_mounted
from tests.objects import stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

pytestmark = pytest.mark.fuse


@dataclass(frozen=True)
class Ordinary:
    """Somebody without rights, at home in a directory of their own."""

    uid: int
    home: Path
    environment: Mapping[str, str]

    @property
    def identity(self) -> dict[str, Any]:
        """How a process becomes theirs; nothing to do where the tests are run by such a user."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": pwd.getpwuid(self.uid).pw_gid, "extra_groups": []}

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)), env=dict(self.environment), cwd=self.home, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=150, **self.identity,
        )  # fmt: skip

    def cos(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `cos` without rights, but for reading: Python itself may lie where only root can look."""
        command = [shutil.which("cos") or "cos", *map(str, args)]
        if os.geteuid() == 0:
            user, group = self.uid, pwd.getpwuid(self.uid).pw_gid
            who = [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
            rights = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
            command = ["setpriv", *who, *rights, *command]
        return subprocess.run(
            command, env=dict(self.environment), cwd=self.home, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=150,
        )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def device_for_everybody() -> Iterator[None]:
    """Give /dev/fuse the mode it has where udev made it; in containers only root may open it."""
    device = Path("/dev/fuse")
    before = stat.S_IMODE(device.stat().st_mode)
    if os.geteuid() == 0 and before != 0o666:
        device.chmod(0o666)
        yield
        device.chmod(before)
    else:
        yield


@pytest.fixture
def ordinary(emulator: Emulator) -> Iterator[Ordinary]:
    uid = os.geteuid() or pwd.getpwnam("nobody").pw_uid
    home = Path(tempfile.mkdtemp(prefix="cos-home-"))  # the directories of pytest are closed to others
    made = Ordinary(uid, home, environment(emulator, home))
    try:
        (home / "mnt").mkdir()
        if os.geteuid() == 0:
            for path in (home, home / "mnt"):
                os.chown(path, uid, pwd.getpwuid(uid).pw_gid)
        yield made
    finally:
        if is_mounted(home / "mnt"):
            detach(home / "mnt")
        shutil.rmtree(home)


@pytest.fixture
def mounted(ordinary: Ordinary, bucket: str) -> Iterator[Path]:
    """The bucket, mounted by that user in the background as a user does."""
    path = ordinary.home / "mnt"
    done = ordinary.cos("mount", f"cos://{bucket}", path)
    assert done.returncode == 0, done.stderr
    yield path
    done = ordinary.cos("umount", path)
    assert done.returncode == 0, done.stderr
    until(lambda: not is_mounted(path), "it is unmounted")


def test_files_are_those_of_the_user(
    ordinary: Ordinary, mounted: Path, client: CosClient, bucket: str
) -> None:
    line = 'umask 022; echo text > a; chmod 600 a; mkdir d; mv a d/b; cat d/b; stat -c "%u %a" d/b; touch d/c'
    done = ordinary.run("sh", "-ec", f'cd "$1"; {line}', "sh", mounted)
    assert done.stdout == f"text\n{ordinary.uid} 600\n", done.stderr
    assert stored(client, bucket, "d/b") == b"text\n"
    info = client.head_object(bucket, "d/c")
    assert info is not None and info.headers is not None
    assert info.headers.metadata["uid"] == str(ordinary.uid)
    assert int(info.headers.metadata["mode"]) == stat.S_IFREG | 0o644


def test_redirection_is_one_request(ordinary: Ordinary, mounted: Path, emulator: Emulator) -> None:
    ordinary.run("ls", mounted)
    emulator.requests.reset()
    assert ordinary.run("sh", "-c", 'echo text > "$1"/file', "sh", mounted).returncode == 0
    assert emulator.requests.snapshot()["PutObject"] == 1


def test_owners_are_given_by_root_alone(ordinary: Ordinary, mounted: Path) -> None:
    ordinary.run("touch", mounted / "file")
    for command in (("chown", "0", mounted / "file"), ("chgrp", "0", mounted / "file")):
        done = ordinary.run(*command)
        assert done.returncode == 1
        assert "Operation not permitted" in done.stderr


@pytest.mark.usefixtures("mounted")
def test_everybody_else_is_kept_out(ordinary: Ordinary) -> None:
    if os.geteuid() == 0:
        with fails_with(errno.EACCES):
            (ordinary.home / "mnt").stat()
    assert is_mounted(ordinary.home / "mnt")


def test_opening_it_to_others_needs_the_permission_of_the_machine(ordinary: Ordinary, bucket: str) -> None:
    allowed = "user_allow_other" in Path("/etc/fuse.conf").read_text().splitlines()
    path = ordinary.home / "mnt"
    done = ordinary.cos("mount", f"cos://{bucket}", path, "--allow-other")
    assert is_mounted(path) == allowed, done.stderr
    if allowed:
        assert ordinary.cos("umount", path).returncode == 0
    else:
        assert done.returncode != 0
        assert "user_allow_other" in done.stderr
