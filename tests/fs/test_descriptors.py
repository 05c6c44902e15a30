"""What the kernel tells of the descriptors of a process."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cosfs.fs import descriptors


def test_descriptors_of_a_process(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        ino = os.fstat(file.fileno()).st_ino
        assert descriptors.may_write(os.getpid(), ino)
    assert not descriptors.may_write(os.getpid(), ino)


def test_readers_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open("rb"):
        assert not descriptors.may_write(os.getpid(), path.stat().st_ino)


def test_process_that_is_gone(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert not descriptors.may_write(process.pid, tmp_path.stat().st_ino)
