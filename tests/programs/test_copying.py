"""Programs that copy trees and pack them: cp, tar, rsync, zip."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import make_tree, run, tree
from tests.programs.conftest import Place

if TYPE_CHECKING:
    from cosfs.emulator import Emulator

pytestmark = pytest.mark.fuse

MIB = 1024 * 1024


def details(top: Path) -> dict[str, tuple[int, int, int, int]]:
    """Mode, owner, group and time of everything below a directory."""
    return {
        str(path.relative_to(top)): (info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns)
        for path in sorted(top.rglob("*"))
        if (info := path.lstat())
    }


def test_cp_a(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    expected = make_tree(source)
    (source / "script").chmod(0o4751)
    os.utime(source / "script", ns=(1, 1_234_567_890_123_456_789))
    run("cp", "-a", source, place.path / "copy")
    assert tree(place.path / "copy") == expected
    assert details(place.path / "copy") == details(source)
    run("cp", "-a", place.path / "copy", tmp_path / "back")
    assert details(tmp_path / "back") == details(source)


def test_cp_reflink_and_copy_file_range(place: Place) -> None:
    data = os.urandom(3 * MIB + 77)
    (place.path / "file").write_bytes(data)
    run("cp", "--reflink=auto", place.path / "file", place.path / "copy")
    place.arrives("copy", data)
    with (place.path / "file").open("rb") as source, (place.path / "middle").open("wb") as target:
        target.write(b"head")
        target.flush()
        copied = os.copy_file_range(source.fileno(), target.fileno(), MIB, 5, 4)
        while copied < MIB:
            copied += os.copy_file_range(source.fileno(), target.fileno(), MIB - copied, 5 + copied)
    place.arrives("middle", b"head" + data[5 : 5 + MIB])


def test_tar_in_and_out(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    expected = make_tree(source)
    run("tar", "-C", source, "--format=posix", "-czf", place.path / "all.tar.gz", ".")
    (place.path / "unpacked").mkdir()
    run("tar", "-C", place.path / "unpacked", "-xpzf", place.path / "all.tar.gz")
    assert tree(place.path / "unpacked") == expected
    assert details(place.path / "unpacked") == details(source)
    run("tar", "-C", place.path / "unpacked", "--format=posix", "-cf", tmp_path / "again.tar", ".")
    run("tar", "-C", source, "--compare", "-f", tmp_path / "again.tar")
    run("tar", "-C", source, "-rf", place.path / "grown.tar", "script")
    run("tar", "-C", source, "-rf", place.path / "grown.tar", "link")
    assert run("tar", "-tf", place.path / "grown.tar") == "script\nlink\n"


def test_tar_archives_change_in_place(place: Place) -> None:
    for name in ("one", "two", "three"):
        (place.path / name).write_bytes(name.encode() * 1000)
    archive = place.path / "a.tar"
    run("tar", "-C", place.path, "-cf", archive, "one", "two")
    run("tar", "-C", place.path, "-rf", archive, "three")
    run("tar", "--delete", "-f", archive, "one")
    assert run("tar", "-tf", archive).splitlines() == ["two", "three"]
    run("tar", "-C", place.path, "-df", archive)
    place.arrives("a.tar", archive.read_bytes())


def test_rsync_sends_nothing_the_second_time(place: Place, tmp_path: Path, emulator: Emulator) -> None:
    source, target = tmp_path / "source", place.path / "target"
    expected = make_tree(source)
    for path in source.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)  # rsync compares whole seconds
    os.utime(source, (1_600_000_000, 1_600_000_000))
    rsync = ("rsync", "-aX", "--itemize-changes", f"{source}/", f"{target}/")
    run(*rsync)
    assert tree(target) == expected
    assert details(target) == details(source)
    place.settle_all(target)
    emulator.requests.reset()
    assert run(*rsync) == ""
    sent = [(e.operation, e.key) for e in emulator.requests.log() if e.operation.startswith(("Put", "Copy"))]
    assert sent == []
    (source / "dir 0" / "ü" / "file-2.txt").write_text("other text\n")
    shutil.rmtree(source / "dir 1")
    changed = run(*rsync, "--delete", "--inplace")
    assert "file-2.txt" in changed and "*deleting" in changed
    assert tree(target) == tree(source)


def test_zip_in_place(place: Place, tmp_path: Path) -> None:
    top = place.path / "work"
    expected = make_tree(top)
    run("zip", "--quiet", "--symlinks", "-r", place.path / "all.zip", ".", cwd=top)
    (top / "script").write_text("changed\n")
    run("zip", "--quiet", place.path / "all.zip", "script", cwd=top)
    run("zip", "--quiet", "--delete", place.path / "all.zip", "dangling", cwd=top)
    run("unzip", "-tq", place.path / "all.zip")
    run("unzip", "-q", place.path / "all.zip", "-d", place.path / "out")
    wanted = {**expected, "script": b"changed\n"}
    del wanted["dangling"]
    assert tree(place.path / "out") == wanted


def test_mv_between_the_mount_and_the_local_disk(place: Place, tmp_path: Path) -> None:
    expected = make_tree(tmp_path / "source")
    before = details(tmp_path / "source")
    run("mv", tmp_path / "source", place.path / "moved")
    assert tree(place.path / "moved") == expected
    run("mv", place.path / "moved", tmp_path / "back")
    assert details(tmp_path / "back") == before
    place.settle()
    assert place.stored() == {}
