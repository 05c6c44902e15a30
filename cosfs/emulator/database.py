"""The SQLite database of a data directory: schema, transactions, and checkpoints away from the requests.

Durability: a commit is in the write-ahead log by write(2) before a request is answered, so `kill -9` of the
emulator loses nothing that was acknowledged. synchronous=NORMAL leaves out the fsync per commit: after a
power failure the database is whole, but may be some moments old. For an emulator that is the better bargain.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_CHECKPOINT_EVERY = 1.0  # seconds

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, region TEXT NOT NULL, created INTEGER NOT NULL,
    versioning TEXT NOT NULL DEFAULT '', acl TEXT NOT NULL DEFAULT '', maz INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS settings (
    bucket INTEGER NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (bucket, name, id)) WITHOUT ROWID;
-- id grows with time: of the versions of a key the highest is the newest. live: newest and no delete marker.
CREATE TABLE IF NOT EXISTS versions (
    id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, version TEXT NOT NULL,
    live INTEGER NOT NULL, marker INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    crc64 TEXT NOT NULL, modified INTEGER NOT NULL, storage_class TEXT NOT NULL, headers TEXT NOT NULL,
    tags TEXT NOT NULL,
    acl TEXT NOT NULL, appendable INTEGER NOT NULL, restored INTEGER NOT NULL, expiry INTEGER NOT NULL,
    replication TEXT NOT NULL DEFAULT '', accessed INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS versions_by_key ON versions (bucket, key, id DESC);
CREATE INDEX IF NOT EXISTS versions_live ON versions (bucket, key) WHERE live = 1;
-- An object is the sequence of its pieces, so that Complete and Copy move rows, not bytes. owner is the id of
-- a version, or minus the id of a part. A piece is data, or a window of a file; files are shared by pieces.
CREATE TABLE IF NOT EXISTS pieces (
    owner INTEGER NOT NULL, position INTEGER NOT NULL, length INTEGER NOT NULL, file TEXT,
    start INTEGER NOT NULL, data BLOB, PRIMARY KEY (owner, position)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pieces_by_file ON pieces (file) WHERE file IS NOT NULL;
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, initiated INTEGER NOT NULL,
    storage_class TEXT NOT NULL, headers TEXT NOT NULL, tags TEXT NOT NULL, acl TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS uploads_by_key ON uploads (bucket, key, id);
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, upload TEXT NOT NULL, number INTEGER NOT NULL,
    size INTEGER NOT NULL, etag TEXT NOT NULL, crc64 TEXT NOT NULL, modified INTEGER NOT NULL,
    UNIQUE (upload, number));
-- Versions that wait to be copied to another bucket, in the order in which they were written.
CREATE TABLE IF NOT EXISTS replications (
    id INTEGER PRIMARY KEY AUTOINCREMENT, bucket INTEGER NOT NULL, version INTEGER NOT NULL);
-- When something that happens by the clock last happened to a bucket.
CREATE TABLE IF NOT EXISTS job_runs (
    bucket INTEGER NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (bucket, name, id)) WITHOUT ROWID;
-- version is the id of a version that must not be erased until a time.
CREATE TABLE IF NOT EXISTS locks (version INTEGER PRIMARY KEY, until INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS credentials (
    secret_id TEXT PRIMARY KEY, secret_key TEXT NOT NULL, token TEXT NOT NULL,
    expires REAL NOT NULL) WITHOUT ROWID;
-- Policies and the like are JSON. The default account and its role are not in here.
CREATE TABLE IF NOT EXISTS accounts (
    uin TEXT PRIMARY KEY, appid TEXT UNIQUE NOT NULL, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (
    uin TEXT PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, policies TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roles (
    id TEXT PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, policies TEXT NOT NULL,
    trust TEXT NOT NULL, max_seconds INTEGER NOT NULL, UNIQUE (account, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS providers (
    account TEXT NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL, algorithms TEXT NOT NULL,
    audience TEXT NOT NULL, PRIMARY KEY (account, id)) WITHOUT ROWID;
"""
# Columns that a data directory of an earlier version lacks.
_ADDED = {
    "versions": {"replication": "TEXT NOT NULL DEFAULT ''", "accessed": "INTEGER NOT NULL DEFAULT 0"},
    "credentials": {"user": "TEXT NOT NULL DEFAULT ''", "session": "TEXT NOT NULL DEFAULT ''"},
}


class Database:
    """One connection for all requests, used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = self._connect()
        self._connection.executescript(_SCHEMA)
        self._add_columns()
        self.execute = self._connection.execute
        self.executemany = self._connection.executemany
        self._stop = threading.Event()
        self._checkpointer = threading.Thread(target=self._checkpoint, name="cos-emulator-wal", daemon=True)
        self._checkpointer.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-65536", "mmap_size=1073741824"):
            connection.execute(f"PRAGMA {pragma}")
        # The other thread does it: a checkpoint syncs the disk, which would hold up some request.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        return connection

    def _add_columns(self) -> None:
        for table, columns in _ADDED.items():
            there = {row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")}
            for name, kind in columns.items():
                if name not in there:
                    self._connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")

    def _checkpoint(self) -> None:
        """Fold the log into the database now and then; where that fails, as on a full disk, later."""
        connection = self._connect()
        failed = ""
        while not self._stop.wait(_CHECKPOINT_EVERY):
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                failed = ""
            except sqlite3.OperationalError as error:
                if str(error) != failed:
                    failed = str(error)
                    log.warning("emulator: the log of %s is kept and grows: %s", self._path, failed)
        connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what happens inside visible at once, or not at all."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full disk, for one, has ended it already
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def one(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        """Return the first row, if any."""
        row: tuple[Any, ...] | None = self.execute(sql, values).fetchone()
        return row

    def close(self) -> None:
        """Close the database; the log is folded into it."""
        self._stop.set()
        self._checkpointer.join()
        self._connection.close()
