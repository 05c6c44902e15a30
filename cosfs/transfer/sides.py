"""The two sides of a comparison: a local tree and what lies below a prefix, each as one sorted stream.

Names are relative to the root of their side and in UTF-8 byte order, so that two sides can be merged
whatever they are. Nothing here depends on how many there are, except the names that were asked for.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple, Protocol

from cosfs.client.model import ObjectInfo
from cosfs.client.session import NOTHING
from cosfs.errors import ObjectNotFoundError, TransferError
from cosfs.transfer.compare import Side, object_side
from cosfs.transfer.contents import FileContent, ObjectContent
from cosfs.transfer.engine import Engine
from cosfs.transfer.paths import decode_key
from cosfs.transfer.scan import LocalEntry, list_objects, walk

__all__ = [
    "EVERYTHING",
    "BucketSide",
    "Entry",
    "LocalSide",
    "Problem",
    "Scope",
    "Selector",
    "TreeSide",
    "file_side",
]

# So many names are asked for one by one; more of them are looked up in a listing.
_FEW = 100
_NO_FILE = Side(-1, 0)


class Entry(NamedTuple):
    """One file or object (or directory, whose name ends in a slash) below the root of its side."""

    relative: str
    facts: Side
    item: LocalEntry | ObjectInfo

    @property
    def is_directory(self) -> bool:
        """Whether it is a local directory; an object whose key ends in a slash is not."""
        return isinstance(self.item, LocalEntry) and self.item.is_directory


class Selector(Protocol):
    """Which names are wanted. Others are neither listed nor looked at where that can be avoided."""

    @property
    def names(self) -> Sequence[str] | None:
        """Sorted names, if only these are wanted."""

    @property
    def unfiltered(self) -> Selector:
        """The names that these are chosen from: the same without filters, as --delete-excluded looks."""

    def takes_name(self, path: str) -> bool: ...
    def takes_state(self, size: int, modified: float) -> bool: ...
    def prunes(self, directory: str) -> bool: ...


class _Everything:
    names: Sequence[str] | None = None

    @property
    def unfiltered(self) -> Selector:
        return self

    def takes_name(self, path: str) -> bool:
        return True

    def takes_state(self, size: int, modified: float) -> bool:
        return True

    def prunes(self, directory: str) -> bool:
        return False


EVERYTHING: Selector = _Everything()


class Scope:
    """Narrows a selector to some files and to all below some directories (their names end in a slash)."""

    def __init__(self, base: Selector, places: Iterable[str]) -> None:
        self._base = base
        found = sorted(set(places))
        # What lies below a directory that is named itself is in its scope.
        self.places: list[str] = []
        for place in found:
            if not (self.places and self.places[-1].endswith("/") and place.startswith(self.places[-1])):
                self.places.append(place)
        self.names: Sequence[str] | None = None

    @property
    def unfiltered(self) -> Scope:
        """The same places, and all that is in them."""
        return Scope(self._base.unfiltered, self.places)

    def takes_name(self, path: str) -> bool:
        """Whether a name is in the scope and taken."""
        return self._contains(path) and self._base.takes_name(path)

    def takes_state(self, size: int, modified: float) -> bool:
        """Whether size and time are as asked for."""
        return self._base.takes_state(size, modified)

    def prunes(self, directory: str) -> bool:
        """Whether nothing below a directory is in the scope and taken."""
        if self._base.prunes(directory):
            return True
        position = bisect_left(self.places, directory)
        below = position < len(self.places) and self.places[position].startswith(directory)
        return not below and not self._contains(directory)

    def _contains(self, path: str) -> bool:
        position = bisect_left(self.places, path)
        if position < len(self.places) and self.places[position] == path:
            return True
        above = self.places[position - 1] if position else ""
        return above.endswith("/") and path.startswith(above)


class Problem(NamedTuple):
    """Something that is there but cannot be taken; what it stands for must not be taken for gone."""

    relative: str
    path: str
    reason: str
    clash: bool = False  # it stands for the same key as another file


OnProblem = Callable[[Problem], None]


class LocalSide:
    """What lies below a directory. A directory that does not exist is empty.

    symlinks is what `scan.walk` makes of links. Those it keeps stand for what they point to; with links
    they stand for themselves, as --preserve-symlinks has it.
    """

    is_bucket = False

    def __init__(
        self,
        path: str,
        *,
        symlinks: str = "follow",
        links: bool = False,
        directories: bool = False,
        one_filesystem: bool = False,
        encoded_names: bool = False,
    ) -> None:
        self.path = path
        self._root = path if path.endswith("/") else path + "/"
        self._symlinks = symlinks
        self._links = links
        self._directories = directories
        self._one_filesystem = one_filesystem
        self._encoded = encoded_names

    def __str__(self) -> str:
        return self.path

    def name(self, relative: str) -> str:
        """Return the path of a file as the user knows it."""
        return self._root + relative

    def content(self, entry: Entry) -> FileContent:
        """Return what to compare the content of an entry with."""
        assert isinstance(entry.item, LocalEntry)
        return FileContent(entry.item.path, entry.item.link_target if self._links else "")

    async def entries(self, selector: Selector, on_problem: OnProblem) -> AsyncIterator[Entry]:
        """Walk the tree; on_problem hears of what is there and cannot be read before its place has passed."""
        if not os.path.isdir(self._root):  # noqa: PTH112, ASYNC240 - Path would drop the slash; once
            return

        def keep(path: str) -> bool:
            return not selector.prunes(path) if path.endswith("/") else selector.takes_name(path)

        def warn(path: str, reason: str) -> None:
            on_problem(Problem(self._relative(path), path, reason))

        def clash(path: str, reason: str) -> None:
            on_problem(Problem(self._relative(path), path, reason, clash=True))

        found = walk(
            self.path,
            on_warning=warn,
            on_clash=clash,
            keep=keep,
            symlinks=self._symlinks,
            directories=self._directories,
            one_filesystem=self._one_filesystem,
            encoded_names=self._encoded,
        )
        async for item in found:
            if item.reads_as_directory and not selector.takes_name(item.relative):
                continue
            yield Entry(item.relative, file_side(item, links=self._links), item)

    def _relative(self, path: str) -> str:
        relative = path[len(self._root) :]
        return "/".join(map(decode_key, relative.split("/"))) if self._encoded else relative


def file_side(item: LocalEntry, *, links: bool = False) -> Side:
    """Return what is known of a file; of a link, what it points to, which has no size if that is no file.

    links: of a link itself.
    """
    if links or not item.link_target:
        return Side(item.size, item.mtime_ns, ctime_ns=item.ctime_ns)
    try:
        found = os.stat(item.path)  # noqa: PTH116 - a Path an entry is too slow
    except OSError:
        return _NO_FILE
    if not stat.S_ISREG(found.st_mode):
        return _NO_FILE
    return Side(found.st_size, found.st_mtime_ns, ctime_ns=found.st_ctime_ns)


class BucketSide:
    """What lies below a prefix of a bucket; the prefix is empty or ends in a slash.

    headers are what requests about its objects need: the key of those that are encrypted with one.
    """

    is_bucket = True

    def __init__(
        self,
        engine: Engine,
        bucket: str,
        prefix: str,
        *,
        page_size: int = 1000,
        headers: Mapping[str, str] = NOTHING,
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._engine = engine
        self._page_size = page_size
        self._headers = headers

    def __str__(self) -> str:
        return f"cos://{self.bucket}/{self.prefix}" if self.prefix else f"cos://{self.bucket}"

    def name(self, relative: str) -> str:
        """Return the address of an object."""
        return f"cos://{self.bucket}/{self.prefix}{relative}"

    def content(self, entry: Entry) -> ObjectContent:
        """Return what to compare the content of an entry with."""
        assert isinstance(entry.item, ObjectInfo)
        return ObjectContent(self.bucket, entry.item, self._headers)

    async def entries(self, selector: Selector, on_problem: OnProblem) -> AsyncIterator[Entry]:
        """List the objects; whole directories that are not wanted are passed over."""
        if isinstance(selector, Scope):
            found = self._scoped(selector)
        elif selector.names is not None and len(selector.names) <= _FEW:
            found = self._scoped(Scope(selector, selector.names))
        else:
            found = self._listed(selector, "")
        async with aclosing(found) as infos:  # type: ignore[type-var]
            async for info in infos:
                relative = info.key[len(self.prefix) :]
                if relative:  # else it is the marker of the root itself
                    yield Entry(relative, object_side(info), info)

    async def _listed(self, selector: Selector, below: str) -> AsyncIterator[ObjectInfo]:
        root = len(self.prefix)
        last = ""
        found = list_objects(self._engine, self.bucket, self.prefix + below, page_size=self._page_size)
        async with found as listing:
            async for info in listing:
                assert isinstance(info, ObjectInfo)
                if info.key <= last:
                    raise TransferError(f"the listing of {self} is not sorted, so it cannot be compared")
                last = info.key
                relative = info.key[root:]
                if selector.takes_name(relative):
                    yield info
                elif pruned := _pruned(selector, relative):
                    listing.skip(self.prefix + pruned)

    async def _scoped(self, scope: Scope) -> AsyncIterator[ObjectInfo]:
        """Ask for the files of a scope by their names, and list its directories."""
        names = [place for place in scope.places if not place.endswith("/")]
        heads = await self._heads([name for name in names if scope.takes_name(name)])
        for place in scope.places:
            if not place.endswith("/"):
                if place in heads:
                    yield heads[place]
                continue
            async with aclosing(self._listed(scope, place)) as listed:  # type: ignore[type-var]
                async for info in listed:
                    yield info

    async def _heads(self, names: Sequence[str]) -> dict[str, ObjectInfo]:
        found: dict[str, ObjectInfo] = {}

        def keep(name: str, info: ObjectInfo | None, error: Exception | None) -> None:
            if info is not None:
                found[name] = info
            elif error is not None and not isinstance(error, ObjectNotFoundError):
                raise error

        def head(name: str) -> ObjectInfo | None:
            return self._engine.client.head_object(self.bucket, self.prefix + name, headers=self._headers)

        await self._engine.run_many(head, names, keep)
        return found


TreeSide = LocalSide | BucketSide


def _pruned(selector: Selector, relative: str) -> str:
    """Return the highest directory above a name that holds nothing wanted; empty if there is none."""
    position = relative.find("/")
    while position >= 0:
        directory = relative[: position + 1]
        if selector.prunes(directory):
            return directory
        position = relative.find("/", position + 1)
    return ""
