"""Keys that are no file names, and file names that are no keys."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.semantics.conftest import Outside, names, settle

AWKWARD = ["a", "a/b", "a//b", "x/../y", "x/./z", "new\nline", "sn\u00f6 \u96ea", "dir/with content/"]


# Keys that no path can hold, or that would get into each other's way; each is below "tree/".
HOSTILE = [
    "plain", "plain/below", "plain%=file", "%=", "%=%2E", "con%=content", "empty/", "full/",
    "a//b", "/lead", "//", "./dot", "../dots", "x/./y", "x/../y",
    "control \x01\x07\x7f", "tab\tand\nline", "back\\slash", "quote\"'`$", "*?[", " lead and trail ", "-rf",
    "sn\u00f6 \u96ea \U0001f600", "combining e\u0301",
    "n" * 300, "d" * 280 + "/below", "two" * 90, "two" * 90 + "/x",
]  # fmt: skip


def put_hostile(outside: Outside) -> None:
    for key in HOSTILE:
        outside.put("tree/" + key, b"" if key == "empty/" else key.encode())


def contents() -> list[bytes]:
    return sorted(key.encode() for key in HOSTILE if key != "empty/")


def shown(top: Path) -> dict[str, bytes]:
    """All files of a tree with their content."""
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_every_key_is_shown_and_readable(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    for key in AWKWARD:
        outside.put(key, key.encode())
    top = mount_bucket()
    assert sorted(shown(top).values()) == sorted(key.encode() for key in AWKWARD)


def test_a_file_and_a_directory_of_one_name(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("a", b"file")
    outside.put("a/b", b"below")
    top = mount_bucket()
    assert (top / "a" / "b").read_bytes() == b"below"
    assert (top / "a%=file").read_bytes() == b"file"
    (top / "a%=file").unlink()
    settle(top)
    assert names(top) == ["a"]


def test_escaped_names_move_with_their_directory(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("dir//double", b"1")
    outside.put("dir/../dots", b"2")
    top = mount_bucket()
    (top / "dir").rename(top / "moved")
    settle(top)
    assert sorted(outside.listing()) == ["moved/../dots", "moved//double"]


def test_awkward_names_can_be_removed(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    for key in AWKWARD:
        outside.put("tree/" + key, key.encode())
    top = mount_bucket()
    shutil.rmtree(top / "tree")
    settle(top)
    assert outside.listing() == []


def test_component_of_over_255_bytes_is_shown_shortened(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    outside.put("n" * 800, b"long")
    (name,) = names(mount := mount_bucket())
    assert len(os.fsencode(name)) <= 255
    assert (mount / name).read_bytes() == b"long"


def test_key_of_over_850_bytes_is_refused(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    top = mount_bucket()
    deep = top / ("d" * 200) / ("e" * 200) / ("f" * 200)
    deep.mkdir(parents=True)
    (deep / ("g" * 200)).write_bytes(b"x")
    with pytest.raises(OSError) as raised:
        (deep / ("g" * 250)).write_bytes(b"x")
    assert raised.value.errno == errno.ENAMETOOLONG


def test_name_that_is_not_utf8_is_refused(mount_bucket: Callable[..., Path]) -> None:
    top = mount_bucket()
    with pytest.raises(OSError) as raised:
        os.open(os.fsencode(top) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY)
    assert raised.value.errno in (errno.EILSEQ, errno.EINVAL)


def test_hostile_names_are_all_shown_and_readable(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    put_hostile(outside)
    top = mount_bucket()
    found = shown(top / "tree")
    assert sorted(found.values()) == contents()
    assert (top / "tree" / "empty").is_dir()
    for name in found:
        assert (top / "tree" / name).stat().st_size == len(found[name]), name


def test_hostile_names_move_with_their_parent_unchanged(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    put_hostile(outside)
    top = mount_bucket()
    before = shown(top / "tree")
    (top / "tree").rename(top / "moved")
    settle(top)
    assert sorted(outside.listing()) == sorted("moved/" + key for key in HOSTILE)
    assert shown(top / "moved") == before


def test_hostile_names_can_be_renamed_to_plain_ones(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    put_hostile(outside)
    top = mount_bucket()
    (top / "out").mkdir()
    found = shown(top / "tree")
    for number, name in enumerate(found):
        if not name.endswith("%=content"):  # the bytes of a directory's own object: they stay with it
            (top / "tree" / name).rename(top / "out" / str(number))
    settle(top)
    kept = {data for name, data in found.items() if name.endswith("%=content")}
    assert sorted(shown(top / "out").values()) == sorted(set(contents()) - kept)
    assert set(shown(top / "tree").values()) == kept


@pytest.mark.parametrize("ttl", ["0s", "10m"])
def test_hostile_names_can_be_removed(mount_bucket: Callable[..., Path], outside: Outside, ttl: str) -> None:
    put_hostile(outside)
    outside.put("tree-beside", b"stays")
    top = mount_bucket("--metadata-ttl", ttl)
    shutil.rmtree(top / "tree")
    settle(top)
    assert outside.listing() == ["tree-beside"]


@pytest.mark.parametrize(
    "command", ["rm -r gone", "find gone -delete", "mv gone {local}", "rsync -r --delete empty/ gone"]
)
def test_a_file_and_a_directory_of_one_name_are_removed_though_names_are_read_anew(
    mount_bucket: Callable[..., Path], outside: Outside, tmp_path: Path, command: str
) -> None:
    for name in ("a", "a/b", "c", "c/d/e", "c/d"):
        outside.put(f"gone/{name}", name.encode())
    outside.put("empty/", b"")
    # No name is believed for longer than a call: those of the files change when the directories have gone.
    top = mount_bucket("--metadata-ttl", "0s")
    words = command.format(local=tmp_path / "moved").split()
    subprocess.run(words, cwd=top, check=True, timeout=300)
    settle(top)
    assert [key for key in outside.listing() if key != "gone/"] == ["empty/"]


def test_hostile_names_can_be_copied_within_the_mount(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    for key in ("a//b", "x/./y", "x/../y", "%=", "tab\tand\nline"):
        outside.put("tree/" + key, key.encode())
    top = mount_bucket()
    shutil.copytree(top / "tree", top / "copy")
    keys = [key for key in outside.listing() if not key.endswith("/")]
    copied = sorted(key.removeprefix("copy/") for key in keys if key.startswith("copy/"))
    assert copied == sorted(key.removeprefix("tree/") for key in keys if key.startswith("tree/"))


def test_names_that_cos_refuses_are_refused(mount_bucket: Callable[..., Path]) -> None:
    top = mount_bucket()
    for name, number in (
        (b"esc\x1b", errno.EINVAL),
        (b"\xff", errno.EILSEQ),
        (b"x" * 256, errno.ENAMETOOLONG),
    ):
        with pytest.raises(OSError) as raised:
            os.open(os.fsencode(top) + b"/" + name, os.O_CREAT | os.O_WRONLY)
        assert raised.value.errno == number, name
