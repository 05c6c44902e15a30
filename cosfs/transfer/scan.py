"""A prefix of a bucket, or a local tree, as one sorted stream with little memory.

Both come in UTF-8 byte order of the path below their root, so that two of them can be merged:
`a-b` before `a/c`, because directories sort as if their names ended in a slash.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType

import trio

from cosfs.client.model import ListPage, ObjectInfo
from cosfs.records import dataclass
from cosfs.transfer.engine import Engine, Pending
from cosfs.transfer.paths import decode_key, encode_name, is_encoded_well, temporary_number

__all__ = ["LocalEntry", "LocalWalk", "ObjectListing", "Prefix", "list_objects", "stat_entry", "walk"]

# Sorts after every character a key can go on with, so as a marker it skips what begins with a prefix.
_LAST = "\U0010ffff"


# --- remote ---


@dataclass(frozen=True, slots=True)
class Prefix:
    """A common prefix of a listing with a delimiter: what is shown as a directory."""

    key: str


class ObjectListing:
    """The objects below a prefix, the next page fetched while this one is looked at.

    An async iterator and context manager. Left early it drops the page under way.
    """

    def __init__(
        self,
        engine: Engine,
        bucket: str,
        prefix: str,
        *,
        delimiter: str = "",
        start_after: str = "",
        page_size: int = 1000,
    ) -> None:
        self._engine = engine
        self._bucket = bucket
        self._prefix = prefix
        self._delimiter = delimiter
        self._page_size = page_size
        self._items: deque[ObjectInfo | Prefix] = deque()
        self._pending: Pending[ListPage] | None = self._fetch_first(start_after)

    def _fetch_first(self, start_after: str) -> Pending[ListPage]:
        ahead = self._engine.first_page
        plain = not (self._delimiter or start_after)
        if ahead is None or not plain or not ahead.is_for(self._bucket, self._prefix, self._page_size):
            return self._fetch(start_after)
        self._engine.first_page = None  # only once: what is listed again later may have changed
        return self._engine.start(ahead.take)

    def _fetch(self, marker: str) -> Pending[ListPage]:
        request = partial(
            self._engine.client.list_objects,
            self._bucket,
            prefix=self._prefix,
            delimiter=self._delimiter,
            marker=marker,
            max_keys=self._page_size,
        )
        return self._engine.start(request)

    async def __aenter__(self) -> ObjectListing:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop what is left."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self._items.clear()

    def __aiter__(self) -> ObjectListing:
        return self

    async def __anext__(self) -> ObjectInfo | Prefix:
        while not self._items:
            await self._next_page()
        return self._items.popleft()

    async def _next_page(self) -> None:
        if self._pending is None:
            raise StopAsyncIteration
        page = await self._pending.wait()
        self._pending = self._fetch(page.next_marker) if page.next_marker else None
        if not page.prefixes:
            self._items.extend(page.objects)
            return
        items: list[ObjectInfo | Prefix] = [*page.objects, *(Prefix(name) for name in page.prefixes)]
        items.sort(key=lambda item: item.key.encode())
        self._items.extend(items)

    def skip(self, prefix: str) -> None:
        """Go on after everything that begins with prefix, without listing it.

        To be called when the item just returned begins with it.
        """
        while self._items and self._items[0].key.startswith(prefix):
            self._items.popleft()
        if not self._items and self._pending is not None:
            self._pending.cancel()
            self._pending = self._fetch(prefix + _LAST)


def list_objects(
    engine: Engine,
    bucket: str,
    prefix: str = "",
    *,
    delimiter: str = "",
    start_after: str = "",
    page_size: int = 1000,
) -> ObjectListing:
    """Iterate over all objects whose keys begin with prefix, in UTF-8 byte order of their keys.

    With a delimiter, what lies behind it comes as one Prefix. The first page is asked for at once.
    """
    return ObjectListing(
        engine, bucket, prefix, delimiter=delimiter, start_after=start_after, page_size=page_size
    )


# --- local ---


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """One local file, or directory (relative ends in a slash), or symlink that is kept as one."""

    path: str  # to open it
    relative: str  # below the root, as the key is spelled
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    mode: int
    link_target: str = ""  # only for a symlink that is kept as one

    @property
    def is_directory(self) -> bool:
        # Not by its name: with encoded names a file can stand for a key that ends in a slash.
        return stat.S_ISDIR(self.mode)

    @property
    def reads_as_directory(self) -> bool:
        """Whether it is a file whose name ends in a slash: who was asked by name took it for a directory."""
        return self.relative.endswith("/") and not self.is_directory


Keep = Callable[[str], bool]
Warn = Callable[[str, str], None]  # path, reason


@dataclass(frozen=True, slots=True)
class _Rules:
    symlinks: str
    directories: bool
    one_filesystem: bool
    encoded_names: bool
    keep: Keep


class _Level:
    """One directory of the walk: what is left of it, last first."""

    __slots__ = ("entries", "identity", "path", "relative")

    def __init__(self, path: str, relative: str, identity: tuple[int, int]) -> None:
        self.path = path if path.endswith("/") else path + "/"
        self.relative = relative
        self.identity = identity
        # sort key, whether it is a directory, name on disk
        self.entries: list[tuple[bytes, bool, str]] = []


class _Tree:
    """The blocking walk: iterate over it in one thread at a time."""

    def __init__(self, root: str, rules: _Rules, warn: Warn, clash: Warn) -> None:
        self._rules = rules
        self._warn = warn
        self._clash = clash
        self._follow = rules.symlinks == "follow"
        info = Path(root).stat()
        self._device = info.st_dev
        top = _Level(root, "", (info.st_dev, info.st_ino))
        self._read(top)
        self._levels = [top]

    def __iter__(self) -> Iterator[LocalEntry]:
        while self._levels:
            level = self._levels[-1]
            if not level.entries:
                self._levels.pop()
                continue
            sort_key, is_directory, name = level.entries.pop()
            path, relative = level.path + name, level.relative + sort_key.decode()
            entry = self._enter(path, relative) if is_directory else self._look_at(path, relative)
            if entry is not None:
                yield entry

    def _read(self, level: _Level) -> None:
        """Read the names of a directory and sort them as keys sort."""
        with os.scandir(level.path) as found:
            for item in found:
                if item.name.startswith(".cos-") and temporary_number(item.name) is not None:
                    continue  # an unfinished download of ours, or of another process
                spelled = self._spell(item, level)
                if spelled is None:
                    continue
                is_directory = self._is_directory(item, level.relative + spelled)
                name = spelled + "/" if is_directory else spelled
                if not self._rules.keep(level.relative + name):
                    continue
                if self._rules.encoded_names and not is_encoded_well(spelled, is_directory=is_directory):
                    self._clash(level.path + item.name, "stands for a name in another directory")
                    continue
                level.entries.append((name.encode(), is_directory, item.name))
        level.entries.sort(reverse=True)
        if self._rules.encoded_names:
            self._drop_twins(level)

    def _drop_twins(self, level: _Level) -> None:
        """Leave out names that stand for the same key: nobody knows which of them is meant."""
        names: dict[tuple[bytes, bool], list[str]] = {}
        for sort_key, is_directory, name in level.entries:
            names.setdefault((sort_key, is_directory), []).append(name)
        if len(names) == len(level.entries):
            return
        for twins in names.values():
            for name in twins if len(twins) > 1 else ():
                other = next(each for each in sorted(twins) if each != name)
                self._clash(level.path + name, f"stands for the same name as {other!r}")
        level.entries = [entry for entry in level.entries if len(names[entry[:2]]) == 1]

    def _is_directory(self, item: os.DirEntry[str], relative: str) -> bool:
        if not item.is_symlink():
            return item.is_dir()
        # Neither the link nor what may be below it is wanted: it is not even looked at.
        if not self._follow or not (self._rules.keep(relative) or self._rules.keep(relative + "/")):
            return False
        try:
            return item.is_dir()
        except OSError:
            # A link to itself; told when its turn comes.
            return False

    def _spell(self, item: os.DirEntry[str], level: _Level) -> str | None:
        """Return a name as it is spelled in a key; None if it cannot be."""
        name = item.name
        try:
            name.encode()
        except UnicodeEncodeError:
            if self._rules.encoded_names:
                return encode_name(os.fsencode(name))
            end = "/" if item.is_dir(follow_symlinks=False) else ""
            if self._rules.keep(level.relative + name + end):
                self._warn(level.path + name, "its name is not UTF-8; --key-policy encode takes it")
            return None
        return decode_key(name) if self._rules.encoded_names else name

    def _enter(self, path: str, relative: str) -> LocalEntry | None:
        """Go down into a directory; return its own entry if those are wanted."""
        try:
            info = Path(path).stat()
            identity = info.st_dev, info.st_ino
            if any(level.identity == identity for level in self._levels):
                if self._rules.keep(relative.removesuffix("/")):  # else the link itself is excluded
                    self._warn(path, "is a symbolic link to a directory it lies in")
                return None
            if self._rules.one_filesystem and info.st_dev != self._device:
                return None
            level = _Level(path, relative, identity)
            self._read(level)
        except OSError as error:
            self._warn(path, _reason(error))
            return None
        self._levels.append(level)
        return _entry(path, relative, info) if self._rules.directories else None

    def _look_at(self, path: str, relative: str) -> LocalEntry | None:
        try:
            info = os.stat(path, follow_symlinks=self._follow)  # noqa: PTH116 - a Path a file is too slow
        except FileNotFoundError:
            dangling = os.path.islink(path)  # noqa: PTH114
            self._warn(path, "points to nothing" if dangling else "has vanished")
            return None
        except OSError as error:
            self._warn(path, _reason(error))
            return None
        if stat.S_ISLNK(info.st_mode):
            return self._link(path, relative, info)
        if not stat.S_ISREG(info.st_mode):
            self._warn(path, f"is {_KINDS.get(stat.S_IFMT(info.st_mode), 'not a regular file')}")
            return None
        if not os.access(path, os.R_OK, effective_ids=True):
            self._warn(path, "cannot be read: permission denied")
            return None
        return _entry(path, relative, info)

    def _link(self, path: str, relative: str, info: os.stat_result) -> LocalEntry | None:
        if self._rules.symlinks != "keep":
            return None
        try:
            return _entry(path, relative, info, os.readlink(path))  # noqa: PTH115
        except OSError as error:
            self._warn(path, _reason(error))
            return None


_KINDS = {
    stat.S_IFDIR: "a directory now",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _entry(path: str, relative: str, info: os.stat_result, link_target: str = "") -> LocalEntry:
    return LocalEntry(
        path,
        relative,
        info.st_size,
        info.st_mtime_ns,
        info.st_ctime_ns,
        info.st_ino,
        info.st_dev,
        info.st_mode,
        link_target,
    )


def stat_entry(path: str, relative: str) -> LocalEntry:
    """Return the entry of one file as it is now."""
    return _entry(path, relative, os.stat(path))  # noqa: PTH116 - a Path a file is too slow


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _keep_all(_: str) -> bool:
    return True


class LocalWalk:
    """The entries of a local tree; an async iterator that reads in a thread, many at a time."""

    _FIRST = 32  # so few that the first of them need not wait long; twice as many each time
    _BATCH = 1000
    _BATCH_TIME = 0.05

    def __init__(self, root: str, rules: _Rules, on_warning: Warn | None, on_clash: Warn | None) -> None:
        self._root = root
        self._rules = rules
        self._on_warning = on_warning
        self._on_clash = on_clash or on_warning
        self._entries: deque[LocalEntry] = deque()
        self._problems: list[tuple[Warn | None, str, str]] = []
        self._tree: Iterator[LocalEntry] | None = None
        self._batch = self._FIRST
        self._done = False

    def __aiter__(self) -> LocalWalk:
        return self

    async def __anext__(self) -> LocalEntry:
        while not self._entries:
            if self._done:
                raise StopAsyncIteration
            # Left alone when cancelled: a dead network disk must not hold us.
            await trio.to_thread.run_sync(self._read_some, abandon_on_cancel=True)
            self._tell()
        return self._entries.popleft()

    def _tell(self) -> None:
        problems, self._problems = self._problems, []
        for tell, path, reason in problems:
            if tell is not None:
                tell(path, reason)

    def _read_some(self) -> None:
        if self._tree is None:
            self._tree = iter(_Tree(self._root, self._rules, self._warn, self._clash))
        end = time.monotonic() + self._BATCH_TIME
        for entry in self._tree:
            self._entries.append(entry)
            if len(self._entries) >= self._batch or time.monotonic() >= end:
                self._batch = min(2 * self._batch, self._BATCH)
                return
        self._done = True

    def _warn(self, path: str, reason: str) -> None:
        self._problems.append((self._on_warning, path, reason))

    def _clash(self, path: str, reason: str) -> None:
        self._problems.append((self._on_clash, path, reason))


def walk(
    root: Path | str,
    *,
    on_warning: Warn | None = None,
    on_clash: Warn | None = None,
    keep: Keep | None = None,
    symlinks: str = "follow",
    directories: bool = False,
    one_filesystem: bool = False,
    encoded_names: bool = False,
) -> LocalWalk:
    """Iterate over the files below a directory, in the order their keys have in a bucket.

    on_warning(path, reason) hears, in the trio thread, of what is left out: dangling links, cycles,
    special and unreadable files, names that are not UTF-8. keep(relative) says what is wanted; what
    it does not want is never looked at, a directory (`sub/`) not even read. symlinks: `follow`, `skip`
    (say nothing) or `keep` (as entries with a link_target). directories adds an entry for each directory.
    encoded_names reads names as paths.encode_key writes them; on_clash (else on_warning) hears of those
    that stand for the key of another file. Raises OSError if root cannot be read.
    """
    rules = _Rules(symlinks, directories, one_filesystem, encoded_names, keep or _keep_all)
    return LocalWalk(os.fspath(root), rules, on_warning, on_clash)
