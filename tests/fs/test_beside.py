"""A file beside a directory of its name (`a` and `a/b`), and its name when the directory has gone."""

from __future__ import annotations

import errno

import pytest

from cosfs.fs.inodes import ROOT_INO, FileNode
from cosfs.fs.listing import Listing
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, fails


@pytest.fixture(params=[0.0, 60.0], ids=["listed anew each time", "listed once"])
async def beside(request: pytest.FixtureRequest, filesystem: Filesystems) -> Files:
    """A directory with such names, listed as a program does before it begins."""
    files = await filesystem(metadata_ttl=request.param)
    await files.upload("d/a", b"file")
    await files.upload("d/a/b", b"below")
    assert sorted(await files.list("d")) == ["a", "a%=file"]
    return files


async def remove_directory(files: Files) -> None:
    await files.unlink("d/a/b")
    await files.rmdir("d/a")


async def test_it_is_found_under_both_names_when_the_directory_is_removed(beside: Files) -> None:
    await remove_directory(beside)
    assert await beside.list("d") == ["a"]
    assert await beside.get("d/a") == await beside.get("d/a%=file") == b"file"
    await beside.removed()
    assert await beside.list("d") == ["a"]


async def test_who_read_the_names_before_can_remove_all_of_them(beside: Files) -> None:
    await remove_directory(beside)
    await beside.unlink("d/a%=file")
    assert await beside.list("d") == []
    await beside.rmdir("d")
    await beside.removed()
    assert await beside.keys() == []


async def test_who_read_the_names_before_can_move_all_of_them(beside: Files) -> None:
    await beside.mkdir("new")
    await beside.rename("d/a", "new/a")
    await beside.rename("d/a%=file", "new/file")
    assert await beside.list("d") == []
    await beside.removed()
    assert sorted(await beside.keys()) == ["d/", "new/", "new/a/b", "new/file"]


async def test_a_directory_that_is_not_empty_is_not_taken_for_empty(beside: Files) -> None:
    await remove_directory(beside)
    await beside.removed()
    await fails(errno.ENOTEMPTY, beside.rmdir("d"))
    assert "d/a" in await beside.keys()


async def test_what_is_written_to_it_meanwhile_is_in_one_file(beside: Files) -> None:
    fh = await beside.open("d/a%=file", flags=1)
    await beside.write(fh, b"more", 4)
    await remove_directory(beside)
    assert await beside.list("d") == ["a"]
    assert (await beside.node("d/a")) is (await beside.node("d/a%=file"))
    await beside.close(fh)
    await beside.removed()
    assert await beside.get("d/a") == b"filemore"
    assert await beside.keys("d/a") == ["d/a"]


async def test_the_name_is_not_free_when_the_directory_is_removed(beside: Files) -> None:
    await remove_directory(beside)
    await fails(errno.EEXIST, beside.mkdir("d/a"))
    await beside.put("d/a", b"anew")
    await beside.removed()
    assert await beside.keys("d/") == ["d/a"]
    assert await beside.get("d/a") == b"anew"


async def test_others_remove_the_directory(filesystem: Filesystems) -> None:
    files = await filesystem(metadata_ttl=0.0)
    await files.upload("a", b"file")
    await files.upload("a/b", b"below")
    assert await files.get("a%=file") == b"file"
    assert await files.get("a/b") == b"below"
    await files.delete("a/b")
    assert await files.list() == ["a"]
    assert await files.get("a%=file") == await files.get("a") == b"file"


async def test_others_remove_the_directory_while_the_file_is_written(filesystem: Filesystems) -> None:
    files = await filesystem(metadata_ttl=0.0)
    await files.upload("a", b"file")
    await files.upload("a/b", b"below")
    await files.node("a/b")
    fh = await files.open("a%=file", flags=1)
    await files.write(fh, b"FI")
    await files.delete("a/b")
    assert await files.list() == ["a"]
    await files.close(fh)
    assert await files.get("a") == b"FIle"
    assert await files.keys() == ["a"]


async def test_one_with_a_long_name_is_found_as_well(filesystem: Filesystems) -> None:
    files = await filesystem(metadata_ttl=0.0)
    await files.upload("n" * 270, b"file")
    await files.upload("n" * 270 + "/b", b"below")
    (shadow,) = (name for name in await files.names() if name.endswith(b"%=file"))
    await files.delete("n" * 270 + "/b")
    node = await files.fs.lookup(ROOT_INO, shadow)
    assert isinstance(node, FileNode) and node.size == 4


async def test_one_in_a_huge_directory_is_found_as_well(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Listing.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Listing.__init__.__kwdefaults__, "page_size", 3)
    for key in ("k1", "k2", "k3", "k4", "x"):
        await files.upload(key)
    node = await files.fs.lookup(ROOT_INO, b"x%=file")
    assert isinstance(node, FileNode) and node is await files.fs.lookup(ROOT_INO, b"x")
    await fails(errno.ENOENT, files.fs.lookup(ROOT_INO, b"y%=file"))


async def test_a_refresh_of_the_other_name_shows_it_under_the_plain_one(files: Files) -> None:
    await files.upload("a", b"file")
    await files.upload("a/b", b"below")
    await files.node("a/b")
    await files.node("a%=file")
    await files.delete("a/b")
    node = await files.tree.ask(files.tree.root, b"a")
    assert isinstance(node, FileNode)
    node = await files.tree.ask(files.tree.root, b"a%=file")
    assert node is not None and node.name == b"a" and node is await files.node("a")
    assert await files.list() == ["a"]


async def test_a_name_of_that_form_that_is_no_such_file_is_not_taken_for_one(files: Files) -> None:
    await files.upload("a/b")
    await files.upload("y%=file", b"own name")
    assert not await files.exists("a%=file")
    assert not await files.exists("y%=file")
    assert await files.get("%=y%25=file") == b"own name"
