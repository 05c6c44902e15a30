"""The scheduler of the process: fairness, cancelling, streams of calls, budgets. No network."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.transfer.budget import Bandwidth, ByteBudget
from cosfs.transfer.engine import LARGE, PARTS, REQUEST, SMALL, Engine
from cosfs.transfer.scheduler import Queue, Scheduler
from cosfs.transfer.work import Abandoned, SharedFile, checkpoint, on_abandon, pause

NO_CLIENT = cast(CosClient, SimpleNamespace(slow_listeners=[]))


def engine_of(limit: int = 8, **settings: Any) -> Engine:
    return Engine(NO_CLIENT, TransferSettings(max_concurrent_requests=limit, **settings))


# --- scheduler ---


class Job:
    abandoned = False


def fill(scheduler: Scheduler[Job], kind: str, count: int) -> Queue[Job]:
    queue: Queue[Job] = Queue(kind)
    for _ in range(count):
        scheduler.add(queue, Job())
    return queue


def start_all(scheduler: Scheduler[Job]) -> None:
    while scheduler.take() is not None:
        pass


def test_one_big_file_uses_every_slot_but_those_kept_for_requests() -> None:
    scheduler: Scheduler[Job] = Scheduler(32)
    big = fill(scheduler, LARGE, 100)
    start_all(scheduler)
    assert len(big.active) == 28
    lookup = fill(scheduler, REQUEST, 10)
    start_all(scheduler)
    assert len(lookup.active) == 4


def test_small_files_and_a_big_one_share_the_slots() -> None:
    scheduler: Scheduler[Job] = Scheduler(32)
    big, small = fill(scheduler, LARGE, 100), fill(scheduler, SMALL, 1000)
    start_all(scheduler)
    assert len(big.active) == len(small.active) == 14


def test_many_big_files_do_not_starve_the_small() -> None:
    scheduler: Scheduler[Job] = Scheduler(32)
    bigs = [fill(scheduler, LARGE, 100) for _ in range(14)]
    small = fill(scheduler, SMALL, 1000)
    start_all(scheduler)
    assert [len(big.active) for big in bigs] == [1] * 14
    assert len(small.active) == 14


def test_a_freed_slot_goes_to_whom_has_fewest() -> None:
    scheduler: Scheduler[Job] = Scheduler(8)
    first = fill(scheduler, LARGE, 100)
    start_all(scheduler)
    second = fill(scheduler, LARGE, 100)
    for job in list(first.active)[:3]:
        scheduler.finish(first, job)
        scheduler.take()
    assert (len(first.active), len(second.active)) == (4, 3)


def test_threads_are_wanted_for_what_may_run() -> None:
    scheduler: Scheduler[Job] = Scheduler(32, most_of={PARTS: 4})
    fill(scheduler, PARTS, 20)
    assert scheduler.startable() == 4
    fill(scheduler, SMALL, 3)
    assert scheduler.startable() == 7
    start_all(scheduler)
    assert (scheduler.running, scheduler.startable()) == (7, 0)
    scheduler.set_most(PARTS, 8)
    assert scheduler.startable() == 4
    fill(scheduler, SMALL, 100)
    assert scheduler.startable() == 28 - 7  # one in eight is kept for requests
    fill(scheduler, REQUEST, 100)
    assert scheduler.startable() == 32 - 7


def test_abandoned_jobs_are_skipped() -> None:
    scheduler: Scheduler[Job] = Scheduler(8)
    queue = fill(scheduler, LARGE, 3)
    for job in list(queue.waiting)[:2]:
        job.abandoned = True
    assert scheduler.take() is not None
    assert scheduler.take() is None


def test_clearing_a_queue_frees_its_slots() -> None:
    scheduler: Scheduler[Job] = Scheduler(8)
    queue = fill(scheduler, LARGE, 20)
    start_all(scheduler)
    waiting, active = scheduler.clear(queue)
    assert (len(waiting), len(active), scheduler.running) == (13, 7, 0)
    assert scheduler.take() is None


# --- single calls ---


async def test_run_returns_what_the_call_returns() -> None:
    async with engine_of() as engine:
        assert await engine.run(divmod, 7, 2) == (3, 1)


async def test_run_raises_what_the_call_raises() -> None:
    async with engine_of() as engine:
        with pytest.raises(ZeroDivisionError):
            await engine.run(divmod, 7, 0)


async def test_calls_run_side_by_side() -> None:
    barrier = threading.Barrier(4, timeout=60)
    async with engine_of(4) as engine, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(engine.run, barrier.wait)


async def test_no_more_at_once_than_the_limit() -> None:
    running = most = 0
    lock, together = threading.Lock(), threading.Event()

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 3:
                together.set()
        assert together.wait(60)
        time.sleep(0.005)
        with lock:
            running -= 1

    async with engine_of(3) as engine, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(engine.run, call)
    assert most == 3


async def test_cancelling_returns_at_once_and_frees_the_slot() -> None:
    release = threading.Event()
    ended: list[int] = []

    def call() -> None:
        release.wait(60)
        ended.append(1)

    async with engine_of(1) as engine:
        with trio.move_on_after(0.05):
            await engine.run(call)
        assert await engine.run(len, "abc") == 3
        assert not ended
        release.set()


async def test_a_waiting_call_that_is_cancelled_never_runs() -> None:
    release = threading.Event()
    ran: list[int] = []
    async with engine_of(1) as engine, trio.open_nursery() as nursery:
        nursery.start_soon(engine.run, release.wait, 60)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.05):
            await engine.run(ran.append, 1)
        release.set()
    assert ran == []


async def test_abandoned_call_notices_at_its_checkpoint() -> None:
    begun, ended = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        try:
            pause(100)
        except Abandoned:
            ended.set()
            raise

    async with engine_of() as engine:
        await given_up(engine, call, begun)
        assert await trio.to_thread.run_sync(ended.wait, 60)


async def given_up(engine: Engine, call: Callable[[], object], begun: threading.Event) -> None:
    """Run a call and cancel it once it has begun."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run, call)
        with trio.fail_after(100):
            while not begun.is_set():  # noqa: ASYNC110 (another thread sets it)
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()


