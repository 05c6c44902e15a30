"""Whether the local disk keeps up with a file that is written.

A write goes into the page cache and takes less than the way to a thread and back. But the kernel stops a
writer to let the disk catch up: that must be whoever writes, and not the whole mount.
"""

from __future__ import annotations

__all__ = ["SLOW", "Pace"]

SLOW = 0.005  # seconds; a MiB takes a tenth of it
ENOUGH = 8  # writes in a row


class Pace:
    """What the last writes of one file took."""

    __slots__ = ("_fast", "lags")

    def __init__(self) -> None:
        self._fast = 0
        self.lags = False  # a write was slow, and too few were fast since

    @property
    def keeps_up(self) -> bool:
        """Whether enough writes in a row were fast."""
        return self._fast >= ENOUGH

    def note(self, seconds: float) -> None:
        """Note what a write took."""
        if seconds > SLOW:
            self._fast = 0
            self.lags = True
            return
        self._fast += 1
        if self.keeps_up:
            self.lags = False
