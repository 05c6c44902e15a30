"""Talking to running mounts: what there is, how it goes, and how to end it.

Each mount has a small JSON file and a Unix socket in the runtime directory, named after its
mountpoint. The socket takes one JSON line and answers with JSON lines; the last has "done".
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosfs.errors import COSError, FilesystemError, UsageError

MNT_DETACH = 2
FSTYPE = "fuse.cosfs"
SOCKET_NAME_MAX = 108  # sun_path, unix(7)
ANSWERS_WITHIN = 3.0  # seconds in which a mount that works answers
REFRESHED_WITHIN = 120.0  # COS may have to be asked several times
NAMES_SHOWN = 3  # of what could not be sent


def runtime_dir() -> Path:
    """Where sockets of mounts live: gone after a reboot, private to the user, with a short path."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base:
        path = Path(base) / "cosfs"
    elif os.getuid() == 0:
        path = Path("/run/cosfs")
    else:
        path = Path(f"/tmp/cosfs-{os.getuid()}")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise UsageError(
            f"{path} belongs to another user", hint="Set XDG_RUNTIME_DIR to a directory of your own"
        )
    return path


def _stem(mountpoint: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]
    return runtime_dir() / digest


def socket_path(mountpoint: Path) -> Path:
    return _stem(mountpoint).with_suffix(".sock")


def metrics_path(mountpoint: Path) -> Path:
    """The socket where a mount's metrics are served over HTTP."""
    return _stem(mountpoint).with_suffix(".metrics")


def state_path(mountpoint: Path) -> Path:
    return _stem(mountpoint).with_suffix(".json")


def write_state(mountpoint: Path, source: str) -> None:
    """Register a mount that is about to answer."""
    path = state_path(mountpoint)
    record = {"mountpoint": str(mountpoint), "source": source, "pid": os.getpid(), "started": time.time()}
    temp = path.with_suffix(".tmp")
    temp.write_text(json.dumps(record))
    temp.rename(path)


def remove_state(mountpoint: Path, pid: int = 0) -> None:
    """Unregister a mount; with a pid only if it is that process's.

    A process that still sends after its unmounting may meanwhile have a successor.
    """
    if pid and _read_state(state_path(mountpoint)).get("pid") != pid:
        return
    state_path(mountpoint).unlink(missing_ok=True)
    socket_path(mountpoint).unlink(missing_ok=True)
    metrics_path(mountpoint).unlink(missing_ok=True)


def _read_state(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and {"mountpoint", "source", "pid"} <= record.keys() else {}


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name of a socket that is short enough for the kernel, however long its directory's is."""
    if len(os.fsencode(path)) < SOCKET_NAME_MAX:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


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


def mounted_here() -> dict[str, str]:
    """Mountpoints of our filesystems, with their sources, as the kernel lists them."""
    return {point: source for point, kind, source in _mountinfo() if kind == FSTYPE}


def _mountinfo() -> list[tuple[str, str, str]]:
    """Mountpoint, type and source of everything mounted, in the order it was mounted."""
    return [(point, kind, source) for point, kind, source, _ in _mount_table()]


def _is_mine(mountpoint: str) -> bool:
    """Whether we mounted what is mounted here."""
    options = [options for point, _, _, options in _mount_table() if point == mountpoint]
    return bool(options) and f"user_id={os.getuid()}" in options[-1].split(",")


def _mount_table() -> list[tuple[str, str, str, str]]:
    """Mountpoint, type, source and the filesystem's own options of everything mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        kind, source, options = right.split(" ", 2)
        found.append((_unescape(left.split(" ")[4]), kind, _unescape(source), options))
    return found


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def is_mounted(path: Path) -> bool:
    """Whether anything is mounted exactly here."""
    return any(point == str(path) for point, _, _ in _mountinfo())


def ask(mountpoint: Path, request: dict[str, Any], *, timeout: float = 10.0) -> Iterator[dict[str, Any]]:
    """Send one request to a mount; yields its answers. timeout is for each answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        with short_name(socket_path(mountpoint)) as name:
            sock.connect(name)
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)


