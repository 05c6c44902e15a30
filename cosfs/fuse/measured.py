"""Every handler of the mount, counted and timed, and unable to end the mount by a mistake.

pyfuse3 unmounts on any exception but FUSEError. Operations turns the errors it knows into errnos;
whatever else comes up is logged here and answered with EIO.
"""

from __future__ import annotations

import errno
import logging
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pyfuse3
import trio

from cosfs.fs.metrics import Metrics
from cosfs.fuse.operations import Operations

log = logging.getLogger("cosfs.mount")

Handler = Callable[..., Coroutine[Any, Any, Any]]
HANDLERS = (
    "access", "create", "flush", "forget", "fsync", "fsyncdir", "getattr", "getxattr", "link", "listxattr",
    "lookup", "mkdir", "mknod", "open", "opendir", "read", "readdir", "readlink", "release", "releasedir",
    "removexattr", "rename", "rmdir", "setattr", "setxattr", "statfs", "symlink", "unlink", "write",
)  # fmt: skip


def measure(operations: Operations, metrics: Metrics, about_to_wait: Callable[[], None]) -> Operations:
    """Count and time the handlers of these operations; each that waits calls about_to_wait before."""
    for name in HANDLERS:
        setattr(operations, name, _measured(operations, name, metrics, about_to_wait))
    return operations


def _measured(
    operations: Operations, name: str, metrics: Metrics, about_to_wait: Callable[[], None]
) -> Handler:
    handler: Handler = getattr(operations, name)
    callers, caller_of = operations.callers, operations.caller_of
    operation = metrics.operation(name)
    add, errors, clock = operation.latency.add, operation.errors, time.perf_counter
    is_read, is_write, has_answer = name == "read", name == "write", name != "forget"

    @types.coroutine
    def run(*args: Any) -> Generator[Any, Any, Any]:
        began = clock()
        try:
            handling = handler(*args)
            try:
                waits_for = handling.send(None)
            except StopIteration as done:
                answer = done.value
            else:
                about_to_wait()
                callers.begin(caller_of(name, args))
                try:
                    answer = yield from _rest(handling, waits_for)
                finally:
                    callers.end()
        except pyfuse3.FUSEError as exc:
            errors[exc.errno] += 1
            raise
        except (trio.Cancelled, KeyboardInterrupt):
            raise
        except BaseException as exc:
            metrics.crashes += 1
            errors[errno.EIO] += 1
            log.exception("%s failed by a mistake of this program", name)
            if not has_answer:
                return None
            raise pyfuse3.FUSEError(errno.EIO) from exc
        else:
            if is_read:
                metrics.bytes_read += len(answer)
            elif is_write:
                metrics.bytes_written += answer
            return answer
        finally:
            add(clock() - began)

    return run


def _rest(handling: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Run a coroutine to its end that has begun to wait for something."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as exc:
                waits_for = handling.throw(exc)
            else:
                waits_for = handling.send(sent)
    except StopIteration as done:
        return done.value
