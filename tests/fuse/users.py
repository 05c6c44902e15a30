"""Somebody who types `cos` in tests of mounts, and what they look at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fuse.support import environment
from tests.mounting import is_mounted

if TYPE_CHECKING:
    from cosfs.emulator import Emulator


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
        self, *args: str | os.PathLike[str], env: Mapping[str, str] | None = None, timeout: float = 150
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

    def background(
        self, *args: str | os.PathLike[str], stderr: int | socket.socket = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """A `cos` that runs while the test goes on."""
        process = subprocess.Popen(
            ["cos", *map(os.fspath, args)], env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=stderr, cwd=self.home,
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
