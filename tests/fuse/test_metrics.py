"""What a running mount says of itself: metrics for Prometheus, `cos stats`."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import pty
import random
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fuse.support import fails_with, until
from tests.fuse.users import User
from tests.mounting import Mounted, is_mounted
from tests.objects import keys

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Mount = Callable[..., Mounted]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

pytestmark = pytest.mark.fuse


def parsed(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(user: User) -> Samples:
    done = user.cos("stats", user.mountpoint, "--prometheus")
    assert done.returncode == 0, done.stderr
    return parsed(done.stdout)


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def test_everything_is_counted(user: User, bucket: str, client: CosClient, emulator: Emulator) -> None:
    client.put_object(bucket, "file", b"x" * 5000)
    user.mount(f"cos://{bucket}", "--write-back", "async")
    assert (user.mountpoint / "file").read_bytes() == b"x" * 5000
    with fails_with(errno.ENOTEMPTY):
        (user.mountpoint / "dir").mkdir()
        (user.mountpoint / "dir/below").touch()
        (user.mountpoint / "dir").rmdir()
    fault = emulator.faults.error("PutObject", "AccessDenied", 403, count=0, key="new")
    (user.mountpoint / "new").write_bytes(b"123")
    until(lambda: value(scrape(user), "cosfs_send_failures_total"), "the refusal is counted")
    with (user.mountpoint / "file").open("rb"):
        samples = scrape(user)
    assert value(samples, "cosfs_operation_seconds_count", operation="mkdir") == 1
    assert value(samples, "cosfs_operation_seconds_count", operation="read") >= 1
    assert value(samples, "cosfs_operation_errors_total", operation="rmdir", errno="ENOTEMPTY") == 1
    assert value(samples, "cosfs_read_bytes_total") == 5000
    assert value(samples, "cosfs_written_bytes_total") == 3
    assert value(samples, "cosfs_requests_total", operation="GetObject", status="200") + value(
        samples, "cosfs_requests_total", operation="GetObject", status="206"
    ) == emulator_count(emulator, bucket, "GetObject")
    assert value(samples, "cosfs_requests_total", operation="PutObject", status="403") >= 1
    assert value(samples, "cosfs_request_seconds_count", operation="GetObject") == 1
    assert value(samples, "cosfs_received_bytes_total") >= 5000
    assert value(samples, "cosfs_cache_lookups_total", result="misses") >= 1
    assert value(samples, "cosfs_pending_files") == 1 and value(samples, "cosfs_pending_bytes") == 3
    assert value(samples, "cosfs_pending_oldest_seconds") > 0
    assert value(samples, "cosfs_open_handles", kind="file") == 1
    assert value(samples, "cosfs_known_inodes") >= 2
    assert value(samples, "cosfs_crashes_total") == 0
    info = [dict(labels) for name, labels in samples if name == "cosfs_mount_info"]
    assert info == [{"source": f"cos://{bucket}/", "mountpoint": str(user.mountpoint)}]
    emulator.faults.remove(fault)
    until(lambda: value(scrape(user), "cosfs_pending_files") == 0, "it is sent")
    assert "new" in keys(client, bucket)


def emulator_count(emulator: Emulator, bucket: str, operation: str) -> int:
    return sum(entry.bucket == bucket and entry.operation == operation for entry in emulator.requests.log())


def free_port() -> int:
    """A port that no connection of any program is given by chance before it is used."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_metrics_at_a_port(user: User, bucket: str) -> None:
    port = free_port()
    user.mount(f"cos://{bucket}", "--metrics", f"127.0.0.1:{port}")
    status, text = get(port, "/metrics")
    assert status == 200 and value(parsed(text), "cosfs_start_time_seconds") > 1e9
    assert get(port, "/metrics", "HEAD") == (200, "")
    assert get(port, "/other")[0] == 404
    assert get(port, "/metrics", "POST")[0] == 405
    second = user.home / "second"
    second.mkdir()
    done = user.cos("mount", f"cos://{bucket}", second, "--cache-dir", "c", "--metrics", str(port))
    assert done.returncode == 253 and f"metrics cannot be served at {port}" in done.stderr
    assert not is_mounted(second)
    with socket.create_connection(("127.0.0.1", port)) as silent:  # who says nothing is in nobody's way
        assert get(port, "/metrics")[0] == 200
        silent.sendall(b"\0" * 100)
    assert user.cos("umount", user.mountpoint).returncode == 0
    with pytest.raises(OSError):
        get(port, "/metrics")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("0.0.0.0:9100", "--metrics-remote"),
        ("192.0.2.1:9100", "--metrics-remote"),
        (":::9100", "--metrics-remote"),
        ("example.com:9100", "IP address"),
        ("127.0.0.1", "such as 127.0.0.1:9100"),
        ("127.0.0.1:99999", "such as 127.0.0.1:9100"),
    ],
)
def test_addresses_that_are_refused(user: User, bucket: str, address: str, says: str) -> None:
    done = user.cos("mount", f"cos://{bucket}", user.mountpoint, "--metrics", address)
    assert done.returncode == 252 and says in done.stderr, done.stderr
    assert not is_mounted(user.mountpoint)


