"""Where a process has temporary files, noted before they are made: what a killed one leaves is found so.

A note is a file in ~/.cos/resume, locked as long as its process lives. It names directories and the range of
names that its process uses, so that files of a dead process can be told from those of one that lives.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import field
from functools import cached_property, lru_cache
from pathlib import Path

from cosfs.records import dataclass
from cosfs.transfer.paths import temporary_number
from cosfs.transfer.resume import lock_file

__all__ = ["Left", "Range", "Traces", "left_behind", "remove_named"]

log = logging.getLogger(__name__)

# So many names are noted at once.
_BLOCK = 1024
_NAMES = 1 << 32

Range = tuple[int, int]  # first name, how many
Kept = Callable[[], Iterable[str]]  # paths of temporary files that a record knows of


@dataclass(slots=True)
class _Note:
    """What a file says."""

    ranges: dict[int, int] = field(default_factory=dict)  # first name: how many
    directories: dict[str, None] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> _Note:
        """Read a note as far as it can be read: its writer may have been killed in the middle of a line."""
        note = cls()
        with suppress(OSError, ValueError, TypeError, KeyError):
            for line in path.read_text(encoding="ascii").splitlines():
                said = json.loads(line)
                if "first" in said:
                    note.ranges[int(said["first"])] = int(said["count"])
                elif "clean" in said:
                    note.directories.pop(said["clean"], None)
                else:
                    note.directories[str(said["directory"])] = None
        return note


class Left:
    """What a dead process left; locked for us until it is closed."""

    def __init__(self, path: Path, lock: int) -> None:
        self.id = path.stem
        self.updated = path.stat().st_mtime
        self._path = path
        self._lock = lock
        self._note = _Note.read(path)

    @property
    def directories(self) -> list[str]:
        """Where files of it may be."""
        return list(self._note.directories)

    def files(self, kept: Iterable[str] = ()) -> list[str]:
        """Return the paths of the files that are there; those kept are not counted."""
        kept = set(kept)
        found: list[str] = []
        for directory in self.directories:
            with suppress(OSError):
                names = _named(os.listdir(directory), self._note.ranges.items())  # noqa: PTH208
                found += [path for name in names if (path := f"{directory}/{name}") not in kept]
        return found

    def clean(self, directory: str, kept: Iterable[str]) -> None:
        """Remove its files from one directory but those kept, and forget the directory."""
        ours = {os.path.basename(path) for path in kept if os.path.dirname(path) == directory}  # noqa: PTH119, PTH120
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            pass
        else:
            try:
                remove_named(fd, self._note.ranges.items(), ours)
            finally:
                os.close(fd)
        self._note.directories.pop(directory, None)
        if self._note.directories:
            _append(self._lock, clean=directory)
        else:
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others look after it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def remove_named(directory: int, ranges: Iterable[Range], kept: Iterable[str] = ()) -> None:
    """Remove the temporary files with names of some ranges from an open directory."""
    for name in set(_named(os.listdir(directory), ranges)) - set(kept):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)


def _named(names: Iterable[str], ranges: Iterable[Range]) -> Iterator[str]:
    ranges = list(ranges)
    for name in names:
        number = temporary_number(name)
        if number is not None and any((number - first) % _NAMES < count for first, count in ranges):
            yield name


def left_behind(directory: Path) -> Iterator[Left]:
    """Yield what dead processes left; each is locked until it is closed."""
    for path in sorted(directory.glob("*.files")):
        try:
            lock = lock_file(path)
        except OSError:
            continue
        if lock is None:
            continue  # its process lives, or somebody else looks after it
        left = Left(path, lock)
        if not left.directories:
            path.unlink(missing_ok=True)
            left.close()
            continue
        yield left


class Traces:
    """The note of this process. Its methods can be called from any thread.

    It is written before the first temporary file is made in a directory; what dead processes have left
    there is removed then.
    """

    def __init__(self, directory: Path, kept: Kept) -> None:
        self._directory = directory
        self._kept = kept
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._ranges: dict[int, int] = {}
        self._path: Path | None = None
        self._fd = -1
        self._closed = False

    def using(self, directory: str, first: int, number: int) -> None:
        """Note that the name number (from 0) of the range that begins at first is used in a directory."""
        if not directory.startswith("/"):
            directory = _absolute(directory or ".")
        if self._closed or (directory in self._known and number < self._ranges.get(first, 0)):
            return
        with self._lock:
            try:
                self._note(directory, first, number)
            except OSError as error:
                # Then what is left if we are killed stays.
                log.info("temporary files in %s cannot be noted: %s", directory, error)
                self._known.add(directory)
                self._ranges[first] = _NAMES

    def _note(self, directory: str, first: int, number: int) -> None:
        if self._fd < 0:
            self._open()
        if number >= self._ranges.get(first, 0):
            most = number + _BLOCK
            _append(self._fd, first=first, count=most)
            self._ranges[first] = most
        if directory not in self._known:
            _append(self._fd, directory=directory)
            self._known.add(directory)
            for left in self._dead:
                if directory in left.directories:
                    left.clean(directory, self._kept())

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = None
        while lock is None:  # somebody may take the file for a dead process's before we have locked it
            self._path = self._directory / f"{secrets.token_hex(16)}.files"
            lock = lock_file(self._path)
        self._fd = lock

    @cached_property
    def _dead(self) -> list[Left]:
        return list(left_behind(self._directory))

    def close(self) -> None:
        """Remove the note: no file is left that nobody knows of."""
        with self._lock:
            if self._path is not None:
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)
                self._path = None
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            for left in self.__dict__.pop("_dead", ()):
                left.close()
            self._closed = True


@lru_cache(maxsize=32)
def _absolute(directory: str) -> str:
    """Return a relative name as an absolute one: asked for each file again, and never goes elsewhere."""
    return os.path.abspath(directory)  # noqa: PTH100


def _append(fd: int, **said: object) -> None:
    os.lseek(fd, 0, os.SEEK_END)
    os.write(fd, json.dumps(said).encode() + b"\n")
