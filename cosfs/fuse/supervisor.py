"""systemd: what it is told while a mount runs (sd_notify(3)), and the unit that starts one."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cosfs.errors import COSError, UsageError

log = logging.getLogger("cosfs.mount")

STOP_WITHIN = 90  # seconds systemd waits; a mount that still has something to send asks for more
FINAL_DRAIN = 300.0  # seconds without progress after which a process that was unmounted gives up
MORE_TIME = STOP_WITHIN * 1_000_000  # microseconds


def tell(*lines: str) -> None:
    """Tell systemd, if it started us and wants to know (Type=notify)."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place:
        return
    address = "\0" + place[1:] if place.startswith("@") else place
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto("\n".join(lines).encode(), address)
    except OSError as exc:
        log.debug("%s cannot be told: %s", place, exc)


def tell_ready(source: str, mountpoint: str) -> None:
    """Say that the mount answers."""
    tell("READY=1", f"STATUS={_plain(source)} is mounted on {_plain(mountpoint)}")


def tell_stopping(pending: int, *, moves: bool = True) -> None:
    """Say that the mount ends, and how much is still to be sent; while that moves, ask for more time."""
    what = f"{pending} change{'' if pending == 1 else 's'} still to be sent" if pending else "ending"
    more = (f"EXTEND_TIMEOUT_USEC={MORE_TIME}",) if moves else ()
    tell("STOPPING=1", *more, f"STATUS={what}")


def final_drain() -> float:
    """How many seconds without progress a mount that was unmounted goes on; less than systemd waits."""
    return STOP_WITHIN - 15.0 if os.environ.get("NOTIFY_SOCKET") else FINAL_DRAIN


@contextmanager
def telling_failure() -> Iterator[None]:
    """Have `systemctl status` show why a mount could not be made, or did not end well."""
    try:
        yield
    except COSError as exc:
        tell(f"STATUS={_plain(str(exc))}")
        raise


def _plain(text: str) -> str:
    return text.replace("\n", "\\n")


def unit(program: str, arguments: Sequence[str], source: str, mountpoint: str) -> str:
    """Write a service that mounts at start, and is stopped only when everything is sent."""
    start = " ".join(_quoted(word) for word in (program, "mount", "--foreground", *arguments))
    return f"""[Unit]
Description={_percent(_plain(source))} on {_percent(_plain(mountpoint))}
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart={start}
# SIGTERM unmounts. A mount with something to send asks for more time while it gets on; what is left stays in
# its journal, for the next start.
TimeoutStopSec={STOP_WITHIN}
KillMode=mixed
Restart=on-failure
RestartSec=5
RestartPreventExitStatus={UsageError.exit_code}
# Its helper processes may be killed for want of memory; it goes on without them.
OOMPolicy=continue
# A process that was killed leaves a mount that nobody serves.
ExecStopPost=-{_quoted(program)} umount --lazy --if-mounted -- {_quoted(mountpoint)}
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """Write one argument for ExecStart= (systemd.syntax(7), systemd.service(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = escaped.replace("\n", "\\n").replace("\t", "\\t")
    plain = escaped == word and not any(char in word for char in " ';#") and word
    return word if plain else f'"{escaped}"'
