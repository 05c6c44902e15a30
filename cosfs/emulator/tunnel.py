"""CONNECT: clients that take this server for their proxy and want HTTPS through it get our own HTTPS port.

Whatever host they name, bytes go to this emulator and nowhere else.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class _End(asyncio.Protocol):
    """One of the two connections of a tunnel; what comes in goes out at the other, and they end together."""

    def __init__(self, connections: set[Any]) -> None:
        self._connections = connections  # all of the server
        self.transport: asyncio.Transport | None = None
        self.other: asyncio.Transport | None = None
        connections.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and not self.other.is_closing():
            self.other.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        if self.other is not None:
            self.other.close()

    def shutdown(self) -> None:
        """End, as the server does."""
        if self.transport is not None:
            self.transport.abort()


async def open_tunnel(
    client: asyncio.Transport, address: tuple[str, int], first: bytes, connections: set[Any]
) -> None:
    """Join a client's connection with a new one to an address of ours."""
    client.pause_reading()
    outer, inner = _End(connections), _End(connections)
    outer.transport = client
    client.set_protocol(outer)
    try:
        server, _ = await asyncio.get_running_loop().create_connection(lambda: inner, *address)
    except OSError:
        connections.discard(inner)
        client.abort()
        return
    inner.other, outer.other = client, server
    if client.is_closing():
        server.close()
        return
    client.write(_ESTABLISHED)
    if first:
        server.write(first)
    client.resume_reading()
