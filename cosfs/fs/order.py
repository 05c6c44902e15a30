"""Whether somebody goes through the entries of a directory in their order, and how far ahead of him to be."""

from __future__ import annotations

__all__ = ["NEAR", "Order"]

NEAR = 8  # entries between two that are asked for, at most, for the two to count as neighbours


class Order:
    """A window that opens at the second entry asked for in order and doubles each time half of it is passed.

    Pure. Who goes elsewhere, or skips more than he asks for, closes it: asking at random costs no more than
    what is asked for.
    """

    __slots__ = ("_asked", "_begin", "position", "reached", "window")

    FIRST = 4

    def __init__(self) -> None:
        self.position = -2 * NEAR  # the entry furthest on that was asked for in this run
        self.reached = 0  # everything before it and behind the position is on its way
        self.window = 0
        self._begin = 0  # where this run began
        self._asked = 0  # entries of it

    def passed(self, index: int, most: int, expected: int = 0) -> range:
        """Note that an entry is asked for; return which ones to fetch now, besides.

        expected: how wide the window is at once when it is likely that all of them will be asked for.
        """
        step = index - self.position
        if not -NEAR - self.window <= step <= NEAR + self.window or self._skips(index):
            self.position = self._begin = index
            self._asked = self.window = self.reached = 0
        elif step > 0:
            self.position = index
            self.window = self.window or self.FIRST
        self._asked += 1
        self.window = min(most, max(self.window, expected))
        if not self.window or self.position + self.window // 2 < self.reached:
            return range(0)
        if self.reached > self.position + 1:
            self.window = min(most, 2 * self.window)
        start = max(self.position + 1, self.reached)
        self.reached = max(start, self.position + 1 + self.window)
        return range(start, self.reached)

    def cut(self, index: int) -> None:
        """Of what was to be fetched nothing is from an entry on."""
        self.reached = min(self.reached, index)

    def _skips(self, index: int) -> bool:
        return index - self._begin > 2 * self._asked + NEAR
