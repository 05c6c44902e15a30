"""What must be so before anything is mounted, each said in words if it is not."""

from __future__ import annotations

import ctypes.util
import errno
import os
import shutil
import stat
from pathlib import Path

from cosfs.errors import ConfigError, UsageError
from cosfs.fuse import registry
from cosfs.fuse.settings import MountSettings


def check_mountpoint(path: Path) -> Path:
    """Return the absolute mountpoint; UsageError says what is wrong with it."""
    try:
        os.statvfs(path)  # where a mount's process is gone, a stat may be answered from memory
        info = path.stat()
    except FileNotFoundError:
        raise UsageError(f"the mountpoint {path} does not exist", hint=f"Make it: mkdir -p {path}") from None
    except OSError as exc:
        if exc.errno == errno.ENOTCONN:
            raise UsageError(
                f"{path} holds a mount whose process is gone (transport endpoint is not connected)",
                hint=f"Clean it up with: cos umount {path}",
            ) from None
        raise UsageError(f"the mountpoint {path} cannot be used: {exc.strerror}") from None
    if not stat.S_ISDIR(info.st_mode):
        raise UsageError(f"the mountpoint {path} is not a directory")
    if os.getuid() != 0 and not os.access(path, os.W_OK):
        raise UsageError(
            f"the mountpoint {path} cannot be written by you", hint="Use a directory of your own"
        )
    path = path.resolve()
    # Another filesystem may be there (a container's volume, an automount): what counts is that it is empty.
    what = registry.mounted_here().get(str(path))
    if what:
        raise UsageError(f"{what} is already mounted on {path}", hint=f"Unmount it first: cos umount {path}")
    try:
        empty = not any(path.iterdir())
    except OSError as exc:
        raise UsageError(f"the mountpoint {path} cannot be used: {exc.strerror}") from None
    if not empty:
        raise UsageError(
            f"the mountpoint {path} is not empty", hint="Files in it would be hidden; use an empty directory"
        )
    return path


def check_fuse(mount_settings: MountSettings) -> None:
    if not Path("/dev/fuse").exists():
        raise ConfigError(
            "/dev/fuse is missing",
            hint="Load the kernel module (modprobe fuse) or pass the device into the container",
        )
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise ConfigError("/dev/fuse cannot be opened by this user", hint="Allow it: chmod 666 /dev/fuse")
    if ctypes.util.find_library("fuse3") is None and not list(Path("/usr/lib").glob("*/libfuse3.so.3*")):
        raise ConfigError("libfuse3 is not installed", hint="Install it: apt-get install fuse3 libfuse3-3")
    if os.getuid() != 0 and shutil.which("fusermount3") is None:
        raise ConfigError("fusermount3 is not installed", hint="Install it: apt-get install fuse3")
    others = mount_settings.allow_other or "allow_root" in mount_settings.fuse_options
    if others and os.getuid() != 0 and not _may_let_in_others():
        raise ConfigError(
            "/etc/fuse.conf does not let you open a mount to other users",
            hint="Let root add a line user_allow_other to it, or leave --allow-other out",
        )
    try:
        import pyfuse3  # noqa: F401
    except ImportError as exc:
        raise ConfigError(
            f"pyfuse3 cannot be loaded: {exc}",
            hint="Install libfuse3 (apt-get install fuse3 libfuse3-dev) and reinstall this package",
        ) from exc


def _may_let_in_others() -> bool:
    try:
        lines = Path("/etc/fuse.conf").read_text().splitlines()
    except OSError:
        return False
    return "user_allow_other" in (line.strip() for line in lines)