async def test_undo_runs_at_once_in_the_trio_thread() -> None:
    begun, release = threading.Event(), threading.Event()
    undone: list[threading.Thread] = []

    def call() -> None:
        on_abandon(lambda: undone.append(threading.current_thread()))
        begun.set()
        release.wait(60)

    async with engine_of() as engine:
        await given_up(engine, call, begun)
        assert undone == [threading.current_thread()]
        release.set()


async def test_result_of_an_abandoned_call_is_discarded() -> None:
    begun, release = threading.Event(), threading.Event()
    discarded: list[str] = []

    def call() -> str:
        begun.set()
        release.wait(60)
        return "upload id"

    async with engine_of() as engine:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(engine.run, call, discard=discarded.append))
            while not begun.is_set():  # noqa: ASYNC110 (another thread sets it)
                await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        release.set()
    assert discarded == ["upload id"]


async def test_result_on_its_way_when_cancelled_is_discarded() -> None:
    ended = threading.Event()
    discarded: list[int] = []

    def call() -> int:
        ended.set()
        return 3

    async with engine_of() as engine:
        pending = engine.start(call, discard=discarded.append)
        assert ended.wait(60)
        time.sleep(0.1)  # noqa: ASYNC251
        # Done in its thread, not delivered: the trio thread was busy.
        pending.cancel()
        with trio.fail_after(100):
            while not discarded:  # noqa: ASYNC110 (another thread may do it)
                await trio.sleep(0.01)
    assert discarded == [3]


async def test_started_call_is_asked_for_later() -> None:
    async with engine_of() as engine:
        pending = engine.start(len, "abc")
        await trio.sleep(0.05)
        assert await pending.wait() == 3


# --- streams of calls ---


async def test_run_many_calls_back_for_each() -> None:
    results: dict[int, Any] = {}

    def keep(item: int, value: float | None, error: Exception | None) -> None:
        results[item] = value if error is None else type(error)

    async with engine_of() as engine:
        await engine.run_many(lambda item: 10 / item, range(5), keep)
    assert results == {0: ZeroDivisionError, 1: 10, 2: 5, 3: 10 / 3, 4: 2.5}


async def test_run_many_takes_items_only_as_fast_as_they_are_worked_on() -> None:
    taken = done = ahead = 0

    async def items() -> AsyncIterator[int]:
        nonlocal taken, ahead
        for item in range(500):
            taken += 1
            ahead = max(ahead, taken - done)
            yield item

    def count(*_: object) -> None:
        nonlocal done
        done += 1

    async with engine_of(4) as engine:
        await engine.run_many(lambda _: time.sleep(0.0005), items(), count, backlog=16)
    assert done == 500
    assert ahead <= 17


