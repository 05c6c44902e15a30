"""Which files a process has open, as the kernel tells in /proc: asking waits for no filesystem of ours."""

from __future__ import annotations

import os

MANY = 512  # descriptors that are looked at; a process with more is not worth the time


def may_write(pid: int, ino: int) -> bool:
    """Whether a process has a descriptor through which it may write to the inode.

    False also where it cannot be told: a process that is gone, of somebody else or in another
    container, and kernels before 5.14.
    """
    directory = f"/proc/{pid}/fdinfo"
    try:
        numbers = os.listdir(directory)  # noqa: PTH208
    except OSError:
        return False
    if len(numbers) > MANY:
        return False
    return any(_is_writer(f"{directory}/{number}", ino) for number in numbers)


def _is_writer(path: str, ino: int) -> bool:
    try:
        with open(path, "rb") as info:  # noqa: PTH123
            fields = dict(line.split(b":", 1) for line in info.read(4096).splitlines() if b":" in line)
    except OSError:
        return False  # closed meanwhile
    if int(fields.get(b"ino", b"-1")) != ino:
        return False
    return int(fields[b"flags"], 8) & os.O_ACCMODE != os.O_RDONLY