def refresh(path: Path, *, recursive: bool = False) -> dict[str, Any]:
    """Have the mount that a path is in ask COS anew about it; returns what the mount did.

    See cosfs.fs.refresh.Refreshed. The path itself is not touched: it may not be there.
    """
    place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would ask the mount
    mounted = mounted_here()
    if not any(point in mounted for point in map(str, (place, *place.parents))):
        place = Path(os.path.realpath(path))  # a symbolic link from outside
    for point in (place, *place.parents):
        if str(point) in mounted:
            break
    else:
        raise UsageError(f"{path} is in no mount of cos", hint="`cos status` lists all mounts")
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
    mounted = mounted_here()
    for path in sorted(runtime_dir().glob("*.json")):
        record = _read_state(path)
        if not record:
            continue
        mountpoint = Path(record["mountpoint"])
        details = _details(mountpoint)
        if details is None:
            alive = _alive(record["pid"])
            if str(mountpoint) not in mounted and not alive:
                remove_state(mountpoint)
                continue
            state = "dead" if not alive else "stuck" if str(mountpoint) in mounted else "stopping"
        else:
            state = "running" if str(mountpoint) in mounted else "stopping"
        found[str(mountpoint)] = MountStatus(
            str(mountpoint), record["source"], record["pid"], state, record.get("started", 0.0), details or {}
        )
    for point, source in mounted.items():
        if point not in found and _is_mine(point):
            found[point] = MountStatus(point, source, 0, "dead" if is_dead(Path(point)) else "running")
    return sorted(found.values(), key=lambda m: m.mountpoint)


def _details(mountpoint: Path) -> dict[str, Any] | None:
    try:
        for answer in ask(mountpoint, {"op": "status"}, timeout=ANSWERS_WITHIN):
            return answer
    except (OSError, ValueError):
        pass
    return None


def _alive(pid: int) -> bool:
    try:
        # In a container nobody may be there to bury our processes: a zombie has ended too.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_dead(mountpoint: Path) -> bool:
    """Whether something is mounted here whose process is gone."""
    errors = []

    def look() -> None:
        try:
            os.statvfs(mountpoint)  # a stat may still be answered from the kernel's memory
        except OSError as exc:
            errors.append(exc.errno)

    # Nobody else's stopped process may stop us.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(ANSWERS_WITHIN)
    return errors == [errno.ENOTCONN]


Progress = Callable[[dict[str, Any]], None]


def unmount(
    mountpoint: Path, *, timeout: float = 0.0, force: bool = False, progress: Progress | None = None
) -> None:
    """Send everything, unmount, and wait until the mount's process is gone.

    timeout 0 waits as long as there is progress to be hoped for. force unmounts even if
    something could not be sent (it stays in the journal for the next mount) and detaches a
    mountpoint that is in use. Raises COSError with what is still pending.
    """
    mountpoint = absolute(mountpoint)
    if is_dead(mountpoint):
        detach(mountpoint, lazy=True)
        remove_state(mountpoint)
        return
    if str(mountpoint) not in mounted_here():
        known = status(mountpoint)
        if known is None:
            raise UsageError(f"{mountpoint} is not a mountpoint of cos", hint="`cos status` lists all mounts")
        _wait_for_exit(known.pid, timeout)
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
            hint=f"`cos status {mountpoint}` shows them; --force leaves them to the next mount",
        )
    detach(mountpoint, lazy=force)
    if known is not None and known.pid:
        _wait_for_exit(known.pid, timeout)


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


def absolute(path: Path) -> Path:
    """The mountpoint that a user means; one of ours is not touched, as it may not answer."""
    if path.name not in ("", ".."):
        place = Path(os.path.realpath(path.parent)) / path.name
        if str(place) in mounted_here():
            return place
    return Path(os.path.realpath(path))


def detach(mountpoint: Path, *, lazy: bool) -> None:
    """Take the filesystem off its mountpoint."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mountpoint), MNT_DETACH if lazy else 0) == 0:
            return
        code = ctypes.get_errno()
        if code == errno.EBUSY:
            raise _busy(mountpoint)
        raise COSError(f"{mountpoint} cannot be unmounted: {os.strerror(code)}")
    tool = shutil.which("fusermount3") or shutil.which("fusermount")
    if tool is None:
        raise COSError("fusermount3 is not installed", hint="Install the package fuse3")
    done = subprocess.run(
        [tool, "-uz" if lazy else "-u", str(mountpoint)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        if "busy" in done.stderr:
            raise _busy(mountpoint)
        raise COSError(f"{mountpoint} cannot be unmounted: {done.stderr.strip()}")


def _busy(mountpoint: Path) -> FilesystemError:
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
        if not process.name.isdigit():
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
