"""The life of a mount: beginnings that fail, ends of every kind, a COS that does not answer."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fuse.support import environment, fails_with, tree, until
from tests.mounting import Mounted, is_mounted

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Mount = Callable[..., Mounted]
MIB = 1024 * 1024


def names(client: CosClient, bucket: str) -> list[str]:
    return [info.key for info in client.list_objects(bucket).objects]


def content(client: CosClient, bucket: str, key: str) -> bytes:
    info = client.head_object(bucket, key)
    assert info is not None
    return client.get_range(bucket, key, 0, info.size)[1] if info.size else b""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class User:
    """Somebody who types `cos`, with a home and mounts of their own."""

    home: Path
    environment: dict[str, str]
    mountpoint: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def cos(
        self, *args: str | os.PathLike[str], env: Mapping[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["cos", *map(os.fspath, args)], env={**self.environment, **(env or {})}, cwd=self.home,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def mount(
        self, source: str, *options: str | os.PathLike[str], env: Mapping[str, str] | None = None
    ) -> None:
        """Mount in the background; it must work."""
        done = self.cos("mount", source, self.mountpoint, *options, env=env)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "" and f"is mounted on {self.mountpoint}" in done.stderr
        assert is_mounted(self.mountpoint)

    def status(self) -> list[dict[str, Any]]:
        done = self.cos("status", "--output", "json")
        assert done.returncode == 0, done.stderr
        # The kernel lists the mounts of other tests and users too.
        return [found for found in json.loads(done.stdout) if found["mountpoint"].startswith(str(self.home))]

    def one(self) -> dict[str, Any]:
        (found,) = self.status()
        return found

    def background(self, *args: str | os.PathLike[str]) -> subprocess.Popen[bytes]:
        """A `cos` that runs while the test goes on."""
        process = subprocess.Popen(
            ["cos", *map(os.fspath, args)], env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.home,
        )  # fmt: skip
        self.running.append(process)
        return process

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.home.glob(".cos/log/*.log")))

    def clean_up(self) -> None:
        """End every process and mount of this user."""
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for path in (Path(self.environment["XDG_RUNTIME_DIR"]) / "cosfs").glob("*.json"):
            pid = json.loads(path.read_text())["pid"]
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        detach(self.mountpoint)


def detach(path: Path) -> None:
    while is_mounted(path):
        command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
        subprocess.run([*command, str(path)], check=True, capture_output=True)


@contextmanager
def user_of(emulator: Emulator, home: Path) -> Iterator[User]:
    """A user; sockets have short names, which a directory of pytest is not."""
    runtime = tempfile.mkdtemp(prefix="cos-")
    home.mkdir(parents=True, exist_ok=True)
    (home / "mnt").mkdir()
    made = User(home, environment(emulator, home) | {"XDG_RUNTIME_DIR": runtime}, home / "mnt")
    try:
        yield made
    finally:
        made.clean_up()
        shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture
def user(emulator: Emulator, tmp_path: Path) -> Iterator[User]:
    with user_of(emulator, tmp_path.resolve() / "home") as made:
        yield made


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
    assert names(client, bucket) == ["file", "new"]
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
    assert found["requests"]["requests"]["PutObject"] == 1
    assert found["uptime"] > 0
    table = user.cos("status", "--output", "table").stdout
    assert f"cos://{bucket}/" in table and "running" in table
    text = user.cos("status", user.mountpoint, "--output", "text").stdout
    assert f"Source\tcos://{bucket}/\n" in text and "Requests: PutObject\t1\n" in text
    lines = user.cos("status", "--output", "jsonl").stdout.splitlines()
    assert str(user.mountpoint) in [json.loads(line)["mountpoint"] for line in lines]
    done = user.cos("status", user.home)
    assert done.returncode == 252 and "not a mountpoint" in done.stderr


# --- beginnings that fail


def fails(
    user: User, *args: str | os.PathLike[str], code: int, says: str, env: Mapping[str, str] | None = None
) -> None:
    """Mounting fails in the background and in the foreground alike, with one clear sentence."""
    for foreground in ((), ("--foreground",)):
        done = user.cos("mount", *args, *foreground, env=env)
        assert says in done.stderr, done.stderr
        assert done.returncode == code, (done.returncode, done.stderr)
        assert "Traceback" not in done.stderr
        said = [line for line in done.stderr.splitlines() if " WARNING cosfs.client.retry " not in line]
        assert len(said) == 1, done.stderr
        assert done.stdout == ""
        assert not is_mounted(user.mountpoint)
        assert user.status() == []


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
    namespace = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    command = f'{hidden} && exec cos mount cos://{bucket} "$1"'
    done = subprocess.run(
        [*namespace, "sh", "-c", command, "sh", os.fspath(user.mountpoint)],
        env=user.environment,
        capture_output=True,
        text=True,
        timeout=60,
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


# --- ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
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
    assert mounted.process.wait(20) == 0, mounted.log_text()
    with fails_with(errno.ENOTCONN):
        file.write(b"too late")
    with fails_with(errno.ENOTCONN):
        file.close()
    assert not is_mounted(mounted.path)
    assert names(client, bucket) == ["dir/", *(f"dir/{n:02}" for n in range(20) if n != 1), "open"]
    assert content(client, bucket, "open") == b"still open"
    info = client.head_object(bucket, "dir/00")
    assert info is not None and info.headers is not None
    assert int(info.headers.metadata["mode"]) & 0o777 == 0o600


def test_umount_8_sends_everything(mount: Mount, bucket: str, client: CosClient) -> None:
    mounted = mount(f"cos://{bucket}", "--write-back", "async")
    for count in range(20):
        (mounted.path / f"{count:02}").write_bytes(b"x" * count)
    command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    subprocess.run([*command, str(mounted.path)], check=True)
    assert mounted.process.wait(20) == 0, mounted.log_text()
    assert names(client, bucket) == [f"{count:02}" for count in range(20)]


def test_umount_of_a_busy_mount_names_who_uses_it(user: User, bucket: str) -> None:
    user.mount(f"cos://{bucket}")
    with subprocess.Popen(["sleep", "60"], cwd=user.mountpoint) as sleeper:
        try:
            done = user.cos("umount", user.mountpoint)
            assert done.returncode == 255
            assert f"sleep (pid {sleeper.pid})" in done.stderr and "--force" in done.stderr
            assert is_mounted(user.mountpoint) and user.one()["state"] == "running"
            (user.mountpoint / "file").write_text("still works")
            forced = user.background("umount", "--force", user.mountpoint)
            until(lambda: not is_mounted(user.mountpoint), "it is detached")
        finally:
            sleeper.kill()
    assert forced.wait(20) == 0


def test_process_that_does_not_answer(user: User, bucket: str) -> None:
    user.mount(f"cos://{bucket}")
    pid = user.one()["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert user.one()["state"] == "stuck"
    done = user.cos("umount", user.mountpoint)
    assert done.returncode == 255 and f"process {pid}" in done.stderr and "does not answer" in done.stderr
    assert is_mounted(user.mountpoint)
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
    assert names(client, bucket) == []
    emulator.faults.remove(fault)
    user.mount(f"cos://{bucket}")
    until(lambda: names(client, bucket) == ["kept"], "the next mount sends it")
    assert content(client, bucket, "kept") == b"kept"


def test_umount_waits_no_longer_than_told(
    user: User, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    user.mount(f"cos://{bucket}", "--write-back", "async")
    emulator.faults.latency(3, "PutObject")
    (user.mountpoint / "file").write_bytes(b"x")
    began = time.monotonic()
    done = user.cos("umount", "--timeout", "1s", user.mountpoint)
    assert done.returncode == 255 and "1 change" in done.stderr, done.stderr
    assert time.monotonic() - began < 3
    assert is_mounted(user.mountpoint)
    assert user.cos("umount", user.mountpoint).returncode == 0
    assert names(client, bucket) == ["file"]


def test_new_mount_while_the_old_process_still_sends(
    user: User, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    user.mount(f"cos://{bucket}", "--write-back", "async")
    old = user.one()["pid"]
    emulator.faults.latency(3, "PutObject", count=1)
    (user.mountpoint / "file").write_bytes(b"x")
    os.kill(old, signal.SIGTERM)
    until(lambda: not is_mounted(user.mountpoint), "it is unmounted")
    assert user.one()["state"] == "stopping"
    done = user.cos("mount", f"cos://{bucket}", user.mountpoint)
    assert done.returncode == 253 and f"(pid {old})" in done.stderr
    user.mount(f"cos://{bucket}", "--cache-dir", "other")
    until(lambda: not alive(old), "the old process ends")
    assert names(client, bucket) == ["file"]
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
    subprocess.run(command, env=user.environment, check=True, timeout=60, capture_output=True)
    files = [(user.mountpoint / f"{number:03}").open("wb", buffering=0) for number in range(200)]
    for number, file in enumerate(files):
        file.write(b"x" * number)
    for file in files:
        file.close()
    assert len(names(client, bucket)) == 200


def test_removals_while_cos_refuses(user: User, bucket: str, client: CosClient, emulator: Emulator) -> None:
    client.put_object(bucket, "file", b"x")
    user.mount(f"cos://{bucket}")
    fault = emulator.faults.error("Delete*", "AccessDenied", 403, count=0)
    (user.mountpoint / "file").unlink()
    until((user.mountpoint / "file").exists, "what COS kept is shown again")
    assert "could not be removed" in user.log()
    emulator.faults.remove(fault)
    (user.mountpoint / "file").unlink()
    until(lambda: names(client, bucket) == [], "now it is gone")


# --- nothing is lost


def test_async_file_survives_a_kill(mount: Mount, bucket: str, client: CosClient, emulator: Emulator) -> None:
    fault = emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    first = mount(f"cos://{bucket}", "--write-back", "async")
    (first.path / "small").write_bytes(b"small")
    (first.path / "small").chmod(0o640)
    data = os.urandom(3 * MIB)
    (first.path / "middle").write_bytes(data)
    (first.path / "renamed").write_bytes(b"r")
    (first.path / "renamed").rename(first.path / "name")
    (first.path / "removed").write_bytes(b"x")
    (first.path / "removed").unlink()
    first.kill()
    emulator.faults.remove(fault)
    assert names(client, bucket) == []
    second = mount(f"cos://{bucket}", "--metadata-ttl", "0.2s", cache_dir=first.cache_dir)
    expected = {"small": b"small", "middle": data, "name": b"r"}
    until(lambda: names(client, bucket) == sorted(expected), "the next mount sends what was closed")
    until(lambda: tree(second.path) == expected, "and shows it")
    assert (second.path / "small").stat().st_mode & 0o777 == 0o640
    until(lambda: not list((first.cache_dir / "staging").iterdir()), "the staging files are gone")


def test_change_of_an_object_survives_a_kill(
    mount: Mount, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    data = os.urandom(20 * MIB)
    client.put_object(bucket, "large", data)
    first = mount(f"cos://{bucket}", "--write-back", "async")
    fault = emulator.faults.error("*Upload*", "AccessDenied", 403, count=0)
    with (first.path / "large").open("r+b") as file:
        file.seek(9 * MIB)
        file.write(b"changed")
    first.kill()
    emulator.faults.remove(fault)
    mount(f"cos://{bucket}", cache_dir=first.cache_dir)
    expected = data[: 9 * MIB] + b"changed" + data[9 * MIB + 7 :]
    until(lambda: content(client, bucket, "large") == expected, "the next mount sends the change")


def test_kill_while_a_large_file_is_streamed_leaves_the_old_one(
    mount: Mount, bucket: str, client: CosClient
) -> None:
    client.put_object(bucket, "file", b"old")
    mounted = mount(f"cos://{bucket}")
    file = (mounted.path / "file").open("wb", buffering=0)
    for _ in range(20):
        file.write(bytes(MIB))
    mounted.kill()
    with fails_with(errno.ENOTCONN):
        file.write(b"x")
    with fails_with(errno.ENOTCONN):
        file.close()
    assert content(client, bucket, "file") == b"old"


@pytest.mark.parametrize(
    ("code", "status", "number"), [("AccessDenied", 403, errno.EACCES), ("X", 500, errno.EIO)]
)
def test_close_tells_that_cos_refuses(
    mount: Mount, bucket: str, client: CosClient, emulator: Emulator, code: str, status: int, number: int
) -> None:
    mounted = mount(f"cos://{bucket}", "--max-retries", "1")
    emulator.faults.error("PutObject", code, status, count=0)
    file = (mounted.path / "file").open("wb", buffering=0)
    file.write(b"precious")
    with fails_with(number):
        os.fsync(file.fileno())
    with fails_with(number):
        file.close()
    assert (mounted.path / "file").read_bytes() == b"precious"
    assert names(client, bucket) == []
    emulator.faults.clear()
    until(lambda: names(client, bucket) == ["file"], "it is sent as soon as COS takes it")
    assert content(client, bucket, "file") == b"precious"
    (mounted.path / "file").write_bytes(b"again")
    assert content(client, bucket, "file") == b"again"


def test_refused_file_can_be_removed_or_replaced(
    mount: Mount, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    mounted = mount(f"cos://{bucket}")
    emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    for name in ("removed", "replaced"):
        with fails_with(errno.EACCES):
            (mounted.path / name).write_bytes(b"first")
    (mounted.path / "removed").unlink()
    emulator.faults.clear()
    (mounted.path / "replaced").write_bytes(b"second")
    assert mounted.unmount() == 0
    assert names(client, bucket) == ["replaced"]
    assert content(client, bucket, "replaced") == b"second"


def test_large_file_that_fails_half_way_is_sent_later(
    mount: Mount, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    mounted = mount(f"cos://{bucket}")
    emulator.faults.error("UploadPart", "AccessDenied", 403, count=0)
    data = os.urandom(MIB) * 24
    with fails_with(errno.EACCES):
        (mounted.path / "large").write_bytes(data)
    assert (mounted.path / "large").read_bytes() == data
    emulator.faults.clear()
    until(lambda: names(client, bucket) == ["large"], "it is sent as soon as COS takes it")
    assert content(client, bucket, "large") == data
    assert not client.list_uploads(bucket).uploads


# --- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        detach(place)


@pytest.mark.parametrize("write_back", ["close", "async"])
def test_full_cache_disk(
    mount: Mount, bucket: str, client: CosClient, small_disk: Path, write_back: str
) -> None:
    data = os.urandom(MIB) * 8
    client.put_object(bucket, "large", data)
    client.put_object(bucket, "small", b"small")
    mounted = mount(
        f"cos://{bucket}", "--cache-size", "4MB", "--write-back", write_back, cache_dir=small_disk / "cache"
    )
    path = mounted.path
    (path / "before").write_bytes(b"before")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(65536))
    with fails_with(errno.ENOSPC), (path / "new").open("wb", buffering=0) as file:
        for _ in range(64):
            file.write(bytes(65536))
    assert (path / "large").read_bytes() == data
    assert (path / "small").read_bytes() == b"small"
    assert (path / "before").read_bytes() == b"before"
    with pytest.raises(OSError), (path / "small").open("r+b") as file:
        file.write(b"S" * 1_000_000)
    assert content(client, bucket, "small") in (b"small", b"")
    filler.unlink()
    (path / "after").write_bytes(b"after" * 1000)
    assert (path / "after").read_bytes() == b"after" * 1000
    for name in ("new", "small"):
        (path / name).write_bytes(b"better now")
    assert mounted.unmount() == 0, mounted.log_text()
    assert content(client, bucket, "after") == b"after" * 1000
    assert content(client, bucket, "new") == b"better now"
    assert content(client, bucket, "small") == b"better now"
    assert content(client, bucket, "large") == data


def test_mounting_with_a_full_cache_disk(user: User, bucket: str, small_disk: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    cache = small_disk / "cache"
    fails(user, f"cos://{bucket}", user.mountpoint, "--cache-dir", cache, code=253, says="cannot be written")


# --- no network


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator that may be stopped and started again."""
    from cosfs.emulator import Emulator

    with Emulator(tmp_path / "server", buckets=["b-1250000000"]) as running:
        yield running


