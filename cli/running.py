"""Run what moves many bytes: one trio run with the engine, the progress display and Ctrl-C."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from .output import printable, stdout_error

if TYPE_CHECKING:
    import trio

    from cosfs.transfer.ahead import FirstObject, FirstPage
    from cosfs.transfer.engine import Engine
    from cosfs.transfer.lost import Stray

    from .places import Operation
    from .progress import Display
    from .report import Report
    from .state import State
    from .transfer_options import Setup

NOTHING_TRANSFERRED = 9

_KEPT_SHOWN = 5
# How long requests that are under way may take to end after the first Ctrl-C.
_GRACE = 2.0
# How long the end of a command that was not interrupted may take to look for lost uploads.
_LOOKING = 10.0


class Run:
    """What a job gets: the engine, the display, the report, and whether it shall come to its end."""

    def __init__(
        self, state: State, engine: Engine, display: Display, report: Report, scope: trio.CancelScope
    ) -> None:
        self.state = state
        self.engine = engine
        self.display = display
        self.report = report
        self.stopping = False
        self.goes_on = False  # until it is interrupted, and repeats what fails
        self.on_stop: Callable[[], None] | None = None  # for who waits for something that may never come
        # What was written already, where two sources may get one name: the second must not replace the first.
        self.taken: set[str] | None = None
        # Jobs that earlier commands left, and those of them whose transfer this one has done anew.
        self.left_jobs: frozenset[str] = frozenset()
        self.superseded: set[str] = set()
        self._scope = scope

    def transferred(self, op: Operation, source: str, target: str) -> None:
        """Hear of a transfer that succeeded: what is left of an earlier one of the same is of no use."""
        if not self.left_jobs:
            return
        from cosfs.transfer.resume import Records

        if op == "upload":
            source = os.path.abspath(source)  # noqa: PTH100 - a name; nothing is looked at
        elif op == "download":
            target = os.path.abspath(target)  # noqa: PTH100
        job = Records.identity(op, source, target)
        if job in self.left_jobs:
            self.superseded.add(job)

    def note_failure(self, error: BaseException) -> None:
        """Stop if what failed one of many will fail the others as well, one request and one line each."""
        from cosfs.errors import BucketNotFoundError

        from .hopeless import stop_reason

        if self.goes_on and not isinstance(error, BucketNotFoundError):
            return  # it tries again later: the network, the keys or the room may come back
        self.end_early(stop_reason(error, self.report))

    def end_early(self, reason: str) -> None:
        """Stop at once for a reason; an empty one is none."""
        if reason and not self.stopping:
            self.report.ended_early = reason
            self.state.out.error(f"stopped: {reason}")
            self.stop(0)

    def stop(self, grace: float = _GRACE) -> None:
        """Begin nothing new; cancel after a while what is under way."""
        if not self.stopping:
            import trio

            self.stopping = True
            self._scope.deadline = trio.current_time() + grace
            if self.on_stop is not None:
                self.on_stop()


Job = Callable[[Run], Awaitable[None]]


def run_job(
    state: State,
    job: Job,
    report: Report,
    *,
    verb: str,
    setup: Setup | None = None,
    finish: bool = True,
    many: bool = False,
    first_page: FirstPage | None = None,
    first_object: FirstObject | None = None,
) -> int:
    """Run job under trio; finish its report unless that is the caller's; return the exit code.

    many says that there may be very many objects, first_page is the listing that the job begins with,
    first_object the object that it downloads. What COS or the network refuses to the job as a whole
    (a listing) counts as a failed transfer.
    """
    if state.batch is not None:
        code = state.batch.run_job(state, job, report, setup)
        return report.finish(code) if finish else code
    from .quick_trio import import_trio

    import_trio()
    import trio

    from .progress import Display

    display = Display(state, verb, setup.style if setup else None)
    interrupted = trio.run(_supervise, state, job, report, display, setup, many, first_page, first_object)
    if interrupted:
        report.ended_early = "interrupted"
        done = f": {report.summary()}" if report.total else ""
        state.out.error(f"interrupted{done}")
    elif display.summary_wanted and (report.several or (report.unchanged and not report.total)):
        state.out.talk(report.summary())
    code = 128 + interrupted if interrupted else exit_code(state, report, setup)
    return report.finish(code) if finish else code


def exit_code(state: State, report: Report, setup: Setup | None) -> int:
    """Return the exit code of a command that came to its end."""
    if report.exit_code or not (setup and setup.error_on_no_transfer) or report.ok or report.planned:
        return report.exit_code
    state.out.talk("nothing had to be transferred")
    return NOTHING_TRANSFERRED


async def guarded(job: Job, run: Run) -> None:
    from cosfs.errors import IntegrityError, NetworkError, ServiceError

    try:
        await job(run)
    except (ServiceError, NetworkError, IntegrityError) as error:
        run.report.fail(error)


async def _supervise(
    state: State,
    job: Job,
    report: Report,
    display: Display,
    setup: Setup | None,
    many: bool,
    first_page: FirstPage | None,
    first_object: FirstObject | None,
) -> int:
    """Run job; return the signal that ended it early, 0 if none did."""
    import trio

    from cosfs.transfer.concurrency import FIRST
    from cosfs.transfer.descriptors import raise_limit
    from cosfs.transfer.engine import Engine
    from cosfs.transfer.lost import settle
    from cosfs.transfer.resume import Records

    if first_object is not None:
        # Wanted as soon as it is answered, and there is time until then.
        from cosfs.transfer import download  # noqa: F401

        from . import singles  # noqa: F401
    if state.own_process:
        # What was imported stays: no search for cycles shall go through it.
        gc.freeze()
        raise_limit()
    interrupted = 0
    strays: list[Stray] = []
    records = Records(state.settings.resume_path)
    settings = setup.settings if setup else state.settings.transfer
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
                    run.stop(_GRACE if report.total else 0)

            def failed() -> None:
                if not run.stopping:
                    report.ended_early = "--fail-fast"
                    state.out.error("stopped at the first failure, as --fail-fast asks")
                    run.stop()

            nursery.start_soon(display.run)
            with scope:
                # What is said of each request is said by one process.
                side = many and not state.debug
                async with Engine(
                    state.client,
                    settings,
                    records=records,
                    first=FIRST,
                    side=side,
                    first_page=first_page,
                    first_object=first_object,
                ) as engine:
                    run = Run(state, engine, display, report, scope)
                    run.left_jobs = frozenset(each for each in records.ids() if not records.is_running(each))
                    report.on_failure = failed if setup and setup.fail_fast else None
                    nursery.start_soon(watch)
                    try:
                        await guarded(job, run)
                        await _discard_superseded(run)
                    finally:
                        strays = await settle(engine, _GRACE if interrupted else _LOOKING)
            nursery.cancel_scope.cancel()
    _tell_kept(state, records.kept)
    _tell_strays(state, strays)
    return interrupted


async def _discard_superseded(run: Run) -> None:
    """Give up what earlier commands left of transfers that this one has begun anew, and done.

    Those that were gone on with are forgotten already.
    """
    if not run.superseded:
        return  # nearly always, and without the imports
    from cosfs.errors import COSError
    from cosfs.transfer.jobs import discard

    for job in run.superseded:
        try:
            await discard(run.engine, job)
        except (COSError, OSError) as error:
            run.state.out.warn(f"job {job[:12]} is done, but what it has left cannot be removed: {error}")


def _tell_kept(state: State, kept: list[str]) -> None:
    """Say how to go on with what was interrupted."""
    for job_id in kept[:_KEPT_SHOWN]:
        state.out.failure(f"resume with: cos jobs resume {job_id[:12]}")
    if len(kept) > _KEPT_SHOWN:
        state.out.failure(f"and {len(kept) - _KEPT_SHOWN} more; 'cos jobs list' shows them")


def _tell_strays(state: State, strays: list[Stray]) -> None:
    """Say which uploads may be left open because an answer was lost, and how to be rid of them."""
    for stray in strays[:_KEPT_SHOWN]:
        state.out.warn(printable(str(stray)))
    if len(strays) > _KEPT_SHOWN:
        more = len(strays) - _KEPT_SHOWN
        state.out.warn(f"{more} more such uploads may be open; 'cos multipart ls' shows them")


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