async def test_failing_callback_gives_up_the_rest() -> None:
    seen: Counter[str] = Counter()

    def stop(*_: object) -> None:
        seen["delivered"] += 1
        raise ValueError("enough")

    async with engine_of(2) as engine:
        with pytest.raises(ValueError, match="enough"):
            await engine.run_many(lambda _: time.sleep(0.002), range(10_000), stop)
    assert seen["delivered"] == 1


async def test_results_are_not_held_back_by_a_slow_call() -> None:
    release = threading.Event()
    done: list[int] = []

    def call(item: int) -> None:
        if item == 9:
            release.wait(100)

    async with engine_of(2) as engine, trio.open_nursery() as nursery:
        nursery.start_soon(engine.run_many, call, range(10), lambda item, *_: done.append(item))
        with trio.fail_after(100):
            while len(done) < 9:  # noqa: ASYNC110
                await trio.sleep(0.01)
        release.set()
    assert sorted(done) == list(range(10))


async def test_cancelling_a_stream_drops_what_waits() -> None:
    ran = 0

    def call(_: int) -> None:
        nonlocal ran
        ran += 1
        pause(10)

    async with engine_of(4) as engine:
        with trio.move_on_after(0.1):
            await engine.run_many(call, range(1000), lambda *_: None)
        assert await engine.run(len, "abc") == 3
    assert ran <= 4


async def test_interactive_calls_pass_a_full_stream() -> None:
    begun: list[int] = []

    def call(number: int) -> None:
        begun.append(number)
        pause(0.3)

    async with engine_of(8) as engine, trio.open_nursery() as nursery:
        nursery.start_soon(engine.run_many, call, range(400), lambda *_: None)
        await trio.testing.wait_all_tasks_blocked()
        before = len(begun)
        # Those that had a thread already went first, and some while it began: not the hundreds that wait.
        assert await engine.run(begun.__len__) <= before + 100
        nursery.cancel_scope.cancel()


async def test_posts_reach_the_trio_thread() -> None:
    got: list[tuple[int, bool]] = []
    home = threading.current_thread()

    def call(engine: Engine) -> None:
        engine.post(lambda value: got.append((value, threading.current_thread() is home)), 7)

    async with engine_of() as engine:
        await engine.run(call, engine)
        await trio.sleep(0.01)
    assert got == [(7, True)]


# --- descriptors ---


def test_shared_file_closes_when_the_last_user_is_done(tmp_path: Any) -> None:
    import os

    fd = os.open(tmp_path, os.O_RDONLY)
    file = SharedFile(fd)
    with file as used:
        file.close()
        os.fstat(used)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    with pytest.raises(Abandoned), file:
        pass


def test_checkpoint_outside_of_a_call_does_nothing() -> None:
    checkpoint()


# --- budgets ---


async def test_budget_is_first_come_first_served() -> None:
    budget = ByteBudget(10)
    order: list[int] = []

    async def take(count: int) -> None:
        await budget.acquire(count)
        order.append(count)

    await budget.acquire(8)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, 9)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take, 2)
        await trio.testing.wait_all_tasks_blocked()
        # The two bytes would fit, but are not at the head of the queue.
        assert order == []
        assert not budget.acquire_nowait(1)
        budget.release(8)
        await trio.testing.wait_all_tasks_blocked()
        assert order == [9]
        budget.release(9)
    assert order == [9, 2]


async def test_more_than_the_budget_is_granted_alone() -> None:
    budget = ByteBudget(10)
    async with budget.hold(100):
        assert not budget.acquire_nowait(1)
    assert budget.acquire_nowait(10)


async def test_cancelled_waiter_lets_the_next_one_pass() -> None:
    budget = ByteBudget(10)
    await budget.acquire(8)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.01):
            nursery.start_soon(budget.acquire, 9)
            await trio.testing.wait_all_tasks_blocked()
            await budget.acquire(9)
        nursery.cancel_scope.cancel()
    assert budget.acquire_nowait(2)


def test_bandwidth_is_kept() -> None:
    now = 0.0
    bandwidth = Bandwidth(1000, clock=lambda: now)
    waited = [bandwidth.take(500) for _ in range(5)]
    assert waited == [0.0, 0.5, 1.0, 1.5, 2.0]
    now = 10.0
    assert bandwidth.take(100) == 0.0
    assert bandwidth.take(100) == pytest.approx(0.0)
    assert bandwidth.take(100) == pytest.approx(0.1)


def test_no_limit_never_waits() -> None:
    assert Bandwidth(0).take(1 << 40) == 0.0
