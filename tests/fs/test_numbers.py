"""Inode numbers: the same file keeps its own as long as this mount knows it."""

from __future__ import annotations

import trio

from cosfs.fs.inodes import FileNode
from tests.fs.conftest import Filesystems
from tests.fs.support import Files

TTL = 0.05


async def remembered(files: Files, path: str) -> FileNode:
    """Look a file up as the kernel does, which then holds a reference."""
    node = await files.file(path)
    node.nlookup += 1
    return node


async def test_a_renamed_file_keeps_its_number_when_it_is_looked_up_again(filesystem: Filesystems) -> None:
    files = await filesystem(metadata_ttl=TTL)
    await files.mkdir("d")
    await files.mkdir("e")
    await files.put("d/f", b"x")
    number = (await remembered(files, "d/f")).ino
    for old, new in (("d/f", "e/g"), ("e/g", "d/f"), ("d/f", "e/h")):
        await files.rename(old, new)
        await trio.sleep(2 * TTL)
        assert (await files.file(new)).ino == number
        await files.removed()
        await trio.sleep(2 * TTL)
        assert (await files.file(new)).ino == number


async def test_a_renamed_file_keeps_its_number_when_the_kernel_has_forgotten_it(files: Files) -> None:
    await files.put("a", b"x")
    node = await remembered(files, "a")
    await files.rename("a", "b")
    files.fs.forget(node.ino, node.nlookup)
    assert (await files.file("b")) is not node
    assert (await files.file("b")).ino == node.ino


async def test_a_removed_file_does_not_take_the_number_of_its_directory_from_the_next_one(
    files: Files,
) -> None:
    before = await files.mkdir("d")
    fh = await files.create("d/a")
    file = await files.node("d/a")
    await files.unlink("d/a")
    await files.rmdir("d")
    files.tree.table.forget(before.ino, before.nlookup)
    now = await files.mkdir("d")
    assert now is not before and now.ino == before.ino
    await files.close(fh)
    files.tree.table.forget(file.ino, file.nlookup)
    assert files.tree.table.get(now.ino) is now
