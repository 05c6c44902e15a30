"""When COS counts as out of reach, and who fails then. With real mounts: fuse/test_offline.py."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import NoReturn

import pytest
import trio
import trio.testing

from cosfs.client.client import CosClient
from cosfs.config import Settings
from cosfs.emulator import Emulator
from cosfs.errors import (
    CredentialsError,
    NetworkError,
    NetworkTimeoutError,
    PermissionDeniedError,
    UnreachableError,
)
from cosfs.fs import reachability
from cosfs.fs.patience import Patience
from cosfs.fs.remote import Remote
from tests.fs.support import until

PLACE = ("", "key")


@pytest.fixture
async def remote(client: CosClient, bucket: str, nursery: trio.Nursery) -> AsyncIterator[Remote]:
    made = Remote(client, patience=Patience(client, bucket, io_timeout=0.4))
    nursery.start_soon(made.patience.run)
    await trio.testing.wait_all_tasks_blocked()
    yield made
    nursery.cancel_scope.cancel()


@pytest.fixture
def dead(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Cut COS off: requests fail, and so does the one that looks whether it is back. Call it to end that."""
    monkeypatch.setattr(reachability, "PROBE_DELAYS", (0.02,))
    alive = remote.client.is_reachable
    state = {"dead": True}
    monkeypatch.setattr(remote.client, "is_reachable", lambda *args: not state["dead"] and alive(*args))
    return lambda: state.update(dead=False)


def fail() -> None:
    raise NetworkError("no way")


async def test_one_failure_is_no_outage(remote: Remote, emulator: Emulator, bucket: str) -> None:
    remote.patience.of("").io_timeout = 60.0  # so long COS may take to say that it is there
    emulator.faults.reset("HeadObject", count=0)
    with pytest.raises(NetworkError):
        await remote.metadata(remote.client.head_object, bucket, "key")
    await until(lambda: not remote.patience.of("")._suspicion.is_set())
    assert not remote.patience.losses


async def test_a_slow_answer_is_no_outage(remote: Remote, emulator: Emulator, bucket: str) -> None:
    await trio.to_thread.run_sync(remote.client.put_object, bucket, "key", b"x")
    remote.patience.of("").io_timeout = 6.0  # COS is asked for a sign of life after half of it
    emulator.faults.latency(4.5, "HeadObject")
    info = await remote.metadata(remote.client.head_object, bucket, "key")
    assert info is not None
    assert remote.patience.of("").losses == 0


async def test_questions_fail_at_once_and_work_again(
    remote: Remote, dead: Callable[[], None], bucket: str
) -> None:
    with pytest.raises(NetworkError):
        await remote.metadata(fail)
    await until(lambda: remote.patience.of("").is_lost)
    for run in (remote.metadata, remote.data, remote.change):
        with pytest.raises(UnreachableError, match="not been reachable"):
            await run(fail)
    remote.patience.of("").io_timeout = 60.0
    dead()
    await until(lambda: not remote.patience.of("").is_lost)
    await remote.metadata(remote.client.head_bucket, bucket)


async def test_who_waits_for_an_answer_is_released(remote: Remote, dead: Callable[[], None]) -> None:
    answer = threading.Event()
    try:
        with trio.fail_after(90), pytest.raises(UnreachableError):
            await remote.metadata(answer.wait, 150)
    finally:
        answer.set()
    assert remote.patience.of("").lost_for >= 0.2


async def test_what_was_begun_goes_on_when_nobody_waits_any_longer(
    remote: Remote, dead: Callable[[], None]
) -> None:
    answered, done = trio.Event(), trio.Event()

    async def slow() -> None:
        await answered.wait()
        done.set()

    with pytest.raises(NetworkTimeoutError):
        await remote.patience.bounded([PLACE], slow)
    answered.set()
    with trio.fail_after(90):
        await done.wait()


async def test_patience_lasts_for_the_time_of_an_outage(remote: Remote, dead: Callable[[], None]) -> None:
    tries: list[bool] = []

    async def send() -> str:
        tries.append(remote.patience.of("").is_lost)
        if len(tries) == 1:
            await remote.change(fail)
        return "sent"

    remote.patience.of("").io_timeout = 20
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_after, remote, dead)
        assert await remote.patience.patiently([PLACE], send) == "sent"
    assert tries == [False, False]


async def _after(remote: Remote, end: Callable[[], None]) -> None:
    await until(lambda: remote.patience.of("").is_lost)
    end()


async def test_without_a_watch_every_call_is_let_through(client: CosClient, settings: Settings) -> None:
    remote = Remote(client)
    for _ in range(2):
        with pytest.raises(NetworkError, match="no way"):
            await remote.metadata(fail)
    assert await remote.patience.bounded([PLACE], trio.sleep, 0) is None


@pytest.mark.parametrize("whole", [False, True], ids=["one bucket", "the list of buckets"])
async def test_a_place_that_is_away_does_not_take_the_others_along(
    emulator: Emulator, settings: Settings, client: CosClient, bucket: str, whole: bool
) -> None:
    """Mounted are all buckets; one of them, or their list, is elsewhere and out of reach."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        here, away = settings.client.endpoint_url, ("away-1250000000", dead)
        changed = replace(
            settings.client,
            max_retries=0,
            endpoint_url=dead if whole else here,
            bucket_endpoints=((bucket, f"{here}"),) if whole else (away,),
        )
        with CosClient(changed, None) as other:
            patience = Patience(other, io_timeout=20)
            remote = Remote(other, patience=patience)
            lost = "" if whole else away[0]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(patience.run)
                await trio.testing.wait_all_tasks_blocked()

                async def ask() -> None:
                    if lost:
                        await remote.metadata(other.head_bucket, lost)
                    else:
                        await remote.metadata(other.list_buckets)

                with pytest.raises(NetworkError):
                    await ask()
                await until(lambda: patience.of(lost).is_lost)
                with pytest.raises(UnreachableError):
                    await ask()
                with pytest.raises(PermissionDeniedError):  # an answer: these requests are not signed
                    await remote.metadata(other.list_objects, bucket)
                assert not patience.of(bucket).is_lost
                assert patience.losses == 1 and patience.lost_for > 0
                assert await patience.bounded([(bucket, "key")], trio.sleep, 0) is None
                nursery.cancel_scope.cancel()


async def test_a_probe_needs_no_keys(client: CosClient, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys may have ended during an outage, and those who give new ones be out of reach."""

    class Gone:
        def get(self) -> NoReturn:
            raise CredentialsError("no new keys")

        refresh = get

    monkeypatch.setattr(client._session, "credentials", Gone())
    with pytest.raises(CredentialsError):
        client.head_bucket(bucket)
    assert await trio.to_thread.run_sync(client.is_reachable, bucket, 60.0)
    monkeypatch.setattr(client._session.transport, "send", lambda *args: fail())
    assert not await trio.to_thread.run_sync(client.is_reachable, bucket, 60.0)
