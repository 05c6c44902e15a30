"""The ASGI application: moves bodies between socket and service in pieces, and carries out faults."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from cosfs.emulator.errors import CosError
from cosfs.emulator.faults import Fault
from cosfs.emulator.protocol import ClientGoneError
from cosfs.emulator.service import Exchange, Service
from cosfs.emulator.spoiling import Chunks, corrupted, one, reset, slowed, stalled, truncated
from cosfs.emulator.values import Content, Later, Request, Response

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_BATCH = (
    1024 * 1024
)  # bytes of a body handed to a worker thread at once; two of them are in memory per request
_INLINE = 128 * 1024  # below this a thread costs more than the work


class Application:
    """Serves one emulator."""

    def __init__(self, service: Service, *, log_requests: bool = False) -> None:
        self._service = service
        self._log_requests = log_requests
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
        exchange = self._service.begin(Request(scope["method"], scope["target"], headers))
        try:
            await self._serve(exchange, scope, receive, send)
        finally:
            self._service.abandon(exchange)

    async def _serve(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        latency = exchange.fault("latency")
        if latency is not None:
            await self._pause(latency.seconds)
        if exchange.fault("reset") is not None:
            reset(scope)
        response = await self._respond(exchange, receive)
        try:
            if self._log_requests:
                log.info("%s %s %s", exchange.operation, response.status, scope["target"].decode("latin-1"))
            if exchange.fault("reset", after=True) is not None:
                reset(scope)
            await self._send(exchange, response, scope, send)
        finally:
            if response.content is not None:
                response.content.release()

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the server ends."""
        if self._ending is None:
            self._ending = asyncio.Event()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
            raise ClientGoneError

    def end(self) -> None:
        """Let requests that wait give up; called in the event loop when the server ends."""
        if self._ending is not None:
            self._ending.set()

    async def _respond(self, exchange: Exchange, receive: Receive) -> Response:
        if exchange.incoming is not None and exchange.error is None:
            exchange.error = await self._read(exchange, receive)
        result = self._service.finish(exchange)
        if isinstance(result, Later):
            made = await asyncio.get_running_loop().run_in_executor(self._workers, result.work)
            result = self._service.resume(exchange, result, made)
        return result

    async def _read(self, exchange: Exchange, receive: Receive) -> CosError | None:
        """Feed the body to the exchange; return the error that ends it early, if any."""
        incoming = exchange.incoming
        assert incoming is not None
        loop, more = asyncio.get_running_loop(), True
        while more:
            batch: list[bytes] = []
            size = 0
            while more and size < _BATCH:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                batch.append(message["body"])
                size += len(message["body"])
                more = message["more_body"]
            data = batch[0] if len(batch) == 1 else b"".join(batch)
            try:
                if size <= _INLINE:
                    incoming.feed(data)
                else:
                    await loop.run_in_executor(self._workers, incoming.feed, data)
            except CosError as error:
                return error
        return None

    async def _send(self, exchange: Exchange, response: Response, scope: Scope, send: Send) -> None:
        headers = response.headers
        if exchange.error is not None and exchange.request.headers.get("expect"):
            headers = {**headers, "Connection": "close"}  # the client will not send the body it announced
        if response.content is not None:
            headers.setdefault("Content-Length", str(response.content.length))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if response.content is None and not exchange.faults:
            await send({"type": "http.response.body", "body": response.body})
            self._service.requests.bytes_sent += len(response.body)
            return
        chunks = self._chunks(response.content) if response.content is not None else one(response.body)
        for fault in exchange.faults:
            chunks = self._spoiled(fault, chunks, scope)
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self._service.requests.bytes_sent += len(chunk)
        if not scope["transport"].is_closing():
            await send({"type": "http.response.body", "body": b""})

    def _spoiled(self, fault: Fault, chunks: Chunks, scope: Scope) -> Chunks:
        match fault.kind:
            case "truncate":
                return truncated(chunks, fault.offset, scope)
            case "corrupt":
                return corrupted(chunks, fault.offset)
            case "stall":
                return stalled(chunks, fault.offset, partial(self._pause, fault.seconds))
            case "slow":
                return slowed(chunks, fault.rate, self._pause)
        return chunks

    async def _chunks(self, content: Content) -> Chunks:
        """Read the pieces of an object."""
        loop, files = asyncio.get_running_loop(), self._service.emulation.store.files
        for piece in content.pieces:
            if not piece.file:
                yield piece.data
                continue
            fd = os.open(files.path(piece.file), os.O_RDONLY | os.O_CLOEXEC)
            try:
                position, end = piece.start, piece.start + piece.length
                while position < end:
                    size = min(_BATCH, end - position)
                    if size <= _INLINE:
                        data = os.pread(fd, size, position)
                    else:
                        data = await loop.run_in_executor(self._workers, os.pread, fd, size, position)
                    if not data:
                        raise OSError(f"{piece.file} is shorter than its pieces")
                    position += len(data)
                    yield data
            finally:
                os.close(fd)
