"""A mount served by a process of its own, which never outlives its test."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

READY_WITHIN = 100.0
UNMOUNT_WITHIN = 100.0


@functools.cache
def unavailable() -> str:
    """Say why no filesystem can be mounted here; empty where it can."""
    if not Path("/dev/fuse").exists():
        return "/dev/fuse is missing"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    if os.geteuid() != 0 and not shutil.which("fusermount3"):
        return "fusermount3 is missing"
    return ""


def is_mounted(path: Path) -> bool:
    """Look in the kernel's table: a stat of a dead or stuck mount fails or hangs."""
    wanted = str(path).replace("\\", "\\134").replace(" ", "\\040")
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return any(line.split(" ")[4] == wanted for line in table.splitlines())


# A copy of every mount stays in a new namespace, and keeps its process when it is unmounted outside:
# the mounts of tests that run at the same time would not end.
_ALONE = """
keep=$1; shift
sed -n 's/^\\([^ ]* \\)\\{4\\}\\([^ ]*\\) .* - fuse.cosfs .*/\\2/p' /proc/self/mountinfo |
while read -r place; do
    place=$(printf %b "$place")
    [ "$place" = "$keep" ] || umount --internal-only --lazy "$place"
done 2>/dev/null
exec "$@"
"""


def in_namespace(*command: str | os.PathLike[str], keep: Path | None = None) -> list[str]:
    """Return the command line that runs a command in a mount namespace of its own, with one mount of ours."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    return [*unshare, "sh", "-c", _ALONE, "sh", str(keep or ""), *map(os.fspath, command)]


@dataclass
class Mounted:
    """A running `cos mount --foreground`."""

    source: str
    path: Path
    cache_dir: Path
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls, source: str, options: Sequence[str], base: Path, cache_dir: Path, environment: Mapping[str, str]
    ) -> Self:
        path, log = base / "mnt", base / "mount.log"
        path.mkdir()
        # However full the disk of the tests is, blocks are cached.
        cache = ["--cache-dir", str(cache_dir), "--cache-reserve", "0"]
        command = ["cos", "mount", source, str(path), "--foreground", *cache, *options]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        return cls(source, path.resolve(), cache_dir, log, process)

    @property
    def own_dir(self) -> Path:
        """Where this mount's journal and staging files are."""
        (journal,) = self.cache_dir.glob("*/journal.db")
        return journal.parent

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_ready(self, within: float = READY_WITHIN) -> None:
        """Return when the mount answers; fail the test with the log when it does not."""
        deadline = time.monotonic() + within
        while not is_mounted(self.path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"cos mount did not mount (exit code {self.process.poll()}):\n{self.log_text()}")
            time.sleep(0.01)
        self.path.stat()  # answered only when the process serves

    def wait_until_idle(self) -> None:
        """Return when it has sent and removed everything, so that what others count next is theirs alone."""
        from cosfs.fuse import control

        deadline = time.monotonic() + UNMOUNT_WITHIN
        while True:
            status = next(control.ask(self.path, {"op": "status"}, timeout=UNMOUNT_WITHIN))
            if status["pending_files"] == status["pending_removals"] == 0:
                return
            assert time.monotonic() < deadline, status
            time.sleep(0.02)

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def unmount(self) -> int:
        """Ask for a clean end, as a service manager would, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(UNMOUNT_WITHIN)

    def kill(self) -> None:
        """End the process as a crash does, and clear away the dead mount."""
        self.process.kill()
        self.process.wait()
        self._detach()

    def clean_up(self) -> None:
        """Leave neither process nor mount, whatever happened before."""
        if self.process.poll() is None:
            try:
                self.unmount()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._detach()

    def _detach(self) -> None:
        if is_mounted(self.path):
            command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
            subprocess.run([*command, str(self.path)], check=False, capture_output=True)
