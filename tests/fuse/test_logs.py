"""Where a mount logs, how, and what signals do to it."""

from __future__ import annotations

import logging
import os
import pty
import signal
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


def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("cosfs.mount", level, __file__, 1, message, (), None)


def test_a_message_is_one_line() -> None:
    from cosfs.fuse.logs import OneLine

    text = OneLine("%(levelname)s %(message)s").format(record(logging.INFO, "a\nERROR b\x1b[0m\tc"))
    assert text == "INFO a\\x0aERROR b\\x1b[0m\\x09c"


def test_lines_for_the_journal_have_priorities() -> None:
    from cosfs.fuse.logs import ForJournal

    formatter = ForJournal()
    for level, priority in (("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3), ("CRITICAL", 2)):
        text = formatter.format(record(getattr(logging, level), "x"))
        assert text == f"<{priority}>cosfs.mount: x"
    try:
        raise RuntimeError("a mistake")
    except RuntimeError as error:
        failed = record(logging.ERROR, "x")
        failed.exc_info = (type(error), error, error.__traceback__)
    lines = formatter.format(failed).splitlines()
    assert len(lines) > 3 and all(line.startswith("<3>") for line in lines)


def test_syslog_gets_level_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cosfs.errors import ConfigError
    from cosfs.fuse.logs import syslog

    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind("log")
        daemon.settimeout(90)
        handler = syslog("log")
        handler.emit(record(logging.WARNING, "two\nlines"))
        handler.close()
        # daemon (3) * 8 + warning (4)
        assert daemon.recv(4096).decode() == f"<28>cosfs[{os.getpid()}]: cosfs.mount: two\\x0alines"
    with pytest.raises(ConfigError, match="syslog does not listen"):
        syslog("nothing")


@pytest.mark.fuse
def test_journald_by_itself(user: User, bucket: str) -> None:
    """systemd says by JOURNAL_STREAM that it reads standard error."""
    ours, theirs = socket.socketpair()
    info = os.fstat(theirs.fileno())
    streams = {f"{info.st_dev}:{info.st_ino}": b"<6>cosfs.mount: ", "1:2": b" INFO cosfs.mount "}
    for stream, expected in streams.items():
        user.environment["JOURNAL_STREAM"] = stream
        process = user.background("mount", f"cos://{bucket}", user.mountpoint, "--foreground", stderr=theirs)
        ours.settimeout(90)
        assert expected in ours.recv(4096)
        until(lambda: user.status() and user.one()["state"] == "running", "it is mounted")
        assert user.cos("umount", user.mountpoint).returncode == 0
        assert process.wait(90) == 0
        said = b""
        while b"is unmounted" not in said:
            said += ours.recv(4096)
    ours.close()
    theirs.close()


@pytest.mark.fuse
def test_log_options_that_make_no_sense(user: User, bucket: str) -> None:
    source = f"cos://{bucket}"
    for args, code, says in (
        (("--log", "journald"), 252, "in the background cannot log to journald"),
        (("--log", "stderr"), 252, "in the background cannot log to stderr"),
        (("--log", "a", "--log-file", "b"), 252, "two files"),
        (("--log-level", "loud"), 252, "loud"),
    ):
        done = user.cos("mount", source, user.mountpoint, *args)
        assert done.returncode == code and says in done.stderr, done.stderr
    assert not is_mounted(user.mountpoint)


@pytest.mark.fuse
def test_rotation_by_size_and_level(user: User, bucket: str, client: CosClient) -> None:
    for number in range(30):
        client.put_object(bucket, f"{number}", b"x")
    log = user.home / "log"
    options = ("--log", log, "--log-size", "2K", "--log-keep", "2", "--log-level", "debug")
    user.mount(f"cos://{bucket}", *options)
    for number in range(30):
        (user.mountpoint / f"{number}").read_bytes()
    until((user.home / "log.2").exists, "it is rotated")
    assert user.cos("umount", user.mountpoint).returncode == 0
    assert not (user.home / "log.3").exists()
    for name in ("log", "log.1", "log.2"):
        assert (user.home / name).stat().st_size <= 2048
    user.mount(f"cos://{bucket}", "--log-file", user.home / "quiet", "--log-level", "error")
    assert (user.home / "quiet").read_text() == ""


@pytest.mark.fuse
def test_logrotate(user: User, bucket: str) -> None:
    """Moved away and told by SIGUSR1, the mount goes on in a new file; SIGUSR2 switches debugging."""
    log = user.home / "log"
    user.mount(f"cos://{bucket}", "--log-file", log)
    pid = user.one()["pid"]
    for number, name in ((signal.SIGUSR1, "a"), (signal.SIGHUP, "b")):
        log.rename(user.home / name)
        os.kill(pid, number)
        until(lambda: log.exists() and "goes on here" in log.read_text(), "the new file is there")
    os.kill(pid, signal.SIGUSR2)
    until(lambda: "DEBUG is logged" in log.read_text(), "debugging is on")
    (user.mountpoint / "file").write_text("x")
    assert "DEBUG cosfs.client.session PutObject" in log.read_text()
    os.kill(pid, signal.SIGUSR2)
    until(lambda: "INFO is logged" in log.read_text(), "debugging is off")
    (user.mountpoint / "file").write_text("y")
    assert "PutObject" not in log.read_text().rpartition("INFO is logged")[2]
    assert user.one()["state"] == "running"


@pytest.mark.fuse
def test_a_terminal_that_is_closed_ends_its_mount(user: User, bucket: str, client: CosClient) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "cos", "mount", f"cos://{bucket}", str(user.mountpoint), "--foreground"],
        env=user.environment, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    user.running.append(process)
    until(lambda: user.status() and user.one()["state"] == "running", "it is mounted")
    (user.mountpoint / "file").write_text("x")
    os.close(ours)
    assert process.wait(90) == 0
    assert not is_mounted(user.mountpoint)
    assert [info.key for info in client.list_objects(bucket).objects] == ["file"]


@pytest.mark.fuse
def test_early_signals_do_not_end_it(user: User, bucket: str, emulator: Emulator) -> None:
    process = user.background("mount", f"cos://{bucket}", user.mountpoint, "--foreground")
    until(
        lambda: any(e.bucket == bucket and e.operation == "HeadBucket" for e in emulator.requests.log()),
        "it has begun",
    )
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        process.send_signal(number)
    until(lambda: user.status() and user.one()["state"] == "running", "it is mounted")


@pytest.mark.fuse
def test_names_of_objects_cannot_write_the_log(
    user: User, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    client.put_object(bucket, "a\nERROR b", b"x")
    emulator.faults.error("GetObject", "AccessDenied", 403, count=0)
    user.mount(f"cos://{bucket}", "--log-file", user.home / "log")
    (name,) = os.listdir(user.mountpoint)  # noqa: PTH208
    with fails_with(13):
        (user.mountpoint / name).read_bytes()
    assert not [line for line in (user.home / "log").read_text().splitlines() if line.startswith("ERROR")]
