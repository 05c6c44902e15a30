"""chmod, writing and renaming in every order, then kill -9: the mode is the one that was acknowledged."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.fs import commit
from cosfs.fs.attrdb import DATABASE, AttributeStore
from cosfs.fs.recovery import Recovery
from tests.fs.conftest import Filesystems
from tests.fs.moments import Moments
from tests.fs.support import Files, until


class State(NamedTuple):
    path: str
    data: bytes
    mode: int


BEFORE = State("d/a", b"0123456789", 0o640)
LATER = 60.0


async def chmod(files: Files, before: State) -> State:
    await files.chmod(before.path, 0o600)
    return before._replace(mode=0o600)


async def append(files: Files, before: State) -> State:
    async with files.opened(before.path) as fh:
        await files.write(fh, b"more", len(before.data))
    return before._replace(data=before.data + b"more")


async def write_anew(files: Files, before: State) -> State:
    await files.put(before.path, b"new")
    return before._replace(data=b"new")


async def save(files: Files, before: State) -> State:
    """As editors do."""
    temp = before.path + ".tmp"
    await files.put(temp, b"saved")
    await files.chmod(temp, before.mode)
    await files.rename(temp, before.path)
    return before._replace(data=b"saved")


async def rename(files: Files, before: State) -> State:
    await files.rename(before.path, before.path + "r")
    return before._replace(path=before.path + "r")


async def rename_over(files: Files, before: State) -> State:
    await files.rename(before.path, "d/over")
    return before._replace(path="d/over")


async def rename_directory(files: Files, before: State) -> State:
    await files.rename("d", "e")
    return before._replace(path=before.path.replace("d/", "e/"))


Call = Callable[[Files, State], Awaitable[State]]
NAMINGS = [*itertools.product((append, write_anew, save), (rename, rename_over)), (append, rename_directory)]
ORDERS: list[tuple[Call, ...]] = [
    order for write, name in NAMINGS for order in itertools.permutations((chmod, write, name))
]
MOMENTS: list[tuple[Call, ...]] = list(itertools.permutations((chmod, append, rename)))


def title(order: tuple[Call, ...]) -> str:
    return ", ".join(call.__name__ for call in order)


async def made(files: Files, top: str = "") -> State:
    """The file, and another one that it may replace."""
    await files.upload(f"{top}d/", b"")
    for path, data, mode in (BEFORE, State("d/over", b"other", 0o700)):
        headers = Headers(metadata={"mode": str(0o100000 | mode)})
        await files.upload(top + path, data, headers=headers)
    return BEFORE


async def found(files: Files, path: str) -> State | None:
    if not await files.exists(path):
        return None
    return State(path, await files.get(path), await files.mode(path))


@pytest.mark.parametrize("write_back", ["async", "close"])
async def test_the_mode_is_the_one_that_was_set_whatever_came_before_and_after_it(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, write_back: str
) -> None:
    for number, order in enumerate(ORDERS):
        monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", LATER)
        top, cache = f"{number}/", f"cache-{number}"
        files = await filesystem(cache, write_back=write_back, prefix=top)
        state = await made(files, top)
        if write_back == "async":
            emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0, key="*[!/]")
        for call in order:
            state = await call(files, state)
        await filesystem.kill(files)
        monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", 0.0)
        second = await filesystem(cache, recovering=False, prefix=top)
        recovery = Recovery(second.fs, second.journal.records())
        await recovery.begin(60.0)
        assert await found(second, state.path) == state, f"at once: {title(order)}"
        emulator.faults.clear()
        await recovery.run(once=True)
        assert await found(second, state.path) == state, f"sent: {title(order)}"
        assert second.journal.records() == [], title(order)
        third = await filesystem(f"other-{number}", prefix=top)
        assert await found(third, state.path) == state, f"in COS: {title(order)}"
        await filesystem.end(second)
        await filesystem.end(third)


@pytest.mark.parametrize("order", MOMENTS, ids=title)
async def test_killed_at_any_moment_the_mode_is_as_before_a_call_or_as_after_it(
    filesystem: Filesystems, emulator: Emulator, tmp_path: Path, order: tuple[Call, ...]
) -> None:
    files = await filesystem("cache", write_back="async")
    states = [await made(files)]
    await files.list("d")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0, key="*[!/]")
    with pytest.MonkeyPatch.context() as patch:
        moments = Moments(patch, files, tmp_path / "cache", note=lambda: len(states) - 1)
        for call in order:
            states.append(await call(files, states[-1]))
    await filesystem.kill(files)
    emulator.faults.clear()
    assert len(moments.taken) > len(order)
    for moment, done in moments.noted.items():
        assert isinstance(done, int)
        await moments.restore(moment)
        second = await filesystem(moment, write_back="async")
        await second.fs.drain()
        await second.removed()
        paths = [path for path in ("d/a", "d/ar") if await second.exists(path)]
        assert [await found(second, path) for path in paths] in (
            [[states[done]], [states[min(done + 1, len(order))]]]
        ), (moment, done)
        await filesystem.end(second)


async def test_what_is_remembered_on_disk_is_not_believed_of_an_object_that_may_have_another_mode_by_now(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem("cache")
    await files.upload("a", b"x", headers=Headers(metadata={"mode": str(0o100644)}))
    assert await files.mode("a") == 0o644
    before = (await files.file("a")).info
    emulator.faults.reset("CopyObject", after=True, count=0)
    await files.chmod("a", 0o600)
    await until(lambda: emulator.requests["CopyObject"])  # it did its work, and the answer was lost
    await filesystem.kill(files)
    emulator.faults.clear()
    now = files.client.head_object(files.bucket, "a")
    assert before is not None and now is not None
    store = AttributeStore(files.fs.settings.cache_dir / DATABASE)  # where both were within one second:
    store.put_many([(files.bucket, replace(before, last_modified=now.last_modified))])
    store.close()
    second = await filesystem("cache")
    assert await second.mode("a") == 0o600


async def test_the_mode_of_an_empty_directory_is_not_that_of_the_one_that_has_replaced_it(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", LATER)
    files = await filesystem("cache")
    await files.upload("d/", b"")
    await files.upload("d/a", b"x")
    await files.mkdir("e")
    await files.chmod("e", 0o711)
    with pytest.MonkeyPatch.context() as patch:
        moments = Moments(patch, files, tmp_path / "cache", requests=True)
        await files.rename("d", "e")
        await files.chmod("e", 0o700)
    await filesystem.kill(files)
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", 0.0)
    second = await filesystem("cache")
    await second.fs.drain()
    assert await second.mode("e") == 0o700
    await filesystem.end(second)
    for moment in moments.different():
        await moments.restore(moment)
        third = await filesystem(moment)
        await third.fs.drain()
        assert (await third.exists("d"), await third.mode("e")) in (
            [(True, 0o711), (False, 0o755), (False, 0o700)]
        ), moment
        assert third.journal.records() == []
        await filesystem.end(third)
