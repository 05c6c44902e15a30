"""What the kernel tells of the descriptors of a process."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cosfs.fs.descriptors import may_write
from cosfs.fuse.registry import device_of


def test_descriptors_of_a_process(mountpoint: Path) -> None:
    path, device = mountpoint / "file", device_of(mountpoint)
    path.write_text("x")
    ino = path.stat().st_ino
    with path.open():
        assert not may_write(os.getpid(), ino, device)
        with path.open("ab"):
            assert may_write(os.getpid(), ino, device)
            assert not may_write(os.getpid(), ino, device_of(Path("/proc")))
            assert not may_write(os.getpid(), ino + 1, device)
        assert not may_write(os.getpid(), ino, device)


def test_process_that_is_gone(mountpoint: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert not may_write(process.pid, mountpoint.stat().st_ino, device_of(mountpoint))
