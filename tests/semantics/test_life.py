"""Mounting, unmounting, and what survives the end of the process."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cosfs.emulator import Emulator
from tests.fuse.support import fails_with
from tests.mounting import Mounted, is_mounted
from tests.semantics.conftest import Outside, names


def test_sigterm_unmounts_after_everything_is_sent(
    mount: Callable[..., Mounted], bucket: str, outside: Outside
) -> None:
    mounted = mount(f"cos://{bucket}", "--write-back", "async")
    for number in range(50):
        (mounted.path / f"{number}").write_text(str(number))
    assert mounted.unmount() == 0
    assert not is_mounted(mounted.path)
    assert len(outside.listing()) == 50


def test_umount_waits_until_everything_is_sent(
    mount: Callable[..., Mounted],
    bucket: str,
    outside: Outside,
    cos: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    mounted = mount(f"cos://{bucket}", "--write-back", "async")
    for number in range(50):
        (mounted.path / f"{number}").write_text(str(number))
    cos("umount", mounted.path, check=True)
    assert len(outside.listing()) == 50
    assert mounted.process.wait(90) == 0


def test_killed_mount_loses_nothing_that_close_acknowledged(
    mount: Callable[..., Mounted], bucket: str, outside: Outside, emulator: Emulator
) -> None:
    mounted = mount(f"cos://{bucket}", "--write-back", "async")
    fault = emulator.faults.error("PutObject", "SlowDown", 503, count=0, key="file")
    try:
        (mounted.path / "file").write_bytes(b"acknowledged")
        mounted.kill()
        assert outside.listing() == []
    finally:
        emulator.faults.remove(fault)
    again = mount(f"cos://{bucket}", cache_dir=mounted.cache_dir)
    deadline = time.monotonic() + 90
    while outside.listing() != ["file"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert outside.get("file") == b"acknowledged"
    assert (again.path / "file").read_bytes() == b"acknowledged"


def test_emptied_file_keeps_its_old_bytes_until_new_ones_are_there(
    mount: Callable[..., Mounted], bucket: str, outside: Outside
) -> None:
    outside.put("file", b"old")
    mounted = mount(f"cos://{bucket}")
    fd = os.open(mounted.path / "file", os.O_WRONLY | os.O_TRUNC)
    os.close(os.dup(fd))  # as a shell does before the program writes
    assert (mounted.path / "file").read_bytes() == b""
    mounted.kill()
    with contextlib.suppress(OSError):
        os.close(fd)
    assert outside.get("file") == b"old"


def test_emptied_file_that_was_not_sent_yet_keeps_its_old_bytes(
    mount: Callable[..., Mounted], bucket: str, outside: Outside, emulator: Emulator
) -> None:
    mounted = mount(f"cos://{bucket}", "--write-back", "async")
    fault = emulator.faults.error("PutObject", "SlowDown", 503, count=0, key="file")
    try:
        (mounted.path / "file").write_bytes(b"old, and only here")
        fd = os.open(mounted.path / "file", os.O_WRONLY | os.O_TRUNC)
        os.close(os.dup(fd))
        mounted.kill()
        with contextlib.suppress(OSError):
            os.close(fd)
    finally:
        emulator.faults.remove(fault)
    mount(f"cos://{bucket}", cache_dir=mounted.cache_dir)
    deadline = time.monotonic() + 90
    while outside.listing() != ["file"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert outside.get("file") == b"old, and only here"


def test_background_mount_answers_when_the_command_returns(
    cos: Callable[..., subprocess.CompletedProcess[str]], bucket: str, outside: Outside, tmp_path: Path
) -> None:
    outside.put("file", b"content")
    path = tmp_path / "mnt"
    path.mkdir()
    cos("mount", f"cos://{bucket}", path, "--cache-dir", tmp_path / "cache", check=True)
    try:
        assert (path / "file").read_bytes() == b"content"
    finally:
        done = cos("umount", path)
    assert done.returncode == 0, done.stderr
    assert names(path) == []


def test_failing_mount_says_why_and_leaves_nothing(
    cos: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    done = cos("mount", "cos://no-such-bucket-1250000000", path, "--cache-dir", tmp_path / "cache")
    assert done.returncode != 0
    assert "no-such-bucket-1250000000" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not is_mounted(path)


def test_two_mounts_of_a_source_do_not_share_a_cache_directory(
    mount: Callable[..., Mounted],
    bucket: str,
    cos: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    mounted = mount(f"cos://{bucket}")
    path = tmp_path / "second"
    path.mkdir()
    done = cos("mount", f"cos://{bucket}", path, "--cache-dir", mounted.cache_dir)
    assert done.returncode != 0
    assert str(mounted.cache_dir) in done.stderr
    assert not is_mounted(path)


def test_two_sources_share_a_cache_directory(
    mount: Callable[..., Mounted], bucket: str, outside: Outside, counted: Callable[..., Any], tmp_path: Path
) -> None:
    """What one of them has read, the other need not; what they have not sent stays apart."""
    outside.put("d/file", b"content" * 1000)
    shared = tmp_path / "cache"
    whole = mount(f"cos://{bucket}", "--write-back", "async", cache_dir=shared)
    part = mount(f"cos://{bucket}/d", "--write-back", "async", cache_dir=shared)
    assert (whole.path / "d/file").read_bytes() == b"content" * 1000
    deadline = time.monotonic() + 90
    while not list((shared / "blocks").glob("??/*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with counted() as seen:
        assert (part.path / "file").read_bytes() == b"content" * 1000
    assert "GetObject" not in seen.counts
    (whole.path / "one").write_bytes(b"1")
    (part.path / "two").write_bytes(b"2")
    assert whole.unmount() == part.unmount() == 0
    assert outside.get("one") == b"1"
    assert outside.get("d/two") == b"2"


class FileHandle(ctypes.Structure):
    """What an NFS server remembers of a file: `struct file_handle` of <fcntl.h>."""

    _fields_ = (("length", ctypes.c_uint), ("type", ctypes.c_int), ("bytes", ctypes.c_ubyte * 128))

    @classmethod
    def of(cls, path: Path) -> FileHandle:
        handle = cls(length=128)
        mount_number = ctypes.c_int()
        checked(
            libc.name_to_handle_at(-1, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_number), 0)
        )
        return handle

    def read(self, somewhere: Path) -> bytes:
        """Open it on the mount that somewhere is in, and read it."""
        directory = os.open(somewhere, os.O_RDONLY)
        try:
            with open(
                checked(libc.open_by_handle_at(directory, ctypes.byref(self), os.O_RDONLY)), "rb"
            ) as file:
                return file.read()
        finally:
            os.close(directory)


libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def test_file_handles_hold_while_the_kernel_knows_the_file(
    mount: Callable[..., Mounted], bucket: str
) -> None:
    first = mount(f"cos://{bucket}")
    path = first.path / "file"
    path.write_bytes(b"content")
    with path.open("rb"):
        handle = FileHandle.of(path)
        try:
            content = handle.read(first.path)
        except PermissionError:
            pytest.skip("CAP_DAC_READ_SEARCH is needed to open a file by its handle")
        assert content == b"content"
    assert first.unmount() == 0
    second = mount(f"cos://{bucket}", cache_dir=first.cache_dir)
    with fails_with(errno.ESTALE):
        handle.read(second.path)
