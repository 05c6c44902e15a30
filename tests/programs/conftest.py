"""Two mounts of all buckets, one for each way of writing back, serve all tests of programs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import environment, until
from tests.mounting import Mounted, is_mounted

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

_numbers = itertools.count(1)
MODES = ("close", "async")


@dataclass(frozen=True)
class Place:
    """A directory that is a fresh bucket, and that bucket as everybody else sees it."""

    path: Path
    client: CosClient
    write_back: str

    @property
    def bucket(self) -> str:
        return self.path.name

    def settle(self, directory: Path | None = None) -> None:
        """Wait until what was removed and changed in a directory is in COS."""
        fd = os.open(directory or self.path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def settle_all(self, top: Path) -> None:
        """The same of everything below a directory, with the bytes of its files."""
        for path in (top, *top.rglob("*")):
            if path.is_symlink():
                # Nothing opens a link itself, so there is nothing to fsync.
                until(partial(self._has_time_of, path), f"the times of {path} are in COS")
                continue
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _has_time_of(self, path: Path) -> bool:
        headers = self.client.head_object(self.bucket, str(path.relative_to(self.path))).headers
        assert headers is not None
        return float(headers.metadata["mtime"]) == path.lstat().st_mtime

    def stored(self) -> dict[str, bytes]:
        """What COS has: the bytes of every object."""
        return {info.key: self.object(info.key) for info in self.client.list_objects(self.bucket).objects}

    def object(self, key: str) -> bytes:
        with self.client.get_object(self.bucket, key) as stream:
            return b"".join(stream.chunks())

    def arrives(self, key: str, content: bytes) -> None:
        """Expect an object: at once, or behind the caller's back with --write-back async."""

        def is_there() -> bool:
            keys = [info.key for info in self.client.list_objects(self.bucket, prefix=key).objects]
            return key in keys and self.object(key) == content

        if self.write_back == "close":
            assert self.object(key) == content
        else:
            until(is_there, f"{key} is in COS")


@pytest.fixture(scope="session")
def both_mounts(
    emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Mounted]]:
    """Mounts of `cos://` that all tests here share, made when they are first asked for."""
    with ExitStack() as stack:
        made: dict[str, Mounted] = {}

        def of(write_back: str) -> Mounted:
            if write_back not in made:
                base = tmp_path_factory.mktemp(f"programs-{write_back}")
                options = ("--write-back", write_back)
                variables = environment(emulator, base)
                made[write_back] = Mounted.start("cos://", options, base, base / "cache", variables)
                stack.callback(made[write_back].clean_up)
                made[write_back].wait_until_ready()
            return made[write_back]

        yield of


@pytest.fixture(params=MODES)
def place(
    request: pytest.FixtureRequest,
    both_mounts: Callable[[str], Mounted],
    client: CosClient,
    emulator: Emulator,
) -> Iterator[Place]:
    """A fresh bucket in the shared mount of each way of writing back."""
    mounted = both_mounts(request.param)
    assert is_mounted(mounted.path), mounted.log_text()
    path = mounted.path / f"programs-{next(_numbers)}-1250000000"
    path.mkdir()
    before = len(mounted.log_text())
    yield Place(path, client, request.param)
    emulator.faults.clear()
    mounted.wait_until_idle()
    emulator.requests.leave_out(path.name)
    logged = mounted.log_text()[before:]
    assert "Traceback" not in logged and " ERROR " not in logged, logged
