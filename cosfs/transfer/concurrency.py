"""How many requests are in flight: more while that is faster, half as many when COS has enough. Pure."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FIRST", "Concurrency", "PartsInFlight"]

FIRST = 16

# A round that moved so much more than the best before it is worth twice as many requests.
_GAIN = 1.1
# Rounds without a gain after which a little more is tried.
_PATIENCE = 8
# So many parts of large objects are in flight at first, and it is looked so often whether more would help.
_FIRST_PARTS = 8
_LOOK_TIME = 0.04
# The same where each answer takes long.
_FIRST_PARTS_FAR = 12
# Nobody has looked for so long: nothing was in flight.
_PAUSE = 0.5
# Requests that were under way when the number was halved may still fail: they count once.
_ONE_CAUSE = 1.0


class Concurrency:
    """The number of requests that may be in flight now, between 1 and most.

    A round is as many answers as that number, while more requests waited. It doubles from round to
    round as long as the throughput grows. Once it was halved, because COS asked for fewer requests or
    did not answer in time, it grows by one a round.
    """

    def __init__(self, most: int, first: int = 0) -> None:
        self.most = max(1, most)
        self.current = min(self.most, first) if first > 0 else self.most
        self.halved = 0  # how often
        self._halved_at = float("-inf")
        self._answers = 0
        self._since = 0.0
        self._moved = 0
        self._best = 0.0
        self._without_gain = 0

    @property
    def is_full(self) -> bool:
        """Whether there is nothing to grow to."""
        return self.current >= self.most

    def answered(self) -> bool:
        """Count an answer that came while others waited to be asked for; whether the round is over."""
        self._answers += 1
        return self._answers >= self.current

    def end_round(self, now: float, moved: int) -> bool:
        """Judge a round; moved counts bytes, or what stands for them, since the start. Whether it changed."""
        rate = (moved - self._moved) / max(now - self._since, 1e-6) if self._since else 0.0
        self._answers, self._since, self._moved = 0, now, moved
        before = self.current
        if self.halved:
            self.current = min(self.most, self.current + 1)
        elif rate >= self._best * _GAIN:
            self._best, self._without_gain = rate, 0
            self.current = min(self.most, self.current * 2)
        else:
            self._without_gain += 1
            if self._without_gain % _PATIENCE == 0:
                self.current = min(self.most, self.current + max(1, self.current // 8))
        return self.current != before

    def slow_down(self, now: float) -> bool:
        """Halve it; whether it changed."""
        if now - self._halved_at < _ONE_CAUSE:
            return False
        self.halved += 1
        self._halved_at = now
        self._answers, self._since = 0, 0.0
        before, self.current = self.current, max(1, self.current // 2)
        return self.current != before


class PartsInFlight:
    """How many parts of large objects may be in flight: doubled until the processors are busy.

    Each connection in use costs memory of sockets and threads that wait for each other, so that where the
    line is faster than the processors, few are quicker than many. processors is how many there are.
    """

    def __init__(self, most: int, processors: int) -> None:
        self.most = most
        self.current = min(most, _FIRST_PARTS)
        self._enough = processors / 2  # twice as many requests would keep all of them busy
        self._looked_at = float("-inf")
        self._wanted = 0.0

    def begin_far(self) -> None:
        """Begin with more, before anything is in flight."""
        self.current = min(self.most, _FIRST_PARTS_FAR)

    def look(self, now: float, wanted: Callable[[], float]) -> bool:
        """Judge the time since the last look; whether it changed.

        wanted tells the processor time that was asked for so far.
        """
        seconds = now - self._looked_at
        if seconds < _LOOK_TIME or self.current == self.most:
            return False
        before, self._wanted = self._wanted, wanted()
        self._looked_at = now
        if seconds > _PAUSE or self._wanted - before >= self._enough * seconds:
            return False
        self.current = min(self.most, 2 * self.current)
        return True
