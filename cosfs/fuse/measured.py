"""Every handler of the mount, counted and timed, and unable to end the mount by a mistake.

pyfuse3 unmounts on any exception but FUSEError. Operations turns the errors it knows into errnos;
whatever else comes up is logged here and answered with EIO.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pyfuse3
import trio

from cosfs.fs.metrics import Metrics
from cosfs.fuse.operations import Operations

log = logging.getLogger("cosfs.mount")

Handler = Callable[..., Awaitable[Any]]
HANDLERS = (
    "access", "create", "flush", "forget", "fsync", "fsyncdir", "getattr", "getxattr", "link", "listxattr",
    "lookup", "mkdir", "mknod", "open", "opendir", "read", "readdir", "readlink", "release", "releasedir",
    "removexattr", "rename", "rmdir", "setattr", "setxattr", "statfs", "symlink", "unlink", "write",
)  # fmt: skip


def measure(operations: Operations, metrics: Metrics) -> Operations:
    """Count and time the handlers of these operations from now on."""
    for name in HANDLERS:
        setattr(operations, name, _measured(getattr(operations, name), name, metrics))
    return operations


def _measured(handler: Handler, name: str, metrics: Metrics) -> Handler:
    operation = metrics.operation(name)
    add, errors, clock = operation.latency.add, operation.errors, time.perf_counter
    is_read, is_write, has_answer = name == "read", name == "write", name != "forget"

    async def run(*args: Any) -> Any:
        began = clock()
        try:
            answer = await handler(*args)
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
