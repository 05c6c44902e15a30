"""Whether this process has enough to do for the processors."""

from __future__ import annotations

import os
import time

__all__ = ["count", "wanted"]

_TASKS = "/proc/self/task"


def count() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def wanted() -> float:
    """Return the seconds that the threads of this process have run, or waited for a processor to run on.

    Beside other programs the process gets less than it wants, and no more if it wants more.
    """
    nanoseconds = 0
    try:
        for task in os.listdir(_TASKS):  # noqa: PTH208 - a tenth of the time
            nanoseconds += _of(task)
    except (OSError, ValueError):
        # A kernel that does not tell.
        return time.process_time()
    return nanoseconds / 1e9


def _of(task: str) -> int:
    try:
        fd = os.open(f"{_TASKS}/{task}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.exists(f"{_TASKS}/{task}"):  # noqa: PTH110 - a name that may be gone any time
            raise
        return 0  # has ended
    try:
        ran, waited, _ = os.read(fd, 100).split()
    finally:
        os.close(fd)
    return int(ran) + int(waited)
