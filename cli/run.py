"""`cos run`: many cos commands out of a file, in one process."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import DURATION, RATE, SIZE, command, complete_places, dryrun_option

if TYPE_CHECKING:
    from .running import Run
    from .state import State

# Of no use in a batch: they serve, mount, ask, or run commands themselves.
NOT_RUNNABLE = frozenset(
    {
        *("completion", "config", "configure", "doctor", "emulator", "jobs", "mount", "run", "status"),
        "umount",
    }
)
# What these print are results, which the report of all writes; others print data of their own.
_REPORTING = frozenset({"abort", "check", "cp", "mb", "mv", "rb", "rm", "sync"})
# What these print is not in lines, even with --output jsonl.
_PRINTING_BYTES = frozenset({"cat", "head", "tail"})
_AT_ONCE = 64  # lines; their requests are limited by --concurrency


@dataclass(frozen=True, slots=True)
class Line:
    """One command; number counts the lines of its file. problem says why it cannot be read."""

    number: int
    args: list[str]
    problem: str = ""

    @property
    def prints_data(self) -> bool:
        return self.args[0] not in _REPORTING or self._copies_to_stdout

    @property
    def _copies_to_stdout(self) -> bool:
        return self.args[0] == "cp" and "-" in self.args

    def keeps_stdout(self, output: str) -> bool:
        """Whether what it prints must not stand between the results of other lines."""
        from .main import COMMANDS

        if output == "jsonl":
            return self.args[0] in _PRINTING_BYTES or self._copies_to_stdout
        return self.prints_data and not self.problem and self.args[0] in COMMANDS


@command("run")
@click.argument("file", metavar="FILE|-", required=False, shell_complete=complete_places)
@click.option("--retry-failed", metavar="REPORT", help="Do again what failed in a --report.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first line that fails.")
@dryrun_option
@click.option(
    "--concurrency", type=click.IntRange(1, 1024), metavar="N", help="Requests of all lines at the same time."
)
@click.option("--part-size", type=SIZE, metavar="SIZE", help="Parts of large files; raised where needed.")
@click.option("--max-bandwidth", type=RATE, metavar="RATE", help="Bytes a second of all lines.")
@click.option("--report", metavar="FILE", help="Write every result to FILE, one JSON object a line.")
@click.option(
    "--progress-frequency", type=DURATION, metavar="TIME", help="Without a terminal: a line so often."
)
@click.option("--progress-multiline", is_flag=True, help="Print progress line by line.")
@click.pass_obj
def run(state: State, /, file: str | None, retry_failed: str | None, **values: Any) -> int:
    """Run the commands in FILE (- is standard input), one a line without the leading cos.

    Words are quoted as in a shell; lines that begin with # are comments. Many lines run at the same
    time, in any order, and their transfers share one engine: do not let one line depend on another.
    Those that print data (ls, cat) take turns, and have standard output for themselves: results then
    go to standard error (if the lines come from a pipe, from the first such line on). With --output json
    the results are one document, in which such data has no place; --output jsonl takes both, bytes apart.

    A line that fails does not stop the others. The exit code is 1 if one failed, 2 if one skipped
    something.

    \b
    Examples:
      cos run commands.txt --concurrency 64
      sed 's/.*/cp "&" cos:\\/\\/bucket\\/in\\//' names.txt | cos run -
      cos cp -r ./dir cos://bucket/ --report r.jsonl || cos run --retry-failed r.jsonl
    """
    from cosfs.errors import TransferError, UsageError

    from .report import Report
    from .running import run_job
    from .transfer_options import pop_setup

    if (file is None) == (retry_failed is None):
        raise UsageError("name either a file of commands or --retry-failed REPORT")
    unfinished = ""
    if retry_failed is not None:
        failed, unfinished = failed_lines(retry_failed)
        lines: Iterator[Line] = iter(failed)
    elif file == "-":
        lines = read_lines(sys.stdin)
    else:
        checked = _checked_lines(str(file), state.format)
        state.out.aside = any(line.keeps_stdout(state.format) for line in checked)
        lines = iter(checked)
    setup = pop_setup(state, {**values, "error_on_no_transfer": False})
    report = Report(state, report_file=setup.report)

    async def job(run: Run) -> None:
        await _run_lines(state, run, lines, dryrun=values["dryrun"], fail_fast=setup.fail_fast)
        if unfinished:
            report.fail(TransferError(f"{retry_failed} does not hold everything: {unfinished}", hint=_AGAIN))

    return run_job(state, job, report, verb="running", setup=setup, many=True)


async def _run_lines(state: State, run: Run, lines: Iterator[Line], *, dryrun: bool, fail_fast: bool) -> None:
    import trio

    from .batch import Batch

    batch = Batch(run)
    limiter = trio.CapacityLimiter(_AT_ONCE)
    room = trio.Semaphore(_AT_ONCE)

    async def run_one(line: Line) -> None:
        try:
            code = await trio.to_thread.run_sync(_run_line, state, batch, line, dryrun, limiter=limiter)
        finally:
            room.release()
        if code and fail_fast and not run.stopping:
            state.out.error(f"stopped at line {line.number}, as --fail-fast asks")
            run.stop()

    async with trio.open_nursery() as nursery:
        while not run.stopping:
            await room.acquire()
            # Standard input may take its time; a thread waits for it, left behind if it never comes.
            line = await trio.to_thread.run_sync(next, lines, None, abandon_on_cancel=True)
            if line is None:
                break
            state.out.aside |= line.keeps_stdout(state.format)
            nursery.start_soon(run_one, line)
    run.display.complete = True


def _run_line(state: State, batch: Any, line: Line, dryrun: bool) -> int:
    """Run one line in this thread; return its exit code."""
    from cosfs.errors import UsageError

    from .batch import LineState
    from .main import cos, tell

    own = LineState(state, batch, f"line {line.number}: ")
    try:
        args = _runnable(line, state.format)
        if dryrun and not _has_dryrun(args[0]):
            state.out.result(f"(dryrun) cos {shlex.join(line.args)}")
            return 0
        if dryrun:
            args = [args[0], "--dryrun", *args[1:]]
        with batch.printing if line.prints_data else nullcontext():
            if line.prints_data and batch.run.stopping:
                return 0  # it has waited for its turn
            result = cos.main(args, prog_name="cos", standalone_mode=False, obj=own)
        code = result if isinstance(result, int) else 0
    except Exception as error:
        code = tell(own, UsageError(str(error)) if isinstance(error, ValueError) else error)
        batch.report.line_failed(line.number, line.args, error)
    else:
        if code not in (0, 2) and not own.failed_items:
            batch.report.line_failed(line.number, line.args, None)
    return code


def _runnable(line: Line, output: str) -> list[str]:
    """Return the command of a line; refuse what cannot be run here."""
    from cosfs.errors import UsageError

    from .main import COMMANDS

    args = line.args
    if line.problem:
        raise UsageError(f"{line.problem}: {args[0]}")
    if args[0] not in COMMANDS:
        raise UsageError(f"there is no command {args[0]!r}")
    if args[0] in NOT_RUNNABLE:
        raise UsageError(f"{args[0]!r} cannot be run from a file")
    if args[0] in ("cp", "mv", "sync") and "-" in args[1:-1]:
        raise UsageError("standard input is not for the lines of a file", hint="Name a file to copy")
    if output == "json" and line.prints_data:
        raise UsageError(
            f"what {args[0]!r} prints has no place in the one JSON document of all results",
            hint="Use --output jsonl",
        )
    return args


def _has_dryrun(name: str) -> bool:
    from .main import cos

    found = cos.get_command(click.Context(cos), name)
    assert found is not None
    return any(param.name == "dryrun" for param in found.params)


# --- where lines come from


def read_lines(stream: Any) -> Iterator[Line]:
    """Read commands as they come; a line whose quotes do not close is an error of its own."""
    for number, text in enumerate(stream, 1):
        stripped = text.strip(" \t\r\n")
        if not stripped or stripped.startswith("#"):
            continue
        try:
            words = shlex.split(stripped)
        except ValueError as error:
            yield Line(number, [stripped], str(error).lower())
            continue
        if words[:1] == ["cos"]:
            del words[0]
        if words:
            yield Line(number, words)


def _checked_lines(file: str, output: str) -> list[Line]:
    """Read a whole file; what cannot be a command is refused before any is run."""
    from cosfs.errors import UsageError

    try:
        text = Path(file).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    lines = list(read_lines(text.split("\n")))  # splitlines knows more ends, which keys can hold
    for line in lines:
        try:
            _runnable(line, output)
        except UsageError as error:
            raise UsageError(f"line {line.number} of {file}: {error.message}", hint=error.hint) from None
    return lines


_RETRY: dict[str, Callable[[str, str, list[str]], list[str]]] = {
    "upload": lambda src, dst, options: ["cp", *options, "--", src, dst],
    "download": lambda src, dst, options: ["cp", "--no-glob", *options, "--", src, dst],
    "copy": lambda src, dst, options: ["cp", "--no-glob", *options, "--", src, dst],
    "move": lambda src, dst, options: ["mv", "--no-glob", *options, "--", src, dst],
    "delete": lambda _, dst, __: ["rm", "--", dst],
}


_AGAIN = "What it had not begun is not in it; run the command itself again"


def failed_lines(file: str) -> tuple[list[Line], str]:
    """Return the commands that do again what failed in a report, with the options it was tried with.

    The second value says why there may be more to do than the report knows of.
    """
    from cosfs.errors import UsageError

    from .selecting import event_end

    lines: list[Line] = []
    common: dict[str, Any] = {}
    unfinished, summary = "", False
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    for number, text in enumerate(data.splitlines(), 1):
        try:
            event = json.loads(text)
        except ValueError:
            event = None
        if event is None and number > 1 and data.endswith(text):
            break  # the process was killed while it wrote this
        if not isinstance(event, dict):
            raise UsageError(f"line {number} of {file} is not an event of a report")
        if event.get("type") == "command":
            common = event
        elif event.get("type") == "summary":
            summary = True
            unfinished = str(event.get("ended_early") or "") or unfinished
        elif event.get("type") == "error":
            unfinished = str((event.get("error") or {}).get("message") or "the command failed")
        if event.get("status") != "failed" or event.get("op") not in _RETRY:
            continue
        source, target = event_end(event, "src"), event_end(event, "dst")
        given = event if "command" in event else common
        options = [str(option) for option in given.get("options") or ()]
        if given.get("left_out"):
            names = ", ".join(given["left_out"])
            raise UsageError(f"the report does not hold {names}", hint="Run the command itself again")
        if event["op"] != "delete" and not (source and target):
            raise UsageError(f"line {number} of {file} does not say where {source or target} shall go")
        if event["op"] == "delete" and event.get("version_id"):
            lines.append(Line(number, ["rm", "--version-id", event["version_id"], "--", target]))
            continue
        lines.append(Line(number, _RETRY[event["op"]](source, target, options)))
    return lines, unfinished if summary else "the command has not come to its end"
