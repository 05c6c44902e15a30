"""Loss of power under load: what close() and fsync() acknowledged must be there afterwards.

The cache directory of the mount is on a disk whose power is lost together with the mount (disk.py); COS is
elsewhere and stays. Names, modes, times and attributes changed since a file was closed may be as before.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.stressing.busy import BusyWriter
from scripts.stressing.crash import Series
from scripts.stressing.disk import Disk, Lost
from scripts.stressing.seen import Open, Seen, Sight
from scripts.stressing.world import World
from scripts.stressing.writer import is_mixed

BESIDE = "%=file"  # ends the name of a file that has the key of a directory beside it
# Calls that are acknowledged when COS or the disk has what they did.
LASTING = frozenset(
    {"write", "append", "patch", "truncate", "mkdir", "symlink", "sparse", "copy_file_range", "cut", "map"}
)


class PowerWorld(World):
    """The cache directory is on a disk that loses its power."""

    def __init__(self, scratch: Path, filesystem: str, tear: int) -> None:
        super().__init__(scratch)
        self.disk = Disk(scratch, filesystem, tear)
        self.cache = self.disk.path / "cache"
        self.disk.format()
        self.disk.plug()

    def close(self) -> None:
        self.disk.unplug()
        super().close()

    def empty(self) -> None:
        super().empty()
        self.disk.format()
        self.disk.plug()


class History:
    """What each name of one program may be after a loss of power, and where files must be."""

    def __init__(self) -> None:
        self._may_be: dict[str, list[Seen | None]] = {}  # since the last call that lasts; the newest last
        self._places: dict[str, list[str]] = {}  # names that a file has had since its bytes were acknowledged

    def changed(self, before: Sight, after: Sight, *, lasts: bool) -> None:
        """A call has made one of the other."""
        self._follow(before, after)
        for path in before.keys() | after.keys():
            old, new = before.get(path), after.get(path)
            if old is new:
                continue
            if lasts:
                self._may_be[path] = [new]
                self._places[path] = [path]
                for places in self._places.values():
                    if places[-1] != path and path in places:
                        places.remove(path)  # another file is there now
            else:
                self._may_be.setdefault(path, [old]).append(new)

    def _follow(self, before: Sight, after: Sight) -> None:
        """Find out which files have other names now."""
        gone = {id(node): path for path, node in before.items() if path not in after}
        for path, node in after.items():
            if before.get(path) is not node and id(node) in gone:
                old = gone[id(node)]
                self._places[path] = [*self._places.pop(old, [old]), path]

    def opened(self, kept: Sight, unfinished: str, mixed: list[Seen], found: Sight) -> Open:
        """The same as a question to what was found.

        kept is what must be somewhere, unfinished the file whose call was cut short.
        """
        allowed = Open()
        for path, states in self._may_be.items():
            allowed.allow(path, *states)
            here = found.get(path)
            was_directory = any(state is not None and state.kind == "directory" for state in states)
            if was_directory and here is not None and here.kind == "directory":
                allowed.allow(path, here)  # the mode may be any
        for path, node in found.items():
            states = self._may_be.get(_other_name(path), [])
            if node.kind == "file" and any(state is not None and state.fits(node) for state in states):
                allowed.allow(path, node)  # back beside a directory of its name, or without it
        here = found.get(unfinished)
        if here is not None and is_mixed(here, mixed):
            allowed.allow(unfinished, here)
        for path in self._may_be:
            node = kept.get(path)
            if node is not None and node.kind == "file":
                places = self._places.get(path, [path])
                allowed.keep(path, node.data, *places, *map(_other_name, places))
        return allowed


def _other_name(path: str) -> str:
    """The name of a file when a directory of its name comes, or has gone."""
    return path.removesuffix(BESIDE) if path.endswith(BESIDE) else path + BESIDE


class PowerWriter(BusyWriter):
    """Remembers what may be undone."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._history = History()
        self._verb = ""

    def _kinds(self) -> dict[Callable[[], None], int]:
        """Without those of several steps that are one call to the judge."""
        kinds = super()._kinds()
        for call in (self._move_while_written, self._move_place_while_written, self._remove_while_written):
            del kinds[call]
        return kinds

    def _begin(self) -> None:
        """What is back beside a directory gets a name that does not change when the directory goes."""
        for path in [path for path in self.known if path.endswith(BESIDE)]:
            new = f"{_other_name(path)}.back"
            while new in self.known:
                new += "~"
            self._rename(path, new)
        super()._begin()

    def _do(self, what: str, after: Sight, call: Callable[[], object], patched: str = "") -> None:
        self._verb = what.split()[0]
        super()._do(what, after, call, patched)

    def _acknowledged(self, after: Sight) -> None:
        self._history.changed(self.known, after, lasts=self._verb in LASTING)
        super()._acknowledged(after)

    def judge(self, found: Sight) -> str:
        if self.is_short and self.next is not None:
            self.next = self._shortened(self.next, found)
        after = self.known if self.next is None else self.next
        mixed = [state[self.patched] for state in (self.known, after) if self.patched in state]
        self._history.changed(self.known, after, lasts=False)
        acknowledged = {id(node) for node in self.known.values()}
        kept = {path: node for path, node in after.items() if id(node) in acknowledged}
        allowed = self._history.opened(kept, self.patched, mixed, found)
        failure = allowed.difference(found, self.known, ())
        if not failure:
            self.known = {path: replace(node, mtime=None) for path, node in found.items()}
        return failure


class PowerSeries(Series):
    """As a series of kills, but that what was not flushed is lost as well."""

    writer_class = PowerWriter
    # A chmod that was done may be in the journal again, and be of a file that was written since; or the
    # rename of a directory, and a file below its new name have been replaced since.
    expected_aside = ("never closed", "was replaced since its mode", "there is another one")

    def __init__(self, world: PowerWorld, seed: int, evidence: Path) -> None:
        super().__init__(world, seed, evidence)
        self._disk = world.disk
        self._chance = random.Random(seed)
        self.lost = Lost()

    def one(self, seed: int) -> str:
        self._chance = random.Random(-seed)
        return super().one(seed)

    def _kill(self) -> None:
        super()._kill()
        self._lose_power()

    def _recover(self, chance: random.Random, *, killed: bool) -> str:
        failure = super()._recover(chance, killed=killed)
        if killed:
            self._lose_power()
        return failure

    def _lose_power(self) -> None:
        lost = self._disk.lose_power(self._chance)
        self._tell(f"power lost: {self._disk.filesystem}, {lost}")
        for name in ("writes", "flushes", "unflushed", "dropped"):
            setattr(self.lost, name, getattr(self.lost, name) + getattr(lost, name))
        self._disk.plug()
        if self._disk.is_repaired:
            self._tell("the filesystem had to be checked")
            print(f"{self._disk.filesystem} could be mounted only after a check", flush=True)
