"""Talking to running mounts: what there is, how it goes, and how to end it.

A mount's socket takes one JSON line and answers with JSON lines; the last has "done".
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosfs.errors import COSError, FilesystemError, UsageError
from cosfs.fuse import registry

MNT_DETACH = 2
REFRESHED_WITHIN = 120.0  # COS may have to be asked several times
WARMED_WITHIN = 3600.0  # a large file on a slow line
_MOMENTS = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between tries to unmount what nobody seems to use
DETACHED_WAIT = 5.0  # seconds `umount --force` waits for a process with open files to end
NAMES_SHOWN = 3  # of what could not be sent


@dataclass(frozen=True, slots=True)
class MountStatus:
    """One mount.

    state: running; dead (mounted, its process is gone); stuck (its process lives and does not answer);
    stopping (unmounted, still sending).
    """

    mountpoint: str
    source: str
    pid: int
    state: str
    started: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


def ask(mountpoint: Path, request: dict[str, Any], *, timeout: float = 10.0) -> Iterator[dict[str, Any]]:
    """Send one request to a mount; yields its answers. timeout is for each answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        with registry.short_name(registry.socket_path(mountpoint)) as name:
            sock.connect(name)
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)


def mount_of(path: Path) -> tuple[Path, Path]:
    """The mountpoint a path is below, and the path below it in full. The path itself is not touched."""
    place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would ask the mount
    mounted = registry.mounted_here()
    if not any(point in mounted for point in map(str, (place, *place.parents))):
        place = Path(os.path.realpath(path))  # a symbolic link from outside
    for point in (place, *place.parents):
        if str(point) in mounted:
            return point, place
    raise UsageError(f"{path} is in no mount of cos", hint="'cos status' lists all mounts")


def warm(mountpoint: Path, file: Path) -> dict[str, Any]:
    """Have a mount bring a file into its cache; returns when it is there. See cosfs.fs.warming.Warmed."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)  # the mount knows its number as long as it is open
    try:
        request = {"op": "warm", "inode": os.fstat(fd).st_ino}
        answer = next(ask(mountpoint, request, timeout=WARMED_WITHIN), {})
    except ValueError as exc:
        raise COSError(f"the mount {mountpoint} does not answer: {exc}") from exc
    finally:
        os.close(fd)
    if "error" in answer or not answer:
        raise COSError(answer.get("error", f"the mount {mountpoint} gave no answer"))
    return answer


def refresh(path: Path, *, recursive: bool = False) -> dict[str, Any]:
    """Have the mount that a path is in ask COS anew about it; returns what the mount did.

    See cosfs.fs.refresh.Refreshed. The path itself is not touched: it may not be there.
    """
    point, place = mount_of(path)
    request = {"op": "refresh", "path": str(place.relative_to(point)), "recursive": recursive}
    try:
        answer = next(ask(point, request, timeout=REFRESHED_WITHIN), {})
    except (OSError, ValueError) as exc:
        raise COSError(f"the mount {point} does not answer: {exc}") from exc
    if "error" in answer or not answer:
        error = COSError(answer.get("error", f"the mount {point} gave no answer"))
        error.exit_code = int(answer.get("exit_code", error.exit_code))
        raise error
    del answer["done"]
    return answer


def status(mountpoint: Path) -> MountStatus | None:
    """One mount's status, None if there is none."""
    for found in list_mounts():
        if found.mountpoint == str(mountpoint):
            return found
    return None


def list_mounts() -> list[MountStatus]:
    """All mounts of this user, including those whose process is gone."""
    found: dict[str, MountStatus] = {}
    mounted = registry.mounted_here()
    for path in registry.records():
        record = registry.read_state(path)
        if not record:
            continue
        mountpoint = Path(record["mountpoint"])
        details = _details(mountpoint)
        if details is None:
            alive = registry.is_alive(record["pid"])
            if str(mountpoint) not in mounted and not alive:
                registry.remove_state(mountpoint, record["pid"])
                continue
            state = "dead" if not alive else "stuck" if str(mountpoint) in mounted else "stopping"
        else:
            state = "running" if str(mountpoint) in mounted else "stopping"
        found[str(mountpoint)] = MountStatus(
            str(mountpoint), record["source"], record["pid"], state, record.get("started", 0.0), details or {}
        )
    for point, source in mounted.items():
        if point not in found and (os.getuid() == 0 or registry.is_mine(point)):
            found[point] = MountStatus(
                point, source, 0, "dead" if registry.is_dead(Path(point)) else "running"
            )
    return sorted(found.values(), key=lambda m: m.mountpoint)


def _details(mountpoint: Path) -> dict[str, Any] | None:
    try:
        for answer in ask(mountpoint, {"op": "status"}, timeout=registry.ANSWERS_WITHIN):
            return answer
    except (OSError, ValueError):
        pass
    return None


Progress = Callable[[dict[str, Any]], None]


