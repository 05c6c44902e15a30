"""A second process for very many very small objects, and for half of the parts of large ones.

One interpreter uses one core, and a small object is mostly work of the interpreter; so is a part, where the
line is faster than that. The side process is a fork made before there are threads. It runs calls as the
first process's lane does, many at once in one thread, and each of them once: whatever does not simply work
is handed back and run again here, where retries, time-outs, new credentials and messages are. So nothing
depends on the side process, and it is given calls only after an answer has shown which credentials, region
and clock are right.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from cosfs.client.session import Known
from cosfs.transfer import processors
from cosfs.transfer.paths import LocalTarget
from cosfs.transfer.process import fork, receive_message, send_message
from cosfs.transfer.temporary import most_names, other_names, remove_left
from cosfs.transfer.traces import Traces
from cosfs.transfer.work import checkpoint

if TYPE_CHECKING:
    from cosfs.transfer.engine import Engine
    from cosfs.transfer.job import Job
    from cosfs.transfer.model import TransferResult
    from cosfs.transfer.work import Progress

__all__ = ["Side", "SmallCall"]

log = logging.getLogger(__name__)

# How long the end of the engine waits for the process, which has nothing left to do then.
_END_TIME = 1.0
# Bytes a second: where a connection moves so many, the processors are what is short. On a slow line a part
# stays here, where its progress is seen and its beginning is kept when it is interrupted.
_QUICK = 32 * 1024 * 1024


class SmallCall:
    """fn(engine, *args, progress), for this process or the other one.

    portable says whether it may be tried there: what must not be done twice may not.
    """

    __slots__ = ("args", "engine", "fn", "portable", "progress")

    def __init__(
        self,
        engine: Engine,
        fn: Callable[..., TransferResult],
        *args: Any,
        progress: Progress | None,
        portable: bool,
    ) -> None:
        self.engine = engine
        self.fn = fn
        self.args = args
        self.progress = progress
        self.portable = portable

    def __call__(self) -> TransferResult:
        return self.fn(self.engine, *self.args, self.progress)


class Errand:
    """Something that the second process does for a thread of the first, which waits for it."""

    __slots__ = ("_done", "_result")

    def __init__(self) -> None:
        self._done = threading.Event()
        self._result: Any = None

    def end(self, result: Any) -> None:
        """Have the thread go on."""
        self._result = result
        self._done.set()

    def wait(self) -> Any:
        """Return what came of it, None if nothing did; raise Abandoned when nobody wants it any more."""
        while not self._done.wait(0.1):
            checkpoint()
        return self._result


class Side:
    """The first process's end. Everything but the reading of answers happens under the engine's lock."""

    CAPACITY = 128  # calls there at the same time: enough to keep it busy while answers are on their way
    BATCH = 16
    # Handed back: a few are chance, more are a reason to have all calls here, where trouble is dealt with.
    _MOST_FAILED = 16

    def __init__(self, sock: socket.socket, pid: int, names: int, traces: Traces | None = None) -> None:
        self._sock = sock
        self._traces = traces
        self.pid = pid
        self._names = names  # of its temporary files
        self._calls: dict[int, Job] = {}
        self._errands: dict[int, Errand] = {}
        self._quick = False
        self._next = 0
        self._known: Known | None = None
        self._done = 0
        self._failed = 0
        self.retired = False

    @classmethod
    def fork(cls, engine: Engine) -> Side | None:
        """Make the process; None where that is not safe: beside threads, or where one may not be made."""
        names = other_names()
        made = fork(lambda sock: _serve(engine, sock, names))
        return cls(*made, names, engine.traces) if made is not None else None

    @property
    def running(self) -> int:
        """How many calls are there."""
        return len(self._calls)

    def wants(self, waiting: int) -> bool:
        """Whether it should be given calls, when so many wait."""
        return waiting >= self.BATCH and not self.retired and len(self._calls) + self.BATCH <= self.CAPACITY

    def give(self, jobs: Iterable[Job], known: Known) -> None:
        """Have calls run there."""
        calls = []
        for job in jobs:
            self._next += 1
            self._calls[self._next] = job
            self._note(job)
            calls.append((self._next, job.fn.fn, job.fn.args))  # type: ignore[attr-defined]
        self._send(calls, known)

    def _send(self, calls: list[tuple[Any, ...]], known: Known, fd: int | None = None) -> None:
        news = None if known == self._known else known
        self._known = known
        try:
            send_message(self._sock, (news, calls), fd)
        except (OSError, pickle.PicklingError, AttributeError, TypeError) as error:
            # Its end is noticed by whoever reads the answers, who then gets these calls back.
            log.info("the second process is not used any more: %s", error)
            self.retire()

    def note_speed(self, count: int, seconds: float) -> None:
        """Hear how long a part took in this process."""
        self._quick = count >= _QUICK * seconds and processors.count() > 1

    def wants_errand(self, running: int) -> bool:
        """Whether it should do one of so many things that run, there or here; half of them are there."""
        return self._quick and not self.retired and 2 * len(self._errands) + 2 <= running

    def lend(self, fn: Callable[..., Any], args: tuple[Any, ...], fd: int, known: Known) -> Errand:
        """Have fn(engine, *args, fd) run there; a descriptor of the same file takes the place of fd."""
        self._next += 1
        errand = self._errands[self._next] = Errand()
        self._send([(self._next, fn, args)], known, fd)
        return errand

    def end_errand(self, number: int, result: Any) -> bool:
        """Have who waits for an errand go on; False if the number is not one's."""
        errand = self._errands.pop(number, None)
        if errand is not None:
            errand.end(result)
        return errand is not None

    def _note(self, job: Job) -> None:
        """Note where it will make a temporary file: both processes may be killed."""
        for arg in job.fn.args if self._traces is not None else ():  # type: ignore[attr-defined]
            if isinstance(arg, LocalTarget):
                directory = arg.path.rpartition("/")[0]
                self._traces.using(directory, self._names, most_names(self._next))  # type: ignore[union-attr]

    def retire(self) -> None:
        """Give it no more calls; it ends, and what it has comes back."""
        self.retired = True
        self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def answers(self) -> list[tuple[int, Any]]:
        """Wait for answers and return them; none at the end. Only this is called without the lock."""
        found: list[tuple[int, Any]] | None = receive_message(self._sock)
        return found or []

    def take_back(self, number: int, *, worked: bool) -> Job:
        """Return the call that was answered."""
        self._done += 1
        self._failed += not worked
        if self._failed > self._MOST_FAILED and 4 * self._failed > self._done:
            self.retired = True
        return self._calls.pop(number)

    def take_all_back(self) -> list[Job]:
        """Return all calls that were never answered."""
        self.retired = True
        for number in [*self._errands]:
            self.end_errand(number, None)
        left = [*self._calls.values()]
        self._calls.clear()
        return left

    def clean_up(self, jobs: Iterable[Job]) -> None:
        """Remove what it was writing, in case it was killed; without the lock, before the calls run here."""
        calls = [job.fn for job in jobs if not job.abandoned]
        args = [arg for call in calls for arg in getattr(call, "args", ())]
        targets = [arg for arg in args if isinstance(arg, LocalTarget)]
        try:
            remove_left(self._names, self._next, targets)
        except OSError as error:
            log.info("what the second process was writing stays: %s", error)

    def close(self) -> None:
        """End the process, which removes what it was writing; wait for that a moment."""
        self._shut_down()
        end = time.monotonic() + _END_TIME
        while not self._is_gone():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.002)
        self._sock.close()

    def _is_gone(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True


def _serve(engine: Engine, sock: socket.socket, names: int) -> None:
    from cosfs.transfer.side_worker import serve

    serve(sock, engine.client.settings, engine.settings, names)
