"""The sockets at which a mount answers the commands and the collectors of metrics."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from cosfs.fuse import registry

__all__ = ["listen", "serve"]

log = logging.getLogger("cosfs.mount")

SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSES = (0.1, 0.2, 0.5, 1.0)  # seconds until somebody who wants to connect is looked at again


def listen(path: Path) -> trio.SocketListener:
    """Listen at a Unix socket that only this user can reach; what was there before is replaced."""
    bound = _bind(path)
    return trio.SocketListener(trio.socket.from_stdlib_socket(bound))


def _bind(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    with registry.short_name(path) as name:
        sock.bind(name)
    path.chmod(0o600)
    sock.listen(16)
    return sock


async def serve(
    handle: Callable[[trio.SocketStream], Awaitable[object]],
    listeners: Sequence[trio.abc.Listener[trio.SocketStream]],
    what: str,
) -> None:
    """Answer whoever connects until cancelled; what names it in the log."""
    await trio.serve_listeners(handle, [_Patient(listener, what) for listener in listeners])


class _Patient(trio.abc.Listener[trio.SocketStream]):
    """Goes on when there is no descriptor left, or no memory: trio logs a traceback ten times a second."""

    def __init__(self, listener: trio.abc.Listener[trio.SocketStream], what: str) -> None:
        self._listener = listener
        self._what = what

    async def accept(self) -> trio.SocketStream:
        tries = 0
        while True:
            try:
                stream = await self._listener.accept()
            except OSError as exc:
                if exc.errno not in SHORT_OF:
                    raise
                if not tries:
                    log.warning("%s has to wait: %s", self._what, exc.strerror)
                await trio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1
                continue
            if tries:
                log.info("%s is answered again", self._what)
            return stream

    async def aclose(self) -> None:
        await self._listener.aclose()