def unmount(
    mountpoint: Path,
    *,
    timeout: float = 0.0,
    force: bool = False,
    lazy: bool = False,
    progress: Progress | None = None,
) -> None:
    """Send everything, unmount, and wait until the mount's process is gone.

    timeout 0 waits as long as there is progress to be hoped for. force unmounts even if something
    could not be sent (it stays in the journal for the next mount) and detaches a mountpoint that is
    in use; it waits some seconds at most. lazy detaches it at once and waits for nothing: the process
    goes on sending until all is sent and the last file is closed. Raises COSError with what is still
    pending.
    """
    mountpoint = registry.absolute(mountpoint)
    if registry.is_dead(mountpoint):
        detach(mountpoint, lazy=True)
        registry.remove_state(mountpoint)
        return
    if str(mountpoint) not in registry.mounted_here():
        known = status(mountpoint)
        if known is None:
            raise UsageError(f"{mountpoint} is not a mountpoint of cos", hint="'cos status' lists all mounts")
        _wait_for_end(mountpoint, known.pid, timeout)
        return
    if lazy:
        detach(mountpoint, lazy=True)
        return
    known = status(mountpoint)
    if known is not None and known.state == "stuck":
        if not force:
            raise FilesystemError(
                errno.EBUSY,
                f"the process {known.pid} of {mountpoint} does not answer",
                hint=f"Try again, or end it with kill -9 {known.pid}; the next mount sends what is left",
            )
        detach(mountpoint, lazy=True)
        return
    left = _drain(mountpoint, timeout, progress)
    if left.get("pending") and not force:
        raise FilesystemError(
            errno.EBUSY,
            f"{mountpoint} stays mounted: {_unsent(left)}",
            hint=f"'cos status {mountpoint}' shows them; --force leaves them to the next mount",
        )
    detach(mountpoint, lazy=force)
    if known is None or not known.pid:
        return
    if force:
        # Somebody may have a file open: the process ends when that is closed, which nobody shall wait for.
        with contextlib.suppress(FilesystemError):
            _wait_for_exit(known.pid, timeout or DETACHED_WAIT)
        return
    _wait_for_end(mountpoint, known.pid, timeout)


def _wait_for_end(mountpoint: Path, pid: int, timeout: float) -> None:
    """Wait for the process of what was unmounted, unless it goes on for another place."""
    try:
        _wait_for_exit(pid, min(timeout or DETACHED_WAIT, DETACHED_WAIT))
    except FilesystemError:
        places = registry.other_places(mountpoint)
        if places:
            raise FilesystemError(
                errno.EBUSY,
                f"{mountpoint} is unmounted, but its process goes on: it is also mounted at "
                f"{', '.join(places[:NAMES_SHOWN])}",
                hint="Unmount it there too, and the process ends",
            ) from None
        _wait_for_exit(pid, timeout)


def _unsent(left: dict[str, Any]) -> str:
    """What could not be sent, in words."""
    count = int(left["pending"])
    text = f"{count} change{'' if count == 1 else 's'} could not be sent to COS"
    names = [*left.get("names", ())]
    if names:
        shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if count > len(names[:NAMES_SHOWN]) else "")
        text += f" ({shown})"
    return text


def _drain(mountpoint: Path, timeout: float, progress: Progress | None) -> dict[str, Any]:
    """Ask the mount to send everything; returns its last answer, with how many changes are left."""
    left: dict[str, Any] = {}
    try:
        for answer in ask(mountpoint, {"op": "drain", "timeout": timeout}, timeout=60.0):
            left = answer
            if progress is not None:
                progress(answer)
            if answer.get("done"):
                break
    except (OSError, ValueError):
        return left
    return left


def _wait_for_exit(pid: int, timeout: float) -> None:
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, PermissionError):
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(None if timeout <= 0 else int(timeout * 1000)):
            raise FilesystemError(
                110, f"the mount's process {pid} is still sending; it goes on in the background"
            )
    finally:
        os.close(fd)


def detach(mountpoint: Path, *, lazy: bool) -> None:
    """Take the filesystem off its mountpoint; what looks at it just now, and has no name, is waited for."""
    for pause in _MOMENTS:
        if _detach(mountpoint, lazy=lazy):
            return
        if registry.mounted_below(mountpoint) or _users(mountpoint):
            break
        time.sleep(pause)
    if not _detach(mountpoint, lazy=lazy):
        raise _busy(mountpoint)


def _detach(mountpoint: Path, *, lazy: bool) -> bool:
    """Return False if it is in use."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mountpoint), MNT_DETACH if lazy else 0) == 0:
            return True
        code = ctypes.get_errno()
        if code == errno.EBUSY:
            return False
        raise COSError(f"{mountpoint} cannot be unmounted: {os.strerror(code)}")
    tool = shutil.which("fusermount3") or shutil.which("fusermount")
    if tool is None:
        raise COSError("fusermount3 is not installed", hint="Install the package fuse3")
    done = subprocess.run(
        [tool, "-uz" if lazy else "-u", str(mountpoint)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        if "busy" in done.stderr:
            return False
        raise COSError(f"{mountpoint} cannot be unmounted: {done.stderr.strip()}")
    return True


def _busy(mountpoint: Path) -> FilesystemError:
    below = registry.mounted_below(mountpoint)
    if below:
        return FilesystemError(
            errno.EBUSY,
            f"{mountpoint} cannot be unmounted: {', '.join(below[:NAMES_SHOWN])} is mounted inside it",
            hint="Unmount that first",
        )
    users = ", ".join(_users(mountpoint)) or "another process"
    return FilesystemError(
        errno.EBUSY,
        f"{mountpoint} is in use by {users}",
        hint="Close it and try again, or use --force to detach it",
    )


def _users(mountpoint: Path) -> list[str]:
    """Processes with something open below a mountpoint, as far as we may see."""
    prefix = str(mountpoint) + "/"
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            links = [process / "cwd", *(process / "fd").iterdir()]
            if any((str(target) + "/").startswith(prefix) for target in map(_target, links)):
                name = (process / "comm").read_text().strip()
                found.append(f"{name} (pid {process.name})")
    return found[:5]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
