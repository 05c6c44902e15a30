"""What several of the transfer tests use."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.transfer.engine import Engine
from cosfs.units import MIB

HELD = 3600.0  # seconds that a request takes which is not to be answered

# Parts cannot be smaller than 1 MiB; everything from 3 MiB on goes in parts here.
SMALL_LIMITS = TransferSettings(
    max_concurrent_requests=8,
    multipart_threshold=3 * MIB,
    multipart_chunksize=1 * MIB,
    max_buffer_memory=8 * MIB,
)


def content(size: int, seed: int = 0) -> bytes:
    """Return bytes that differ everywhere."""
    return random.Random(seed).randbytes(size)


def make_file(path: Path, size: int, seed: int = 0) -> bytes:
    """Write a file and return what is in it."""
    data = content(size, seed)
    path.write_bytes(data)
    return data


def run_program(program: str, *arguments: str) -> dict[str, Any]:
    """Run a Python program in a process of its own; return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE, text=True, timeout=120, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


class Moved:
    """A progress callback that remembers."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, count: int) -> None:
        self.calls.append(count)

    @property
    def total(self) -> int:
        return sum(self.calls)


class Holding:
    """A client that holds back what one of its calls returns until it may go on."""

    def __init__(self, client: CosClient, operation: str) -> None:
        self._client = client
        self._operation = operation
        self.release = threading.Event()
        self.ended: list[str] = []  # the calls that went on

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name != self._operation:
            return method

        def held(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self.release.wait(60)
            self.ended.append(name)
            return result

        return held


def open_uploads(client: CosClient, bucket: str) -> list[str]:
    """Return the keys of multipart uploads that nobody completed or aborted."""
    return [upload.key for upload in client.list_uploads(bucket).uploads]


async def cancelled(
    call: Callable[[], Awaitable[object]], ready: Callable[[], object], then: Callable[[], object] = lambda: 0
) -> None:
    """Run a call that does not end by itself, and cancel it when something is ready; then() comes next."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        with trio.fail_after(100):
            while not ready():  # noqa: ASYNC110 - changed by threads
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
        then()
    assert nursery.cancel_scope.cancelled_caught


async def settled(engine: Engine) -> None:
    """Wait until no thread works for a call that was given up."""
    with trio.fail_after(100):
        while engine.abandoned:  # noqa: ASYNC110 - changed by threads
            await trio.sleep(0.01)


async def arrived(engine: Engine, bucket: str) -> None:
    """Wait until nothing that was given up is still on its way to the server, to be counted there later."""
    await settled(engine)
    for _ in range(2):  # a connection that came before is looked at before, and then read
        engine.client.close()
        await trio.to_thread.run_sync(engine.client.head_bucket, bucket)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
