"""Programs that change files where they are: editors, sed, patch-like saves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuse.support import run
from tests.programs.conftest import Place

pytestmark = pytest.mark.fuse


def test_saving_as_vim_does(place: Place) -> None:
    """The old file becomes the backup, a new one takes its name, then the backup goes."""
    path = place.path / "notes.txt"
    path.write_text("first\n")
    path.chmod(0o640)
    swap = place.path / ".notes.txt.swp"
    swap.write_bytes(bytes(4096))
    with swap.open("r+b") as recovery:
        recovery.write(b"b0VIM")
        os.fsync(recovery.fileno())
    path.rename(place.path / "notes.txt~")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    os.write(fd, b"second\n")
    os.fsync(fd)
    os.close(fd)
    (place.path / "notes.txt~").unlink()
    swap.unlink()
    assert path.read_text() == "second\n"
    place.settle()
    assert place.stored() == {"notes.txt": b"second\n"}


@pytest.mark.parametrize("backup", ["yes", "no"])
def test_vi(place: Place, backup: str) -> None:
    path = place.path / "text.txt"
    path.write_text("one\ntwo\n")
    path.chmod(0o604)
    options = ("-c", f"set backupskip= backupcopy={backup} backup fsync")
    run("vi", "-N", "-es", "-u", "NONE", *options, "-c", "%s/two/three/", "-c", "x", path)
    assert path.read_text() == "one\nthree\n"
    assert (place.path / "text.txt~").read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o604
    place.arrives("text.txt", b"one\nthree\n")
    place.arrives("text.txt~", b"one\ntwo\n")


def test_saving_a_temporary_file_over_the_old_one(place: Place) -> None:
    path = place.path / "config"
    for number in range(5):
        temporary = place.path / f".config.{number}"
        with temporary.open("w") as file:
            file.write(f"version {number}\n" * 100)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o600)
        temporary.replace(path)
        place.settle()
        assert place.stored() == {"config": f"version {number}\n".encode() * 100}


def test_sed_in_place_and_sort_onto_itself(place: Place) -> None:
    path = place.path / "list"
    path.write_text("b\nc\na\n")
    run("sed", "-i", "s/c/d/", path)
    run("sed", "-i.orig", "s/d/e/", path)
    run("sort", "-o", path, path)
    place.arrives("list", b"a\nb\ne\n")
    place.arrives("list.orig", b"b\nd\na\n")


def test_appending_with_a_shell(place: Place) -> None:
    path = place.path / "log"
    run("sh", "-c", 'for n in 1 2 3 4 5; do echo "line $n" >> "$1"; done', "sh", path)
    place.arrives("log", b"".join(b"line %d\n" % n for n in range(1, 6)))


def test_install_and_ln(place: Place, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho installed\n")
    run("install", "-D", "-m", "755", tmp_path / "tool", place.path / "bin" / "tool")
    run("ln", "-s", "tool", place.path / "bin" / "link")
    assert run(place.path / "bin" / "link") == "installed\n"
    run("ln", "-sfn", "nowhere", place.path / "bin" / "link")
    assert run("readlink", place.path / "bin" / "link") == "nowhere\n"
    run("ln", "-sr", place.path / "bin" / "tool", place.path / "up")
    assert run("realpath", place.path / "up") == f"{place.path}/bin/tool\n"
