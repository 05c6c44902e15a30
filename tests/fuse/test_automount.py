"""A mount that somebody who looked into its directory waits for (x-systemd.automount)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.users import User

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

IOC_READY = 0x9360  # auto_fs.h
PACKET = struct.Struct("<iiI")  # version, type, token
MNT_DETACH = 2

pytestmark = pytest.mark.fuse


@contextmanager
def automount(place: Path) -> Iterator[tuple[int, int]]:
    """Play systemd; give the pipe by which the kernel asks and the descriptor that answers it."""
    libc = ctypes.CDLL(None, use_errno=True)
    reader, writer = os.pipe()
    options = f"fd={writer},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    if libc.mount(b"test", os.fsencode(place), b"autofs", 0, options.encode()):
        raise OSError(ctypes.get_errno(), "autofs cannot be mounted")
    root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield reader, root
    finally:
        for fd in (root, reader, writer):
            os.close(fd)
        while libc.umount2(os.fsencode(place), MNT_DETACH) == 0:
            pass


def test_who_mounts_does_not_wait_for_the_mount(user: User, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"x")
    with automount(user.mountpoint) as (reader, root):
        looking = subprocess.Popen(
            ["ls", str(user.mountpoint)], start_new_session=True, stdout=subprocess.PIPE, text=True
        )
        try:
            _, _, token = PACKET.unpack(os.read(reader, 4096)[: PACKET.size])
            done = user.cos("mount", f"cos://{bucket}", user.mountpoint)
            assert done.returncode == 0, done.stderr
            fcntl.ioctl(root, IOC_READY, token)
            assert looking.communicate(timeout=90)[0] == "file\n"
        finally:
            looking.kill()
            looking.wait()
        assert user.cos("umount", user.mountpoint).returncode == 0
