"""What reaches the user: lines, tables and JSON on stdout, talk on stderr. Imports nothing heavy."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, zip_longest

from cosfs.records import dataclass

FORMATS = ("table", "json", "jsonl", "text")
LINES = "lines"  # no --output given and stdout is no terminal: what `aws s3` prints

# Bidirectional overrides are in the list because they can make one name look like another.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


class StdoutClosedError(Exception):
    """Whoever read our stdout went away; the program ends silently with 141."""


def stdout_error(error: OSError) -> Exception:
    """Return what to raise when stdout takes no more."""
    if isinstance(error, BrokenPipeError):
        return StdoutClosedError()
    return OSError(error.errno, error.strerror, "standard output")


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8 in a local name
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def printable(text: str) -> str:
    """Escape what could confuse a terminal: control characters, direction marks, bytes that are not UTF-8."""
    return text if text.isprintable() else _UNSAFE.sub(_escape, text)


def width(text: str) -> int:
    """Count the columns text takes on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    # Vowel signs that stand beside their letter take a column in most terminals, which rich does not count.
    return cell_len(text) + sum(unicodedata.category(char) == "Mc" for char in text)


def folded(text: str, columns: int) -> list[str]:
    """Cut text into pieces that take so many columns at most, at a space where one is near the end."""
    lines = []
    while width(text) > columns:
        fits = 1
        while width(text[: fits + 1]) <= columns:
            fits += 1
        head = text[:fits]
        cut = head.rfind(" ") + 1
        if cut > columns // 2 and not text[len(head) :].startswith(" "):
            head = head[:cut]
        lines.append(head)
        text = text[len(head) :]
    return [*lines, text]


_TOGETHER = 2000  # lines

# Breaking down each time of a listing would cost more than all the rest of a line: minutes are kept.
_KEPT = 50_000
_SECONDS = tuple(f"{second:02d}" for second in range(60))
_local_minutes: dict[int, str] = {}
_utc_minutes: dict[int, str] = {}


def local_time(seconds: float) -> str:
    """Print a time as AWS does: local, to the second."""
    minute, second = divmod(int(seconds), 60)
    start = _local_minutes.get(minute)
    if start is None:
        start = time.strftime("%Y-%m-%d %H:%M:", time.localtime(minute * 60))
        _keep(_local_minutes, minute, start)
    return start + _SECONDS[second]


def local_times(moments: Iterable[float]) -> list[str]:
    """Print many times as local_time does; objects that were sent together have the same second."""
    known: dict[float, str] = {}
    return [known.get(moment) or known.setdefault(moment, local_time(moment)) for moment in moments]


def utc_time(seconds: float) -> str:
    """Print a time as COS does in its answers."""
    minute, second = divmod(int(seconds), 60)
    start = _utc_minutes.get(minute)
    if start is None:
        start = time.strftime("%Y-%m-%dT%H:%M:", time.gmtime(minute * 60))
        _keep(_utc_minutes, minute, start)
    return f"{start}{_SECONDS[second]}Z"


def _keep(minutes: dict[int, str], minute: int, start: str) -> None:
    if len(minutes) >= _KEPT:
        minutes.clear()
    minutes[minute] = start


