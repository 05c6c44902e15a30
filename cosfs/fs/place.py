"""The directories a mount works in: ours alone, and one mount's journal only its own.

<cache directory>/blocks/                the block cache, shared by all mounts
<cache directory>/<source>-<digest>/     one source: journal, staging files, attributes; lock
"""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cosfs.errors import ConfigError

__all__ = ["BLOCKS", "Place", "check_private", "lock_directory"]

BLOCKS = "blocks"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one mount works. realm is the service its blocks come from."""

    own: Path
    blocks: Path
    realm: str = ""


def check_private(directory: Path, *, hidden: bool = False) -> None:
    """Refuse a directory that is not ours or that others could change; hidden: or read.

    Whoever may write there could make a mount serve bytes of his own.
    """
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"the cache directory {directory} belongs to another user (uid {status.st_uid})",
            hint="Choose a directory of your own with --cache-dir",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & (0o077 if hidden else 0o022):
        raise ConfigError(
            f"the cache directory {directory} is open to other users (mode {mode:04o})",
            hint=f"Close it: chmod 700 {directory}",
        )


def lock_directory(directory: Path) -> int:
    """Take a mount's own directory for this process; return the descriptor that holds the lock."""
    try:
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigError(
            f"{directory / 'lock'} cannot be used: {exc.strerror}",
            hint="It has to be a file of yours that you may write; no mount needs its content: remove it",
        ) from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        pid = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise ConfigError(
            f"cache directory {directory} is in use by another mount (pid {pid})",
            hint="What one mount has not sent yet is not for another: choose another with --cache-dir",
        ) from None
    except OSError:
        os.close(fd)
        raise
    return fd
