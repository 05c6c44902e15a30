"""Ends of a mount, of every kind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cosfs.errors import FilesystemError
from cosfs.fuse import control, registry
from tests.fuse.support import fails_with, until
from tests.fuse.users import User, alive, detach
from tests.mounting import Mounted, in_namespace, is_mounted
from tests.objects import keys, put, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Mount = Callable[..., Mounted]
MIB = 1024 * 1024

pytestmark = pytest.mark.fuse


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("write_back", ["close", "async"])
def test_signals_send_everything_and_unmount(
    mount: Mount, bucket: str, client: CosClient, number: signal.Signals, write_back: str
) -> None:
    mounted = mount(f"cos://{bucket}", "--write-back", write_back)
    (mounted.path / "dir").mkdir()
    for count in range(20):
        (mounted.path / f"dir/{count:02}").write_bytes(b"x" * count)
    (mounted.path / "dir/00").chmod(0o600)
    (mounted.path / "dir/01").unlink()
    file = (mounted.path / "open").open("wb", buffering=0)
    file.write(b"still open")
    mounted.process.send_signal(number)
    assert mounted.process.wait(90) == 0, mounted.log_text()
    with fails_with(errno.ENOTCONN):
        file.write(b"too late")
    with fails_with(errno.ENOTCONN):
        file.close()
    assert not is_mounted(mounted.path)
    assert keys(client, bucket) == ["dir/", *(f"dir/{n:02}" for n in range(20) if n != 1), "open"]
    assert stored(client, bucket, "open") == b"still open"
    info = client.head_object(bucket, "dir/00")
    assert info is not None and info.headers is not None
    assert int(info.headers.metadata["mode"]) & 0o777 == 0o600


def test_umount_8_sends_everything(mount: Mount, bucket: str, client: CosClient) -> None:
    mounted = mount(f"cos://{bucket}", "--write-back", "async")
    for count in range(20):
        (mounted.path / f"{count:02}").write_bytes(b"x" * count)
    command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    subprocess.run([*command, str(mounted.path)], check=True)
    assert mounted.process.wait(90) == 0, mounted.log_text()
    assert keys(client, bucket) == [f"{count:02}" for count in range(20)]


def test_umount_of_a_busy_mount_names_who_uses_it(
    user: User, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.mount(f"cos://{bucket}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", user.environment["XDG_RUNTIME_DIR"])
    with subprocess.Popen(["sleep", "60"], cwd=user.mountpoint) as sleeper:
        try:
            done = user.cos("umount", user.mountpoint)
            assert done.returncode == 255
            assert f"sleep (pid {sleeper.pid})" in done.stderr and "--force" in done.stderr
            assert is_mounted(user.mountpoint) and user.one()["state"] == "running"
            (user.mountpoint / "file").write_text("still works")
            monkeypatch.setattr(control, "DETACHED_WAIT", 0.5)
            control.unmount(user.mountpoint, force=True)  # waits for nobody to close it
            assert not is_mounted(user.mountpoint) and sleeper.poll() is None
        finally:
            sleeper.kill()


def test_umount_waits_for_who_only_looked(user: User, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As programs do that look at all mounts: gone before they could be named."""
    user.mount(f"cos://{bucket}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", user.environment["XDG_RUNTIME_DIR"])
    looking = os.open(user.mountpoint, os.O_RDONLY)
    named: list[Path] = []

    def nobody(mountpoint: Path) -> list[str]:
        if not named:
            os.close(looking)
        named.append(mountpoint)
        return []

    monkeypatch.setattr(control, "_users", nobody)
    control.unmount(user.mountpoint)
    assert named and not is_mounted(user.mountpoint)


def test_umount_of_what_is_mounted_elsewhere_too_says_where(user: User, bucket: str) -> None:
    user.mount(f"cos://{bucket}")
    command = in_namespace("sh", "-c", "echo; exec sleep 60", keep=user.mountpoint)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None and sleeper.stdout.readline()
        try:
            tries = [user.cos("umount", user.mountpoint, *more) for more in ((), ("--timeout", "1"))]
        finally:
            sleeper.kill()
    for done in tries:
        assert done.returncode == 255
        assert f"also mounted at {user.mountpoint} (as process {sleeper.pid} sees it)" in done.stderr
    until(lambda: user.status() == [], "the process ends with the last of its places")


