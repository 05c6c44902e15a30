"""What runs in the side process: calls from the socket, many at once in one thread, each tried once."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from cosfs.client.auth import Credentials, StaticCredentials
from cosfs.client.client import CosClient
from cosfs.client.waiting import Hub
from cosfs.config import ClientSettings, TransferSettings
from cosfs.transfer.engine import Engine
from cosfs.transfer.lanes import Window
from cosfs.transfer.model import TransferResult
from cosfs.transfer.process import hasty, next_message_with_fd, send_message
from cosfs.transfer.side import Side
from cosfs.transfer.temporary import use_names
from cosfs.transfer.work import current

__all__ = ["serve"]

# Answers wait for each other so long.
_TOGETHER = 0.005


def serve(sock: socket.socket, client: ClientSettings, transfer: TransferSettings, names: int) -> None:
    """Run calls until the first process ends or closes its end; then give up what is under way.

    Temporary files get names from `names` on.
    """
    use_names(names)
    _Worker(sock, hasty(client), transfer).run()


class _Worker:
    def __init__(self, sock: socket.socket, client: ClientSettings, transfer: TransferSettings) -> None:
        self._sock = sock
        nobody = StaticCredentials(Credentials("", ""))
        self._client = CosClient(client, None if client.anonymous else nobody)
        # Never entered: it is what calls ask for the client and the settings.
        self._engine = Engine(self._client, transfer)
        self._hub = Hub()
        # The first process has seen answers already.
        self._window = Window(Side.CAPACITY, 2 * Window.FIRST)
        self._running = 0
        self._calls: deque[tuple[int, Callable[..., TransferResult], tuple[Any, ...]]] = deque()
        self._own: deque[Callable[[], None]] = deque([self._read])
        self._answers: list[tuple[int, TransferResult | None]] = []
        self._sending = False
        self._undo: dict[int, Callable[[], None]] = {}
        self._ended = False

    def run(self) -> None:
        self._hub.run(self._take, lambda: self._ended)

    def _take(self) -> Callable[[], None] | None:
        if self._own:
            return self._own.popleft()
        if self._calls and self._running < self._window.size:
            self._running += 1
            return partial(self._call, *self._calls.popleft())
        return None

    def _read(self) -> None:
        while True:
            message, fd = next_message_with_fd(self._hub, self._sock)
            if message is None:
                self._give_up()
            known, calls = message
            if known is not None:
                self._client.learn(known)
            if fd is None:
                self._calls.extend(calls)
            else:
                self._own.extend(partial(self._run_errand, n, fn, args, fd) for n, fn, args in calls)

    def _give_up(self) -> None:
        """Leave nothing half written behind."""
        for undo in list(self._undo.values()):
            undo()
        os._exit(0)

    def _call(self, number: int, fn: Callable[..., TransferResult], args: tuple[Any, ...]) -> None:
        current.undo = partial(self._undo.__setitem__, number)
        try:
            answer: TransferResult | None = fn(self._engine, *args, None)
        except Exception:  # whatever it is, the first process finds out for itself
            answer = None
        current.undo = None
        self._undo.pop(number, None)
        self._running -= 1
        self._window.answered(time.monotonic(), self._hub.idle, 0)
        self._answers.append((number, answer))
        if len(self._answers) >= Side.BATCH:
            self._send()
        elif not self._sending:
            self._sending = True
            self._own.append(self._send_soon)

    def _run_errand(self, number: int, fn: Callable[..., Any], args: tuple[Any, ...], fd: int) -> None:
        try:
            answer = fn(self._engine, *args, fd)
        except Exception:  # whatever it is, the first process finds out for itself
            answer = None
        os.close(fd)
        self._answers.append((number, answer))
        self._send()

    def _send_soon(self) -> None:
        self._hub.sleep(_TOGETHER)
        self._sending = False
        self._send()

    def _send(self) -> None:
        answers, self._answers = self._answers, []
        if not answers:
            return
        try:
            send_message(self._sock, answers)
        except OSError:
            self._give_up()
