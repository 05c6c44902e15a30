"""`cos stats`: what a mount is doing, once or as it goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .mount import MountpointType
from .options import DURATION, command
from .output import Column, json_text, printable, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .state import State

_ANSWERS_WITHIN = 10.0
_TITLES = ("", "Count", "Per second", "p50", "p95", "p99", "Errors")
_REDRAWN = 0.25  # seconds in which Ctrl-C is heard

Stats = dict[str, Any]


@command("stats")
@click.argument("mountpoint", type=MountpointType())
@click.option("--once", is_flag=True, help="Print what happened since the mount began, and end.")
@click.option("--interval", type=DURATION, metavar="TIME", help="Look so often; default 1s on a terminal.")
@click.option("--prometheus", is_flag=True, help="Print all metrics as Prometheus reads them, and end.")
@click.pass_obj
def stats(state: State, mountpoint: Path, once: bool, interval: float | None, prometheus: bool) -> int:
    """Show what a mount is doing: operations, latencies, cache, traffic, queue.

    On a terminal it goes on until Ctrl-C; elsewhere it prints once, unless --interval is given.
    Percentiles are of the time in which the mount or COS answered, to within a quarter.

    \b
    Examples:
      cos stats /mnt/cos --once
      cos stats /mnt/cos --prometheus
    """
    from cosfs.errors import UsageError
    from cosfs.fuse.rates import between
    from cosfs.fuse.registry import absolute

    if interval is not None and (once or prometheus or interval <= 0):
        raise UsageError("--interval must be more than 0 and alone")
    place = absolute(mountpoint)
    if prometheus:
        state.out.write(_scrape(place))
        return 0
    first, form = _ask(place), state.format
    is_terminal = sys.stdout.isatty()
    if once or (interval is None and (form in ("json", "jsonl") or not is_terminal)):
        _print(state, between(None, first), form)
    elif form == "table" and is_terminal:
        _watch(place, first, interval or 1.0)
    else:
        for found in _follow(place, first, interval or 1.0):
            _print(state, found, "jsonl" if form == "json" else form)
            state.out.flush()
    return 0


def _ask(place: Path) -> Stats:
    from cosfs.fuse.control import ask

    try:
        for answer in ask(place, {"op": "metrics"}, timeout=_ANSWERS_WITHIN):
            return answer
    except (OSError, ValueError):
        pass
    raise _silent(place)


def _scrape(place: Path) -> bytes:
    import socket

    from cosfs.fuse.registry import metrics_path, short_name

    received = b""
    try:
        with socket.socket(socket.AF_UNIX) as sock, short_name(metrics_path(place)) as name:
            sock.settimeout(_ANSWERS_WITHIN)
            sock.connect(name)
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            while data := sock.recv(1 << 16):
                received += data
    except OSError:
        raise _silent(place) from None
    return received.partition(b"\r\n\r\n")[2]


def _silent(place: Path) -> Exception:
    """Say why a mount does not answer."""
    from cosfs.errors import COSError, UsageError
    from cosfs.fuse.control import status

    found = status(place)
    if found is None:
        return UsageError(f"{place} is not a mountpoint of cos", hint="'cos status' lists all mounts")
    return COSError(f"the mount on {place} does not answer: it is {found.state}", hint=f"cos status {place}")


def _follow(place: Path, before: Stats, interval: float) -> Iterator[Stats]:
    """Yield what happens in each interval, until the mount is gone."""
    from cosfs.fuse.rates import between

    due = time.monotonic() + interval
    while True:
        while (left := due - time.monotonic()) > 0:
            time.sleep(min(_REDRAWN, left))
        due = max(due + interval, time.monotonic())
        after = _ask(place)
        yield between(before, after)
        before = after


# Pictures


def _print(state: State, found: Stats, form: str) -> None:
    if form == "json":
        state.out.json(found)
    elif form == "jsonl":
        state.out.lines([json_text(found)])
    elif form == "table":
        table(state.out, [Column("Name"), Column("Value")], _summary(found))
        rows = [*_rows(found["operations"]), *_rows(found["requests"])]
        if rows:
            columns = [Column("Operation"), *(Column(title, right=True) for title in _TITLES[1:])]
            table(state.out, columns, rows)
    else:
        state.out.lines(f"{name}\t{printable(value)}" for name, value in _summary(found))
        rows = [*_rows(found["operations"]), *_rows(found["requests"])]
        if rows:
            state.out.lines("\t".join(row) for row in [("Operation", *_TITLES[1:]), *rows])


def _summary(found: Stats) -> list[tuple[str, str]]:
    from cosfs.units import format_duration, format_size

    cache, waiting = found["cache"], found["pending"]
    rate = cache["hit_rate"]
    queue = "nothing"
    if waiting["files"] or waiting["removals"]:
        queue = f"{waiting['files']} files ({format_size(waiting['bytes'])}), {waiting['removals']} removals"
        queue += f", the oldest for {format_duration(waiting['oldest_seconds'])}"
    return [
        ("Mount", f"{found['source']} on {found['mountpoint']}"),
        ("Time", f"{format_duration(found['uptime'])} (figures of the last {found['seconds']:.3g} s)"),
        ("Read", _flow(found, "bytes_read")),
        ("Written", _flow(found, "bytes_written")),
        ("From COS", _flow(found, "bytes_received")),
        ("Prefetched", _flow(found, "prefetched_bytes")),
        ("To COS", _flow(found, "bytes_sent")),
        ("Cache", f"{'-' if rate is None else f'{rate:.1%}'} hits, {format_size(cache['bytes'])} of "
                  f"{format_size(cache['limit'])}"),
        ("Waiting", queue),
        ("Open", f"files: {found['open_files']} ({found['dirty_files']} with unsent bytes), "
                 f"directories: {found['open_directories']}, names known: {found['known_inodes']}"),
        ("Errors", f"of COS: {found['request_errors']}, retries: {found['retries']}"),
    ]  # fmt: skip


def _flow(found: Stats, name: str) -> str:
    from cosfs.units import format_size

    return f"{format_size(found[f'{name}_per_second'])}/s ({format_size(found[name])})"


def _rows(kinds: Stats) -> list[tuple[str, ...]]:
    return [
        (
            name,
            str(each["count"]),
            f"{each['per_second']:.1f}",
            *(_latency(each[share]) for share in ("p50", "p95", "p99")),
            str(each["errors"]) if "errors" in each else "",
        )
        for name, each in kinds.items()
    ]


def _latency(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _watch(place: Path, first: Stats, interval: float) -> None:
    """Draw the figures of the last interval on the whole screen until interrupted."""
    from rich.live import Live

    from cosfs.fuse.rates import between

    live = Live(_picture(between(None, first)), screen=True, auto_refresh=False)
    try:  # not `with`: Ctrl-C may come while it starts, and the screen must be given back
        live.start(refresh=True)
        for found in _follow(place, first, interval):
            live.update(_picture(found), refresh=True)
    finally:
        live.stop()


def _picture(found: Stats) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    for name, value in _summary(found):
        head.add_row(Text(name, style="bold"), Text(printable(value)))
    parts: list[RenderableType] = [head]
    for title, kinds in (("Operation", found["operations"]), ("Request to COS", found["requests"])):
        grid = Table(box=None, padding=(0, 2))
        grid.add_column(title, style="bold")
        for name in _TITLES[1:]:
            grid.add_column(name, justify="right")
        for row in _rows(kinds):
            grid.add_row(*row)
        parts += [Text(""), grid]
    return Group(*parts)
