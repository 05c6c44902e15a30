"""Bodies that arrive short, wrong, late or not at all, because a test asked for it."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, NoReturn

from cosfs.emulator.bandwidth import Pacer, step
from cosfs.emulator.protocol import ClientGoneError

Chunks = AsyncGenerator[bytes, None]


async def one(body: bytes) -> Chunks:
    yield body


def reset(scope: dict[str, Any]) -> NoReturn:
    """Drop the connection hard: the client sees a reset, not an orderly end."""
    transport = scope["transport"]
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:  # the client may have gone first
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    raise ClientGoneError


async def truncated(chunks: Chunks, offset: int, scope: dict[str, Any]) -> Chunks:
    """End the connection after offset bytes."""
    async for chunk in chunks:
        if offset < len(chunk):
            yield chunk[:offset]
            scope["transport"].close()
            return
        offset -= len(chunk)
        yield chunk


async def corrupted(chunks: Chunks, offset: int) -> Chunks:
    """Flip the byte at offset."""
    async for chunk in chunks:
        if 0 <= offset < len(chunk):
            chunk = chunk[:offset] + bytes([chunk[offset] ^ 0xFF]) + chunk[offset + 1 :]
        offset -= len(chunk)
        yield chunk


async def stalled(chunks: Chunks, offset: int, pause: Callable[[], Awaitable[None]]) -> Chunks:
    """Pause once after offset bytes."""
    async for chunk in chunks:
        if 0 <= offset < len(chunk):
            yield chunk[:offset]
            await pause()
            yield chunk[offset:]
        else:
            yield chunk
        offset -= len(chunk)


async def paced(chunks: Chunks, pacers: Sequence[Pacer], pause: Callable[[float], Awaitable[None]]) -> Chunks:
    """Send in small steps, no faster than the pacers allow."""
    size = step(pacers)
    async for chunk in chunks:
        for start in range(0, len(chunk), size):
            piece = chunk[start : start + size]
            yield piece
            for pacer in pacers:
                await pause(pacer.book(len(piece)))
