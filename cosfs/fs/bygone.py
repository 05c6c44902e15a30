"""Removals that are done, of which the journal on disk still tells: a loss of power brings them back.

So it does with renames that failed. They are then carried out once more, if COS has an object of the same
etag. One that was put there since, with the same bytes, must not be relied on before the journal was forced
to disk.
"""

from __future__ import annotations

from collections.abc import Iterable

from cosfs.fs.doomed import Doomed
from cosfs.fs.journal import Journal

__all__ = ["Bygone", "etags_of"]

Place = tuple[str, str]  # bucket, key
ANY = ""  # in the place of an etag
MOST = 10_000  # places


def etags_of(doomed: Iterable[Doomed]) -> set[str]:
    """The etags of what removals take along when they come back."""
    return {each.etag or ANY for each in doomed if each.etag or not each.marks}


class Bygone:
    """Knows those removals, until the journal was forced to disk."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._places: dict[Place, tuple[int, set[str]]] = {}  # when, and what they took; the oldest first
        self._forgotten = -1  # when there were too many

    def note(self, place: Place, etags: Iterable[str]) -> None:
        """A removal is done, and its record gone."""
        moment = self._journal.moment
        _, known = self._places.pop(place, (0, set[str]()))
        self._places[place] = moment, known.union(etags)
        self._drop_forced()
        if len(self._places) > MOST:
            self._places.clear()
            self._forgotten = moment

    def may_return(self, place: Place, etag: str) -> bool:
        """Whether a loss of power now may take an object along that was put there since."""
        if self._forgotten >= 0 and not self._journal.is_forced(self._forgotten):
            return True
        self._drop_forced()
        _, etags = self._places.get(place, (0, set[str]()))
        return etag in etags or ANY in etags

    def _drop_forced(self) -> None:
        while self._places:
            place, (moment, _) = next(iter(self._places.items()))
            if not self._journal.is_forced(moment):
                return
            del self._places[place]
