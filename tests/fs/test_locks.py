"""The lock of files: free ones cost no turn, taken ones are passed on in order."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cosfs.fs.locks import Lock


async def test_a_free_lock_is_taken_without_waiting_for_a_turn() -> None:
    lock = Lock()
    with trio.testing.assert_no_checkpoints():
        async with lock:
            assert lock.locked()
    assert not lock.locked()


async def test_those_who_wait_get_it_in_their_order(autojump_clock: object) -> None:
    lock, order = Lock(), []

    async def take(number: int) -> None:
        async with lock:
            order.append(number)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        await lock.acquire()
        for number in range(4):
            nursery.start_soon(take, number)
            await trio.testing.wait_all_tasks_blocked()
        lock.release()
        assert lock.locked()  # passed on: nobody who comes now is faster
        nursery.start_soon(take, 4)
    assert order == [0, 1, 2, 3, 4]


async def test_who_gives_up_waiting_is_passed_over(autojump_clock: object) -> None:
    lock = Lock()
    await lock.acquire()
    with trio.move_on_after(1) as scope:
        await lock.acquire()
    assert scope.cancelled_caught
    lock.release()
    assert not lock.locked()


async def test_it_is_released_when_what_it_is_held_for_fails() -> None:
    lock = Lock()
    with pytest.raises(ValueError, match="no"):
        async with lock:
            raise ValueError("no")
    assert not lock.locked()
