"""The filesystem's way to COS: blocking client calls run in threads, one limit per kind.

Kinds keep each other's tokens apart, so that a hundred uploads cannot make `ls` wait. Nobody waits for a COS
that is out of reach: see patience.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

import trio

from cosfs.client.client import CosClient
from cosfs.client.model import PutResult
from cosfs.client.movement import Place
from cosfs.errors import COSError
from cosfs.fs.patience import Patience
from cosfs.fs.turns import Turns
from cosfs.transfer.engine import TINY, Engine
from cosfs.transfer.job import Job
from cosfs.transfer.lanes import Window
from cosfs.transfer.looker import Arguments, Looker, Told
from cosfs.transfer.process import PATIENCE
from cosfs.transfer.scheduler import Queue

P = ParamSpec("P")
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - what one of many requests is about

# Fewer than may always be in flight in the lanes: questions are answered even when no change is.
SMALL_CHANGES = Window.FIRST * 3 // 4


class Remote:
    """Runs single requests of the filesystem in worker threads, small ones in the engine's lanes.

    metadata: LIST, HEAD, bucket calls, markers. data: GET of blocks. change: PUT, copy, delete.
    """

    def __init__(
        self,
        client: CosClient,
        *,
        metadata: int = 64,
        data: int = 32,
        change: int = 32,
        patience: Patience | None = None,
    ) -> None:
        self.client = client
        self.patience = patience or Patience(client)
        self._metadata = self._turns(metadata)
        self._data = self._turns(data)
        self._change = trio.CapacityLimiter(change)
        self._small_questions = self._turns(metadata)
        self._small_changes = trio.CapacityLimiter(SMALL_CHANGES)
        self._question_queue: Queue[Job] = Queue(TINY)
        self._change_queue: Queue[Job] = Queue(TINY)
        self._engine: Engine | None = None
        self._looker: Looker | None = None

    def _turns(self, limit: int) -> Turns:
        turns = Turns(limit, self.client.movement, self.patience.io_timeout)
        self.patience.keep_running(turns.run)
        return turns

    def use_looker(self, looker: Looker) -> None:
        """Have many objects looked at by a second process from now on."""
        self._looker = looker

    async def look(self, bucket: str, keys: Sequence[str], told: Told) -> None:
        """Have a second process look at objects; told() hears what it was answered, of some keys at a time.

        Nothing is told without such a process, and UNANSWERED of what it is left to the caller to ask for.
        """
        if self._looker is not None and self._looker.is_usable:
            with self.patience.of(bucket).question(), trio.move_on_after(self.patience.io_timeout / 2):
                await self._looker.look(bucket, keys, told)

    def use_lanes(self, engine: Engine) -> None:
        """Run small requests in the engine's lanes from now on: many of them share one thread."""
        self._engine = engine

    async def small_question(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a request whose answer is a head only, one of many perhaps."""
        if self._engine is None:
            return await self.metadata(fn, *args, **kwargs)
        place, turns, call = _place_of(fn, args), self._small_questions, partial(fn, *args, **kwargs)
        with self.patience.of(place[0]).question(), turns.turn(place) as turn:
            return await self._in_lane(self._engine, turns.limiter, self._question_queue, turn.sends(call))
        raise AssertionError("unreachable")  # question() raises when it ended the wait

    async def small_change(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a change of which there may be many, with little to send or nothing; not abandoned either."""
        if self._engine is None:
            return await self.change(fn, *args, **kwargs)
        with self.patience.of(_place_of(fn, args)[0]).change(), trio.CancelScope(shield=True):
            call = partial(fn, *args, **kwargs)
            return await self._in_lane(self._engine, self._small_changes, self._change_queue, call)
        raise AssertionError("unreachable")  # nothing cancels this scope

    async def create_aside(
        self, bucket: str, method: str, calls: Sequence[Arguments], length: int
    ) -> list[PutResult | None]:
        """Have a second process make small objects by a method of the client, which must overwrite nothing.

        None is what it did not do, or is not known to have: the caller does that. length is about the bytes
        of the arguments.
        """
        looker = self._looker
        # Where somebody waits for less time than it may take nobody could be told what has become of it.
        if calls and looker is not None and looker.is_usable and self.patience.io_timeout > 2 * PATIENCE:
            with self.patience.of(bucket).change():
                made = await looker.change(bucket, method, calls, length)
                if made is not None:
                    return made
        return [None] * len(calls)

    async def many(
        self,
        fn: Callable[[I], T],
        items: Sequence[I],
        on_result: Callable[[I, T | None, Exception | None], None],
        *,
        bucket: str,
    ) -> None:
        """Call fn(item), a small question, for each item and on_result(item, value, error) with each answer.

        All are about one bucket. Questions that somebody waits for go first.
        """
        with self.patience.of(bucket).question():
            if self._engine is not None:
                await self._engine.run_many(fn, items, on_result, kind=TINY)
                return
            async with trio.open_nursery() as nursery:
                for item in items:
                    nursery.start_soon(self._one_of_many, fn, item, on_result)

    async def _one_of_many(
        self, fn: Callable[[I], T], item: I, on_result: Callable[[I, T | None, Exception | None], None]
    ) -> None:
        call, limiter = partial(fn, item), self._metadata.limiter
        try:
            value = await trio.to_thread.run_sync(call, limiter=limiter, abandon_on_cancel=True)
        except COSError as error:
            on_result(item, None, error)
        else:
            on_result(item, value, None)

    @staticmethod
    async def _in_lane(
        engine: Engine, limiter: trio.CapacityLimiter, queue: Queue[Job], call: Callable[[], T]
    ) -> T:
        try:
            limiter.acquire_nowait()  # acquire() would wait for a turn even if there is room
        except trio.WouldBlock:
            await limiter.acquire()
        try:
            return await engine.run(call, kind=TINY, queue=queue)
        finally:
            limiter.release()

    async def metadata(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a request that answers a question about names or attributes."""
        return await self._run(self._metadata, fn, *args, **kwargs)

    async def data(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a request that reads bytes."""
        return await self._run(self._data, fn, *args, **kwargs)

    async def change(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a request that changes something; not abandoned once it has begun.

        An abandoned PUT could still land after we have told the caller that it failed.
        """
        with self.patience.of(_place_of(fn, args)[0]).change():
            return await trio.to_thread.run_sync(partial(fn, *args, **kwargs), limiter=self._change)

    async def _run(self, turns: Turns, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        place = _place_of(fn, args)
        with self.patience.of(place[0]).question(), turns.turn(place) as turn:
            return await trio.to_thread.run_sync(
                turn.sends(partial(fn, *args, **kwargs)), limiter=turns.limiter, abandon_on_cancel=True
            )
        raise AssertionError("unreachable")  # question() raises when it ended the wait


def _place_of(fn: Callable[..., object], args: Sequence[object]) -> Place:
    """The bucket and key a request is about: the first arguments of the client's methods, or theirs.

    Without a key it is about all of the bucket.
    """
    owner = getattr(fn, "__self__", None)
    for candidate in (owner, *args[:1]):
        bucket = getattr(candidate, "bucket", None)
        if isinstance(bucket, str):
            return bucket, getattr(candidate, "key", "")
    texts = [arg for arg in args[:2] if isinstance(arg, str)]
    if not isinstance(owner, CosClient) or not texts:
        return "", ""
    return texts[0], texts[1] if len(texts) == 2 else ""
