"""Questions that wait behind others of their kind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from cosfs.client.client import CosClient
from cosfs.client.movement import WAITED
from cosfs.emulator import Emulator
from cosfs.errors import COSError, NetworkTimeoutError
from cosfs.fs.patience import Patience
from cosfs.fs.remote import Remote

IO_TIMEOUT = 4.0
CALLS = 12


@pytest.fixture
async def remote(client: CosClient, bucket: str, nursery: trio.Nursery) -> AsyncIterator[Remote]:
    """Two questions of a kind at once."""
    client.limit_stalls(IO_TIMEOUT)
    made = Remote(client, data=2, metadata=2, patience=Patience(client, bucket, io_timeout=IO_TIMEOUT))
    nursery.start_soon(made.patience.run)
    await trio.testing.wait_all_tasks_blocked()
    yield made
    nursery.cancel_scope.cancel()


class Fetch:
    """One object, read as the filesystem reads blocks."""

    def __init__(self, client: CosClient, bucket: str, key: str) -> None:
        self._client = client
        self.bucket = bucket
        self.key = key

    def read(self) -> bytes:
        with self._client.get_object(self.bucket, self.key) as stream:
            return b"".join(stream.chunks())


async def ended(remote: Remote, bucket: str, kind: str = "data", key: str = "key") -> list[Exception | None]:
    """Ask many questions at once; return how they ended."""
    found: list[Exception | None] = []

    async def one() -> None:
        try:
            if kind == "data":
                await remote.data(Fetch(remote.client, bucket, key).read)
            else:
                await remote.metadata(remote.client.head_object, bucket, key)
        except COSError as exc:
            found.append(exc)
        else:
            found.append(None)

    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            for _ in range(CALLS):
                nursery.start_soon(one)
    return found


@pytest.mark.parametrize(("kind", "operation"), [("data", "GetObject"), ("metadata", "HeadObject")])
async def test_who_waits_behind_stuck_ones_fails_without_being_sent(
    remote: Remote, emulator: Emulator, bucket: str, kind: str, operation: str
) -> None:
    await trio.to_thread.run_sync(remote.client.put_object, bucket, "key", b"x")
    emulator.requests.reset()
    fault = emulator.faults.latency(3600.0, operation)
    found = await ended(remote, bucket, kind)
    assert all(isinstance(each, NetworkTimeoutError) for each in found)
    assert sum("2 others wait" in str(each) for each in found) >= CALLS / 2
    assert not remote.patience.of(bucket).is_lost
    emulator.faults.remove(fault)
    assert await ended(remote, bucket, kind) == [None] * CALLS


async def test_who_waits_behind_slow_ones_is_sent_when_it_is_his_turn(
    remote: Remote, emulator: Emulator, bucket: str
) -> None:
    data = os.urandom(20_000)
    await trio.to_thread.run_sync(remote.client.put_object, bucket, "key", data)
    fault = emulator.faults.slow(24_000, "GetObject")  # 0.8 s each, two at once: longer than the timeout
    assert await ended(remote, bucket) == [None] * CALLS
    emulator.faults.remove(fault)


async def test_answers_that_say_no_are_answers(remote: Remote, emulator: Emulator, bucket: str) -> None:
    fault = emulator.faults.latency(0.7, "GetObject")
    found = await ended(remote, bucket, key="not-there")
    assert all("NoSuchKey" in str(each) for each in found)
    emulator.faults.remove(fault)


async def test_who_was_sent_late_has_less_time_for_his_answer(
    client: CosClient, emulator: Emulator, bucket: str
) -> None:
    client.limit_stalls(60.0)
    fault = emulator.faults.latency(3600.0, "HeadObject")
    token = WAITED.set(3600.0)
    try:
        client.limit_stalls(0.8)
        with pytest.raises(NetworkTimeoutError):
            await trio.to_thread.run_sync(client.head_object, bucket, "key")
    finally:
        WAITED.reset(token)
        emulator.faults.remove(fault)
