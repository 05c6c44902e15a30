"""Faults that a test asks for. Nothing here happens by itself or by chance."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase

KINDS = ("error", "latency", "reset", "truncate", "corrupt", "stall", "slow")


@dataclass(slots=True)
class Fault:
    """One thing to go wrong with the requests of an operation.

    kind is one of: error (answer status and code), latency (wait seconds first), reset (drop the connection),
    truncate (end the body after offset bytes), corrupt (flip the byte at offset), stall (pause for seconds
    after offset bytes), slow (send rate bytes per second). `after` lets error and reset strike when the work
    is done.
    """

    kind: str
    operation: str = "*"  # a pattern such as Get*
    key: str = "*"  # a pattern too
    count: int = 1  # how many requests it strikes; 0: until it is removed
    every: int = 1  # strike each Nth matching request
    skip: int = 0  # matching requests to let pass first
    after: bool = False
    status: int = 0
    code: str = "InternalError"
    message: str = ""
    seconds: float = 0.0
    offset: int = 0
    rate: int = 0
    seen: int = 0
    struck: int = 0


class Faults:
    """The faults of one emulator; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Let a fault strike from now on."""
        if fault.kind not in KINDS:
            raise ValueError(f"no such kind of fault: {fault.kind}")
        with self._lock:
            self._faults.append(fault)
        return fault

    def error(
        self, operation: str = "*", code: str = "InternalError", status: int = 0, *, count: int = 1,
        every: int = 1, key: str = "*", after: bool = False,
    ) -> Fault:  # fmt: skip
        """Answer with an error; status 200 makes the error document that Copy and Complete can give."""
        return self.add(Fault("error", operation, key, count, every, after=after, status=status, code=code))

    def latency(
        self, seconds: float, operation: str = "*", *, count: int = 0, every: int = 1, key: str = "*"
    ) -> Fault:
        """Wait before the work; without a count, with every request."""
        return self.add(Fault("latency", operation, key, count, every, seconds=seconds))

    def reset(
        self, operation: str = "*", *, after: bool = False, count: int = 1, every: int = 1, key: str = "*"
    ) -> Fault:
        """Drop the connection before the work or, with after, when it is done but not answered."""
        return self.add(Fault("reset", operation, key, count, every, after=after))

    def truncate(
        self, operation: str = "GetObject", offset: int = 0, *, count: int = 1, every: int = 1, key: str = "*"
    ) -> Fault:
        """End the connection after so many bytes of the body."""
        return self.add(Fault("truncate", operation, key, count, every, offset=offset))

    def corrupt(
        self, operation: str = "GetObject", offset: int = 0, *, count: int = 1, every: int = 1, key: str = "*"
    ) -> Fault:
        """Flip one byte of the body."""
        return self.add(Fault("corrupt", operation, key, count, every, offset=offset))

    def stall(
        self, seconds: float, operation: str = "GetObject", offset: int = 0, *, count: int = 1,
        every: int = 1, key: str = "*",
    ) -> Fault:  # fmt: skip
        """Stop sending the body for a while."""
        return self.add(Fault("stall", operation, key, count, every, seconds=seconds, offset=offset))

    def slow(self, rate: int, operation: str = "GetObject", *, count: int = 0, key: str = "*") -> Fault:
        """Send bodies at so many bytes per second."""
        return self.add(Fault("slow", operation, key, count, rate=rate))

    def remove(self, fault: Fault) -> None:
        """Let a fault strike no more."""
        with self._lock:
            self._faults = [other for other in self._faults if other is not fault]

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def take(self, operation: str, key: str) -> list[Fault]:
        """Return the faults that strike this request; those that are spent go away."""
        if not self._faults:
            return []
        striking = []
        with self._lock:
            for fault in self._faults:
                if not (fnmatchcase(operation, fault.operation) and fnmatchcase(key, fault.key)):
                    continue
                fault.seen += 1
                if fault.seen > fault.skip and (fault.seen - fault.skip) % fault.every == 0:
                    fault.struck += 1
                    striking.append(fault)
            self._faults = [fault for fault in self._faults if not fault.count or fault.struck < fault.count]
        return striking
