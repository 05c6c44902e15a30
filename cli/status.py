"""`cos status`: what is mounted, and how it goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .mount import MountpointType
from .options import command
from .output import Column, json_text, local_time, printable, table, wide_table

if TYPE_CHECKING:
    from cosfs.fuse.control import MountStatus

    from .state import State

_COLUMNS = (
    "Mountpoint", "Source", "State", "Process", "Uptime", "Cache", "Hits", "Pending", "COS",
    "Requests", "Errors",
)  # fmt: skip


@command("status")
@click.argument("mountpoint", type=MountpointType(), required=False)
@click.pass_obj
def status(state: State, mountpoint: Path | None) -> int:
    """Show all mounts of yours, or one of them in full.

    For each: how long it runs, what its cache holds and how often that helped, what is not sent to
    COS yet, and how many requests and errors there were.

    \b
    Examples:
      cos status
      cos status /mnt/cos --output json
    """
    from cosfs.errors import UsageError
    from cosfs.fuse.control import list_mounts
    from cosfs.fuse.registry import absolute

    found = list_mounts()
    if mountpoint is not None:
        place = str(absolute(mountpoint))
        found = [mount for mount in found if mount.mountpoint == place]
        if not found:
            raise UsageError(f"{mountpoint} is not a mountpoint of cos", hint="'cos status' lists all mounts")
    form = state.format
    if form == "json":
        state.out.json([_record(mount) for mount in found])
    elif form == "jsonl":
        state.out.lines(json_text(_record(mount)) for mount in found)
    elif mountpoint is not None:
        _show_one(state, found[0], form)
    elif not found:
        state.out.talk("nothing is mounted")
    elif form == "table":
        wide_table(state.out, [Column(title) for title in _COLUMNS], [_row(mount) for mount in found])
    else:
        _show_lines(state, found)
    _warn(state, found)
    return 0


def _show_lines(state: State, found: list[MountStatus]) -> None:
    """Print name and value, one a line, and an empty line between mounts."""
    for number, mount in enumerate(found):
        if number:
            state.out.line("")
        state.out.lines(
            f"{name}\t{printable(value)}" for name, value in zip(_COLUMNS, _row(mount), strict=True)
        )


def _record(mount: MountStatus) -> dict[str, Any]:
    own = {"mountpoint": mount.mountpoint, "source": mount.source, "pid": mount.pid, "state": mount.state}
    return {**mount.details, **own}


def _row(mount: MountStatus) -> tuple[str, ...]:
    values = dict(_described(mount.details))
    return (
        mount.mountpoint,
        mount.source,
        mount.state,
        str(mount.pid or "-"),
        *(values.get(title, "-") for title in _COLUMNS[4:]),
    )


def _described(details: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Say the numbers of a mount in words; nothing if it does not answer."""
    from cosfs.units import format_duration, format_size

    if not details:
        return
    yield "Uptime", format_duration(details["uptime"])
    yield "Cache", f"{format_size(details['cache_bytes'])} of {format_size(details['cache_limit'])}"
    rate = details.get("hit_rate")
    yield "Hits", "-" if rate is None else f"{rate:.0%}"
    yield "Pending", _pending(details)
    yield "COS", _way(details)
    counters = details.get("requests", {})
    yield "Requests", str(sum(counters.get("requests", {}).values()))
    yield "Errors", str(details.get("errors", 0))


def _way(details: dict[str, Any]) -> str:
    """Whether COS can be reached."""
    from cosfs.units import format_duration

    seconds = details.get("unreachable", 0.0)
    return f"not reachable for {format_duration(seconds)}" if seconds else "reachable"


def _kept(details: dict[str, Any]) -> str:
    """What could not be brought to COS and is in recovered/."""
    count = details.get("recovered", 0)
    return f"{count} files in {details.get('recovered_dir')}" if count else "none"


def _waiting(pending: dict[str, Any]) -> str:
    """One file that COS does not have yet: how large, since when, how often it was tried, what happened."""
    from cosfs.units import format_duration, format_size

    text = f"{pending['url']}, {format_size(pending['bytes']) if pending['bytes'] else 'no bytes'}"
    if pending.get("age"):
        text += f", for {format_duration(pending['age'])}"
    tries = pending.get("tries", 0)
    if tries:
        often = "once" if tries == 1 else f"{tries} times"
        text += f", tried {often}, again in {format_duration(pending['next'])}"
    return text + (f": {pending['error']}" if pending.get("error") else "")


def _refused(refusal: dict[str, Any]) -> str:
    """What COS does not let these keys do."""
    from cosfs.units import format_duration

    age = format_duration(refusal["age"])
    return f"to {refusal['action']} {refusal['url']}, {age} ago: {refusal['error']}"


def _pending(details: dict[str, Any]) -> str:
    from cosfs.units import format_duration, format_size

    files, removals = details.get("pending_files", 0), details.get("pending_removals", 0)
    parts = []
    if files:
        parts.append(f"{files} file{'s' * (files != 1)}, {format_size(details.get('pending_bytes', 0))}")
    if removals:
        parts.append(f"{removals} removal{'s' * (removals != 1)}")
    oldest = max((each.get("age", 0.0) for each in details.get("pending", ())), default=0.0)
    if oldest >= 1:
        parts.append(f"the oldest for {format_duration(oldest)}")
    return "; ".join(parts) or "none"


def _show_one(state: State, mount: MountStatus, form: str) -> None:
    from cosfs.units import format_size

    details = mount.details
    pairs = [
        ("Mountpoint", mount.mountpoint),
        ("Source", mount.source),
        ("State", mount.state),
        ("Process", str(mount.pid)),
        *_described(details),
    ]
    if details:
        counters = details["requests"]
        pairs += [
            ("Cache directory", str(details["cache_dir"])),
            ("Write-back", str(details["write_back"])),
            *([("As of", local_time(details["as_of"]))] if details.get("as_of") else []),
            ("Attributes", str(details["attributes"])),
            ("Sent", format_size(counters.get("bytes_sent", 0))),
            ("Received", format_size(counters.get("bytes_received", 0))),
            ("Retries", str(counters.get("retries", 0))),
            ("Conflicts", str(details.get("conflicts", 0))),
            ("Kept aside", _kept(details)),
        ]
        for name, count in sorted(counters.get("requests", {}).items()):
            pairs.append((f"Requests: {name}", str(count)))
        for pending in details.get("pending", []):
            pairs.append(("Not sent yet", _waiting(pending)))
        for refusal in details.get("refused", []):
            pairs.append(("Refused", _refused(refusal)))
    if form == "table":
        table(state.out, [Column("Name"), Column("Value")], pairs)
    else:
        state.out.lines(f"{name}\t{printable(value)}" for name, value in pairs)


def _warn(state: State, found: list[MountStatus]) -> None:
    for mount in found:
        if mount.state == "dead":
            place = printable(mount.mountpoint)
            state.out.warn(f"the process of {place} is gone; clean it up with: cos umount {place}")
