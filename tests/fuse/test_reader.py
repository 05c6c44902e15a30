"""Who reads the next request: the same task, unless what it handles waits."""

from __future__ import annotations

import os
import types
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing

from cosfs.fs.callers import Callers
from cosfs.fs.metrics import Metrics
from cosfs.fuse import measured
from cosfs.fuse.reader import IN_A_ROW, Reader

Handle = Callable[[int], Awaitable[object]]


def seen_by_pyfuse3() -> Any:
    """What it takes for trio."""
    return vars(pyfuse3)["trio"]


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    made.use()
    yield made
    vars(pyfuse3)["trio"] = trio


class Kernel:
    """Requests that tasks take like those of pyfuse3: the lock, then the descriptor, then the handler."""

    def __init__(self, reader: Reader, handle: Handle) -> None:
        operations: Any = types.SimpleNamespace(
            **dict.fromkeys(measured.HANDLERS, handle), callers=Callers(), caller_of=lambda *_: 0
        )
        self.handle: Any = measured.measure(operations, Metrics(), reader.yield_turn).getattr
        self._send, self._requests = trio.open_memory_channel[int](1000)
        self.taken: list[tuple[str, int]] = []

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self._send.send_nowait(number)

    async def task(self, name: str) -> None:
        while True:
            async with seen_by_pyfuse3().Lock():
                number = await self._requests.receive()
            self.taken.append((name, number))
            await self.handle(number)

    async def run(self, names: str, *, then: Callable[[], Awaitable[None]]) -> None:
        with trio.CancelScope() as scope:
            async with seen_by_pyfuse3().open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(self.task, name, name=name)
                await trio.testing.wait_all_tasks_blocked()
                await then()
                scope.cancel()


async def at_once(number: int) -> int:
    return number


async def test_a_task_whose_requests_are_answered_at_once_goes_on_reading(reader: Reader) -> None:
    kernel = Kernel(reader, at_once)

    async def then() -> None:
        for number in range(5):
            kernel.send(number)
            await trio.testing.wait_all_tasks_blocked()

    await kernel.run("abc", then=then)
    assert len({name for name, _ in kernel.taken}) == 1
    assert [number for _, number in kernel.taken] == [0, 1, 2, 3, 4]


async def test_others_read_while_a_request_waits(reader: Reader, autojump_clock: object) -> None:
    done: list[int] = []

    async def handle(number: int) -> None:
        await trio.sleep(number)
        done.append(number)

    kernel = Kernel(reader, handle)

    async def then() -> None:
        kernel.send(3, 2, 1)
        await trio.sleep(10)
        kernel.send(0, 0)
        await trio.sleep(10)

    await kernel.run("abc", then=then)
    assert done == [1, 2, 3, 0, 0]
    assert {name for name, number in kernel.taken if number} == set("abc")


async def test_a_handler_that_fails_after_it_has_waited_is_answered(
    reader: Reader, autojump_clock: object
) -> None:
    async def handle(number: int) -> None:
        await trio.sleep(number)
        raise ValueError("a mistake")

    kernel = Kernel(reader, handle)
    for seconds in (0, 1):
        with pytest.raises(pyfuse3.FUSEError):
            await kernel.handle(seconds)


async def test_what_is_there_is_read_at_once_and_other_tasks_have_their_turn(reader: Reader) -> None:
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            await trio.lowlevel.checkpoint()
            rounds += 1

    readable, writable = os.pipe()
    wait_readable = seen_by_pyfuse3().lowlevel.wait_readable
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            with trio.move_on_after(0.01) as scope:
                await wait_readable(readable)
            assert scope.cancelled_caught
            os.write(writable, b"x")
            await wait_readable(readable)
            before = rounds
            await wait_readable(readable)
            assert rounds == before
            # Twice another's turn: of two tasks that are woken together trio runs either one first.
            for _ in range(3 * IN_A_ROW):
                await wait_readable(readable)
            assert rounds > before
            nursery.cancel_scope.cancel()
    finally:
        os.close(readable)
        os.close(writable)


async def test_a_task_that_ends_leaves_its_turn_to_another(reader: Reader) -> None:
    turns: list[str] = []

    async def once(name: str) -> None:
        async with seen_by_pyfuse3().Lock():
            turns.append(name)
            await trio.lowlevel.checkpoint()

    async with seen_by_pyfuse3().open_nursery() as nursery:
        for name in "abcd":
            nursery.start_soon(once, name, name=name)
    assert sorted(turns) == list("abcd")


async def test_a_task_that_is_cancelled_while_it_waits_is_passed_over(reader: Reader) -> None:
    order: list[str] = []

    async def hold(name: str, event: trio.Event, scope: trio.CancelScope) -> None:
        with scope:
            async with seen_by_pyfuse3().Lock():
                order.append(name)
                await event.wait()
            reader.yield_turn()

    first, others = trio.Event(), trio.Event()
    others.set()
    scopes = [trio.CancelScope() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(hold, "a", first, scopes[0]))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(partial(hold, "b", others, scopes[1]))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(partial(hold, "c", others, scopes[2]))
        await trio.testing.wait_all_tasks_blocked()
        scopes[1].cancel()
        await trio.testing.wait_all_tasks_blocked()
        first.set()
    assert order == ["a", "c"]
