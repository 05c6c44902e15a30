"""A mount started by mount(8), /etc/fstab or systemd, and what it logs."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import fails_with, until
from tests.fuse.users import User
from tests.mounting import Mounted, in_namespace, is_mounted
from tests.objects import keys

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
    done = subprocess.run(command, env=user.environment, capture_output=True, text=True, timeout=150)
    assert (done.returncode, done.stderr) == (0, "")
    assert (user.mountpoint / ".").stat().st_uid == 12
    assert user.one()["write_back"] == "async"
    assert user.cos("umount", user.mountpoint).returncode == 0
    done = subprocess.run([*command[:-1], "colour=red"], env=user.environment, capture_output=True, text=True)
    assert done.returncode == 1 and "colour" in done.stderr
    command[1] = "cos://missing-1250000000"
    done = subprocess.run(command, env=user.environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 32 and "missing-1250000000" in done.stderr
    assert not is_mounted(user.mountpoint)


# mount(8) looks for helpers in /sbin only. Nobody else sees what is laid over it in a namespace of our own.
MOUNT_8 = """
set -e
mount -t overlay overlay -o "lowerdir=$1:$(realpath /sbin)" "$(realpath /sbin)"
mount -t "$4" -o _netdev,uid=12,noexec "$2" "$3"
stat -c %u "$3"
cat "$3/file"
echo new > "$3/new"
umount "$3"
! mountpoint -q "$3"
"""

FSTAB = """
set -e
mount -t overlay overlay -o "lowerdir=$1:$(realpath /sbin)" "$(realpath /sbin)"
mount -a -T "$2"
mount -a -T "$2"
cat "$3/file"
umount "$3"
"""


@pytest.fixture
def helpers(user: User) -> Path:
    """A directory with the helpers under the names that mount(8) and umount(8) look for."""
    place = user.home / "sbin"
    place.mkdir()
    for name in ("mount.cosfs", "umount.cosfs"):
        program = shutil.which(name, path=user.environment["PATH"])
        assert program is not None
        (place / name).symlink_to(program)
        (place / name.replace(".", ".fuse.")).symlink_to(program)
    return place


def run_alone(user: User, script: str, *args: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        in_namespace("sh", "-c", script, "sh", *args),
        env=user.environment, capture_output=True, text=True, timeout=150,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["cosfs", "fuse.cosfs"])
def test_mount_8_and_umount_8_find_the_helpers(
    user: User, bucket: str, client: CosClient, helpers: Path, kind: str
) -> None:
    client.put_object(bucket, "file", b"text")
    done = run_alone(user, MOUNT_8, helpers, f"cos://{bucket}", user.mountpoint, kind)
    assert (done.returncode, done.stdout) == (0, "12\ntext"), done.stderr
    # No waiting: umount(8) returned when everything was sent.
    assert keys(client, bucket) == ["file", "new"]


def test_mount_a_mounts_once(user: User, bucket: str, client: CosClient, helpers: Path) -> None:
    client.put_object(bucket, "file", b"text")
    fstab = user.home / "fstab"
    for name in (bucket, bucket.rpartition("-")[0]):
        user.environment["COS_APPID"] = bucket.rpartition("-")[2]
        fstab.write_text(
            f"cos://{name} {user.mountpoint} fuse.cosfs _netdev,nofail,x-systemd.automount,umask=027 0 0\n"
        )
        done = run_alone(user, FSTAB, helpers, fstab, user.mountpoint)
        assert (done.returncode, done.stdout) == (0, "text"), done.stderr


def test_without_an_environment(user: User, bucket: str, client: CosClient) -> None:
    """systemd gives a mount of /etc/fstab next to nothing."""
    client.put_object(bucket, "file", b"text")
    keys = user.environment
    config = user.home / "config"
    config.write_text(f"[default]\nregion = ap-guangzhou\nendpoint_url = {keys['COS_ENDPOINT_URL']}\n")
    (user.home / "credentials").write_text(
        f"[default]\nsecret_id = {keys['COS_SECRET_ID']}\nsecret_key = {keys['COS_SECRET_KEY']}\n"
    )
    options = f"config_file={config},cache_dir={user.home}/c,log_file={user.home}/log"
    bare = {
        "PATH": keys["PATH"],
        "XDG_RUNTIME_DIR": keys["XDG_RUNTIME_DIR"],
        "COS_SHARED_CREDENTIALS_FILE": str(user.home / "credentials"),
    }
    command = ["mount.cosfs", f"cos://{bucket}", str(user.mountpoint), "-o", options]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert (user.mountpoint / "file").read_bytes() == b"text"


def test_read_only_from_fstab(user: User, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"x")
    command = ["mount.cosfs", f"cos://{bucket}", str(user.mountpoint), "-o", "ro,noexec"]
    subprocess.run(command, env=user.environment, check=True, timeout=150)
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
    assert process.wait(90) == 0
    assert process.stderr is not None and b"is unmounted" in process.stderr.read()


def test_systemd_is_told_how_it_goes(user: User, bucket: str, client: CosClient, emulator: Emulator) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        place = Path(user.environment["XDG_RUNTIME_DIR"]) / "notify"
        notify.bind(str(place))
        notify.settimeout(90)
        user.environment["NOTIFY_SOCKET"] = str(place)
        process = user.background(
            "mount", f"cos://{bucket}", user.mountpoint, "--foreground", "--write-back", "async"
        )
        ready = notify.recv(4096).decode().splitlines()
        assert ready == ["READY=1", f"STATUS=cos://{bucket}/ is mounted on {user.mountpoint}"]
        assert is_mounted(user.mountpoint)
        fault = emulator.faults.error("PutObject", "SlowDown", 503, count=0)
        (user.mountpoint / "file").write_text("x")
        process.send_signal(signal.SIGTERM)
        said = notify.recv(4096).decode().splitlines()
        assert "STOPPING=1" in said and "STATUS=1 change still to be sent" in said
        assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in said)
        emulator.faults.remove(fault)
        assert process.wait(90) == 0
    assert keys(client, bucket) == ["file"]


def test_systemd_is_told_why_a_mount_cannot_be_made(user: User) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        place = Path(user.environment["XDG_RUNTIME_DIR"]) / "notify"
        notify.bind(str(place))
        notify.settimeout(20)
        user.environment["NOTIFY_SOCKET"] = str(place)
        done = user.cos("mount", "cos://missing-1250000000", user.mountpoint, "--foreground")
        assert done.returncode not in (0, 252)
        said = notify.recv(4096).decode()
        assert said.startswith("STATUS=") and "missing-1250000000" in said and "\n" not in said


def test_errors_have_a_priority_where_systemd_reads_them(user: User, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with journal.open("wb") as stream:
        info = os.fstat(stream.fileno())
        environment = {**user.environment, "JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"}
        command = ["cos", "mount", "cos://missing-1250000000", str(user.mountpoint), "--foreground"]
        done = subprocess.run(command, env=environment, stderr=stream, timeout=60)
    assert done.returncode not in (0, 252)
    lines = [line for line in journal.read_text().splitlines() if line.startswith(("cos:", "<3>cos:"))]
    assert lines and all(line.startswith("<3>") for line in lines)


def test_unit_is_one_that_systemd_takes(user: User, bucket: str, tmp_path: Path) -> None:
    place = user.home / "a %h $x"
    place.mkdir()
    done = user.cos(
        "mount", f"cos://{bucket}/a b", place, "-o", "umask=027,noexec,cache_size=1G", "--print-unit",
        "--secret-id", "x", "--secret-key", "secret", "--region", "ap-beijing",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not is_mounted(place) and "secret" not in done.stdout
    # The process itself asks for time; a command that waits for it would be ended by systemd.
    assert "ExecStop=" not in done.stdout and "RestartPreventExitStatus=252" in done.stdout
    start = next(line for line in done.stdout.splitlines() if line.startswith("ExecStart="))
    for part in ("mount --foreground", "--umask=0027", "--cache-size=1073741824", "--region=ap-beijing"):
        assert part in start
    assert start.endswith(f'-- "cos://{bucket}/a b" "{user.home}/a %%h $$x"')
    unit = tmp_path / "cosfs.service"
    unit.write_text(done.stdout)
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_what_the_unit_runs_mounts_and_unmounts(user: User, bucket: str) -> None:
    done = user.cos("mount", f"cos://{bucket}", user.mountpoint, "-o", "umask=077", "--print-unit")
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    process = user.background(*shlex.split(lines["ExecStart"])[1:])
    until(lambda: user.status() and user.one()["state"] == "running", "it is mounted")
    assert (user.mountpoint / ".").stat().st_mode & 0o777 == 0o700
    after = shlex.split(lines["ExecStopPost"])[1:]
    process.kill()
    process.wait(90)
    done = user.cos(*after)
    assert (done.returncode, is_mounted(user.mountpoint)) == (0, False), done.stderr
    done = user.cos(*after)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


KNOBS = """
set -e
mountpoint -q /sys/fs/fuse/connections || mount -t fusectl fusectl /sys/fs/fuse/connections
cos mount "$1" "$2"
number=$(mountpoint -d "$2")
cat "/sys/class/bdi/$number/read_ahead_kb"
cat "/sys/fs/fuse/connections/${number#0:}/max_background"
cos umount "$2"
"""


def test_root_lets_the_kernel_ask_for_more_at_once(user: User, bucket: str) -> None:
    done = run_alone(user, KNOBS, f"cos://{bucket}", user.mountpoint)
    assert (done.returncode, done.stdout) == (0, "4096\n64\n"), done.stderr
