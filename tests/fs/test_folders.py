"""Directories that other tools made: `d_$folder$` and `d/` without attributes."""

from __future__ import annotations

import stat

from cosfs.client.model import Headers
from tests.fs.conftest import Filesystems
from tests.fs.support import Files

HADOOP = "dir_$folder$"


async def test_a_directory_in_hadoops_way_is_an_empty_directory(files: Files) -> None:
    await files.upload(HADOOP)
    await files.upload("other_$folder$", b"with bytes: somebody's file")
    await files.upload("_$folder$")
    assert sorted(await files.list()) == ["_$folder$", "dir", "other_$folder$"]
    assert stat.S_ISDIR((await files.stat("dir")).attrs.mode)
    assert await files.list("dir") == []


async def test_it_is_one_directory_with_what_is_below_it(files: Files) -> None:
    await files.upload(HADOOP)
    await files.upload("dir/a", b"x")
    assert await files.list() == ["dir"]
    assert await files.list("dir") == ["a"]


async def test_removing_it_removes_the_object(files: Files, filesystem: Filesystems) -> None:
    await files.upload(HADOOP)
    await files.rmdir("dir")
    await files.removed()
    assert await files.keys() == []
    assert await (await filesystem()).list() == []


async def test_renaming_it_makes_it_one_of_ours(files: Files) -> None:
    await files.upload(HADOOP)
    await files.upload("full_$folder$")
    await files.upload("full/a", b"x")
    await files.rename("dir", "new")
    await files.rename("full", "moved")
    await files.removed()
    assert sorted(await files.keys()) == ["moved/", "moved/a", "new/"]
    assert sorted(await files.list()) == ["moved", "new"]


async def test_it_moves_with_its_parent(files: Files) -> None:
    await files.upload("top/" + HADOOP)
    await files.rename("top", "moved")
    await files.removed()
    assert await files.keys() == ["moved/" + HADOOP]
    assert await files.list("moved") == ["dir"]


async def test_markers_as_tencents_cosfs_writes_them_have_its_attributes(files: Files) -> None:
    metadata = {"mode": "493", "uid": "7", "gid": "8", "mtime": "1577934245"}  # no type bits
    await files.upload("d/", headers=Headers(content_type="application/octet-stream", metadata=metadata))
    attrs = (await files.stat("d")).attrs
    assert (attrs.mode, attrs.uid, attrs.gid) == (stat.S_IFDIR | 0o755, 7, 8)
    assert attrs.mtime_ns == 1577934245 * 10**9
