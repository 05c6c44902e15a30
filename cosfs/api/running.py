"""An engine in a thread of its own, for programs that are not written for trio."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import TypeVar

import outcome
import trio

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.errors import CancelledError, COSError, UsageError
from cosfs.transfer.engine import Engine

__all__ = ["Cancellation", "EngineThread"]

T = TypeVar("T")

# How long a cancelled call has for tidying up.
_GRACE = 10.0


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


class _Call:
    """One coroutine in the engine's thread, with somebody in another thread who waits for it."""

    def __init__(
        self, function: Callable[[Engine], Awaitable[object]], token: trio.lowlevel.TrioToken
    ) -> None:
        self.function = function
        self.done: Future[object] = Future()
        self._token = token
        # Cancelled before it is entered it ends the call at once.
        self._scope = trio.CancelScope()

    async def run(self, engine: Engine) -> None:
        """Run it; nothing is raised here."""
        with self._scope as scope:
            await trio.lowlevel.checkpoint()
            found = await outcome.acapture(self.function, engine)
            if isinstance(found, outcome.Error) and not isinstance(found.error, Exception):
                # Cancelled, perhaps inside groups: the scope takes it.
                found.unwrap()
        if scope.cancelled_caught:
            self.done.set_exception(CancelledError("cancelled"))
        elif isinstance(found, outcome.Error):
            self.done.set_exception(_innermost(found.error))
        else:
            self.done.set_result(found.unwrap())

    def cancel(self) -> None:
        """End it; from any thread, again is fine."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._scope.cancel)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class EngineThread:
    """Runs coroutines on one engine for any number of threads. Starts with its first call."""

    def __init__(self, client: CosClient, settings: TransferSettings) -> None:
        self._client = client
        self._settings = settings
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._closed = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._engine: Engine | None = None

    def run(self, function: Callable[[Engine], Awaitable[T]], cancellation: Cancellation | None = None) -> T:
        """Run function(engine) in the engine's thread and return what it returns.

        A KeyboardInterrupt (or whatever else is raised in the waiting thread) ends the call first.
        """
        self._start()
        assert self._token is not None
        call = _Call(function, self._token)
        if cancellation is not None:
            cancellation._add(call.cancel)
        try:
            self._token.run_sync_soon(self._spawn, call)
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

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                raise UsageError("the session is closed")
            if self._thread is None:
                # A daemon: a program that forgets to close its session ends all the same.
                self._thread = threading.Thread(target=self._main, name="cos-engine", daemon=True)
                self._thread.start()
        self._ready.wait()

    def _main(self) -> None:
        trio.run(self._serve)

    async def _serve(self) -> None:
        async with Engine(self._client, self._settings) as engine, trio.open_nursery() as nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._engine, self._nursery = engine, nursery
            self._ready.set()
            await trio.sleep_forever()

    def _spawn(self, call: _Call) -> None:
        assert self._nursery is not None and self._engine is not None
        self._nursery.start_soon(call.run, self._engine)

    def close(self) -> None:
        """End all calls and the thread; again is fine."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is None:
            return
        assert self._token is not None and self._nursery is not None
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._nursery.cancel_scope.cancel)
        thread.join(timeout=_GRACE)