@pytest.mark.parametrize("write_back", ["close", "async"])
def test_network_loss(server: Emulator, tmp_path: Path, write_back: str) -> None:
    with user_of(server, tmp_path.resolve() / "home") as user:
        path = user.mountpoint
        options = ("--write-back", write_back, "--metadata-ttl", "1s", "--max-retries", "1")
        user.mount("cos://b-1250000000", *options)
        data = os.urandom(3 * MIB)
        (path / "cached").write_bytes(data)
        (path / "removed").write_bytes(b"x")
        until(lambda: user.one()["pending_files"] == 0, "both are sent")
        assert os.listdir(path)  # noqa: PTH208
        server.stop()
        began = time.monotonic()
        with (path / "cached").open("rb") as file:
            assert file.read() == data
        if write_back == "close":
            with pytest.raises(OSError) as caught:
                (path / "new").write_bytes(b"written without a network")
            assert caught.value.errno in (errno.EIO, errno.ETIMEDOUT)
        else:
            (path / "new").write_bytes(b"written without a network")
        assert (path / "new").read_bytes() == b"written without a network"
        time.sleep(1.1)  # what is known is too old now
        with pytest.raises(OSError):
            os.listdir(path)  # noqa: PTH208
        with pytest.raises(OSError):
            (path / "unknown").stat()
        with pytest.raises(OSError):
            (path / "dir").mkdir()
        found = user.one()
        assert found["state"] == "running" and found["pending_files"] == 1
        assert time.monotonic() - began < 60
        done = user.cos("umount", path)
        assert done.returncode == 255 and "b-1250000000/new" in done.stderr
        server.start()
        until(lambda: user.one()["pending_files"] == 0, "what was written is sent", within=30)
        assert tree(path) == {"cached": data, "removed": b"x", "new": b"written without a network"}
        (path / "removed").unlink()
        assert user.cos("umount", path).returncode == 0
        assert "Traceback" not in user.log()


