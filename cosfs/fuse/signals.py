"""What a running mount does on signals.

SIGTERM, SIGINT   unmount, send everything, end; a second one ends at once
SIGHUP            the same if the mount was started in a terminal, which is gone now; else as SIGUSR1
SIGUSR1           open the log file anew
SIGUSR2           log everything, or as before
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import pyfuse3
import trio

from cosfs.errors import COSError
from cosfs.fuse import control, logs, supervisor
from cosfs.fuse.running import Mount

log = logging.getLogger("cosfs.mount")

_ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


async def obey(running: Mount, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Do as signals say until cancelled; started when none ends the process by itself any longer."""
    has_terminal = running.mount.foreground and sys.stderr.isatty()
    with trio.open_signal_receiver(*_ALL) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGUSR2:
                logs.switch_debugging(running.mount)
            elif number == signal.SIGUSR1 or (number == signal.SIGHUP and not has_terminal):
                logs.reopen()
            else:
                await _stop(running, signal.Signals(number))


async def _stop(running: Mount, number: signal.Signals) -> None:
    """Take the filesystem off its mountpoint and let the mount end."""
    if running.stopping:
        log.error("%s again: ending now; what is pending stays in the journal", number.name)
        os._exit(128 + number)
    log.info("%s: unmounting %s", number.name, running.mount.mountpoint)
    running.stopping = True
    supervisor.tell_stopping(running.pending_count())
    # Detached, the mountpoint is empty for newcomers while open files can still be closed.
    await trio.to_thread.run_sync(_detach, running.mount.mountpoint, abandon_on_cancel=True)
    pyfuse3.terminate()


def _detach(mountpoint: Path) -> None:
    try:
        control.detach(mountpoint, lazy=True)
    except COSError as exc:
        log.warning("%s", exc)
