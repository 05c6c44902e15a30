"""Which files a process has open, as the kernel tells in /proc: asking waits for no filesystem of ours."""

from __future__ import annotations

import os

MANY = 512  # descriptors that are looked at; a process with more is not worth the time


def may_write(pid: int, ino: int, device: str) -> bool:
    """Whether a process has a descriptor through which it may write to the inode of a filesystem.

    device is the kernel's number of that, "major:minor". False also where it cannot be told: a process that
    is gone, of somebody else or in another container, and kernels before 5.14.
    """
    directory = f"/proc/{pid}/fdinfo"
    try:
        numbers = os.listdir(directory)  # noqa: PTH208
    except OSError:
        return False
    if len(numbers) > MANY:
        return False
    mounts = {_writes_through(f"{directory}/{number}", ino) for number in numbers} - {b""}
    return bool(mounts) and not mounts.isdisjoint(_mounts_of(pid, device))


def _writes_through(path: str, ino: int) -> bytes:
    """The mount by which a descriptor may write to an inode of this number; empty if it may not."""
    try:
        with open(path, "rb") as info:  # noqa: PTH123
            fields = dict(line.split(b":", 1) for line in info.read(4096).splitlines() if b":" in line)
    except OSError:
        return b""  # closed meanwhile
    if int(fields.get(b"ino", b"-1")) != ino or int(fields[b"flags"], 8) & os.O_ACCMODE == os.O_RDONLY:
        return b""
    return fields[b"mnt_id"].strip()


def _mounts_of(pid: int, device: str) -> set[bytes]:
    """The numbers of the mounts of a filesystem that a process sees.

    A file has the same inode number in each mount of its bucket, also in one that was killed.
    """
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as table:  # noqa: PTH123
            rows = [line.split(b" ", 3) for line in table]
    except OSError:
        return set()
    return {row[0] for row in rows if row[2] == device.encode()}
