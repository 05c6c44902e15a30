"""The number of requests in flight: it grows while that helps, and is halved when COS has enough."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from cosfs.client.client import CosClient
from cosfs.client.retry import Budget
from cosfs.config import TransferSettings
from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.transfer.concurrency import Concurrency, PartsInFlight
from cosfs.transfer.engine import LARGE, PARTS, Engine
from tests.transfer.support import settled

# --- the rule ---


class Rounds:
    """A number of requests whose rounds take a second each and move what the test says."""

    def __init__(self, most: int, first: int) -> None:
        self.number = Concurrency(most, first)
        self.now = 0.0
        self.moved = 0

    def __call__(self, *rates: int) -> list[int]:
        sizes = []
        for rate in rates:
            for _ in range(self.number.current - 1):
                assert not self.number.answered()
            assert self.number.answered()
            self.now += 1
            self.moved += rate
            self.number.end_round(self.now, self.moved)
            sizes.append(self.number.current)
        return sizes


def test_it_doubles_while_the_throughput_grows() -> None:
    rounds = Rounds(200, 16)
    assert rounds(100, 100, 200, 390, 390, 400) == [32, 64, 128, 200, 200, 200]


def test_it_stays_where_more_requests_are_no_faster() -> None:
    rounds = Rounds(200, 16)
    assert rounds(100, 100, 105, 104, 103) == [32, 64, 64, 64, 64]
    # Now and then a little more is tried.
    assert rounds(*[100] * 5)[-1] == 72


def test_it_is_halved_and_then_grows_by_one() -> None:
    rounds = Rounds(64, 16)
    rounds(100, 200, 400)
    assert rounds.number.current == 64
    assert rounds.number.slow_down(10.0)
    assert rounds(1000, 2000, 9000) == [33, 34, 35]


def test_failures_of_one_moment_halve_it_once_and_it_never_reaches_zero() -> None:
    number = Concurrency(16)
    for second in range(8):
        for _ in range(16):
            number.slow_down(second + 0.0)
    assert (number.current, number.halved) == (1, 8)


def test_the_limit_may_be_lower_than_the_beginning() -> None:
    assert Concurrency(4, 16).current == 4
    assert Concurrency(100).current == 100


def looks(parts: PartsInFlight, seconds: float, *shares: float) -> list[int]:
    """Look so often, each time after so many seconds in which so many processors were wanted."""
    now = wanted = 0.0
    parts.look(now, lambda: 0.0)
    found = []
    for share in shares:
        now += seconds
        wanted += share * seconds
        so_far = wanted
        parts.look(now, lambda so_far=so_far: so_far)  # type: ignore[misc]
        found.append(parts.current)
    return found


def test_parts_double_until_half_of_the_processors_are_wanted() -> None:
    assert looks(PartsInFlight(64, 2), 0.05, 0, 0.5, 0.9, 0.9) == [16, 32, 64, 64]
    assert looks(PartsInFlight(32, 2), 0.05, 1.1, 1.5, 0.2, 1.1) == [8, 8, 16, 16]
    assert looks(PartsInFlight(64, 8), 0.05, 1.1, 3.9, 4.1) == [16, 32, 32]
    assert looks(PartsInFlight(3, 2), 0.05, 0) == [3]


def test_more_parts_are_in_flight_at_first_where_answers_take_long() -> None:
    parts, few = PartsInFlight(64, 2), PartsInFlight(3, 2)
    parts.begin_far()
    few.begin_far()
    assert (parts.current, few.current) == (12, 3)
    assert looks(parts, 0.05, 1.1, 0.5) == [12, 24]


def test_what_was_too_short_or_spent_with_something_else_is_not_judged() -> None:
    assert looks(PartsInFlight(32, 2), 0.01, 0, 0, 0, 0) == [8, 8, 8, 16]
    assert looks(PartsInFlight(32, 2), 5.0, 0, 0) == [8, 8]


# --- the engine ---


@pytest.fixture
async def engine(client: CosClient, bucket: str) -> AsyncIterator[Engine]:
    client.put_object(bucket, "k", b"x")
    async with Engine(client, TransferSettings(max_concurrent_requests=64), first=16) as running:
        yield running
        await settled(running)


class Improving(Concurrency):
    """Rounds of a second each, in which everything that was in flight is answered."""

    second = 0

    def end_round(self, now: float, moved: int) -> bool:
        self.second += 1
        return super().end_round(float(self.second), moved)


class InFlight:
    """Calls that ask for an object, and how many of them ran at once."""

    def __init__(self, client: CosClient, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.failed = 0
        self.together: threading.Barrier | None = None
        self.wanted = 0
        self.reached = threading.Event()

    def head(self, _: int) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            if self.together is not None:
                self.together.wait()
            if self._now > self.wanted:
                self.reached.set()
            self.reached.wait(0.7)  # long enough for others to come
            self._client.head_object(self._bucket, "k")
        finally:
            with self._lock:
                self._now -= 1

    def done(self, _: int, __: None, error: Exception | None) -> None:
        self.failed += error is not None
        assert error is None or isinstance(error, COSError)


async def test_few_at_first_and_more_when_that_helps(
    engine: Engine, client: CosClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = InFlight(client, bucket)
    assert (engine.current, engine.limit) == (16, 64)
    calls.together = threading.Barrier(14, timeout=60)  # so many at once, however slow the machine is
    await engine.run_many(calls.head, range(14), calls.done, kind=LARGE)
    assert (engine.current, calls.most) == (16, 14)
    calls.together, calls.wanted, calls.reached = None, 16, threading.Event()
    # As if twice as many took no longer: what a round takes in truth depends on the machine.
    monkeypatch.setattr(engine, "_concurrency", Improving(engine.limit, engine.current))
    await engine.run_many(calls.head, range(300), calls.done, kind=LARGE)
    assert engine.current >= 32
    # One slot in eight is kept for what somebody waits for.
    assert 16 < calls.most <= engine.current * 7 // 8


@pytest.mark.parametrize("busy", [False, True])
async def test_few_parts_where_the_processors_are_busy(
    engine: Engine,
    client: CosClient,
    bucket: str,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    busy: bool,
) -> None:
    monkeypatch.setattr("cosfs.transfer.concurrency._PAUSE", 1e6)
    used = itertools.count(step=1000 * busy)
    monkeypatch.setattr("cosfs.transfer.processors.wanted", lambda _: next(used))
    calls = InFlight(client, bucket)
    if not busy:
        calls.wanted, calls.reached = 8, threading.Event()
    latency = emulator.faults.latency(0.1, "HeadObject")
    await engine.run_many(calls.head, range(40), calls.done, kind=PARTS)
    emulator.faults.remove(latency)
    assert calls.most <= 8 if busy else calls.most > 8
    assert calls.failed == 0


@pytest.mark.parametrize("kind", ["error", "stall"])
async def test_half_as_many_when_cos_is_slow(
    client: CosClient, bucket: str, emulator: Emulator, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However often the machine stands still meanwhile.
    monkeypatch.setattr("cosfs.transfer.concurrency._ONE_CAUSE", math.inf)
    impatient = CosClient(replace(client.settings, read_timeout=2.0), client.credentials)
    impatient.put_object(bucket, "k", b"x")
    settings = TransferSettings(max_concurrent_requests=16)
    async with Engine(impatient, settings) as engine:
        calls = InFlight(impatient, bucket)
        if kind == "error":
            emulator.faults.error("HeadObject", "SlowDown", 503)
        else:
            emulator.faults.latency(3600.0, "HeadObject", count=1)  # until it is given up and tried again
        await engine.run_many(calls.head, range(20), calls.done, kind=LARGE)
        assert (engine.current in (8, 9, 10), calls.failed) == (True, 0)
        emulator.faults.latency(0.02, "HeadObject", count=0)
        calls.most = 0
        await engine.run_many(calls.head, range(40), calls.done, kind=LARGE)
        assert calls.most <= engine.current <= 14
        # Nobody is told any more.
    assert impatient.slow_listeners == []
    impatient.close()


async def test_each_refusal_halves_it_and_all_is_done_in_the_end(
    client: CosClient, bucket: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put_object(bucket, "k", b"x")
    monkeypatch.setattr(client._session.retrier, "_budget", Budget(1e9))
    monkeypatch.setattr("cosfs.transfer.concurrency._ONE_CAUSE", 0.0)
    emulator.faults.error("HeadObject", "SlowDown", 503, count=4)
    async with Engine(client, TransferSettings(max_concurrent_requests=8)) as engine:
        calls = InFlight(client, bucket)
        lowest = 8

        def done(item: int, value: None, error: Exception | None) -> None:
            nonlocal lowest
            lowest = min(lowest, engine.current)
            calls.done(item, value, error)

        await engine.run_many(calls.head, range(10), done, kind=LARGE)
        assert (engine._concurrency.halved, calls.failed) == (4, 0)
        assert 1 <= lowest <= 4
