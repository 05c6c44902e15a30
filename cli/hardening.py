"""A process that holds secrets: no core dumps, and no look into it by other processes of the same user."""

from __future__ import annotations

_PR_SET_DUMPABLE = 4


def protect_secrets() -> None:
    """Forbid core dumps of this process and that debuggers attach to it, where that can be done."""
    import ctypes
    import resource

    try:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        # Where cores are piped to a program the limit is not asked; this is.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (OSError, ValueError, AttributeError):
        pass
