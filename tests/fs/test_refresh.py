"""Refreshing: what is asked, what is forgotten, what stays."""

from __future__ import annotations

import stat

from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.fs.refresh import Refresher
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, counted


def mode(permissions: int) -> Headers:
    return Headers(metadata={"mode": str(stat.S_IFREG | permissions)})


async def test_refresh_shows_a_change_of_attributes_that_no_date_shows(files: Files) -> None:
    await files.put("a", b"x")
    assert await files.mode("a") == 0o644
    await files.upload("a", b"x", headers=mode(0o600))  # within the second
    await Refresher(files.tree).refresh([])
    assert await files.mode("a") == 0o600


async def test_a_file_costs_a_head_and_a_list_and_its_directory_nothing(
    files: Files, emulator: Emulator
) -> None:
    for name in ("a", "b"):
        await files.upload(name, b"x")
    await files.list()
    await files.upload("a", b"yy")
    with counted(emulator) as requests:
        done = await Refresher(files.tree).refresh([b"a"])
        assert (await files.file("a")).size == 2
        assert await files.list() == ["b", "a"]
    assert done.state == "changed"
    assert requests == {"HeadObject": 1, "ListObjects": 1}


async def test_what_nobody_has_looked_at_is_only_looked_up(files: Files, emulator: Emulator) -> None:
    await files.upload("dir/sub/a", b"x")
    with counted(emulator) as requests:
        done = await Refresher(files.tree).refresh([b"dir", b"sub", b"a"], recursive=True)
    assert done.forgotten == 0
    assert requests.total() <= 6


async def test_attributes_remembered_from_earlier_mounts_are_not_believed_either(
    filesystem: Filesystems,
) -> None:
    files = await filesystem("shared")
    await files.upload("a", b"x", headers=mode(0o640))
    assert await files.mode("a") == 0o640
    await files.upload("a", b"x", headers=mode(0o600))
    await Refresher(files.tree).refresh([])
    assert await files.mode("a") == 0o600
    await filesystem.end(files)
    again = await filesystem("shared")
    assert await again.mode("a") == 0o600


async def test_what_was_made_here_lately_and_removed_by_others_is_gone_after_it(files: Files) -> None:
    await files.put("a", b"x")
    await files.mkdir("d")
    await files.delete("a")
    await files.delete("d/")
    assert sorted(await files.list()) == ["a", "d"], "a listing may lag behind what is done here"
    await Refresher(files.tree).refresh([])
    assert await files.list() == []