class Output:
    """The only writer of stdout and stderr.

    While a progress display is on the same screen (hide is set), it takes itself off before anything
    is written, and lines for stdout wait until its next tick (release): a display that came and went
    with each of a thousand lines a second would not be seen.
    """

    no_stdout = False  # it was closed before we were started

    def __init__(self, within: Output | None = None) -> None:
        """Write to the streams; or, as one of several commands at once, by way of another Output."""
        self._within = within
        self._lock = threading.RLock()
        self.quiet = False  # nothing but the exit code
        self.only_errors = False  # no result lines
        self.aside = False  # result lines on stderr, because stdout is for data of others
        self.color = "auto"
        self.where = ""  # put before errors: "line 3: "
        self.hide: Callable[[], None] | None = None
        self._shown_once: set[str] = set()
        self._waiting: list[bytes] = []

    # --- stdout

    def write(self, data: bytes, *, flush: bool = False) -> None:
        """Write bytes to stdout."""
        if self._within is not None:
            self._within.write(data, flush=True)
            return
        with self._lock:
            self._write(data, flush)

    def _write(self, data: bytes, flush: bool) -> None:
        if self.hide is not None and sys.stdout.isatty():
            self._waiting.append(data)
            return
        try:
            sys.stdout.buffer.write(data)
            if flush or sys.stdout.isatty():
                sys.stdout.buffer.flush()
        except OSError as error:
            raise stdout_error(error) from None

    @property
    def waiting(self) -> bool:
        """Whether lines wait for the progress display to make room."""
        return bool(self._waiting)

    def release(self) -> None:
        """Write the lines that wait."""
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            try:
                sys.stdout.buffer.write(data)
            except OSError as error:
                raise stdout_error(error) from None
            self.flush()

    def flush(self) -> None:
        """Send everything written so far."""
        try:
            sys.stdout.buffer.flush()
        except OSError as error:
            raise stdout_error(error) from None

    def line(self, text: str, *, flush: bool = False) -> None:
        """Write one line of data."""
        self.write(text.encode("utf-8", "surrogateescape") + b"\n", flush=flush)

    def lines(self, texts: Iterable[str]) -> None:
        """Write many lines of data with few calls, and never hold more than some of them."""
        found = iter(texts)
        while batch := [*islice(found, _TOGETHER)]:
            batch.append("")
            self.write("\n".join(batch).encode("utf-8", "surrogateescape"), flush=True)

    def result(self, text: str) -> None:
        """Write one result line ("upload: …"): data, but silenced by --quiet and --only-show-errors."""
        if not self.quiet and not self.only_errors:
            self.event(text)

    def event(self, text: str) -> None:
        """Write one line about what happened, out of the way of the data of other commands."""
        if self.aside:
            self._stderr(text)
        elif self.no_stdout:
            pass
        else:
            self.line(text, flush=True)

    def json(self, value: object) -> None:
        """Write one JSON document."""
        self.line(json.dumps(value, indent=2, ensure_ascii=False))

    def json_line(self, value: object) -> None:
        """Write one JSON document on one line."""
        self.line(json_text(value))

    def document(self, value: object, form: str) -> None:
        """Write one JSON document, on one line for jsonl."""
        (self.json_line if form == "jsonl" else self.json)(value)

    # --- stderr

    def talk(self, text: str) -> None:
        """Write a remark to stderr."""
        if not self.quiet and not self.only_errors:
            self._stderr(text)

    def warn(self, text: str, *, once: bool = False) -> None:
        """Write a warning to stderr; with once, the same words only once."""
        if self.quiet or (once and text in self._shown_once):
            return
        self._shown_once.add(text) if once else None
        self._stderr(f"{self.paint('warning:', 'yellow')} {text}")

    def error(self, text: str, *, always: bool = False) -> None:
        """Write an error to stderr; always is for what is wrong with the command line itself."""
        if always or not self.quiet:
            self._stderr(_for_journal(f"{self.paint('cos:', 'red')} {self.where}{text}"))

    def end_line(self) -> None:
        """Go to a new line of the terminal."""
        if not self.quiet:
            self._stderr("")

    def trace(self, text: str) -> None:
        """Write a line of the log that --debug asks for."""
        self._stderr(printable(text))

    def failure(self, text: str) -> None:
        """Write that one of many things failed, without the leading program name, as AWS does."""
        if not self.quiet:
            self._stderr(text)

    def _stderr(self, text: str) -> None:
        if self._within is not None:
            self._within._stderr(text)
            return
        with self._lock:
            self._write_stderr(text)

    def _write_stderr(self, text: str) -> None:
        if self.hide is not None:
            self.hide()
            self.release()
        try:
            sys.stdout.flush()  # keeps the order when both go to one terminal or file
        except (OSError, ValueError):
            pass  # told when the command ends and flushes once more
        try:
            sys.stderr.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # nobody is left to tell

    def paint(self, text: str, color: str, *, stdout: bool = False) -> str:
        """Colour text if the stream it goes to shall have colours."""
        if not self.colored(stdout=stdout):
            return text
        import click

        return click.style(text, fg=color)

    def colored(self, *, stdout: bool = False) -> bool:
        """Whether colours are wanted: --color, then NO_COLOR, then whether it is a terminal."""
        import os

        if self.color != "auto":
            return self.color == "on"
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            return False
        return (sys.stdout if stdout else sys.stderr).isatty()


