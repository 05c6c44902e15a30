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


async def test_a_directory_that_was_removed_here_and_made_again_by_others_is_there_after_it(
    files: Files,
) -> None:
    for name in ("d", "e", "f"):
        await files.mkdir(name)
    await files.rmdir("d")
    await files.rename("e", "g")
    await files.rmdir("f")
    await files.removed()
    for name in ("d", "e", "f"):
        await files.upload(f"{name}/theirs", b"x")
    assert await files.list() == ["g"], "a listing may lag behind what is done here"
    assert (await Refresher(files.tree).refresh([b"f"])).state == "new"
    assert await files.list("f") == ["theirs"]
    await Refresher(files.tree).refresh([])
    assert sorted(await files.list()) == ["d", "e", "f", "g"]
    assert await files.list("d") == await files.list("e") == ["theirs"]


async def test_what_is_still_to_be_removed_is_not_shown_after_it(files: Files, emulator: Emulator) -> None:
    await files.put("a", b"x")
    await files.mkdir("d")
    await files.put("d/a", b"x")
    await files.list()
    await files.unlink("a")
    await files.removed()  # from now on removals are sent behind the caller's back
    fault = emulator.faults.latency(60.0, "Delete*")
    try:
        await files.unlink("d/a")
        await files.rmdir("d")
        await Refresher(files.tree).refresh([], recursive=True)
        await Refresher(files.tree).refresh([b"d"])
        assert await files.list() == []
    finally:
        emulator.faults.release(fault)
    await files.removed()
    assert await files.keys() == []


async def test_what_was_made_here_lately_and_removed_by_others_is_gone_after_it(files: Files) -> None:
    await files.put("a", b"x")
    await files.mkdir("d")
    await files.delete("a")
    await files.delete("d/")
    assert sorted(await files.list()) == ["a", "d"], "a listing may lag behind what is done here"
    await Refresher(files.tree).refresh([])
    assert await files.list() == []
