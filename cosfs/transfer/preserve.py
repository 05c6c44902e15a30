"""Mode, owner, mtime and symbolic links of files, kept in the metadata of objects and restored from it.

The format is that of `attributes`, so a mount shows the same.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import replace
from functools import cache

from cosfs.client.model import Headers, ObjectInfo
from cosfs.errors import TransferError
from cosfs.transfer.attributes import DEFAULT_TYPE, Attributes, Defaults, decode, encode

__all__ = ["is_link", "link_is_inside", "restore", "restore_mtime", "take_over", "with_attributes"]

LINK_MAX = 4096  # bytes of a link's target, as Linux has it

_OWNER = frozenset({"uid", "gid", "owner", "group"})


def with_attributes(headers: Headers, status: os.stat_result) -> Headers:
    """Return headers with what stat says about the file that is uploaded."""
    if stat.S_ISLNK(status.st_mode):
        headers = replace(headers, content_type=DEFAULT_TYPE)
    mtime_ns = status.st_mtime_ns
    found = Attributes(status.st_mode, status.st_uid, status.st_gid, mtime_ns, mtime_ns, mtime_ns)
    return encode(found, headers)


@cache
def _defaults() -> Defaults:
    return Defaults(os.geteuid(), os.getegid())


def is_link(info: ObjectInfo) -> bool:
    """Whether an object stands for a symbolic link; its content is the target."""
    if info.headers is None or not info.headers.metadata.get("mode") or not 0 < info.size <= LINK_MAX:
        return False
    return stat.S_ISLNK(decode(info, _defaults(), is_dir=False).mode)


def link_is_inside(depth: int, target: bytes) -> bool:
    """Whether a link in a real directory, depth levels below the root, leads to what is below the root.

    `..` is good at the beginning only: behind a name that is a link itself it could lead anywhere.
    """
    if target.startswith(b"/") or b"\0" in target or not target:
        return False
    names = 0
    for component in target.split(b"/"):
        if component == b"..":
            depth -= 1
            if names or depth < 0:
                return False
        elif component not in (b"", b"."):
            names += 1
    return True


def restore_mtime(info: ObjectInfo) -> int:
    """Return the mtime that an object remembers, in nanoseconds; Last-Modified if it has none."""
    return decode(info, _defaults(), is_dir=False).mtime_ns


def restore(fd: int, info: ObjectInfo) -> None:
    """Give a file the owner and the mode its object remembers; as root only the owner can change."""
    metadata = info.headers.metadata if info.headers is not None else {}
    attributes = decode(info, _defaults(), is_dir=False)
    try:
        if os.geteuid() == 0 and _OWNER & metadata.keys():
            os.fchown(fd, attributes.uid, attributes.gid)
        if metadata.get("mode"):
            # After the owner: a change of that takes the setuid bit away.
            os.fchmod(fd, stat.S_IMODE(attributes.mode))
    except OSError as error:
        raise TransferError(f"the mode or owner cannot be restored: {error.strerror}") from error


def take_over(fd: int, name: str, directory: int) -> None:
    """Give a new file the permissions of the one it replaces, and as root its owner, as cp(1) leaves them.

    Who may not read a file shall not read what comes in its place. What somebody else has put where
    everybody may, such as /tmp, says nothing: it may be there for that.
    """
    try:
        old = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return
    new = os.fstat(fd)
    is_trap = old.st_uid != new.st_uid and os.fstat(directory).st_mode & stat.S_IWOTH
    if is_trap or not stat.S_ISREG(old.st_mode):
        return
    permissions = old.st_mode & 0o777
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        try:
            os.fchown(fd, old.st_uid if os.geteuid() == 0 else -1, old.st_gid)
        except OSError:
            permissions &= ~stat.S_IRWXG  # which are for another group
    with suppress(OSError):  # filesystems without permissions refuse any
        os.fchmod(fd, permissions)
