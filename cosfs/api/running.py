"""An engine in a thread of its own, for programs that are not written for trio."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import Protocol, TypeVar

import outcome
import trio

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.errors import CancelledError, COSError, UsageError
from cosfs.transfer.engine import Engine
from cosfs.transfer.lost import settle
from cosfs.transfer.resume import Records

__all__ = ["Cancellation", "EngineThread", "Guard"]

log = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")

# How long a cancelled call has for tidying up.
_GRACE = 10.0
# How long the end of a session may look for lost uploads.
_LOOKING = 3.0


class Cancellation:
    """Ends calls that are under way: hand it to them, and call `cancel` from any thread. For good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[Callable[[], None]] = set()
        self.cancelled = False

    def cancel(self) -> None:
        """End the calls this was given to, now and later; each raises CancelledError."""
        with self._lock:
            self.cancelled = True
            calls = list(self._calls)
        for cancel in calls:
            cancel()

    def _add(self, cancel: Callable[[], None]) -> None:
        with self._lock:
            self._calls.add(cancel)
            now = self.cancelled
        if now:
            cancel()

    def _remove(self, cancel: Callable[[], None]) -> None:
        with self._lock:
            self._calls.discard(cancel)


class Guard(Protocol):
    """Makes of a callback one that ends its call, and nothing else, with whatever it raises."""

    def __call__(self, callback: Callable[[A], None] | None) -> Callable[[A], None] | None: ...


Function = Callable[[Engine, Guard], Awaitable[T]]


class _Call:
    """One coroutine in the engine's thread, with somebody in another thread who waits for it."""

    def __init__(self, function: Function[object], token: trio.lowlevel.TrioToken) -> None:
        self.function = function
        self.done: Future[object] = Future()
        self._token = token
        # Cancelled before it is entered it ends the call at once.
        self._scope = trio.CancelScope()
        self._raised: BaseException | None = None  # by a callback

    def guarded(self, callback: Callable[[A], None] | None) -> Callable[[A], None] | None:
        """Return a callback that ends this call, and nothing else, with whatever it raises."""
        if callback is None:
            return None

        def call(value: A) -> None:
            if self._raised is not None or self.done.done():
                return
            try:
                callback(value)
            except BaseException as error:
                self._raised = error
                self._scope.cancel()

        return call

    async def run(self, engine: Engine) -> None:
        """Run it; nothing is raised here but what ends the whole engine."""
        try:
            with self._scope as scope:
                await trio.lowlevel.checkpoint()
                found = await outcome.acapture(self.function, engine, self.guarded)
                if isinstance(found, outcome.Error) and not isinstance(found.error, Exception):
                    # Cancelled, perhaps inside groups: the scope takes it.
                    found.unwrap()
        except BaseException:
            self.fail(self._raised or CancelledError("the session was closed"))
            raise
        if self._raised is not None:
            self.fail(self._raised)
        elif scope.cancelled_caught:
            self.fail(CancelledError("cancelled"))
        elif isinstance(found, outcome.Error):
            self.fail(_innermost(found.error))
        else:
            self.done.set_result(found.unwrap())

    def fail(self, error: BaseException) -> None:
        """Raise error where it is waited for; nothing happens if it is done."""
        with suppress(InvalidStateError):
            self.done.set_exception(error)

    def cancel(self) -> None:
        """End it; from any thread, again is fine."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._scope.cancel)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class EngineThread:
    """Runs coroutines on engines for any number of threads. Starts with its first call."""

    def __init__(
        self,
        client: CosClient,
        settings: TransferSettings,
        *,
        records: Records | None = None,
        first: int = 0,
    ) -> None:
        self._client = client
        self._make = lambda: Engine(client, settings, records=records, first=first)
        self._lock = threading.Lock()
        self._closed = False
        self._running: _Running | None = None

    def run(self, function: Function[T], cancellation: Cancellation | None = None) -> T:
        """Run function(engine, guard) in the engine's thread and return what it returns.

        guard is for the callbacks of whoever calls: they run in that thread.

        A KeyboardInterrupt (or whatever else is raised in the waiting thread) ends the call first.
        """
        running = self._start()
        if running.is_current:
            raise UsageError("a callback cannot wait for its own session", hint="Have another thread do it.")
        call = _Call(function, running.token)
        if cancellation is not None:
            cancellation._add(call.cancel)
        try:
            running.add(call)
            return self._wait(call)
        finally:
            if cancellation is not None:
                cancellation._remove(call.cancel)

    def _wait(self, call: _Call) -> T:  # type: ignore[type-var]
        try:
            while True:
                with suppress(NotYet):
                    # In steps: some platforms hold signals back while a lock is waited for without end.
                    return call.done.result(timeout=3600)  # type: ignore[return-value]
        except COSError:
            raise
        except BaseException:
            if not call.done.done():
                call.cancel()
                with suppress(BaseException):
                    call.done.result(timeout=_GRACE)
            raise

    def _start(self) -> _Running:
        with self._lock:
            if self._closed:
                raise UsageError("the session is closed")
            running = self._running
            if running is not None and running.pid != os.getpid():
                # The thread stayed in the parent; so did whoever heard that COS is slow.
                running = None
                self._client.slow_listeners.clear()
            if running is None or running.ended:
                running = self._running = _Running(self._make)
        running.wait_until_ready()
        return running

    def close(self) -> None:
        """End all calls and the thread; again is fine."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        if running is not None and running.pid == os.getpid():
            running.close()


