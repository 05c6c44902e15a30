"""Who waits when the local disk does not keep up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cosfs.client.crc64 import crc64
from cosfs.fs import scratch, staging
from cosfs.fs.pace import ENOUGH, SLOW, Pace
from cosfs.fs.staging import INLINE, Staging
from cosfs.transfer.receive import WRITE_PIECE

LARGE = bytes(INLINE + WRITE_PIECE)


def test_after_a_slow_write_several_must_be_fast() -> None:
    pace = Pace()
    assert not pace.keeps_up
    assert not pace.lags
    for _ in range(ENOUGH):
        pace.note(SLOW / 2)
    assert pace.keeps_up
    pace.note(2 * SLOW)
    assert pace.lags
    for _ in range(ENOUGH - 1):
        pace.note(SLOW / 2)
    assert pace.lags
    assert not pace.keeps_up
    pace.note(SLOW / 2)
    assert not pace.lags
    assert pace.keeps_up


class Disk:
    """A disk that takes as long as it is told for each write, and notes which thread waited for it."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self._directory = directory
        self._now = 0.0
        self._pwrite: Callable[[int, memoryview, int], int] = os.pwrite
        self._held_up: list[threading.Thread] = []
        patch.setattr(os, "pwrite", self._write)
        patch.setattr(staging, "monotonic", lambda: self._now)
        patch.setattr(scratch, "monotonic", lambda: self._now)

    def _write(self, fd: int, data: memoryview, offset: int) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().parent == self._directory:
            self._held_up.append(threading.current_thread())
            self._now += self.seconds
        return self._pwrite(fd, data, offset)

    def held_up(self) -> tuple[int, int]:
        """How many writes the mount waited for since the last call, and how many a thread."""
        found, self._held_up = self._held_up, []
        mount = sum(thread is threading.current_thread() for thread in found)
        return mount, len(found) - mount


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


async def test_while_the_disk_keeps_up_nobody_goes_to_a_thread(tmp_path: Path, disk: Disk) -> None:
    file = Staging(tmp_path, None)
    for number in range(ENOUGH):
        await file.write(number * len(LARGE), LARGE)
    assert disk.held_up() == (0, 3 * ENOUGH)
    await file.write(0, LARGE)
    assert disk.held_up() == (3, 0)


async def test_a_slow_disk_stops_the_mount_once(tmp_path: Path, disk: Disk) -> None:
    file = Staging(tmp_path, None)
    for _ in range(ENOUGH):
        await file.write(0, LARGE)
    disk.held_up()
    disk.seconds = 1.0
    data = os.urandom(len(LARGE))
    await file.write(0, data)
    assert disk.held_up() == (1, 2)
    for _ in range(ENOUGH):
        await file.write(len(data), LARGE)
    await file.write(2 * len(data), b"small")
    assert disk.held_up() == (0, 3 * ENOUGH + 1)
    assert file.path is not None
    assert file.path.read_bytes() == data + LARGE + b"small"
    disk.seconds = 0.0
    for _ in range(ENOUGH):
        await file.write(0, b"small")
    assert disk.held_up() == (0, ENOUGH)
    await file.write(0, LARGE)
    assert disk.held_up() == (3, 0)


async def test_small_writes_wait_for_the_disk_until_it_is_slow(tmp_path: Path, disk: Disk) -> None:
    file = Staging(tmp_path, None)
    await file.write(INLINE, b"beyond what memory takes")
    assert disk.held_up() == (1, 0)
    disk.seconds = 1.0
    await file.write(0, bytes(INLINE))
    assert disk.held_up() == (1, 1)
    await file.write(0, b"small")
    assert disk.held_up() == (0, 1)


async def test_sums_are_those_of_all_bytes_whoever_wrote_them(tmp_path: Path, disk: Disk) -> None:
    file = Staging(tmp_path, None)
    file.sum_up()
    data = os.urandom(1024 * 1024)
    for _ in range(ENOUGH):
        await file.write(0, bytes(len(data)))
    disk.seconds = 1.0
    disk.held_up()
    await file.write(0, data)
    assert disk.held_up() == (1, len(data) // WRITE_PIECE - 1)
    assert file.take_crc64(0, len(data)) == crc64(data)
