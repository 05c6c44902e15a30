"""Keys that are no file names, and file names that are no keys."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.semantics.conftest import Outside, names, settle

AWKWARD = ["a", "a/b", "a//b", "x/../y", "x/./z", "new\nline", "sn\u00f6 \u96ea", "dir/with content/"]


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
