"""How many requests may be in flight with the files that this process may have open (`ulimit -n`)."""

from __future__ import annotations

import resource

__all__ = ["most_calls", "raise_limit"]

# What is open beside the requests: listings, directories kept open, records, pipes, what programs inherit.
_OTHERS = 48
# A connection, a file and its directory.
_PER_CALL = 3


def raise_limit() -> None:
    """Allow this process what the user is allowed: 1,024, the usual soft limit, or fewer are soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_calls() -> int:
    """Return how many requests have enough files; at least two, as nothing could be done with fewer."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1 << 30
    return max(2, (soft - _OTHERS) // _PER_CALL)