def json_text(value: object) -> str:
    """Print a value as JSON on one line; bytes of a local name that are not UTF-8 become escapes."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    right: bool = False


_NARROWEST = 4  # columns; a table that does not fit even so is torn


class Table:
    """A table drawn while its rows arrive: the first batch fixes the widths, so memory is bounded.

    A later cell that is wider than its column pushes its own row's border out instead of being cut: all of
    a key must be seen. On a terminal, where that would tear the rows apart, cells go over several lines.
    """

    def __init__(self, out: Output, columns: Sequence[Column]) -> None:
        self._out = out
        self._columns = columns
        self._widths: list[int] = []
        self._screen = 0  # columns of the terminal; 0 if it is none

    def rows(self, rows: Iterable[Sequence[str]]) -> None:
        """Draw rows; the first call draws the head too."""
        batch = [[printable(cell) for cell in row] for row in rows]
        if not self._widths:
            titles = [column.title for column in self._columns]
            self._widths = [max(width(row[i]) for row in [titles, *batch]) for i in range(len(titles))]
            self._screen = screen_width()
            self._fit()
            self._out.lines([self._rule("┌┬┐"), *self._row(titles, head=True), self._rule("├┼┤")])
        self._out.lines(line for row in batch for line in self._row(row))

    def end(self) -> None:
        """Draw the head if there was no row, then the lower border."""
        if not self._widths:
            self.rows([])
        self._out.lines([self._rule("└┴┘")])

    def _rule(self, corners: str) -> str:
        return corners[0] + corners[1].join("─" * (each + 2) for each in self._widths) + corners[2]

    def _fit(self) -> None:
        """Make the widest columns narrower until the table fits into the terminal."""
        most = self._screen - 3 * len(self._widths) - 1
        while self._screen and sum(self._widths) > most and max(self._widths) > _NARROWEST:
            self._widths[self._widths.index(max(self._widths))] -= 1

    def _row(self, cells: Sequence[str], *, head: bool = False) -> Iterator[str]:
        pieces = [folded(cell, space) for cell, space in zip(cells, self._widths, strict=True)]
        lines = zip_longest(*pieces, fillvalue="") if self._screen else [tuple(cells)]
        for line in lines:
            yield "│" + "│".join(self._cells(line, head)) + "│"

    def _cells(self, cells: Sequence[str], head: bool) -> Iterator[str]:
        for cell, space, column in zip(cells, self._widths, self._columns, strict=True):
            padding = " " * max(0, space - width(cell))
            shown = self._out.paint(cell, "cyan", stdout=True) if head else cell
            yield f" {padding}{shown} " if column.right else f" {shown}{padding} "


def screen_width() -> int:
    """Return the columns of the terminal that stdout is; 0 if it is none."""
    import os

    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    except (OSError, ValueError):
        return 0


def table(out: Output, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Draw a whole table."""
    drawn = Table(out, columns)
    drawn.rows(rows)
    drawn.end()


def wide_table(out: Output, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Draw one table, or one for each row where it would be wider than the screen."""
    found = [*rows]
    cells = [[column.title for column in columns], *found]
    widest = [max(width(printable(cell)) for cell in each) for each in zip(*cells, strict=True)]
    screen = screen_width()
    if not screen or sum(widest) + 3 * len(widest) + 1 <= screen:
        table(out, columns, found)
        return
    for row in found:
        pairs = zip((column.title for column in columns), row, strict=True)
        table(out, [Column("Name"), Column("Value")], [*pairs])


def fields(out: Output, pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values: one `name<TAB>value` a line."""
    out.lines(f"{name}\t{printable(value)}" for name, value in pairs)


def _for_journal(text: str) -> str:
    """Mark an error as one where systemd reads standard error, for `journalctl -p err`."""
    import os

    if "JOURNAL_STREAM" not in os.environ:
        return text
    from cosfs.fuse.logs import is_journal

    return "\n".join(f"<3>{line}" for line in text.split("\n")) if is_journal(2) else text
