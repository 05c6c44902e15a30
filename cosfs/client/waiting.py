"""Many blocking calls in one thread: a call that waits for the network lets the others go on.

Hundreds of small requests in flight are too many for threads: each wakes for a hundred microseconds of work
and mostly waits for the interpreter lock. Here each call is a greenlet and its thread runs a Hub. The code of
the calls is the same as in threads; it must come here to wait (`Connection` does), and a lock must never be
held while it does: the next call of the same thread that wants it would wait for ever.
"""

from __future__ import annotations

import atexit
import heapq
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue
from typing import Any, TypeVar

import greenlet
import outcome

__all__ = ["Hub", "current_hub", "offload", "sleep", "wait_for"]

T = TypeVar("T")

# Threads for what cannot be waited for otherwise: names, new connections, new credentials.
_HELPERS = 16
# How long the end of the program waits for threads to stand still.
_PARKING = 2.0
# How exactly time-outs are kept.
_PRECISION = 0.25
# How many greenlets without a call are kept.
_SPARE = 16
_NOTHING: outcome.Outcome[Any] = outcome.Value(None)


class _Local(threading.local):
    hub: Hub | None = None


_local = _Local()


def current_hub() -> Hub | None:
    """Return what runs the calls of this thread; None in an ordinary thread."""
    return _local.hub


def offload(fn: Callable[[], T]) -> T:
    """Call fn, which blocks in its own way or takes locks; the other calls of this thread go on meanwhile."""
    hub = _local.hub
    return fn() if hub is None else hub.offload(fn)


def sleep(seconds: float) -> None:
    """Sleep, letting the other calls of this thread go on."""
    hub = _local.hub
    if hub is None:
        time.sleep(seconds)
    else:
        hub.sleep(seconds)


def wait_for(event: threading.Event, seconds: float) -> bool:
    """Wait until event is set, at most so long; return whether it is."""
    if _local.hub is None:
        return event.wait(seconds)
    end = time.monotonic() + seconds
    while not event.is_set() and (left := end - time.monotonic()) > 0:
        sleep(min(left, 0.1))
    return event.is_set()


class _Waiter:
    __slots__ = ("call", "deadline")

    def __init__(self, call: greenlet.greenlet, deadline: float) -> None:
        self.call = call
        self.deadline = deadline


