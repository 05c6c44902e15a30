"""Removing local files below a directory, never through a symbolic link."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import islice

import trio

from cosfs.transfer.paths import DestinationRoot, split_key

__all__ = ["unlink_many"]

_BATCH = 500


async def unlink_many(
    path: str, names: Iterable[tuple[str, str]], on_result: Callable[[str, OSError | None], None]
) -> None:
    """Remove files named relative to the directory path; on_result hears of each in the trio thread.

    Beside each name stands the directory above it that stays; others that become empty go as well. A name
    that ends in a slash is a directory, removed only if it is empty. What is gone already counts as removed.
    """
    with DestinationRoot(path, create=False) as root:
        waiting = iter(names)
        while batch := list(islice(waiting, _BATCH)):
            for name, error in await trio.to_thread.run_sync(_unlink_batch, root, batch):
                on_result(name, error)


def _unlink_batch(root: DestinationRoot, batch: list[tuple[str, str]]) -> list[tuple[str, OSError | None]]:
    results: list[tuple[str, OSError | None]] = []
    for name, keep in batch:
        error: OSError | None = None
        try:
            _unlink(root, name, keep)
        except FileNotFoundError:
            pass
        except OSError as failure:
            error = failure
        except Exception as failure:
            error = OSError(str(failure))
        results.append((name, error))
    return results


def _unlink(root: DestinationRoot, name: str, keep: str) -> None:
    parts = split_key(name)
    kept = len(split_key(keep)) if keep else 0
    parent = root.hold_directory(parts[:-1])
    try:
        if name.endswith("/"):
            os.rmdir(parts[-1], dir_fd=parent.fileno())
        else:
            os.unlink(parts[-1], dir_fd=parent.fileno())
    finally:
        parent.__exit__()
    for depth in range(len(parts) - 1, kept, -1):
        above = root.hold_directory(parts[: depth - 1])
        try:
            os.rmdir(parts[depth - 1], dir_fd=above.fileno())
        except OSError:
            return  # there is more in it
        finally:
            above.__exit__()
        root.forget()
