"""What the tests of the mount's promises share: a bucket seen from both sides."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from tests.mounting import Mounted


@dataclass(frozen=True)
class Outside:
    """The bucket as everybody else sees it."""

    client: CosClient
    bucket: str

    def put(self, key: str, data: bytes = b"", **metadata: str) -> None:
        self.client.put_object(self.bucket, key, data, headers=Headers(metadata=metadata))

    def get(self, key: str) -> bytes:
        with self.client.get_object(self.bucket, key) as stream:
            return b"".join(stream.chunks())

    def listing(self) -> list[str]:
        return [each.key for each in self.client.list_objects(self.bucket).objects]


def names(directory: Path) -> list[str]:
    """Return the names in a directory, sorted."""
    return sorted(path.name for path in directory.iterdir())


def settle(directory: Path) -> None:
    """Wait until COS has what was changed in a directory: removals are sent behind the caller's back."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@pytest.fixture
def outside(client: CosClient, bucket: str) -> Outside:
    return Outside(client, bucket)


@pytest.fixture
def mount_bucket(mount: Callable[..., Mounted], bucket: str) -> Callable[..., Path]:
    """Mount the fresh bucket with options; return the directory."""

    def make(*options: str) -> Path:
        path: Path = mount(f"cos://{bucket}", *options).path
        return path

    return make


@dataclass
class Counted:
    """Requests that arrived in a while, by operation."""

    counts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@pytest.fixture
def counted(emulator: Emulator) -> Iterator[Callable[[], Counted]]:
    """Count requests: `with counted() as seen: ...`, then seen.counts."""

    @contextmanager
    def count() -> Iterator[Counted]:
        seen = Counted({})
        emulator.requests.reset()
        yield seen
        seen.counts = {name: number for name, number in emulator.requests.snapshot().items() if number}

    yield count
