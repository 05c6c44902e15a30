"""The ASGI application: every request comes in here, takes its turn and is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from cosfs.emulator.admin import PREFIX, SANDBOX, Admin, answer, asked_for, is_own_name
from cosfs.emulator.errors import CosError
from cosfs.emulator.protocol import ClientGoneError
from cosfs.emulator.requestlog import Entry
from cosfs.emulator.service import Exchange, Service
from cosfs.emulator.turn import Receive, Scope, Send, Turn
from cosfs.emulator.values import LOCAL, Peer, Request

_NOTHING: Mapping[str, str] = MappingProxyType({})

log = logging.getLogger(__name__)


class Application:
    """Serves one emulator."""

    def __init__(self, service: Service, *, log_requests: bool = False) -> None:
        self._service = service
        self._log_requests = log_requests
        self.https_address: tuple[str, int] | None = None  # where CONNECT leads to
        self.admin: Admin | None = None
        self._ending: asyncio.Event | None = None
        self._workers = ThreadPoolExecutor(4, thread_name_prefix="cos-emulator")

    def close(self) -> None:
        """End the worker threads."""
        self._workers.shutdown(wait=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        target = asked_for(scope["target"], headers)
        if target is not None and self.admin is not None:
            await self.admin.serve(scope, target, headers, receive, send)
        elif target is not None and target.path.rstrip(b"/") == PREFIX:
            await answer(send, 404, "The page is off; it is on with: cos emulator --admin")
        else:
            extra = SANDBOX if self.admin is not None and is_own_name(headers.get("host", "")) else {}
            request = Request(scope["method"], scope["target"], headers, peer=peer_of(scope))
            await self.handle(request, scope, receive, send, extra=extra)

    async def handle(
        self,
        request: Request,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        owner: bool = False,
        extra: Mapping[str, str] = _NOTHING,
    ) -> None:
        """Serve a request; one of the owner needs no signature and leaves no trace in counters and log."""
        began, start = time.time(), time.perf_counter()
        exchange = self._service.begin(request, owner=owner)
        turn = Turn(self._service, exchange, scope, receive, send, self._workers, self.pause, extra)
        recorded = owner

        def record() -> None:
            nonlocal recorded
            if not recorded:
                recorded = True
                self._record(exchange, turn, scope, began, (time.perf_counter() - start) * 1000)

        turn.on_end = record
        try:
            await turn.serve()
        finally:
            self._service.abandon(exchange)
            record()

    async def pause(self, seconds: float) -> None:
        """Wait, unless the server ends."""
        if seconds <= 0:
            return
        if self._ending is None:
            self._ending = asyncio.Event()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
            raise ClientGoneError

    def end(self) -> None:
        """Let requests that wait give up; called in the event loop when the server ends."""
        if self._ending is None:
            self._ending = asyncio.Event()
        self._ending.set()

    def _record(self, exchange: Exchange, turn: Turn, scope: Scope, began: float, ms: float) -> None:
        request, place = exchange.request, exchange.call.place if exchange.call is not None else None
        client = scope["client"]
        error = exchange.error
        entry = Entry(
            self._service.requests.next_number(), began, f"{client[0]}:{client[1]}" if client else "",
            request.method, request.target.decode("ascii", "backslashreplace"),
            printable(request.headers.get("host", "")), exchange.operation,
            place.bucket if place else "", place.key if place else "", turn.status,
            error.code if isinstance(error, CosError) else "", turn.received, turn.sent, ms,
            exchange.request_id, ",".join(fault.kind for fault in exchange.faults),
        )  # fmt: skip
        self._service.requests.record(entry)
        access_log = self._service.emulation.access_log
        if exchange.call is not None and access_log.wanted:
            with self._service.lock:
                access_log.note(exchange.call, entry, error)
        if self._log_requests:
            log.info("%s", log_line(entry))


def peer_of(scope: Scope) -> Peer:
    """Tell where a request comes from."""
    address = scope["client"][0].removeprefix("::ffff:") if scope["client"] else LOCAL.address
    if scope["scheme"] == "https":
        return Peer(address, scope["transport"].get_extra_info("ssl_object").version())
    return Peer(address) if address != LOCAL.address else LOCAL


def printable(text: str) -> str:
    """Write what a client sent so that it cannot move the cursor of a terminal."""
    return text.encode("ascii", "backslashreplace").decode()


def log_line(entry: Entry) -> str:
    """Write an entry for people: when, what was asked, what came of it, how much and how long."""
    clock = time.strftime("%H:%M:%S", time.localtime(entry.time))
    outcome = f"{entry.status} {entry.code}".strip() if entry.status else "no answer"
    host = "" if "://" in entry.target else entry.host
    faults = f", fault: {entry.faults}" if entry.faults else ""
    return (
        f"{clock} {entry.method} {host}{entry.target} -> {outcome} "
        f"({entry.operation}, {entry.received} in, {entry.sent} out, {entry.ms:.1f} ms{faults})"
    )
