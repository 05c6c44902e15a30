"""Many command lines in one process: each in a thread of its own, all transfers in one engine."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from .output import Output
from .progress import Display, Item
from .running import Run, exit_code, guarded
from .state import State

if TYPE_CHECKING:
    import trio

    from cosfs.client.client import CosClient
    from cosfs.config import Settings, TransferSettings

    from .report import Report
    from .running import Job
    from .transfer_options import Setup


class Batch:
    """What the lines of one `cos run` share."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.report = run.report
        self.printing = threading.Lock()  # of the line that prints data

    def run_job(self, state: State, job: Job, report: Report, setup: Setup | None) -> int:
        """Run the job of one line in the engine of all; called in the thread of that line."""
        import trio

        from cosfs.errors import UsageError

        if setup is not None and _shared(setup.settings) != _shared(self.run.engine.settings):
            raise UsageError(
                "--concurrency and --max-bandwidth of a line would change all others",
                hint="Give them to cos run itself",
            )
        trio.from_thread.run(self._run, state, job, report, setup)
        return exit_code(state, report, setup)

    async def _run(self, state: State, job: Job, report: Report, setup: Setup | None) -> None:
        import trio

        scope = trio.CancelScope()
        run = LineRun(self.run, state, report, scope)
        report.on_failure = run.stop if setup and setup.fail_fast else None
        with scope:
            await guarded(job, run)


def _shared(settings: TransferSettings) -> tuple[int, int]:
    return settings.max_concurrent_requests, settings.max_bandwidth


class LineRun(Run):
    """What the job of one line gets; it stops when all shall stop."""

    def __init__(self, whole: Run, state: State, report: Report, scope: trio.CancelScope) -> None:
        self._whole = whole
        self._stopped = False
        super().__init__(state, whole.engine, LineDisplay(whole.display), report, scope)
        self.left_jobs, self.superseded = whole.left_jobs, whole.superseded

    @property
    def stopping(self) -> bool:
        return self._stopped or self._whole.stopping

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._stopped = value


class LineDisplay(Display):
    """Counts what one line does as a part of the whole; that it is complete says nothing of the others."""

    def __init__(self, whole: Display) -> None:
        self._whole = whole
        self.complete = False

    def expect(self, size: int, name: str = "") -> None:
        self._whole.expect(size, name)

    def advance(self, count: int) -> None:
        self._whole.advance(count)

    def item(self, name: str, size: int) -> Item | None:
        return self._whole.item(name, size)

    def begin(self, item: Item | None) -> None:
        self._whole.begin(item)

    def finish(self, item: Item | None = None) -> None:
        self._whole.finish(item)


class LineState(State):
    """One line: its own options and output, the client of all."""

    def __init__(self, whole: State, batch: Batch, where: str) -> None:
        super().__init__()
        self.options = dict(whole.options)
        self.out = Output(whole.out)
        self.out.where = where
        self.out.quiet, self.out.only_errors = whole.out.quiet, whole.out.only_errors
        self.out.color = whole.out.color
        self.may_ask = False
        self.batch = batch
        self._shared = whole

    def set_option(self, name: str, value: object) -> None:
        from cosfs.errors import UsageError

        if name not in ("quiet", "only_show_errors", "no_progress", "color", "output"):
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is for all lines", hint="Give it to cos run itself")
        super().set_option(name, value)

    @cached_property
    def settings(self) -> Settings:
        assert self.batch is not None
        return replace(self._shared.settings, transfer=self.batch.run.engine.settings)

    @property
    def client(self) -> CosClient:
        return self._shared.client

    def start_logging(self) -> None:
        pass  # done for all

    def close(self) -> None:
        pass  # what it uses is closed when all lines are done
