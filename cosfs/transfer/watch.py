"""What changes below a directory, told by inotify, gathered until it is quiet for a moment.

The kernel may tell too little: its queue overflows, there are more directories than watches. Then
`Changes.everything` says so, and only comparing all of the tree shows what has changed.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import field
from types import TracebackType

import trio
from inotify_simple import INotify, flags

from cosfs.records import dataclass
from cosfs.transfer.sides import EVERYTHING, Selector

__all__ = ["Changes", "TreeWatch"]

_MASK = (
    flags.CLOSE_WRITE
    | flags.CREATE
    | flags.DELETE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
)
# Changes are told when nothing more has come for so many seconds, or so many after the first.
_QUIET = 0.3
_LONGEST = 3.0
# More places than this are quicker to find by comparing everything.
_MANY = 1000


@dataclass(slots=True)
class Changes:
    """What changed: files, and directories (their names end in a slash) with all below them.

    everything: more than that may have changed. root_gone: the directory itself is no longer there.
    """

    places: set[str] = field(default_factory=set)
    everything: bool = False
    root_gone: bool = False

    def __bool__(self) -> bool:
        return bool(self.places) or self.everything or self.root_gone


class TreeWatch:
    """Watches a directory and all below it that the selector takes; a context manager.

    With follow, directories that symbolic links point to are watched as well.
    """

    def __init__(self, root: str, selector: Selector = EVERYTHING, *, follow: bool = True) -> None:
        self._root = os.path.join(root, "")  # noqa: PTH118 - ends in a slash
        self._selector = selector
        self._follow = follow
        self._inotify = INotify(nonblocking=True)
        self._names: dict[int, set[str]] = {}  # of each watch; several where links lead to one directory
        self.unwatched = ""  # why not everything can be watched

    def __enter__(self) -> TreeWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inotify.close()

    async def start(self) -> None:
        """Watch from now on. Raises OSError if the root cannot be watched."""
        await trio.to_thread.run_sync(self._add, "")
        if not self._names:
            raise OSError(errno.ENOENT, self.unwatched or "no such directory", self._root)

    async def changes(self) -> Changes:
        """Wait for changes; return those that came until it was quiet."""
        found = Changes()
        while not found:
            await trio.lowlevel.wait_readable(self._inotify.fd)
            await self._read(found)
        with trio.move_on_after(_LONGEST):
            while not found.root_gone:
                with trio.move_on_after(_QUIET) as waiting:
                    await trio.lowlevel.wait_readable(self._inotify.fd)
                    await self._read(found)
                if waiting.cancelled_caught:
                    break
        if len(found.places) > _MANY:
            found.everything = True
        return found

    async def _read(self, found: Changes) -> None:
        for wd, mask, _, name in self._inotify.read(timeout=0):
            if mask & flags.Q_OVERFLOW:
                found.everything = True
            for directory in list(self._names.get(wd, ())):
                self._note(found, directory, wd, mask, name)
        await trio.lowlevel.checkpoint()

    def _note(self, found: Changes, directory: str, wd: int, mask: int, name: str) -> None:
        if not name:
            if mask & (flags.DELETE_SELF | flags.MOVE_SELF) and not directory:
                found.root_gone = True
            if mask & flags.IGNORED:
                self._names.pop(wd, None)
            return
        relative = directory + name
        if mask & flags.ISDIR or (mask & (flags.CREATE | flags.MOVED_TO) and self._is_linked(relative)):
            relative += "/"
            if self._selector.prunes(relative):
                return
            if mask & (flags.MOVED_FROM | flags.DELETE):
                self._forget(relative)
            else:
                self._add(relative)
        elif mask & flags.CREATE and not self._is_complete(relative):
            return  # it is being written; the end of that is told as well
        elif not self._selector.takes_name(relative):
            return
        if mask & (flags.DELETE | flags.MOVED_FROM) and not relative.endswith("/"):
            # What was a link to a directory is told like a file.
            self._forget(relative + "/")
            found.places.add(relative + "/")
        found.places.add(relative)

    def _is_linked(self, relative: str) -> bool:
        path = self._root + relative
        return self._follow and os.path.islink(path) and os.path.isdir(path)  # noqa: PTH112, PTH114

    def _is_complete(self, relative: str) -> bool:
        """Whether a name that was just made is for something that was there before: a link of either kind."""
        try:
            info = os.lstat(self._root + relative)
        except OSError:
            return True
        return stat.S_ISLNK(info.st_mode) or info.st_nlink > 1

    # --- watches

    def _add(self, relative: str, above: tuple[tuple[int, int], ...] = ()) -> None:
        """Watch a directory and all below it; what cannot be watched is left to comparing."""
        path = self._root + relative
        try:
            info = os.stat(path)  # noqa: PTH116 - Path would drop the slash
            identity = info.st_dev, info.st_ino
            if identity in above:
                return  # a link to a directory it lies in
            wd = self._inotify.add_watch(path, _MASK)
            self._names.setdefault(wd, set()).add(relative)
            with os.scandir(path) as found:
                names = [item.name for item in found if item.is_dir(follow_symlinks=self._follow)]
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self.unwatched = "there are more directories than fs.inotify.max_user_watches allows"
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self.unwatched = f"{path}: {error.strerror}"
            return
        for name in names:
            below = f"{relative}{name}/"
            if not self._selector.prunes(below):
                self._add(below, (*above, identity))

    def _forget(self, relative: str) -> None:
        """Stop watching a directory that is elsewhere by now."""
        for wd, names in list(self._names.items()):
            gone = {name for name in names if name.startswith(relative)}
            names -= gone
            if gone and not names:
                del self._names[wd]
                try:
                    self._inotify.rm_watch(wd)
                except OSError:
                    pass  # it went with the directory
