"""Which job runs next: slots shared evenly between kinds, then between the queues of a kind. Pure.

No threads and no trio here; the engine calls everything with its lock held.

A kind is what the jobs are for (`request` for single calls that somebody waits for, `small` for
whole small files, `parts` and `large` for parts). A queue is one file's parts, or one stream of jobs.
The next job comes from the kind with the fewest running jobs and in it from the queue with the fewest, so
a big file uses every slot while it is alone and gives half of them up when small files come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

__all__ = ["PARTS", "REQUEST", "Queue", "Scheduler"]

REQUEST = "request"
PARTS = "parts"  # of a large file that is moved as a whole
NO_LIMITS: Mapping[str, int] = MappingProxyType({})


class Schedulable(Protocol):
    abandoned: bool


J = TypeVar("J", bound=Schedulable)


class Queue(Generic[J]):
    """Jobs that are run in order, as one share of its kind."""

    __slots__ = ("active", "kind", "waiting")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.waiting: deque[J] = deque()
        self.active: set[J] = set()


class _Lane(Generic[J]):
    __slots__ = ("kind", "ready", "running")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.running = 0
        self.ready: deque[Queue[J]] = deque()


class Scheduler(Generic[J]):
    """All waiting and running jobs; at most limit of them run at once.

    One slot in eight is kept for kind `request`: a lookup never waits for a part to end. bulk_limit
    is a further limit on all other kinds together, most_of on single ones.
    """

    def __init__(
        self, limit: int, bulk_limit: int | None = None, most_of: Mapping[str, int] = NO_LIMITS
    ) -> None:
        self._most_bulk = 1 << 30 if bulk_limit is None else bulk_limit
        self._most_of = {**most_of}
        self.set_limit(limit)
        self.running = 0
        self.waiting = 0  # jobs, of all queues
        self._requests: _Lane[J] = _Lane(REQUEST)
        self._lanes = {REQUEST: self._requests}

    def _lane(self, kind: str) -> _Lane[J]:
        lane = self._lanes.get(kind)
        if lane is None:
            lane = self._lanes[kind] = _Lane(kind)
        return lane

    def add(self, queue: Queue[J], job: J) -> None:
        """Put a job at the end of its queue."""
        if not queue.waiting:
            self._lane(queue.kind).ready.append(queue)
        queue.waiting.append(job)
        self.waiting += 1

    def take(self) -> J | None:
        """Start the next job, if one waits and a slot is free for it."""
        while (lane := self._choose_lane()) is not None:
            queue = self._choose_queue(lane)
            job = queue.waiting.popleft()
            self.waiting -= 1
            lane.ready.remove(queue)
            if queue.waiting:
                # To the end: of queues with equal shares each has its turn.
                lane.ready.append(queue)
            if job.abandoned:
                continue
            queue.active.add(job)
            lane.running += 1
            self.running += 1
            return job
        return None

    def set_limits(self, limit: int) -> None:
        """Let at most limit jobs run at once, of every kind and in all; nothing is kept back."""
        self.limit = limit
        self.bulk_limit = min(limit, self._most_bulk)

    def set_limit(self, limit: int) -> None:
        """Let at most limit jobs run at once; those that run beyond it go on."""
        self.limit = limit
        reserve = max(1, limit // 8) if limit >= 4 else 0
        self.bulk_limit = min(limit - reserve, self._most_bulk)

    def set_most(self, kind: str, most: int) -> None:
        """Let at most so many jobs of a kind run at once."""
        self._most_of[kind] = most

    @property
    def anything_waits(self) -> bool:
        """Whether more jobs would run if they could."""
        return any(lane.ready for lane in self._lanes.values())

    def _has_room(self, kind: str) -> bool:
        """Whether a job of a kind could run."""
        if self.running >= self.limit:
            return False
        if kind == REQUEST:
            return True
        most = self._most_of.get(kind)
        if most is not None and self._lane(kind).running >= most:
            return False
        return self.running - self._requests.running < self.bulk_limit

    def _choose_lane(self) -> _Lane[J] | None:
        best: _Lane[J] | None = None
        for lane in self._lanes.values():
            if lane.ready and (best is None or lane.running < best.running) and self._has_room(lane.kind):
                best = lane
        return best

    @staticmethod
    def _choose_queue(lane: _Lane[J]) -> Queue[J]:
        best = lane.ready[0]
        for queue in lane.ready:
            if len(queue.active) < len(best.active):
                best = queue
        return best

    def finish(self, queue: Queue[J], job: J) -> None:
        """Free the slot of a job that ended, or that nobody waits for any more."""
        if job in queue.active:
            queue.active.discard(job)
            self._lanes[queue.kind].running -= 1
            self.running -= 1

    def clear(self, queue: Queue[J]) -> tuple[list[J], list[J]]:
        """Drop what waits in a queue and free the slots of what runs; return both."""
        waiting, active = [*queue.waiting], [*queue.active]
        if waiting:
            self.waiting -= len(waiting)
            queue.waiting.clear()
            self._lanes[queue.kind].ready.remove(queue)
        for job in active:
            self.finish(queue, job)
        return waiting, active

    def startable(self) -> int:
        """Return how many threads could find work now, at most."""
        bulk = 0
        for lane in self._lanes.values():
            if lane is not self._requests:
                waiting = sum(len(queue.waiting) for queue in lane.ready)
                most = self._most_of.get(lane.kind)
                bulk += waiting if most is None else max(0, min(waiting, most - lane.running))
        bulk = min(bulk, self.bulk_limit - self.running + self._requests.running)
        requests = sum(len(queue.waiting) for queue in self._requests.ready)
        return max(0, min(max(0, bulk) + requests, self.limit - self.running))
