"""kill -9 at every moment of calls that depend on each other: the tree is as before a call or as after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.fs.inodes import DirNode
from tests.fs.conftest import Filesystems
from tests.fs.moments import Moments
from tests.fs.support import Files


class Found(NamedTuple):
    mode: int
    data: bytes
    xattrs: dict[str, bytes]


Tree = dict[str, Found]
Call = Callable[[Files], Awaitable[object]]


async def _append(path: str, files: Files) -> None:
    async with files.opened(path) as fh:
        await files.write(fh, b"more", (await files.file(path)).size)


async def _mark(path: str, files: Files) -> None:
    await files.fs.setxattr((await files.node(path)).ino, b"user.one", b"1")


def append(path: str) -> Call:
    return partial(_append, path)


def mark(path: str) -> Call:
    return partial(_mark, path)


def put(path: str, data: bytes) -> Call:
    return lambda files: files.put(path, data)


def move(old: str, new: str) -> Call:
    return lambda files: files.rename(old, new)


def chmod(path: str, mode: int) -> Call:
    return lambda files: files.chmod(path, mode)


def unlink(path: str) -> Call:
    return lambda files: files.unlink(path)


def mkdir(path: str) -> Call:
    return lambda files: files.mkdir(path, 0o700)


def rmdir(path: str) -> Call:
    return lambda files: files.rmdir(path)


ORDERS: dict[str, list[Call]] = {
    "a directory with unsent files": [put("d/c", b"new"), move("d", "e"), chmod("e", 0o700)],
    "two files swapped": [append("d/a"), move("d/a", "t"), move("d/b", "d/a"), move("t", "d/b"), mark("d/b")],
    "an old name": [append("d/a"), move("d/a", "d/c"), put("d/a", b"0123456789"), unlink("d/a")],
    "a file and a directory": [
        unlink("d/a"),
        mkdir("d/a"),
        put("d/a/x", b"x"),
        unlink("d/a/x"),
        rmdir("d/a"),
    ],
}


async def look(files: Files, path: str = "") -> Tree:
    found: Tree = {}
    for name in await files.list(path):
        place = f"{path}/{name}".lstrip("/")
        node = await files.stat(place)
        is_dir = isinstance(node, DirNode)
        data = b"" if is_dir else await files.get(place)
        found[place] = Found(node.attrs.mode, data, dict(node.attrs.xattrs))
        if is_dir:
            found |= await look(files, place)
    return found


@pytest.mark.parametrize("order", ORDERS)
async def test_killed_at_any_moment_the_tree_is_as_before_a_call_or_as_after_it(
    filesystem: Filesystems, emulator: Emulator, tmp_path: Path, order: str
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.upload("d/")
    for path, data in (("d/a", b"0123456789"), ("d/b", b"abcdefghijklm")):
        await files.upload(path, data, headers=Headers(metadata={"mode": str(0o100640)}))
    states = [await look(files)]
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0, key="*[!/]")
    with pytest.MonkeyPatch.context() as patch:
        moments = Moments(patch, files, tmp_path / "cache", note=lambda: len(states) - 1, requests=True)
        for call in ORDERS[order]:
            await call(files)
            states.append(await look(files))
    await filesystem.kill(files)
    emulator.faults.clear()
    different = moments.different()
    assert len(different) > len(ORDERS[order])
    for moment in different:
        done = moments.noted[moment]
        assert isinstance(done, int)
        await moments.restore(moment)
        second = await filesystem(moment, write_back="async")
        allowed = states[done : done + 2]
        assert await look(second) in allowed, (moment, done, "at once")
        await second.fs.drain()
        await second.removed()
        assert await look(second) in allowed, (moment, done, "sent")
        third = await filesystem(f"{moment}-other")
        assert await look(third) in allowed, (moment, done, "in COS")
        assert second.journal.records() == [], (moment, done)
        await filesystem.end(second)
        await filesystem.end(third)
