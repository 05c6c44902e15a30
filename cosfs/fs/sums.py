"""CRC-64 of a growing file, computed while it is written: its bytes are in the processor's cache then.

A part of which all sums are known needs not be read to be sent: the kernel sends it out of the staging file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cosfs.client.crc64 import crc64, crc64_combine
from cosfs.units import MIB

__all__ = ["STEP", "Summing", "Sums"]

STEP = MIB  # bytes that have a sum of their own; parts are a multiple of it, unless somebody asked for others


class Summing:
    """The sums of one write; add() may run in any thread."""

    __slots__ = ("_crc", "position", "steps")

    def __init__(self, position: int, crc: int | None) -> None:
        self.position = position
        self._crc = crc  # of the step's bytes before position, None if they are not all known
        self.steps: dict[int, int] = {}

    @property
    def begun(self) -> tuple[int, int] | None:
        """The end of what was written, and the sum of the step's bytes before it."""
        return None if self._crc is None or not self.position % STEP else (self.position, self._crc)

    def add(self, data: bytes) -> None:
        """Sum up bytes that follow those before them."""
        view, done = memoryview(data), 0
        while done < len(view):
            step, before = divmod(self.position, STEP)
            piece = view[done : done + STEP - before]
            crc = 0 if not before else self._crc
            if crc is not None:
                self._crc = crc64(data if len(piece) == len(data) else piece, crc)
                if before + len(piece) == STEP:
                    self.steps[step] = self._crc
            done += len(piece)
            self.position += len(piece)


class Sums:
    """The sums of those steps of a file that were written from their beginning to their end."""

    def __init__(self) -> None:
        self._steps: dict[int, int] = {}
        self._begun: tuple[int, int] | None = None
        self._writing = 0
        self._mixed = False  # whether any of the writes under way has met another

    @contextmanager
    def writing(self, start: int, stop: int) -> Iterator[Summing]:
        """Around a write: what it writes over has no sum any more. One beside another one gives none."""
        self.cut(start, stop)
        begun, self._begun = self._begun, None
        if self._writing:
            self._mixed = True
        self._writing += 1
        summing = Summing(start, begun[1] if begun is not None and begun[0] == start else None)
        try:
            yield summing
            if not self._mixed:
                self._steps.update(summing.steps)
                self._begun = summing.begun
        finally:
            self._writing -= 1
            if not self._writing:
                self._mixed = False

    def cut(self, start: int, stop: int) -> None:
        """These bytes change, or are gone."""
        first, end = start // STEP, -(-stop // STEP)
        if end - first > len(self._steps):
            self._steps = {step: crc for step, crc in self._steps.items() if not first <= step < end}
        else:
            for step in range(first, end):
                self._steps.pop(step, None)
        if self._begun is not None and start < self._begun[0]:
            self._begun = None
        if self._writing:
            self._mixed = True

    def take(self, start: int, stop: int) -> int | None:
        """Return the sum of a range, and forget those of its steps; None if it is not known."""
        if start % STEP or stop % STEP:
            return None
        found = [self._steps.pop(step, None) for step in range(start // STEP, stop // STEP)]
        whole = 0
        for crc in found:
            if crc is None:
                return None
            whole = crc64_combine(whole, crc, STEP)
        return whole
