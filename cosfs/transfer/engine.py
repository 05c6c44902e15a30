"""The one scheduler of a process: runs blocking client calls in worker threads for the trio thread.

Every request of every file, of the command line and of the mount, goes through one Engine. It owns
the threads (as many as requests may be in flight), the budget of bytes held in memory and the
bandwidth. A call is given up at once when it is cancelled: the thread that runs it is abandoned and
another one takes its place.

Threads take the next job themselves and hand results back in batches, so thousands of small jobs
cost one wake-up of the trio thread now and then, not two thread switches each.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import trio

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.transfer import descriptors, processors
from cosfs.transfer.ahead import FirstObject, FirstPage
from cosfs.transfer.begun import OpenUploads
from cosfs.transfer.budget import Bandwidth, ByteBudget
from cosfs.transfer.concurrency import Concurrency, PartsInFlight
from cosfs.transfer.flow import Flow, open_nursery
from cosfs.transfer.inbox import Inbox
from cosfs.transfer.job import Job, Pending, nobody
from cosfs.transfer.lanes import Lanes, Window
from cosfs.transfer.model import Doubt, TransferResult
from cosfs.transfer.resume import Records
from cosfs.transfer.scheduler import PARTS, REQUEST, Queue, Scheduler
from cosfs.transfer.side import Side, SmallCall
from cosfs.transfer.traces import Traces
from cosfs.transfer.work import Abandoned, current

__all__ = ["LARGE", "PARTS", "REQUEST", "SMALL", "TINY", "Engine", "Flow", "Pending", "open_nursery"]

log = logging.getLogger(__name__)

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - the item a job was made for

SMALL = "small"  # whole small files
LARGE = "large"  # parts of large files, as somebody reads or writes them
TINY = "tiny"  # whole files, so small that very many of them may be in flight at once

# How long leaving the engine waits for calls that clean up after themselves.
_CLEAN_UP_TIME = 3.0
# How long entering it waits for what was asked for ahead. Where answers take longer, one process keeps up
# with them.
_ALONE_TIME = 0.25
# An answer that takes so many seconds comes from afar: while it is on its way a connection moves nothing.
_FAR = 0.015
# A request is as much work as moving so many bytes.
_REQUEST_WORTH = 64 * 1024


class Engine:
    """Runs calls for tasks; use it as an async context manager around everything that transfers.

    records is where large transfers are remembered while they run; without it none can be resumed. limit is
    how many requests may ever be in flight, which are fewer where few files may be open; current how many may
    now: it begins at first (0 = the limit), and is halved when COS asks for fewer requests or does not answer
    in time. With first, large files also begin with few parts at once. side allows a second process for very
    small objects, which helps when there are hundreds of them, and for parts of large ones on a fast line.
    first_page is taken by the listing that begins with it, first_object by the copy of that object.
    """

    def __init__(
        self,
        client: CosClient,
        settings: TransferSettings,
        *,
        records: Records | None = None,
        first: int = 0,
        side: bool = False,
        first_page: FirstPage | None = None,
        first_object: FirstObject | None = None,
    ) -> None:
        self.client = client
        self.settings = settings
        self.records = records
        self.traces = Traces(records.directory, records.temporaries) if records is not None else None
        self.open_uploads = OpenUploads(records.directory) if records is not None else None
        allowed = descriptors.most_calls()
        self.limit = max(1, min(settings.max_concurrent_requests, allowed // 2))
        small = min(settings.max_small_requests, allowed - self.limit)
        self.first_page = first_page
        self.first_object = first_object
        self.buffers = ByteBudget(settings.max_buffer_memory)
        self.bandwidth = Bandwidth(settings.max_bandwidth)
        self.doubts: set[Doubt] = set()  # for whoever ends the work to look into
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._concurrency = Concurrency(self.limit, first)
        limits = self._part_limit()
        bulk = self.bandwidth.most_transfers()
        self._scheduler: Scheduler[Job] = Scheduler(self.current, bulk, limits)
        self._parts: PartsInFlight | None = None
        if first > 0:
            most = min(self.limit, limits.get(PARTS, self.limit))
            self._parts = PartsInFlight(most, processors.count())
            self._scheduler.set_most(PARTS, self._parts.current)
        self._side_allowed = side and not settings.max_bandwidth and small > Side.CAPACITY
        self._side: Side | None = None
        elsewhere = Side.CAPACITY if self._side_allowed else 0
        # A whole tree: a round trip less until all are in flight.
        first_small = (2 if self._side_allowed else 1) * Window.FIRST
        self._window = Window(max(self.limit, small - elsewhere), first_small)
        self._tiny: Scheduler[Job] = Scheduler(self._window.most, bulk)
        self._tiny.set_limits(self._window.size)
        self._lanes = Lanes(self._next_tiny, self._break)
        self._failure: BaseException | None = None
        self._queues: dict[str, Queue[Job]] = {}
        self._threads = 0
        self._idle = 0
        self._starting = 0
        self._abandoned = 0  # each has a thread of its own
        self._tiny_abandoned = 0
        self._cleaning = 0
        self._closing = False
        self._inbox = Inbox()

    def _part_limit(self) -> dict[str, int]:
        most = self.bandwidth.most_parts(self.part_size())
        return {} if most is None else dict.fromkeys((LARGE, PARTS), most)

    def part_size(self, traffic_limit: int = 0) -> int:
        """Return the size of parts, small where the bandwidth is: a part that is interrupted is lost.

        traffic_limit is what COS limits each request to.
        """
        return self.bandwidth.part_size(self.settings.multipart_chunksize, traffic_limit)

    async def __aenter__(self) -> Engine:
        if self._side_allowed:
            await self._until_alone()
            self._begin_with_parts()
            self._side = Side.fork(self)
            if self._side is None:
                self._window.most += Side.CAPACITY
        self._inbox.open()
        if self._side is not None:
            self._limit_tiny()
            threading.Thread(target=self._read_side, name="cos-side", daemon=True).start()
        self.client.slow_listeners.append(self._slow_down)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.slow_listeners.remove(self._slow_down)
        for queue in list(self._queues.values()):
            self.abandon(queue)
        # Results that came too late are undone while there are still threads to do it.
        self.deliver()
        with trio.move_on_after(_CLEAN_UP_TIME, shield=True):
            while self._cleaning:  # noqa: ASYNC110 - counted by threads, rare and short
                await trio.sleep(0.01)
        with self._work:
            self._closing = True
            self._work.notify_all()
        self._lanes.close()
        if self._side is not None:
            self._side.close()
        if self.traces is not None:
            await trio.to_thread.run_sync(self.traces.close)
        if self.open_uploads is not None:
            await trio.to_thread.run_sync(self.open_uploads.close)

    async def _until_alone(self) -> None:
        """Wait a moment for the thread that asks for something ahead: beside it there can be no fork."""
        with trio.move_on_after(_ALONE_TIME):
            for ahead in (self.first_page, self.first_object):
                while ahead is not None and ahead.pending:  # noqa: ASYNC110
                    await trio.sleep(0.001)

    def _begin_with_parts(self) -> None:
        """Have more parts in flight from the start where the first answer was long on its way."""
        first = self.first_object
        if first is not None and self._parts is not None and (first.pending or first.seconds >= _FAR):
            self._parts.begin_far()
            self._scheduler.set_most(PARTS, self._parts.current)

    @property
    def current(self) -> int:
        """How many requests may be in flight now; very small objects have a limit of their own."""
        return self._concurrency.current

    @property
    def halved(self) -> int:
        """How often COS has asked for fewer requests, or not answered in time."""
        return self._concurrency.halved

    @property
    def running(self) -> int:
        """How many calls run now for somebody who waits."""
        return self._scheduler.running

    @property
    def abandoned(self) -> int:
        """How many calls go on although they were given up."""
        return self._abandoned + self._tiny_abandoned

    # --- calls, in the trio thread ---

    async def run(
        self,
        fn: Callable[..., T],
        *args: Any,
        kind: str = REQUEST,
        queue: Queue[Job] | None = None,
        discard: Callable[[T], None] | None = None,
    ) -> T:
        """Run one blocking call in a worker thread and return its result.

        Cancelling returns at once; the thread is left to end by itself and its result is
        dropped, or given to discard (in that thread) if it needs to be undone.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self.start(fn, *args, kind=kind, queue=queue, discard=discard).wait()

    def start(
        self,
        fn: Callable[..., T],
        *args: Any,
        kind: str = REQUEST,
        queue: Queue[Job] | None = None,
        discard: Callable[[T], None] | None = None,
    ) -> Pending[T]:
        """Begin one call without waiting for it."""
        if queue is None:
            queue = self._queues.get(kind)
            if queue is None:
                queue = self._queues[kind] = Queue(kind)
        job = Job(queue, fn, args, nobody, discard=discard)
        pending: Pending[T] = Pending(self, job)
        job.deliver = pending._deliver
        self._add(job)
        return pending

    def flow(
        self, kind: str, on_result: Callable[[Any, Any, Exception | None], None], backlog: int = 0
    ) -> Flow:
        """Open a stream of many calls; see Flow. backlog 0 = as many as keep the threads busy."""
        return Flow(self, kind, on_result, backlog or max(256, 4 * self.limit))

    async def run_many(
        self,
        fn: Callable[[I], T],
        items: Iterable[I] | AsyncIterable[I],
        on_result: Callable[[I, T | None, Exception | None], None],
        *,
        kind: str = REQUEST,
        backlog: int = 0,
    ) -> None:
        """Call fn(item) for every item, many at once, and on_result(item, value, error) as they end.

        on_result runs in the trio thread, in batches and in any order; what it raises gives up
        the rest and is raised here. Items are taken only as fast as they are worked on.
        """
        async with self.flow(kind, on_result, backlog) as flow:
            await flow.put_all(fn, items)

    # --- scheduling, any thread ---

    def _add(self, job: Job) -> None:
        with self._work:
            if self._closing:
                raise RuntimeError("the engine is closed")
            scheduler = self._scheduler_of(job.queue)
            scheduler.add(job.queue, job)
            if scheduler is self._tiny:
                self._feed_side()
                self._lanes.wake()
            elif self._starting < scheduler.startable():
                self._provide_thread()

    def _scheduler_of(self, queue: Queue[Job]) -> Scheduler[Job]:
        return self._tiny if queue.kind == TINY else self._scheduler

    def _provide_thread(self) -> None:
        """See to it that somebody takes a job that waits. Lock held."""
        if self._idle:
            # Counted off here and not by the thread: the next caller must not count on it too.
            self._idle -= 1
            self._starting += 1
            self._work.notify()
        elif self._threads - self._abandoned < self.limit and self._threads < 4 * self.limit:
            self._threads += 1
            self._starting += 1
            # A daemon: a thread stuck in a dead connection must not keep the process.
            threading.Thread(target=self._run_jobs, name=f"cos-{self._threads}", daemon=True).start()

    def _abandon(self, job: Job) -> None:
        with self._work:
            if job.abandoned:
                return
            if job in job.queue.active:
                self._scheduler_of(job.queue).finish(job.queue, job)
                self._mark_abandoned(job)
                self._refill()
            else:
                # Still waiting: skipped when its turn comes. Or done, and its result on its way.
                job.abandoned = True
        if job.undo is not None:
            job.undo()

    def abandon(self, queue: Queue[Job]) -> None:
        """Give up all calls of a queue, waiting or running."""
        with self._work:
            waiting, active = self._scheduler_of(queue).clear(queue)
            for job in waiting:
                job.abandoned = True
            for job in active:
                self._mark_abandoned(job)
            self._refill()
        for job in active:
            if job.undo is not None:
                job.undo()

    def _mark_abandoned(self, job: Job) -> None:
        job.abandoned = True
        self._count_abandoned(job, 1)
        self._cleaning += job.discard is not None

    def _count_abandoned(self, job: Job, change: int) -> None:
        if job.queue.kind == TINY:
            self._tiny_abandoned += change
        else:
            self._abandoned += change

    def _refill(self) -> None:
        """Provide threads for jobs that may run now that slots are free. Lock held."""
        if self._tiny.startable():
            self._lanes.wake()
        for _ in range(self._scheduler.startable()):
            self._provide_thread()

    # --- worker threads ---

    def _run_jobs(self) -> None:
        with self._lock:
            self._starting -= 1
        while self._run_one():
            pass

    def _run_one(self) -> bool:
        """Wait for a job and run it; False ends the thread."""
        job = self._next()
        if job is None:
            return False
        self._execute(job)
        return True

    def _next_tiny(self) -> Callable[[], None] | None:
        """Return what a lane is to run next."""
        with self._lock:
            elsewhere = self._side.running if self._side is not None else 0
            full = self._closing or self._tiny.running - elsewhere >= self._window.size
            job = None if full else self._tiny.take()
        return None if job is None else partial(self._execute, job)

    def _limit_tiny(self) -> None:
        self._tiny.set_limits(self._window.size + (Side.CAPACITY if self._side is not None else 0))

    # --- the second process

    def _feed_side(self) -> None:
        """Give the second process calls, if it wants some. Lock held."""
        side = self._side
        if side is None or side.retired or self._closing:
            return
        while side.wants(self._tiny.waiting) and (known := self.client.known()) is not None:
            jobs: list[Job] = []
            while len(jobs) < Side.BATCH and (job := self._tiny.take()) is not None:
                jobs.append(job)
            away = [job for job in jobs if _may_go(job)]
            for job in jobs:
                if not _may_go(job):
                    self._put_back(job)
            if not away:
                return
            side.give(away, known)

    def lend(self, fn: Callable[..., T], *args: Any, fd: int) -> T | None:
        """Have fn(engine, *args, fd) run in the second process, as half of what runs is; None: not done.

        For worker threads, and for what may be done twice.
        """
        with self._lock:
            side = self._side
            if side is None or self._closing or not side.wants_errand(self._scheduler.running):
                return None
            known = self.client.known()
            if known is None:
                return None
            errand = side.lend(fn, args, fd, known)
        result: T | None = errand.wait()
        return result

    def note_speed(self, count: int, seconds: float) -> None:
        """Hear how long a part took that was moved by a thread of this process."""
        if self._side is not None:
            self._side.note_speed(count, seconds)

    def _put_back(self, job: Job) -> None:
        """Have a call run in this process. Lock held."""
        job.here = True
        self._tiny.finish(job.queue, job)
        self._tiny.add(job.queue, job)

    def _read_side(self) -> None:
        """Take what the second process answers, in a thread of its own, until that ends."""
        side = self._side
        assert side is not None
        while answers := side.answers():
            with self._lock:
                for number, result in answers:
                    if not side.end_errand(number, result):
                        self._end_aside(side.take_back(number, worked=result is not None), result)
                self._feed_side()
            self._lanes.wake()
            self._inbox.wake()
        with self._lock:
            left = side.take_all_back()
        side.clean_up(left)
        with self._lock:
            for job in left:
                self._end_aside(job, None)
        self._lanes.wake()

    def _end_aside(self, job: Job, result: TransferResult | None) -> None:
        """Deliver what the second process made of a call; run it here if that was nothing. Lock held."""
        if job.abandoned:
            self._count_abandoned(job, -1)
        elif result is None:
            self._put_back(job)
        else:
            progress = job.fn.progress  # type: ignore[attr-defined]
            if progress is not None:
                self._inbox.put(progress, result.size)
            job.value = result
            job.fn = nobody
            self._tiny.finish(job.queue, job)
            self._inbox.put(job.deliver, job)

    def _break(self, error: BaseException) -> None:
        """Have everybody told who waits for calls that can never end; from a thread that could not go on."""
        log.critical("a thread of the engine has ended: %s", error, exc_info=error)
        self._failure = error

    def check(self) -> None:
        """Raise if calls were lost."""
        if self._failure is not None:
            raise RuntimeError("a thread of the engine has ended, and its calls with it") from self._failure

    def _execute(self, job: Job) -> None:
        current.abandoned = job.is_abandoned
        current.undo = self._undo_setter(job)
        try:
            job.value = job.fn(*job.args)
        except BaseException as error:
            job.error = error
        current.abandoned = current.undo = None
        # What the call held (buffers, descriptors) goes now, not when the result is looked at.
        job.args = ()
        job.fn = nobody
        self._finish(job)

    def _undo_setter(self, job: Job) -> Callable[[Callable[[], None]], None]:
        def setter(undo: Callable[[], None]) -> None:
            with self._lock:
                job.undo = undo
                abandoned = job.abandoned
            if abandoned:
                undo()
                raise Abandoned

        return setter

    def _next(self) -> Job | None:
        with self._work:
            while True:
                job = None if self._closing else self._scheduler.take()
                if job is not None:
                    return job
                if self._closing or self._threads - self._abandoned > self.limit:
                    self._threads -= 1
                    return None
                self._idle += 1
                self._work.wait()
                self._starting -= 1

    def _finish(self, job: Job) -> None:
        """Send a result on its way; drop that of an abandoned call."""
        with self._lock:
            abandoned = job.abandoned
            if not abandoned:
                job.undo = None
                if job.queue.kind != TINY and not self._concurrency.is_full:
                    self._count_answer()
                self._scheduler_of(job.queue).finish(job.queue, job)
                if job.queue.kind == TINY:
                    self._window.answered(time.monotonic(), self._lanes.idle, self.client.stats.retries)
                    self._limit_tiny()
                    self._feed_side()
                self._inbox.put(job.deliver, job)
                urgent = not job.lazy or not job.queue.waiting or self._inbox.is_full
        if abandoned:
            self._discard(job)
            with self._lock:
                self._count_abandoned(job, -1)
                self._cleaning -= job.discard is not None
        elif urgent or self._inbox.is_due:
            self._inbox.wake()

    def _count_answer(self) -> None:
        """Look whether more requests may be in flight, at the end of each round. Lock held."""
        scheduler = self._scheduler
        if not scheduler.anything_waits or not self._concurrency.answered():
            return
        stats = self.client.stats
        moved = stats.bytes_sent + stats.bytes_received + sum(stats.requests.values()) * _REQUEST_WORTH
        if self._concurrency.end_round(time.monotonic(), moved):
            scheduler.set_limit(self.current)
            self._refill()

    def look_at_parts(self) -> None:
        """Have more parts in flight if that would help; called again and again while there are some."""
        with self._lock:
            if self._parts is not None and self._parts.look(time.monotonic(), self._wanted):
                self._scheduler.set_most(PARTS, self._parts.current)
                self._refill()

    def _wanted(self) -> float:
        return processors.wanted(self._side.pid if self._side is not None else 0)

    def _slow_down(self) -> None:
        """Have fewer requests in flight; called by the client, in any thread."""
        with self._lock:
            if self._concurrency.slow_down(time.monotonic()):
                self._scheduler.set_limit(self.current)
                log.info("requests in flight are limited to %d: COS is slow", self.current)

    def _discard(self, job: Job) -> None:
        if job.discard is None or job.error is not None:
            return
        try:
            job.discard(job.value)
        except Exception as error:
            log.warning("could not undo a cancelled request: %s", error)

    def _discard_late(self, job: Job) -> None:
        """Undo a call that was cancelled after it ended; in a worker thread."""
        if job.discard is None or job.error is not None:
            return
        with self._lock:
            self._cleaning += 1

        def discard() -> None:
            self._discard(job)
            with self._lock:
                self._cleaning -= 1

        self._add(Job(Queue(REQUEST), discard, (), nobody))

    @contextmanager
    def not_left(self) -> Iterator[None]:
        """Keep the engine from being left while a worker makes what it would have to undo."""
        with self._lock:
            self._cleaning += 1
        try:
            yield
        finally:
            with self._lock:
                self._cleaning -= 1

    # --- results, back to the trio thread ---

    def post(self, callback: Callable[[Any], None], value: Any, *, wake: bool = True) -> None:
        """Have callback(value) called in the trio thread; from any thread."""
        self._inbox.put(callback, value)
        if wake:
            self._inbox.wake()

    def deliver(self) -> None:
        """Call what waits to be called in the trio thread."""
        self._inbox.deliver()


def _may_go(job: Job) -> bool:
    """Whether the second process may try a call."""
    return isinstance(job.fn, SmallCall) and job.fn.portable and not job.here
