"""What must survive this process: files not yet sent, and changes of the tree half done.

One SQLite database in the cache directory, next to the staging files that it names. WAL with
synchronous=NORMAL: a killed process loses nothing, and a row is cheap. `sync()` adds the
guarantee against power loss where a caller was told that data are safe.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
create table if not exists record (
  id integer primary key autoincrement,
  kind text not null,
  bucket text not null,
  key text not null,
  body text not null,
  written real not null
);
"""


@dataclass(frozen=True, slots=True)
class Record:
    """kind "file": a file to send; "delete": an object to remove; "rename": a directory to move;
    "upload": a multipart upload to give up.
    """

    id: int
    kind: str
    bucket: str
    key: str
    body: dict[str, Any]
    written: float


class Journal:
    """Records in the order they were written. Thread-safe; each call takes some 30 us."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.staging = directory / "staging"
        self.staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(directory / "journal.db", isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.executescript(_SCHEMA)

    def add(self, kind: str, bucket: str, key: str, body: dict[str, Any]) -> int:
        """Write a record; return its number."""
        with self._lock:
            cursor = self._db.execute(
                "insert into record (kind, bucket, key, body, written) values (?, ?, ?, ?, ?)",
                (kind, bucket, key, json.dumps(body), time.time()),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def add_many(self, kind: str, bucket: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> list[int]:
        """Write a record for each (key, body) in one transaction; return their numbers."""
        now = time.time()
        numbers = []
        with self._lock:
            self._db.execute("begin")
            try:
                for key, body in rows:
                    cursor = self._db.execute(
                        "insert into record (kind, bucket, key, body, written) values (?, ?, ?, ?, ?)",
                        (kind, bucket, key, json.dumps(body), now),
                    )
                    assert cursor.lastrowid is not None
                    numbers.append(cursor.lastrowid)
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")
        return numbers

    def replace(self, record_id: int, bucket: str, key: str, body: dict[str, Any]) -> None:
        with self._lock:
            self._db.execute(
                "update record set bucket = ?, key = ?, body = ?, written = ? where id = ?",
                (bucket, key, json.dumps(body), time.time(), record_id),
            )

    def remove(self, *record_ids: int) -> None:
        """What the records stood for is done."""
        with self._lock:
            self._db.execute("begin")
            try:
                self._db.executemany("delete from record where id = ?", [(i,) for i in record_ids])
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    def records(self) -> list[Record]:
        with self._lock:
            rows = self._db.execute(
                "select id, kind, bucket, key, body, written from record order by id"
            ).fetchall()
        return [Record(i, kind, bucket, key, json.loads(body), at) for i, kind, bucket, key, body, at in rows]

    def sync(self) -> None:
        """Make all records so far safe from power loss. Takes milliseconds; nobody waits for its lock."""
        try:
            fd = os.open(self.directory / "journal.db-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # everything is in the database itself, and was forced to disk with it
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def sweep(self) -> list[Path]:
        """Remove staging files that no record names; returns what was removed."""
        named = {record.body.get("content", {}).get("path", "") for record in self.records()}
        gone = [path for path in self.staging.iterdir() if str(path) not in named]
        for path in gone:
            path.unlink(missing_ok=True)
        return gone

    def close(self) -> None:
        with self._lock:
            self._db.close()