def test_server_that_hangs(mount: Mount, bucket: str, client: CosClient, emulator: Emulator) -> None:
    client.put_object(bucket, "file", b"x" * 1000)
    client.put_object(bucket, "other", b"y")
    options = ("--read-timeout", "1", "--max-retries", "0", "--metadata-ttl", "1s")
    path = mount(f"cos://{bucket}", *options).path
    assert (path / "file").read_bytes() == b"x" * 1000
    assert (path / "other").exists()
    emulator.faults.latency(20)
    began = time.monotonic()
    for call in (
        lambda: (path / "other").read_bytes(),
        lambda: (path / "new").write_bytes(b"x"),
        lambda: (path / "dir").mkdir(),
        lambda: list(path.iterdir()),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno in (errno.EIO, errno.ETIMEDOUT)
    assert time.monotonic() - began < 30
    emulator.faults.clear()
    (path / "new").write_bytes(b"again")
    assert content(client, bucket, "new") == b"again"
    (path / "dir").mkdir()
    assert (path / "other").read_bytes() == b"y"


def test_end_without_a_network(server: Emulator, tmp_path: Path) -> None:
    with user_of(server, tmp_path.resolve() / "home") as user:
        user.mount("cos://b-1250000000", "--write-back", "async", "--max-retries", "1")
        for name in ("a", "b"):
            (user.mountpoint / name).write_bytes(b"sent")
        until(lambda: user.one()["pending_files"] == 0, "both are sent")
        server.stop()
        (user.mountpoint / "a").unlink()
        (user.mountpoint / "c").write_bytes(b"kept")
        pid = user.one()["pid"]
        os.kill(pid, signal.SIGTERM)
        until(lambda: not alive(pid), "the process ends although nothing can be sent", within=40)
        assert not is_mounted(user.mountpoint)
        server.start()
        user.mount("cos://b-1250000000", "--metadata-ttl", "0.2s")
        until(lambda: tree(user.mountpoint) == {"b": b"sent", "c": b"kept"}, "the next mount finishes it all")


def test_answers_that_break_off(mount: Mount, bucket: str, client: CosClient, emulator: Emulator) -> None:
    data = os.urandom(MIB) * 12
    client.put_object(bucket, "file", data)
    path = mount(f"cos://{bucket}").path
    emulator.faults.truncate("GetObject", 300_000, count=2)
    emulator.faults.reset("GetObject", count=1)
    emulator.faults.reset("PutObject", count=1)
    emulator.faults.reset("PutObject", count=1, after=True)
    emulator.faults.error("ListObjects", "SlowDown", 503, count=1)
    emulator.faults.error("HeadObject", "InternalError", 500, count=1)
    assert (path / "file").read_bytes() == data
    (path / "one").write_bytes(b"1")
    (path / "two").write_bytes(b"2")
    assert tree(path) == {"file": data, "one": b"1", "two": b"2"}
    assert names(client, bucket) == ["file", "one", "two"]


# --- fstab, logs, supervisors


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