class Hub:
    """Runs the calls of one thread, each until it waits. Only `wake` and `park` are for other threads."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._to_park = False
        self.parked = threading.Event()
        self._epoll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._fd_lock = threading.Lock()  # other threads write to it
        self._asleep = False
        self._running = 0
        self.idle = 0.0  # seconds
        self._waiting: dict[int, _Waiter] = {}
        self._check_at = 0.0
        self._sleeping: list[tuple[float, int, greenlet.greenlet]] = []
        self._numbers = count()
        self._spare: list[greenlet.greenlet] = []  # without a call
        self._posted: deque[tuple[greenlet.greenlet, outcome.Outcome[Any]]] = deque()
        self._main: greenlet.greenlet | None = None
        self._take: Callable[[], Callable[[], None] | None] = lambda: None
        self._helpers = _Helpers()

    # --- the thread

    def run(self, take: Callable[[], Callable[[], None] | None], closed: Callable[[], bool]) -> None:
        """Run the calls that take returns, as many at once as it gives out, until closed says so.

        A call must not raise. Those that run by then are brought to their end.
        """
        self._main = greenlet.getcurrent()
        self._take = take
        _local.hub = self
        _hubs.add(self)
        try:
            while self._running or not closed():
                self._rest()
                while (call := take()) is not None:
                    self._begin(call)
                self._asleep = True
                # Once more, now that whoever adds something will wake us.
                if (call := take()) is not None:
                    self._asleep = False
                    self._begin(call)
                    continue
                if closed() and not self._running:
                    break
                since = time.monotonic()
                events = self._epoll.poll(self._timeout())
                self.idle += time.monotonic() - since
                self._asleep = False
                self._go_on(events)
        finally:
            _local.hub = None
            _hubs.discard(self)
            self._end()

    def _begin(self, call: Callable[[], None]) -> None:
        runner = self._spare.pop() if self._spare else greenlet.greenlet(self._run)
        runner.switch(call)

    def _run(self, call: Callable[[], None] | None) -> None:
        """Run one call after the other: a new greenlet needs memory of its own from the system each time."""
        while True:
            self._running += 1
            try:
                while call is not None:
                    call()
                    call = self._take()
            finally:
                self._running -= 1
            if len(self._spare) >= _SPARE:
                return
            self._spare.append(greenlet.getcurrent())
            call = self._switch()

    def _go_on(self, events: list[tuple[int, int]]) -> None:
        waiting = self._waiting
        for fd, _ in events:
            if fd == self._wake_fd:
                os.eventfd_read(fd)
                continue
            waiter = waiting.pop(fd, None)
            if waiter is not None:
                waiter.call.switch(True)
        while self._posted:
            call, result = self._posted.popleft()
            call.switch(result)
        now = time.monotonic()
        while self._sleeping and self._sleeping[0][0] <= now:
            heapq.heappop(self._sleeping)[2].switch()
        if now >= self._check_at:
            self._check_at = now + _PRECISION
            for fd in [fd for fd, waiter in waiting.items() if waiter.deadline <= now]:
                waiting.pop(fd).call.switch(False)

    def _timeout(self) -> float:
        timeout = _PRECISION if self._waiting else -1.0
        if self._sleeping:
            until = max(0.0, self._sleeping[0][0] - time.monotonic())
            timeout = until if timeout < 0 else min(timeout, until)
        return timeout

    def _end(self) -> None:
        self.parked.set()  # in the best of all ways
        while self._spare:
            self._spare.pop().throw()
        self._helpers.close()
        self._epoll.close()
        with self._fd_lock:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def park(self, seconds: float) -> None:
        """Have the thread stand still for ever, and wait for that; the interpreter is about to end."""
        if self._pid == os.getpid():
            self._to_park = True
            self._notify()
            self.parked.wait(seconds)

    def _rest(self) -> None:
        if self._to_park:
            self.parked.set()
            # Without the interpreter lock, which an ending interpreter takes away from threads: it makes
            # them unwind their stack, and one that greenlets were switched on does not survive that.
            threading.Event().wait()

    def wake(self) -> None:
        """Have the hub look for calls to run; from any thread."""
        if self._asleep:
            self._asleep = False
            self._notify()

    def _notify(self) -> None:
        with self._fd_lock:
            # Never the number of a closed one: it may be somebody's file by now.
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    # --- the calls

    def wait(self, fd: int, *, writable: bool, timeout: float) -> None:
        """Wait until a descriptor is readable, or writable; raise TimeoutError after timeout seconds."""
        events = (select.EPOLLOUT if writable else select.EPOLLIN) | select.EPOLLONESHOT
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:
            self._epoll.register(fd, events)
        waiter = _Waiter(greenlet.getcurrent(), time.monotonic() + timeout)
        self._waiting[fd] = waiter
        if not self._switch():
            raise TimeoutError("timed out")

    def sleep(self, seconds: float) -> None:
        entry = (time.monotonic() + seconds, next(self._numbers), greenlet.getcurrent())
        heapq.heappush(self._sleeping, entry)
        self._switch()

    def pause(self) -> None:
        """Wait until somebody resumes this call."""
        self._switch()

    def resume(self, call: greenlet.greenlet) -> None:
        """Have a call go on that has paused; for calls of this hub."""
        self._posted.append((call, _NOTHING))

    def offload(self, fn: Callable[[], T]) -> T:
        """Call fn in a thread of its own kind and return what it returns."""
        call = greenlet.getcurrent()

        def work() -> None:
            found = outcome.capture(fn)
            self._posted.append((call, found))
            self._notify()

        self._helpers.put(work)
        result: outcome.Outcome[T] = self._switch()
        return result.unwrap()

    def _switch(self) -> Any:
        assert self._main is not None
        return self._main.switch()


_hubs: set[Hub] = set()


@atexit.register
def _park() -> None:
    end = time.monotonic() + _PARKING
    for hub in list(_hubs):
        hub.park(max(0.0, end - time.monotonic()))


class _Helpers:
    """Daemon threads that do what blocks: none of them may keep the process."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._lock = threading.Lock()

    def put(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._busy += 1
            if self._busy > self._threads and self._threads < _HELPERS:
                self._threads += 1
                threading.Thread(target=self._run, name="cos-helper", daemon=True).start()
        self._work.put(work)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            with self._lock:
                self._busy -= 1

    def close(self) -> None:
        for _ in range(self._threads):
            self._work.put(None)