class _Running:
    """One engine in one thread. However the thread ends, nobody is left waiting for a call."""

    token: trio.lowlevel.TrioToken

    def __init__(self, make: Callable[[], Engine]) -> None:
        self.pid = os.getpid()
        self.ended = False
        self._make = make
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._calls: set[_Call] = set()  # each is added here before the thread hears of it
        self._lock = threading.Lock()
        # A daemon: a program that forgets to close its session ends all the same.
        self._thread = threading.Thread(target=self._main, name="cos-engine", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether this is the engine's thread: that of all callbacks."""
        return threading.current_thread() is self._thread

    def wait_until_ready(self) -> None:
        """Wait until calls can be added; raise what kept the engine from starting."""
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def add(self, call: _Call) -> None:
        """Begin a call; from any thread."""
        with self._lock:
            if self.ended:
                call.fail(CancelledError("the session was closed"))
                return
            self._calls.add(call)
        with suppress(trio.RunFinishedError):  # then what ends the thread fails the call
            self.token.run_sync_soon(self._spawn, call)

    def _spawn(self, call: _Call) -> None:
        if self._nursery.cancel_scope.cancel_called:
            call.fail(CancelledError("the session was closed"))
        else:
            self._nursery.start_soon(self._run, call)

    async def _run(self, call: _Call) -> None:
        try:
            await call.run(self._engine)
        finally:
            with self._lock:
                self._calls.discard(call)

    def _main(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = error
            log.critical("the engine has ended: %s", error, exc_info=error)
        finally:
            with self._lock:
                self.ended = True
                calls = list(self._calls)
            for call in calls:
                call.fail(self._failure or CancelledError("the session was closed"))
            self._ready.set()

    async def _serve(self) -> None:
        async with self._make() as engine:
            async with trio.open_nursery() as nursery:
                self.token = trio.lowlevel.current_trio_token()
                self._engine, self._nursery = engine, nursery
                self._ready.set()
                await trio.sleep_forever()
            for stray in await settle(engine, _LOOKING):
                log.warning("%s", stray)

    def close(self) -> None:
        """End all calls and the thread."""
        self._ready.wait()
        with suppress(trio.RunFinishedError, AttributeError):
            self.token.run_sync_soon(self._nursery.cancel_scope.cancel)
        self._thread.join(timeout=_GRACE)