def test_stats_in_every_form(user: User, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"x" * 5000)
    user.mount(f"cos://{bucket}")
    for _ in range(3):
        (user.mountpoint / "file").read_bytes()
    found = json.loads(user.cos("stats", user.mountpoint, "--output", "json").stdout)
    assert found["operations"]["open"]["count"] == 3
    open_ = found["operations"]["open"]
    assert 0 < open_["p50"] <= open_["p95"] <= open_["p99"] and open_["errors"] == 0
    assert open_["per_second"] == pytest.approx(3 / found["seconds"])
    assert found["bytes_read"] >= 5000 and found["requests"]["GetObject"]["count"] == 1
    text = user.cos("stats", user.mountpoint).stdout
    assert re.search(r"^open\t3\t", text, re.MULTILINE) and "Waiting\tnothing" in text
    table = user.cos("stats", user.mountpoint, "--once", "--output", "table").stdout
    assert "│ open " in table and "GetObject" in table
    done = user.cos("stats", user.home)
    assert done.returncode == 252 and "not a mountpoint" in done.stderr
    for args in (("--interval", "0"), ("--interval", "1", "--once")):
        assert user.cos("stats", user.mountpoint, *args).returncode == 252


def test_stats_of_each_interval(user: User, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"x")
    user.mount(f"cos://{bucket}")
    (user.mountpoint / "file").read_bytes()
    process = user.background("stats", user.mountpoint, "--output", "jsonl", "--interval", "100ms")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    # What was done before it began is not in it. Any program of the machine that looks at all mounts, as df
    # does, adds a statfs, and the kernel forgets what it likes.
    assert not {"open", "read"} & set(first["operations"]) and first["seconds"] > 0
    (user.mountpoint / "file").read_bytes()
    until(lambda: "open" in json.loads(process.stdout.readline())["operations"], "the open is shown")
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 130


def test_stats_on_a_terminal(user: User, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"x")
    user.mount(f"cos://{bucket}")
    (user.mountpoint / "file").read_bytes()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["cos", "stats", str(user.mountpoint)], env={**user.environment, "TERM": "xterm"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    user.running.append(process)
    seen = b""
    while not all(text in seen for text in (b"open", b"p99", b"Waiting")):
        seen += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:
        pass  # the other side is closed
    assert process.wait(90) == 130
    assert b"Traceback" not in seen
    assert b"\x1b[?1049l" in seen and b"\x1b[?25h" in seen  # the screen and the cursor are back


def test_stats_of_a_mount_that_does_not_answer(user: User, bucket: str) -> None:
    user.mount(f"cos://{bucket}")
    pid = user.one()["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: user.one()["state"] == "dead", "it is dead")
    done = user.cos("stats", user.mountpoint)
    assert done.returncode == 255 and "it is dead" in done.stderr


def test_a_mistake_in_a_handler_is_an_error_of_one_call(
    mount: Mount, bucket: str, client: CosClient, tmp_path: Path
) -> None:
    """Any exception but pyfuse3's own would end the mount."""
    client.put_object(bucket, "file", b"x")
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'cosfs.fuse.serve':\n"
        "            from cosfs.fuse.operations import Operations\n"
        "            async def readlink(self, inode, ctx): raise RuntimeError('a mistake')\n"
        "            async def forget(self, inodes): raise KeyError('another')\n"
        "            Operations.getxattr, Operations.forget = readlink, forget\n"
        "            Operations.getxattr = lambda self, inode, name, ctx: readlink(self, inode, ctx)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    mounted = mount(f"cos://{bucket}", env={"PYTHONPATH": str(tmp_path)})
    with fails_with(errno.EIO):
        os.getxattr(mounted.path / "file", "user.any")
    (mounted.path / "new").write_text("x")
    (mounted.path / "new").unlink()
    assert (mounted.path / "file").read_bytes() == b"x"
    assert "a mistake" in mounted.log_text()
    assert mounted.unmount() == 0, mounted.log_text()
