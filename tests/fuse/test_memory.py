"""The memory of a mount does not grow with what passes by."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cosfs.emulator import Emulator
from tests.mounting import Mounted

FEW, MANY = 2_000, 60_000
KIB_PER_ENTRY = 0.25  # far below what one kept in memory takes


def most(mounted: Mounted) -> int:
    """KiB that the mount has taken at most."""
    lines = Path(f"/proc/{mounted.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def count(path: Path) -> int:
    with os.scandir(path) as entries:
        return sum(1 for _ in entries)


def test_listing_a_huge_directory_takes_no_more_memory_than_a_part_of_it(
    mount: Callable[..., Mounted], emulator: Emulator, bucket: str
) -> None:
    emulator.put_objects(bucket, ((f"few/{number:06}", b"") for number in range(FEW)))
    emulator.put_objects(bucket, ((f"many/{number:06}", b"") for number in range(MANY)))
    mounted = mount(f"cos://{bucket}", "--attributes", "listing")
    assert count(mounted.path / "few") == FEW
    before = most(mounted)
    assert count(mounted.path / "many") == MANY
    grown = most(mounted) - before
    assert grown < KIB_PER_ENTRY * MANY + 8 * 1024, f"{grown} KiB for {MANY} entries"


def test_open_and_close_leave_nothing_behind(
    mount: Callable[..., Mounted], emulator: Emulator, bucket: str
) -> None:
    emulator.put_objects(bucket, ((f"{number:04}", b"content") for number in range(200)))
    mounted = mount(f"cos://{bucket}", "--attributes", "listing")

    def read_all(times: int) -> None:
        for _ in range(times):
            for number in range(200):
                (mounted.path / f"{number:04}").read_bytes()

    read_all(3)
    grown = []
    for _ in range(3):  # threads that it never had before take memory once: the least counts
        before = most(mounted)
        read_all(20)
        grown.append(most(mounted) - before)
        if grown[-1] < 3 * 1024:
            return
    pytest.fail(f"whenever 4,000 files were opened, read and closed it grew: {grown} KiB")


def faults(mounted: Mounted) -> int:
    """Pages that the mount has got from the system."""
    return int(Path(f"/proc/{mounted.pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_write_requests_use_memory_again(mount: Callable[..., Mounted], bucket: str) -> None:
    mounted = mount(f"cos://{bucket}")
    data = bytes(1024 * 1024)

    def write_all(name: str, count: int) -> None:
        with (mounted.path / name).open("wb", buffering=0) as file:
            for _ in range(count):
                file.write(data)

    write_all("first", 32)
    had, taken = most(mounted), []
    for _ in range(3):  # the system may take pages back meanwhile: the fewest count
        before = faults(mounted)
        write_all("more", 32)
        taken.append(faults(mounted) - before)
    assert min(taken) < 32 * 128, "half of what it takes without"
    assert most(mounted) - had < 16 * 1024
