"""The socket and the server on it: uvicorn, started and ended the way an emulator needs it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import uvicorn

from cosfs.emulator.errors import EmulatorError
from cosfs.emulator.protocol import ExactProtocol

_GRACE = 1.0  # seconds that requests under way have when the server ends


class Server(uvicorn.Server):
    """uvicorn's server, ending quietly on a signal instead of raising it again afterwards."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_start: Callable[[], None],
        on_end: Callable[[], None],
        tls: tuple[Sequence[socket.socket], ssl.SSLContext] | None = None,
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_end = on_end
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, with TLS on further sockets, and tell."""
        await super().startup(sockets)
        if self._tls is not None:
            listeners, context = self._tls
            loop = asyncio.get_running_loop()
            for listener in listeners:
                server = await loop.create_server(
                    self._connection, sock=listener, ssl=context, ssl_shutdown_timeout=_GRACE
                )
                self.servers.append(server)
        self._on_start()

    def _connection(self) -> ExactProtocol:
        return ExactProtocol(self.config, self.server_state, self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: requests under way get a moment, then their connections are dropped."""
        for server in self.servers:
            server.close()
        self._on_end()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_GRACE)
        for connection in list(self.server_state.connections):
            # TLS would wait for the client to say goodbye too.
            if isinstance(connection, ExactProtocol) and (connection.busy or connection.scheme == "https"):
                connection.transport.abort()
        await super().shutdown(sockets)
        await asyncio.sleep(0)  # lets what was aborted close

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as a wish to stop: the second does not wait, the third ends the process.

        The data survive even that, as they survive kill -9.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, _frame: FrameType | None) -> None:
            if self.force_exit:
                os._exit(128 + number)
            self.force_exit = self.should_exit
            self.should_exit = True

        previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> list[socket.socket]:
    """Take an address; port 0 is any free one. `localhost` is 127.0.0.1 and, where there is IPv6, ::1."""
    if host != "localhost":
        return [_bind(host, port)]
    first = _bind("127.0.0.1", port)
    try:
        return [first, _bind("::1", first.getsockname()[1])]
    except EmulatorError:  # a machine without IPv6, or the port is somebody else's there
        return [first]


def hold(address: tuple[str, int]) -> socket.socket:
    """Keep an address for later: nobody else is given its port, and without a listener it refuses."""
    return _bind(*address)


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        where = f"{bracketed(host)}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise EmulatorError(
                f"cannot listen on {where}: another program does, perhaps an emulator; choose another port, "
                "or none to have a free one"
            ) from None
        raise EmulatorError(f"cannot listen on {where}: {error.strerror or error}") from None
    return listener


def bracketed(host: str) -> str:
    """Write a host as URLs have it."""
    return f"[{host}]" if ":" in host else host


def event_loop() -> Any:
    """Return the fastest event loop that is installed, for uvicorn."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio"
    return "uvloop"
