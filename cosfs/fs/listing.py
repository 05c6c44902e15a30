"""One reading of a directory from COS, page by page, shared by everyone who looks at it.

Object storage makes this harder than it sounds:
- COS sorts by key, so `a-` comes between the object `a` and the prefix `a/`: an entry's place
  in the listing says nothing about another name's place, and only a complete listing proves
  that a name is absent.
- A page may outlive the reply it was fetched for: indexes of entries only grow while a listing is
  read, so an index stays a valid position for readdir.
- A directory may have millions of entries: beyond `KEPT` the oldest pages are dropped, and read again
  from their marker by who goes back to them. Then a name that is not found may still be there.
- `a` and `a/` may both exist. The directory keeps the plain name; the file gets a suffix. The
  directory may turn up in a later page than the file, so the file is renamed in place then, and
  again when the directory goes.
- An empty object `d_$folder$` is a directory `d`, as other tools make them; it is not shown itself.
- Names that no path can hold are shown escaped (`names.py`); the marker `dir/` is not an entry.
- A listing may lag behind our own changes: what was removed here lately is left out, what was
  made here lately is added.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING

import trio

from cosfs.client.model import ListPage, ObjectInfo
from cosfs.fs import names
from cosfs.fs.helpers import is_helper
from cosfs.fs.order import Order

if TYPE_CHECKING:
    from cosfs.fs.remote import Remote

FOLDER = "_$folder$"  # Hadoop's way to have an empty directory `d`: an object `d_$folder$`
SHADOW = names.SHADOW_SUFFIX.encode()
KEPT = 20_000  # entries of one listing in memory; some 550 bytes each
PageHook = Callable[[ListPage], ListPage]


class Entry:
    """One name in a directory. info is None for a directory and for a file not yet in COS."""

    __slots__ = ("component", "index", "info", "is_dir", "name", "removed")

    def __init__(self, name: bytes, component: str, is_dir: bool, info: ObjectInfo | None) -> None:
        self.name = name
        self.component = component
        self.is_dir = is_dir
        self.info = info
        self.index = -1
        self.removed = False


class Listing:
    """The entries of one prefix as COS told them, plus what changed here since.

    hide(entry) says that a listed entry was removed here; page_hook runs in the worker thread
    on each page (it adds remembered attributes); on_page is told of the entries of each.
    """

    def __init__(
        self,
        remote: Remote,
        bucket: str,
        prefix: str,
        *,
        hide: Callable[[Entry], bool],
        page_hook: PageHook,
        on_page: Callable[[Listing, list[Entry]], None] = lambda listing, new: None,
        page_size: int = 1000,
    ) -> None:
        self.entries: dict[bytes, Entry] = {}
        self._order: list[Entry] = []
        self._shadows: set[str] = set()  # components of files that are shown beside a directory
        self._dropped = 0  # entries before those in _order
        # Of each page: the index of its first entry, its marker, and when it was asked for.
        self._starts: list[tuple[int, str, float]] = []
        self.expected = 0  # entries that it had when it was read before; 0 if that was never to the end
        self.marker: ObjectInfo | None = None
        self.folders: dict[bytes, ObjectInfo] = {}  # directories by objects in Hadoop's way
        self.complete = False
        self.made_here = False  # a directory made just now: nothing was read from COS
        self.started = trio.current_time()
        self.attributes = Order()  # in which attributes are asked for
        self.contents = Order()  # in which files are read
        self._remote = remote
        self.bucket = bucket
        self._prefix = prefix
        self._hide = hide
        self._page_hook = page_hook
        self._on_page = on_page
        self._page_size = page_size
        self._next = ""
        self._pages = 0
        self._lock = trio.Lock()

    @classmethod
    def empty(cls, remote: Remote, bucket: str, prefix: str) -> Listing:
        """The listing of a directory that was made just now: nothing in it, known for sure."""
        listing = cls(remote, bucket, prefix, hide=lambda _: False, page_hook=lambda page: page)
        listing.complete = True
        return listing

    @property
    def started_reading(self) -> bool:
        return self._pages > 0 or self.complete

    async def load_first(self) -> None:
        """Make sure that the first page is here."""
        if not self.started_reading:
            await self._load_page(0)

    def fill(self, page: ListPage, started: float) -> None:
        """Take all of the directory as it was told when COS was asked at started."""
        self.started = started
        self._take(page)
        self._pages, self.complete = 1, True
        self._starts.append((0, "", started))
        self._on_page(self, list(self._order))

    async def search(self, name: bytes) -> Entry | None:
        """Load pages until a name is found."""
        while (entry := self.entries.get(name)) is None and not self.complete:
            await self._load_page(self._pages)
        return entry or self.find(name)

    async def load_until(self, index: int) -> bool:
        """Make sure that at(index) is here; False when the directory has fewer entries."""
        while self.count <= index and not self.complete:
            await self._load_page(self._pages)
        return index < self.count

    @property
    def count(self) -> int:
        """How many entries were read, those that were dropped or removed since included."""
        return self._dropped + len(self._order)

    @property
    def first(self) -> int:
        """The index of the first entry that is still here."""
        return self._dropped

    @property
    def whole(self) -> bool:
        """Whether all of the directory is here, so that a name that is not found does not exist."""
        return self.complete and not self._dropped

    def at(self, index: int) -> Entry:
        return self._order[index - self._dropped]

    def asked(self, entry: Entry) -> float:
        """When COS was asked for an entry (trio clock): the pages of a large directory differ."""
        page = bisect_right(self._starts, entry.index, key=itemgetter(0)) - 1
        return self._starts[page][2] if page >= 0 else self.started

    def between(self, start: int, stop: int) -> list[Entry]:
        """The entries from one index to another, as far as they are here."""
        return self._order[max(0, start - self._dropped) : max(0, stop - self._dropped)]

    def from_page_of(self, index: int) -> Listing:
        """A listing of one reader's own that begins with the page in which an index was dropped."""
        page = bisect_right(self._starts, index, key=itemgetter(0)) - 1
        start, marker, _ = self._starts[max(0, page)]
        again = Listing(
            self._remote, self.bucket, self._prefix, hide=self._hide, page_hook=self._page_hook,
            page_size=self._page_size,
        )  # fmt: skip
        again.started = self.started
        again._dropped, again._next, again._starts = start, marker, self._starts[:page]
        return again

    def _drop(self) -> None:
        """Drop the oldest pages beyond what is kept."""
        pages = bisect_right(self._starts, self.count - KEPT, key=itemgetter(0)) - 1
        if pages < 0 or (stop := self._starts[pages][0] - self._dropped) <= 0:
            return
        for entry in self._order[:stop]:
            if self.entries.get(entry.name) is entry:
                del self.entries[entry.name]
        del self._order[:stop]
        self._dropped += stop

    async def _load_page(self, page_no: int) -> None:
        async with self._lock:
            if self.complete or self._pages > page_no:
                return  # somebody else loaded it while we waited
            asked = trio.current_time() if self._pages else self.started
            page = await self._remote.metadata(self._fetch, self._next)
            before = len(self._order)
            self._starts.append((self.count, self._next, asked))
            self._take(page)
            self._next = page.next_marker
            self._pages += 1
            self.complete = not page.next_marker
            self._on_page(self, self._order[before:])
            self._drop()

    def _fetch(self, marker: str) -> ListPage:
        page = self._remote.client.list_objects(
            self.bucket, prefix=self._prefix, delimiter="/", marker=marker, max_keys=self._page_size
        )
        return self._page_hook(page)

    def _take(self, page: ListPage) -> None:
        skip = len(self._prefix)
        for prefix in page.prefixes:
            component = prefix[skip:-1]
            self._add_dir(component)
        for info in page.objects:
            component = info.key[skip:]
            if not info.size and component.endswith(FOLDER) and component != FOLDER:
                directory = component.removesuffix(FOLDER)
                self.folders[names.to_name(directory)] = info
                self._add_dir(directory)
            elif component:
                if not is_helper(info):
                    self._add_file(component, info)
            else:
                self.marker = info
                if info.size:
                    self._add(Entry(names.CONTENT_NAME.encode(), "", False, info))

    def _add_dir(self, component: str) -> None:
        new = Entry(names.to_name(component), component, True, None)
        entry = self.entries.get(new.name)
        if self._hide(new) or (entry is not None and (entry.is_dir or entry.info is None)):
            return  # a file that is made here just now keeps its name until it is sent
        if entry is not None:
            self._shadow(entry)
        self.add(new)

    def _add_file(self, component: str, info: ObjectInfo) -> None:
        name = names.to_name(component)
        beside = self.entries.get(name)
        if (beside is not None and beside.is_dir) or component in self._shadows:
            name = names.shadow_name(component)
        known = self.entries.get(name)
        if known is not None:
            # Made here lately: our own state is newer, unless somebody has written it since.
            if known.info is not None and info.last_modified > known.info.last_modified:
                known.info = info
            return
        self._add(Entry(name, component, False, info))

    def _shadow(self, entry: Entry) -> None:
        """A directory of the same name turned up: the file moves to its suffixed name."""
        self.rename(entry.name, names.shadow_name(entry.component))

    def _add(self, entry: Entry) -> None:
        if not self._hide(entry):
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Add an entry that is there for sure."""
        entry.index = self.count
        self.entries[entry.name] = entry
        self._order.append(entry)
        if entry.name.endswith(SHADOW):
            self._shadows.add(entry.component)

    def rename(self, old: bytes, new: bytes) -> None:
        """A file is shown under another name, as there is, or no longer is, a directory of its name."""
        entry = self.entries.pop(old, None)
        if entry is None:
            return
        if new in self.entries:
            entry.removed = True  # it was listed anew
            return
        entry.name = new
        self.entries[new] = entry

    def remove(self, name: bytes) -> None:
        entry = self.entries.pop(name, None)
        if entry is not None:
            entry.removed = True

    def get(self, name: bytes) -> Entry | None:
        return self.entries.get(name)

    def find(self, name: bytes) -> Entry | None:
        """As get(); a file that was shown beside a directory of its name is also found when that has gone.

        Programs read all names of a directory before they remove or move the first.
        """
        entry = self.entries.get(name)
        if entry is not None or not name.endswith(SHADOW):
            return entry
        if not names.is_shortened(name):
            component = names.from_shadow(name)
            plain = self.entries.get(names.to_name(component)) if component is not None else None
            return plain if plain is not None and not plain.is_dir else None
        files = (each for each in self.entries.values() if not each.is_dir)
        return next((each for each in files if names.shadow_name(each.component) == name), None)

    def __len__(self) -> int:
        return self._dropped + len(self.entries)

    @property
    def live(self) -> bool:
        """Whether anything is in the directory as far as it was read."""
        return bool(self.entries or self._dropped)
