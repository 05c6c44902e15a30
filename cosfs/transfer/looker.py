"""A second process that asks COS for the attributes of very many objects, and stores and copies small ones.

One interpreter uses one core. In a mount it has the kernel to answer, and a HEAD is a tenth of a millisecond
of its time besides. The looker is a fork made before there are threads; it is told keys and sends back what
it was answered, dozens at once. It tries each request once: what does not simply work is tried again by the
mount, where retries, new credentials and messages are. So nothing depends on it, and it is told keys only
after an answer has shown which credentials, region and clock are right.

A change may have been made though it is not known to have been, as with any request whose answer is lost. It
must be one that does no harm when it is made twice, or late: one that overwrites nothing.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import trio

from cosfs.client.client import CosClient
from cosfs.client.model import Headers, ObjectInfo, PutResult
from cosfs.client.session import Known
from cosfs.transfer.process import LENGTH, PATIENCE, fork

__all__ = ["LOOK", "MISSING", "UNANSWERED", "Answer", "Arguments", "Found", "Looker", "Told"]

log = logging.getLogger(__name__)

# Keys in one message, and answers in one.
BATCH = 32
# For so long it is not used after many of its requests did not work.
_REST = 5.0

UNANSWERED, MISSING = 0, 404
LOOK = "HeadObject"
CHANGES = {"put_object": "PutObject", "copy_object": "CopyObject"}  # methods of the client
# Of what was sent and is not answered: a message must always fit into the socket.
_BUFFER = 1 << 20

# What an answer says: the fields of ObjectInfo behind its key, with the fields of Headers for the last.
Found = tuple[int, str, float, str, int | None, str, str, tuple[object, ...]]
Answer = Found | PutResult | int  # or MISSING, or UNANSWERED
Told = Callable[[Sequence[str], Sequence[ObjectInfo | int]], None]
Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]  # of a method that changes something
Deliver = Callable[[list[Answer]], None]


class _Asked(NamedTuple):
    """One message that is not answered yet."""

    bucket: str
    operation: str
    requests: int
    length: int
    deliver: Deliver


class Looker:
    """This process's end. Everything but run() is called in the trio thread and does not wait."""

    def __init__(self, client: CosClient, sock: socket.socket, pid: int) -> None:
        self._client = client
        self._sock = sock
        self._pid = pid
        self._known: Known | None = None
        self._next = 0
        self._asked: dict[int, _Asked] = {}
        self._on_their_way = 0  # bytes of messages that are not answered
        self._resting_until = 0.0
        self._ended = False
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        # The kernel counts what it needs for a message, twice its bytes perhaps.
        self._room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 4

    @classmethod
    def fork(cls, client: CosClient, most: int) -> Looker | None:
        """Make the process, which asks for at most so many at once; None where that is not possible."""
        made = fork(lambda sock: _serve(sock, client, most))
        return cls(client, *made) if made is not None else None

    @property
    def is_usable(self) -> bool:
        """Whether it can be asked now."""
        return (
            not self._ended and self._client.known() is not None and time.monotonic() >= self._resting_until
        )

    async def look(self, bucket: str, keys: Sequence[str], told: Told) -> None:
        """Have told(keys, answers) called with all answers, some at a time; MISSING or UNANSWERED for some.

        Returns when all are there. Who gives up is told no more.
        """
        wanted = [list(keys[start : start + BATCH]) for start in range(0, len(keys), BATCH)]
        left = len(wanted)
        done = trio.Event()

        def ask(some: list[str]) -> int:
            def deliver(answers: list[Answer]) -> None:
                nonlocal left
                left -= 1
                if not left:
                    done.set()
                told(some, [_info(key, each) for key, each in zip(some, answers, strict=True)])

            return self._ask(bucket, LOOK, some, deliver)

        numbers = [ask(some) for some in wanted]
        try:
            await self._until(done)
        finally:
            for number in numbers:
                self._forget(number)

    async def change(
        self, bucket: str, method: str, calls: Sequence[Arguments], length: int
    ) -> list[PutResult | None] | None:
        """Call a method of the client that changes something; None of what it was not told to have worked.

        None instead of a list: nothing was sent, as it would have too much to read. length is about the bytes
        of the arguments. Goes on when it is cancelled: what may be under way is answered, or cannot be.
        """
        if self._on_their_way + length > self._room:
            return None
        done = trio.Event()
        found: list[Answer] = []

        def deliver(answers: list[Answer]) -> None:
            found.extend(answers)
            done.set()

        self._ask(bucket, method, calls, deliver)
        with trio.CancelScope(shield=True):
            await self._until(done)
        return [each if isinstance(each, PutResult) else None for each in found]

    async def _until(self, done: trio.Event) -> None:
        with trio.move_on_after(2 * PATIENCE):
            await done.wait()
            return
        log.warning("the second process gives no answers; it is not used any more")
        self._end()

    def _ask(self, bucket: str, operation: str, items: Sequence[object], deliver: Deliver) -> int:
        self._next += 1
        number = self._next
        known = self._client.known()
        news = None if known == self._known else known
        self._known = known
        data = pickle.dumps((news, number, bucket, operation, items), pickle.HIGHEST_PROTOCOL)
        self._asked[number] = _Asked(bucket, operation, len(items), len(data), deliver)
        self._on_their_way += len(data)
        try:
            if not self._ended and self._sock.send(LENGTH.pack(len(data)) + data) < LENGTH.size + len(data):
                raise BlockingIOError
        except OSError as error:
            # It has stopped reading: half a message is of no use to anybody.
            log.info("the second process is not used any more: %s", error)
            self._end()
        if self._ended:
            self._deliver(number, [UNANSWERED] * len(items))
        return number

    async def run(self) -> None:
        """Take its answers until it ends or this is cancelled."""
        data = bytearray()
        try:
            while not self._ended:
                await trio.lowlevel.wait_readable(self._sock)
                more = self._sock.recv(1 << 18)
                if not more:
                    break
                data += more
                while len(data) >= LENGTH.size:
                    stop = LENGTH.size + LENGTH.unpack_from(data)[0]
                    if len(data) < stop:
                        break
                    number, answers, seconds = pickle.loads(bytes(data[LENGTH.size : stop]))
                    del data[:stop]
                    self._count(number, answers, seconds)
                    self._deliver(number, answers)
            log.info("the second process has ended; it is done without")
        except (OSError, trio.ClosedResourceError) as error:
            log.info("the second process is not used any more: %s", error)
        finally:
            self._end()
        await trio.sleep_forever()

    def _count(self, number: int, answers: list[Answer], seconds: float) -> None:
        statuses = Counter([each if isinstance(each, int) else 200 for each in answers])
        failed = statuses.pop(UNANSWERED, 0)
        asked = self._asked.get(number)
        if asked is not None:
            operation = CHANGES.get(asked.operation, asked.operation)
            self._client.heard_elsewhere(operation, asked.bucket, statuses, seconds)
        if 4 * failed > len(answers):
            self._resting_until = time.monotonic() + _REST

    def _forget(self, number: int) -> Deliver | None:
        asked = self._asked.pop(number, None)
        if asked is None:
            return None
        self._on_their_way -= asked.length
        return asked.deliver

    def _deliver(self, number: int, answers: list[Answer]) -> None:
        deliver = self._forget(number)
        if deliver is not None:
            deliver(answers)

    def _end(self) -> None:
        """Let it go; whatever it was asked is not answered."""
        if not self._ended:
            self._ended = True
            trio.lowlevel.notify_closing(self._sock)  # run() waits for it
            self.close()
            for number, asked in list(self._asked.items()):
                self._deliver(number, [UNANSWERED] * asked.requests)

    def close(self) -> None:
        """End the process. It has nothing to lose."""
        self._ended = True
        self._sock.close()
        if self._pid:
            try:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
            self._pid = 0


def _info(key: str, answer: Answer) -> ObjectInfo | int:
    if not isinstance(answer, tuple):
        assert isinstance(answer, int)
        return answer
    size, etag, modified, storage_class, crc64, version_id, restore, headers = answer
    known = Headers(*headers)  # type: ignore[arg-type]
    return ObjectInfo(key, size, etag, modified, storage_class, crc64, version_id, known, restore)


def _serve(sock: socket.socket, client: CosClient, most: int) -> None:
    from cosfs.transfer.looker_worker import serve

    serve(sock, client.settings, most)
