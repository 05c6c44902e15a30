"""Where the sockets and records of mounts are, and what the kernel says is mounted.

Each mount has a small JSON file, a control socket and a socket for its metrics in a runtime directory,
named after its mountpoint.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosfs.errors import UsageError

FSTYPE = "fuse.cosfs"
SOCKET_NAME_MAX = 108  # sun_path, unix(7)
ANSWERS_WITHIN = 3.0  # seconds in which a mount that works answers


def runtime_dir() -> Path:
    """Where sockets of mounts live: gone after a reboot, private to the user, with a short path.

    After su and sudo XDG_RUNTIME_DIR may be that of somebody else, and does not count.
    """
    base = _session_dir()
    if base is not None and _owner(base) == os.getuid():
        path = base / "cosfs"
    elif os.getuid() == 0:
        path = Path("/run/cosfs")
    else:
        path = Path(f"/tmp/cosfs-{os.getuid()}")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _owner(path) != os.getuid():
        raise UsageError(
            f"{path} belongs to another user", hint="Set XDG_RUNTIME_DIR to a directory of your own"
        )
    return path


def _session_dir() -> Path | None:
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) if base else None


def _owner(path: Path) -> int:
    """The user a path belongs to, -1 if it is not there."""
    try:
        return path.lstat().st_uid
    except OSError:
        return -1


def _searched() -> Iterator[Path]:
    """Where records may be: a service and a login shell of one user have different runtime directories.

    Root finds those of others too, whose mounts the kernel lists.
    """
    yield runtime_dir()
    session = _session_dir()
    for uid in sorted({os.getuid(), *(_owners() if os.getuid() == 0 else ())}):
        for path in (
            Path(f"/run/user/{uid}/cosfs"),
            Path(f"/tmp/cosfs-{uid}"),
            Path("/run/cosfs"),
            *([session / "cosfs"] if session is not None else []),
        ):
            if _owner(path) == uid:
                yield path


def records() -> list[Path]:
    """The records of all mounts that we may know of."""
    found = {path.name: path for place in _searched() for path in place.glob("*.json")}
    return [found[name] for name in sorted(found)]


def _stem(mountpoint: Path, *, ours: bool = False) -> Path:
    """Path of a mount's files without their endings; ours: where we would put them."""
    digest = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]
    if not ours:
        for place in _searched():
            if (place / f"{digest}.json").exists():
                return place / digest
    return runtime_dir() / digest


def socket_path(mountpoint: Path, *, ours: bool = False) -> Path:
    return _stem(mountpoint, ours=ours).with_suffix(".sock")


def metrics_path(mountpoint: Path, *, ours: bool = False) -> Path:
    """The socket where a mount's metrics are served over HTTP."""
    return _stem(mountpoint, ours=ours).with_suffix(".metrics")


def state_path(mountpoint: Path, *, ours: bool = False) -> Path:
    return _stem(mountpoint, ours=ours).with_suffix(".json")


def write_state(mountpoint: Path, source: str) -> None:
    """Register a mount that is about to answer."""
    path = state_path(mountpoint, ours=True)
    record = {
        "mountpoint": str(mountpoint),
        "source": source,
        "pid": os.getpid(),
        "started": time.time(),
        "device": device_of(mountpoint),
    }
    temp = path.with_suffix(".tmp")
    temp.write_text(json.dumps(record))
    temp.rename(path)


def remove_state(mountpoint: Path, pid: int = 0) -> None:
    """Unregister a mount; with a pid only if it is that process's.

    A process that still sends after its unmounting may meanwhile have a successor.
    """
    stem = _stem(mountpoint)
    if pid and read_state(stem.with_suffix(".json")).get("pid") != pid:
        return
    for ending in (".sock", ".metrics", ".json"):
        stem.with_suffix(ending).unlink(missing_ok=True)


def read_state(path: Path) -> dict[str, Any]:
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


def mounted_here() -> dict[str, str]:
    """Mountpoints of our filesystems, with their sources, as the kernel lists them."""
    return {point: source for point, kind, source in _mountinfo() if kind == FSTYPE}


def _mountinfo() -> list[tuple[str, str, str]]:
    """Mountpoint, type and source of everything mounted, in the order it was mounted."""
    return [(point, kind, source) for point, kind, source, _ in _mount_table()]


def _owners() -> set[int]:
    """Who mounted the filesystems of ours that the kernel lists."""
    text = ",".join(options for _, kind, _, options in _mount_table() if kind == FSTYPE)
    return {int(each[8:]) for each in text.split(",") if each.startswith("user_id=") and each[8:].isdigit()}


def is_mine(mountpoint: str) -> bool:
    """Whether we mounted what is mounted here."""
    options = [options for point, _, _, options in _mount_table() if point == mountpoint]
    return bool(options) and f"user_id={os.getuid()}" in options[-1].split(",")


def _mount_table() -> list[tuple[str, str, str, str]]:
    """Mountpoint, type, source and the filesystem's own options of everything mounted."""
    found = []
    for line in _lines_of(Path("/proc/self/mountinfo")):
        left, _, right = line.partition(" - ")
        kind, source, options = right.split(" ", 2)
        found.append((_unescape(left.split(" ")[4]), kind, _unescape(source), options))
    return found


def _lines_of(table: Path) -> list[str]:
    return table.read_text("utf-8", "surrogateescape").splitlines()


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def mounted_below(path: Path) -> list[str]:
    """Mountpoints of any kind below a directory."""
    return [point for point, _, _ in _mountinfo() if point.startswith(f"{path}/")]


def device_of(mountpoint: Path) -> str:
    """The kernel's number of the filesystem mounted here; empty if none is. Does not touch it."""
    lines = _lines_of(Path("/proc/self/mountinfo"))
    found = [line.split(" ")[2] for line in lines if _unescape(line.split(" ")[4]) == str(mountpoint)]
    return found[-1] if found else ""


def other_places(mountpoint: Path) -> list[str]:
    """Where a filesystem is mounted that was unmounted here.

    A bind mount is such a place, and the table of mounts that a process in a container has of its own.
    """
    device = read_state(state_path(mountpoint)).get("device")
    if not device:
        return []
    tables: dict[str, str] = {}
    for process in (Path("/proc/self"), *Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(OSError):
            tables.setdefault(str((process / "ns/mnt").readlink()), process.name)
    found = []
    for pid in tables.values():
        with contextlib.suppress(OSError):
            points = [line.split(" ") for line in _lines_of(Path("/proc", pid, "mountinfo"))]
            note = "" if pid == "self" else f" (as process {pid} sees it)"
            found += [f"{_unescape(each[4])}{note}" for each in points if each[2] == device]
    return found


def is_mounted(path: Path) -> bool:
    """Whether anything is mounted exactly here."""
    return any(point == str(path) for point, _, _ in _mountinfo())


def is_automount(path: Path) -> bool:
    """Whether whoever looks into this directory has it mounted (x-systemd.automount)."""
    return any(point == str(path) and kind == "autofs" for point, kind, _ in _mountinfo())


def is_alive(pid: int) -> bool:
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


def absolute(path: Path) -> Path:
    """The mountpoint that a user means; one of ours is not touched, as it may not answer."""
    if path.name not in ("", ".."):
        place = Path(os.path.realpath(path.parent)) / path.name
        if str(place) in mounted_here():
            return place
    return Path(os.path.realpath(path))
