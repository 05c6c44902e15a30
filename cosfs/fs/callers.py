"""Who waits for an answer, and an end to it for those who were killed meanwhile.

A process that waits for a filesystem in user space cannot die before it is answered, not even by SIGKILL.
The kernel tells libfuse that it would like to, which pyfuse3 hands on to nobody: so its state is looked at
now and then. Only who dies of the signal is let go: programs that handle it would take EINTR from close() or
fsync(), which no local disk gives them, for an error.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from trio.lowlevel import Task, current_task

from cosfs.errors import FilesystemError

__all__ = ["Callers", "is_dying"]

PERIOD = 0.5  # seconds between two looks at those who wait
PROC = Path("/proc")
HARMLESS = {"SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"}
DEADLY = sum(1 << each - 1 for each in signal.valid_signals() if getattr(each, "name", "") not in HARMLESS)
KILL = 1 << signal.SIGKILL - 1
EXITING = 0x4  # PF_EXITING of the kernel


class Callers:
    """The processes whose calls are being answered; for the trio thread only."""

    def __init__(self) -> None:
        self._pids: dict[Task, int] = {}
        self._waiting: dict[Task, trio.CancelScope] = {}
        self._some = trio.Event()

    def begin(self, pid: int) -> None:
        """This task answers a call of a process from now on; 0 if that is not known."""
        if pid > 0:
            self._pids[current_task()] = pid

    def end(self) -> None:
        """This task has answered."""
        self._pids.pop(current_task(), None)

    @contextmanager
    def may_leave(self) -> Iterator[None]:
        """Inside, wait for something that goes on without the caller; EINTR when that is killed."""
        task = current_task()
        if task in self._waiting:
            yield
            return
        with trio.CancelScope() as scope:
            self._waiting[task] = scope
            self._some.set()
            try:
                yield
            finally:
                del self._waiting[task]
        if scope.cancelled_caught:
            raise FilesystemError(errno.EINTR, "the process that waited for it was killed")

    async def run(self) -> None:
        """Let those go who are dying, until cancelled."""
        while True:
            await self._some.wait()
            await trio.sleep(PERIOD)
            for task, scope in list(self._waiting.items()):
                if is_dying(self._pids.get(task, 0)):
                    scope.cancel()
            if not self._waiting:
                self._some = trio.Event()


def is_dying(pid: int) -> bool:
    """Whether a thread is stuck in a call and will die of a signal as soon as that ends."""
    if pid <= 0:
        return False
    try:
        status = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
        numbers = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return False
    fields = numbers.split()  # from the third on of proc(5): state, …, flags, …, exit code
    if len(fields) < 50 or fields[0] != "D":
        return False
    if int(fields[6]) & EXITING:
        return bool(int(fields[49]) & 0x7F)  # it closes its files, and has died of this signal
    masks = dict(line.split(":", 1) for line in status.splitlines() if line.startswith(("Sig", "Shd")))
    pending = int(masks["SigPnd"], 16) | int(masks["ShdPnd"], 16)
    kept = int(masks["SigBlk"], 16) | int(masks["SigIgn"], 16) | int(masks["SigCgt"], 16)
    return bool(pending & DEADLY & (~kept | KILL))
