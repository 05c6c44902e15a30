"""What stands in the way of a download, found without touching anything: for runs that only tell."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Container

from cosfs.transfer.paths import LocalTarget, link_error

__all__ = ["Obstacles"]


class Obstacles:
    """Tells which downloads would fail by what is at the destination; gone: what would be deleted there."""

    def __init__(self, gone: Container[str] | None = None) -> None:
        self._gone: Container[str] = gone if gone is not None else ()
        self._deletes = gone is not None
        self._clear = ""  # a directory that can be reached; many files in a row go to the same

    def to_file(self, target: LocalTarget) -> Exception | None:
        """Return what making or replacing a file would fail with; None if nothing is in its way."""
        error = self._above(target)
        if error is not None:
            return error
        mode = _mode(target.path)
        if stat.S_ISDIR(mode) and not (self._deletes and self.is_free(target.path)):
            return OSError(errno.EISDIR, os.strerror(errno.EISDIR), target.path)
        return None

    def to_directory(self, target: LocalTarget) -> Exception | None:
        """Return what making a directory, unless it is there, would fail with."""
        path = target.path.rstrip("/")
        return self._above(LocalTarget(path, None, target.components)) or self._in_root(path)

    def is_free(self, path: str) -> bool:
        """Whether a file could be made at path once what is to be deleted is gone."""
        if not stat.S_ISDIR(_mode(path)):
            return True
        try:
            with os.scandir(path) as found:
                return all(self._goes(entry) for entry in found)
        except OSError:
            return False

    def _goes(self, entry: os.DirEntry[str]) -> bool:
        if entry.path in self._gone:
            return True
        if not entry.is_dir(follow_symlinks=False):
            return False
        with os.scandir(entry.path) as found:
            inside = list(found)
        # Directories go with the last file in them; one that is empty already is nobody's to remove.
        return bool(inside) and all(map(self._goes, inside))

    def _above(self, target: LocalTarget) -> Exception | None:
        """Return what opening or making the directory of a target would fail with."""
        parent = os.path.dirname(target.path)  # noqa: PTH120 - keeps `a/..`
        if not parent or parent == self._clear:
            return None
        error = None
        if target.components:
            path = target.path[: -len("/".join(target.components))].rstrip("/")
            for component in target.components[:-1]:
                path = f"{path}/{component}"
                error = error or self._in_root(path)
        else:
            error = _named(parent)
        if error is None:
            self._clear = parent
        return error

    def _in_root(self, path: str) -> Exception | None:
        """Judge a directory below the root of a download, where no link is followed."""
        mode = _mode(path)
        if not mode or stat.S_ISDIR(mode) or path in self._gone:
            return None
        return link_error(path) if stat.S_ISLNK(mode) else _not_a_directory(path)


def _named(path: str) -> Exception | None:
    """Judge a directory that the user named."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a Path an entry is too slow
    except FileNotFoundError:
        above = os.path.dirname(path)  # noqa: PTH120
        return _named(above) if above not in ("", path) else None
    except OSError as error:
        return error
    return None if stat.S_ISDIR(mode) else _not_a_directory(path)


def _not_a_directory(path: str) -> OSError:
    return OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def _mode(path: str) -> int:
    """Return what is at a path; 0 if nothing is."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0
