"""One request and its answer on the wire: bodies in pieces both ways, with the faults that strike them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

from cosfs.emulator.bandwidth import Pacer
from cosfs.emulator.errors import CosError
from cosfs.emulator.faults import Fault
from cosfs.emulator.protocol import ClientGoneError
from cosfs.emulator.service import Exchange, Service
from cosfs.emulator.spoiling import Chunks, corrupted, one, paced, reset, stalled, truncated
from cosfs.emulator.values import Content, Later, Response

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Pause = Callable[[float], Awaitable[None]]

# Bytes of a body handed to a worker thread at once; two of them are in memory per request.
_BATCH = 1024 * 1024
_INLINE = 128 * 1024  # below this a thread costs more than the work


class Turn:
    """Carries one exchange from its head to the last byte of its answer."""

    def __init__(
        self, service: Service, exchange: Exchange, scope: Scope, receive: Receive, send: Send,
        workers: Executor, pause: Pause, extra: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._service = service
        self._exchange = exchange
        self._scope, self._receive, self._send = scope, receive, send
        self._workers, self._pause = workers, pause
        self._extra = extra  # headers of the answer that are not COS's
        self.on_end: Callable[[], None] = lambda: None  # called before the client can have the whole answer
        self._pacers: list[Pacer] = []
        self._limited = False
        self._unread = exchange.incoming is not None  # whether a body may still be on its way
        self.received = 0
        self.sent = 0
        self.status = 0

    async def serve(self) -> None:
        """Do all of it."""
        exchange = self._exchange
        self._pacers = self._service.faults.bandwidth.pacers(self._scope["connection"])
        if exchange.rate:
            self._limit(exchange.rate)
        latency = exchange.fault("latency")
        if latency is not None:
            await self._wait(latency)
        if exchange.fault("reset") is not None:
            reset(self._scope)
        response = await self._respond()
        try:
            if exchange.fault("reset", after=True) is not None:
                reset(self._scope)
            await self._answer(response)
        finally:
            if response.content is not None:
                response.content.release()

    async def _wait(self, fault: Fault) -> None:
        """Wait for as long as a fault says, or until it is released."""
        pausing = asyncio.ensure_future(self._pause(fault.delay()))
        go_on = partial(asyncio.get_running_loop().call_soon_threadsafe, pausing.cancel)
        try:
            with fault.held.waiting(go_on):
                await asyncio.wait({pausing})
        finally:
            pausing.cancel()
        if not pausing.cancelled():
            pausing.result()

    def _limit(self, rate: int) -> None:
        """Keep to the traffic limit that the request asked for."""
        self._pacers = [*self._pacers, Pacer(rate)]
        self._limited = True

    async def _respond(self) -> Response:
        exchange = self._exchange
        if exchange.incoming is not None and exchange.error is None:
            exchange.error = await self._read()
        result = self._service.finish(exchange)
        if isinstance(result, Later):
            made = await asyncio.get_running_loop().run_in_executor(self._workers, result.work)
            result = self._service.resume(exchange, result, made)
        return result

    # The body of the request

    async def _read(self) -> CosError | None:
        """Feed the body to the exchange; return the error that ends it early, if any."""
        incoming = self._exchange.incoming
        assert incoming is not None
        loop, stall = asyncio.get_running_loop(), self._exchange.fault("stall-request")
        more = True
        while more:
            batch: list[bytes] = []
            size = 0
            while more and size < (1 if self._pacers else _BATCH):
                data, more = await self._take()
                batch.append(data)
                size += len(data)
                if stall is not None and self.received >= stall.offset:
                    await self._wait(stall)
                    stall = None
            self._unread = more
            data = batch[0] if len(batch) == 1 else b"".join(batch)
            try:
                if size <= _INLINE:
                    incoming.feed(data)
                else:
                    await loop.run_in_executor(self._workers, incoming.feed, data)
            except CosError as error:
                return error
            if incoming.rate and not self._limited:  # a form tells its limit in a field
                self._limit(incoming.rate)
        return None

    async def _take(self) -> tuple[bytes, bool]:
        """Return the next bytes of the body, and whether there are more."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        data: bytes = message["body"]
        self.received += len(data)
        for pacer in self._pacers:
            await self._pause(pacer.book(len(data)))
        return data, message["more_body"]

    # The answer

    async def _answer(self, response: Response) -> None:
        headers = response.headers
        if self._unread and self._exchange.request.headers.get("expect"):
            headers = {**headers, "Connection": "close"}  # the client will not send the body it announced
        if response.content is not None and response.stream is None:
            headers.setdefault("Content-Length", str(response.content.length))
        if self._extra:
            headers = {**headers, **self._extra}
        self.status = response.status
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
        whole = None if self._exchange.faults or self._pacers else _in_memory(response)
        if whole is not None:
            self._count(len(whole))
            self.on_end()
            await self._send({"type": "http.response.body", "body": whole})
            return
        length = int(headers.get("Content-Length", -1))
        async with contextlib.aclosing(self._chunks(response)) as chunks:
            async for chunk in chunks:
                self._count(len(chunk))
                if self.sent == length:
                    self.on_end()
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not self._scope["transport"].is_closing():
            self.on_end()
            await self._send({"type": "http.response.body", "body": b""})

    def _count(self, size: int) -> None:
        self.sent += size
        if self._exchange.counted:
            self._service.requests.bytes_sent += size

    def _chunks(self, response: Response) -> Chunks:
        """Return the body as it is to be sent, with everything that is to go wrong."""
        chunks = self._body(response)
        for fault in self._exchange.faults:
            chunks = self._spoiled(fault, chunks)
        return paced(chunks, self._pacers, self._pause) if self._pacers else chunks

    def _spoiled(self, fault: Fault, chunks: Chunks) -> Chunks:
        match fault.kind:
            case "truncate":
                return truncated(chunks, fault.offset, self._scope)
            case "corrupt":
                return corrupted(chunks, fault.offset)
            case "stall":
                return stalled(chunks, fault.offset, partial(self._wait, fault))
            case "slow":
                return paced(chunks, [Pacer(fault.rate)], self._pause)
        return chunks

    def _body(self, response: Response) -> Chunks:
        if response.stream is not None:
            return self._made(response.stream)
        return self._pieces(response.content) if response.content is not None else one(response.body)

    async def _made(self, stream: Generator[bytes, None, None]) -> Chunks:
        """Let worker threads make the pieces of an answer, one at a time."""
        loop = asyncio.get_running_loop()
        with contextlib.closing(stream):
            while (data := await loop.run_in_executor(self._workers, next, stream, None)) is not None:
                yield data

    async def _pieces(self, content: Content) -> Chunks:
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


def _in_memory(response: Response) -> bytes | None:
    """Return the whole body if it is at hand already: generators cost more than small objects."""
    if response.stream is not None:
        return None
    if response.content is None:
        return response.body
    pieces = response.content.pieces
    return pieces[0].data if len(pieces) == 1 and not pieces[0].file else None
