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

CALLS = 12
ROUNDS = CALLS // 2
IO_TIMEOUT = 4.0
# Where all are answered, though together they take longer than that: no machine stands still for so long.
LONG_IO_TIMEOUT = 9.0
EACH = 1.6  # seconds


async def two_at_once(client: CosClient, bucket: str, nursery: trio.Nursery, io_timeout: float) -> Remote:
    client.limit_stalls(io_timeout)
    made = Remote(client, data=2, metadata=2, patience=Patience(client, bucket, io_timeout=io_timeout))
    nursery.start_soon(made.patience.run)
    await trio.testing.wait_all_tasks_blocked()
    return made


@pytest.fixture
async def remote(client: CosClient, bucket: str, nursery: trio.Nursery) -> AsyncIterator[Remote]:
    """Two questions of a kind at once."""
    yield await two_at_once(client, bucket, nursery, IO_TIMEOUT)
    nursery.cancel_scope.cancel()


@pytest.fixture
async def patient(client: CosClient, bucket: str, nursery: trio.Nursery) -> AsyncIterator[Remote]:
    """The same, which waits for longer."""
    assert ROUNDS * EACH > LONG_IO_TIMEOUT
    yield await two_at_once(client, bucket, nursery, LONG_IO_TIMEOUT)
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
    patient: Remote, emulator: Emulator, bucket: str
) -> None:
    data = os.urandom(20_000)
    await trio.to_thread.run_sync(patient.client.put_object, bucket, "key", data)
    fault = emulator.faults.slow(int(len(data) / EACH), "GetObject")
    assert await ended(patient, bucket) == [None] * CALLS
    emulator.faults.remove(fault)


async def test_answers_that_say_no_are_answers(patient: Remote, emulator: Emulator, bucket: str) -> None:
    fault = emulator.faults.latency(EACH, "GetObject")
    found = await ended(patient, bucket, key="not-there")
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
