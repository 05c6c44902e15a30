"""Programs that go back in what they write, leave holes, watch a directory, or ask for what is not there."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import tempfile
import wave

import pytest
from inotify_simple import INotify, flags

from tests.fuse.support import fails_with, run
from tests.programs.conftest import Place

pytestmark = pytest.mark.fuse

MIB = 1024 * 1024
FS_IOC_GETFLAGS = 0x80086601


def sent(place: Place, name: str) -> bytes:
    """What COS has of a file."""
    with (place.path / name).open("rb") as file:
        os.fsync(file.fileno())
    return place.object(name)


def test_a_header_that_is_written_last(place: Place) -> None:
    """As recorders of sound and video do: the length stands at the beginning."""
    with wave.open(str(place.path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        for _ in range(20):
            sound.writeframesraw(bytes(MIB))
    stored = sent(place, "sound.wav")
    assert len(stored) == 20 * MIB + 44
    assert struct.unpack("<I", stored[40:44]) == (20 * MIB,)


def test_rsync_in_place(place: Place) -> None:
    source = place.path.parent.parent / f"{place.bucket}-source"
    data = bytearray(os.urandom(3 * MIB))
    try:
        for _ in range(2):
            source.write_bytes(data)
            run("rsync", "--inplace", "--no-whole-file", source, place.path / "file")
            assert sent(place, "file") == data
            data[MIB : MIB + 3] = b"new"
            data += b"and more"
    finally:
        source.unlink(missing_ok=True)


def test_files_with_holes_are_copied_as_zeros(place: Place) -> None:
    source = place.path.parent.parent / f"{place.bucket}-sparse"
    try:
        with source.open("wb") as file:
            file.truncate(2 * MIB)
            file.seek(MIB)
            file.write(b"island")
        run("cp", "--sparse=always", source, place.path / "copy")
        run("tar", "--sparse", "-C", source.parent, "-cf", place.path / "a.tar", source.name)
        run("tar", "-C", place.path, "-xf", place.path / "a.tar")
        wanted = source.read_bytes()
        assert sent(place, "copy") == sent(place, source.name) == wanted
    finally:
        source.unlink(missing_ok=True)


def test_inotify_tells_what_is_done_here(place: Place) -> None:
    with INotify() as inotify:
        inotify.add_watch(place.path, flags.CREATE | flags.CLOSE_WRITE | flags.MOVED_TO | flags.DELETE)
        (place.path / "a").write_bytes(b"x")
        (place.path / "a").rename(place.path / "b")
        (place.path / "b").unlink()
        told = [(event.mask, event.name) for event in inotify.read(timeout=5000)]
    assert told == [
        (flags.CREATE, "a"), (flags.CLOSE_WRITE, "a"), (flags.MOVED_TO, "b"), (flags.DELETE, "b"),
    ]  # fmt: skip


def test_access_lists_and_file_flags_are_not_supported(place: Place) -> None:
    """What setfacl, chattr and lsattr ask for."""
    path = place.path / "file"
    path.write_bytes(b"x")
    with fails_with(errno.EOPNOTSUPP):
        os.setxattr(path, "system.posix_acl_access", b"\x02\x00\x00\x00")
    with path.open("rb") as file, fails_with(errno.ENOTTY):
        fcntl.ioctl(file, FS_IOC_GETFLAGS, bytes(8))


def test_temporary_files_have_a_name_that_is_removed_at_once(place: Place) -> None:
    """As tempfile makes them where files cannot be made without a name."""
    with fails_with(errno.EOPNOTSUPP):
        os.open(place.path, os.O_TMPFILE | os.O_RDWR)
    with tempfile.TemporaryFile(dir=place.path) as file:
        file.write(b"content")
        file.seek(0)
        assert file.read() == b"content"
        assert list(place.path.iterdir()) == []
    place.settle()
    assert place.stored() == {}
