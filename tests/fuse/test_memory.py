"""The memory of a mount does not grow with what passes by."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

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
    before = most(mounted)
    read_all(20)
    assert most(mounted) - before < 3 * 1024, "4,000 files were opened, read and closed"
