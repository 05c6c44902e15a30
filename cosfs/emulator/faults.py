"""Faults that a test asks for. Nothing here happens by itself or by chance."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypedDict, Unpack

from cosfs.emulator.bandwidth import Bandwidth

# What each kind does, for people who choose one.
KINDS = {
    "error": "answer with status and code, before the work or after it",
    "latency": "wait seconds before the work, give or take jitter",
    "reset": "drop the connection before the work or after it",
    "truncate": "end the connection after offset bytes of the answer's body",
    "corrupt": "flip the byte at offset of the answer's body",
    "stall": "pause for seconds after offset bytes of the answer's body",
    "slow": "send the answer's body at rate bytes per second",
    "stall-request": "stop reading the request's body for seconds after offset bytes",
    "stale": "let a listing show the keys as they were seconds ago",
    "lenient": "store a body whatever Content-MD5 and x-cos-forbid-overwrite say, as other servers do",
}
_SEEDLESS = 0x5EED  # the same faults in every run, unless a seed says which others


class When(TypedDict, total=False):
    """Which requests a fault strikes; see Fault."""

    key: str
    count: int
    every: int
    skip: int
    share: float
    seed: int


class Held:
    """Requests that a fault keeps waiting; each says how it is told to go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._released = False
        self._waiting: set[Callable[[], object]] = set()

    @contextmanager
    def waiting(self, go_on: Callable[[], object]) -> Iterator[None]:
        """Inside, go_on is called when they are released; at once if they were."""
        with self._lock:
            self._waiting.add(go_on)
            if self._released:
                go_on()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.discard(go_on)

    def release(self) -> None:
        """Let all go on, and those that come later."""
        with self._lock:
            self._released = True
            for go_on in self._waiting:
                go_on()


@dataclass(slots=True, kw_only=True)
class Fault:
    """One thing to go wrong with requests of an operation; KINDS says what. A count of 0 has no end.

    Of the requests that match operation and key (patterns such as Get*), the first `skip` pass, then each
    `every`-th is struck, or each with the probability `share`: which ones, the seed decides.
    """

    kind: str
    operation: str = "*"
    key: str = "*"
    count: int = 1
    every: int = 1
    skip: int = 0
    share: float = 1.0
    seed: int = _SEEDLESS
    after: bool = False  # error and reset: when the work is done
    status: int = 0  # 0: the usual one of the code; 200: the error document that Copy and Complete can give
    code: str = "InternalError"
    message: str = ""
    seconds: float = 0.0
    jitter: float = 0.0
    offset: int = 0
    rate: int = 0
    id: int = 0
    seen: int = 0
    struck: int = 0
    _random: random.Random = field(init=False, repr=False, compare=False)
    _held: Held = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.kind not in KINDS:
            raise ValueError(f"no such kind of fault: {self.kind}; there are {', '.join(KINDS)}")
        if min(self.count, self.skip, self.offset) < 0 or self.every < 1 or not 0 < self.share <= 1:
            raise ValueError("count, skip and offset begin at 0, every at 1; share is above 0, at most 1")
        if min(self.seconds, self.jitter) < 0 or self.rate < (self.kind == "slow"):
            raise ValueError("seconds and jitter begin at 0, the rate of slow at 1")
        if self.status and not 200 <= self.status <= 599:
            raise ValueError(f"{self.status} is no status of an answer")
        self._random = random.Random(self.seed)
        self._held = Held()

    def strikes(self, operation: str, key: str) -> bool:
        """Look at a request; tell whether it is struck. Under the lock of Faults."""
        if not (fnmatchcase(operation, self.operation) and fnmatchcase(key, self.key)):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.seen - self.skip) % self.every:
            return False
        if self.share < 1 and self._random.random() >= self.share:
            return False
        self.struck += 1
        return True

    def delay(self) -> float:
        """Return how long to wait this time."""
        if not self.jitter:
            return self.seconds
        return max(0.0, self.seconds + self._random.uniform(-self.jitter, self.jitter))

    @property
    def held(self) -> Held:
        """Return the requests that wait because of it."""
        return self._held

    @property
    def spent(self) -> bool:
        """Tell whether it will strike no more."""
        return 0 < self.count <= self.struck