def test_process_that_does_not_answer(user: User, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    user.mount(f"cos://{bucket}")
    pid = user.one()["pid"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", user.environment["XDG_RUNTIME_DIR"])
    monkeypatch.setattr(registry, "ANSWERS_WITHIN", 0.5)
    os.kill(pid, signal.SIGSTOP)
    try:
        found = control.status(user.mountpoint)
        assert found is not None and found.state == "stuck"
        with pytest.raises(FilesystemError, match=f"process {pid} .* does not answer"):
            control.unmount(user.mountpoint)
        assert is_mounted(user.mountpoint)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert user.one()["state"] == "running"
    assert user.cos("umount", user.mountpoint).returncode == 0


def test_umount_several(user: User, bucket: str) -> None:
    user.mount(f"cos://{bucket}")
    second = user.home / "second"
    second.mkdir()
    done = user.cos("mount", f"cos://{bucket}", second, "--cache-dir", "other")
    try:
        assert done.returncode == 0, done.stderr
        done = user.cos("umount", user.mountpoint, second)
        assert done.returncode == 0, done.stderr
        assert user.status() == []
        assert not is_mounted(user.mountpoint) and not is_mounted(second)
    finally:
        detach(second)


def test_attributes_that_cos_refuses_are_pending(
    user: User, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    put(client, bucket, "dir/", "file")
    user.mount(f"cos://{bucket}")
    emulator.faults.error("CopyObject", "AccessDenied", 403, count=0)
    for name in ("dir", "file"):  # both have bytes already, so both are copied onto themselves
        (user.mountpoint / name).chmod(0o700)
    until(lambda: user.one()["errors"] >= 2, "both were refused")
    found = user.one()
    assert (found["pending_files"], found["pending_bytes"]) == (2, 0)
    assert {each["url"] for each in found["pending"]} == {f"cos://{bucket}/dir/", f"cos://{bucket}/file"}
    done = user.cos("umount", user.mountpoint)
    assert done.returncode == 255 and "2 changes" in done.stderr, done.stderr


def test_umount_while_cos_refuses(user: User, bucket: str, client: CosClient, emulator: Emulator) -> None:
    user.mount(f"cos://{bucket}", "--write-back", "async")
    fault = emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    (user.mountpoint / "kept").write_bytes(b"kept")
    done = user.cos("umount", user.mountpoint)
    assert done.returncode == 255, done.stderr
    assert f"cos://{bucket}/kept" in done.stderr and "1 change" in done.stderr
    assert is_mounted(user.mountpoint)
    assert (user.mountpoint / "kept").read_bytes() == b"kept"
    found = user.one()
    assert found["pending_files"] == 1 and found["errors"] > 0
    assert "AccessDenied" in found["pending"][0]["error"]
    done = user.cos("umount", "--force", user.mountpoint)
    assert done.returncode == 0, done.stderr
    assert not is_mounted(user.mountpoint)
    assert keys(client, bucket) == []
    emulator.faults.remove(fault)
    user.mount(f"cos://{bucket}")
    until(lambda: keys(client, bucket) == ["kept"], "the next mount sends it")
    assert stored(client, bucket, "kept") == b"kept"


def test_umount_waits_no_longer_than_told(
    user: User, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    user.mount(f"cos://{bucket}", "--write-back", "async")
    fault = emulator.faults.error("PutObject", "SlowDown", 503, count=0)
    (user.mountpoint / "file").write_bytes(b"x")
    done = user.cos("umount", "--timeout", "1s", user.mountpoint)
    assert done.returncode == 255 and "1 change" in done.stderr, done.stderr
    assert is_mounted(user.mountpoint)
    emulator.faults.remove(fault)
    assert user.cos("umount", user.mountpoint).returncode == 0
    assert keys(client, bucket) == ["file"]


def test_new_mount_while_the_old_process_still_sends(
    user: User, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    user.mount(f"cos://{bucket}", "--write-back", "async")
    old = user.one()["pid"]
    slow = emulator.faults.latency(3600.0, "PutObject", key="file")  # however often it is tried
    (user.mountpoint / "file").write_bytes(b"x")
    os.kill(old, signal.SIGTERM)
    until(lambda: not is_mounted(user.mountpoint), "it is unmounted")
    assert user.one()["state"] == "stopping"
    done = user.cos("mount", f"cos://{bucket}", user.mountpoint)
    assert done.returncode == 253 and f"(pid {old})" in done.stderr
    user.mount(f"cos://{bucket}", "--cache-dir", "other")
    emulator.faults.release(slow)
    until(lambda: not alive(old), "the old process ends")
    assert keys(client, bucket) == ["file"]
    assert user.one()["state"] == "running" and user.one()["pid"] != old
    assert user.cos("umount", user.mountpoint).returncode == 0


def test_more_files_than_the_limit_of_open_ones(user: User, bucket: str, client: CosClient) -> None:
    command = [
        "sh",
        "-c",
        'ulimit -Sn 100; exec "$@"',
        "sh",
        "cos",
        "mount",
        f"cos://{bucket}",
        user.mountpoint,
    ]
    subprocess.run(command, env=user.environment, check=True, timeout=150, capture_output=True)
    files = [(user.mountpoint / f"{number:03}").open("wb", buffering=0) for number in range(200)]
    for number, file in enumerate(files):
        file.write(b"x" * number)
    for file in files:
        file.close()
    assert len(keys(client, bucket)) == 200


def test_removals_while_cos_refuses(user: User, bucket: str, client: CosClient, emulator: Emulator) -> None:
    for key in ("file", "other"):
        client.put_object(bucket, key, b"x")
    user.mount(f"cos://{bucket}")
    (user.mountpoint / "other").unlink()  # so that the next one is not waited for
    fault = emulator.faults.error("Delete*", "AccessDenied", 403, count=0)
    (user.mountpoint / "file").unlink()
    until((user.mountpoint / "file").exists, "what COS kept is shown again")
    assert "could not be removed" in user.log()
    emulator.faults.remove(fault)
    (user.mountpoint / "file").unlink()
    until(lambda: keys(client, bucket) == [], "now it is gone")
