"""What both sides of a sync looked like when they were last known to be equal, in a file of SQLite.

A name is known to be unchanged only if its file (size, mtime, ctime, inode) and its object (size,
ETag, Last-Modified) are both what was recorded. So nothing is read and no request made for it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from cosfs.client.model import ObjectInfo
from cosfs.errors import UsageError
from cosfs.transfer.scan import LocalEntry
from cosfs.transfer.sides import Entry

__all__ = ["Snapshot", "state_of"]

_FORMAT = "1"
# Ends the state of an object whose Last-Modified no listing has shown yet.
_UNKNOWN = "?"
_BATCH = 1000


def state_of(item: LocalEntry | ObjectInfo, *, listed: bool = True) -> str:
    """Return what tells one state of a file or object from another; listed: its time is from a listing."""
    if isinstance(item, LocalEntry):
        return f"{item.size} {item.mtime_ns} {item.ctime_ns} {item.inode}"
    return f"{item.size} {item.etag} {item.last_modified if listed else _UNKNOWN}"


class Snapshot:
    """The record of one pair of places; used from one thread. A file made for another pair is refused."""

    def __init__(self, path: Path | str, pair: tuple[str, str], *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._changes = 0
        self._read_only = read_only
        try:
            self._database = self._open()
            self._check(pair)
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"{self.path} cannot be used as a snapshot: {error}",
                hint="Name a new file, or one that an earlier sync of these places has made.",
            ) from None

    def _open(self) -> sqlite3.Connection:
        if self._read_only and not self.path.exists():
            return self._prepared(sqlite3.connect(":memory:"))
        return self._prepared(sqlite3.connect(self.path))

    def _prepared(self, database: sqlite3.Connection) -> sqlite3.Connection:
        if not self._read_only:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
        if not self._read_only or not self.path.exists():
            with database:
                database.execute("CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT)")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS seen (name TEXT PRIMARY KEY, source TEXT, destination TEXT)"
                    " WITHOUT ROWID"
                )
        return database

    def _check(self, pair: tuple[str, str]) -> None:
        about = dict(self._database.execute("SELECT name, value FROM about"))
        wanted = {"format": _FORMAT, "source": pair[0], "destination": pair[1]}
        if not about:
            if not self._read_only:
                with self._database:
                    self._database.executemany("INSERT INTO about VALUES (?, ?)", wanted.items())
            return
        if about != wanted:
            raise UsageError(
                f"{self.path} is the snapshot of another sync: {about.get('source')} to "
                f"{about.get('destination')}",
                hint="Use one file for each pair of places.",
            )

    def matches(self, source: Entry, destination: Entry) -> bool | None:
        """Whether both are as recorded; None if there is no record of this name."""
        row = self._database.execute(
            "SELECT source, destination FROM seen WHERE name = ?", (source.relative,)
        ).fetchone()
        if row is None:
            return None
        return _equal(row[0], state_of(source.item)) and _equal(row[1], state_of(destination.item))

    def record(self, source: Entry, destination: Entry, *, listed: tuple[bool, bool] = (True, True)) -> None:
        """Remember two that are equal; listed says of each whether its time is from a listing."""
        if self._read_only:
            return
        states = state_of(source.item, listed=listed[0]), state_of(destination.item, listed=listed[1])
        self._database.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (source.relative, *states))
        self._changed()

    def forget(self, relative: str) -> None:
        """Forget a name that is gone."""
        if not self._read_only:
            self._database.execute("DELETE FROM seen WHERE name = ?", (relative,))
            self._changed()

    def _changed(self) -> None:
        self._changes += 1
        if self._changes % _BATCH == 0:
            self._database.commit()

    def __len__(self) -> int:
        with closing(self._database.execute("SELECT count(*) FROM seen")) as found:
            return int(found.fetchone()[0])

    def close(self) -> None:
        """Write what was recorded."""
        self._database.commit()
        self._database.close()


def _equal(recorded: str, now: str) -> bool:
    if recorded.endswith(_UNKNOWN):
        return now.startswith(recorded.removesuffix(_UNKNOWN))
    return recorded == now
