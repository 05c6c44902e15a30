"""The beginning of a mount: in the background, and beginnings that fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fuse.support import until
from tests.fuse.users import User, alive, fails, user_of
from tests.mounting import Mounted, in_namespace, is_mounted
from tests.objects import keys

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Mount = Callable[..., Mounted]
MIB = 1024 * 1024

pytestmark = pytest.mark.fuse


# --- in the background


def test_background_mount_answers_when_the_command_returns(
    user: User, bucket: str, client: CosClient
) -> None:
    client.put_object(bucket, "file", b"text")
    user.mount(f"cos://{bucket}")
    assert (user.mountpoint / "file").read_bytes() == b"text"
    (user.mountpoint / "new").write_text("x")
    found = user.one()
    pid = found["pid"]
    assert (found["state"], found["source"], found["mountpoint"]) == (
        "running", f"cos://{bucket}/", str(user.mountpoint),
    )  # fmt: skip
    assert os.readlink(f"/proc/{pid}/cwd") == "/"  # noqa: PTH115
    assert os.getsid(pid) == pid
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}  # noqa: PTH115
    done = user.cos("umount", user.mountpoint)
    assert done.returncode == 0, done.stderr
    assert not is_mounted(user.mountpoint)
    assert not alive(pid)
    assert user.status() == []
    assert keys(client, bucket) == ["file", "new"]
    assert not list(Path(user.environment["XDG_RUNTIME_DIR"], "cosfs").iterdir())


def test_paths_may_be_relative(user: User, bucket: str) -> None:
    done = user.cos("mount", f"cos://{bucket}", "mnt", "--cache-dir", "my/cache", "--log-file", "my.log")
    assert done.returncode == 0, done.stderr
    (user.mountpoint / "file").write_text("x")
    assert (user.home / "my/cache").is_dir()
    assert "is mounted" in (user.home / "my.log").read_text()
    assert user.cos("umount", "mnt").returncode == 0


def test_relative_credentials_file(user: User, bucket: str) -> None:
    keys = user.environment
    (user.home / "keys").write_text(
        f"[default]\nsecret_id = {keys.pop('COS_SECRET_ID')}\nsecret_key = {keys.pop('COS_SECRET_KEY')}\n"
    )
    keys["COS_SHARED_CREDENTIALS_FILE"] = "keys"
    user.mount(f"cos://{bucket}")
    (user.mountpoint / "file").write_text("x")


def test_mountpoint_with_blanks_and_a_link(user: User, bucket: str) -> None:
    place = user.home / "my disk, at\\home"
    place.mkdir()
    (user.home / "link").symlink_to(place)
    user.mountpoint = place
    done = user.cos("mount", f"cos://{bucket}/a, b", user.home / "link")
    assert done.returncode == 0, done.stderr
    (place / "file").write_text("x")
    assert [found["mountpoint"] for found in user.status()] == [str(place)]
    assert user.one()["source"] == f"cos://{bucket}/a, b/"
    assert user.cos("umount", user.home / "link").returncode == 0
    assert not is_mounted(place)


def test_long_runtime_directory(user: User, bucket: str, tmp_path: Path) -> None:
    runtime = tmp_path / ("long" * 30)
    runtime.mkdir()
    old, user.environment["XDG_RUNTIME_DIR"] = user.environment["XDG_RUNTIME_DIR"], str(runtime)
    try:
        user.mount(f"cos://{bucket}")
        assert user.one()["state"] == "running"
        assert user.cos("umount", user.mountpoint).returncode == 0
    finally:
        user.clean_up()
        user.environment["XDG_RUNTIME_DIR"] = old


def test_status_in_every_form(user: User, bucket: str) -> None:
    assert user.status() == []
    user.mount(f"cos://{bucket}")
    (user.mountpoint / "file").write_bytes(b"x" * 10)
    found = user.one()
    assert found["pending_files"] == found["pending_removals"] == found["errors"] == 0
    assert found["requests"]["requests"]["PutObject"] == 2  # one has asked whether that is allowed
    assert found["uptime"] > 0
    table = user.cos("status", "--output", "table").stdout
    assert f"cos://{bucket}/" in table and "running" in table
    text = user.cos("status", user.mountpoint, "--output", "text").stdout
    assert f"Source\tcos://{bucket}/\n" in text and "Requests: PutObject\t2\n" in text
    lines = user.cos("status", "--output", "jsonl").stdout.splitlines()
    assert str(user.mountpoint) in [json.loads(line)["mountpoint"] for line in lines]
    done = user.cos("status", user.home)
    assert done.returncode == 252 and "not a mountpoint" in done.stderr


# --- beginnings that fail


def test_unknown_bucket(user: User) -> None:
    fails(user, "cos://missing-1250000000", user.mountpoint, code=254, says="cos://missing-1250000000")


@pytest.mark.parametrize(
    ("name", "value", "code", "says"),
    [
        ("COS_SECRET_KEY", "wrong", 254, "SignatureDoesNotMatch"),
        ("COS_SECRET_ID", "AKIDwrong", 254, "InvalidAccessKeyId"),
        ("COS_ENDPOINT_URL", "http://127.0.0.1:1", 255, "127.0.0.1:1"),
        ("COS_ENDPOINT_URL", "http://no-such-host.invalid", 255, "no-such-host.invalid"),
        ("COS_ENDPOINT_URL", "nonsense", 253, "nonsense"),
    ],
)
def test_wrong_settings(user: User, bucket: str, name: str, value: str, code: int, says: str) -> None:
    for source in (f"cos://{bucket}", "cos://"):
        fails(user, source, user.mountpoint, "--max-retries", "1", code=code, says=says, env={name: value})


def test_no_credentials(user: User, bucket: str) -> None:
    for name in ("COS_SECRET_ID", "COS_SECRET_KEY"):
        del user.environment[name]
    fails(user, f"cos://{bucket}", user.mountpoint, code=253, says="credentials")


@pytest.mark.parametrize(
    ("hidden", "says"),
    [
        ("mount --bind /dev/null $(readlink -f /usr/lib/*/libfuse3.so.3)", "libfuse3"),
        ("mount -t tmpfs tmpfs /dev", "/dev/fuse is missing"),
    ],
    ids=["libfuse", "device"],
)
def test_fuse_that_is_missing(user: User, bucket: str, hidden: str, says: str) -> None:
    """In a mount namespace of its own, which sees neither."""
    command = f'{hidden} && exec cos mount cos://{bucket} "$1"'
    done = subprocess.run(
        in_namespace("sh", "-c", command, "sh", user.mountpoint),
        env=user.environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 253, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not is_mounted(user.mountpoint)


def test_endpoint_that_is_not_cos(user: User, bucket: str) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"<html><body>Welcome to the hotel's network</body></html>")

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            env = {"COS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
            for source in ("cos://", f"cos://{bucket}"):
                fails(user, source, user.mountpoint, code=255, says="not COS", env=env)
        finally:
            server.shutdown()
            thread.join()


def test_clock_off_by_an_hour(user: User, bucket: str, emulator: Emulator) -> None:
    from cosfs.emulator import Emulator as Another

    with (
        Another(user.home / "late", clock=lambda: time.time() - 3600, buckets=["b-1250000000"]) as late,
        user_of(late, user.home / "late-user") as other,
    ):
        other.mount("cos://b-1250000000")
        (other.mountpoint / "file").write_text("x")
        assert (other.mountpoint / "file").read_text() == "x"


def test_mountpoints_that_cannot_be(user: User, bucket: str) -> None:
    source = f"cos://{bucket}"
    (user.home / "file").touch()
    fails(user, source, user.home / "missing", code=252, says="does not exist")
    fails(user, source, user.home / "file", code=252, says="is not a directory")
    fails(user, source, user.home / "file/below", code=252, says="cannot be used")
    (user.mountpoint / "old").touch()
    fails(user, source, user.mountpoint, code=252, says="is not empty")
    assert (user.mountpoint / "old").exists()
    (user.mountpoint / "old").unlink()
    (user.mountpoint / "old").mkdir()
    fails(user, source, user.mountpoint, code=252, says="is not empty")


def test_usage_that_makes_no_sense(user: User, bucket: str) -> None:
    source = f"cos://{bucket}"
    for args, says in (
        ((bucket, user.mountpoint), bucket),
        ((source, user.mountpoint, "--umask", "999"), "999"),
        ((source, user.mountpoint, "--uid", "nobody-at-all"), "nobody-at-all"),
        ((source, user.mountpoint, "-o", "colour=red"), "colour"),
        ((source, user.mountpoint, "-o", "umask"), "umask"),
        ((source, user.mountpoint, "-o", "ro=1"), "ro"),
        ((source, user.mountpoint, "-o", "remount,ro"), "mount -i -o remount,ro"),
        ((source, user.mountpoint, "--attributes", "some"), "some"),
        ((source, user.mountpoint, "--cache-size", "large"), "large"),
    ):
        done = user.cos("mount", *args)
        assert done.returncode == 252, (args, done.returncode, done.stderr)
        assert says in done.stderr and "Traceback" not in done.stderr
        assert not is_mounted(user.mountpoint)


def test_already_mounted(user: User, bucket: str) -> None:
    user.mount(f"cos://{bucket}")
    (user.mountpoint / "file").write_text("x")
    done = user.cos("mount", f"cos://{bucket}", user.mountpoint)
    assert done.returncode == 252
    assert f"cos://{bucket}/ is already mounted on {user.mountpoint}" in done.stderr
    assert (user.mountpoint / "file").read_text() == "x"
    assert user.one()["state"] == "running"


def test_dead_mount_is_explained_and_cleaned_up(user: User, bucket: str) -> None:
    user.mount(f"cos://{bucket}")
    os.kill(user.one()["pid"], signal.SIGKILL)
    until(lambda: user.one()["state"] == "dead", "the mount is known to be dead")
    done = user.cos("status")
    assert "dead" in done.stdout and f"cos umount {user.mountpoint}" in done.stderr
    done = user.cos("mount", f"cos://{bucket}", user.mountpoint)
    assert done.returncode == 252
    assert "transport endpoint is not connected" in done.stderr.lower()
    assert f"cos umount {user.mountpoint}" in done.stderr
    done = user.cos("umount", user.mountpoint)
    assert done.returncode == 0, done.stderr
    assert not is_mounted(user.mountpoint)
    assert user.status() == []
    user.mount(f"cos://{bucket}")


def test_cache_directory_that_cannot_be_used(user: User, bucket: str) -> None:
    (user.home / "file").touch()
    for place in (user.home / "file", user.home / "file/cache", Path("/proc/cache")):
        fails(user, f"cos://{bucket}", user.mountpoint, "--cache-dir", place, code=253, says=str(place))
    cache = user.home / "cache"
    cache.mkdir(mode=0o700)
    (cache / "blocks").touch()
    says = f"{cache / 'blocks'} is no directory"
    fails(user, f"cos://{bucket}", user.mountpoint, "--cache-dir", cache, code=253, says=says)


def test_cache_directory_in_use_by_another_mount(user: User, bucket: str, mount: Mount) -> None:
    first = mount(f"cos://{bucket}", "--write-back", "async")
    (first.path / "file").write_text("x")
    fails(
        user, f"cos://{bucket}", user.mountpoint, "--cache-dir", first.cache_dir,
        code=253, says=f"is in use by another mount (pid {first.pid})",
    )  # fmt: skip
    first.kill()
    user.mount(f"cos://{bucket}", "--cache-dir", first.cache_dir)


def test_own_files_below_the_mountpoint(user: User, bucket: str) -> None:
    for option in ("--cache-dir", "--log-file"):
        place = user.mountpoint / "own"
        fails(user, f"cos://{bucket}", user.mountpoint, option, place, code=252, says="inside the mountpoint")
        assert not list(user.mountpoint.iterdir())


def test_log_file_that_cannot_be_written(user: User, bucket: str) -> None:
    place = Path("/proc/mount.log")
    fails(user, f"cos://{bucket}", user.mountpoint, "--log-file", place, code=253, says=str(place))


def test_mounting_over_another_empty_filesystem(user: User, bucket: str, small_disk: Path) -> None:
    user.mountpoint = small_disk.resolve()
    user.mount(f"cos://{bucket}")
    (small_disk / "file").write_text("x")
    assert user.cos("umount", small_disk).returncode == 0
    assert is_mounted(small_disk) and not list(small_disk.iterdir())


def test_umount_of_what_is_no_mount(user: User) -> None:
    for place in (user.mountpoint, user.home / "missing", Path("/")):
        done = user.cos("umount", place)
        assert done.returncode == 252, done.stderr
        assert "not a mountpoint of cos" in done.stderr
    assert user.cos("umount").returncode == 252
