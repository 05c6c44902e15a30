"""Run what moves many bytes: one trio run with the engine, the progress display and Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .output import stdout_error

if TYPE_CHECKING:
    from cosfs.config import TransferSettings
    from cosfs.transfer.engine import Engine

    from .progress import Display
    from .report import Report
    from .state import State

# How long requests that are under way at the first Ctrl-C may take to end.
_GRACE = 1.0


class Run:
    """What a job gets: the engine, the display, the report, and whether it shall come to its end."""

    def __init__(self, state: State, engine: Engine, display: Display, report: Report) -> None:
        self.state = state
        self.engine = engine
        self.display = display
        self.report = report
        self.stopping = False


Job = Callable[[Run], Awaitable[None]]


def transfer_settings(
    state: State,
    *,
    concurrency: int | None = None,
    part_size: int | None = None,
    max_bandwidth: int | None = None,
) -> TransferSettings:
    """Return the transfer settings with what the command's own options change."""
    changes: dict[str, Any] = {
        "max_concurrent_requests": concurrency,
        "multipart_chunksize": part_size,
        "max_bandwidth": max_bandwidth,
    }
    return replace(state.settings.transfer, **{name: value for name, value in changes.items() if value})


def run_job(
    state: State,
    job: Job,
    report: Report,
    *,
    verb: str,
    settings: TransferSettings | None = None,
    finish: bool = True,
) -> int:
    """Run job under trio; finish its report unless that is the caller's; return the exit code.

    What COS or the network refuses to the job as a whole (a listing) counts as a failed transfer.
    """
    import trio

    interrupted = trio.run(_supervise, state, job, report, verb, settings or state.settings.transfer)
    if interrupted:
        done = f": {report.ok} done before" if report.ok else ""
        state.out.error(f"interrupted{done}")
    code = 128 + interrupted if interrupted else report.exit_code
    return report.finish(code) if finish else code


async def _guarded(job: Job, run: Run) -> None:
    from cosfs.errors import IntegrityError, NetworkError, ServiceError

    try:
        await job(run)
    except (ServiceError, NetworkError, IntegrityError) as error:
        run.report.fail(error)


async def _supervise(state: State, job: Job, report: Report, verb: str, settings: TransferSettings) -> int:
    """Run job; return the signal that ended it early, 0 if none did."""
    import trio

    from cosfs.transfer.engine import Engine

    from .progress import Display

    display = Display(state, verb)
    interrupted = 0
    with trio.open_signal_receiver(*_signals()) as signals:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def watch() -> None:
                nonlocal interrupted
                async for number in signals:
                    if interrupted:
                        display.stop()
                        os._exit(128 + number)
                    interrupted = number
                    run.stopping = True
                    scope.deadline = trio.current_time() + (_GRACE if report.total else 0)

            nursery.start_soon(display.run)
            with scope:
                async with Engine(state.client, settings) as engine:
                    run = Run(state, engine, display, report)
                    nursery.start_soon(watch)
                    await _guarded(job, run)
            nursery.cancel_scope.cancel()
    return interrupted


def _signals() -> list[signal.Signals]:
    """Return the signals that end us; one that our parent had us ignore (nohup, `&`) stays ignored."""
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]


class Stdout:
    """Standard output as a sink of transfers; says so when nobody reads any more."""

    def write(self, data: bytes | memoryview) -> int:
        try:
            sys.stdout.buffer.write(data)
        except OSError as error:
            raise stdout_error(error) from None
        return len(data)

    def flush(self) -> None:
        try:
            sys.stdout.buffer.flush()
        except OSError as error:
            raise stdout_error(error) from None
