"""Loss of power at every moment of a call: what close() acknowledged is there.

Of what nobody has forced to disk, either the journal or the staged bytes may be there without the other.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.fs import staging
from cosfs.fs.journal import Journal
from cosfs.fs.scratch import MEMORY_MAX
from tests.fs.conftest import NEVER, Filesystems
from tests.fs.moments import Moments
from tests.fs.support import Files, content, fails

LARGE = content(3 * MEMORY_MAX)
SMALL = content(100)
MORE = content(2 * MEMORY_MAX, seed=1)


class Outages(Moments):
    """Takes two copies of each moment: the journal as it was forced to disk last with the staged bytes as
    they are, and the journal as it is with the staged bytes as they were forced.
    """

    def __init__(self, patch: pytest.MonkeyPatch, files: Files, cache: Path) -> None:
        self._forced = cache.parent / "forced"
        self._forced.mkdir()
        (self._forced / "staging").mkdir()
        self._own = cache
        self._known: set[bytes] = set()
        self._lock = threading.Lock()  # what is forced to disk is so in threads
        super().__init__(patch, files, cache)
        patch.setattr(Journal, "_force", self._after(Journal._force, self._journal_forced))
        patch.setattr(staging, "_sync", self._before(staging._sync, self._staging_forced))
        files.journal.sync()

    @staticmethod
    def _after(function: Callable[..., Any], then: Callable[[], None]) -> Callable[..., Any]:
        def after(*args: Any) -> None:
            function(*args)
            then()

        return after

    @staticmethod
    def _before(function: Callable[..., Any], first: Callable[[int], None]) -> Callable[..., Any]:
        def before(fd: int, directory: Path) -> None:
            first(fd)
            function(fd, directory)

        return before

    def _journal_forced(self) -> None:
        with self._lock:
            _copy_journal(self._own, self._forced)

    def _staging_forced(self, fd: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{fd}")).name  # noqa: PTH115
        with self._lock:
            (self._forced / "staging" / name).write_bytes(os.pread(fd, 1 << 30, 0))

    def take(self) -> None:
        with self._lock:
            self._take()

    def _take(self) -> None:
        for _ in range(2):
            super().take()
        *_, staged_first, journal_first = self.taken
        place = self._own.parent
        _copy_journal(self._forced, place / staged_first)
        for path in (place / journal_first / "staging").iterdir():
            forced = self._forced / "staging" / path.name
            path.write_bytes(forced.read_bytes() if forced.exists() else b"")
        for moment in (journal_first, staged_first):
            self._forget_if_known(moment)

    def _forget_if_known(self, moment: str) -> None:
        """Many a copy is like one before it."""
        own = self._own.parent / moment
        files = sorted([*own.glob("journal.db*"), *(own / "staging").iterdir()])
        digest = hashlib.sha256(repr(self.taken[moment]).encode())
        for path in files:
            if path.suffix != ".db-shm":
                digest.update(path.name.encode() + path.read_bytes())
        known = digest.digest()
        if known in self._known:
            shutil.rmtree(own)
            del self.taken[moment], self.noted[moment]
        self._known.add(known)


def _copy_journal(source: Path, target: Path) -> None:
    # By another process: closing the database's file here would end SQLite's locks on it.
    copy = 'rm -f "$2"/journal.db*; cp "$1"/journal.db* "$2"'
    subprocess.run(["sh", "-c", copy, "", source, target], check=True)


async def _cut(files: Files) -> None:
    await files.truncate("a", 10)


async def _append_and_chmod(files: Files) -> None:
    """The journal says how long the file is before anybody has forced its end to disk."""
    async with files.opened("a") as fh:
        await files.write(fh, MORE, (await files.file("a")).size)
        await files.chmod("a", 0o600)


CALLS: dict[Callable[[Files], Awaitable[None]], Callable[[bytes], bytes]] = {
    _cut: lambda data: data[:10],
    _append_and_chmod: lambda data: data + MORE,
}


@pytest.mark.parametrize(
    ("call", "before", "sent"),
    [
        pytest.param(_cut, LARGE, False, id="cut"),
        pytest.param(_cut, LARGE, True, id="cut when sent"),
        pytest.param(_append_and_chmod, LARGE, False, id="append"),
        pytest.param(_append_and_chmod, SMALL, False, id="append to little"),
    ],
)
async def test_what_was_closed_is_there_after_a_loss_of_power(
    filesystem: Filesystems,
    emulator: Emulator,
    tmp_path: Path,
    call: Callable[[Files], Awaitable[None]],
    before: bytes,
    sent: bool,
) -> None:
    files = await filesystem("cache", write_back="async")
    with pytest.MonkeyPatch.context() as patch:
        for delay in ("openfiles.ASYNC_DELAY", "commit.ATTRIBUTE_DELAY", "journal.RETIRED_FOR"):
            patch.setattr(f"cosfs.fs.{delay}", NEVER)  # what is done behind comes at no moment of its own
        patch.setattr("cosfs.fs.journal.WAL_SIZE", 0)  # less to copy
        moments = Outages(patch, files, tmp_path / "cache")
        await files.put("a", before)
        reader = await files.open("a")  # what is open keeps its staging file
        if sent:
            await files.fs.drain()
        else:
            emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
        acknowledged = len(moments.taken)
        with suppress(COSError):  # it tells that COS does not have it yet
            await call(files)
        moments.take()
    await files.fs.release(reader)
    await filesystem.kill(files)
    emulator.faults.clear()
    after = CALLS[call](before)
    for moment in list(moments.taken)[acknowledged:]:
        await moments.restore(moment)
        second = await filesystem(moment, write_back="async")
        await second.fs.drain()
        found = await second.stored("a")
        grows = found is not None and after.startswith(found) and found.startswith(before)
        assert found in (before, after) or grows, (moment, len(found or b""))
        aside = tmp_path / moment / "recovered" / "LIST.txt"
        assert not aside.exists() or "its staging file" not in aside.read_text(), moment
        await filesystem.end(second)


def _forced_from_now_on(patch: pytest.MonkeyPatch, files: Files, cache: Path) -> str:
    """The name of a directory that always has the journal as it was forced to disk last."""
    forced = cache.parent / "forced"
    (forced / "staging").mkdir(parents=True)
    force = Journal._force

    def then_copy(journal: Journal) -> None:
        force(journal)
        _copy_journal(cache, forced)

    patch.setattr("cosfs.fs.journal.RETIRED_FOR", NEVER)
    patch.setattr(Journal, "_force", then_copy)
    files.journal.sync()
    return forced.name


async def _make_anew(files: Files) -> None:
    await files.put("d/a", SMALL)


async def _rename_onto_it(files: Files) -> None:
    await files.rename("new/a", "d/a")


async def _rename_its_directory(files: Files) -> None:
    await files.rmdir("d")
    await files.rename("new", "d")


@pytest.mark.parametrize("call", [_make_anew, _rename_onto_it, _rename_its_directory])
@pytest.mark.parametrize("carried_out", [False, True], ids=["at once", "later"])
async def test_a_removal_that_comes_back_does_not_take_the_same_bytes_along(
    filesystem: Filesystems,
    emulator: Emulator,
    tmp_path: Path,
    call: Callable[[Files], Awaitable[None]],
    carried_out: bool,
) -> None:
    """A file is removed, and there is one of the same bytes, and so of the same etag, when power is lost."""
    files = await filesystem("cache")
    for directory in ("d", "new"):
        await files.mkdir(directory)
        await files.put(f"{directory}/a", SMALL)
    with pytest.MonkeyPatch.context() as patch:
        forced = _forced_from_now_on(patch, files, tmp_path / "cache")
        emulator.faults.error("Delete*", "ServiceUnavailable", 503, count=0)
        await files.unlink("d/a")
        files.journal.sync()  # as for any other file
        if carried_out:
            emulator.faults.clear()
            assert await files.fs.deleter.drain()
        await call(files)
        emulator.faults.clear()
        assert await files.fs.deleter.drain()  # the other name
    await filesystem.kill(files)
    second = await filesystem(forced)
    await second.fs.drain()
    assert await second.stored("d/a") == SMALL
    assert await second.get("d/a") == SMALL


async def _write(files: Files) -> None:
    await files.put("d", SMALL)


async def _rename(files: Files) -> None:
    await files.rename("a", "d")


@pytest.mark.parametrize("call", [_write, _rename])
@pytest.mark.parametrize("full", [False, True], ids=["empty", "with a file"])
async def test_a_file_in_the_place_of_a_directory_has_its_name(
    filesystem: Filesystems,
    emulator: Emulator,
    tmp_path: Path,
    call: Callable[[Files], Awaitable[None]],
    full: bool,
) -> None:
    files = await filesystem("cache")
    await files.put("a", SMALL)
    await files.mkdir("d")
    if full:
        await files.put("d/file", MORE)
    with pytest.MonkeyPatch.context() as patch:
        forced = _forced_from_now_on(patch, files, tmp_path / "cache")
        emulator.faults.error("Delete*", "ServiceUnavailable", 503, count=0)
        if full:
            await files.unlink("d/file")
        await files.rmdir("d")
        await call(files)
    await filesystem.kill(files)
    emulator.faults.clear()
    second = await filesystem(forced)
    assert await second.get("d") == SMALL
    await second.fs.drain()
    assert "d" in await second.keys()
    assert not [key for key in await second.keys() if key.startswith("d/")]


async def test_no_file_is_back_beside_a_directory_in_its_place(
    filesystem: Filesystems, emulator: Emulator, tmp_path: Path
) -> None:
    files = await filesystem("cache")
    await files.put("d", SMALL)
    with pytest.MonkeyPatch.context() as patch:
        forced = _forced_from_now_on(patch, files, tmp_path / "cache")
        emulator.faults.error("Delete*", "ServiceUnavailable", 503, count=0)
        await files.unlink("d")
        await files.mkdir("d")
    await filesystem.kill(files)
    emulator.faults.clear()
    second = await filesystem(forced)
    assert await second.names() == [b"d"]
    await second.fs.drain()
    assert await second.keys() == ["d/"]


async def test_a_removal_that_comes_back_does_not_take_a_directory_along(
    filesystem: Filesystems, emulator: Emulator, tmp_path: Path
) -> None:
    """The objects of all directories have the same bytes."""
    files = await filesystem("cache")
    await files.mkdir("d")
    with pytest.MonkeyPatch.context() as patch:
        forced = _forced_from_now_on(patch, files, tmp_path / "cache")
        emulator.faults.error("Delete*", "ServiceUnavailable", 503, count=0)
        await files.rmdir("d")
        files.journal.sync()  # as for any other file
        await files.mkdir("d")
    await filesystem.kill(files)
    emulator.faults.clear()
    second = await filesystem(forced)
    await second.fs.drain()
    assert await second.names() == [b"d"]


async def test_a_rename_that_failed_and_comes_back_does_not_take_its_file_along(
    filesystem: Filesystems, emulator: Emulator, tmp_path: Path
) -> None:
    """A file could not be renamed, and was copied to the new name instead."""
    files = await filesystem("cache")
    await files.put("a", SMALL)
    with pytest.MonkeyPatch.context() as patch:
        forced = _forced_from_now_on(patch, files, tmp_path / "cache")
        patch.setattr(Journal, "add", _forced_with("move", Journal.add))
        emulator.faults.error("CopyObject", "AccessDenied", 403)
        await fails(errno.EACCES, files.rename("a", "b"))
        await files.put("b", SMALL)
    await filesystem.kill(files)
    second = await filesystem(forced)
    await second.fs.drain()
    assert await second.get("a") == await second.get("b") == SMALL
    assert await second.keys() == ["a", "b"]


def _forced_with(kind: str, add: Callable[..., int]) -> Callable[..., int]:
    """A record of a kind is forced to disk at once, as it is where anybody else asks for that."""

    def then_force(journal: Journal, kind_now: str, *args: Any) -> int:
        number = add(journal, kind_now, *args)
        if kind_now == kind:
            journal.sync()
        return number

    return then_force


async def test_a_file_that_waits_keeps_its_new_name_when_its_directory_was_synced(
    filesystem: Filesystems, tmp_path: Path
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.put("a", b"old")
    await files.fs.drain()
    with pytest.MonkeyPatch.context() as patch:
        forced = _forced_from_now_on(patch, files, tmp_path / "cache")
        patch.setattr("cosfs.fs.openfiles.ASYNC_DELAY", NEVER)
        await files.put("a.new", b"new")
        await files.rename("a.new", "a")
        fh = await files.fs.opendir(files.tree.root.ino)
        await files.fs.fsyncdir(fh)
        files.fs.releasedir(fh)
        assert await files.stored("a") == b"old"
    await filesystem.kill(files)
    second = await filesystem(forced, write_back="async")
    await second.fs.drain()
    assert await second.keys() == ["a"]
    assert await second.stored("a") == b"new"


async def test_a_file_that_comes_back_does_not_replace_what_was_sent_later(
    filesystem: Filesystems, emulator: Emulator, tmp_path: Path
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.put("a", b"removed")
    await files.fs.drain()
    with pytest.MonkeyPatch.context() as patch:
        forced = _forced_from_now_on(patch, files, tmp_path / "cache")
        patch.setattr("cosfs.fs.openfiles.ASYNC_DELAY", NEVER)
        emulator.faults.error("Delete*", "ServiceUnavailable", 503, count=0)
        await files.unlink("a")
        await files.put("a", b"closed")  # the last time that the journal is forced to disk
        await files.fs.committer.flush(await files.file("a"))
        async with files.opened("a") as fh:
            await files.write(fh, b"synced")
            await files.fs.fsync(fh)
        emulator.faults.clear()
    await filesystem.kill(files)
    second = await filesystem(forced, write_back="async")
    await second.fs.drain()
    assert await second.stored("a") == b"synced"
