"""One mount of all buckets serves most tests here: mounting takes longer than most of them."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import environment
from tests.fuse.users import User, detach, user_of
from tests.mounting import Mounted, is_mounted

if TYPE_CHECKING:
    from cosfs.emulator import Emulator

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def all_buckets(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """A mount of `cos://` with default settings that all tests share."""
    base = tmp_path_factory.mktemp("all-buckets")
    made = Mounted.start("cos://", (), base, base / "cache", environment(emulator, base))
    try:
        made.wait_until_ready()
        yield made
    finally:
        made.clean_up()


@pytest.fixture
def mountpoint(all_buckets: Mounted, emulator: Emulator) -> Iterator[Path]:
    """Directory of a fresh bucket in the shared mount; its name is the bucket's."""
    assert is_mounted(all_buckets.path), all_buckets.log_text()
    path = all_buckets.path / f"shared-{next(_numbers)}-1250000000"
    path.mkdir()
    yield path
    emulator.faults.clear()
    all_buckets.wait_until_idle()
    emulator.requests.leave_out(path.name)


@pytest.fixture
def user(emulator: Emulator, tmp_path: Path) -> Iterator[User]:
    with user_of(emulator, tmp_path.resolve() / "home") as made:
        yield made


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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator that may be stopped and started again."""
    from cosfs.emulator import Emulator

    with Emulator(tmp_path / "server", buckets=["b-1250000000"]) as running:
        yield running
