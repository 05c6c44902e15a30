"""Whether this process has enough to do for the processors."""

from __future__ import annotations

import os
import time

__all__ = ["count", "wanted"]

_TASKS = "/proc/{}/task"


def count() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def wanted(other: int = 0) -> float:
    """Return the seconds that the threads of this process have run, or waited for a processor to run on.

    Beside other programs the process gets less than it wants, and no more if it wants more. other is the
    number of a process that works for this one.
    """
    try:
        return (_of_process("self") + (_of_process(str(other)) if other else 0)) / 1e9
    except (OSError, ValueError):
        # A kernel that does not tell.
        return time.process_time()


def _of_process(process: str) -> int:
    tasks = _TASKS.format(process)
    return sum(_of(f"{tasks}/{task}") for task in os.listdir(tasks))  # noqa: PTH208 - a tenth of the time


def _of(task: str) -> int:
    try:
        fd = os.open(f"{task}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.exists(task):  # noqa: PTH110 - a name that may be gone any time
            raise
        return 0  # has ended
    try:
        ran, waited, _ = os.read(fd, 100).split()
    finally:
        os.close(fd)
    return int(ran) + int(waited)
