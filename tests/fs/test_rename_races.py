"""Renames that meet each other, or a removal that is still under way."""

from __future__ import annotations

import errno

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.errors import COSError
from tests.fs.support import Files, until
from tests.objects import keys


async def test_renames_into_each_other_end_though_both_wait_for_a_file_being_sent(files: Files) -> None:
    """The kernel lets the second one in when the first took longer than it may."""
    await files.put("a", b"of a")
    await files.put("b", b"of b")
    target = await files.file("b")
    outcomes: list[BaseException | None] = []

    async def rename(old: str, new: str) -> None:
        try:
            await files.rename(old, new)
        except COSError as exc:
            outcomes.append(exc)
        else:
            outcomes.append(None)

    with trio.fail_after(90):
        async with trio.open_nursery() as nursery, target.lock:
            nursery.start_soon(rename, "a", "b")
            await trio.sleep(0.1)
            nursery.start_soon(rename, "b", "a")
            await trio.sleep(0.1)
    assert None in outcomes
    await files.removed()
    assert len(await files.keys()) == len(await files.list()) >= 1


async def test_what_was_removed_does_not_come_back_when_a_rename_to_its_name_fails(
    files: Files, emulator: Emulator
) -> None:
    await files.put("a", b"removed")
    await files.put("b", b"stays")
    emulator.faults.error("CopyObject", "AccessDenied", 403, count=0)
    await files.unlink("a")
    with pytest.raises(COSError) as failure:
        await files.rename("b", "a")
    assert failure.value.errno == errno.EACCES
    await until(lambda: keys(files.client, files.bucket) == ["b"])
    assert await files.list() == ["b"]
    await until(lambda: not files.journal.records())


@pytest.mark.parametrize("kind", ["symlink", "mkdir"])
async def test_what_was_removed_does_not_come_back_when_something_else_cannot_be_made_there(
    files: Files, emulator: Emulator, kind: str
) -> None:
    if kind == "mkdir":
        await files.mkdir("a")
    else:
        await files.put("a", b"removed")
    emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    await (files.rmdir("a") if kind == "mkdir" else files.unlink("a"))
    with pytest.raises(COSError) as failure:
        await (files.mkdir("a") if kind == "mkdir" else files.symlink("a", b"target"))
    assert failure.value.errno == errno.EACCES
    emulator.faults.clear()
    await until(lambda: keys(files.client, files.bucket) == [])
    assert await files.list() == []
    await until(lambda: not files.journal.records())
