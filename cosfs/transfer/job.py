"""One call of the engine, and its result when that is asked for later."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import outcome
import trio

from cosfs.transfer.scheduler import Queue

if TYPE_CHECKING:
    from cosfs.transfer.engine import Engine

__all__ = ["Job", "Pending", "nobody"]

T = TypeVar("T")


def nobody(*_: object) -> None:
    """Stand in where nothing is left to call."""


class Job:
    """One call: made in the trio thread, run in a worker, delivered in the trio thread."""

    __slots__ = (
        "abandoned",
        "args",
        "deliver",
        "discard",
        "error",
        "fn",
        "here",
        "lazy",
        "queue",
        "undo",
        "value",
    )

    def __init__(
        self,
        queue: Queue[Job],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        deliver: Callable[[Job], None],
        *,
        discard: Callable[[Any], None] | None = None,
        lazy: bool = False,
    ) -> None:
        self.queue = queue
        self.fn = fn
        self.args = args
        self.deliver = deliver
        self.discard = discard
        self.lazy = lazy
        self.abandoned = False
        self.here = False  # not to be tried in another process (again)
        self.undo: Callable[[], None] | None = None
        self.value: Any = None
        self.error: BaseException | None = None

    def is_abandoned(self) -> bool:
        return self.abandoned


_TAKEN: outcome.Outcome[Any] = outcome.Error(RuntimeError("this result was taken already"))


class Pending(Generic[T]):
    """A call under way whose result is asked for later."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._job = job
        self._outcome: outcome.Outcome[T] | None = None
        self._task: trio.lowlevel.Task | None = None

    def _deliver(self, job: Job) -> None:
        if job.abandoned:
            # Given up while the result was on its way to us.
            self._engine._discard_late(job)
            return
        self._outcome = outcome.Value(job.value) if job.error is None else outcome.Error(job.error)
        # No circle of references: a result may be megabytes that must not wait for the collector.
        job.value = job.error = None
        job.deliver = nobody
        if self._task is not None:
            trio.lowlevel.reschedule(self._task, self._outcome)
            self._task, self._outcome = None, _TAKEN

    async def wait(self) -> T:
        """Return the call's result; cancelling gives the call up. To be awaited once."""
        if self._outcome is not None:
            await trio.lowlevel.checkpoint()
            found, self._outcome = self._outcome, _TAKEN
            return found.unwrap()
        self._task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            self.cancel()
            return trio.lowlevel.Abort.SUCCEEDED

        value: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return value

    def cancel(self) -> None:
        """Give the call up; nothing happens if it is done."""
        if self._outcome is None:
            self._engine._abandon(self._job)
