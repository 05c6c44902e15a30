"""Directories that were removed here, and stay in COS for a while because of what is left below them.

COS shows a directory as long as it has any key below it: an object that a file of another name still needs,
or one whose removal is not carried out yet. The journal says that such a directory is removed, until nothing
of that is left; a crash would bring it back otherwise.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable

from cosfs.errors import FilesystemError
from cosfs.fs.journal import Journal, Record

log = logging.getLogger(__name__)

Place = tuple[str, str]  # bucket, key; that of a directory ends with "/"


class Emptied:
    """Knows those directories. left() tells all objects that are only left over."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._rows: dict[Place, tuple[int, float]] = {}  # of the journal, and when they were written
        self.left: Callable[[], Iterable[Place]] = lambda: ()

    def __bool__(self) -> bool:
        return bool(self._rows)

    def __contains__(self, place: Place) -> bool:
        return place in self._rows

    def adopt(self, record: Record) -> None:
        """Take over a directory that an earlier mount removed."""
        self._rows[record.bucket, record.key] = record.id, record.written

    def take_over(self, removed: Iterable[tuple[Place, int]]) -> set[int]:
        """Directories are removed, whose rows of the journal are given.

        Returns the rows of those that are still to be remembered.
        """
        rows = dict(removed)
        kept = {place: rows[place] for place in self._with_something_below(rows)}
        self._forget([place for place in rows if place in self._rows])  # removed before as well
        now = time.time()
        self._rows.update({place: (row, now) for place, row in kept.items()})
        try:
            with self._journal.together():
                for place, row in kept.items():
                    self._journal.replace(row, "emptied", *place, {})
        except FilesystemError as exc:
            log.error("the journal could not be written: %s", exc)  # it says that they are to be removed
        return set(kept.values())

    def settle(self) -> list[Place]:
        """Forget the directories that nothing is left of; returns them."""
        if not self._rows:
            return []
        kept = set(self._with_something_below(self._rows))
        gone = [place for place in self._rows if place not in kept]
        self._forget(gone)
        return gone

    def written(self, bucket: str, key: str) -> None:
        """Something is there under a key again: the directories that lead to it are there as well."""
        if self._rows:
            ends = [number + 1 for number, char in enumerate(key) if char == "/"]
            self._forget([place for end in ends if (place := (bucket, key[:end])) in self._rows])

    def inside(self, bucket: str, prefix: str, *, older_than: float) -> list[str]:
        """The keys of those that are directly in a directory, and were removed so many seconds ago."""
        limit = time.time() - older_than
        return [
            key
            for (where, key), (_, since) in self._rows.items()
            if since <= limit
            and where == bucket
            and key.startswith(prefix)
            and "/" not in key[len(prefix) : -1]
        ]

    def _forget(self, places: list[Place]) -> None:
        rows = [self._rows.pop(place)[0] for place in places]
        if rows:
            self._journal.remove(*rows)

    def _with_something_below(self, places: Iterable[Place]) -> list[Place]:
        places = list(places)
        left = sorted(self.left()) if places else []
        found = []
        for bucket, key in places:
            after = bisect_right(left, (bucket, key))
            if after < len(left) and left[after][0] == bucket and left[after][1].startswith(key):
                found.append((bucket, key))
        return found
