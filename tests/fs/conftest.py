"""Filesystems on the emulator, without a kernel."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.config import Settings
from cosfs.emulator import Emulator
from cosfs.fs import commit, deleter, fetcher, openfiles, outbox, recovery, uploads
from tests.fs.support import Files, fs_settings, running

Make = Callable[..., Awaitable[Files]]
NEVER = 3600.0  # seconds


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One try a request: a fault that strikes is seen."""
    return replace(settings, client=replace(settings.client, max_retries=0))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once what is tried again in the background."""
    for module in (outbox, deleter, recovery):
        monkeypatch.setattr(module, "RETRY_DELAYS", (0.02,))
    monkeypatch.setattr(deleter, "DELAY", 0.01)
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", 0.05)
    monkeypatch.setattr(commit, "NOTE_INTERVAL", 0.05)
    monkeypatch.setattr(uploads, "LOOK_DELAYS", (0.02,))
    monkeypatch.setattr(openfiles, "ASYNC_DELAY", 0.01)
    # Should the machine stand still, a file that is cut is not sent twice for that, nor a failure remembered.
    monkeypatch.setattr(openfiles, "CUT_WITHIN", NEVER)
    monkeypatch.setattr(fetcher, "SLOW_FAILURE", NEVER)


@pytest.fixture
def unhurried(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send nothing that nobody waits for, so that what is asked of COS does not depend on the time."""
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", NEVER)
    monkeypatch.setattr(openfiles, "ASYNC_DELAY", NEVER)


class Filesystems:
    """Filesystems of one test; each runs in a task of its own until it is ended."""

    def __init__(self, client: CosClient, bucket: str, tmp_path: Path, nursery: trio.Nursery) -> None:
        self._client = client
        self._bucket = bucket
        self._tmp_path = tmp_path
        self._nursery = nursery
        self._numbers = itertools.count(1)
        self._ends: dict[int, tuple[trio.Event, trio.CancelScope, trio.Event]] = {}

    async def __call__(
        self,
        cache: str = "",
        *,
        bucket: str | None = None,
        recovering: bool = True,
        trusting: bool = True,
        client: CosClient | None = None,
        **changes: Any,
    ) -> Files:
        """Start a filesystem. cache names a cache directory to share with an earlier one."""
        directory = self._tmp_path / (cache or f"cache-{next(self._numbers)}")
        directory.mkdir(exist_ok=True)
        chosen = fs_settings(self._bucket if bucket is None else bucket, directory, **changes)
        return await self._nursery.start(self._run, client or self._client, chosen, recovering, trusting)

    async def _run(
        self,
        client: CosClient,
        chosen: Any,
        recovering: bool,
        trusting: bool,
        task_status: trio.TaskStatus[Files] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        ending, ended = trio.Event(), trio.Event()
        try:
            with trio.CancelScope() as scope:
                async with running(client, chosen, recovering=recovering, trusting=trusting) as files:
                    if not files.bucket:
                        files.bucket = self._bucket
                    self._ends[id(files)] = (ending, scope, ended)
                    task_status.started(files)
                    await ending.wait()
        finally:
            ended.set()

    async def end(self, files: Files) -> None:
        """Unmount: everything is sent."""
        ending, _, ended = self._ends.pop(id(files))
        ending.set()
        await ended.wait()

    async def kill(self, files: Files) -> None:
        """End without sending anything; what is in the cache directory stays as it is."""
        _, scope, ended = self._ends.pop(id(files))
        scope.cancel()
        await ended.wait()

    async def end_all(self) -> None:
        for ending, _, ended in list(self._ends.values()):
            ending.set()
            await ended.wait()


@pytest.fixture
async def filesystem(
    client: CosClient, bucket: str, tmp_path: Path, nursery: trio.Nursery
) -> AsyncIterator[Filesystems]:
    """Start filesystems: await filesystem(metadata_ttl=0)."""
    made = Filesystems(client, bucket, tmp_path, nursery)
    yield made
    with trio.fail_after(150):
        await made.end_all()


@pytest.fixture
async def files(filesystem: Filesystems) -> Files:
    """A filesystem of the fresh bucket."""
    return await filesystem()


@pytest.fixture
async def first(filesystem: Filesystems, emulator: Emulator) -> Files:
    """A filesystem whose PUTs fail, in async mode: what is closed stays in the journal."""
    files = await filesystem("cache", write_back="async")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    emulator.faults.error("*MultipartUpload", "ServiceUnavailable", 503, count=0)
    return files


async def restarted(filesystem: Filesystems, emulator: Emulator, files: Files) -> Files:
    """Kill a filesystem; COS is well again; mount anew."""
    await filesystem.kill(files)
    emulator.faults.clear()
    return await filesystem("cache", write_back="async")


async def killed_in_close(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch, files: Files, fh: int, *, arrives: bool
) -> None:
    """Kill a filesystem within a close(): COS has the file, or nothing of it, and nobody was told."""
    sender, dying = files.fs.committer.sender, trio.Event()
    put_whole = sender.put_whole

    async def die(*args: Any, **kwargs: Any) -> None:
        if arrives:
            await put_whole(*args, **kwargs)
        dying.set()
        await trio.sleep_forever()

    monkeypatch.setattr(sender, "put_whole", die)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.fs.flush, fh)
        await dying.wait()
        await filesystem.kill(files)
        nursery.cancel_scope.cancel()
