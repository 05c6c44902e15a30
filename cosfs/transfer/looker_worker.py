"""What runs in the looker's process: HEADs, many at once in one thread, each tried once."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import fields

import greenlet

from cosfs.client.auth import Credentials, StaticCredentials
from cosfs.client.client import CosClient
from cosfs.client.looks import Looks
from cosfs.client.model import Headers, ObjectInfo
from cosfs.client.waiting import Hub
from cosfs.config import ClientSettings
from cosfs.transfer.lanes import Window
from cosfs.transfer.looker import MISSING, UNANSWERED, Answer
from cosfs.transfer.process import PATIENCE, hasty, next_message, send_message

__all__ = ["serve"]

_HEADERS = [field.name for field in fields(Headers)]


def serve(sock: socket.socket, settings: ClientSettings, most: int) -> None:
    """Ask for what the first process names, until it ends or closes its end."""
    _Worker(sock, hasty(settings), most).run()


class _Batch:
    """Keys of one message. left: how many are not answered yet."""

    __slots__ = ("answers", "bucket", "keys", "left", "number", "since")

    def __init__(self, number: int, bucket: str, keys: list[str]) -> None:
        self.number = number
        self.bucket = bucket
        self.keys = keys
        self.answers: list[Answer] = [UNANSWERED] * len(keys)
        self.left = len(keys)
        self.since = time.perf_counter()


class _Worker:
    def __init__(self, sock: socket.socket, settings: ClientSettings, most: int) -> None:
        self._sock = sock
        nobody = StaticCredentials(Credentials("", ""))
        self._client = CosClient(settings, None if settings.anonymous else nobody)
        self._hub = Hub()
        self._window = Window(most, 2 * Window.FIRST)
        self._running = 0
        self._is_read = False
        self._wanted: deque[tuple[_Batch, int]] = deque()
        self._resting: list[greenlet.greenlet] = []

    def run(self) -> None:
        self._hub.run(self._take, lambda: False)

    def _take(self) -> Callable[[], None] | None:
        if not self._is_read:
            self._is_read = True
            return self._read
        if self._wanted and not self._resting and self._running < self._window.size:
            self._running += 1
            return self._look
        return None

    def _read(self) -> None:
        while True:
            message = next_message(self._hub, self._sock)
            if message is None:
                os._exit(0)
            known, number, bucket, keys = message
            if known is not None:
                self._client.learn(known)
            batch = _Batch(number, bucket, keys)
            self._wanted.extend([(batch, index) for index in range(len(keys))])
            self._wake()

    def _look(self) -> None:
        """Ask for one after the other over one connection, for ever."""
        looks = self._client.looks(PATIENCE)
        while True:
            while self._wanted and self._running <= self._window.size:
                self._look_at(looks, *self._wanted.popleft())
            # Another call needs memory of its own from the system, and a connection.
            self._running -= 1
            self._resting.append(greenlet.getcurrent())
            self._hub.pause()
            looks.check()

    def _look_at(self, looks: Looks, batch: _Batch, index: int) -> None:
        try:
            status, info = looks.look(batch.bucket, batch.keys[index])
        except Exception:  # whatever it is, the first process finds out for itself
            status, info = 0, None
        if info is not None:
            batch.answers[index] = _told(info)
        elif status == MISSING and self._client.has_seen(batch.bucket):
            batch.answers[index] = MISSING
        batch.left -= 1
        if not batch.left:
            self._send(batch)
        self._window.answered(time.monotonic(), self._hub.idle, 0)
        self._wake()

    def _wake(self) -> None:
        """Have as many calls go on as there is work for."""
        free = min(len(self._wanted), self._window.size - self._running)
        for _ in range(min(free, len(self._resting))):
            self._running += 1
            self._hub.resume(self._resting.pop())

    def _send(self, batch: _Batch) -> None:
        seconds = time.perf_counter() - batch.since
        try:
            send_message(self._sock, (batch.number, batch.answers, seconds))
        except OSError:
            os._exit(0)


def _told(info: ObjectInfo) -> Answer:
    known = info.headers
    assert known is not None
    headers = tuple([getattr(known, name) for name in _HEADERS])
    return (
        info.size,
        info.etag,
        info.last_modified,
        info.storage_class,
        info.crc64,
        info.version_id,
        info.restore,
        headers,
    )
