"""Going through all objects of a bucket next to the requests: in batches, the lock held for one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from cosfs.emulator.listing import successor
from cosfs.emulator.records import Bucket, Version
from cosfs.emulator.store import COLUMNS, Store

Lock = AbstractContextManager[Any]

_READ = 500  # rows read while the lock is held once
_PAUSE = 0.0005  # seconds between two batches, for the requests that wait


class HaltedError(Exception):
    """The emulator ends; what is under way is given up and done again another time."""


class Scan:
    """Reads a store that goes on changing: each row is shown as it was at one moment."""

    def __init__(self, store: Store, lock: Lock, halted: Callable[[], bool] = lambda: False) -> None:
        self.store = store
        self.lock = lock
        self._halted = halted

    def breathe(self) -> None:
        """Let others have the lock, or end."""
        if self._halted():
            raise HaltedError
        time.sleep(_PAUSE)

    def _read(self, sql: str, *values: object) -> list[Version]:
        self.breathe()
        with self.lock:
            return [Version(*row) for row in self.store.db.execute(sql, values).fetchall()]

    def current(self, bucket: Bucket, prefix: bytes) -> Iterator[Version]:
        """Yield the current objects below a prefix, by key."""
        sql = (
            f"SELECT {COLUMNS} FROM versions INDEXED BY versions_live "
            f"WHERE bucket = ? AND live = 1 AND key >= ? AND key < ? ORDER BY key LIMIT {_READ}"
        )
        lower, upper = prefix, successor(prefix)
        while rows := self._read(sql, bucket.id, lower, upper):
            yield from rows
            lower = rows[-1].key + b"\0"

    def versions(self, bucket: Bucket, prefix: bytes) -> Iterator[tuple[Version, Version | None]]:
        """Yield all versions and delete markers by key, newest first, each with the next newer one."""
        older = (
            f"SELECT {COLUMNS} FROM versions INDEXED BY versions_by_key "
            f"WHERE bucket = ? AND key = ? AND id < ? ORDER BY id DESC LIMIT {_READ}"
        )
        others = (
            f"SELECT {COLUMNS} FROM versions INDEXED BY versions_by_key "
            f"WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key, id DESC LIMIT {_READ}"
        )
        lower, upper = prefix, successor(prefix)
        newer: Version | None = None
        while True:
            rows = self._read(older, bucket.id, newer.key, newer.id) if newer is not None else []
            rows = rows or self._read(others, bucket.id, lower, upper)
            if not rows:
                return
            for row in rows:
                yield row, newer if newer is not None and newer.key == row.key else None
                newer = row
            lower = rows[-1].key + b"\0"

    def uploads(self, bucket: Bucket, prefix: bytes) -> Iterator[tuple[bytes, str, int]]:
        """Yield key, id and beginning of the unfinished uploads below a prefix."""
        sql = (
            "SELECT key, id, initiated FROM uploads WHERE bucket = ? AND (key, id) > (?, ?) AND key < ? "
            f"ORDER BY key, id LIMIT {_READ}"
        )
        last: tuple[bytes, str] = (prefix, "")
        while True:
            self.breathe()
            with self.lock:
                rows = self.store.db.execute(sql, (bucket.id, *last, successor(prefix))).fetchall()
            if not rows:
                return
            yield from rows
            last = rows[-1][:2]