class Faults:
    """The faults of one emulator; safe to use from any thread."""

    def __init__(self) -> None:
        self.bandwidth = Bandwidth()
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, fault: Fault) -> Fault:
        """Let a fault strike from now on."""
        fault.id = next(self._ids)
        with self._lock:
            self._faults.append(fault)
        return fault

    def error(
        self,
        operation: str = "*",
        code: str = "InternalError",
        status: int = 0,
        *,
        after: bool = False,
        **when: Unpack[When],
    ) -> Fault:
        """Answer with an error; status 200 makes the error document that Copy and Complete can give."""
        return self.add(
            Fault(kind="error", operation=operation, code=code, status=status, after=after, **when)
        )

    def latency(
        self, seconds: float, operation: str = "*", *, jitter: float = 0.0, **when: Unpack[When]
    ) -> Fault:
        """Wait before the work, give or take jitter; without a count, with every request."""
        when.setdefault("count", 0)
        return self.add(Fault(kind="latency", operation=operation, seconds=seconds, jitter=jitter, **when))

    def reset(self, operation: str = "*", *, after: bool = False, **when: Unpack[When]) -> Fault:
        """Drop the connection before the work or, with after, when it is done but not answered."""
        return self.add(Fault(kind="reset", operation=operation, after=after, **when))

    def truncate(self, operation: str = "GetObject", offset: int = 0, **when: Unpack[When]) -> Fault:
        """End the connection after so many bytes of the body."""
        return self.add(Fault(kind="truncate", operation=operation, offset=offset, **when))

    def corrupt(self, operation: str = "GetObject", offset: int = 0, **when: Unpack[When]) -> Fault:
        """Flip one byte of the body."""
        return self.add(Fault(kind="corrupt", operation=operation, offset=offset, **when))

    def stall(
        self, seconds: float, operation: str = "GetObject", offset: int = 0, **when: Unpack[When]
    ) -> Fault:
        """Stop sending the body for a while."""
        return self.add(Fault(kind="stall", operation=operation, seconds=seconds, offset=offset, **when))

    def stall_request(
        self, seconds: float, operation: str = "PutObject", offset: int = 0, **when: Unpack[When]
    ) -> Fault:
        """Stop reading the body of the request for a while."""
        return self.add(
            Fault(kind="stall-request", operation=operation, seconds=seconds, offset=offset, **when)
        )

    def slow(self, rate: int, operation: str = "GetObject", **when: Unpack[When]) -> Fault:
        """Send bodies at so many bytes per second; without a count, with every request."""
        when.setdefault("count", 0)
        return self.add(Fault(kind="slow", operation=operation, rate=rate, **when))

    def stale(self, seconds: float, operation: str = "ListObjects", **when: Unpack[When]) -> Fault:
        """Let listings show the keys as they were so many seconds ago; without a count, every listing."""
        when.setdefault("count", 0)
        return self.add(Fault(kind="stale", operation=operation, seconds=seconds, **when))

    def lenient(self, operation: str = "PutObject", **when: Unpack[When]) -> Fault:
        """Look neither at Content-MD5 nor at x-cos-forbid-overwrite; without a count, with every request."""
        when.setdefault("count", 0)
        return self.add(Fault(kind="lenient", operation=operation, **when))

    @property
    def staleness(self) -> float:
        """Return by how many seconds listings may have to lag behind."""
        if not self._faults:
            return 0.0
        with self._lock:
            return max(
                (fault.seconds + fault.jitter for fault in self._faults if fault.kind == "stale"), default=0.0
            )

    def active(self) -> list[Fault]:
        """Return the faults that may still strike."""
        with self._lock:
            return [*self._faults]

    def remove(self, fault: Fault) -> None:
        """Let a fault strike no more."""
        with self._lock:
            self._faults = [other for other in self._faults if other is not fault]

    def release(self, fault: Fault) -> None:
        """Let a fault strike no more, and the requests that it keeps waiting go on at once."""
        self.remove(fault)
        fault.held.release()

    def clear(self) -> None:
        """Remove all faults and bandwidth limits."""
        self.bandwidth.limit()
        with self._lock:
            self._faults.clear()

    def take(self, operation: str, key: str) -> list[Fault]:
        """Return the faults that strike this request; those that are spent go away."""
        if not self._faults:
            return []
        with self._lock:
            striking = [fault for fault in self._faults if fault.strikes(operation, key)]
            if striking:
                self._faults = [fault for fault in self._faults if not fault.spent]
        return striking
