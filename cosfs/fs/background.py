"""Tasks that nobody waits for, whose failure does not end the mount; and groups of tasks."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVarTuple

import trio

from cosfs.errors import COSError

log = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")
RESTART_DELAY = 1.0


class Background:
    """A nursery whose tasks cannot end it by failing; its owner closes it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run fn(*args) once."""
        self._nursery.start_soon(self._once, fn, args)

    def keep_running(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Run fn() until the nursery is closed; begin again if it fails."""
        self._nursery.start_soon(self._forever, fn)

    async def _once(self, fn: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        try:
            await fn(*args)
        except COSError as exc:
            log.warning("%s", exc)
        except Exception:
            log.exception("a task in the background failed")

    async def _forever(self, fn: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await fn()
            except Exception:
                log.exception("a task in the background failed; it begins again")
            await trio.sleep(RESTART_DELAY)


@asynccontextmanager
async def together() -> AsyncIterator[trio.Nursery]:
    """A nursery that fails with the first error of its tasks instead of a group of all."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        error = first_error(group)
        if error is None:
            raise  # nothing but cancellation: trio must see it as it is
        raise error from None


def first_error(error: BaseException) -> BaseException | None:
    """The first error in a tree of groups that is not a cancellation."""
    if isinstance(error, BaseExceptionGroup):
        found = (first_error(inner) for inner in error.exceptions)
        return next((inner for inner in found if inner is not None), None)
    return None if isinstance(error, trio.Cancelled) else error
