"""What runs in the looker's process: small requests, many at once in one thread, each tried once."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import greenlet

from cosfs.client.auth import Credentials, StaticCredentials
from cosfs.client.client import CosClient
from cosfs.client.looks import Looks
from cosfs.client.model import Headers, ObjectInfo, PutResult
from cosfs.client.waiting import Hub
from cosfs.config import ClientSettings
from cosfs.transfer.lanes import Window
from cosfs.transfer.looker import CHANGES, LOOK, MISSING, UNANSWERED, Answer, Arguments
from cosfs.transfer.process import PATIENCE, hasty, next_message, send_message

__all__ = ["serve"]

_HEADERS = [field.name for field in fields(Headers)]


def serve(sock: socket.socket, settings: ClientSettings, most: int) -> None:
    """Ask for what the first process names, until it ends or closes its end."""
    _Worker(sock, hasty(settings), most).run()


class _Batch:
    """Requests of one message. left: how many are not answered yet."""

    __slots__ = ("answers", "bucket", "items", "left", "number", "operation", "since")

    def __init__(self, number: int, bucket: str, operation: str, items: list[Any]) -> None:
        self.number = number
        self.bucket = bucket
        self.operation = operation
        self.items = items  # keys, or arguments
        self.answers: list[Answer] = [UNANSWERED] * len(items)
        self.left = len(items)
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
            known, *request = message
            if known is not None:
                self._client.learn(known)
            batch = _Batch(*request)
            wanted = [(batch, index) for index in range(batch.left)]
            if batch.operation == LOOK:
                self._wanted.extend(wanted)
            else:
                self._wanted.extendleft(reversed(wanted))  # somebody waits for these
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
            if batch.operation == LOOK:
                batch.answers[index] = self._seen(looks, batch.bucket, batch.items[index])
            else:
                batch.answers[index] = self._change(batch.operation, batch.items[index])
        except Exception:  # whatever it is, the first process finds out for itself
            pass
        batch.items[index] = None
        batch.left -= 1
        if not batch.left:
            self._send(batch)
        self._window.answered(time.monotonic(), self._hub.idle, 0)
        self._wake()

    def _seen(self, looks: Looks, bucket: str, key: str) -> Answer:
        status, info = looks.look(bucket, key)
        if info is not None:
            return _told(info)
        return MISSING if status == MISSING and self._client.has_seen(bucket) else UNANSWERED

    def _change(self, method: str, arguments: Arguments) -> PutResult:
        assert method in CHANGES
        args, kwargs = arguments
        result: PutResult = getattr(self._client, method)(*args, **kwargs)
        return result

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
