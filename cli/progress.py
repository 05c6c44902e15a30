"""The progress display: on stderr, only on a terminal, drawn by rich, never in the way of results.

rich computes the picture; taking it off the screen before a result line goes to stdout, which is
usually the same terminal, is done here, because rich would send such lines to stderr.
"""

from __future__ import annotations

import io
import os
import sys
import time
from typing import TYPE_CHECKING

from cosfs.records import dataclass

from .output import folded, printable, width

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from .output import Output
    from .state import State

_INTERVAL = 0.125
_LINE_INTERVAL = 1.0  # of --progress-multiline
_ROWS = 5  # files shown one by one; more are only counted
_ROW_SIZE = 4 << 20  # smaller files are done before anybody could read their row


@dataclass(frozen=True, slots=True)
class Style:
    """How progress is shown: `frequency` seconds apart, None as is usual; lines instead of a picture."""

    frequency: float | None = None
    multiline: bool = False


class Item:
    """One large file under way, shown with a row of its own."""

    def __init__(self, display: Display, name: str, size: int) -> None:
        self._display = display
        self.name = name
        self.size = size
        self.moved = 0

    def advance(self, count: int) -> None:
        """Note bytes moved (negative when a retry begins again)."""
        self.moved += count
        self._display.advance(count)


class Display:
    """Totals and rows of one command. Without a terminal it only counts.

    total grows while sources are still being listed; `complete` says it is final, which is when an
    ETA makes sense.
    """

    def __init__(self, state: State, verb: str, style: Style | None = None) -> None:
        self._out: Output = state.out
        self._verb = verb
        style = style or Style()
        self._shown = state.shows_progress and not style.multiline
        # Where it would be drawn but for the option, or a terminal that cannot (TERM=dumb), lines tell.
        asked = style.frequency is not None or sys.stderr.isatty()
        self._in_lines = state.may_show_progress and asked and not self._shown
        self._pause = style.frequency or (_INTERVAL if self._shown else _LINE_INTERVAL)
        self._started = time.monotonic()
        self._height = 0
        self._console: Console | None = None
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._rows: dict[Item, TaskID] = {}
        self._items: dict[Item, None] = {}
        self._name = ""
        self.moved = 0
        self.total = 0
        self.files = 0
        self.files_done = 0
        self.complete = False

    @property
    def summary_wanted(self) -> bool:
        """Whether somebody watches who wants to hear how it ended."""
        return self._shown or self._in_lines

    def expect(self, size: int, name: str = "") -> None:
        """Add one file to the total; name is shown as long as it is the only one."""
        self._name = name
        self.files += 1
        self.total += size

    def advance(self, count: int) -> None:
        """Note bytes moved."""
        self.moved += count

    def item(self, name: str, size: int) -> Item | None:
        """Return what follows a file with a row of its own; None for one too small to be seen."""
        return Item(self, name, size) if self._shown and size >= _ROW_SIZE else None

    def begin(self, item: Item | None) -> None:
        """Show the row of a file from now on."""
        if item is not None:
            self._items[item] = None

    def finish(self, item: Item | None = None) -> None:
        """Count one file as done and take its row away."""
        self.files_done += 1
        if item is not None:
            self._items.pop(item, None)

    async def run(self) -> None:
        """Draw until cancelled."""
        import trio

        if self._in_lines:
            await self._print_lines()
        if not self._shown:
            return
        self._out.hide = self.hide
        try:
            await trio.sleep(2 * _INTERVAL)  # what is done by then needs no display
            while True:
                self.draw()
                await trio.sleep(self._pause)
        finally:
            self.stop()

    async def _print_lines(self) -> None:
        import trio

        while True:
            await trio.sleep(self._pause)
            self._out.talk(self._line())

    def _line(self) -> str:
        """Say where things stand in one plain line."""
        from cosfs.units import format_duration, format_size

        more = "" if self.complete else "+"
        text = f"{self._verb}: {self.files_done} of {self.files}{more}"
        if not self.total:
            return text
        seconds = time.monotonic() - self._started
        speed = self.moved / max(seconds, 0.001)
        text += f", {format_size(max(0, self.moved))} of {format_size(self.total)}{more}"
        text += f", {format_size(max(0.0, speed))}/s"
        if self.complete and speed > 0:
            text += f", {format_duration(max(0, self.total - self.moved) / speed)} left"
        return text

    def stop(self) -> None:
        """Take the display off the screen for good, and let out what waited for that."""
        self.hide()
        self._out.hide = None
        self._out.release()

    def hide(self) -> None:
        """Take the display off the screen."""
        if self._height:
            up = f"\x1b[{self._height}A" if self._height else ""
            self._write(f"\r{up}\x1b[J")
            self._height = 0

    def draw(self) -> None:
        """Put the display on the screen, in place of the one before."""
        if self._out.waiting:
            self.hide()
            self._out.release()
        picture = self._picture()
        up = f"\r\x1b[{self._height}A" if self._height else ""
        # The new picture goes over the old one and the rest is cleared behind it: no flicker.
        lines = "".join(f"{line}\x1b[K\n" for line in picture)
        self._write(f"{up}{lines}\x1b[J")
        self._height = len(picture)

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._shown = False

    def _picture(self) -> list[str]:
        progress, console = self._tools()
        self._update(progress)
        console.width = max(20, _columns() - 1)  # a full last column would wrap
        buffer = console.file = io.StringIO()
        console.print(progress.make_tasks_table(progress.tasks), no_wrap=True, overflow="ellipsis", crop=True)
        return buffer.getvalue().splitlines()

    def _tools(self) -> tuple[Progress, Console]:
        if self._progress is None or self._console is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._console = Console(
                file=io.StringIO(), force_terminal=True, highlight=False, emoji=False, markup=False,
                no_color=not self._out.colored(), legacy_windows=False,
            )  # fmt: skip
            columns = (
                TextColumn("{task.fields[label]}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[amount]}", markup=False),
                TextColumn("{task.fields[speed_text]}", markup=False),
                TimeRemainingColumn(compact=True),
            )
            self._progress = Progress(*columns, console=self._console, auto_refresh=False, disable=True)
            self._task = self._add(self._verb)
        return self._progress, self._console

    def _add(self, label: str) -> TaskID:
        assert self._progress is not None
        return self._progress.add_task("", total=None, label=label, amount="", speed_text="")

    def _update(self, progress: Progress) -> None:
        assert self._task is not None
        for item in [item for item in self._rows if item not in self._items]:
            progress.remove_task(self._rows.pop(item))
        if self.files > 1:
            for item in list(self._items)[:_ROWS]:
                if item not in self._rows and len(self._rows) < _ROWS:
                    self._rows[item] = self._add("  " + _shortened(printable(item.name)))
            for item, task in self._rows.items():
                self._set(progress, task, item.moved, item.size, final=True)
        count = f" {self.files_done}/{self.files}{'' if self.complete else '+'}"
        if self.files <= 1 and self.complete:
            count = f" {_shortened(printable(self._name))}"
        if self.total or not self.files:
            self._set(progress, self._task, self.moved, self.total, final=self.complete)
        else:
            self._set_count(progress, self._task)
        progress.update(self._task, label=f"{self._verb}{count}")

    def _set_count(self, progress: Progress, task_id: TaskID) -> None:
        """Show how many are done where there are no bytes to count: removals, empty files."""
        progress.update(task_id, completed=self.files_done, total=self.files if self.complete else None)
        speed = progress.tasks[0].speed
        progress.update(task_id, amount="", speed_text=f"{speed:.0f}/s" if speed else "")

    def _set(self, progress: Progress, task_id: TaskID, moved: int, total: int, *, final: bool) -> None:
        from cosfs.units import format_size

        known = total if final and total else None
        progress.update(task_id, completed=max(0, moved), total=known)
        task = next(task for task in progress.tasks if task.id == task_id)
        of = f"/{format_size(total)}{'' if final else '+'}" if total else ""
        speed = f"{format_size(task.speed)}/s" if task.speed and task.speed > 0 else ""
        progress.update(task_id, amount=f"{format_size(max(0, moved))}{of}", speed_text=speed)


def _columns() -> int:
    """Return the width of the terminal that stderr is; stdout may be something else."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _shortened(name: str, limit: int = 28) -> str:
    """Cut a long name in its middle, by the columns it takes: its end tells files apart."""
    if width(name) <= limit:
        return name
    head, tail = folded(name, 10)[0], max(0, len(name) - limit)
    while width(name[tail:]) > limit - 11:
        tail += 1
    return f"{head}…{name[tail:]}"
