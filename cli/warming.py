"""The work of `cos cache warm`: files of mounts are found here and fetched by the mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from cosfs.errors import COSError, UsageError
from cosfs.fuse import control
from cosfs.units import format_size

from .output import printable
from .progress import Display

if TYPE_CHECKING:
    from .state import State

PARALLEL = 8  # files at once; each is fetched in several parts


@dataclass(slots=True)
class _Room:
    """How much of a mount's cache is still to be filled."""

    limit: int
    left: int


class Warmer:
    """Warms files, several at once."""

    def __init__(self, state: State, dryrun: bool) -> None:
        self._state = state
        self._dryrun = dryrun
        self._display = Display(state, "warm")
        self._rooms: dict[Path, _Room] = {}
        self._files = self._fetched = self._present = 0
        self._left_out = self._left_out_size = 0
        self._code = 0

    def run(self, paths: tuple[Path, ...]) -> int:
        """Warm everything below these paths; return the exit code."""
        trio.run(self._run, paths)
        self._tell()
        return self._code

    async def _run(self, paths: tuple[Path, ...]) -> None:
        wanted: list[tuple[Path, Path, int]] = []
        for path in paths:
            mountpoint = control.mount_of(path)[0]
            self._room(mountpoint)
            for file, size in await trio.to_thread.run_sync(list, _files_below(path)):
                if self._take(mountpoint, size):
                    wanted.append((mountpoint, file, size))
                    self._display.expect(size, str(file))
        self._display.complete = True
        limit = trio.CapacityLimiter(PARALLEL)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._display.run)
            async with trio.open_nursery() as work:
                for mountpoint, file, size in wanted:
                    await limit.acquire_on_behalf_of(file)
                    work.start_soon(self._one, mountpoint, file, size, limit)
            nursery.cancel_scope.cancel()

    def _room(self, mountpoint: Path) -> None:
        if mountpoint in self._rooms:
            return
        found = control.status(mountpoint)
        if found is None or "cache_limit" not in found.details:
            raise COSError(f"the mount {mountpoint} does not answer")
        limit = int(found.details["cache_limit"])
        if not limit:
            raise UsageError(f"{mountpoint} has no cache on disk", hint="Mount it with a --cache-size")
        self._rooms[mountpoint] = _Room(limit, limit)

    def _take(self, mountpoint: Path, size: int) -> bool:
        """Whether a file fits beside those before it."""
        room = self._rooms[mountpoint]
        if size > room.left:
            self._left_out += 1
            self._left_out_size += size
            self._code = 1
            return False
        room.left -= size
        return True

    async def _one(self, mountpoint: Path, file: Path, size: int, limit: trio.CapacityLimiter) -> None:
        try:
            if self._dryrun:
                self._state.out.lines([f"(dryrun) warm: {printable(str(file))} {format_size(size)}"])
                self._files += 1
                return
            answer = await trio.to_thread.run_sync(control.warm, mountpoint, file)
            self._files += 1
            self._fetched += answer["fetched"]
            self._present += answer["present"]
            if answer["state"] in ("changed", "full"):
                why = "it has changed meanwhile" if answer["state"] == "changed" else "the disk takes no more"
                self._fail(f"{printable(str(file))} is not all in the cache: {why}")
        except (COSError, OSError) as error:
            self._fail(f"{printable(str(file))}: {error}")
        finally:
            self._display.advance(size)
            self._display.finish()
            limit.release_on_behalf_of(file)

    def _fail(self, text: str) -> None:
        self._state.out.error(text)
        self._code = 1

    def _tell(self) -> None:
        if self._left_out:
            limits = ", ".join(format_size(room.limit) for room in self._rooms.values())
            left = f"{self._left_out} files ({format_size(self._left_out_size)})"
            self._state.out.warn(f"{left} do not fit into the cache of {limits} and were left out")
        record = {
            "Files": self._files,
            "Fetched": self._fetched,
            "Present": self._present,
            "LeftOut": self._left_out,
        }
        if self._state.format in ("json", "jsonl"):
            self._state.out.json(record)
        elif not self._dryrun:
            self._state.out.lines(
                [
                    f"{self._files} files are in the cache: {format_size(self._fetched)} fetched, "
                    f"{format_size(self._present)} were there"
                ]
            )


def _files_below(path: Path) -> Iterator[tuple[Path, int]]:
    """Regular files and their sizes, in the order of their names."""
    if not path.is_dir():
        yield path, path.stat().st_size
        return
    for directory, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            file = Path(directory, name)
            if file.is_file() and not file.is_symlink():
                yield file, file.stat().st_size
