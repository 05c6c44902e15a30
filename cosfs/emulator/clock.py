"""The time that the emulator lives in: the machine's, until a test moves it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime


class Clock:
    """The time of what is stored. Calling it returns Unix seconds.

    `machine` is the time that signatures, temporary keys and the Date header keep: clients, whose own clocks
    nobody moves, must get along with a server that is a year ahead in its lifecycle rules.
    """

    def __init__(self, machine: Callable[[], float] = time.time) -> None:
        self.machine = machine
        self.on_move: Callable[[], None] = lambda: None
        self._ahead = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.machine() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the clock, back with a negative number; it runs on from there."""
        self._ahead += seconds
        self.on_move()

    def set(self, when: float | datetime) -> None:
        """Let it be a certain time now, given as Unix seconds or as a datetime with a zone."""
        self._ahead = (when.timestamp() if isinstance(when, datetime) else when) - self.machine()
        self.on_move()

    def reset(self) -> None:
        """Return to the machine's time."""
        self._ahead = 0.0
        self.on_move()
