"""A process of our own beside this one: made by fork(), spoken to in pickles over a pair of sockets."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import signal
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from cosfs.client.waiting import Hub
from cosfs.config import ClientSettings

__all__ = [
    "LENGTH",
    "PATIENCE",
    "fork",
    "hasty",
    "next_message",
    "next_message_with_fd",
    "receive_message",
    "send_message",
]

log = logging.getLogger(__name__)

# A message is its length and a pickle; both ends are ours.
LENGTH = struct.Struct("!I")
# What takes longer is tried again by the first process, with the patience the settings give it.
PATIENCE = 10.0


def fork(serve: Callable[[socket.socket], None]) -> tuple[socket.socket, int] | None:
    """Have serve(socket) run in another process; return the other end and its number.

    None where that is not safe: beside threads, or where a process may not be made.
    """
    if threading.active_count() > 1:
        return None
    ours, theirs = socket.socketpair()
    try:
        pid = os.fork()
    except OSError as error:
        log.info("no second process: %s", error)
        ours.close()
        theirs.close()
        return None
    if not pid:
        _become_other(theirs, lambda: serve(theirs))
    theirs.close()
    return ours, pid


def _become_other(sock: socket.socket, serve: Callable[[], None]) -> NoReturn:
    """Turn the new process, a copy of the one that was about to start, into one that only serves at sock."""
    code = 1
    try:
        # Nothing of the first process is ever cleaned up here: its objects are not ours to close.
        gc.freeze()
        # A Ctrl-C is the first process's to handle; its end is ours.
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(ignored, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        logging.disable(logging.CRITICAL)
        # Somebody may wait for the end of what we inherited: a pipe, a terminal, our end of the socket.
        os.closerange(3, sock.fileno())
        os.closerange(sock.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        serve()
        code = 0
    finally:
        os._exit(code)


def hasty(settings: ClientSettings) -> ClientSettings:
    """Settings with which each request is tried once."""
    return replace(
        settings,
        max_retries=0,
        connect_timeout=min(PATIENCE, settings.connect_timeout),
        read_timeout=min(PATIENCE, settings.read_timeout),
    )


def send_message(sock: socket.socket, message: object, fd: int | None = None) -> None:
    """Send one object to the other process, and a descriptor for it to use as well."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    head = LENGTH.pack(len(data))
    if fd is not None:
        socket.send_fds(sock, [head], [fd])
        head = b""
    sock.sendall(head + data)


def next_message(hub: Hub, sock: socket.socket) -> Any:
    """Return the next object the first process sends, None at its end; other calls of hub go on meanwhile."""
    _wait(hub, sock)
    return receive_message(sock)


def next_message_with_fd(hub: Hub, sock: socket.socket) -> tuple[Any, int | None]:
    """Return what next_message does, and the descriptor that was sent with it, which is the caller's."""
    _wait(hub, sock)
    try:
        head, fds, *_ = socket.recv_fds(sock, LENGTH.size, 1)
    except OSError:
        return None, None
    return _receive_body(sock, head + _receive(sock, LENGTH.size - len(head))), next(iter(fds), None)


def _wait(hub: Hub, sock: socket.socket) -> None:
    while True:
        try:
            hub.wait(sock.fileno(), writable=False, timeout=3600)
            return
        except TimeoutError:
            continue


def receive_message(sock: socket.socket) -> Any:
    """Return the next object the other process has sent; None at its end."""
    return _receive_body(sock, _receive(sock, LENGTH.size))


def _receive_body(sock: socket.socket, head: bytes) -> Any:
    body = _receive(sock, LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""
    # From our own fork, over a socket nobody else has.
    return pickle.loads(body) if body else None


def _receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            piece = sock.recv(count - len(data))
        except OSError:
            return b""
        if not piece:
            return b""
        data += piece
    return data
