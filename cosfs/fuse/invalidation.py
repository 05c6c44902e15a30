"""Telling the kernel what it must no longer believe, from a thread of its own.

A notification may wait: for pages that are being written back to us, or for the lock of a directory that is
held while a request waits for our answer. From a handler that would be for ever.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

import pyfuse3

log = logging.getLogger(__name__)

WAIT_MAX = 10.0  # seconds; a notification may wait for a request that waits for COS


class Invalidator:
    """A KernelCache that is the kernel's."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._calling = threading.Lock()

    def forget_name(self, parent: int, name: bytes) -> None:
        """Have a name looked up again, be it there or absent."""
        self._put(lambda: pyfuse3.invalidate_entry(parent, name))

    def forget_inode(self, ino: int) -> None:
        """Have the attributes asked for and the pages read again."""
        self._put(lambda: pyfuse3.invalidate_inode(ino))

    def wait(self) -> None:
        """Return when the kernel has been told of all until now. Not to be called in the trio thread."""
        done = threading.Event()
        self._put(done.set)
        done.wait(WAIT_MAX)

    def close(self) -> None:
        """Call nothing any more: the session is about to be freed."""
        held = self._calling.acquire(timeout=WAIT_MAX)
        self._closed = True
        if held:
            self._calling.release()
        self._calls.put(lambda: None)

    def _put(self, call: Callable[[], object]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="invalidation", daemon=True)
            self._thread.start()
        self._calls.put(call)

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            try:
                with self._calling:
                    if self._closed:
                        return
                    call()
            except FileNotFoundError:
                pass  # the kernel had forgotten it already
            except OSError as exc:
                log.debug("the kernel was not told: %s", exc)
